"""Composition root of the data path: from the configuration to listeners that serve routes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.web.resource import IResource

from proxyd.core.table import Entry, RouteTable
from proxyd.errors import ListenError, TlsError
from proxyd.http.accesslog import CombinedLog, JsonLog, Writer
from proxyd.http.errorpages import ErrorPages
from proxyd.http.errortarget import ErrorTarget
from proxyd.http.resources import ForwardResource
from proxyd.http.site import Site, TrustedProxies
from proxyd.http.tree import RouteTree
from proxyd.interfaces import IListener
from proxyd.kinds import Kinds
from proxyd.metrics.meters import Gauges, Uncounted
from proxyd.model.relay import RelaySettings
from proxyd.model.routes import DEFAULT_OPTIONS, over
from proxyd.model.settings import Config, ListenerConfig
from proxyd.model.tls import UpstreamTlsSettings
from proxyd.model.upstream import Upstream
from proxyd.net.deadlines import Deadlines
from proxyd.net.reactor import DataPathReactor
from proxyd.net.resolver import Resolver
from proxyd.system.activation import InheritedSockets
from proxyd.upstream.dialing import Dialer
from proxyd.upstream.pools import Pools
from proxyd.websocket.relay import RelayPlan
from proxyd.workers.drain import Drain

# How often is looked whether a certificate has changed; each look costs a few calls of `stat`.
_CERTIFICATE_LOOK_SECONDS = 5.0


class DataPath:
    """Everything between the clients and the upstreams of one process.

    `table` is where routes come from; whoever owns it changes it. `access_writer` None: no access log.
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
    ) -> None:
        self._config = config
        self._kinds = kinds
        self._main = main_reactor
        self._certificate_look: LoopingCall | None = None
        self.table = table
        self.reactor = DataPathReactor(main_reactor)
        self.deadlines = Deadlines(self.reactor)
        dialer = Dialer(self.reactor, Resolver(main_reactor))
        self.pools = Pools(dialer, self.deadlines, config.pool, config.limits, meters)
        self._defaults = over(config.route_defaults, DEFAULT_OPTIONS)
        access_log = None
        if access_writer is not None and config.log.access != "off":
            kind = JsonLog if config.log.access == "json" else CombinedLog
            access_log = kind(access_writer, self.deadlines.seconds)
        self._access_log = access_log
        self._meters = meters
        self.tree = RouteTree(
            table,
            self._build_resource,
            live=config.health.live,
            ready=config.health.ready,
            lenient=config.limits.target == "lenient",
            meters=meters,
        )
        self.sites: list[Site] = []
        self._drain = Drain(self.sites, main_reactor, self.deadlines)
        self.listeners: list[IListener] = [self._make_listener(section) for section in config.listeners]

    def make_site(self, root: IResource | None = None, *, logs_access: bool = True) -> Site:
        """A site with the limits, deadlines and error pages of the configuration; without a `root`, for the routes."""
        config = self._config
        site = Site(
            self.tree if root is None else root,
            clock=self.reactor,
            deadlines=self.deadlines,
            timeouts=config.timeouts,
            limits=config.limits,
            long_line_status=431 if config.errors.statuses == "chp" else 414,
            trusted=TrustedProxies(config.trusted_proxies),
            error_pages=self._error_pages(),
            access_log=self._access_log if logs_access else None,
            meters=self._meters if logs_access else None,
        )
        self.sites.append(site)
        return site

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

    def _build_resource(self, entry: Entry) -> ForwardResource:
        route = entry.route
        options = over(route.options, self._defaults)
        pool = self.pools.of(route.upstream, options.upstream_tls)
        traces = self._config.log.level == "debug"
        return ForwardResource(route, options, pool, self._config.timeouts, traces=traces)

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
            idle_upstream_connections=self.pools.idle,
            received=sum(request.body_received for request in requests) + sum(tunnel.to_upstream for tunnel in tunnels),
            sent=sum(request.body_sent for request in requests) + sum(tunnel.to_client for tunnel in tunnels),
        )

    def open(self, inherited: InheritedSockets | None = None) -> None:
        """Open the listeners, all or none; those that have an inherited socket use that one.

        Raises `ListenError`, and `TlsError` for a file of TLS, those for upstreams included.
        """
        self._check_upstream_tls()
        self._load_relay()
        if inherited is not None:
            for listener in self.listeners:
                listener.inherit(inherited)
            inherited.close()
        try:
            for listener in self.listeners:
                listener.open()
        except (ListenError, TlsError):
            self.stop_listening()
            raise
        self._certificate_look = LoopingCall(self.refresh_tls, force=False)
        self._certificate_look.clock = self._main
        self._certificate_look.start(_CERTIFICATE_LOOK_SECONDS, now=False)

    def _check_upstream_tls(self) -> None:
        """Try what the configuration says, so that a mistake does not wait for the first request."""
        default = self._defaults.upstream_tls or UpstreamTlsSettings()
        own = (spec.upstream_tls for spec in self._config.routes.values())
        for settings in {default, *(over(settings, default) for settings in own if settings)} - {UpstreamTlsSettings()}:
            self.pools.contexts.of(settings)

    def _load_relay(self) -> None:
        """Import what relays need, so that no request waits for it, if the file speaks of any."""
        for options in (self._defaults, *self._config.routes.values()):
            if isinstance(options.websocket, RelaySettings):
                RelayPlan(options.websocket)
                return

    def refresh_tls(self, *, force: bool) -> bool:
        """Read certificates and keys again if they have changed; with `force` in any case, those for upstreams too.

        False: some could not be used, and stay as they were.
        """
        if force:
            self.pools.refresh_tls()
        good = [listener.refresh(force=force) for listener in self.listeners]
        return all(good)

    def certificates(self) -> list[tuple[str, float]]:
        """The names that are served over TLS, and when the certificate of each ends, in seconds since the epoch."""
        return [certificate for listener in self.listeners for certificate in listener.certificates()]

    def stop_listening(self) -> Deferred[None]:
        """Take no new clients; those that are there may go on."""
        closing = DeferredList([listener.close() for listener in self.listeners])
        return closing.addCallback(lambda _: None)

    def announce_end(self, seconds: float) -> Deferred[None]:
        """Serve everybody for `seconds` more, while readiness says that the end is near."""
        return self._drain.announce(seconds)

    def drain(self, seconds: float) -> Deferred[None]:
        """Finish what is being served; fires when all is over, or after `seconds`."""
        return self._drain.finish(seconds)

    def hurry(self) -> None:
        """End a drain that is going on."""
        self._drain.hurry()

    def close(self) -> None:
        """Cut what is left."""
        if self._certificate_look is not None and self._certificate_look.running:
            self._certificate_look.stop()
        self.stop_listening()
        self.pools.close()
        self.reactor.close()
        self.deadlines.close()
