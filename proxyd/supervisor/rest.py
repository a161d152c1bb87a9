"""When a server that is ready is not needed any more: it is idle, or old."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from proxyd.model.servers import ServerSpec
from proxyd.supervisor.waiting import Clock, Timer


class Rest:
    """Calls `stop` once the server is idle, or old and unused. `label` is what the log calls it."""

    _log = Logger()

    def __init__(
        self, spec: ServerSpec, label: str, clock: Clock, is_used: Callable[[], bool], stop: Callable[[], None]
    ) -> None:
        self._spec = spec
        self._label = label
        self._clock = clock
        self._is_used = is_used
        self._stop = stop
        self._is_old = False
        self._idle = Timer(clock, self.consider)
        self._age = Timer(clock, self._grow_old)
        self.last_activity = 0.0

    def touch(self) -> None:
        """Something happened that counts as activity."""
        self.last_activity = self._clock.seconds()

    def begin(self) -> None:
        """The server is ready: its age and its idle time begin."""
        self.touch()
        self._is_old = False
        if self._spec.max_lifetime:
            self._age.set(self._spec.max_lifetime)

    def cancel(self) -> None:
        """It is not ready any more."""
        self._idle.cancel()
        self._age.cancel()

    def consider(self) -> None:
        """Stop it if that is due, or look again when it may be; for a server that is ready."""
        if self._is_used():
            return  # the end of the last lease leads here again
        left = self.last_activity + self._spec.idle_timeout - self._clock.seconds()
        if self._is_old:
            self._log.info("server {server} has lived for long enough", server=self._label)
            self._stop()
        elif self._spec.idle_timeout and left <= 0:
            self._log.info("server {server} was idle", server=self._label)
            self._stop()
        elif self._spec.idle_timeout:
            self._idle.set(left)

    def _grow_old(self) -> None:
        self._is_old = True
        self.consider()
