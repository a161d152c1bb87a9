"""The route table: which route answers, and how the table changes.

Routes that changes bring come on top of the static ones and win; deleting one uncovers the static one below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
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

# So much of a rebuilding is one step: 2 ms on a machine of 2026.
_ROUTES_A_STEP = 1000


class RouteTable:
    """Host and path -> the entry of the route that answers. Every change is whole before the next look-up.

    `revision` is that of the store, `version` counts what happened to the table of this process, static routes
    included.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.version = 0
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

    @property
    def static(self) -> Iterable[Route]:
        """The static routes, those included that others cover."""
        return self._static.values()

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
        entry = self._at(place_of(key) if route is None else _place(route))
        return entry if entry is not None and entry.route.key == key else None

    @property
    def posted_routes(self) -> list[Route]:
        """All routes that changes brought."""
        return list(self._changing.values())

    def posted(self, key: str) -> Route | None:
        """The route that a change brought under this key; a static one is none."""
        return self._changing.get(key)

    def apply(self, change: Change, now: float) -> None:
        """Carry a change out. A route that is put again is a new one: nothing it gathered stays."""
        self.revision = change.revision
        self.version += 1
        before = self._changing.pop(change.key, None)
        place = None
        if change.route is not None:
            self._changing[change.key] = change.route
            place = _place(change.route)
            moment = now if change.last_activity is None else min(change.last_activity, now)
            _set(self._trees, place, Entry(change.route, moment))
        if before is not None and (place_before := _place(before)) != place:
            self._uncover(place_before, now)

    def rebuild(self, changes: Sequence[Change], now: float) -> Iterator[None]:
        """Carry many changes out at once: aside, all of them in force at one step of this iterator.

        Before it the table answers as it did, and nothing but `set_static` may change it; what was there is let go
        of in the steps behind it.
        """
        changing = dict(self._changing)
        times: dict[str, float] = {}
        for index, change in enumerate(changes):
            if index % _ROUTES_A_STEP == 0:
                yield
            changing.pop(change.key, None)
            if change.route is not None:
                changing[change.key] = change.route
                times[change.key] = now if change.last_activity is None else min(change.last_activity, now)
        trees: dict[str, PrefixTree[Entry]] = {"": PrefixTree()}
        for index, route in enumerate(changing.values()):
            if index % _ROUTES_A_STEP == 0:
                yield
            place = _place(route)
            entry = self._at(place) if route.key not in times else None
            _set(trees, place, entry or Entry(route, times[route.key]))
        for place, route in self._static.items():
            if _get(trees, place) is None:
                entry = self._at(place)
                is_kept = entry is not None and entry.route == route and self.posted(entry.route.key) is None
                _set(trees, place, entry if entry is not None and is_kept else Entry(route, now))
        retired = self._trees.values()
        self._trees, self._default, self._changing = trees, trees[""], changing
        self.version += len(changes)
        if changes:
            self.revision = changes[-1].revision
        # To let go of 100,000 routes takes a while as well.
        for index, _ in enumerate(chain.from_iterable(tree.drain() for tree in retired)):
            if index % _ROUTES_A_STEP == 0:
                yield

    def set_static(self, routes: Iterable[Route], now: float) -> None:
        """Replace the static routes; one that stays as it was keeps its entry."""
        self.version += 1
        before = self._static
        places = {id(route): place for place, route in before.items()}
        self._static = {places.get(id(route)) or _place(route): route for route in routes}
        for place in before.keys() | self._static.keys():
            old, new = before.get(place), self._static.get(place)
            # Of 100,000 routes most are the same objects, and need not be compared.
            if old is not new and old != new and not self._is_covered(place):
                self._uncover(place, now)

    def _is_covered(self, place: _Place) -> bool:
        """Whether a route that a change brought answers there."""
        entry = self._at(place)
        return entry is not None and self._changing.get(entry.route.key) is entry.route

    def _at(self, place: _Place) -> Entry | None:
        return _get(self._trees, place)

    def _uncover(self, place: _Place, now: float) -> None:
        static = self._static.get(place)
        if static is not None:
            _set(self._trees, place, Entry(static, now))
            return
        host, segments = place
        tree = self._trees[host]
        tree.delete(segments)
        if host and not tree:
            del self._trees[host]


def _place(route: Route) -> _Place:
    return route.host, route.segments


def _get(trees: dict[str, PrefixTree[Entry]], place: _Place) -> Entry | None:
    host, segments = place
    tree = trees.get(host)
    return tree.get(segments) if tree is not None else None


def _set(trees: dict[str, PrefixTree[Entry]], place: _Place, entry: Entry) -> None:
    host, segments = place
    tree = trees.get(host)
    if tree is None:
        tree = trees[host] = PrefixTree()
    tree.set(segments, entry)
