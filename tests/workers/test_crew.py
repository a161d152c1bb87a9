"""Tests of `proxyd.workers.crew`: what a controller with workers has in addition. Processes are not started."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.changes import Change
from proxyd.core.shared import SharedMemory, SharedSeats
from proxyd.core.table import RouteTable
from proxyd.hub.activity import Activity
from proxyd.metrics.exposition import NativeExposition
from proxyd.metrics.meters import Meters
from proxyd.model.routes import Route
from proxyd.model.settings import Config
from proxyd.model.upstream import Upstream
from proxyd.option import AUTO_WORKERS, Workers
from proxyd.system.cores import usable_cores
from proxyd.testing.servers import ScriptedSupervisor
from proxyd.workers.crew import Crew
from proxyd.workers.link import Link
from proxyd.workers.replicas import ReplicatedFeed
from proxyd.workers.reports import Ledger, Numbers
from proxyd.workers.static import worker_count
from tests.workers.links import Links
from tests.workers.test_controller import Process
from tests.workers.test_reports import gauges, meters


class CrewTests(SynchronousTestCase):
    """What workers tell, and what others are told of them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.table = RouteTable()
        self.activity = Activity(lambda: 100.0)
        self.ledger = Ledger()
        feed = ReplicatedFeed(self.table, self.clock, lambda: 5.0)
        self.crew = Crew(
            2,
            Config(workers=Workers(2)),
            self.clock,
            feed,
            ScriptedSupervisor({}),
            self.activity,
            self.ledger,
            state=Path("state"),
            environ={},
        )
        self.addCleanup(self.crew.close)

    def report(self, **told: Any) -> None:
        numbers = Numbers(meters(3), cpu_seconds=1.5, resident_bytes=7).as_json()
        self.crew.message(1, "report", {"routes": [], "activity": 0.0, "numbers": numbers, **told})

    def start(self) -> list[Process]:
        """Have workers in memory that serve; those that follow are added to the list."""
        processes: list[Process] = []

        def spawn(number: int, link: Link, ended: Callable[[str], None]) -> Process:
            processes.append(Process(number, link, ended, self.clock))
            return processes[-1]

        self.crew.workers.spawn = spawn
        started = self.crew.workers.start()
        self.pump(processes)
        self.successResultOf(started)
        return processes

    def pump(self, processes: list[Process]) -> None:
        """Let everything arrive."""
        for _ in range(20):
            self.clock.advance(0)
            for process in list(processes):
                process.pump()

    def test_how_many(self) -> None:
        """As many as the configuration says; `auto` is one for each core."""
        self.assertEqual(worker_count(Config()), 1)
        self.assertEqual(worker_count(Config(workers=Workers(3))), 3)
        self.assertEqual(worker_count(Config(workers=AUTO_WORKERS)), usable_cores())

    def test_activity(self) -> None:
        """The latest one counts, of routes and as a whole."""
        self.table.apply(Change(1, "/a", Route("/a", Upstream.parse("http://a.test"), ("a",))), 50.0)
        self.report(routes=[["/a", 60.0]], activity=120.0)
        self.report(routes=[["/a", 55.0]], activity=110.0)
        self.assertEqual([entry.last_activity for entry in self.table], [60.0])
        self.assertEqual(self.activity.last, 120.0)

    def test_numbers(self) -> None:
        """They are in the page of the metrics, beside the controller's own; so is what each worker costs."""
        self.report()
        own = Meters()
        exposition = NativeExposition(own, lambda: gauges(0), crew=self.crew)
        counted = self.crew.count_into(exposition, own)
        with self.assertRaises(StopIteration):
            counted.send(None)
        text = exposition.page("").text
        self.assertIn('proxyd_requests_total{kind="forward",status_class="2xx"} 3.0', text)
        self.assertIn('proxyd_worker_cpu_seconds_total{worker="1"} 1.5', text)
        self.assertIn('proxyd_worker_resident_bytes{worker="1"} 7.0', text)
        self.assertIn("proxyd_worker_replacements_total 0.0", text)
        self.assertIn('proxyd_workers{state="gone"} 2.0', text)
        self.crew.left(1)
        self.assertEqual(self.crew.costs(), [])

    def test_a_worker_that_ends_during_a_scrape(self) -> None:
        """What it has counted is counted once, then and later, whether it has answered or not."""
        processes = self.start()
        for process in processes:
            process.answers["numbers"] = Numbers(meters(process.number * 10)).as_json
        own = Meters()
        exposition = NativeExposition(own, lambda: gauges(0), crew=self.crew)
        first, second = processes
        for is_stuck in (False, True):
            for process in (first, second):
                self.crew.message(process.number, "report", {
                    "routes": [], "activity": 0.0, "numbers": Numbers(meters(process.number * 10)).as_json(),
                })  # fmt: skip
            first.is_stuck, second.is_stuck = is_stuck, True
            scrape = Deferred.fromCoroutine(self.crew.count_into(exposition, own))
            self.pump(processes)
            first.end("was killed by SIGKILL")
            second.is_stuck = False
            self.pump(processes)
            self.successResultOf(scrape)
            counted = 40 if is_stuck else 30  # ten each of those that have ended
            self.assertEqual(exposition.meters.requests["forward"].classes[2], counted)
            self.assertEqual(self.ledger.merged(own).requests["forward"].classes[2], counted)
            first = processes[-1]

    def test_numbers_that_nobody_understands(self) -> None:
        """Those of the others are shown all the same, and the log tells."""
        processes = self.start()
        processes[0].answers["numbers"] = {"a": 1}
        processes[1].answers["numbers"] = Numbers(meters(20)).as_json
        own = Meters()
        exposition = NativeExposition(own, lambda: gauges(0), crew=self.crew)
        scrape = Deferred.fromCoroutine(self.crew.count_into(exposition, own))
        self.pump(processes)
        self.successResultOf(scrape)
        self.assertEqual(exposition.meters.requests["forward"].classes[2], 20)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_readiness(self) -> None:
        """It says what is missing, and still is good."""
        facts = json.loads(self.crew._readiness())
        self.assertEqual(facts, {
            "status": "degraded", "workers": {"serving": 0, "of": 2, "ending_again_and_again": 0},
        })  # fmt: skip

    def test_who_joins_shortly_before_the_end(self) -> None:
        """Is told of it as all others were."""
        links = Links(self.clock).connect()
        self.crew.joined(1, links.controller)
        self.crew.left(1)
        self.crew.announce_end()
        self.crew.joined(2, links.controller)
        links.pump()
        self.assertEqual([name for name, _ in links.worker_heard], ["readiness", "readiness", "announce"])

    def test_a_worker_says_what_nobody_understands(self) -> None:
        """Nothing comes of it."""
        for name in ("close", "_spawn", "take"):
            with self.assertRaises(LookupError):
                self.crew.message(1, name, None)

    def test_tunnels_wait_for_the_exchanges_of_all(self) -> None:
        """When the last worker has none any more, or is no more, all are told that tunnels may end."""
        told: list[str] = []
        self.patch(self.crew.workers, "tell", lambda name, *_: told.append(name) or [1, 2])
        self.crew.drain(3.0)
        self.crew.message(1, "quiet", None)
        self.crew.message(1, "quiet", None)
        self.assertEqual(told, ["drain"])
        self.crew.left(2)
        self.assertEqual(told, ["drain", "goodbye"])
        self.crew.left(1)
        self.assertEqual(told, ["drain", "goodbye"])
        self.clock.advance(60)

    def test_seats_of_a_worker_that_is_gone(self) -> None:
        """Are free again."""
        shared = self.crew._shared
        worker = SharedMemory(memoryview(self.crew._map), 2, 1, b"k" * 32)
        seats = SharedSeats(1, 0, worker)
        self.assertEqual([seats.take(1, b""), seats.take(2, b"")], [0, 503])
        self.crew.left(2)
        self.assertEqual(shared.columns[1][0], 0)
        worker.release()

    def test_what_cannot_be_prepared(self) -> None:
        """Without any worker there is nobody who could not."""
        prepared = self.crew.prepare(b"")
        with self.assertRaises(StopIteration) as caught:
            prepared.send(None)
        self.assertEqual(caught.exception.value, ())
