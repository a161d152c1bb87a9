"""Notices when the event loop has stopped turning, and says where it hangs.

That takes a thread: whatever blocks the loop blocks everything else.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

# So often is looked within the time that makes a stall: one is noticed late by a quarter of it at most.
_LOOKS = 4
# The innermost ones: of an endless recursion, the beginning says nothing.
_MAX_FRAMES = 60


class StallWatch:
    """Logs to `log`, which must be safe to use from a thread, each stall of the loop of `clock` that lasts `seconds`.

    `clock` has `callLater`. `now` is a clock that does not jump.
    """

    def __init__(self, clock: Any, seconds: float, log: Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = seconds
        self._log = log
        self._now = now
        self._interval = seconds / _LOOKS
        self._turned: float | None = None
        self._is_stalled = False
        self._call: Any = None
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop_thread = 0
        self.count = 0
        """How many stalls there were."""

    def start(self) -> None:
        """Begin, unless `seconds` is 0; the loop is not judged before it turns. Called in its thread."""
        if not self._seconds:
            return
        self._loop_thread = threading.get_ident()
        self._call = self._clock.callLater(0, self._turn)
        self._thread = threading.Thread(target=self._run, name="proxyd-stalls", daemon=True)
        self._thread.start()

    def restart(self, seconds: float) -> None:
        """Go by other `seconds` from now on; those that there were stay counted. Called in the loop's thread."""
        self.stop()
        self._seconds, self._interval = seconds, seconds / _LOOKS
        self._turned, self._is_stalled = None, False
        self._is_over = threading.Event()
        self.start()

    def stop(self) -> None:
        """End."""
        self._is_over.set()
        if self._call is not None and self._call.active():
            self._call.cancel()
        if self._thread is not None:
            self._thread.join(1)
            self._thread = None

    def _turn(self) -> None:
        self._turned = self._now()
        self._call = self._clock.callLater(self._interval, self._turn)

    def _run(self) -> None:
        stalled_since = 0.0
        while not self._is_over.wait(self._interval):
            turned = self._turned
            if turned is None:
                continue
            if self._is_stalled:
                if turned != stalled_since:
                    self._is_stalled = False
                    self._log.warn("the event loop turns again, after {seconds:.1f} s", seconds=turned - stalled_since)
            elif self._now() - turned > self._seconds:
                stalled_since = turned
                self._is_stalled = True
                self.count += 1
                self._log.error(
                    "the event loop has not turned for {seconds:.1f} s; nothing is served meanwhile\n{stack}",
                    seconds=self._now() - turned,
                    stack=stack_of(self._loop_thread),
                )


def stack_of(thread: int) -> str:
    """Where a thread is, as a traceback has it."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "(the thread has ended)"
    return "".join(traceback.format_stack(frame, _MAX_FRAMES)).rstrip("\n")
