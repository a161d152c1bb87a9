"""The REST API as a whole: which functions there are, and what another configuration changes in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from proxyd.api.description import DescriptionApi
from proxyd.api.events import Events
from proxyd.api.metrics import MetricsApi
from proxyd.api.native import NativeRoutesApi
from proxyd.api.reload import ReloadApi
from proxyd.api.resource import ApiResource, Function
from proxyd.api.router import Router
from proxyd.api.routes import RoutesApi
from proxyd.api.servers import ServersApi
from proxyd.api.tags import Tags
from proxyd.api.turns import Turns
from proxyd.core.posted import RouteReader
from proxyd.core.reload import Report
from proxyd.http.serverlog import ServerLogs
from proxyd.interfaces import IRouteStore, IServerSupervisor
from proxyd.kinds import Kinds
from proxyd.metrics.exposition import Exposition
from proxyd.model.settings import Config
from proxyd.stores.feed import TableFeed

T = TypeVar("T")


class RestApi:
    """What `root` serves to whoever knows one of `tokens`.

    With `is_chp` it is the API of configurable-http-proxy and nothing else. `clock` has `callLater`; `exposition`
    None: the numbers are somewhere else, or there are none; `count` is that of `MetricsApi`.
    """

    def __init__(
        self,
        config: Config,
        tokens: tuple[str, ...],
        kinds: Kinds,
        clock: Any,
        *,
        is_chp: bool,
        feed: TableFeed,
        store: IRouteStore,
        reader: RouteReader,
        reload: Callable[[], Awaitable[Report]],
        supervisor: IServerSupervisor | None = None,
        exposition: Exposition | None = None,
        count: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._limits = config.limits
        self._kinds = kinds
        self._clock = clock
        self._feed = feed
        self._store = store
        self._reader = reader
        self._reload = reload
        self._supervisor = supervisor
        self._base_url = config.base_url
        self._metrics = MetricsApi(exposition, count) if exposition is not None else None
        self._turns = Turns()
        self._events: Events | None = None
        self._servers: ServersApi | None = None
        self._streams: list[Events | ServersApi] = []
        self._is_chp = is_chp
        self._routes = self._make_routes()
        self.root = ApiResource(type(self._routes).router, self._routes, tokens, is_chp=is_chp)
        self._serve()

    def _make_routes(self) -> RoutesApi:
        feed, limits = self._feed, self._limits
        if self._is_chp:
            return RoutesApi(
                feed.table,
                self._store,
                self._clock,
                reader=self._reader,
                max_body=limits.api_body,
                max_path=limits.route_path,
                turns=self._turns,
            )
        self._tags = Tags(feed.table)
        return NativeRoutesApi(
            feed, self._store, self._clock, reader=self._reader, tags=self._tags, limits=limits, turns=self._turns
        )

    def _serve(self) -> None:
        """Serve what there is, in place of what was there; streams end."""
        self.end_streams()
        self._servers = None
        feed = self._feed
        if self._events is not None:
            feed.listeners.remove(self._events)
            self._events = None
        parts: list[tuple[Router[Function], object]] = [(type(self._routes).router, self._routes)]
        if not self._is_chp:
            parts.append((DescriptionApi.router, DescriptionApi(self._kinds)))
            parts.append((ReloadApi.router, ReloadApi(self._reload)))
            events = self._events = Events(self._tags, self._clock)
            feed.listeners.append(events)
            self._streams.append(events)
            parts.append((Events.router, events))
            if self._supervisor is not None:
                logs = ServerLogs(self._supervisor, self._clock)
                servers = self._servers = ServersApi(self._supervisor, logs, self._base_url)
                self._streams.append(servers)
                parts.append((ServersApi.router, servers))
        self._parts = parts
        self._serve_with_metrics()

    def _serve_with_metrics(self) -> None:
        metrics = [(MetricsApi.router, self._metrics)] if self._metrics is not None else []
        self.root.serve([*self._parts, *metrics], is_chp=self._is_chp)

    def show(self, exposition: Exposition | None, count: Callable[[], Awaitable[None]] | None) -> None:
        """Show these numbers from now on, or none."""
        self._metrics = MetricsApi(exposition, count) if exposition is not None else None
        self._serve_with_metrics()

    def become(self, *, is_chp: bool) -> None:
        """Be the whole API from now on, or that of configurable-http-proxy; calls that are under way go on."""
        if is_chp != self._is_chp:
            self._is_chp = is_chp
            self._routes = self._make_routes()
            self._serve()

    async def alone(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` while nobody changes routes."""
        return await self._turns.run(work, alone=True)

    def take(self, config: Config, tokens: tuple[str, ...] | None) -> None:
        """Have the limits and `base_url` of `config` from now on, and other tokens unless they are None."""
        limits = config.limits
        self._limits, self._base_url = limits, config.base_url
        if self._servers is not None:
            self._servers.base_url = config.base_url
        if tokens is not None:
            self.root.accept(tokens)
        self._routes.max_body = limits.api_body
        self._routes.max_path = limits.route_path
        if isinstance(self._routes, NativeRoutesApi):
            self._routes.max_bulk_body = limits.api_bulk_body

    def end_streams(self) -> None:
        """End what would go on for as long as somebody listens."""
        streams, self._streams = self._streams, []
        for each in streams:
            each.close()
