"""Kind `memory`: routes that live as long as the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.task import deferLater
from zope.interface import implementer

from proxyd.core.changes import Change, replacements
from proxyd.interfaces import IRouteStore
from proxyd.kinds import Kind
from proxyd.model.routes import Route
from proxyd.model.settings import MemoryStoreConfig, StoreConfig

# So many changes are told before the exchanges get their turn: 1 ms.
_CHANGES_A_TURN = 1000


@implementer(IRouteStore)
class MemoryRouteStore:
    """Keeps routes in a dictionary, and tells its watchers of changes before it answers; `clock` has `callLater`."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._turn = DeferredLock()
        self._revision = 0
        self._routes: dict[str, Route] = {}
        self._watchers: list[Callable[[Change], None]] = []

    def open(self) -> Deferred[None]:
        """Nothing has to be fetched."""
        return succeed(None)

    def close(self) -> None:
        """Nothing has to be ended."""

    def snapshot(self) -> Deferred[tuple[int, list[Route]]]:
        """All routes, as the watchers have been told."""
        return self._turn.run(lambda: (self._revision, list(self._routes.values())))

    def watch(self, revision: int, changed: Callable[[Change], None]) -> Callable[[], None]:
        """Call `changed` for every change from now on; there are none to catch up with after a snapshot."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def put(self, route: Route) -> Deferred[Change]:
        """Create or replace a route."""
        return self._turn.run(self._set, route.key, route)

    def delete(self, key: str) -> Deferred[Change | None]:
        """Delete a route."""
        return self._turn.run(lambda: self._set(key, None) if key in self._routes else None)

    def replace(self, routes: Iterable[Route]) -> Deferred[list[Change]]:
        """Have exactly these routes; other changes wait until all have been told."""
        return self._turn.run(lambda: Deferred.fromCoroutine(self._replace(routes)))

    async def _replace(self, routes: Iterable[Route]) -> list[Change]:
        after = {route.key: route for route in routes}
        changes: list[Change] = []
        for wanted in replacements(self._routes, after):
            if wanted is None:
                await deferLater(self._clock, 0)
            else:
                changes.append(Change(self._revision + len(changes) + 1, *wanted))
        self._routes = after
        self._revision += len(changes)
        for start in range(0, len(changes), _CHANGES_A_TURN):
            if start:
                await deferLater(self._clock, 0)
            for change in changes[start : start + _CHANGES_A_TURN]:
                for changed in self._watchers:
                    changed(change)
        return changes

    def _set(self, key: str, route: Route | None) -> Change:
        if route is None:
            del self._routes[key]
        else:
            self._routes[key] = route
        self._revision += 1
        change = Change(self._revision, key, route)
        for changed in self._watchers:
            changed(change)
        return change


KIND = Kind(StoreConfig, "memory", MemoryStoreConfig, lambda _config, environment: MemoryRouteStore(environment.clock))
