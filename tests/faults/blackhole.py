"""A port that swallows connections."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def blackhole(*, accepts: bool = False) -> Iterator[int]:
    """A port at which nobody answers a SYN: its queue is full, and the kernel drops what comes.

    With `accepts` there is room in the queue, and nobody ever takes anything out of it.
    """
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(128 if accepts else 0)
        for _ in range(0 if accepts else 4):  # one fits the queue
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        yield full.getsockname()[1]
