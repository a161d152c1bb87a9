"""Turns that several processes take with something that they share."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from types import TracebackType

# struct flock of 64-bit Linux: type, whence, start, length, and the process, which is 0 for locks of this kind.
_LOCK = struct.Struct("hhxxxxqqixxxx")


class FileTurn:
    """A turn with whatever byte `number` of the file open as `fd` stands for, in a `with` block.

    It is held by an open file description, so each process opens the file by itself; it ends with the process, however
    that ends. Where it cannot be had, nobody waits.
    """

    def __init__(self, fd: int, number: int) -> None:
        self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        self._number = number

    def __enter__(self) -> None:
        """Wait for the turn."""
        self._set(fcntl.F_WRLCK)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let others have it."""
        self._set(fcntl.F_UNLCK)

    def _set(self, kind: int) -> None:
        with suppress(OSError):
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLKW, _LOCK.pack(kind, os.SEEK_SET, self._number, 1, 0))

    def close(self) -> None:
        """There are no more turns to be taken."""
        os.close(self._fd)
