"""Tests of `proxyd.stores.sqlite` and `proxyd.stores.writer`; those of the file itself are in `test_database`."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.config.types import read_posted_options
from proxyd.core.posted import RouteReader
from proxyd.core.table import RouteTable
from proxyd.errors import StoreError
from proxyd.interfaces import IRouteStore
from proxyd.model.routes import Route
from proxyd.stores import database
from proxyd.stores.environment import StoreEnvironment
from proxyd.stores.sqlite import ACTIVITY_SECONDS, DEADLINE_SECONDS, OPEN_SECONDS, SqliteRouteStore, SqliteStoreConfig
from proxyd.testing import contracts
from proxyd.testing.contracts import make_route
from tests.stores.threads import ThreadedClock

_T = TypeVar("_T")
READER = RouteReader(host_routing=False, read_options=read_posted_options)


def fresh_directory(case: SynchronousTestCase) -> Path:
    """A directory for the time of the test; in memory, if possible, for a disk takes its time for each commit."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # below a name that nobody has yet
    directory = Path(tempfile.mkdtemp(prefix="proxyd-sqlite-", dir=memory)).resolve()
    case.addCleanup(shutil.rmtree, directory)
    return directory


class ContractTests(contracts.RouteStoreContract):
    """The store keeps the contract of stores."""

    def setUp(self) -> None:
        self.directory = fresh_directory(self)
        self.count = 0
        super().setUp()

    def make_store(self) -> IRouteStore:
        """A store with a file of its own."""
        self.clock = ThreadedClock()
        self.count += 1
        environment = StoreEnvironment(self.clock, self.directory, READER, RouteTable().get)
        return SqliteRouteStore(self.directory / f"{self.count}.sqlite", environment)

    def result(self, asked: Deferred[_T]) -> _T:
        """What comes of it."""
        return self.clock.run_until(asked)


class SqliteCase(SynchronousTestCase):
    """A file, and a table that follows the store in it."""

    reader = READER

    def setUp(self) -> None:
        self.directory = fresh_directory(self)
        self.path = self.directory / "routes.sqlite"
        self.clock = ThreadedClock()
        self.clock.advance(1_000_000)
        self.table = RouteTable()
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def make(self) -> SqliteRouteStore:
        self.table = RouteTable()
        environment = StoreEnvironment(self.clock, self.directory, self.reader, self.table.get)
        store = SqliteRouteStore(self.path, environment)
        self.addCleanup(store.close)
        store.watch(0, lambda change: self.table.apply(change, self.clock.seconds()))
        return store

    def open(self) -> SqliteRouteStore:
        store = self.make()
        self.clock.run_until(store.open())
        return store

    def close(self, store: SqliteRouteStore) -> None:
        store.close()
        self.clock.run_waiting()

    def put(self, store: SqliteRouteStore, key: str, **members: object) -> None:
        self.clock.run_until(store.put(READER.read(key, {"target": "http://h", **members})))

    def told(self, level: LogLevel = LogLevel.warn) -> list[str]:
        """What was logged so far, once."""
        lines = [event["log_format"].format(**event) for event in self.events if event["log_level"] is level]
        self.events.clear()
        return lines

    def keys(self) -> set[str]:
        return {entry.route.key for entry in self.table}

    def route(self, key: str) -> Route:
        entry = self.table.get(key)
        assert entry is not None
        return entry.route

    def touch(self, key: str, seconds: float) -> None:
        entry = self.table.get(key)
        assert entry is not None
        entry.last_activity = seconds

    def last_activity(self, key: str) -> float:
        entry = self.table.get(key)
        assert entry is not None
        return entry.last_activity

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Do something to the file as somebody else."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, values).fetchall()


class RestartTests(SqliteCase):
    """What is there when a process begins where another one ended."""

    def test_routes_come_back(self) -> None:
        """With all their members, and their options typed again."""
        store = self.open()
        self.put(store, "/a", strip_prefix=True, x=["ä", {"y": None}])
        self.put(store, "/gone")
        self.put(store, "/ä ?/b", host="h.test")
        self.clock.run_until(store.put(make_route("/", "http://default")))
        self.clock.run_until(store.delete("/gone"))
        before = {entry.route.key: entry.route for entry in self.table if entry.route.members}
        self.close(store)
        store = self.open()
        self.assertEqual(self.keys(), {"/a", "/ä ?/b", "/"})
        for key, route in before.items():
            self.assertEqual(self.route(key), route)
        self.assertIs(self.route("/a").options.strip_prefix, True)
        self.assertEqual(self.route("/").upstream.url, "http://default")

    def test_revisions_rise_for_ever(self) -> None:
        """Over restarts, and also when the last change was a deletion."""
        store = self.open()
        for key in ("/a", "/b"):
            self.put(store, key)
        self.clock.run_until(store.delete("/a"))
        self.close(store)
        store = self.open()
        self.assertEqual(self.clock.run_until(store.snapshot())[0], 3)
        self.assertEqual(self.clock.run_until(store.put(make_route("/c"))).revision, 4)

    def test_last_activity_comes_back(self) -> None:
        """What was written while it ran, and what was left at the end; a route that is put again is a new one."""
        store = self.open()
        for key in ("/a", "/b", "/c"):
            self.put(store, key)
        self.touch("/a", 1_000_003)
        self.touch("/c", 1_000_003)
        self.clock.advance(ACTIVITY_SECONDS)
        self.clock.advance(0)
        self.clock.run_one()
        self.assertEqual(self.sql("SELECT key, last_activity FROM route WHERE last_activity > 1000000"), [
            ("/a", 1_000_003.0), ("/c", 1_000_003.0)
        ])  # fmt: skip
        self.put(store, "/c")
        self.touch("/b", 1_000_009)
        self.close(store)
        self.open()
        self.assertEqual([self.last_activity(key) for key in ("/a", "/b", "/c")], [1_000_003, 1_000_009, 1_000_010])

    def test_activity_does_not_go_to_another_route(self) -> None:
        """One that has the same key by the time it is written."""
        store = self.open()
        self.put(store, "/a")
        self.touch("/a", 1_000_005)
        self.clock.advance(ACTIVITY_SECONDS)
        asked = store.put(make_route("/a", "http://other"))
        self.clock.advance(0)
        self.clock.run_until(asked)
        self.clock.run_until(store.delete("/none"))
        self.assertEqual(self.sql("SELECT last_activity FROM route"), [(1_000_010.0,)])

    def test_what_cannot_be_read_is_left_where_it_is(self) -> None:
        """With one warning for each; it can be deleted, and replaced."""
        store = self.open()
        for number in range(7):
            self.put(store, f"/r{number}")
        self.close(store)
        spoiled = ["{", "[]", '{"target": 3}', '{"target": "gopher://h"}', '{"target": "http://h", "strip_prefix": 9}']
        for number, members in enumerate(spoiled):
            self.sql("UPDATE route SET members = ? WHERE key = ?", members, f"/r{number}")
        self.sql("UPDATE route SET key = CAST(x'2fff' AS TEXT) WHERE key = '/r5'")
        store = self.open()
        self.assertEqual(self.keys(), {"/r6"})
        warnings = self.told()
        self.assertEqual(len(warnings), 6, warnings)
        self.assertIn(f"store {self.path}: the route '/r2' is skipped: Must specify 'target' as a string", warnings)
        self.assertEqual(self.sql("SELECT count(*) FROM route"), [(7,)])
        self.assertIsNotNone(self.clock.run_until(store.delete("/r0")))
        self.put(store, "/r1")
        self.assertEqual(self.keys(), {"/r1", "/r6"})
        self.clock.run_until(store.replace([make_route("/r1")]))
        self.assertEqual(self.sql("SELECT key FROM route"), [("/r1",)])

    def test_a_large_file_is_taken_in_turns(self) -> None:
        """The reactor can do other things between; nothing can be changed before the end."""
        store = self.open()
        self.clock.run_until(store.replace([make_route(f"/r{number}") for number in range(1700)]))
        self.close(store)
        store = self.make()
        opened = store.open()
        self.clock.run_one()
        self.assertEqual(len(self.table), 500)
        with self.assertRaises(StoreError):
            self.clock.run_until(store.put(make_route("/a")))
        self.clock.run_until(opened)
        self.assertEqual(len(self.table), 1700)

    def test_the_end_comes_while_it_is_opened(self) -> None:
        """The file is given up."""
        store = self.open()
        self.clock.run_until(store.replace([make_route(f"/r{number}") for number in range(700)]))
        self.close(store)
        store = self.make()
        opened = store.open()
        self.clock.run_one()
        self.close(store)
        self.clock.advance(0)
        self.failureResultOf(opened, StoreError)
        self.open()

    def test_very_many_changes_are_told_turn_by_turn(self) -> None:
        """And what was asked for after them is told, and answered, after them."""
        store = self.open()
        seen: list[str] = []
        store.watch(0, lambda change: seen.append(change.key))
        replaced = store.replace([make_route(f"/r{number}") for number in range(1300)])
        put = store.put(make_route("/last"))
        while not seen:
            self.clock.run_one()
        self.assertEqual((500, False), (len(seen), replaced.called))
        changes = self.clock.run_until(replaced)
        self.assertEqual([change.key for change in changes], seen[:1300])
        self.clock.run_until(put)
        self.assertEqual((1301, "/last"), (len(seen), seen[-1]))


class HostRoutingTests(SqliteCase):
    """With host routing."""

    reader = RouteReader(host_routing=True, read_options=None)

    def test_the_first_segment_is_the_host(self) -> None:
        """After a restart as before it."""
        store = self.open()
        self.clock.run_until(store.put(self.reader.read("/h.test/a", {"target": "http://h"})))
        before = self.route("/h.test/a")
        self.close(store)
        self.open()
        self.assertEqual(self.route("/h.test/a"), before)
        self.assertIsNotNone(self.table.look_up("h.test", ("a", "b")))


class WaitingTests(SqliteCase):
    """What waits for the disk; here the disk waits for a transaction of somebody else."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(database, "_BUSY_SECONDS", 0.1)
        self.store = self.open()
        self.put(self.store, "/old")
        self.other = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.addCleanup(self.other.close)

    def test_changes_that_wait_are_committed_together(self) -> None:
        """In their order, each answered after the commit, and none before."""
        begun, go_on = threading.Event(), threading.Event()

        def hold(_: object) -> list[Any]:
            begun.set()
            go_on.wait(60)
            return []

        first = self.store._ask(hold)
        begun.wait(60)
        statements: list[str] = []
        asked: list[Deferred[Any]] = [self.store._ask(lambda opened: _trace(opened, statements))]
        asked += [self.store.put(make_route("/a", f"http://h{number}")) for number in range(100)]
        asked += [self.store.delete("/old"), self.store.delete("/old")]
        go_on.set()
        self.clock.run_until(first)
        for each in asked:
            self.assertNoResult(each)
        self.clock.run_one()
        results = [self.successResultOf(each) for each in asked]
        self.assertEqual((results[-2].key, results[-1]), ("/old", None))
        self.assertEqual([change.revision for change in results[1:-1]], list(range(2, 103)))
        self.assertEqual(self.route("/a").upstream.url, "http://h99")
        self.assertEqual(statements.count("COMMIT"), 1)

    def test_one_that_fails_does_not_take_others_with_it(self) -> None:
        """The others of the same transaction are done, in their order."""

        def wrong(opened: database.Database) -> list[Any]:
            opened.put(make_route("/wrong"), 0)
            raise sqlite3.OperationalError("no such luck")

        asked: list[Deferred[Any]] = [self.store.put(make_route("/a")), self.store._ask(wrong)]
        asked.append(self.store.put(make_route("/b")))
        self.clock.run_until(asked[2])
        self.assertIn("no such luck", str(self.failureResultOf(asked[1], StoreError).value))
        self.assertEqual(self.keys(), {"/old", "/a", "/b"})
        self.assertEqual([row[0] for row in self.sql("SELECT key FROM route ORDER BY revision")], ["/old", "/a", "/b"])
        self.assertEqual(self.sql("SELECT revision FROM state"), [(3,)])

    def test_a_key_that_is_no_text_is_refused(self) -> None:
        """JSON can write half of a character; nobody else suffers from it."""
        asked: list[Deferred[Any]] = [self.store.put(make_route(key)) for key in ("/a", "/\ud800", "/b")]
        self.clock.run_until(asked[2])
        self.failureResultOf(asked[1], StoreError)
        self.assertEqual(self.keys(), {"/old", "/a", "/b"})

    def test_what_waits_too_long_is_not_done(self) -> None:
        """If it has not begun; if it has, it may be done later, and the table knows it then."""
        go_on = threading.Event()
        begun = threading.Event()

        def slow(opened: database.Database) -> list[Any]:
            begun.set()
            go_on.wait(60)
            return opened.put(make_route("/late"), 5.0)

        late = self.store._ask(slow)
        begun.wait(60)
        never = self.store.put(make_route("/never"))
        self.clock.advance(DEADLINE_SECONDS)
        self.assertIn("it may still be done", str(self.failureResultOf(late, StoreError).value))
        self.assertIn("it is not done", str(self.failureResultOf(never, StoreError).value))
        go_on.set()
        self.clock.run_one()
        self.assertEqual(self.keys(), {"/old", "/late"})
        after = self.clock.run_until(self.store.put(make_route("/after")))
        self.assertEqual((after.revision, self.keys()), (3, {"/old", "/late", "/after"}))
        self.assertEqual({row[0] for row in self.sql("SELECT key FROM route")}, self.keys())

    def test_a_file_that_others_hold_is_waited_for(self) -> None:
        """Nothing has changed when it takes too long, and it works as soon as they let it go."""
        self.other.execute("BEGIN IMMEDIATE")
        with self.assertRaises(StoreError) as caught:
            self.clock.run_until(self.store.put(make_route("/a")))
        self.assertIn("database is locked", str(caught.exception))
        self.assertEqual(self.keys(), {"/old"})
        self.other.execute("ROLLBACK")
        self.put(self.store, "/a")
        self.assertEqual(self.keys(), {"/old", "/a"})

    def test_activity_that_cannot_be_written_is_told_once(self) -> None:
        """And written when it works again, which is told as well."""
        self.touch("/old", 1_000_001)
        shutil.move(self.path, self.directory / "elsewhere")
        for _ in range(2):
            self.clock.advance(ACTIVITY_SECONDS)
            self.clock.advance(0)
            self.clock.run_one()
        (line,) = self.told()
        self.assertIn("was moved or replaced; proxyd has to be restarted; the last activity is not kept", line)
        shutil.move(self.directory / "elsewhere", self.path)
        self.clock.advance(ACTIVITY_SECONDS)
        self.clock.advance(0)
        self.clock.run_one()
        self.assertEqual(self.told(LogLevel.info), [f"store {self.path}: works again"])
        self.assertEqual(self.sql("SELECT last_activity FROM route"), [(1_000_001.0,)])

    def test_nothing_is_taken_for_done_that_goes_nowhere(self) -> None:
        """A file that was removed or replaced takes no changes, although SQLite would write them."""
        backup = self.directory / "copy"
        shutil.copy(self.path, backup)
        self.path.unlink()
        for _ in range(2):
            with self.assertRaises(StoreError):
                self.clock.run_until(self.store.put(make_route("/a")))
            shutil.copy(backup, self.path)
        self.assertEqual(self.keys(), {"/old"})

    def test_a_watcher_that_fails_keeps_nobody_waiting(self) -> None:
        """It is told of in the log."""
        self.store.watch(0, lambda change: 1 // 0)
        self.clock.run_until(self.store.put(make_route("/a")))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.run_until(self.store.delete("/a"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_an_unexpected_error_is_told(self) -> None:
        """What was asked for fails, and the next one works."""
        with self.assertRaises(StoreError):
            self.clock.run_until(self.store._ask(lambda _: 1 // 0))  # type: ignore[arg-type, return-value]
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.put(self.store, "/a")

    def test_the_end_finishes_what_was_asked_for(self) -> None:
        """Before the file is given up; after it nothing more is taken, and nothing goes on."""
        for number in range(50):
            self.store.put(make_route(f"/r{number}"))
        self.store.close()
        self.assertEqual(self.sql("SELECT count(*) FROM route"), [(51,)])
        self.failureResultOf(self.store.put(make_route("/a")), StoreError)
        self.store.close()
        self.assertEqual(
            sorted(path.name for path in self.directory.iterdir()), ["routes.sqlite", "routes.sqlite.lock"]
        )


class FailingOpenTests(SqliteCase):
    """A store that cannot be opened says why."""

    def test_the_error_of_the_file(self) -> None:
        """Whatever it is; `test_database` has them all."""
        self.path.write_text("routes: none")
        with self.assertRaises(StoreError) as caught:
            self.open()
        self.assertEqual(str(caught.exception), f"store {self.path}: is not a SQLite database")
        self.assertEqual(self.path.read_text(), "routes: none")

    def test_a_disk_that_does_not_answer(self) -> None:
        """It is given up, and what comes later does no harm."""
        store = self.make()
        opened = store.open()
        self.clock.advance(OPEN_SECONDS)
        self.assertIn("within 60 seconds", str(self.failureResultOf(opened, StoreError).value))
        self.clock.run_one()
        self.failureResultOf(store.put(make_route("/a")), StoreError)


class ConfigTests(SynchronousTestCase):
    """The section of the configuration."""

    def test_the_path_counts_from_the_file(self) -> None:
        """Without one it is in the state directory, which is made."""
        directory = fresh_directory(self)
        config = parse("store: {kind: sqlite, path: sub/r.sqlite}", KINDS, {}, name=str(directory / "proxyd.yaml"))
        self.assertIsInstance(config.store, SqliteStoreConfig)
        state = directory / "a" / "state"
        clock = ThreadedClock()
        environment = StoreEnvironment(clock, Path("/nowhere"), READER, RouteTable().get, state)
        store = KINDS.of_config(SqliteStoreConfig()).build(SqliteStoreConfig(), environment)
        self.addCleanup(store.close)
        clock.run_until(store.open())
        self.assertEqual(json.dumps(sorted(path.name for path in state.glob("*.sqlite"))), '["routes.sqlite"]')
        self.assertEqual(state.stat().st_mode & 0o777, 0o700)
        (directory / "file").touch()
        environment = StoreEnvironment(clock, Path("/nowhere"), READER, RouteTable().get, directory / "file" / "x")
        with self.assertRaises(StoreError):
            KINDS.of_config(SqliteStoreConfig()).build(SqliteStoreConfig(), environment)


def _trace(opened: database.Database, statements: list[str]) -> list[Any]:
    opened._connection.set_trace_callback(statements.append)
    return []
