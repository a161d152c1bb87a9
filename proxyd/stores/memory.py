"""Kind `memory`: routes that live as long as the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from proxyd.core.changes import Change, replacements
from proxyd.interfaces import IRouteStore
from proxyd.kinds import Kind
from proxyd.model.routes import Route
from proxyd.model.settings import MemoryStoreConfig, StoreConfig


@implementer(IRouteStore)
class MemoryRouteStore:
    """Keeps routes in a dictionary, and tells its watchers of changes before it answers."""

    def __init__(self) -> None:
        self._revision = 0
        self._routes: dict[str, Route] = {}
        self._watchers: list[Callable[[Change], None]] = []

    def open(self) -> Deferred[None]:
        """Nothing has to be fetched."""
        return succeed(None)

    def close(self) -> None:
        """Nothing has to be ended."""

    def snapshot(self) -> Deferred[tuple[int, list[Route]]]:
        """All routes as they are now."""
        return succeed((self._revision, list(self._routes.values())))

    def watch(self, revision: int, changed: Callable[[Change], None]) -> Callable[[], None]:
        """Call `changed` for every change from now on; there are none to catch up with after a snapshot."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def put(self, route: Route) -> Deferred[Change]:
        """Create or replace a route."""
        return succeed(self._set(route.key, route))

    def delete(self, key: str) -> Deferred[Change | None]:
        """Delete a route."""
        return succeed(self._set(key, None) if key in self._routes else None)

    def replace(self, routes: Iterable[Route]) -> Deferred[list[Change]]:
        """Have exactly these routes."""
        after = {route.key: route for route in routes}
        first = self._revision + 1
        changes = [
            Change(revision, key, route)
            for revision, (key, route) in enumerate(replacements(self._routes, after.values()), first)
        ]
        self._routes = after
        self._revision += len(changes)
        for changed in self._watchers:
            for change in changes:
                changed(change)
        return succeed(changes)

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


KIND = Kind(StoreConfig, "memory", MemoryStoreConfig, lambda _config, _environment: MemoryRouteStore())
