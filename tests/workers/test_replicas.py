"""Tests of `proxyd.workers.replicas`: what is changed in the controller is in the tables of workers when it is done."""

from __future__ import annotations

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.changes import Change
from proxyd.core.table import RouteTable
from proxyd.model.routes import Route, place_of
from proxyd.model.upstream import Upstream
from proxyd.stores.memory import MemoryRouteStore
from proxyd.testing import contracts
from proxyd.workers.replicas import ReplicatedFeed, ReplicatedStore, RouteReplica
from tests.workers.links import Links


def route(key: str, url: str = "http://a.test") -> Route:
    """A route with nothing but a target."""
    return Route(key, Upstream.parse(url), place_of(key)[1])


class Workers:
    """Two workers in memory, as followers of a feed."""

    def __init__(self, clock: Clock) -> None:
        self.tables: list[RouteTable] = []
        self.links: list[Links] = []
        self._clock = clock
        self.members: list[Links] = []

    def add(self, feed: ReplicatedFeed) -> RouteTable:
        """One more."""
        table = RouteTable()
        replica = RouteReplica(table, self._clock)
        links = Links(self._clock).connect()
        links.answers = {
            "change": replica.change,
            "hold": lambda _: replica.hold(),
            "release": lambda _: replica.release(),
            "settle": lambda _: replica.settled(),
        }
        self.links.append(links)
        feed.join(links.controller, lambda: self.members.append(links))
        return table

    def tell(self, name: str, content: object = None) -> None:
        for links in self.members:
            links.controller.tell(name, content)

    def settled(self) -> Deferred[None]:
        waiting = [links.controller.ask("settle") for links in self.members]
        return DeferredList(waiting, consumeErrors=True).addCallback(lambda _: None)

    def pump(self) -> None:
        for links in self.links:
            links.pump()


class ReplicasTests(SynchronousTestCase):
    """A store, the controller's table, and those of two workers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.workers = Workers(self.clock)
        self.feed = ReplicatedFeed(RouteTable(), self.clock, lambda: 5.0)
        self.feed.followers = self.workers
        memory = MemoryRouteStore(self.clock)
        memory.watch(0, self.feed.take)
        self.store = ReplicatedStore(memory, self.workers)

    def keys(self, table: RouteTable) -> dict[str, str]:
        return {entry.route.key: entry.route.upstream.url for entry in table}

    def test_a_change_is_everywhere_when_it_is_done(self) -> None:
        """Nobody gets an answer before the last worker has it."""
        tables = [self.workers.add(self.feed) for _ in range(2)]
        put = self.store.put(route("/a"))
        self.workers.links[0].pump()
        self.assertEqual(self.keys(tables[0]), {"/a": "http://a.test"})
        self.assertNoResult(put)
        self.workers.pump()
        self.assertEqual(self.successResultOf(put).key, "/a")
        self.assertEqual(self.keys(tables[1]), {"/a": "http://a.test"})
        deleted = self.store.delete("/a")
        self.assertNoResult(deleted)
        self.workers.pump()
        self.assertEqual(self.successResultOf(deleted), Change(2, "/a", None))
        self.assertEqual([self.keys(table) for table in tables], [{}, {}])
        self.assertIsNone(self.successResultOf(self.store.delete("/a")))

    def test_a_worker_that_comes_later_has_everything(self) -> None:
        """What was there, in one step, and what changes while that is on its way."""
        for number in range(3000):
            self.store.put(route(f"/{number}"))
        table = self.workers.add(self.feed)
        put = self.store.put(route("/0", "http://b.test"))
        self.workers.pump()
        self.successResultOf(put)
        self.assertEqual(self.keys(table), self.keys(self.feed.table))
        self.assertEqual(len(table), 3000)
        self.assertEqual({entry.last_activity for entry in table}, {0.0})

    def test_replacements_right_after_each_other(self) -> None:
        """A worker that brings all routes in does so before it takes what is told next, and loses nothing."""
        replica = RouteReplica(RouteTable(), self.clock)
        replica.hold()
        for number in range(3000):
            replica.change(Change(number, f"/{number}", route(f"/{number}")))
        replica.release()
        for name in ("a", "b"):
            replica.change(Change(1, f"/{name}-before", route(f"/{name}-before")))
            replica.hold()
            for number in range(2000):
                replica.change(Change(1, f"/{name}{number}", route(f"/{name}{number}")))
            replica.release()
        settled = replica.settled()
        self.assertNoResult(settled)
        for _ in range(1000):
            self.clock.advance(0)
        self.successResultOf(settled)
        self.assertEqual(len(replica.feed.table), 3000 + 2 + 4000)

    def test_a_lost_worker_is_not_waited_for(self) -> None:
        """Its replacement gets what it has missed."""
        self.workers.add(self.feed)
        put = self.store.put(route("/a"))
        self.workers.links[0].cut()
        self.successResultOf(put)

    def test_a_replacement_is_one_moment_in_each_table(self) -> None:
        """While it is brought in, a worker answers as before; who replaces waits for all of them."""
        tables = [self.workers.add(self.feed) for _ in range(2)]
        put = self.store.put(route("/old"))
        self.workers.pump()
        self.successResultOf(put)
        sizes: set[int] = set()

        async def replace() -> None:
            self.feed.hold()
            await self.store.replace([route(f"/{number}") for number in range(5000)])
            await self.feed.release()

        done = Deferred.fromCoroutine(replace())
        for _ in range(10_000):
            if done.called:
                break
            self.clock.advance(0)
            for links in self.workers.links:
                links.carry(links.to_worker, links.worker)
                links.carry(links.to_controller, links.controller)
                sizes |= {len(table) for table in tables}
        self.successResultOf(done)
        self.assertEqual(sizes, {1, 5000})
        self.assertEqual([self.keys(table) for table in tables], [self.keys(self.feed.table)] * 2)

    def test_a_worker_that_comes_during_a_replacement_waits_for_its_end(self) -> None:
        """It gets all routes of then, once."""
        self.feed.hold()
        table = self.workers.add(self.feed)
        self.assertEqual(self.workers.members, [])
        self.successResultOf(self.store.replace([route("/a"), route("/b")]))
        released = Deferred.fromCoroutine(self.feed.release())
        self.workers.pump()
        self.successResultOf(released)
        self.assertEqual(len(self.workers.members), 1)
        self.assertEqual(sorted(self.keys(table)), ["/a", "/b"])


class ReplicatedStoreTests(contracts.RouteStoreContract):
    """It is a store like others, with workers that have to be waited for."""

    def make_store(self) -> ReplicatedStore:
        clock = self.clock = Clock()
        workers = self.workers = Workers(clock)
        feed = ReplicatedFeed(RouteTable(), clock, lambda: 5.0)
        feed.followers = workers
        memory = MemoryRouteStore(clock)
        memory.watch(0, feed.take)
        workers.add(feed)
        workers.pump()
        return ReplicatedStore(memory, workers)

    def advance(self) -> None:
        self.clock.pump([0] * 20)
        self.workers.pump()
