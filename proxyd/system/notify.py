"""What the service manager is told: sd_notify(3)."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import MutableMapping
from typing import Any

from twisted.logger import Logger

# How soon a message is tried again that found no room; none comes as often.
_AGAIN_SECONDS = 0.1


class Notifier:
    """Tells the service manager that `environ` names, if it does; `clock` has `callLater`.

    The variables are removed then: they are not meant for children. Nothing here ever waits.
    """

    _log = Logger()

    def __init__(self, environ: MutableMapping[str, str], clock: Any, pid: int | None = None) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        pid = os.getpid() if pid is None else pid
        is_watched = microseconds.isdecimal() and environ.pop("WATCHDOG_PID", str(pid)) == str(pid)
        self._address = "\0" + path[1:] if path[:1] == "@" else path
        self._watchdog_seconds = int(microseconds) / 2_000_000 if is_watched and path else 0.0
        self._clock = clock
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque()
        self._again: Any = None
        self._tick: Any = None

    def ready(self, status: str = "serving") -> None:
        """The start, or a reload, is over; from now on the watchdog hears of the event loop as long as it turns."""
        self._send("READY=1", f"STATUS={status}")
        if self._watchdog_seconds and self._address and self._tick is None:
            self._watch()

    def reloading(self) -> None:
        """A reload begins; `ready` has to follow."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}", "STATUS=reading the configuration again")

    def stopping(self, status: str) -> None:
        """The end begins."""
        self._send("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say in one line how things are."""
        self._send(f"STATUS={status}")

    def close(self) -> None:
        """Say no more."""
        for call in (self._again, self._tick):
            if call is not None and call.active():
                call.cancel()
        self._again = self._tick = None
        self._waiting.clear()
        self._address = ""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _watch(self) -> None:
        self._send("WATCHDOG=1")
        self._tick = self._clock.callLater(self._watchdog_seconds, self._watch)

    def _send(self, *lines: str) -> None:
        if self._address:
            self._waiting.append("\n".join(lines).encode())
            if self._again is None:
                self._send_waiting()

    def _send_waiting(self) -> None:
        self._again = None
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            while self._waiting:
                self._socket.sendto(self._waiting[0], self._address)
                self._waiting.popleft()
        except BlockingIOError:
            self._again = self._clock.callLater(_AGAIN_SECONDS, self._send_waiting)
        except OSError as error:
            self._log.warn("the service manager cannot be told: {reason}", reason=str(error))
            self.close()
