"""Time that passes: a sleep for coroutines, and a timer for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class Clock(Protocol):
    """What tells the time, and calls later."""

    def seconds(self) -> float:
        """The time."""

    def callLater(self, delay: float, function: Callable[..., object], *args: object) -> Any:
        """Call after so many seconds."""


def sleep(clock: Clock, seconds: float) -> Deferred[None]:
    """Fires after so many seconds; a cancel ends the wait."""
    done: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, done.callback, None)
    return done


class Timer:
    """Calls `function` once, some time after it was set."""

    def __init__(self, clock: Clock, function: Callable[[], object]) -> None:
        self._clock = clock
        self._function = function
        self._call: Any = None

    @property
    def is_set(self) -> bool:
        """Whether the call is still to come."""
        return self._call is not None

    def set(self, seconds: float) -> None:
        """Call after so many seconds, and not when it was to be before."""
        self.cancel()
        self._call = self._clock.callLater(max(0.0, seconds), self._fire)

    def cancel(self) -> None:
        """Do not call."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _fire(self) -> None:
        self._call = None
        self._function()
