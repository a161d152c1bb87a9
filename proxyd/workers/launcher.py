"""The pages of the proxy's own, as the configuration of the moment has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from proxyd.core.landing import landing_path
from proxyd.core.table import RouteTable
from proxyd.core.target import decode_path, key_of
from proxyd.http.launcher import LauncherResource, StartPage
from proxyd.http.serverlog import ServerLogs, ServerStates
from proxyd.http.serverpages import ServerPages
from proxyd.http.streaming import StreamingResource
from proxyd.http.tree import Rank, RouteTree
from proxyd.http.wrapped import LandingResource, NothingResource
from proxyd.interfaces import IServerSupervisor
from proxyd.model.routes import Route
from proxyd.model.settings import Config
from proxyd.workers.guards import Guards

# Of more routes there are no cards: nobody looks through them, and most likely each is somebody's own.
MAX_ROUTES = 200
_LAUNCHER = "server-proxy"


class Launcher:
    """Keeps the start page, and `server-proxy/` beside it, on `tree`; `table` has the routes.

    `wall_clock` is that of `ServerStatus`; `clock` has `callLater` and `seconds`. `pages` are those of servers that
    are not ready.
    """

    def __init__(
        self,
        tree: RouteTree,
        table: RouteTable,
        supervisor: IServerSupervisor,
        *,
        clock: Any,
        wall_clock: Callable[[], float],
    ) -> None:
        self._tree = tree
        self._table = table
        self._supervisor = supervisor
        self._states = ServerStates(supervisor, clock)
        self._logs = ServerLogs(supervisor, clock)
        self._mounted: list[tuple[tuple[str, ...], Rank]] = []
        self.pages = ServerPages(supervisor, self._logs, wall_clock=wall_clock)

    def apply(self, config: Config, guards: Guards) -> None:
        """Serve what `config` says from now on; streams end, and come back if they still may."""
        self._states.streams.end()
        self._logs.streams.end()
        self.pages.configure(base_url=config.base_url, is_enabled=config.start_page)
        tree, base_url = self._tree, config.base_url
        for place, rank in self._mounted:
            tree.unmount(place, rank)
        self._mounted = []
        base = key_of(decode_path(base_url.encode()))
        launcher = (*base, _LAUNCHER)
        if config.root_server:  # everything else of that is the server's own
            launcher = (*launcher, "log", *config.root_server.split("/"))

        def mount(place: tuple[str, ...], resource: StreamingResource, rank: Rank) -> None:
            tree.mount(place, guards.guard_mounted(place, resource), rank)
            self._mounted.append((place, rank))

        if config.auth.asks_hub and not config.root_server:
            # What a Hub asks before it sends anybody is answered by the login.
            mount((*base, "api"), NothingResource(), Rank.BUILT_IN)
        has_ports = config.ports.enabled
        has_more = has_ports or bool(config.servers)
        if has_more:
            resource = LauncherResource(
                self._supervisor, self._states, self._logs, base_url=base_url, has_ports=has_ports
            )
            mount(launcher, resource, Rank.BUILT_IN)
        landing = landing_path(base_url, config.default_url)
        if landing and not config.root_server:
            mount(base, LandingResource(landing), Rank.PAGE)
        elif config.start_page and not config.root_server:
            page = StartPage(
                self._supervisor, self._routes, base_url=base_url, has_ports=has_ports, is_last=not has_more
            )
            mount(base, page, Rank.PAGE if has_more else Rank.LAST_PAGE)

    def close(self) -> None:
        """End all streams; there will be no others."""
        self._states.streams.close()
        self._logs.streams.close()

    def _routes(self) -> Iterable[Route]:
        """The routes that may have a card: all, or, if there are many, none of the API."""
        if len(self._table) <= MAX_ROUTES:
            return [entry.route for entry in self._table]
        return islice(self._table.static, MAX_ROUTES)
