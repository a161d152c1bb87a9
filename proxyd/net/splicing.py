"""Bytes from one socket to another inside the kernel, for bodies and tunnels that are only passed on."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

# Linux: what an unprivileged process may ask for. A larger pipe takes more of what has come at once.
_PIPE_BYTES = 1 << 20
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class SplicePipe:
    """The pipe that splicing needs between two sockets; it is empty between two calls."""

    def __init__(self) -> None:
        self._inlet: int | None = None
        self._outlet: int | None = None

    def fill(self, source: int, most: int) -> int:
        """Take up to `most` bytes that have come to the socket `source`; 0 is its end.

        Raises `OSError`, and `BlockingIOError` if nothing has come.
        """
        if self._inlet is None:
            self._outlet, self._inlet = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            with suppress(OSError):  # it works as well, in smaller steps
                fcntl.fcntl(self._inlet, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return os.splice(source, self._inlet, most, flags=_FLAGS)

    def pour(self, target: int, count: int) -> int:
        """Give the socket `target` as many of the `count` bytes in the pipe as it takes.

        Raises `OSError`, and `BlockingIOError` if it takes nothing.
        """
        assert self._outlet is not None  # noqa: S101  # for mypy; it has been filled
        return os.splice(self._outlet, target, count, flags=_FLAGS)

    def empty(self, count: int) -> bytes:
        """Read the `count` bytes that are left in the pipe."""
        assert self._outlet is not None  # noqa: S101  # for mypy; it has been filled
        pieces = []
        while count:
            piece = os.read(self._outlet, count)
            count -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close it; it opens again when it is filled."""
        for fd in (self._inlet, self._outlet):
            if fd is not None:
                os.close(fd)
        self._inlet = self._outlet = None
