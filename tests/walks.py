"""What walks at random have in common: rounds of a data path on real sockets, which turn when they are told to."""

from __future__ import annotations

import os
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from proxyd.model.tls import ServerTlsSettings
from proxyd.net.certificates import ServerTls
from proxyd.net.reactor import DataPathReactor
from proxyd.net.tcp import DataPathServer, DataPathUnixServer
from proxyd.net.tls import DataPathTlsServer
from tests.certificates import Authority
from tests.net.test_reactor import MainReactor
from tests.support import wait_for

# More of them at once could be sent in part, and nobody would know how many.
_RECORD = 16 * 1024
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Secure:
    """What TLS needs, on both sides; its files are below `directory`."""

    def __init__(self, directory: str) -> None:
        authority = Authority(directory)
        self.tls = ServerTls(ServerTlsSettings(certificates=(authority.issue("localhost").option,)))
        self.tls.load()
        self.context = authority.client_context()


class Rounds:
    """A data path's reactor, and chance; everything but how much a socket takes follows from `seed`."""

    def __init__(self, seed: int, secure: Secure, *, compiled: bool) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # no secret
        self.main = MainReactor()
        self.reactor = DataPathReactor(self.main, compiled=compiled)
        self._secure = secure
        self._wires: list[Wire] = []

    def turn(self) -> None:
        """Let a round of events happen, and what was put off in it."""
        self.reactor.doRead()
        self.main.advance(0)

    def connect(self, protocol: Any, kind: str = "") -> tuple[Any, Wire]:
        """A connection of that or any kind, of which `protocol` does not know yet: its transport, and its other end."""
        transport, theirs = self._connect(protocol, kind or self.random.choice(("tcp", "unix", "tls")))
        wire = Wire(theirs)
        self._wires.append(wire)
        return transport, wire

    def _connect(self, protocol: Any, kind: str) -> tuple[Any, socket.socket]:
        if kind == "unix":
            ours, theirs = socket.socketpair()
            return DataPathUnixServer(ours, protocol, (), None, 0, self.reactor), theirs
        with socket.create_server(("127.0.0.1", 0)) as listening:
            theirs = socket.create_connection(listening.getsockname())
            ours, address = listening.accept()
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kind == "tcp":
            return DataPathServer(ours, protocol, address, None, 0, self.reactor), theirs
        theirs = self._secure.context.wrap_socket(
            theirs, server_hostname="localhost", do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        return DataPathTlsServer(ours, protocol, address, self._secure, 0, self.reactor), theirs

    def close(self) -> None:
        """End all connections."""
        self.reactor.close()
        for wire in self._wires:
            wire.close()


class Walk(Rounds):
    """Something happens at each step, until all that is on its way has arrived."""

    def step(self) -> None:
        """Let something happen at the other ends, and then a round."""
        raise NotImplementedError

    def is_at_rest(self) -> bool:
        """Let what is on its way go on; whether everything has arrived."""
        raise NotImplementedError

    def rest(self) -> None:
        """Let everything arrive."""
        wait_for(self.is_at_rest, "all that is on its way", 30, 0.0)


W = TypeVar("W", bound=Walk)


class WalkingCase(SynchronousTestCase):
    """Takes walks, with the compiled round or without."""

    compiled = True

    def walks(self, make: Callable[..., W], *, steps: int, count: int) -> Iterator[W]:
        """So many walks, or as many as PROXYD_TEST_WALKS says, of so many steps; each is at rest, and still open."""
        secure = Secure(self.mktemp())
        for seed in range(int(os.environ.get("PROXYD_TEST_WALKS", count))):
            walk = make(seed, secure, compiled=self.compiled)
            try:
                for _ in range(steps):
                    walk.step()
                walk.rest()
                yield walk
            finally:
                walk.close()


class Wire:
    """The other end of a connection, which never waits for anything."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.is_secure = isinstance(sock, ssl.SSLSocket)
        self.was_reset = False
        self._begun = b""  # what OpenSSL has been given, has not sent, and wants to be given again
        sock.setblocking(False)

    def send(self, data: bytes) -> bytes:
        """Send `data` as far as it is taken, or what was begun before; what has been sent.

        Raises `OSError`.
        """
        data = self._begun or data[: _RECORD if self.is_secure else None]
        try:
            count = self.sock.send(data)
        except _WAITS:
            self._begun = data if self.is_secure else b""
            return b""
        except ConnectionResetError:
            self.was_reset = True  # the kernel tells of it once: a look at what has come finds nothing but an end
            raise
        self._begun = b""
        return data[:count]

    def take(self, most: int) -> bytes | None:
        """Take up to `most` bytes; empty at the end, None if there are none now."""
        try:
            return self.sock.recv(most)
        except _WAITS:
            return None
        except OSError:
            self.was_reset = True
            return b""

    def shut(self) -> None:
        """Close this side only; over TLS, without a goodbye."""
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)  # that of SSLSocket forgets what it has of TLS

    def say_goodbye(self) -> bool:
        """Over TLS, say that nothing more comes; False if there is no room for it yet."""
        if isinstance(self.sock, ssl.SSLSocket):
            try:
                self.sock.unwrap()
            except ssl.SSLWantWriteError:
                return False
            except OSError:
                pass
        return True

    def close(self) -> None:
        """End the connection."""
        self.sock.close()
