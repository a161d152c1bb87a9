"""What every kind of a seam has to do: inherit from these, and say how to make one."""

from __future__ import annotations

from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.core.changes import Change
from proxyd.interfaces import IRouteStore
from proxyd.model.routes import Route, place_of
from proxyd.model.upstream import Upstream

T = TypeVar("T")


def make_route(key: str, url: str = "http://up.test") -> Route:
    """A route for tests."""
    return Route(key, Upstream.parse(url), place_of(key)[1])


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(("put", "delete", "replace")), st.sampled_from(("/", "/a", "/a/b", "/ä ?")), st.integers(0, 2)
    ),
    max_size=12,
)
"""What happens to a store: put, delete or replace by one route, the key, and the number of the upstream that is put."""


class RouteStoreContract(SynchronousTestCase):
    """What a route store promises. Import the module and not the class, or trial runs it by itself."""

    def make_store(self) -> Any:
        """A fresh store without any routes, not open yet."""
        raise NotImplementedError

    def advance(self) -> None:
        """Let the store do everything that it was asked for."""

    def setUp(self) -> None:
        """Make the store, open it, and watch it from the beginning."""
        self.store, self.seen = self.open_store()

    def open_store(self) -> tuple[Any, list[Change]]:
        """A fresh store that is open, and a list of the changes in it."""
        store = self.make_store()
        seen: list[Change] = []
        self.stop = store.watch(0, seen.append)
        self.result(store.open())
        self.addCleanup(store.close)
        return store, seen

    def result(self, asked: Deferred[T]) -> T:
        """What comes of it, by and by."""
        self.advance()
        return self.successResultOf(asked)

    def routes(self, store: Any = None) -> dict[str, str]:
        """What the snapshot says: key -> URL."""
        _, routes = self.result((store or self.store).snapshot())
        return {route.key: route.upstream.url for route in routes}

    def test_it_is_a_store(self) -> None:
        """The interface is provided."""
        verifyObject(IRouteStore, self.store)

    def test_put_and_delete(self) -> None:
        """A route that is put is there; one that is deleted is gone, and its parents and children are not."""
        for key in ("/a", "/a/b", "/a/b/c"):
            self.result(self.store.put(make_route(key)))
        change = self.result(self.store.delete("/a/b"))
        self.assertEqual(("/a/b", None), (change.key, change.route))
        self.assertEqual({"/a", "/a/b/c"}, set(self.routes()))

    def test_delete_of_the_unknown(self) -> None:
        """It is None, and no change."""
        self.assertIsNone(self.result(self.store.delete("/a")))
        self.result(self.store.put(make_route("/a")))
        self.result(self.store.delete("/a"))
        self.assertIsNone(self.result(self.store.delete("/a")))
        self.assertEqual(2, len(self.seen))

    def test_replaced_entirely(self) -> None:
        """Nothing is left of a route that was put before, and the route that comes out is the one that went in."""
        before = Route.told("/a", '{"target": "http://one", "x": 1}')
        after = Route.told("/a", '{"target": "http://two", "y": 2}')
        self.result(self.store.put(before))
        change = self.result(self.store.put(after))
        self.assertEqual(after, change.route)
        self.assertEqual([after], self.result(self.store.snapshot())[1])

    def test_all_replaced_at_once(self) -> None:
        """Afterwards there are exactly these routes; what stays as it was is no change."""
        for key in ("/gone", "/kept", "/other"):
            self.result(self.store.put(make_route(key)))
        before = len(self.seen)
        wanted = [make_route("/kept"), make_route("/other", "http://other"), make_route("/new")]
        changes = self.result(self.store.replace(wanted))
        self.assertEqual(changes, self.seen[before:])
        self.assertEqual(
            {"/gone": None, "/other": wanted[1], "/new": wanted[2]}, {change.key: change.route for change in changes}
        )
        self.assertEqual({route.key: route.upstream.url for route in wanted}, self.routes())
        self.assertEqual([], self.result(self.store.replace(wanted)))
        self.result(self.store.replace([]))
        self.assertEqual({}, self.routes())

    def test_watchers_are_told_first(self) -> None:
        """When an answer comes, the watchers know already, in order and with rising revisions."""
        put = self.result(self.store.put(make_route("/a")))
        self.assertEqual([put], self.seen)
        deleted = self.result(self.store.delete("/a"))
        self.assertEqual([put, deleted], self.seen)
        self.assertLess(put.revision, deleted.revision)
        self.assertEqual(deleted.revision, self.result(self.store.snapshot())[0])

    def test_changes_keep_their_order(self) -> None:
        """Who does not wait for the answer before the next change gets the last one in the end."""
        asked = [self.store.put(make_route("/a", f"http://h{number}")) for number in range(3)]
        asked += [self.store.delete("/a"), self.store.put(make_route("/a", "http://last"))]
        for each in asked:
            self.result(each)
        self.assertEqual({"/a": "http://last"}, self.routes())
        self.assertEqual(
            ["http://h0", "http://h1", "http://h2", None, "http://last"],
            [change.route and change.route.upstream.url for change in self.seen],
        )

    def test_watching_ends(self) -> None:
        """Who has stopped watching is not told."""
        self.stop()
        self.result(self.store.put(make_route("/a")))
        self.assertEqual([], self.seen)

    @settings(deadline=None)  # a disk takes its time
    @given(OPERATIONS)
    def test_it_is_a_dictionary(self, operations: list[tuple[str, str, int]]) -> None:
        """Whatever happens, it holds what a dictionary would, and so does whoever follows its changes."""
        store, seen = self.open_store()
        model: dict[str, str] = {}
        for operation, key, number in operations:
            if operation == "put":
                model[key] = f"http://h{number}"
                self.result(store.put(make_route(key, model[key])))
            elif operation == "replace":
                model = {key: f"http://h{number}"}
                self.result(store.replace([make_route(key, model[key])]))
            else:
                was_there = model.pop(key, None) is not None
                self.assertEqual(was_there, self.result(store.delete(key)) is not None)
            self.assertEqual(model, self.routes(store))
        replica: dict[str, str] = {}
        for change in seen:
            if change.route is None:
                del replica[change.key]
            else:
                replica[change.key] = change.route.upstream.url
        self.assertEqual(model, replica)
        revisions = [change.revision for change in seen]
        self.assertEqual(sorted(set(revisions)), revisions)
