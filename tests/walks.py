"""What walks at random have in common: rounds of a data path on real sockets, which turn when they are told to."""

from __future__ import annotations

import random
import socket
from typing import Any

from proxyd.net.reactor import DataPathReactor
from proxyd.net.tcp import DataPathServer, DataPathUnixServer
from tests.net.test_reactor import MainReactor


class Rounds:
    """A data path's reactor, and chance; everything but how much a socket takes follows from `seed`."""

    def __init__(self, seed: int, *, compiled: bool) -> None:
        self.random = random.Random(seed)  # no secret
        self.main = MainReactor()
        self.reactor = DataPathReactor(self.main, compiled=compiled)

    def turn(self) -> None:
        """Let a round of events happen, and what was put off in it."""
        self.reactor.doRead()
        self.main.advance(0)

    def connect(self, protocol: Any, *, over_tcp: bool) -> tuple[Any, socket.socket]:
        """A connection, of which `protocol` does not know yet: its transport, and the peer's socket. Neither blocks."""
        if over_tcp:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                theirs = socket.create_connection(listening.getsockname())
                ours, address = listening.accept()
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = DataPathServer(ours, protocol, address, None, 0, self.reactor)
        else:
            ours, theirs = socket.socketpair()
            transport = DataPathUnixServer(ours, protocol, (), None, 0, self.reactor)
        theirs.setblocking(False)
        return transport, theirs
