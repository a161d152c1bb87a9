"""Whether a process that is no child of ours has ended: pidfd_open(2)."""

from __future__ import annotations

import os
import select


class Life:
    """The life of the process `pid`, which lives when this is made, as far as anybody knows."""

    def __init__(self, pid: int) -> None:
        self._poll = select.poll()
        try:
            self._fd = os.pidfd_open(pid)
        except OSError:  # it has ended, or the kernel cannot tell
            self._fd = -1
        else:
            self._poll.register(self._fd, select.POLLIN)

    def is_over(self) -> bool:
        """Whether it has ended, or nobody knows; costs a microsecond."""
        return self._fd < 0 or bool(self._poll.poll(0))

    def close(self) -> None:
        """Watch no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
