"""A route, and what a user may say about one."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Literal, TypeVar

import attrs

from proxyd.errors import OptionError
from proxyd.model.auth import AuthConfig
from proxyd.model.relay import RelaySettings
from proxyd.model.tls import UpstreamTlsSettings
from proxyd.model.upstream import Upstream
from proxyd.option import Rate, Seconds, option

_Options = TypeVar("_Options", bound=attrs.AttrsInstance)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")  # RFC 3986 §3.1


def over(own: _Options, defaults: _Options) -> _Options:
    """Lay the options of `own` over `defaults`: what is None in `own` is taken from `defaults`."""
    values = {}
    for field in attrs.fields(type(own)):
        value = getattr(own, field.name)
        default = getattr(defaults, field.name)
        if value is None:
            values[field.name] = default
        elif attrs.has(type(value)) and type(value) is type(default):
            values[field.name] = over(value, default)
        else:
            values[field.name] = value
    return type(own)(**values)


@attrs.frozen(kw_only=True)
class RewriteLocation:
    """How redirects of the upstream to itself are rewritten."""

    host: bool | None = option(None, help="Replace host and port by those that the client used.")
    scheme: str | None = option(None, help='Replace the scheme, as in `https`; "" leaves it.')

    def __attrs_post_init__(self) -> None:
        """Refuse what is no scheme.

        Raises `OptionError`.
        """
        if self.scheme and not _SCHEME.fullmatch(self.scheme):
            raise OptionError("a scheme is letters and digits, without the colon behind it", "scheme")


@attrs.frozen(kw_only=True)
class HeaderChanges:
    """Fields that are set or removed in a message."""

    set: Mapping[str, str] | None = option(None, help="Fields that are set; they replace those of that name.")
    remove: tuple[str, ...] | None = option(None, help="Names of fields that are removed.")

    def __attrs_post_init__(self) -> None:
        """Refuse names and values that would break a head.

        Raises `OptionError`.
        """
        for name, value in (self.set or {}).items():
            check_field(name, value, "set", name)
        for index, name in enumerate(self.remove or ()):
            check_field(name, "", "remove", index)
            if name.lower() == "host":
                raise OptionError("a request has a Host; `change_origin` sends the upstream's own", "remove", index)


@attrs.frozen(kw_only=True)
class RouteTimeouts:
    """The waits of one route."""

    connect: Seconds | None = option(None, help="Until the upstream accepts the connection.")
    response: Seconds | None = option(None, help="Until the head of its response.")
    idle: Seconds | None = option(None, help="Silence of the upstream in the middle of a response.")


@attrs.frozen(kw_only=True)
class RouteOptions:
    """What can be said about a route; an option that is not given comes from `route_defaults`."""

    strip_prefix: bool | None = option(None, help="Remove the prefix of the route from the path.")
    prepend_path: bool | None = option(
        None, help="Put the path and query of the upstream in front of those of the request."
    )
    change_origin: bool | None = option(None, help="Send the upstream's own authority as Host.")
    x_forwarded: Literal["auto", "append", "replace", "off"] | None = option(
        None,
        help="What happens to X-Forwarded-*: `auto` appends for a trusted proxy and replaces for anyone else.",
    )
    rewrite_location: RewriteLocation | None = option(None, help="Redirects of the upstream to itself.")
    request_headers: HeaderChanges | None = option(None, help="Changes to requests.")
    response_headers: HeaderChanges | None = option(None, help="Changes to responses.")
    websocket: Literal["tunnel", "off"] | RelaySettings | None = option(
        None,
        help="`tunnel` passes the bytes of a WebSocket on; `relay` takes part in it, message by message; "
        "`off` refuses handshakes with 403.",
    )
    timeouts: RouteTimeouts | None = option(None, help="Waits that differ from the global ones.")
    rate: Rate | None = option(
        None, help="Requests to the route, of all clients together: beyond, 429 with Retry-After."
    )
    auth: AuthConfig | None = option(None, help="Who may use the route; default: what `auth` says for all of them.")
    upstream_tls: UpstreamTlsSettings | None = option(None, help="TLS with an upstream whose URL is `https://`.")


DEFAULT_OPTIONS = RouteOptions(
    strip_prefix=False,
    prepend_path=True,
    change_origin=False,
    x_forwarded="auto",
    rewrite_location=RewriteLocation(host=False, scheme=""),
    request_headers=HeaderChanges(set={}, remove=()),
    response_headers=HeaderChanges(set={}, remove=()),
    websocket="tunnel",
    timeouts=RouteTimeouts(),
    rate=Rate(0, 1),
    upstream_tls=UpstreamTlsSettings(),
)
"""What holds when neither the route nor `route_defaults` says anything."""

INHERITED = RouteOptions()
"""A route that says nothing for itself; shared, because most routes do not."""


def place_of(key: str) -> tuple[str, tuple[str, ...]]:
    """The host and the segments that a decoded key `/prefix` or `host/prefix` means; host "" is any."""
    host, _, path = key.partition("/")
    segments = path.strip("/").split("/")
    # Many routes have their first segments in common: no need for a copy in each.
    parents = map(sys.intern, segments[:-1])
    return host.lower().removesuffix("."), (*parents, segments[-1]) if segments != [""] else ()


@attrs.frozen(weakref_slot=False, init=False)
class Route:
    """Host and prefix -> upstream.

    `key` is the route's name in the API. `host` is lower-case and "" for any host. `members` is the JSON object that
    the API answers, less what is computed; empty: nothing but the target.

    There may be 100,000, and most lie idle: what `key` and `members` tell is not kept a second time, which makes each
    180 bytes lighter (2026-11-30).
    """

    key: str
    host: str
    options: RouteOptions
    members: str
    _upstream: Upstream | None
    """None: it is the `target` of the members."""
    _segments: tuple[str, ...] | int
    """A number: they are those of the key, but for so many at its beginning."""

    def __init__(
        self,
        key: str,
        upstream: Upstream,
        segments: tuple[str, ...],
        host: str = "",
        options: RouteOptions = INHERITED,
        members: str = "",
    ) -> None:
        told = json.loads(members).get("target") if members else None
        named = place_of(key)[1]
        skipped = len(named) - len(segments)
        self.__attrs_init__(
            key,
            host,
            options,
            members,
            upstream=None if told == upstream.url else upstream,
            segments=skipped if skipped in (0, 1) and named[skipped:] == segments else segments,
        )

    @classmethod
    def told(
        cls,
        key: str,
        members: str,
        host: str = "",
        options: RouteOptions = INHERITED,
        *,
        segments: tuple[str, ...] | int = 0,
    ) -> Route:
        """The route whose upstream is the `target` of the members.

        Its segments are those of the key, without the first one if `segments` is 1; or those that somebody keeps
        anyway.
        """
        route = cls.__new__(cls)
        route.__attrs_init__(key, host, options, members, upstream=None, segments=segments)
        return route

    @property
    def upstream(self) -> Upstream:
        """Where it leads; read anew each time, and kept by what serves the route."""
        return Upstream(json.loads(self.members)["target"]) if self._upstream is None else self._upstream

    @property
    def segments(self) -> tuple[str, ...]:
        """The decoded prefix."""
        return place_of(self.key)[1][self._segments :] if isinstance(self._segments, int) else self._segments

    @property
    def depth(self) -> int:
        """How many segments there are; asked at each request."""
        skipped, key = self._segments, self.key
        if isinstance(skipped, int) and key[-1:] != "/" and "//" not in key:
            return key.count("/") - skipped
        return len(self.segments)


_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding", "trailer", "upgrade"})


def check_field(name: str, value: str, *path: str | int) -> None:
    """Refuse a field that would break a head, or belongs to the connection.

    Raises `OptionError` with `path`.
    """
    if not name or not _TOKEN.issuperset(name):
        raise OptionError(f"{name!r} is not a field name", *path)
    if name.lower() in _FRAMING:
        raise OptionError(f"{name} belongs to the connection and cannot be changed", *path)
    if any((char < " " and char != "\t") or char == "\x7f" for char in value):
        raise OptionError("a field value has no control characters", *path)
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise OptionError("a field value has Latin-1 characters only", *path) from None
