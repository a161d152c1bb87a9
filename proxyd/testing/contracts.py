"""What every kind of a seam has to do: inherit from these, and say how to make one."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.core.changes import Change
from proxyd.interfaces import IRouteStore
from proxyd.model.routes import Route
from proxyd.model.upstream import Upstream


def make_route(key: str, url: str = "http://up.test") -> Route:
    """A route for tests."""
    return Route(key, Upstream.parse(url), tuple(key.strip("/").split("/")))


class RouteStoreContract(SynchronousTestCase):
    """What a route store promises. Import the module and not the class, or trial runs it by itself."""

    def make_store(self) -> Any:
        """A fresh store."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Make the store, and watch it from the beginning."""
        self.store = self.make_store()
        self.seen: list[Change] = []
        revision, _ = self.successResultOf(self.store.snapshot())
        self.stop = self.store.watch(revision, self.seen.append)

    def routes(self) -> dict[str, str]:
        """What the snapshot says: key -> URL."""
        _, routes = self.successResultOf(self.store.snapshot())
        return {route.key: route.upstream.url for route in routes}

    def test_it_is_a_store(self) -> None:
        """The interface is provided."""
        verifyObject(IRouteStore, self.store)

    def test_put_and_delete(self) -> None:
        """A route that is put is there, whole; one that is deleted is gone; to delete what is not there is None."""
        self.successResultOf(self.store.put(make_route("/a", "http://one")))
        self.successResultOf(self.store.put(make_route("/b")))
        self.successResultOf(self.store.put(make_route("/a", "http://two")))
        self.assertEqual({"/a": "http://two", "/b": "http://up.test"}, self.routes())
        change = self.successResultOf(self.store.delete("/a"))
        self.assertEqual(("/a", None), (change.key, change.route))
        self.assertEqual({"/b": "http://up.test"}, self.routes())
        self.assertIsNone(self.successResultOf(self.store.delete("/a")))

    def test_watchers_are_told_first(self) -> None:
        """When an answer comes, the watchers know already, in order and with rising revisions."""
        put = self.successResultOf(self.store.put(make_route("/a")))
        deleted = self.successResultOf(self.store.delete("/a"))
        self.assertEqual([put, deleted], self.seen)
        self.assertLess(put.revision, deleted.revision)
        revision, _ = self.successResultOf(self.store.snapshot())
        self.assertEqual(deleted.revision, revision)

    def test_watching_ends(self) -> None:
        """Who has stopped watching is not told."""
        self.stop()
        self.successResultOf(self.store.put(make_route("/a")))
        self.assertEqual([], self.seen)
