"""How late the event loop is."""

from __future__ import annotations

from collections import deque
from typing import Any

_TICK_SECONDS = 1.0
# Longer than monitoring usually waits between two scrapes, so that none of them misses a hiccup.
_TICKS = 60


class EventLoopLag:
    """Lets a timer strike once a second, and keeps by how much it was late; `clock` has `seconds` and `callLater`."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=_TICKS)
        self._call: Any = None
        self._due = 0.0

    @property
    def seconds(self) -> float:
        """The most that the timer was late during the last minute."""
        return max(self._recent, default=0.0)

    def start(self) -> None:
        """Begin; the first tick is not judged, because the reactor may not run yet."""
        self._call = self._clock.callLater(0, self._wait)

    def _wait(self) -> None:
        self._due = self._clock.seconds() + _TICK_SECONDS
        self._call = self._clock.callLater(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._recent.append(max(0.0, self._clock.seconds() - self._due))
        self._wait()

    def stop(self) -> None:
        """End."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
