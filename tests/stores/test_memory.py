"""Tests of `proxyd.stores.memory`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock

from proxyd.core.changes import Change
from proxyd.interfaces import IRouteStore
from proxyd.stores.memory import MemoryRouteStore
from proxyd.testing import contracts


class CountingClock(Clock):
    """Writes down how many changes were `seen` whenever something shall be called later."""

    def __init__(self, seen: list[Change]) -> None:
        super().__init__()
        self.seen = seen
        self.told: list[int] = []

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> DelayedCall:  # noqa: A002
        self.told.append(len(self.seen))
        return super().callLater(delay, callable, *args, **kw)


class MemoryRouteStoreTests(contracts.RouteStoreContract):
    """The store in memory keeps the contract of stores."""

    def make_store(self) -> IRouteStore:
        """A fresh store."""
        return MemoryRouteStore(Clock())

    def test_very_many_are_replaced_turn_by_turn(self) -> None:
        """What is asked for meanwhile comes after it, and the watchers are told in that order."""
        seen: list[Change] = []
        clock = CountingClock(seen)
        store = MemoryRouteStore(clock)
        store.watch(0, seen.append)
        routes = [contracts.make_route(f"/{number}") for number in range(5000)]
        replaced, deleted, snapshot = store.replace(routes), store.delete("/7"), store.snapshot()
        clock.advance(0)
        self.assertEqual([0, 1000, 2000, 3000, 4000], list(dict.fromkeys(clock.told)))
        self.assertEqual((seen[:5000], seen[5000]), (self.successResultOf(replaced), self.successResultOf(deleted)))
        revision, left = self.successResultOf(snapshot)
        self.assertEqual((5001, 4999), (revision, len(left)))
        self.assertEqual(list(range(1, 5002)), [change.revision for change in seen])
