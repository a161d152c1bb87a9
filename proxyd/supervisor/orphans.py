"""Processes that came to us when whoever had started them ended.

The first process of a container is the parent of all that have none any more, and so is who has asked the kernel for
it. Unless it takes note of their ends, their entries fill the table of processes.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from twisted.internet.process import reapProcessHandlers

from proxyd.supervisor.process import stat_of
from proxyd.supervisor.waiting import Clock, Timer

_PR_GET_CHILD_SUBREAPER = 37  # linux/prctl.h
_SECONDS = 2.0
_STATE, _PARENT, _SESSION = 0, 1, 3


class Orphans:
    """Takes note of their ends every few seconds, if there can be any."""

    def __init__(self, clock: Clock) -> None:
        self._seen: set[int] = set()
        self._timer = Timer(clock, self._look)
        if _adopts():
            self._timer.set(_SECONDS)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        # Who has started a process asks for its status at once: what is still there at the second look is nobody's.
        dead = _dead_children()
        for pid in dead & self._seen:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = dead
        self._timer.set(_SECONDS)


def _adopts() -> bool:
    if os.getpid() == 1:
        return True
    flag = ctypes.c_int()
    return ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag)) == 0 and flag.value == 1


def _dead_children() -> set[int]:
    """The ids of children that have ended and were in another session than we, but for those that Twisted waits for."""
    ours, session = str(os.getpid()).encode(), str(os.getsid(0)).encode()
    found = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError, IndexError):
            stat = stat_of(name)
            if stat[_STATE] == b"Z" and stat[_PARENT] == ours and stat[_SESSION] != session:
                found.add(int(name))
    return found - reapProcessHandlers.keys()
