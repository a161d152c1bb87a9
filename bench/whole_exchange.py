"""The data path without sockets: clients and upstreams are bytes in memory, everything between them is genuine."""

from __future__ import annotations

import itertools
import select
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from proxyd.builtins import KINDS
from proxyd.core.table import RouteTable
from proxyd.metrics.meters import Meters
from proxyd.model.routes import Route
from proxyd.model.settings import Config
from proxyd.model.upstream import Upstream
from proxyd.net.tcp import DataPathServer
from proxyd.workers.datapath import DataPath

# Those of the axis `small`; of one connection, everything would be in the caches of the processor.
_CONNECTIONS = 32
# Clients and upstreams that have something to say in one wake-up; the axis `small` has 7 to 25 events.
_A_WAKE_UP = 8


class MemorySocket:
    """A socket of which `unread` is read, and that keeps what was sent last in `sent`."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.unread = b""
        self.sent = b""

    def fileno(self) -> int:
        """Its number in the epoll set."""
        return self._number

    def setblocking(self, _: bool) -> None:
        """It never blocks."""

    setsockopt = close = setblocking

    def recv(self, _: int) -> bytes:
        """What there is."""
        return self.unread

    def send(self, data: bytes) -> int:
        """Take all of it."""
        self.sent = data
        return len(data)


class MemoryEpoll:
    """An epoll set whose `events` are said to have happened."""

    closed = False

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []

    def poll(self, *_: float) -> list[tuple[int, int]]:
        """What has happened since the last time."""
        events, self.events = self.events, []
        return events

    def register(self, *_: int) -> None:
        """Nothing is watched."""

    modify = unregister = register


class MainReactor(Clock):
    """Calls later, and watches nothing."""

    def addReader(self, _: Any) -> None:
        """Nothing is watched."""


class Dialer:
    """Connects at once."""

    def __init__(self, connect: Callable[[Any], None]) -> None:
        self._connect = connect

    def dial(self, upstream: Upstream, seconds: float, build: Callable[..., Any], tls: object) -> Deferred[Any]:
        """The connection is there."""
        made: Deferred[Any] = Deferred()
        self._connect(build(made.callback))
        return made


class Forgetful:
    """Takes the lines of the log."""

    def write(self, line: str) -> None:
        """Forget it."""


class WholeExchanges:
    """Small GETs over 32 connections in turn; access log, counters, time-outs and activity are on.

    Calling it serves `a_call` of them.
    """

    a_call = _A_WAKE_UP

    def __init__(self, next_request: Callable[[], bytes], next_response: Callable[[], bytes]) -> None:
        table = RouteTable()
        table.set_static([Route("/", Upstream.parse("http://127.0.0.1:9000"), ())], 0.0)
        main = MainReactor()
        data_path = DataPath(Config(), KINDS, table, main, access_writer=Forgetful(), meters=Meters())
        self._reactor = data_path.reactor
        # What is compiled would look for sockets.
        self._reactor._is_compiled = False
        self._reactor._epoll.close()
        self._epoll = self._reactor._epoll = MemoryEpoll()  # type: ignore[assignment]
        self._sockets: list[MemorySocket] = []
        data_path.pools.dialer = Dialer(self._connect)  # type: ignore[assignment]
        site = data_path.make_site()
        self._next_request, self._next_response = next_request, next_response
        for _ in range(_CONNECTIONS):
            self._connect(site.buildProtocol(None))
        self._clients = self._sockets[:]
        self._serve(self._clients)
        self._upstreams = self._sockets[_CONNECTIONS:]
        self._serve(self._upstreams)
        if not all(sock.sent.startswith(b"HTTP/1.1 200 OK\r\n") for sock in self._clients):
            raise RuntimeError("not every client has got its answer")
        self._turns = self._turn()

    def _connect(self, protocol: Any) -> None:
        sock = MemorySocket(len(self._sockets))
        self._sockets.append(sock)
        protocol.makeConnection(
            DataPathServer(sock, protocol, ("127.0.0.1", 1), None, 1, self._reactor)  # type: ignore[arg-type]
        )

    def _serve(self, sockets: list[MemorySocket]) -> None:
        for sock in sockets:
            sock.unread = self._next_request() if sock.fileno() < _CONNECTIONS else self._next_response()
        self._epoll.events = [(sock.fileno(), select.EPOLLIN) for sock in sockets]
        self._reactor.doRead()

    def _turn(self) -> Iterator[None]:
        waiting: list[MemorySocket] = []
        clients = itertools.cycle(self._clients)
        while True:
            asking = list(itertools.islice(clients, _A_WAKE_UP))
            for sock in self._upstreams:
                sock.sent = b""
            self._serve(waiting + asking)
            waiting = [sock for sock in self._upstreams if sock.sent]
            yield

    def __call__(self) -> None:
        """Serve some."""
        next(self._turns)
