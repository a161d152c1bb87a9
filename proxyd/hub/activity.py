"""When something last happened, and telling JupyterHub, which stops what is idle (contract of JupyterHub, 2.9)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from random import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.activity import timestamp
from proxyd.errors import HubError

_JITTER = 0.1
_RETRY_SECONDS = (1, 2, 4, 8, 15, 15, 15)  # a minute in all
_REFUSED = 500  # what a Hub says that understood us; it would say it again


class Activity:
    """When somebody who may be here was last at work: `last`, in seconds since the epoch; at first, now.

    Requests whose whole path matches one of the regular expressions in `ignored` do not count.
    """

    def __init__(self, wall_clock: Callable[[], float], ignored: Iterable[str] = ()) -> None:
        self._wall_clock = wall_clock
        self._ignored: list[re.Pattern[bytes]] = []
        self.ignore(ignored)
        self.last = wall_clock()

    def ignore(self, patterns: Iterable[str]) -> None:
        """Have other regular expressions from now on."""
        self._ignored = [re.compile(pattern.encode()) for pattern in patterns]

    def touch(self) -> None:
        """Something happens."""
        self.last = self._wall_clock()

    def touch_of(self, path: bytes) -> Callable[[], None] | None:
        """What a request for the raw `path` calls whenever something happens; None if it does not count."""
        return None if any(pattern.fullmatch(path) for pattern in self._ignored) else self.touch


class ActivityReports:
    """Reports about every `interval` seconds, with `post`, when something last happened.

    `server_name` is that of the server, empty for the default one. An idle server reports nothing, unless
    `force_alive` claims that something happens all the time. Whatever goes wrong is logged, and the next report is
    tried as if it had not.
    """

    _log = Logger()

    def __init__(
        self,
        post: Callable[[bytes], Deferred[None]],
        last_activity: Callable[[], float],
        *,
        server_name: str,
        interval: float,
        force_alive: bool,
        clock: Any,
        wall_clock: Callable[[], float],
        random: Callable[[], float] = random,
    ) -> None:
        self._post = post
        self._last_activity = last_activity
        self._server_name = server_name
        self._interval = interval
        self._force_alive = force_alive
        self._clock = clock
        self._wall_clock = wall_clock
        self._random = random
        self._reported = 0.0
        self._call: IDelayedCall | None = None
        self._posting: Deferred[None] | None = None

    def start(self) -> None:
        """Begin; the first report comes after one interval. An interval of 0 means never."""
        if self._interval > 0 and self._call is None:
            jitter = 1 - _JITTER + 2 * _JITTER * self._random()
            self._call = self._clock.callLater(self._interval * jitter, self._report, 0)

    def stop(self) -> None:
        """Report no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._interval = 0
        if self._posting is not None:
            self._posting.cancel()

    def _report(self, attempt: int) -> None:
        self._call = None
        last = self._wall_clock() if self._force_alive else self._last_activity()
        if last <= self._reported:
            self.start()
            return
        stamp = timestamp(last)
        body = json.dumps({"servers": {self._server_name: {"last_activity": stamp}}, "last_activity": stamp})
        posting = self._posting = self._post(body.encode())
        posting.addCallbacks(self._posted, self._failed, (last,), {}, (attempt,))
        posting.addErrback(lambda failure: self._log.failure("unexpected error in a report", failure=failure))

    def _posted(self, _: None, last: float) -> None:
        self._posting = None
        self._reported = last
        self.start()

    def _failed(self, failure: Failure, attempt: int) -> None:
        self._posting = None
        if not self._interval:
            return
        error = failure.value
        if not isinstance(error, HubError):
            self._log.failure("unexpected error in a report of activity", failure=failure)
        elif error.status != _REFUSED and attempt < len(_RETRY_SECONDS):
            self._call = self._clock.callLater(_RETRY_SECONDS[attempt], self._report, attempt + 1)
            return
        else:
            self._log.warn("no report of activity: {error}", error=error)
        self.start()
