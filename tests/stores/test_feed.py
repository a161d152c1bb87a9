"""Tests of `proxyd.stores.feed`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.changes import Change
from proxyd.core.table import Entry, RouteTable
from proxyd.stores.feed import TableFeed
from proxyd.testing.contracts import make_route


class Listener:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def route_changed(self, change: Change, before: Entry | None, after: Entry | None) -> None:
        self.told.append((change.key, before is not None, after is not None))

    def table_replaced(self) -> None:
        self.told.append("replaced")


class TableFeedTests(SynchronousTestCase):
    """Changes on their way."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.table = RouteTable()
        self.listener = Listener()
        self.feed = TableFeed(self.table, self.clock, lambda: 5.0)
        self.feed.listeners.append(self.listener)

    def put(self, *keys: str) -> None:
        """Changes that bring routes."""
        for key in keys:
            self.feed.take(Change(self.table.revision + 1, key, make_route(key)))

    def keys(self) -> set[str]:
        return {entry.route.key for entry in self.table}

    def test_changes_are_there_at_once(self) -> None:
        """And whoever listens knows what has become of the route."""
        self.put("/a", "/a")
        self.feed.take(Change(3, "/a", None))
        self.assertEqual([("/a", False, True), ("/a", True, True), ("/a", True, False)], self.listener.told)
        entry = (self.put("/b"), self.table.get("/b"))[1]
        assert entry is not None
        self.assertEqual(5.0, entry.last_activity)

    def test_few_that_are_held(self) -> None:
        """Come all together, and each is told."""
        self.feed.hold()
        self.put("/a", "/b")
        self.assertEqual(set(), self.keys())
        done = Deferred.fromCoroutine(self.feed.release())
        self.successResultOf(done)
        self.assertEqual({"/a", "/b"}, self.keys())
        self.assertEqual(2, len(self.listener.told))
        self.put("/c")
        self.assertIn("/c", self.keys())

    def test_many_that_are_held(self) -> None:
        """Come at one moment as well; what comes while they are prepared follows them."""
        self.put("/old")
        self.feed.hold()
        for number in range(3000):
            self.feed.take(Change(10 + number, f"/{number}", make_route(f"/{number}")))
        done = Deferred.fromCoroutine(self.feed.release())
        self.assertNoResult(done)
        self.feed.take(Change(4000, "/1", None))
        self.assertEqual({"/old"}, self.keys())
        self.clock.advance(0)
        self.successResultOf(done)
        self.assertEqual((3000, False), (len(self.keys()), "/1" in self.keys()))
        self.assertEqual([("/old", False, True), "replaced", ("/1", True, False)], self.listener.told)

    def test_static_routes(self) -> None:
        """Are told of as well."""
        self.feed.set_static([make_route("/s")])
        self.assertEqual(({"/s"}, ["replaced"]), (self.keys(), self.listener.told))
