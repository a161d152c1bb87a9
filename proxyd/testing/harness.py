"""The data path in memory: clients and upstreams are scripts, and time passes when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.web.resource import IResource

from proxyd.builtins import KINDS
from proxyd.core.changes import Change
from proxyd.core.forward import ForwardPlan
from proxyd.core.patterns import Patterns
from proxyd.core.table import Entry, RouteTable
from proxyd.http.accesslog import CombinedLog
from proxyd.http.activity import Activity
from proxyd.http.errorpages import ErrorPages
from proxyd.http.errortarget import ErrorTarget
from proxyd.http.gate import connection_gate, request_gate
from proxyd.http.patterns import PatternRoutes
from proxyd.http.resources import ForwardResource
from proxyd.http.rewriting import Rewriting
from proxyd.http.site import Site, SiteSettings, TrustedProxies
from proxyd.http.streaming import StreamingResource
from proxyd.http.tree import RouteTree
from proxyd.metrics.meters import Uncounted
from proxyd.model.routes import DEFAULT_OPTIONS, Route, RouteOptions, over, place_of
from proxyd.model.settings import Config
from proxyd.model.upstream import Upstream
from proxyd.net.certificates import ClientTls
from proxyd.net.deadlines import Deadlines
from proxyd.option import Function
from proxyd.testing.servers import ScriptedSupervisor
from proxyd.testing.transports import MemoryTransport
from proxyd.upstream.connection import UpstreamConnection
from proxyd.upstream.pools import Pools, UpstreamPool
from proxyd.workers.guards import Guards
from proxyd.workers.launcher import Launcher
from proxyd.workers.ports import Ports
from proxyd.workers.servers import Servers

F = TypeVar("F", bound=ForwardResource)


@attrs.define(eq=False)
class Dial:
    """An attempt of the proxy to connect to `upstream`; the test decides how it ends."""

    upstream: Upstream
    seconds: float
    build: Callable[..., UpstreamConnection]
    result: Deferred[UpstreamConnection]
    clock: Clock
    is_cancelled: bool = False

    def accept(self) -> MemoryTransport:
        """The upstream accepts; what is returned is its end of the connection."""
        transport = MemoryTransport(self.clock)
        transport.watches_peer = False
        transport.connect(self.build(self.result.callback))
        return transport

    def fail(self, error: Exception) -> None:
        """The upstream cannot be reached."""
        self.result.errback(error)


class ScriptedDialer:
    """Stands in for `proxyd.upstream.dialing.Dialer`: remembers who is called, and waits for the test."""

    def __init__(self, clock: Clock) -> None:
        self.dials: list[Dial] = []
        self._clock = clock

    def dial(
        self, upstream: Upstream, seconds: float, build: Any, tls: ClientTls | None = None
    ) -> Deferred[UpstreamConnection]:
        """Remember the call."""

        def cancelled(_: object) -> None:
            dial.is_cancelled = True

        dial = Dial(upstream, seconds, build, Deferred(cancelled), self._clock)
        self.dials.append(dial)
        return dial.result


class UnknownNames:
    """Stands in for a resolver where nobody dials."""

    def resolve(self, host: str) -> Deferred[tuple[str, ...]]:
        """Know nothing."""
        return fail(OSError(f"{host} is not known"))


class Lines:
    """Collects the lines of a log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)


class StillReactor(MemoryReactorClock):
    """Connects to nobody, and begins nothing that was left for later."""

    def callFromThread(self, callable: Any, *arguments: object, **options: object) -> None:  # noqa: A002  # Twisted's
        """Forget about it."""


class Harness:
    """A proxy with `routes` (key -> URL), configured by `config`, on a clock of its own.

    Patterns, ports and servers are those of the configuration; `supervisor` decides when servers are ready. With a
    `root`, that resource is served in place of all that. `state` is the directory of what is kept; `touch_of` is told
    of who was let in.
    """

    def __init__(
        self,
        routes: Mapping[str, str] | None = None,
        config: Config | None = None,
        options: RouteOptions | None = None,
        root: IResource | None = None,
        meters: Uncounted | None = None,
        state: Path = Path(),
        touch_of: Callable[[bytes], Callable[[], None] | None] = lambda _: None,
    ) -> None:
        self.clock = Clock()
        self.config = config = config or Config()
        self.dialer = ScriptedDialer(self.clock)
        self.deadlines = Deadlines(self.clock)
        self.pools = Pools(self.dialer, self.deadlines, config.pool, config.limits, meters)  # type: ignore[arg-type]
        self.table = RouteTable()
        self.access = Lines()
        defaults = over(options or RouteOptions(), over(config.route_defaults, DEFAULT_OPTIONS))

        trusts = TrustedProxies(config.trusted_proxies).trusts
        seconds = self.clock.seconds
        guards = self.guards = Guards(
            config,
            KINDS,
            self.table,
            seconds=seconds,
            wall_clock=seconds,
            trusts=trusts,
            state=state,
            reactor=StillReactor(),
            touch_of=touch_of,
        )

        def forward(
            route: Route | ForwardPlan,
            options: RouteOptions,
            pool: UpstreamPool,
            rewriting: Rewriting | None = None,
        ) -> ForwardResource:
            return ForwardResource(route, options, pool, config.timeouts, rewriting=rewriting)

        def forward_as(
            kind: type[F], plan: ForwardPlan, options: RouteOptions, pool: UpstreamPool, rewriting: Rewriting | None
        ) -> F:
            return kind(plan, options, pool, config.timeouts, rewriting=rewriting)

        def make_rewriting(functions: tuple[Function, ...], offered: Mapping[str, object]) -> Rewriting | None:
            if not functions:
                return None
            return Rewriting(
                rewriters=tuple(function.call for function in functions),
                run=maybeDeferred,
                clock=self.clock,
                max_body=config.limits.rewrite_body,
                max_seconds=0,
                offered=offered,
            )

        def build(entry: Entry) -> StreamingResource:
            route = entry.route
            effective = over(route.options, defaults)
            return guards.guard(route, effective, forward(route, effective, self.pools.of(route.upstream)))

        def build_pattern(route: Route) -> StreamingResource:
            return guards.guard_pattern(route, forward(route, route.options, self.pools.of(route.upstream)))

        health = config.health
        lenient = config.limits.target == "lenient"
        self.tree = RouteTree(
            self.table,
            build,
            live=health.live,
            ready=health.ready,
            lenient=lenient,
            meters=meters,
            gate=request_gate(config.limits, trusts),
        )
        guards.mount(self.tree)
        if config.patterns:
            self.tree.set_patterns(PatternRoutes(Patterns(config.patterns, defaults), build_pattern))
        self.activity = Activity(self.clock.seconds)
        self.ports = Ports(
            self.tree,
            UnknownNames(),
            self.clock.seconds,
            make_pools=lambda _: self.pools,
            make_rewriting=make_rewriting,
            build=forward,
            activity=self.activity,
            run=maybeDeferred,
            clock=self.clock,
        )
        self.ports.apply(config, defaults, guards)
        self.supervisor = ScriptedSupervisor(config.servers)
        self.servers = Servers(
            self.tree,
            self.supervisor,
            self.pools,
            make_rewriting=make_rewriting,
            forward=forward_as,
            run=maybeDeferred,
            clock=self.clock,
            activity=self.activity,
        )
        self.servers.apply(config, defaults, guards)
        self.launcher = Launcher(self.tree, self.table, self.supervisor, clock=self.clock, wall_clock=seconds)
        pages = ErrorPages(directory=config.errors.directory, statuses=config.errors.statuses)
        if config.errors.target:
            upstream = Upstream.parse(config.errors.target)
            pages.target = ErrorTarget(upstream, self.pools.of(upstream), config.timeouts, pages)
        self.site = Site(
            root or self.tree,
            clock=self.clock,
            deadlines=self.deadlines,
            settings=SiteSettings.make(
                config.timeouts,
                config.limits,
                long_line_status=431 if config.errors.statuses == "chp" else 414,
                trusted=TrustedProxies(config.trusted_proxies),
                error_pages=pages,
            ),
            access_log=CombinedLog(self.access, self.clock.seconds),
            meters=meters,
            gate=connection_gate(config.limits, seconds),
            wall_clock=self.clock.seconds,
        )
        for key, url in (routes if routes is not None else {"/": "http://up.test:81"}).items():
            self.add_route(key, url)

    def show_pages(self) -> None:
        """Have the pages of the proxy's own, which other tests do without."""
        self.servers.pages = self.launcher.pages
        self.launcher.apply(self.config, self.guards)

    def add_route(self, key: str, url: str, options: RouteOptions | None = None) -> None:
        """Add a route, or replace one."""
        host, segments = place_of(key)
        route = Route(key, Upstream.parse(url), segments, host, options or RouteOptions())
        self.table.apply(Change(self.table.revision + 1, key, route), self.clock.seconds())

    def delete_route(self, key: str) -> None:
        """Delete a route."""
        self.table.apply(Change(self.table.revision + 1, key, None), self.clock.seconds())

    def client(self, address: str = "192.0.2.1") -> MemoryTransport:
        """A client connects."""
        transport = MemoryTransport(self.clock, address)
        transport.connect(self.site.buildProtocol(None))
        return transport

    def accept(self) -> MemoryTransport:
        """The upstream that the proxy called last accepts the connection."""
        return self.dialer.dials[-1].accept()

    def advance(self, seconds: float = 0) -> None:
        """Let time pass, in steps small enough for everything that is due."""
        self.clock.advance(0)
        while seconds > 0:
            step = min(seconds, 0.1)
            self.clock.advance(step)
            seconds -= step
        self.clock.advance(0)
