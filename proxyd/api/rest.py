"""The REST API as a whole: which functions there are, and what another configuration changes in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from proxyd.api.description import DescriptionApi
from proxyd.api.events import Events
from proxyd.api.metrics import MetricsApi
from proxyd.api.native import NativeRoutesApi
from proxyd.api.reload import ReloadApi
from proxyd.api.resource import ApiResource
from proxyd.api.routes import RoutesApi
from proxyd.api.servers import ServersApi
from proxyd.api.tags import Tags
from proxyd.core.posted import RouteReader
from proxyd.core.reload import Report
from proxyd.http.serverlog import ServerLogs
from proxyd.interfaces import IRouteStore, IServerSupervisor
from proxyd.kinds import Kinds
from proxyd.metrics.exposition import Exposition
from proxyd.model.settings import Config, Limits
from proxyd.stores.feed import TableFeed


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
        limits = config.limits
        self._streams: list[Events | ServersApi] = []
        self._routes: RoutesApi
        if is_chp:
            self._routes = RoutesApi(
                feed.table, store, clock, reader=reader, max_body=limits.api_body, max_path=limits.route_path
            )
            self.root = ApiResource(RoutesApi.router, self._routes, tokens, is_chp=True)
        else:
            tags = Tags(feed.table)
            self._routes = NativeRoutesApi(feed, store, clock, reader=reader, tags=tags, limits=limits)
            self.root = ApiResource(NativeRoutesApi.router, self._routes, tokens)
            self.root.add(DescriptionApi.router, DescriptionApi(kinds))
            self.root.add(ReloadApi.router, ReloadApi(reload))
            events = Events(tags, clock)
            feed.listeners.append(events)
            self._streams.append(events)
            self.root.add(Events.router, events)
            if supervisor is not None:
                servers = ServersApi(supervisor, ServerLogs(supervisor, clock), config.base_url)
                self._streams.append(servers)
                self.root.add(ServersApi.router, servers)
        if exposition is not None:
            self.root.add(MetricsApi.router, MetricsApi(exposition, count))

    def take(self, limits: Limits, tokens: tuple[str, ...] | None) -> None:
        """Have other limits from now on, and other tokens unless they are None."""
        if tokens is not None:
            self.root.accept(tokens)
        self._routes.max_body = limits.api_body
        self._routes.max_path = limits.route_path
        if isinstance(self._routes, NativeRoutesApi):
            self._routes.max_bulk_body = limits.api_bulk_body

    def end_streams(self) -> None:
        """End what would go on for as long as somebody listens."""
        for streams in self._streams:
            streams.close()
