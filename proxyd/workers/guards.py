"""Which authenticator stands in front of which route."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from proxyd.auth.environment import AuthEnvironment, read_or_make_key
from proxyd.core.counting import Counting, CountsOneCall
from proxyd.core.table import RouteTable
from proxyd.core.target import decode_path, key_of
from proxyd.errors import OptionError, RequestError, TlsError
from proxyd.http.guard import GuardedResource, OwnPathsResource, RatedResource
from proxyd.http.streaming import StreamingResource
from proxyd.http.tree import RouteTree
from proxyd.kinds import Kinds
from proxyd.model.auth import AnonymousAuthConfig, AuthConfig
from proxyd.model.routes import Route, RouteOptions, place_of
from proxyd.model.settings import Config
from proxyd.model.upstream import Upstream

TouchOf = Callable[[bytes], Callable[[], None] | None]
"""What a request for a raw path calls whenever something happens."""

# Where routes lead of which nothing but the place counts.
_NOWHERE = Upstream.parse("http://localhost")


class Guards:
    """Puts authenticators and rates in front of the routes in `table`.

    `state` is the directory of the key that cookies are sealed under: read, or made, when an authenticator asks for
    it first, unless there is a `cookie_key`. `counting` makes what counts. Without any authenticator nothing stands in
    front of a route.

    The routes below `base_url` that have no `auth` of their own share one login, at `base_url`, and so do patterns and
    what is mounted beside the routes.
    """

    def __init__(
        self,
        config: Config,
        kinds: Kinds,
        table: RouteTable,
        *,
        seconds: Callable[[], float],
        wall_clock: Callable[[], float],
        trusts: Callable[[str], bool],
        state: Path,
        cookie_key: bytes = b"",
        reactor: Any = None,
        environ: Mapping[str, str] | None = None,
        touch_of: TouchOf = lambda _: None,
        counting: Counting | None = None,
    ) -> None:
        self._counting = counting or Counting()
        self._kinds = kinds
        self._table = table
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._trusts = trusts
        self._key_file = state / "cookie-key"
        self.cookie_key = cookie_key
        self._reactor = reactor
        self._environ = environ or {}
        self._touch_of = touch_of
        self._cookies: set[bytes] = set()
        self._tree: RouteTree | None = None
        self._beside: dict[tuple[str, ...], Any] = {}
        self._section = config.route_defaults.auth or config.auth
        self._base_url = config.base_url
        self._base = key_of(decode_path(config.base_url.encode()))
        own = (spec.auth for spec in config.routes.values())
        self._asks = any(is_asking(section) for section in (self._section, *own))
        # The one for everything that has no section of its own; made now, so that a mistake shows at the start.
        self._common: Any = self._make(self._section)
        self._of_patterns: dict[str, Any] = {
            spec.pattern: self._make(spec.auth, pattern=spec.pattern)
            for spec in config.patterns
            if spec.auth is not None
        }
        self._buckets: dict[str, CountsOneCall] = {}
        self._of_routes: dict[tuple[str, tuple[str, ...], AuthConfig], Any] = {}
        for key, spec in config.routes.items():
            if spec.auth is not None:
                host, segments = place_of(key)
                self._of_routes[host, segments, spec.auth] = self._make_own(
                    spec.auth, Route(key, _NOWHERE, segments, host)
                )

    def mount(self, tree: RouteTree) -> None:
        """Let the own paths of authenticators answer that belong to no route."""
        self._tree = tree
        for place, authenticator in self._own_places():
            tree.mount(place, OwnPathsResource(authenticator))

    def unmount(self, tree: RouteTree) -> None:
        """Let them answer no more."""
        self._tree = None
        for place, _ in self._own_places():
            tree.unmount(place)

    def _own_places(self) -> Iterator[tuple[tuple[str, ...], Any]]:
        for authenticator in (self._common, *self._of_patterns.values()):
            for path in authenticator.paths:
                yield key_of(decode_path(path)), authenticator
        yield from self._beside.items()

    def _make_own(self, section: AuthConfig, route: Route) -> Any:
        """The authenticator of one route; of its own paths, those that are not at the route answer beside it."""
        authenticator = self._make(section, route)
        for path in authenticator.paths:
            place = key_of(decode_path(path))
            if place[: len(route.segments)] != route.segments:
                self._beside[place] = authenticator
                if self._tree is not None:
                    self._tree.mount(place, OwnPathsResource(authenticator))
        return authenticator

    def guard(self, route: Route, options: RouteOptions, resource: StreamingResource) -> StreamingResource:
        """`resource` behind what the effective `options` of its route ask for."""
        if options.rate is not None and options.rate.amount:
            resource = RatedResource(
                resource, self._counting.bucket(options.rate, f"route:{route.host}{route.key}".encode())
            )
        own = route.options.auth
        if is_asking(own) and not self._asks:
            # From now on there are cookies of ours: they must not reach the upstreams of routes that ask nothing.
            self._asks = True
            for entry in self._table:
                entry.resource = None
        if not self._asks:
            return resource
        if own is None and route.segments[: len(self._base)] == self._base:
            authenticator = self._common
        else:  # the cookie of the common one does not reach beyond `base_url`
            section = own or self._section
            authenticator = self._of_routes.get((route.host, route.segments, section))
            if authenticator is None:
                try:
                    authenticator = self._make_own(section, route)
                except (OptionError, TlsError) as error:  # of a posted route: nobody could look into it before
                    raise RequestError(500, f"the auth of the route {route.key} cannot be used: {error}") from None
        return GuardedResource(resource, authenticator, route)

    def guard_pattern(self, route: Route, resource: StreamingResource) -> StreamingResource:
        """`resource` of a `route` that a pattern made, behind what the pattern asks for; `route.key` is its text."""
        rate = route.options.rate
        if rate is not None and rate.amount:
            bucket = self._buckets.get(route.key)
            if bucket is None:
                bucket = self._buckets[route.key] = self._counting.bucket(rate, f"pattern:{route.key}".encode())
            resource = RatedResource(resource, bucket)
        return GuardedResource(resource, self._of_patterns.get(route.key, self._common), route)

    def guard_mounted(self, segments: tuple[str, ...], resource: StreamingResource) -> StreamingResource:
        """`resource`, which is mounted at `segments` beside the routes, behind what everything asks for."""
        route = Route("/" + "/".join(segments), _NOWHERE, segments)
        return GuardedResource(resource, self._common, route)

    def _make(self, section: AuthConfig, route: Route | None = None, pattern: str = "") -> Any:
        mark = sha256(pattern.encode()).hexdigest()[:12] if pattern else ""
        environment = AuthEnvironment(
            seconds=self._seconds,
            wall_clock=self._wall_clock,
            trusts=self._trusts,
            cookie_key=self._key,
            reactor=self._reactor,
            environ=self._environ,
            touch_of=self._touch_of,
            counting=self._counting,
            cookies=self._cookies,
            scope=self._base_url if route is None else _path_of(route),
            name=mark if route is None else f"{route.host}{_path_of(route)}",
            below=f"{mark}/" if mark else "",
        )
        return self._kinds.of_config(section).build(section, environment)

    def _key(self) -> bytes:
        if not self.cookie_key:
            self.cookie_key = read_or_make_key(self._key_file)
        return self.cookie_key


def _path_of(route: Route) -> str:
    """The prefix of a route as browsers write it."""
    return "/" + "/".join(quote(segment, safe="!$&'()*+,=:@") for segment in route.segments)


def is_asking(section: AuthConfig | None) -> bool:
    """Whether a section wants to know who a client is, or to keep something of a request from the upstream."""
    return section is not None and section != AnonymousAuthConfig()
