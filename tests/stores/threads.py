"""Virtual time for code that has threads: what they call back runs when the test says so."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

_T = TypeVar("_T")
# A busy machine with a slow disk; no wait that succeeds takes so long.
_PATIENCE_SECONDS = 60


class ThreadedClock(Clock):
    """A clock with `callFromThread`; both wait for `run`."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.Queue[Callable[[], object]] = queue.Queue()

    def callFromThread(self, function: Callable[..., object], *arguments: object) -> None:
        self._calls.put(lambda: function(*arguments))

    def run_one(self) -> None:
        """Wait for the next call of a thread, and make it."""
        self._calls.get(timeout=_PATIENCE_SECONDS)()

    def run_waiting(self) -> None:
        """Make the calls that are there already."""
        while not self._calls.empty():
            self.run_one()

    def run_until(self, asked: Deferred[_T]) -> _T:
        """Run until `asked` has fired; what comes of it."""
        results: list[Any] = []
        asked.addBoth(results.append)
        while not results:
            if any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
                self.advance(0)
            else:
                self.run_one()
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]  # type: ignore[no-any-return]
