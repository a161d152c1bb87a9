"""Where a request comes from: the browser's protocol, other sites, navigations, and where one may be sent back to."""

from __future__ import annotations

import re

from proxyd.core.forward import Peer
from proxyd.core.head import RequestHead
from proxyd.core.target import resolve_dots

SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})

_FORWARDED_PROTO = re.compile(rb"(?:^|;)\s*proto=\"?([a-z]+)", re.IGNORECASE)
_URL = re.compile(rb"(https?|wss?)://([^/?#]*)", re.IGNORECASE)
_DEFAULT_PORTS = {b"http": b":80", b"ws": b":80", b"https": b":443", b"wss": b":443"}
_OWN_SITES = frozenset({b"same-origin", b"none"})
# A browser reads a backslash as a slash, and drops tabs and line ends: what is left has only one reading.
_LOCAL = re.compile(rb"/(?![/\\])[!-~]*")
_OTHER_HOST = re.compile(rb"/(?:/|%2f|%5c)", re.IGNORECASE)


def is_secure(head: RequestHead, peer: Peer) -> bool:
    """Whether the browser speaks https, as far as anybody tells; good for the Secure of a cookie and nothing else.

    The first word of `Forwarded`, `X-Scheme` or `X-Forwarded-Proto` counts, from whomever it comes: who lies about it
    hurts nobody but themselves.
    """
    forwarded = _FORWARDED_PROTO.search((head.get(b"forwarded") or b"").partition(b",")[0])
    scheme = forwarded[1] if forwarded else head.get(b"x-scheme")
    if not scheme and head.forwarded is not None:
        scheme = head.forwarded.get(b"x-forwarded-proto")
    if not scheme:
        return peer.secure
    return scheme.partition(b",")[0].strip().lower() in (b"https", b"wss")


def is_foreign(head: RequestHead, peer: Peer, public_host: bytes = b"") -> bool:
    """Whether a browser sends this request, or opens this WebSocket, for a page of another origin.

    Sec-Fetch-Site decides, and without it, or for a WebSocket as well, Origin or else Referer. Without any of them it
    is no browser that could be talked into it. `public_host` is ours, too, if it is not empty.
    """
    sites = head.get_all(b"sec-fetch-site")
    if any(site not in _OWN_SITES for site in sites):
        return True
    origins = head.get_all(b"origin")
    if not origins:
        if sites or head.upgrade or not head.referer:
            return False
        origins = [head.referer]
    elif sites and not head.upgrade:
        return False
    hosts = {head.host, public_host or None}
    if peer.trusted and head.forwarded is not None:
        hosts.add(head.forwarded.get(b"x-forwarded-host"))
    return not all(_is_of_host(origin, hosts) for origin in origins)


def _is_of_host(url: bytes, hosts: set[bytes | None]) -> bool:
    match = _URL.match(url)
    if match is None:  # `null` among others
        return False
    port = _DEFAULT_PORTS[match[1].lower()]
    own = match[2].lower().removesuffix(port)
    return any(host is not None and host.lower().removesuffix(port) == own for host in hosts)


def is_navigation(head: RequestHead, *words: bytes) -> bool:
    """Whether a person waits for a page, whom a redirect brings somewhere; programs have to be told in the status.

    Besides `html`, one of `words` in Accept will do.
    """
    if head.method not in (b"GET", b"HEAD") or head.upgrade:
        return False
    mode = head.get(b"sec-fetch-mode")
    if mode is not None and mode != b"navigate":
        return False
    accept = b",".join(head.get_all(b"accept")).lower()
    return any(word in accept for word in (b"html", *words))


def local_path(target: bytes, scope: bytes) -> bytes:
    """`target` if it is a path on this origin at or below `scope`, else `scope`.

    It is what a browser may be sent to with whatever it was asked for.
    """
    path, question, query = target.partition(b"?")
    if not _LOCAL.fullmatch(target) or b"\\" in path:
        return scope
    path = resolve_dots(path)  # as the browser does
    inside = path == scope or path.startswith(scope.rstrip(b"/") + b"/")
    return path + question + query if inside and not _OTHER_HOST.match(path) else scope
