"""A worker process as the controller has it: its sockets, its link, and its end."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.python.failure import Failure

from proxyd.workers.link import Link
from proxyd.workers.messages import FIRST_SOCKET_FD, LINK_FD, MEMORY_FD


class Handle(Protocol):
    """A worker process that was started."""

    pid: int

    def kill(self) -> None:
        """End it, whatever it does."""

    def starved_seconds(self) -> float:
        """For how long it could have run, in all, and others had the cores."""


Spawn = Callable[[int, Link, Callable[[str], None]], Handle]
"""Starts worker NUMBER at the other end of a link; the last argument is called with the reason when it has ended.

Raises `OSError`.
"""


class ProcessSpawner:
    """Starts workers that inherit `sockets` and `memory`, as children of this process."""

    def __init__(self, reactor: Any, sockets: Sequence[socket.socket], memory: int, environ: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._sockets = sockets
        self._memory = memory
        self._environ = environ

    def __call__(self, number: int, link: Link, ended: Callable[[str], None]) -> Handle:
        """Start one."""
        ours, theirs = socket.socketpair()
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            ours.setblocking(False)
            descriptors = {0: null, 1: 1, 2: 2, LINK_FD: theirs.fileno(), MEMORY_FD: self._memory}
            descriptors |= {FIRST_SOCKET_FD + index: sock.fileno() for index, sock in enumerate(self._sockets)}
            process = _Process(ended)
            self._reactor.spawnProcess(
                process,
                sys.executable,
                # Nothing of where we are, but everything that we could import.
                [sys.executable, "-P", "-m", "proxyd.workers", str(number)],
                {**self._environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                childFDs=descriptors,
            )
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, _OneLink(link))
        finally:
            os.close(null)
            theirs.close()
            ours.close()  # the reactor has a descriptor of its own
        return process


class _OneLink(Factory):
    """Has the protocol of one connection, which is there already."""

    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, addr: object) -> Link:
        """It is `link`."""
        return self._link


class _Process(ProcessProtocol):
    """Waits for the end of a process."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self.pid = 0

    def connectionMade(self) -> None:
        """It runs."""
        self.pid = getattr(self.transport, "pid", None) or 0

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    def starved_seconds(self) -> float:
        """For how long it could have run, in all, and others had the cores; 0 where the kernel does not tell."""
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def processEnded(self, reason: Failure) -> None:
        """It has ended."""
        error = reason.value
        number = getattr(error, "signal", None)
        if number is not None:
            self._ended(f"was killed by {signal.Signals(number).name}")
        elif isinstance(error, ProcessDone):
            self._ended("has ended")
        else:
            self._ended(f"has ended with status {getattr(error, 'exitCode', '?')}")
