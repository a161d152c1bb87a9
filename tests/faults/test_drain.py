"""The end of a proxy that is busy: nothing that was begun is lost."""

from __future__ import annotations

import signal
import threading

from tests.faults.scripts import HANDSHAKE, MESSAGE, SWITCHING
from tests.integration.test_serve import OPEN, PATIENCE_SECONDS, CommandCase, Server
from tests.support import accepts, wait_for
from tests.wire import ScriptedUpstream, Wire, connect, now

_STREAM = [b"data: %d\n\n" % number for number in range(50)]


class DrainTests(CommandCase):
    """SIGTERM while there are exchanges in every state."""

    def setUp(self) -> None:
        super().setUp()
        self.released = threading.Event()
        self.addCleanup(self.released.set)
        self.asked = 0
        self._lock = threading.Lock()

    def script(self, wire: Wire) -> None:
        """Answer once the test has released it, as the path says."""
        while head := wire.head():
            path = head.split(b" ")[1]
            if path == b"/ok":
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            if path == b"/stream":
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            elif path == b"/body":
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            elif path == b"/old":
                wire.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            elif path == b"/tunnel":
                wire.send(SWITCHING)
            with self._lock:
                self.asked += 1
            if path == b"/upload":
                body = wire.exactly(8)
            if not self.released.wait(PATIENCE_SECONDS):
                raise AssertionError("nobody released the answer")
            if path == b"/stream":
                for event in _STREAM:
                    wire.send(b"%x\r\n%b\r\n" % (len(event), event))
                wire.send(b"0\r\n\r\n")
            elif path == b"/body":
                wire.send(b"done")
            elif path == b"/upload":
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + body)
            elif path == b"/tunnel":
                wire.send(MESSAGE)
                wire.rest()
                return
            else:
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalfdone")

    def begin(self, settings: str = "") -> tuple[Server, dict[bytes, list[Wire]], Wire]:
        """A proxy with 20 exchanges and 5 tunnels that are going on, and an idle connection."""
        upstream = ScriptedUpstream(self, self.script)
        server = self.start(f"{OPEN}routes: {{/: {upstream.url}}}\n{settings}")
        idle = connect(server.port)
        idle.send(b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(b"ok", idle.message()[1])
        clients: dict[bytes, list[Wire]] = {}
        for path in (b"/late", b"/body", b"/stream", b"/upload", b"/tunnel"):
            for _ in range(5):
                client = connect(server.port)
                if path == b"/tunnel":
                    client.send(HANDSHAKE % path)
                elif path == b"/upload":
                    client.send(b"PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
                else:
                    client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
                if path in {b"/body", b"/stream", b"/tunnel"}:
                    client.head()
                clients.setdefault(path, []).append(client)
        wait_for(lambda: self.asked == 25, "25 exchanges")
        return server, clients, idle

    def test_twenty_of_twenty(self) -> None:
        """All of them are finished, whatever state they were in; what is idle is closed at once, and so is the rest."""
        server, clients, idle = self.begin()
        began = now()
        server.process.send(signal.SIGTERM)
        self.assertEqual(b"", idle.rest())
        self.assertLess(now() - began, 20)  # and not only at the end of `drain_seconds`
        wait_for(lambda: not accepts(server.port), "the listener is closed")
        self.assertTrue(server.process.is_running)
        for client in clients[b"/upload"]:
            client.send(b"done")
        self.released.set()
        for path, body in ((b"/late", b"halfdone"), (b"/upload", b"halfdone")):
            for client in clients[path]:
                head, got = client.message()
                self.assertIn(b"\r\nConnection: close\r\n", head)
                self.assertEqual((body, b""), (got, client.rest()), path)
        for client in clients[b"/body"]:
            self.assertEqual(b"halfdone", client.rest())
        for client in clients[b"/stream"]:
            self.assertEqual(b"".join(_STREAM), b"".join(iter(client.chunk, b"")))
            self.assertEqual(b"\r\n", client.rest())
        for client in clients[b"/tunnel"]:
            self.assertEqual(MESSAGE, client.rest())
        self.assertEqual(0, server.process.wait(PATIENCE_SECONDS))
        self.assertNotIn("Traceback", server.process.log)

    def test_a_second_signal(self) -> None:
        """It forces the end: everything is cut, nothing looks whole, and the status is that of an orderly end."""
        server, clients, _ = self.begin("drain_seconds: 3600\n")
        old = connect(server.port)
        old.send(b"GET /old HTTP/1.0\r\n\r\n")
        self.assertTrue(old.until(b"half").endswith(b"half"))
        server.process.send(signal.SIGTERM)
        wait_for(lambda: not accepts(server.port), "the listener is closed")
        server.process.send(signal.SIGTERM)
        self.assertEqual(0, server.process.wait(PATIENCE_SECONDS))
        for path in (b"/late", b"/upload", b"/stream", b"/tunnel"):
            for client in clients[path]:
                self.assertEqual(b"", client.rest(), path)
        for client in clients[b"/body"]:
            self.assertEqual(b"half", client.rest())
        with self.assertRaises(ConnectionResetError):  # only so it knows that this is not the end of the body
            old.sock.recv(1)

    def test_requests_behind_the_signal(self) -> None:
        """A connection that is busy serves what it has begun, and takes nothing new."""
        server, clients, _ = self.begin()
        busy = clients[b"/late"][0]
        server.process.send(signal.SIGTERM)
        wait_for(lambda: not accepts(server.port), "the listener is closed")
        busy.send(b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in clients[b"/upload"]:
            client.send(b"done")
        self.released.set()
        self.assertEqual(b"halfdone", busy.message()[1])
        self.assertEqual(b"", busy.rest())
        self.assertEqual(0, server.process.wait(PATIENCE_SECONDS))
