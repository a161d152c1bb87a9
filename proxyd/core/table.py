"""The route table: which route answers, and how the table changes.

Routes that changes bring come on top of the static ones and win; deleting one uncovers the static one below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from proxyd.core.changes import Change
from proxyd.core.prefix import PrefixTree
from proxyd.model.routes import Route, place_of


class Entry:
    """A route in the table, with what it gathers while it is there.

    `last_activity` counts seconds since the epoch. `resource` is what serves the route; whoever needs it
    first puts it there.
    """

    __slots__ = ("last_activity", "resource", "route")

    def __init__(self, route: Route, now: float) -> None:
        self.route = route
        self.last_activity = now
        self.resource: Any = None


_Place = tuple[str, tuple[str, ...]]


class RouteTable:
    """Host and path -> the entry of the route that answers. Every change is whole before the next look-up."""

    def __init__(self) -> None:
        self.revision = 0
        self._trees: dict[str, PrefixTree[Entry]] = {"": PrefixTree()}
        self._default = self._trees[""]
        self._static: dict[_Place, Route] = {}
        self._changing: dict[str, Route] = {}

    def __len__(self) -> int:
        return sum(map(len, self._trees.values()))

    def __iter__(self) -> Iterator[Entry]:
        """All entries that can answer."""
        for tree in self._trees.values():
            yield from tree

    def look_up(self, host: str, segments: tuple[str, ...]) -> Entry | None:
        """The entry with the longest matching prefix: of `host`, else of its wildcard, else of any host."""
        if len(self._trees) > 1 and host:
            for key in (host, "*." + host.partition(".")[2]):
                tree = self._trees.get(key)
                entry = tree.longest(segments) if tree is not None else None
                if entry is not None:
                    return entry
        return self._default.longest(segments)

    def get(self, key: str) -> Entry | None:
        """The entry of the route that is called exactly `key`."""
        route = self._changing.get(key)
        host, segments = place_of(key) if route is None else _place(route)
        tree = self._trees.get(host)
        entry = tree.get(segments) if tree is not None else None
        return entry if entry is not None and entry.route.key == key else None

    def apply(self, change: Change, now: float) -> None:
        """Carry a change out. A route that is put again is a new one: nothing it gathered stays."""
        self.revision = change.revision
        before = self._changing.pop(change.key, None)
        if change.route is not None:
            self._changing[change.key] = change.route
            self._set(change.route, now if change.last_activity is None else min(change.last_activity, now))
        if before is not None and (change.route is None or _place(before) != _place(change.route)):
            self._uncover(_place(before), now)

    def set_static(self, routes: Iterable[Route], now: float) -> None:
        """Replace the static routes; one that stays as it was keeps its entry."""
        before = self._static
        self._static = {_place(route): route for route in routes}
        covered = {_place(route) for route in self._changing.values()}
        for place in before.keys() | self._static.keys():
            if place not in covered and before.get(place) != self._static.get(place):
                self._uncover(place, now)

    def _set(self, route: Route, now: float) -> None:
        tree = self._trees.get(route.host)
        if tree is None:
            tree = self._trees[route.host] = PrefixTree()
        tree.set(route.segments, Entry(route, now))

    def _uncover(self, place: _Place, now: float) -> None:
        static = self._static.get(place)
        if static is not None:
            self._set(static, now)
            return
        host, segments = place
        tree = self._trees[host]
        tree.delete(segments)
        if host and not tree:
            del self._trees[host]


def _place(route: Route) -> _Place:
    return route.host, route.segments
