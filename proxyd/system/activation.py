"""Sockets that a service manager has opened before the start: sd_listen_fds(3).

It goes on listening on them while we are away, so that clients wait in the meantime and are not refused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping

from twisted.logger import Logger

_FIRST = 3


class InheritedSockets:
    """The listening sockets that came with the process, until somebody takes them."""

    _log = Logger()

    def __init__(self, sockets: list[tuple[str, socket.socket]]) -> None:
        self._sockets = sockets

    @classmethod
    def of(cls, environ: MutableMapping[str, str], pid: int | None = None, first: int = _FIRST) -> InheritedSockets:
        """Those that `environ` tells of; it does so no more then, lest children take them for theirs.

        What is no listening stream socket is logged, and left alone.
        """
        count, owner, names = (environ.pop(f"LISTEN_{name}", "") for name in ("FDS", "PID", "FDNAMES"))
        sockets: list[tuple[str, socket.socket]] = []
        if not count.isdecimal() or owner != str(os.getpid() if pid is None else pid):
            return cls(sockets)
        called = names.split(":") if names else []
        for index in range(int(count)):
            name = called[index] if index < len(called) else "unknown"
            try:
                sockets.append((name, _listening(first + index)))
            except OSError as error:
                cls._log.warn("inherited socket {name} cannot be used: {reason}", name=name, reason=str(error))
        return cls(sockets)

    def take(self, is_wanted: Callable[[socket.socket], bool]) -> list[socket.socket]:
        """Those that `is_wanted` says are; they belong to the caller from now on."""
        wanted = [sock for _, sock in self._sockets if is_wanted(sock)]
        self._sockets = [(name, sock) for name, sock in self._sockets if sock not in wanted]
        return wanted

    def close(self) -> None:
        """Warn of those that nobody has taken, and let go of them."""
        for name, sock in self._sockets:
            place = sock.getsockname()
            where = place if sock.family == socket.AF_UNIX else f"{place[0]}:{place[1]}"
            self._log.warn("inherited socket {name} at {where} is that of no listener", name=name, where=where)
            sock.close()
        self._sockets = []


def _listening(fd: int) -> socket.socket:
    """The socket of a descriptor, ready for use.

    Raises `OSError`; the descriptor stays open then, because it may be somebody's.
    """
    sock = socket.socket(fileno=fd)
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise OSError("it is no listening stream socket")
    sock.setblocking(False)
    sock.set_inheritable(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # on Linux, accepted sockets inherit it
    return sock
