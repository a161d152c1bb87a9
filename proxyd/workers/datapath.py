"""Composition root of the data path: from the configuration to listeners that serve routes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.web.resource import IResource

from proxyd.api.tokens import state_directory
from proxyd.core.counting import Counting
from proxyd.core.forward import ForwardPlan
from proxyd.core.patterns import Patterns
from proxyd.core.table import Entry, RouteTable
from proxyd.errors import ListenError, TlsError
from proxyd.http.accesslog import AccessLog, CombinedLog, JsonLog, Writer
from proxyd.http.activity import Activity
from proxyd.http.errorpages import ErrorPages
from proxyd.http.errortarget import ErrorTarget
from proxyd.http.gate import RequestGate, connection_gate, request_gate
from proxyd.http.patterns import PatternRoutes
from proxyd.http.resources import ForwardResource
from proxyd.http.rewriting import Rewriting
from proxyd.http.site import Site, SiteSettings, TrustedProxies
from proxyd.http.streaming import StreamingResource
from proxyd.http.tree import RouteTree
from proxyd.interfaces import IListener, IServerSupervisor
from proxyd.kinds import Kinds
from proxyd.metrics.meters import Gauges, Uncounted
from proxyd.model.relay import RelaySettings
from proxyd.model.routes import DEFAULT_OPTIONS, Route, RouteOptions, over
from proxyd.model.settings import Config, Limits, ListenerConfig
from proxyd.model.tls import ServerTlsSettings
from proxyd.model.upstream import Upstream
from proxyd.net.certificates import ClientContexts, ServerTls
from proxyd.net.deadlines import Deadlines
from proxyd.net.reactor import DataPathReactor
from proxyd.net.resolver import Resolver
from proxyd.option import Function, Seconds
from proxyd.supervisor.calls import make_pool
from proxyd.system.activation import InheritedSockets
from proxyd.upstream.dialing import Dialer, Names
from proxyd.upstream.pools import Pools, UpstreamPool
from proxyd.websocket.relay import RelayPlan
from proxyd.workers.drain import Drain
from proxyd.workers.guards import Guards, TouchOf
from proxyd.workers.launcher import Launcher
from proxyd.workers.ports import Ports
from proxyd.workers.servers import Front, Servers
from proxyd.workers.static import load_upstream_tls

F = TypeVar("F", bound=ForwardResource)
T = TypeVar("T")

TakeDataPath = Callable[[Writer | None, Uncounted | None], None]

# How often is looked whether a certificate has changed; each look costs a few calls of `stat`.
_CERTIFICATE_LOOK_SECONDS = 5.0


class DataPath:
    """Everything between the clients and the upstreams of one process.

    `table` is where routes come from; whoever owns it changes it. `access_writer` None: no access log.
    `state` is the directory of what is kept; default: where a service without any settings keeps it. Without a
    `supervisor` there are no managed servers; `front` is for the one at `base_url` itself. `environ` is for what the
    configuration leaves to it; `touch_of` is that of `AuthEnvironment`, `cookie_key` that of `Guards`,
    `touch` that of `Site`. `counting` makes what counts clients.
    """

    def __init__(
        self,
        config: Config,
        kinds: Kinds,
        table: RouteTable,
        main_reactor: Any,
        *,
        access_writer: Writer | None = None,
        meters: Uncounted | None = None,
        state: Path | None = None,
        cookie_key: bytes = b"",
        supervisor: IServerSupervisor | None = None,
        front: Front | None = None,
        environ: Mapping[str, str] | None = None,
        touch_of: TouchOf = lambda _: None,
        touch: Callable[[Entry], None] | None = None,
        counting: Counting | None = None,
    ) -> None:
        self._touch = touch
        self._counting = counting or Counting()
        self._config = config
        self._kinds = kinds
        self._main = main_reactor
        self._meters = meters
        self._certificate_look: LoopingCall | None = None
        self.table = table
        self.reactor = DataPathReactor(main_reactor)
        self.deadlines = Deadlines(self.reactor)
        names = Resolver(main_reactor)
        self.pools = self._make_pools(names)
        self._traces = config.log.level == "debug"
        self._defaults = over(config.route_defaults, DEFAULT_OPTIONS)
        self._access_log = self._make_access_log(access_writer)
        self._cookie_key = cookie_key
        self._state = state or state_directory(config.state_directory, {})
        self._environ = environ
        self._touch_of = touch_of
        self._guards = self._make_guards(config)
        self._gate = connection_gate(config.limits, self.deadlines.seconds, self._counting)
        self.tree = RouteTree(
            table,
            self._build_resource,
            live=config.health.live,
            ready=config.health.ready,
            lenient=config.limits.target == "lenient",
            meters=meters,
            gate=self._request_gate(config),
        )
        self._guards.mount(self.tree)
        self.activity = Activity(time.time)
        self.ports = Ports(
            self.tree,
            names,
            self.deadlines.seconds,
            make_pools=self._make_pools,
            make_rewriting=self._make_rewriting,
            build=self._serve_port,
            activity=self.activity,
            run=self._in_thread,
            clock=main_reactor,
        )
        self.servers: Servers | None = None
        self.launcher: Launcher | None = None
        if supervisor is not None:
            self.servers = Servers(
                self.tree,
                supervisor,
                self.pools,
                make_rewriting=self._make_rewriting,
                forward=self._serve_prefixed,
                run=self._in_thread,
                clock=main_reactor,
                activity=self.activity,
                front=front,
            )
            main = main_reactor
            self.launcher = Launcher(self.tree, table, supervisor, clock=main, wall_clock=main.seconds)
            self.servers.pages = self.launcher.pages
        self._apply_what_is_beside_routes()
        self.sites: list[Site] = []
        self._public_sites: list[Site] = []
        self._drain = Drain(self.sites, main_reactor, self.deadlines)
        self.public_listeners = [self._make_listener(section) for section in config.listeners]
        self.listeners: list[IListener] = list(self.public_listeners)

    def make_site(self, root: IResource | None = None, *, logs_access: bool = True) -> Site:
        """A site with the limits, deadlines and error pages of the configuration; without a `root`, for the routes."""
        site = Site(
            self.tree if root is None else root,
            clock=self.reactor,
            deadlines=self.deadlines,
            settings=self._site_settings(is_public=logs_access),
            access_log=self._access_log if logs_access else None,
            meters=self._meters if logs_access else None,
            gate=self._gate if logs_access else None,
            touch=self._touch,
        )
        self.sites.append(site)
        if logs_access:
            self._public_sites.append(site)
        return site

    def _limit_connections(self, limits: Limits) -> None:
        """Have other `limits`; connections that are there count. A gate stays: it knows them."""
        if self._gate is not None:
            self._gate.become(limits)
            return
        self._gate = connection_gate(limits, self.deadlines.seconds, self._counting)
        if self._gate is not None:
            for site in self._public_sites:
                for channel in site.channels:
                    self._gate.keep(channel)

    def _request_gate(self, config: Config) -> RequestGate | None:
        return request_gate(config.limits, TrustedProxies(config.trusted_proxies).trusts, self._counting)

    def _site_settings(self, *, is_public: bool) -> SiteSettings:
        config = self._config
        timeouts = config.timeouts
        if not is_public:  # who asks the API waits for the store, and may be silent meanwhile
            timeouts = attrs.evolve(timeouts, client_idle=Seconds(0))
        return SiteSettings.make(
            timeouts,
            config.limits,
            long_line_status=431 if config.errors.statuses == "chp" else 414,
            trusted=TrustedProxies(config.trusted_proxies),
            error_pages=self._error_pages(),
        )

    def _make_access_log(self, writer: Writer | None) -> AccessLog | None:
        log = self._config.log
        if writer is None or log.access == "off":
            return None
        kind = JsonLog if log.access == "json" else CombinedLog
        return kind(writer)

    def _error_pages(self) -> ErrorPages:
        errors = self._config.errors
        pages = ErrorPages(directory=errors.directory, statuses=errors.statuses)
        if errors.target:
            upstream = Upstream.parse(errors.target)
            pool = self.pools.of(upstream, self._defaults.upstream_tls)
            pages.target = ErrorTarget(upstream, pool, self._config.timeouts, pages)
        return pages

    def _make_listener(self, section: ListenerConfig) -> IListener:
        listener: IListener = self._kinds.of_config(section).build(section, self.make_site, self.reactor)
        return listener

    def _make_pools(self, names: Names) -> Pools:
        config = self._config
        return Pools(Dialer(self.reactor, names), self.deadlines, config.pool, config.limits, self._meters)

    def _make_guards(self, config: Config) -> Guards:
        """What stands in front of the routes.

        Raises `OSError` for a key of cookies that can neither be read nor made.
        """
        return Guards(
            config,
            self._kinds,
            self.table,
            seconds=self.deadlines.seconds,
            wall_clock=time.time,
            trusts=TrustedProxies(config.trusted_proxies).trusts,
            state=self._state,
            cookie_key=self._cookie_key,
            reactor=self._main,
            environ=self._environ,
            touch_of=self._touch_of,
            counting=self._counting,
        )

    def _build_resource(self, entry: Entry) -> StreamingResource:
        options = over(entry.route.options, self._defaults)
        return self._guards.guard(entry.route, options, self._forward(entry.route, options))

    def _forward(self, route: Route, options: RouteOptions) -> ForwardResource:
        """What serves a route with options that are complete."""
        pool = self.pools.of(route.upstream, options.upstream_tls)
        return ForwardResource(route, options, pool, self._config.timeouts, traces=self._traces)

    def _make_rewriting(self, functions: tuple[Function, ...], offered: Mapping[str, object]) -> Rewriting | None:
        """What `functions`, which are offered these values, do to responses; None if there are none."""
        if not functions:
            return None
        return Rewriting(
            rewriters=tuple(function.call for function in functions),
            run=self._in_thread,
            clock=self._main,
            max_body=self._config.limits.rewrite_body,
            max_seconds=self._config.timeouts.response,
            offered=offered,
        )

    @cached_property
    def _functions(self) -> ThreadPool:
        return make_pool()

    def _in_thread(self, function: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = deferToThreadPool(self._main, self._functions, function)
        return done

    def _serve_port(
        self, plan: ForwardPlan, options: RouteOptions, pool: UpstreamPool, rewriting: Rewriting | None
    ) -> ForwardResource:
        return self._serve_prefixed(ForwardResource, plan, options, pool, rewriting)

    def _serve_prefixed(
        self, kind: type[F], plan: ForwardPlan, options: RouteOptions, pool: UpstreamPool, rewriting: Rewriting | None
    ) -> F:
        return kind(plan, options, pool, self._config.timeouts, rewriting=rewriting, traces=self._traces)

    def _apply_what_is_beside_routes(self) -> None:
        """Let patterns, ports, servers and pages answer as the configuration says."""
        config = self._config
        routes = None
        if config.patterns:
            patterns = Patterns(config.patterns, self._defaults)
            guards = self._guards
            routes = PatternRoutes(
                patterns, lambda route: guards.guard_pattern(route, self._forward(route, route.options))
            )
        self.tree.set_patterns(routes)
        self.ports.apply(config, self._defaults, self._guards)
        if self.servers is not None:
            self.servers.apply(config, self._defaults, self._guards)
        if self.launcher is not None:
            self.launcher.apply(config, self._guards)

    @property
    def cookie_key(self) -> bytes:
        """The key that cookies are sealed under; empty while nobody needs it."""
        return self._guards.cookie_key

    def gauges(self) -> Gauges:
        """How things are; takes a moment for each connection, and is meant for a scrape."""
        sites = [site for site in self.sites if site.meters is not None and site.meters is self._meters]
        tunnels = [tunnel for site in sites for tunnel in site.tunnels]
        channels = [channel for site in sites for channel in site.channels]
        requests = [channel.request for channel in channels if channel.request is not None]
        return Gauges(
            routes=len(self.table),
            connections=len(channels) + len(tunnels),
            tunnels=len(tunnels),
            idle_upstream_connections=self.pools.idle + self.ports.idle,
            received=sum(request.body_received for request in requests) + sum(tunnel.to_upstream for tunnel in tunnels),
            sent=sum(request.body_sent for request in requests) + sum(tunnel.to_client for tunnel in tunnels),
        )

    def open(self, inherited: InheritedSockets | None = None, *, accepts: bool = True) -> None:
        """Open the listeners, all or none; those that have an inherited socket use that one.

        Unless it `accepts`, the clients of the configuration's own listeners are left to other processes. Raises
        `ListenError`, and `TlsError` for a file of TLS, those for upstreams included.
        """
        load_upstream_tls(self._config, self.pools.contexts)
        _load_relay(self._config)
        if inherited is not None:
            for listener in self.listeners:
                listener.inherit(inherited)
            inherited.close()
        try:
            for listener in self.listeners:
                if accepts or listener not in self.public_listeners:
                    listener.open()
                else:
                    listener.bind()
        except (ListenError, TlsError):
            self.stop_listening()
            raise
        self._certificate_look = LoopingCall(self.refresh_tls)
        self._certificate_look.clock = self._main
        self._certificate_look.start(_CERTIFICATE_LOOK_SECONDS, now=False)

    def refresh_tls(self) -> None:
        """Read the certificates of listeners again if they have changed; what cannot be used stays as it was."""
        for listener in self.listeners:
            listener.refresh()

    # Reloading.

    def prepare(self, config: Config, new_listeners: Iterable[ListenerConfig] = ()) -> TakeDataPath:
        """Read what `config` needs; what is returned carries it out, and cannot fail.

        That is with a writer of the access log, and with the meters from then on.

        Its listeners are those that are there; `new_listeners` are only looked at. Nothing has changed before the
        returned function is called. Works on any thread. Raises `TlsError`.
        """
        contexts = ClientContexts()
        load_upstream_tls(config, contexts)
        _load_relay(config)
        # Those of the API and of the metrics come behind those of the configuration.
        steps = [listener.prepare(section) for listener, section in zip(self.listeners, config.listeners, strict=False)]
        for section in new_listeners:
            if isinstance(section, ServerTlsSettings):
                ServerTls(section).load()

        guards = self._make_guards(config)

        def take(access_writer: Writer | None, meters: Uncounted | None) -> None:
            before, self._config = self._config, config
            if meters is not self._meters:
                self._meters = self.pools.meter = meters
                self.tree.count_with(meters)
                for site in self._public_sites:
                    site.count_with(meters)
            self._guards.unmount(self.tree)
            self._guards = guards
            guards.mount(self.tree)
            if config.limits != before.limits or config.trusted_proxies != before.trusted_proxies:
                self._limit_connections(config.limits)
                self.tree.gate = self._request_gate(config)
            self._defaults = over(config.route_defaults, DEFAULT_OPTIONS)
            self._traces = config.log.level == "debug"
            self.pools.reconfigure(config.pool, config.limits, contexts)
            self._apply_what_is_beside_routes()
            self._access_log = self._make_access_log(access_writer)
            health = config.health
            self.tree.configure(live=health.live, ready=health.ready, lenient=config.limits.target == "lenient")
            for site in self.sites:
                site.settings = self._site_settings(is_public=site in self._public_sites)
            for site in self._public_sites:
                site.access_log = self._access_log
                site.gate = self._gate
            for step in steps:
                step()
            for entry in self.table:
                entry.resource = None  # made again when it is asked for, with the options as they are now

        return take

    def certificates(self) -> list[tuple[str, float]]:
        """The names that are served over TLS, and when the certificate of each ends, in seconds since the epoch."""
        return [certificate for listener in self.listeners for certificate in listener.certificates()]

    def stop_listening(self) -> Deferred[None]:
        """Take no new clients; those that are there may go on, but for streams that would never end."""
        if self.launcher is not None:
            self.launcher.close()
        closing = DeferredList([listener.close() for listener in self.listeners])
        return closing.addCallback(lambda _: None)

    def announce_end(self, seconds: float) -> Deferred[None]:
        """Serve everybody for `seconds` more, while readiness says that the end is near."""
        return self._drain.announce(seconds)

    def drain(self, seconds: float, are_others_busy: Callable[[], bool] = lambda: False) -> Deferred[None]:
        """Finish what is being served; fires when all is over, or after `seconds`.

        `are_others_busy` is that of `Drain.finish`.
        """
        return self._drain.finish(seconds, are_others_busy)

    def hurry(self) -> None:
        """End a drain that is going on."""
        self._drain.hurry()

    def close(self) -> None:
        """Cut what is left."""
        if self._certificate_look is not None and self._certificate_look.running:
            self._certificate_look.stop()
        self.stop_listening()
        self.pools.close()
        self.ports.close()
        if self.launcher is not None:
            self.launcher.close()
        # Clients before upstreams, whose end would be told as a fault of theirs; by a reset, because the end of a
        # connection may be the end of a body.
        channels = [channel for site in self.sites for channel in site.channels]
        self.reactor.close([channel.transport for channel in channels if channel.request is not None])
        self.deadlines.close()


def _load_relay(config: Config) -> None:
    """Import what relays need, so that no request waits for it, if `config` speaks of any."""
    for options in (config.route_defaults, *config.routes.values(), *config.patterns):
        if isinstance(options.websocket, RelaySettings):
            RelayPlan(options.websocket)
            return
