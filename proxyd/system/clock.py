"""The clock of the reactor's timers, which must not jump."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IDelayedCall


def keep_steady(reactor: Any) -> None:
    """Let the timers of `reactor` run on when somebody sets the clock of the machine.

    Twisted measures by the time of day: set back by an hour, no deadline strikes for an hour. From now on
    `reactor.seconds` is the time of day as it is now, and goes on at its own pace. Where the time of day matters,
    `WallClock` has it. Clocks of tests stay as they are.
    """
    if isinstance(reactor, ReactorBase):
        reactor.seconds = _steady(time.time() - time.monotonic())


def _steady(began: float, monotonic: Callable[[], float] = time.monotonic) -> Callable[[], float]:
    return lambda: began + monotonic()


class WallClock:
    """The timers of `reactor`, with the time of day."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.seconds: Callable[[], float] = time.time if isinstance(reactor, ReactorBase) else reactor.seconds

    def callLater(self, delay: float, function: Callable[..., object], *args: object, **kwargs: object) -> IDelayedCall:
        """Call `function` in `delay` seconds."""
        return self._reactor.callLater(delay, function, *args, **kwargs)  # type: ignore[no-any-return]

    def callFromThread(self, function: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Call `function` in the thread of the reactor."""
        self._reactor.callFromThread(function, *args, **kwargs)
