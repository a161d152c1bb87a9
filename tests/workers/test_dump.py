"""Tests of `proxyd.workers.dump`."""

from __future__ import annotations

import os
import socket
import threading

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.core.table import RouteTable
from proxyd.model.routes import Route
from proxyd.model.upstream import Upstream
from proxyd.testing.transports import MemoryTransport
from proxyd.websocket.tunnel import Tunnel
from proxyd.workers import dump
from proxyd.workers.datapath import DataPath

REQUEST = b"POST /a/x%%22?token=hunter2 HTTP/1.1\r\nHost: h\r\nCookie: hunter2\r\nContent-Length: 9\r\n\r\n%b"


class DumpTests(SynchronousTestCase):
    """`dump_state`."""

    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        upstream = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.addCleanup(upstream.close)
        where = Upstream.parse(f"http://127.0.0.1:{upstream.getsockname()[1]}")
        table = RouteTable()
        table.set_static([Route("/a", where, ("a",)), Route("/b", where, ("b",))], 0.0)
        self.data_path = DataPath(parse("", KINDS), KINDS, table, self.clock)
        self.addCleanup(self.data_path.close)
        self.data_path.deadlines.seconds = self.data_path.sites[0].seconds = self.clock.seconds

    def connect(self, data: bytes = b"") -> None:
        """A client that sends something."""
        transport = MemoryTransport(Clock(), "192.0.2.7")
        transport.connect(self.data_path.sites[0].buildProtocol(None))
        if data:
            transport.send(data)

    def open_tunnel(self) -> None:
        """A tunnel that has carried something."""
        tunnel = Tunnel(self.data_path.deadlines, lambda: None, lambda _: None)
        tunnel.label = "/a/ws"
        ends = MemoryTransport(Clock()), MemoryTransport(Clock())
        for end in ends:
            end.connect(Protocol())
        tunnel.join(*ends, b"12345")
        self.data_path.sites[0].tunnel_began(tunnel)

    def said(self, level: str = "info") -> list[str]:
        """What is logged, without what all lines begin with."""
        with capturedLogs() as events:
            dump.dump_state(self.data_path, ["a fact"], level)
        self.levels = {event["log_level"] for event in events}
        lines = [formatEvent(event) for event in events]
        self.assertTrue(all(line.startswith("state: ") for line in lines))
        return [line.removeprefix("state: ") for line in lines]

    def test_what_goes_on(self) -> None:
        """Everything that somebody waits for, since when, and how far it has come."""
        self.connect()
        self.connect(b"GET / HTT")
        self.connect(REQUEST % b"1234")
        self.open_tunnel()
        self.clock.advance(3.5)
        fact, process, *lines = self.said()
        self.assertEqual(fact, "a fact")
        self.assertRegex(process, rf"^process {os.getpid()}: \d+ KiB resident, \d+ of \d+ descriptors, \d+ threads$")
        self.assertEqual(lines[0], "connections: 3 (1 body, 1 head, 1 idle), tunnels: 1")
        self.assertRegex(lines[1], r"^routes: 2, deadlines: \d+$")
        self.assertEqual(
            lines[2:4],
            [
                "exchange POST /a/x%22 by /a: 3.5 s, body, status -, 4 bytes received, 0 sent, from 192.0.2.7",
                "tunnel /a/ws: 3.5 s, 5 bytes up, 0 down",
            ],
        )
        self.assertRegex(lines[4], r"^upstream \S+: 0 idle connections$")
        self.assertNotIn("hunter2", "".join(lines))

    def test_where_every_thread_is(self) -> None:
        """By its name."""
        over = threading.Event()
        thread = threading.Thread(target=over.wait, name="a-thread")
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(over.set)
        (stack,) = [line for line in self.said() if line.startswith("thread a-thread\n")]
        self.assertIn("in wait", stack)
        self.assertTrue(any(line.startswith("thread MainThread\n") and "dump_state" in line for line in self.said()))

    def test_the_loop_is_told_among_many_threads(self) -> None:
        """First, however many others there are; and how many are left out."""
        over = threading.Event()
        threads = [threading.Thread(target=over.wait) for _ in range(dump._MOST_THREADS + 3)]
        for thread in threads:
            thread.start()
            self.addCleanup(thread.join)
        self.addCleanup(over.set)
        first, *others, last = [line for line in self.said() if line.startswith(("thread ", "... and "))]
        self.assertTrue(first.startswith("thread MainThread\n"), first)
        self.assertIn("in dump_state", first)
        self.assertEqual(len(others), dump._MOST_THREADS - 1)
        self.assertRegex(last, r"^\.\.\. and \d+ more threads$")

    def test_it_is_bounded(self) -> None:
        """The oldest are told, and how many more there are."""
        for number in range(dump._MOST + 5):
            self.connect(REQUEST % (b"1" * (number % 9)))
            self.clock.advance(0.02)
        exchanges = [line for line in self.said() if line.startswith("exchange") or line.endswith("more exchanges")]
        self.assertEqual(len(exchanges), dump._MOST + 1)
        self.assertIn(": 2.1 s, ", exchanges[0])
        self.assertEqual(exchanges[-1], "... and 5 more exchanges")

    def test_it_is_always_logged(self) -> None:
        """Whoever asks for it gets it, whatever the least level is."""
        for level, expected in (("debug", "info"), ("info", "info"), ("warn", "warn"), ("error", "error")):
            self.said(level)
            self.assertEqual(self.levels, {LogLevel.lookupByName(expected)})
