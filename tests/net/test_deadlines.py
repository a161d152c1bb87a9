"""Tests of `proxyd.net.deadlines`."""

from __future__ import annotations

import gc
import weakref

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.deadlines import NEVER, Deadlines


class Owner:
    """Remembers when it was struck."""

    deadline: float | None = None
    looked_at = NEVER

    def __init__(self, clock: Clock, fails: bool = False) -> None:
        self.struck: list[float] = []
        self._clock = clock
        self._fails = fails

    def deadline_passed(self) -> None:
        """Remember it."""
        self.struck.append(self._clock.seconds())
        if self._fails:
            raise ZeroDivisionError


class DeadlinesTests(SynchronousTestCase):
    """Deadlines that are set, moved, cleared and forgotten."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.owner = Owner(self.clock)

    def advance(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)

    def test_strikes_once_and_hardly_late(self) -> None:
        """A deadline strikes when it has passed, at most 0.2 seconds late, and then is gone."""
        self.deadlines.set(self.owner, 5)
        self.advance(4.9)
        self.assertEqual([], self.owner.struck)
        self.advance(10)
        self.assertEqual(1, len(self.owner.struck))
        self.assertTrue(5 <= self.owner.struck[0] <= 5.2)
        self.assertIsNone(self.owner.deadline)

    def test_far_ones_are_not_late_either(self) -> None:
        """Those that are seconds, minutes and hours away strike as exactly, however they were moved before."""
        for seconds in (9.99, 10.01, 17.3, 99.96, 100.04, 333.3, 3600.1):
            owner = Owner(self.clock)
            began = self.clock.seconds()
            self.deadlines.set(owner, seconds + 1)
            self.deadlines.set(owner, seconds)
            self.advance(seconds + 0.3)
            self.assertEqual(1, len(owner.struck), seconds)
            self.assertTrue(seconds <= owner.struck[0] - began <= seconds + 0.2, (seconds, owner.struck))

    def test_those_that_are_gone_leave_little(self) -> None:
        """An hour of connections with an hour each does not fill the memory with moments at which nothing happens."""
        for _ in range(3600 * 4):
            self.deadlines.set(self.owner, 3600)
            self.deadlines.forget(self.owner)
            self.clock.advance(0.25)
        self.assertLess(self.deadlines.ticks, 600)

    def test_moved_and_cleared(self) -> None:
        """Only the last deadline counts, earlier or later than the one before; 0 and `clear` mean none."""
        for first, second in ((5, 2), (2, 5), (5, 5)):
            self.owner.struck.clear()
            start = self.clock.seconds()
            self.deadlines.set(self.owner, first)
            self.advance(1)
            self.deadlines.set(self.owner, second)
            self.advance(10)
            self.assertEqual(1, len(self.owner.struck))
            self.assertApproximates(start + 1 + second, self.owner.struck[0], 0.2)
        self.owner.struck.clear()
        self.deadlines.set(self.owner, 1)
        self.deadlines.clear(self.owner)
        self.deadlines.set(self.owner, 1)
        self.deadlines.set(self.owner, 0)
        self.advance(5)
        self.assertEqual([], self.owner.struck)

    def test_one_that_fails_does_not_stop_the_others(self) -> None:
        """An error of one owner is logged; the others are struck all the same."""
        owners = [Owner(self.clock, fails=number % 2 == 0) for number in range(6)]
        for owner in owners:
            self.deadlines.set(owner, 1)
        self.advance(2)
        self.assertEqual([1] * 6, [len(owner.struck) for owner in owners])
        self.assertEqual(3, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_the_forgotten_are_let_go(self) -> None:
        """An owner that has ended is not kept alive by a deadline that it once had."""
        owner = Owner(self.clock)
        self.deadlines.set(owner, 300)
        reference = weakref.ref(owner)
        self.deadlines.forget(owner)
        del owner
        gc.collect()
        self.assertIsNone(reference())
        self.deadlines.forget(self.owner)

    def test_nothing_ticks_without_deadlines(self) -> None:
        """The clock is left alone when there is nothing to wait for, and after `close`."""
        self.deadlines.set(self.owner, 1)
        self.advance(2)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.deadlines.set(self.owner, 1)
        self.deadlines.close()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.deadlines.forget(self.owner)
        Deadlines(self.clock).close()

    @settings(max_examples=60)
    @given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 0.3, 1, 2, 5]), st.sampled_from([0, 0.5, 2]))))
    def test_like_a_delayed_call_each(self, steps: list[tuple[int, float, float]]) -> None:
        """Whatever is done to them, deadlines strike when delayed calls would, within a fraction of a second."""
        clock = Clock()
        deadlines = Deadlines(clock)
        owners = [Owner(clock) for _ in range(4)]
        due: dict[int, float] = {}
        expected: dict[int, list[float]] = {number: [] for number in range(4)}

        def advance(seconds: float) -> None:
            for _ in range(round(seconds * 20)):
                clock.advance(0.05)
            for number, when in list(due.items()):
                if clock.seconds() >= when + 0.25:
                    expected[number].append(when)
                    del due[number]

        for number, seconds, pause in steps:
            if number in due and clock.seconds() >= due[number] - 0.001:
                advance(0.3)  # about to strike: which comes first is not defined
            deadlines.set(owners[number], seconds)
            due.pop(number, None)
            if seconds:
                due[number] = clock.seconds() + seconds
            advance(pause)
        advance(6)
        for number, owner in enumerate(owners):
            self.assertEqual(len(expected[number]), len(owner.struck))
            for wanted, got in zip(expected[number], owner.struck, strict=True):
                self.assertApproximates(wanted, got, 0.25)
