"""The routes of the API, when a reload changes what their keys and members mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from proxyd.core.changes import Change
from proxyd.core.posted import RouteReader
from proxyd.errors import ConfigError, Problem, RequestError
from proxyd.model.routes import Route

# Of more routes that cannot stay only their number is told.
_MAX_PROBLEMS = 20


class Rereading:
    """What becomes of the routes of the API when `reader` reads them, in place of the one that has."""

    def __init__(self, reader: RouteReader) -> None:
        self._reader = reader
        self._known: dict[str, _Pair] = {}

    def prepare(self, routes: Iterable[Route]) -> None:
        """Read all of them; what is there already is not read a second time.

        Raises `ConfigError` for those that cannot be read so.
        """
        problems: list[Problem] = []
        for route in routes:
            known = self._known.get(route.key)
            if known is not None and known.old is route:
                continue
            try:
                self._known[route.key] = _Pair.of(route, self._reader.read_again(route))
            except RequestError as error:
                problems.append(Problem(f"the route {route.key} of the API cannot stay: {error}"))
        if len(problems) > _MAX_PROBLEMS:
            more = len(problems) - _MAX_PROBLEMS
            problems[_MAX_PROBLEMS:] = [Problem(f"{more} more routes of the API cannot stay")]
        if problems:
            raise ConfigError(problems)

    def changes(
        self, routes: Iterable[Route], revision: int, last_activity: Callable[[str], float | None]
    ) -> list[Change]:
        """What has to change so that `routes`, which were prepared, are as this reader reads them.

        What moves goes first: another route may come to its place.
        """
        pairs = [pair for route in routes if (pair := self._known[route.key]).differs]
        return [
            *(Change(revision, pair.old.key, None) for pair in pairs if pair.moves),
            *(Change(revision, pair.old.key, pair.new, last_activity(pair.old.key)) for pair in pairs),
        ]


class _Pair(NamedTuple):
    """A route as it was read, and as it is read now; compared before the change, which nothing comes between."""

    old: Route
    new: Route
    differs: bool
    moves: bool

    @classmethod
    def of(cls, old: Route, new: Route) -> _Pair:
        moves = (old.host, old.segments) != (new.host, new.segments)
        return cls(old, new, moves or old != new, moves)
