"""Tests of `proxyd.system.clock`."""

from __future__ import annotations

import time

from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.system.clock import WallClock, keep_steady


class _Reactor(ReactorBase):
    """A real one as far as timers are concerned."""

    def installWaker(self) -> None:
        """Nobody wakes it up."""


class ClockTests(SynchronousTestCase):
    """`keep_steady` and `WallClock`."""

    def test_timers_do_not_jump(self) -> None:
        """They strike when their time is over, whatever somebody does to the clock; the time of day is the new one."""
        real = time.time
        for jump in (-3600, 3600):
            reactor = _Reactor()
            keep_steady(reactor)
            before = reactor.seconds()
            self.assertLess(abs(before - real()), 60)
            struck: list[str] = []
            reactor.callLater(0, struck.append, "soon")
            WallClock(reactor).callLater(1800, struck.append, "late")
            patch = self.patch(time, "time", lambda jump=jump: real() + jump)
            reactor.runUntilCurrent()
            self.assertEqual(["soon"], struck)
            self.assertLess(abs(reactor.seconds() - before), 60)
            self.assertLess(abs(WallClock(reactor).seconds() - real() - jump), 60)
            patch.restore()

    def test_calls_from_threads(self) -> None:
        """They come in the thread of the reactor."""
        reactor = _Reactor()
        called: list[int] = []
        reactor.wakeUp = lambda: None  # type: ignore[method-assign]  # nobody wakes it up
        WallClock(reactor).callFromThread(called.append, 1)
        self.assertEqual([], called)
        reactor.runUntilCurrent()
        self.assertEqual([1], called)

    def test_clocks_of_tests(self) -> None:
        """They have a time of their own."""
        virtual = Clock()
        keep_steady(virtual)
        virtual.advance(5)
        self.assertEqual(5, virtual.seconds())
        self.assertEqual(5, WallClock(virtual).seconds())
