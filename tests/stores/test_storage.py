"""Tests of `proxyd.stores.storage`."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.core.posted import RouteReader
from proxyd.core.table import RouteTable
from proxyd.errors import OptionError, StoreError
from proxyd.interfaces import IRouteStore
from proxyd.option import Seconds
from proxyd.stores.environment import StoreEnvironment
from proxyd.stores.storage import ACTIVITY_SECONDS, DEADLINE_SECONDS, StorageClassConfig, StorageStore
from proxyd.testing import contracts
from proxyd.testing.contracts import make_route
from tests.stores.storages import CoroutineStorage, DeferredStorage, PlainStorage

READER = RouteReader(host_routing=False, read_options=None)


class PlainTests(contracts.RouteStoreContract):
    """A class whose methods answer at once keeps the contract of stores."""

    storage_class: type = PlainStorage

    def make_store(self) -> IRouteStore:
        """A store around a fresh instance."""
        clock = self.clock = Clock()
        storage = type("Storage", (self.storage_class,), {"clock": clock})({})
        table = RouteTable()
        return StorageStore(storage, "m:C", 0, StoreEnvironment(clock, Path(), READER, table.get))

    def advance(self) -> None:
        """Longer than everything in a test takes, but not so long that something else begins."""
        self.clock.pump([0.1] * 90)


class DeferredTests(PlainTests):
    """A class whose methods return Deferreds keeps it."""

    storage_class = DeferredStorage


class CoroutineTests(PlainTests):
    """A class whose methods are coroutines, with names of its own, keeps it."""

    storage_class = CoroutineStorage


class StorageCase(SynchronousTestCase):
    """A store around a plain class, with a table that follows it."""

    poll = 5.0
    reader = READER

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.table = RouteTable()
        self.storage = PlainStorage({})
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def make(self, storage: object = None) -> StorageStore:
        environment = StoreEnvironment(self.clock, Path(), self.reader, self.table.get)
        store = StorageStore(storage or self.storage, "m:C", self.poll, environment)
        self.addCleanup(store.close)
        store.watch(0, lambda change: self.table.apply(change, self.clock.seconds()))
        return store

    def open(self) -> StorageStore:
        store = self.make()
        self.successResultOf(store.open())
        self.storage.calls.clear()
        return store

    def told(self, level: LogLevel = LogLevel.warn) -> list[str]:
        """What was logged so far, once."""
        lines = [event["log_format"].format(**event) for event in self.events if event["log_level"] is level]
        self.events.clear()
        return lines

    def keys(self) -> set[str]:
        return {entry.route.key for entry in self.table}

    def last_activity(self, key: str) -> float:
        entry = self.table.get(key)
        assert entry is not None
        return entry.last_activity

    def touch(self, key: str) -> None:
        entry = self.table.get(key)
        assert entry is not None
        entry.last_activity = self.clock.seconds()


class FetchTests(StorageCase):
    """What is there at the start."""

    def test_routes_fill_the_table(self) -> None:
        """With all members, and with the activity that is stored, as text or as a time."""
        self.storage.routes = {
            "/": {"target": "http://h:1"},
            "/a/b": {"target": "http://h:2", "x": [1], "last_activity": "1970-01-01T00:10:00.000Z"},
            "/c": {"target": "http://h:3", "last_activity": datetime.fromtimestamp(700, UTC)},
        }
        self.open()
        self.assertEqual(self.keys(), {"/", "/a/b", "/c"})
        entry = self.table.look_up("", ("a", "b", "c"))
        assert entry is not None
        self.assertEqual(json.loads(entry.route.members), {"target": "http://h:2", "x": [1]})
        self.assertEqual([self.last_activity(key) for key in ("/", "/a/b", "/c")], [1_000_000, 600, 700])

    def test_a_time_that_says_nothing_is_now(self) -> None:
        """So is one that has not come yet: a route would never become idle."""
        for stored in ("yesterday", 5, None, [], "", "9999-01-01T00:00:00Z", datetime.max):
            self.table = RouteTable()
            self.storage.routes = {"/a": {"target": "http://h", "last_activity": stored}}
            self.open()
            self.assertEqual(self.last_activity("/a"), 1_000_000, stored)

    def test_bad_entries_are_skipped(self) -> None:
        """With one warning for each, until it changes; the others are taken."""
        self.storage.routes = {
            "/good": {"target": "http://h"},
            "/none": None,  # type: ignore[dict-item]
            "/target": {"x": 1},
            "/url": {"target": "gopher://h"},
            "/set": {"target": "http://h", "x": {1}},
            "no-slash": {"target": "http://h"},
            "/slash/": {"target": "http://h"},
            3: {"target": "http://h"},  # type: ignore[dict-item]
        }
        self.open()
        self.assertEqual(self.keys(), {"/good"})
        warnings = self.told()
        self.assertEqual(len(warnings), 7)
        self.assertIn("store m:C: the route '/target' is skipped: Must specify 'target' as a string", warnings)
        self.clock.advance(5)
        self.assertEqual(self.told(), [])
        self.storage.routes = {"/url": {"target": 3}, "/none": {"target": "http://h"}}
        self.clock.advance(5)
        self.assertEqual((self.keys(), len(self.told())), ({"/none"}, 1))

    def test_a_large_table_is_taken_in_turns(self) -> None:
        """The proxy goes on serving meanwhile, and a change has to wait."""
        self.storage.routes = {f"/r{number}": {"target": "http://h"} for number in range(2500)}
        store = self.make()
        opened = store.open()
        self.assertNoResult(opened)
        asked = [store.put(make_route(f"/p{number}")) for number in range(300)]
        self.clock.pump([0] * 3)
        self.successResultOf(opened)
        self.clock.pump([0] * 300)
        for each in asked:
            self.successResultOf(each)
        self.assertEqual(len(self.table), 2800)

    def test_a_storage_that_fails_cannot_be_opened(self) -> None:
        """Neither can one that brings something else, or nothing in time."""
        self.storage.fault = OSError(5, "broken\ndisk")
        error = self.failureResultOf(self.make().open(), StoreError).value
        self.assertEqual(str(error), "store m:C: getAll failed: OSError: [Errno 5] broken disk")
        self.storage.fault = None
        self.storage.routes = []  # type: ignore[assignment]
        self.failureResultOf(self.make().open(), StoreError)
        self.storage.getAll = Deferred  # type: ignore[method-assign, assignment]
        opened = self.make().open()
        self.clock.advance(DEADLINE_SECONDS)
        self.assertIn("within 10 seconds", str(self.failureResultOf(opened, StoreError).value))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class HostRoutingTests(StorageCase):
    """With host routing."""

    reader = RouteReader(host_routing=True, read_options=None)

    def test_the_first_segment_is_the_host(self) -> None:
        """As in a route of the API; what the storage has is not taken for a change of it."""
        self.storage.routes = {"/h.test/a": {"target": "http://h"}, "/H.test": {"target": "http://h"}}
        self.open()
        entry = self.table.look_up("h.test", ("a",))
        assert entry is not None
        self.clock.advance(5)
        self.assertIs(self.table.look_up("h.test", ("a",)), entry)
        self.assertEqual((self.keys(), len(self.told())), ({"/h.test/a"}, 1))


class ChangeTests(StorageCase):
    """What the API changes."""

    def test_put_adds_and_delete_removes(self) -> None:
        """With all members and the time; nothing else is asked."""
        store = self.open()
        self.successResultOf(store.put(READER.read("/a", {"target": "http://h", "x": {"y": 1}})))
        self.successResultOf(store.put(make_route("/", "http://h")))
        self.successResultOf(store.delete("/a"))
        now = {"last_activity": "1970-01-12T13:46:40.000Z"}
        self.assertEqual(
            self.storage.calls,
            [
                ("add", "/a", {"target": "http://h", "x": {"y": 1}, **now}),
                ("add", "/", {"target": "http://h", **now}),
                ("remove", "/a"),
            ],
        )

    def test_a_failing_change_changes_nothing(self) -> None:
        """Neither here nor there; the next one works."""
        store = self.open()
        self.successResultOf(store.put(make_route("/a")))
        self.storage.fault = ZeroDivisionError("oops")
        for asked in (store.put(make_route("/a", "http://other")), store.put(make_route("/b")), store.delete("/a")):
            self.assertIn("failed: ZeroDivisionError: oops", str(self.failureResultOf(asked, StoreError).value))
        entry = self.table.get("/a")
        assert entry is not None
        self.assertEqual((self.keys(), entry.route.upstream.url), ({"/a"}, "http://up.test"))
        self.storage.fault = None
        self.successResultOf(store.delete("/a"))
        self.assertEqual(self.keys(), set())

    def test_a_replacement_that_fails_is_undone(self) -> None:
        """The storage has what it had, with its activity, and nobody is told of anything."""
        store = self.open()
        for key in ("/gone", "/kept", "/other"):
            self.successResultOf(store.put(READER.read(key, {"target": "http://h", "x": [key]})))
        before = dict(self.storage.routes)
        entries = list(self.table)
        self.clock.advance(1)
        add = self.storage.add
        wanted = [make_route("/other", "http://other"), make_route("/new"), make_route("/bad"), make_route("/late")]

        def add_some(path: str, data: dict[str, Any]) -> None:
            if path == "/bad":
                raise OSError("full")
            add(path, data)

        self.storage.add = add_some  # type: ignore[method-assign]
        self.assertIn("full", str(self.failureResultOf(store.replace(wanted), StoreError).value))
        self.assertEqual((self.storage.routes, list(self.table)), (before, entries))
        self.storage.add = add  # type: ignore[method-assign]
        self.assertEqual(len(self.successResultOf(store.replace(wanted))), 6)
        self.assertEqual((self.keys(), self.storage.routes.keys()), ({"/other", "/new", "/bad", "/late"},) * 2)

    def test_a_replacement_that_cannot_be_undone(self) -> None:
        """Is told; the next look at the storage finds what it has."""
        store = self.open()
        self.successResultOf(store.put(make_route("/gone")))
        self.events.clear()
        self.storage.add = lambda path, data: 1 // 0  # type: ignore[method-assign, assignment, return-value, misc]
        self.failureResultOf(store.replace([make_route("/new")]), StoreError)
        (line,) = self.told(LogLevel.error)
        self.assertIn("it has a part of what it was to have", line)
        self.assertEqual(self.keys(), {"/gone"})
        self.clock.advance(5)
        self.assertEqual(self.keys(), set())

    def test_a_silent_storage_is_given_up(self) -> None:
        """After the deadline, which begins when a change is asked for; then others get their turn."""
        store = self.open()
        add, self.storage.add = self.storage.add, lambda path, data: Deferred()  # type: ignore[method-assign, assignment, return-value, misc]
        asked = [store.put(make_route("/a")), store.put(make_route("/b"))]
        self.clock.advance(DEADLINE_SECONDS - 1)
        for each in asked:
            self.assertNoResult(each)
        self.clock.advance(1)
        for each in asked:
            self.failureResultOf(each, StoreError)
        self.storage.add = add  # type: ignore[method-assign]
        later = store.put(make_route("/a"))
        self.clock.advance(0)
        self.successResultOf(later)
        self.assertEqual(self.keys(), {"/a"})

    def test_a_storage_that_will_not_be_cancelled(self) -> None:
        """One that tries again and again, whatever happens, keeps nobody waiting."""

        async def add(path: str, data: object) -> None:
            while True:
                try:
                    await Deferred()
                except Exception:  # noqa: BLE001  # as careless code does
                    continue

        store = self.open()
        self.storage.add = add  # type: ignore[method-assign, assignment]
        asked = store.put(make_route("/a"))
        self.clock.advance(DEADLINE_SECONDS)
        self.failureResultOf(asked, StoreError)
        self.assertIsNone(self.successResultOf(store.delete("/b")))

    def test_any_awaitable_will_do(self) -> None:
        """Not only Deferreds and coroutines."""

        class Soon:
            def __init__(self) -> None:
                self.answer: Deferred[None] = Deferred()

            def __await__(self) -> Any:
                return self.answer.__await__()

        soon = Soon()
        store = self.open()
        self.storage.add = lambda path, data: soon  # type: ignore[method-assign, assignment, return-value, misc]
        asked = store.put(make_route("/a"))
        self.assertNoResult(asked)
        soon.answer.callback(None)
        self.successResultOf(asked)

    def test_what_somebody_else_added_can_be_deleted(self) -> None:
        """Although it is not known yet."""
        store = self.open()
        self.storage.routes["/a"] = {"target": "http://h"}
        change = self.successResultOf(store.delete("/a"))
        assert change is not None
        self.assertEqual((change.key, change.route, self.storage.routes, self.keys()), ("/a", None, {}, set()))


class PollTests(StorageCase):
    """What somebody else changes."""

    def test_foreign_changes_are_seen(self) -> None:
        """Routes come, change and go; what is as it was stays the entry that it is."""
        self.storage.routes = {"/same": {"target": "http://h"}, "/old": {"target": "http://h"}}
        self.open()
        same = self.table.get("/same")
        self.storage.routes = {
            "/same": {"target": "http://h", "last_activity": "1970-01-01T00:00:00Z"},
            "/new": {"target": "http://h", "last_activity": "1970-01-01T00:10:00Z"},
        }
        self.clock.advance(4)
        self.assertEqual(self.keys(), {"/same", "/old"})
        self.clock.advance(1)
        self.assertEqual(self.keys(), {"/same", "/new"})
        self.assertIs(self.table.get("/same"), same)
        self.assertEqual((self.last_activity("/same"), self.last_activity("/new")), (1_000_000, 600))
        self.storage.routes["/new"] = {"target": "http://other"}
        self.clock.advance(5)
        entry = self.table.get("/new")
        assert entry is not None
        self.assertEqual((entry.route.upstream.url, entry.last_activity), ("http://other", 1_000_010))

    def test_our_own_changes_are_none(self) -> None:
        """What was put comes back as it was."""
        store = self.open()
        self.successResultOf(store.put(READER.read("/a", {"target": "http://h", "x": [{"y": None}]})))
        self.successResultOf(store.put(make_route("/b")))
        before = list(self.table)
        self.clock.advance(5)
        self.assertEqual(list(map(id, self.table)), list(map(id, before)))

    def test_a_broken_entry_leaves_the_route_that_is_known(self) -> None:
        """Until it is mended or gone."""
        self.storage.routes = {"/a": {"target": "http://h"}}
        self.open()
        self.storage.routes = {"/a": {"target": "nonsense"}}
        self.clock.advance(5)
        self.assertEqual((self.keys(), len(self.told())), ({"/a"}, 1))
        self.storage.routes = {}
        self.clock.advance(5)
        self.assertEqual(self.keys(), set())

    def test_a_failing_poll_warns_once(self) -> None:
        """Until it works again, which is told as well; what is known is served."""
        self.storage.routes = {"/a": {"target": "http://h", "last_activity": "1970-01-01T00:00:00Z"}}
        self.open()
        for _ in range(2):
            self.storage.fault = OSError("gone")
            self.clock.pump([5] * 3)
            self.assertEqual(self.told(), ["store m:C: getAll failed: OSError: gone; what is known is served"])
            self.assertEqual(self.keys(), {"/a"})
            self.storage.fault = None
            self.clock.pump([5] * 3)
            self.assertEqual(self.told(LogLevel.info), ["store m:C: works again"])

    def test_a_silent_poll_is_given_up(self) -> None:
        """And tried again; a change waits for it no longer than its own deadline."""
        store = self.open()
        get_all, self.storage.getAll = self.storage.getAll, Deferred  # type: ignore[method-assign, assignment]
        self.clock.advance(5)
        self.storage.getAll = get_all  # type: ignore[method-assign]
        self.clock.advance(1)
        asked = store.put(make_route("/a"))
        self.clock.advance(DEADLINE_SECONDS - 2)
        self.assertNoResult(asked)
        self.clock.pump([1, 0])
        self.successResultOf(asked)
        self.assertEqual(len(self.told()), 1)
        self.storage.routes["/b"] = {"target": "http://h"}
        self.clock.pump([1] * 5)
        self.assertEqual(self.keys(), {"/a", "/b"})

    def test_a_poll_does_not_overtake_a_change(self) -> None:
        """What was asked for before a change must not undo it."""
        store = self.open()
        answer: Deferred[dict[str, Any]] = Deferred()
        get_all, self.storage.getAll = self.storage.getAll, lambda: answer  # type: ignore[method-assign, assignment, return-value]
        self.clock.advance(5)
        asked = store.put(make_route("/a"))
        answer.callback({})
        self.storage.getAll = get_all  # type: ignore[method-assign]
        self.clock.advance(0)
        self.successResultOf(asked)
        self.assertEqual(self.keys(), {"/a"})

    def test_the_end(self) -> None:
        """After it nothing is asked any more."""
        store = self.open()
        store.close()
        self.clock.pump([5] * 10)
        self.assertEqual((self.storage.calls, self.clock.getDelayedCalls()), ([], []))
        store = self.make()
        store.close()
        self.successResultOf(store.open())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class NoPollTests(StorageCase):
    """`poll: 0s`."""

    poll = 0.0

    def test_foreign_changes_are_not_looked_for(self) -> None:
        """Not even once."""
        self.open()
        self.clock.pump([5] * 10)
        self.assertEqual(self.storage.calls, [])


class ActivityTests(StorageCase):
    """When something last happened."""

    poll = 0.0

    def test_it_is_written_back(self) -> None:
        """Once for each route that was active, and not at once."""
        store = self.open()
        for key in ("/a", "/b"):
            self.successResultOf(store.put(make_route(key)))
        self.storage.calls.clear()
        for _ in range(3):
            self.clock.advance(1)
            self.touch("/a")
        self.assertEqual(self.storage.calls, [])
        self.clock.advance(ACTIVITY_SECONDS - 3)
        update = ("update", "/a", {"last_activity": "1970-01-12T13:46:43.000Z"})
        self.assertEqual(self.storage.calls, [("get", "/a"), update])
        self.assertEqual(self.storage.routes["/a"]["target"], "http://up.test")
        self.clock.pump([ACTIVITY_SECONDS] * 3)
        self.assertEqual(len(self.storage.calls), 2)

    def test_a_route_without_a_time_gets_one(self) -> None:
        """Once."""
        self.storage.routes = {"/a": {"target": "http://h"}}
        self.open()
        self.clock.pump([ACTIVITY_SECONDS] * 3)
        self.assertEqual(self.storage.routes["/a"]["last_activity"], "1970-01-12T13:46:40.000Z")
        self.assertEqual(len(self.storage.calls), 2)

    def test_what_is_gone_does_not_come_back(self) -> None:
        """Routes that were deleted, by us or somebody else, are not updated."""
        store = self.open()
        for key in ("/a", "/b"):
            self.successResultOf(store.put(make_route(key)))
            self.clock.advance(1)
            self.touch(key)
        self.successResultOf(store.delete("/a"))
        del self.storage.routes["/b"]
        self.clock.advance(ACTIVITY_SECONDS)
        self.assertEqual(self.storage.routes, {})

    def test_failures_warn_once(self) -> None:
        """And it is tried again."""
        store = self.open()
        self.successResultOf(store.put(make_route("/a")))
        self.clock.advance(1)
        self.touch("/a")
        self.storage.fault = OSError("full")
        self.clock.pump([ACTIVITY_SECONDS] * 3)
        self.assertEqual(len(self.told()), 1)
        self.storage.fault = None
        self.clock.advance(ACTIVITY_SECONDS)
        self.assertEqual(self.storage.routes["/a"]["last_activity"], "1970-01-12T13:46:41.000Z")


class SharedActivityTests(StorageCase):
    """Activity that another proxy has seen."""

    def test_the_later_time_holds(self) -> None:
        """The entry stays the same, and what is older or not yet does not matter."""
        self.storage.routes = {"/a": {"target": "http://h", "last_activity": "1970-01-01T00:10:00Z"}}
        self.open()
        entry = self.table.get("/a")
        for stored, expected in (("00:05:00", 600), ("00:20:00", 1200), ("00:15:00", 1200)):
            self.storage.routes["/a"]["last_activity"] = f"1970-01-01T{stored}Z"
            self.clock.advance(5)
            self.assertEqual(self.last_activity("/a"), expected)
        self.storage.routes["/a"]["last_activity"] = "2100-01-01T00:00:00Z"
        self.clock.advance(5)
        self.assertEqual(self.last_activity("/a"), self.clock.seconds())
        self.assertIs(self.table.get("/a"), entry)


class BuildTests(SynchronousTestCase):
    """From the configuration to a store."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.patch(sys, "path", list(sys.path))
        self.patch(sys, "dont_write_bytecode", True)
        self.addCleanup(sys.modules.pop, "own_storage", None)

    def build(self, path: str, options: dict[str, str] | None = None) -> Any:
        config = StorageClassConfig(path=path, poll=Seconds(0), options=options or {})
        table = RouteTable()
        environment = StoreEnvironment(Clock(), self.directory, READER, table.get)
        return KINDS.of_config(config).build(config, environment)

    def assert_refused(self, path: str, words: str) -> None:
        with self.assertRaises(StoreError) as caught:
            self.build(path)
        self.assertIn(words, str(caught.exception))
        self.assertTrue(str(caught.exception).startswith(f"store {path}: "))
        self.assertNotIn("\n", str(caught.exception))

    def write(self, text: str) -> None:
        sys.modules.pop("own_storage", None)
        (self.directory / "own_storage.py").write_text(text)

    def test_a_class_is_found(self) -> None:
        """In an installed package, or in the directory; it gets its options."""
        self.build("tests.stores.storages:PlainStorage")
        self.write("from tests.stores.storages import PlainStorage\nmade = []\ndef make(options):\n"
                   "    made.append(PlainStorage(options)); return made[0]\n")  # fmt: skip
        self.build("own_storage:make", {"url": "x"})
        self.assertEqual(sys.modules["own_storage"].made[0].options, {"url": "x"})

    def test_what_cannot_be_used_is_refused(self) -> None:
        """With one line that says why."""
        self.assert_refused("no_such_module_at_all:C", "cannot be imported: ModuleNotFoundError")
        self.assert_refused("tests.stores.storages:Nope", "has no Nope")
        for text, words in (
            ("C = 3", "is not a class"),
            ("def", "cannot be imported: SyntaxError"),
            ("1 / 0", "cannot be imported: ZeroDivisionError"),
            ("import sys; sys.nope", "cannot be imported: AttributeError"),
            ("class C: pass", "cannot be made: TypeError"),
            ("class C:\n def __init__(self, options): raise ValueError('a\\nb')", "cannot be made: ValueError: a b"),
            ("class C:\n def __init__(self, options): pass", "the class has no method get"),
        ):
            self.write(text)
            self.assert_refused("own_storage:C", words)

    def test_what_names_no_class_is_refused(self) -> None:
        """Already by the configuration."""
        for path in ("", "a", "a.b", "a:", ":b", "a:b:c", "a:b.c", "../a:b", "1:2", "a:b "):
            self.assertRaises(OptionError, StorageClassConfig, path=path)
