"""Tests of `proxyd.metrics.lag`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.metrics.lag import EventLoopLag


class LagTests(SynchronousTestCase):
    """How late a timer is."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lag = EventLoopLag(self.clock)

    def test_a_loop_on_time_has_none(self) -> None:
        """Nor has one that has not turned yet."""
        self.lag.start()
        self.assertEqual(0.0, self.lag.seconds)
        self.clock.pump([0, *([1.0] * 5)])
        self.assertEqual(0.0, self.lag.seconds)

    def test_the_worst_of_a_minute_is_kept(self) -> None:
        """For a minute, so that a scrape sees it."""
        self.lag.start()
        self.clock.pump([0, 1.25, 1.0])
        self.assertEqual(0.25, self.lag.seconds)
        self.clock.pump([1.0] * 58)
        self.assertEqual(0.25, self.lag.seconds)
        self.clock.pump([1.0])
        self.assertEqual(0.0, self.lag.seconds)

    def test_the_start_is_not_judged(self) -> None:
        """The reactor may begin to run long after the timer was set."""
        self.lag.start()
        self.clock.pump([30.0, 1.0])
        self.assertEqual(0.0, self.lag.seconds)

    def test_stop(self) -> None:
        """Nothing stays behind, however often it is stopped."""
        self.lag.stop()
        self.lag.start()
        self.clock.pump([0, 1.0])
        self.lag.stop()
        self.lag.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
