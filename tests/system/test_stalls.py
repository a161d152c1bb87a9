"""Tests of `proxyd.system.stalls`: the thread is real, the loop is the test."""

from __future__ import annotations

import threading
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.system.stalls import StallWatch, stack_of
from tests.support import wait_for

SECONDS = 0.04


class StallWatchTests(SynchronousTestCase):
    """`StallWatch`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.time = 100.0
        self.events: list[LogEvent] = []
        self.looks = 0

    def make(self, seconds: float = SECONDS) -> StallWatch:
        """A watch; the time that it sees is `time`."""

        def now() -> float:
            self.looks += 1
            return self.time

        watch = StallWatch(self.clock, seconds, Logger(observer=self.events.append), now)
        self.addCleanup(watch.stop)
        return watch

    def said(self, count: int) -> list[str]:
        """What was logged, once that are so many events."""
        wait_for(lambda: len(self.events) >= count, f"{count} events")
        return [formatEvent(event) for event in self.events]

    def look(self, times: int = 3) -> None:
        """Wait until the thread has looked again."""
        enough = self.looks + times
        wait_for(lambda: self.looks >= enough, "another look")

    def stall(self, until: Callable[[], bool]) -> None:
        """Hang here."""
        wait_for(until, "the end of the stall")

    def test_a_stall_is_told_once(self) -> None:
        """With where the loop hangs; and its end, with how long it took; the next one is told again."""
        watch = self.make()
        watch.start()
        for number in (1, 2):
            self.clock.advance(SECONDS)
            self.look()
            self.time += 7.5
            self.stall(lambda number=number: len(self.events) == 2 * number - 1)  # type: ignore[misc]
            self.time += 1
            self.clock.advance(SECONDS)
            self.said(2 * number)
        said = self.said(4)
        self.assertIn("the event loop has not turned for 7.5 s", said[0])
        self.assertIn("in stall\n", said[0])
        self.assertEqual(said[1], "the event loop turns again, after 8.5 s")
        self.assertEqual((watch.count, len(said)), (2, 4))

    def test_a_loop_that_has_not_begun_is_not_judged(self) -> None:
        """The reactor starts after us; nor is one that turns in time."""
        watch = self.make()
        watch.start()
        self.time += 100
        self.clock.advance(SECONDS)
        self.look()
        self.time += SECONDS
        self.look()
        watch.stop()
        self.assertEqual((self.events, watch.count, self.clock.getDelayedCalls()), ([], 0, []))

    def test_it_can_be_off(self) -> None:
        """There is no thread then."""
        before = threading.active_count()
        watch = self.make(0)
        watch.start()
        self.assertEqual((threading.active_count(), self.clock.getDelayedCalls()), (before, []))
        watch.stop()


class StackTests(SynchronousTestCase):
    """`stack_of`."""

    def test_where_a_thread_is(self) -> None:
        """Its innermost frames, of however many."""

        def even(depth: int) -> str:
            return odd(depth - 1) if depth else stack_of(threading.get_ident())

        def odd(depth: int) -> str:
            return even(depth - 1)

        lines = even(200).splitlines()
        self.assertIn("in even", lines[-4])
        self.assertIn("in stack_of", lines[-2])
        self.assertLess(len(lines), 130)

    def test_a_thread_that_has_ended(self) -> None:
        """Is nowhere."""
        self.assertEqual(stack_of(1), "(the thread has ended)")
