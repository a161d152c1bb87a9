"""Tests of `proxyd.workers.reports`: activity and counters of workers, and what the controller makes of them."""

from __future__ import annotations

import json
import time

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.changes import Change
from proxyd.core.table import RouteTable
from proxyd.metrics.meters import ChpMeters, Gauges, Meters, Uncounted
from proxyd.model.routes import Route
from proxyd.model.upstream import Upstream
from proxyd.workers.reports import Ledger, Numbers, Touches, merge_touches, process_costs


@attrs.frozen
class Done:
    """A request that is over."""

    kind: str = "forward"
    operation: str = ""
    seconds: float = 0.02
    status: int = 200
    body_received: int = 3
    body_sent: int = 5


def meters(requests: int) -> Meters:
    """Counters that have counted some."""
    counted = Meters()
    for _ in range(requests):
        counted.exchange_done(Done())
        counted.connect_done("connected")
    return counted


def gauges(number: int) -> Gauges:
    return Gauges(
        routes=0, connections=number, tunnels=number, idle_upstream_connections=number, received=number, sent=number
    )


def travelled(numbers: Numbers) -> Numbers:
    """As they arrive."""
    return Numbers.from_json(json.loads(json.dumps(numbers.as_json())))


class ActivityTests(SynchronousTestCase):
    """When routes were used."""

    def setUp(self) -> None:
        self.table, self.workers_table = RouteTable(), RouteTable()
        for table in (self.table, self.workers_table):
            route = Route("/a", Upstream.parse("http://a.test"), ("a",))
            table.apply(Change(1, "/a", route), 100.0 if table is self.table else 0.0)

    def test_what_was_used_is_told_once(self) -> None:
        """With the time of its last use."""
        now = [200.0]
        touches = Touches(lambda: now[0])
        (entry,) = self.workers_table
        touches.touch(entry)
        now[0] = 201.0
        touches.touch(entry)
        self.assertEqual(touches.take(), [("/a", 201.0)])
        self.assertEqual(touches.take(), [])
        self.assertEqual(entry.last_activity, 201.0)

    def test_the_latest_use_counts(self) -> None:
        """Of a route that is there; one that was put since then is new."""
        merge_touches(self.table, [("/a", 201.0), ("/gone", 202.0)])
        merge_touches(self.table, [("/a", 150.0)])
        (entry,) = self.table
        self.assertEqual(entry.last_activity, 201.0)


class LedgerTests(SynchronousTestCase):
    """The numbers of all workers."""

    def test_numbers_travel(self) -> None:
        """As plain values, and are the same then."""
        numbers = Numbers(meters(2), gauges(3), stalls=1, dropped_lines=2, lag=0.5, cpu_seconds=1.5, resident_bytes=7)
        found = travelled(numbers)
        self.assertEqual(found.as_json(), numbers.as_json())
        self.assertEqual(travelled(Numbers()).meters, None)

    def test_they_are_summed(self) -> None:
        """Requests, durations, bytes and connections of the controller and of all workers; the routes are its own."""
        ledger = Ledger()
        ledger.note(1, travelled(Numbers(meters(2), gauges(1), stalls=1, dropped_lines=4, lag=0.1)))
        ledger.note(2, travelled(Numbers(meters(3), gauges(10), stalls=2, lag=0.3)))
        ledger.note(2, travelled(Numbers(meters(4), gauges(20), stalls=2, lag=0.2)))
        own = meters(1)
        own.reload_done(applied=True)
        merged = ledger.merged(own)
        self.assertEqual(merged.requests["forward"].classes[2], 7)
        self.assertEqual(sum(merged.requests["forward"].durations.counts), 7)
        self.assertAlmostEqual(merged.requests["forward"].durations.total, 0.14)
        self.assertEqual((merged.received, merged.sent, merged.connects["connected"]), (21, 35, 7))
        self.assertEqual(merged.reloads, {"applied": 1, "refused": 0})
        self.assertEqual((ledger.stalls, ledger.dropped_lines, ledger.lag), (3, 4, 0.2))
        everything = ledger.gauges(attrs.evolve(gauges(100), routes=5))
        self.assertEqual(everything, attrs.evolve(gauges(121), routes=5))

    def test_what_a_dead_worker_has_counted_remains(self) -> None:
        """Counters never go back; its connections are gone."""
        ledger = Ledger()
        for number in (1, 2, 1):
            ledger.note(number, travelled(Numbers(meters(2), gauges(1), dropped_lines=1)))
            ledger.left(number)
        ledger.left(7)
        self.assertEqual(ledger.merged(meters(0)).requests["forward"].classes[2], 6)
        self.assertEqual(ledger.gauges(gauges(0)), gauges(0))
        self.assertEqual((ledger.dropped_lines, ledger.lag), (3, 0.0))

    def test_a_reload_that_changes_the_names(self) -> None:
        """What ends after it is counted under the new ones."""
        ledger = Ledger()
        for _ in range(2):
            ledger.note(1, travelled(Numbers(meters(2), stalls=1)))
            ledger.left(1)
        chp = ChpMeters()
        chp.requests_web = 3
        for _ in range(2):
            ledger.note(2, travelled(Numbers(chp)))
            ledger.left(2)
        self.assertEqual(ledger.merged(ChpMeters()).requests_web, 6)
        self.assertEqual(ledger.stalls, 2)

    def test_counting_begins_anew(self) -> None:
        """For those that run and those that have ended; what is not of the meters goes on."""
        ledger = Ledger()
        for number in (1, 2, 1):
            ledger.note(number, travelled(Numbers(meters(2), stalls=1, cpu_seconds=1.5)))
        ledger.left(1)
        ledger.note(1, travelled(Numbers(meters(2), stalls=1)))
        ledger.restart()
        self.assertEqual(ledger.merged(meters(0)).requests["forward"].classes[2], 0)
        ledger.note(1, travelled(Numbers(meters(3), stalls=1)))
        ledger.left(1)
        ledger.left(2)  # it has told nothing since then
        self.assertEqual(ledger.merged(meters(0)).requests["forward"].classes[2], 3)
        self.assertEqual(ledger.stalls, 3)

    def test_counters_of_other_names(self) -> None:
        """Those of configurable-http-proxy are summed, too, and the last durations of all are what quantiles are of."""
        several = [ChpMeters() for _ in range(3)]
        for number, each in enumerate(several, 1):
            each.requests_web, each.requests_ws = number, number * 10
            each.upstream_answered(200)
            each.look_ups.observe(number / 10)
            each.touches.observe(0.5)
        several[0].api.listed = 3
        ledger = Ledger()
        for number, each in enumerate(several[1:], 1):
            ledger.note(number, travelled(Numbers(each)))
        merged = ledger.merged(several[0])
        self.assertEqual((merged.requests_web, merged.requests_ws, dict(merged.requests_proxy)), (6, 60, {200: 3}))
        self.assertEqual((merged.look_ups.count, merged.look_ups.quantiles([0.01, 0.99])), (3, [0.1, 0.3]))
        self.assertEqual((merged.touches.total, merged.api.listed), (1.5, 3))

    def test_nothing_is_counted(self) -> None:
        """Without metrics, and where somebody counts something else."""
        ledger = Ledger()
        ledger.note(1, Numbers(Uncounted()))
        self.assertIsNone(ledger.merged(None))
        self.assertEqual(ledger.merged(meters(1)).requests["forward"].classes[2], 1)

    def test_what_a_process_costs(self) -> None:
        """CPU time and memory, as the system has them."""
        seconds, size = process_costs()
        self.assertLessEqual(seconds, time.process_time())
        self.assertGreater(size, 10_000_000)
