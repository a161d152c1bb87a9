"""From a route store to the route table: every change at once, and very many without a pause of the traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.task import deferLater

from proxyd.core.changes import Change
from proxyd.core.table import Entry, RouteTable
from proxyd.model.routes import Route

# More changes than that are brought in beside the traffic. Below, it is over within some milliseconds.
_CHANGES_A_TURN = 1000


class TableListener(Protocol):
    """Whoever wants to know what has become of the table."""

    def route_changed(self, change: Change, before: Entry | None, after: Entry | None) -> None:
        """A change is in the table; these are what the API has and had under its key."""

    def table_replaced(self) -> None:
        """So much has changed at once that nobody is told what."""


class TableFeed:
    """Brings the changes of a store into `table`; `clock` has `callLater`, and `seconds` are those of the epoch.

    It is told of them by `take`, which is what watches the store.
    """

    def __init__(self, table: RouteTable, clock: Any, seconds: Callable[[], float]) -> None:
        self.table = table
        self.listeners: list[TableListener] = []
        self._clock = clock
        self._seconds = seconds
        self._held: list[Change] | None = None

    def take(self, change: Change) -> None:
        """Bring a change into the table, unless changes are held."""
        if self._held is not None:
            self._held.append(change)
        else:
            self._bring(change)

    def _bring(self, change: Change) -> None:
        key = change.key
        before = self.table.get(key) if self.listeners else None
        self.table.apply(change, self._seconds())
        for listener in self.listeners:
            listener.route_changed(change, before, self.table.get(key))

    def set_static(self, routes: Iterable[Route]) -> None:
        """Replace the static routes."""
        self.table.set_static(routes, self._seconds())
        for listener in self.listeners:
            listener.table_replaced()

    def hold(self) -> None:
        """Keep what comes until `release`."""
        self._held = []

    async def release(self) -> None:
        """Bring what was held into the table, all at one moment.

        What comes while that is prepared follows as soon as it is done.
        """
        held, self._held = self._held or [], []
        if len(held) <= _CHANGES_A_TURN:
            self._held = None
            for change in held:
                self._bring(change)
            return
        for _ in self.table.rebuild(held, self._seconds()):
            await deferLater(self._clock, 0)
        for listener in self.listeners:
            listener.table_replaced()
        later, self._held = self._held, None
        for change in later:
            self._bring(change)
