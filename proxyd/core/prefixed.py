"""What is reached below a prefix of its own: ports and managed servers (contract of jupyter-server-proxy).

Such an application sees the Host of the client, learns its prefix from three fields, and its redirects to absolute
paths come back below the prefix. An absolute one sees the path as the client sent it, and is told nothing.
"""

from __future__ import annotations

import attrs

from proxyd.core.forward import ABSOLUTE_URL, ForwardPlan, place_of_url
from proxyd.core.head import RequestHead
from proxyd.model.routes import HeaderChanges, Route, RouteOptions
from proxyd.model.upstream import Upstream

_CONTEXT_FIELDS = ("X-Forwarded-Context", "X-ProxyContextPath", "X-Forwarded-Prefix")
_OF_THE_HOP = ("Proxy-Authorization", "Proxy-Authenticate")
_OF_THE_HOP_BACK = ("Proxy-Authenticate", "Proxy-Authentication-Info")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names that applications have for this machine."""


class PrefixedPlan(ForwardPlan):
    """How the messages of an application are rewritten that is below `context`, a raw path without a final slash.

    `depth` is the number of decoded segments of `context` as clients write it. `options` are complete; what they say
    of prefixes, of Host and of Location does not count, and they cannot change the three fields.
    """

    _redirects = frozenset({301, 302, 303, 307, 308})

    def __init__(
        self,
        upstream: Upstream,
        options: RouteOptions,
        context: str,
        depth: int,
        *,
        is_absolute: bool = False,
        rewrites_location: bool = True,
    ) -> None:
        changes = options.request_headers or HeaderChanges()
        answered = options.response_headers or HeaderChanges()
        told = {} if is_absolute else dict.fromkeys(_CONTEXT_FIELDS, context)
        options = attrs.evolve(
            options,
            strip_prefix=not is_absolute,
            prepend_path=False,
            change_origin=False,
            rewrite_location=None,
            response_headers=attrs.evolve(answered, remove=(*(answered.remove or ()), *_OF_THE_HOP_BACK)),
            request_headers=HeaderChanges(
                set={**(changes.set or {}), **told}, remove=(*(changes.remove or ()), *_OF_THE_HOP)
            ),
        )
        super().__init__(Route(context, upstream, ("",) * depth), options)
        self._context = context.encode("ascii")
        self._rewrites_location = rewrites_location and not is_absolute

    def _location(self, location: bytes, request: RequestHead) -> bytes:
        return prefixed_location(location, self._context, self.upstream)


def prefixed_location(location: bytes, context: bytes, upstream: Upstream) -> bytes:
    """The Location of a redirect as the client has to see it.

    An absolute path gets the prefix, unless it has it, and so does the path of a URL that leads to `upstream` itself,
    which the client cannot reach. Everything else stays.
    """
    match = ABSOLUTE_URL.match(location)
    if match is not None and _is_upstream(place_of_url(match), upstream):
        rest = location[match.end() :]
        location = rest if rest[:1] == b"/" else b"/" + rest
        if location[:2] == b"//":
            location = b"/." + location  # RFC 3986 §3.3: `//` would begin an authority
    if location[:1] != b"/" or location[:2] == b"//":
        return location
    if location.startswith(context) and location[len(context) : len(context) + 1] in (b"", b"/", b"?", b"#"):
        return location
    return context + location


def _is_upstream(place: tuple[str, int], upstream: Upstream) -> bool:
    host, port = place
    return port == upstream.port and (host == upstream.host or {host, upstream.host} <= LOOPBACK)
