"""What an upstream gets of a request, and a client of a response: heads rewritten (RFC 9110 §7.6).

A `ForwardPlan` is made once per route, when its first request comes; it holds all that can be known beforehand.
"""

from __future__ import annotations

import re

from proxyd.core.head import CHUNKED, CRLF, RequestHead, ResponseHead, block_of, folded, lines_of, without_names
from proxyd.core.target import strip_segments
from proxyd.model.routes import HeaderChanges, Route, RouteOptions
from proxyd.model.upstream import Upstream

# RFC 9110 §8.6: a request whose method anticipates a body announces that there is none.
_ANTICIPATE_BODY = frozenset({b"POST", b"PUT", b"PATCH"})
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
_LOCATION = frozenset({b"location"})
_PORT_OF_HOST = re.compile(rb":([0-9]+)\Z")
# Scheme, user information, and host with port of an absolute http URL.
ABSOLUTE_URL = re.compile(
    rb"(https?)://([^/?#@\\]*@)?(([^/?#@\\:\[\]]+|\[[0-9a-f:.]+\])(?::([0-9]{0,5}))?)(?=[/?#]|\Z)", re.IGNORECASE
)

_FOR, _HOST, _PORT, _PROTO = b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto"
_NAMES = {
    _FOR: b"X-Forwarded-For",
    _HOST: b"X-Forwarded-Host",
    _PORT: b"X-Forwarded-Port",
    _PROTO: b"X-Forwarded-Proto",
}


class Peer:
    """The client's end of a connection: its `address` (empty for a unix socket), and whether it is trusted."""

    __slots__ = ("_block", "_memo", "address", "secure", "trusted")

    def __init__(self, address: bytes, *, secure: bool, trusted: bool) -> None:
        self.address = address
        self.secure = secure
        self.trusted = trusted
        self._memo: object = None
        self._block = b""

    def forwarded_block(self, head: RequestHead, mode: str, replaced: frozenset[bytes]) -> bytes:
        """The X-Forwarded-* lines for a request from here, each with its CRLF; names in `replaced` are left out.

        `mode` is that of the route. The lines for the last Host are kept: most requests on a connection
        have the same.
        """
        if head.forwarded is not None or head.upgrade:
            return block_of(x_forwarded(head, self, mode, replaced))
        memo = (head.host, mode, replaced)
        if memo != self._memo:
            self._block = block_of(x_forwarded(head, self, mode, replaced))
            self._memo = memo
        return self._block


def x_forwarded(head: RequestHead, peer: Peer, mode: str, replaced: frozenset[bytes]) -> list[bytes]:
    """Compute the X-Forwarded-* lines.

    `append`: each value is appended to what came, except that Host stays if it came (contract of
    configurable-http-proxy). `replace`: what came is forgotten. `auto` is `replace`, but for a trusted proxy
    the client's address is appended and the other values stay if they came: they describe the connection of
    the client itself. `off`: what came passes.
    """
    came = head.forwarded or {}
    if mode == "off":
        return [b"%b: %b" % (_NAMES[name], value) for name, value in came.items() if name not in replaced]
    host = head.host or b""
    port = _PORT_OF_HOST.search(host)
    scheme = (b"wss" if peer.secure else b"ws") if head.upgrade else (b"https" if peer.secure else b"http")
    values = {
        _FOR: peer.address,
        _PORT: port[1] if port else b"443" if peer.secure else b"80",
        _PROTO: scheme,
        _HOST: host,
    }
    appending = mode == "append" or (mode == "auto" and peer.trusted)
    lines = []
    for name, value in values.items():
        if name in replaced:
            continue
        before = came.get(name) if appending else None
        if before:
            keeps = name == _HOST or (mode == "auto" and name != _FOR)
            value = before if keeps or not value else before + b"," + value  # noqa: PLW2901  # the value that is sent
        if value:
            lines.append(b"%b: %b" % (_NAMES[name], value))
    return lines


class ForwardPlan:
    """How the messages of one route are rewritten.

    `options` are complete: those of the route laid over the defaults.
    """

    # Those of configurable-http-proxy: there is no 303.
    _redirects = frozenset({201, 301, 302, 307, 308})

    def __init__(self, route: Route, options: RouteOptions) -> None:
        upstream = route.upstream
        self.upstream = upstream
        self._depth = len(route.segments)
        self._strip = self._depth if options.strip_prefix else 0
        self._path = upstream.path.rstrip(b"/") if options.prepend_path else b""
        self._query = upstream.query if options.prepend_path else b""
        self._is_plain = not (self._strip or self._path or self._query)
        self._mode = options.x_forwarded or "auto"

        changes = _FieldChanges(options.request_headers)
        self._request_changes = changes if changes.names else None
        self._replaced = changes.names
        self._host = changes.values.get(b"host")
        if options.change_origin:
            self._host = upstream.authority
        changes = _FieldChanges(options.response_headers)
        self._response_changes = changes if changes.names else None
        self._adds_date = b"date" not in changes.names
        rewrite = options.rewrite_location
        self._rewrite_host = bool(rewrite and rewrite.host)
        self._rewrite_scheme = (rewrite.scheme or "").encode() if rewrite else b""
        self._rewrites_location = self._rewrite_host or bool(self._rewrite_scheme)

    def target(self, path: bytes, query: bytes) -> bytes:
        """The request target that the upstream sees, for a dot-resolved path and a query with its `?`."""
        if self._is_plain:
            return path + query
        if self._strip:
            stripped = strip_segments(path, self._strip)
            # Whoever asks for the prefix itself gets the upstream's path itself, without a slash behind it.
            path = b"" if stripped == b"/" and self._path and path[-1:] != b"/" else stripped
        if self._query:
            query = b"?" + self._query + (b"&" + query[1:] if len(query) > 1 else b"")
        return self._path + path + query

    def path_below(self, path: bytes) -> bytes:
        """The dot-resolved `path` without the prefix of the route, whatever the upstream gets to see."""
        return strip_segments(path, self._depth) if self._depth else path

    def request_head(self, head: RequestHead, path: bytes, query: bytes, peer: Peer) -> bytes:
        """The head of the upstream's request, final empty line included."""
        host = self._host
        if host is None:
            host = self.upstream.authority if head.host is None else head.host
        changes = self._request_changes
        framing = b""
        if head.has_length:
            framing = b"Content-Length: %d\r\n" % head.body
        elif head.body == CHUNKED:
            framing = b"Transfer-Encoding: chunked\r\n"
        elif head.method in _ANTICIPATE_BODY:
            framing = b"Content-Length: 0\r\n"
        if head.upgrade:
            framing += _UPGRADE
        return b"".join((
            head.method,
            b" ",
            path + query if self._is_plain else self.target(path, query),
            b" HTTP/1.1\r\nHost: ",
            host,
            CRLF,
            head.block if changes is None else changes.apply(head.block),
            peer.forwarded_block(head, self._mode, self._replaced),
            framing,
            CRLF,
        ))  # fmt: skip

    def response_head(
        self, head: ResponseHead, request: RequestHead, length: int, date: bytes, keep_alive: bool
    ) -> bytes:
        """The head of the client's response, final empty line included.

        `length` is that of the body as the client gets it: a number (of HEAD and 304: what the upstream said
        of it), `CHUNKED` or `UNTIL_CLOSE`.
        """
        block = head.block
        if head.location is not None and self._rewrites_location and head.status in self._redirects:
            location = self._location(head.location, request)
            block = block_of([*without_names(head.fields, _LOCATION), b"Location: " + location])
        if self._response_changes is not None:
            block = self._response_changes.apply(block)
        own = b""
        if length >= 0:
            if head.status != 204:
                own = b"Content-Length: %d\r\n" % length
        elif length == CHUNKED:
            own = b"Transfer-Encoding: chunked\r\n"
        if not head.has_date and self._adds_date:
            own += b"Date: " + date + CRLF
        if not keep_alive:
            own += b"Connection: close\r\n"
        elif request.version == 0:
            own += b"Connection: keep-alive\r\n"
        return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (head.status, head.reason, block, own)

    def switching_head(self, head: ResponseHead) -> bytes:
        """The head of a 101 (RFC 6455 §4.2.2), with all that the upstream said."""
        changes = self._response_changes
        block = head.block if changes is None else changes.apply(head.block)
        return b"HTTP/1.1 101 %b\r\n%b%b\r\n" % (head.reason or b"Switching Protocols", block, _UPGRADE)

    def _location(self, location: bytes, request: RequestHead) -> bytes:
        """What becomes of the Location of a redirect."""
        host = (request.host or b"") if self._rewrite_host else b""
        return rewrite_location(location, self.upstream, host, self._rewrite_scheme)


class _FieldChanges:
    """Fields that replace or remove those that came."""

    def __init__(self, changes: HeaderChanges | None) -> None:
        settings = (changes.set if changes else None) or {}
        removals = (changes.remove if changes else None) or ()
        # Of two names that differ in their case only, the last one counts.
        pairs = {name.lower().encode(): (name.encode(), value.encode("latin-1")) for name, value in settings.items()}
        self.values = {name: value for name, (_, value) in pairs.items()}
        self.names = frozenset(pairs) | {name.lower().encode() for name in removals}
        self._folded = frozenset(map(folded, self.names))
        self._block = block_of(b"%b: %b" % pair for name, pair in pairs.items() if name != b"host")

    def apply(self, block: bytes) -> bytes:
        """The lines of `block` with these changes.

        Applications that fold `_` and `-` must not read what a client has spelled otherwise.
        """
        kept = [line for line in lines_of(block) if folded(line.partition(b":")[0]) not in self._folded]
        return block_of(kept) + self._block


def rewrite_location(location: bytes, upstream: Upstream, host: bytes, scheme: bytes) -> bytes:
    """Rewrite an absolute Location that leads to `upstream`: host and port := `host`, scheme := `scheme`.

    Empty replacements leave their part. Everything else comes back untouched.
    """
    match = ABSOLUTE_URL.match(location)
    if match is None or place_of_url(match) != (upstream.host, upstream.port):
        return location
    own_scheme, user, authority = match.groups(b"")[:3]
    return (scheme or own_scheme) + b"://" + user + (host or authority) + location[match.end() :]


def place_of_url(match: re.Match[bytes]) -> tuple[str, int]:
    """The host (an IPv6 address without its brackets) and the port of an absolute URL that `ABSOLUTE_URL` matches."""
    scheme, _, _, host, port = match.groups(b"")
    default = 443 if scheme.lower() == b"https" else 80
    return host.strip(b"[]").lower().decode("latin-1"), int(port) if port else default
