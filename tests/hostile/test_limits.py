"""Every limit of `limits` and of clients' `timeouts`, with a real process: just below it, and beyond."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import ClassVar

from tests.integration.proxies import ProxyTestCase
from tests.wire import PATIENCE_SECONDS, ManualUpstream, ScriptedUpstream, Wire, answering

_HEAD = b"Host: a\r\n"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# An address that is this machine as well: another client.
_OTHER = "127.0.0.2"


class LimitTestCase(ProxyTestCase):
    """Asks as one client or another."""

    def client_at(self, address: str) -> Wire:
        """A connection to the proxy from this address of the machine."""
        sock = socket.create_connection(("127.0.0.1", self.proxy.port), PATIENCE_SECONDS, (address, 0))
        self.addCleanup(sock.close)
        return Wire(sock)

    def assert_turned_away(self, status: int, message: bytes | tuple[bytes, bytes]) -> None:
        """The client got this status, and when to come again."""
        head = message if isinstance(message, bytes) else message[0]
        self.assert_status(status, head)
        found = re.search(rb"\r\nRetry-After: ([0-9]+)\r\n", head)
        assert found is not None, head
        self.assertGreater(int(found[1]), 0)


class SizeTests(LimitTestCase):
    """Sizes of what clients and upstreams send."""

    settings: ClassVar[str] = (
        "limits: {request_line: 200, header_line: 300, headers: 600, header_count: 6, body: 100, chunk_line: 40, "
        "trailers: 50, interim_responses: 2}"
    )

    def status_of(self, request: bytes) -> int:
        """The status of the answer to a request."""
        client = self.client()
        with contextlib.suppress(ConnectionError):
            client.send(request)
        return int(client.head().split(b" ")[1])

    def test_of_requests(self) -> None:
        """What fits is served; one more byte, or line, earns the status that says which limit it was."""
        key = self.route(ScriptedUpstream(self, answering())).encode()
        get = b"GET %b HTTP/1.1\r\n" % key + _HEAD
        post = b"POST %b HTTP/1.1\r\n" % key + _HEAD
        chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
        line = b"GET %b?%%b HTTP/1.1\r\n" % key
        room = 200 - len(line % b"") + 2
        for name, status, form, most, too_much in (
            ("request_line", 414, line.replace(b"%b", b"{}") + _HEAD + b"\r\n", b"a" * room, b"a" * (room + 1)),
            ("header_line", 431, get + b"X: {}\r\n\r\n", b"a" * 297, b"a" * 298),
            ("headers", 431, get + b"X: {}\r\nX: {}\r\n\r\n", b"a" * 280, b"a" * 295),
            ("header_count", 431, get + b"{}\r\n", b"X: y\r\n" * 5, b"X: y\r\n" * 6),
            ("body", 413, post + b"Content-Length: {}\r\n\r\n" + bytes(101), b"100", b"101"),
            ("body in chunks", 413, chunked + b"{}\r\n0\r\n\r\n", b"64\r\n" + bytes(100), b"65\r\n" + bytes(101)),
            (
                "body in two chunks",
                413,
                chunked + b"60\r\n" + bytes(96) + b"\r\n{}\r\n0\r\n\r\n",
                b"1\r\na",
                b"5\r\naaaaa",
            ),
            ("chunk_line", 400, chunked + b"1;{}\r\na\r\n0\r\n\r\n", b"x" * 37, b"x" * 38),
            ("trailers", 400, chunked + b"0\r\nX: {}\r\n\r\n", b"y" * 40, b"y" * 50),
        ):
            good, bad = (form.replace(b"{}", value) for value in (most, too_much))
            self.assertEqual((200, status), (self.status_of(good), self.status_of(bad)), name)
        self.assert_alive()

    def test_of_responses(self) -> None:
        """Heads, and 1xx responses, of upstreams have limits as well: else 502."""
        interim = b"HTTP/1.1 102 Processing\r\n\r\n"
        field = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: %b\r\n\r\nok"
        for name, good, bad in (
            ("headers", field % (b"a" * 500), field % (b"a" * 700)),
            ("interim_responses", interim * 2 + _OK, interim * 3 + _OK),
        ):
            for status, answer in ((200, good), (502, bad)):
                upstream = ManualUpstream(self)
                client = self.client()
                client.send(b"GET %b HTTP/1.1\r\n" % self.route(upstream).encode() + _HEAD + b"\r\n")
                wire = upstream.accept()
                wire.head()
                wire.send(answer)
                head = client.head()
                while head.startswith(b"HTTP/1.1 1"):
                    head = client.head()
                self.assertEqual(b"HTTP/1.1 %d" % status, head[:12], name)


class ConnectionTests(LimitTestCase):
    """`limits.connections`."""

    settings: ClassVar[str] = "limits: {connections: 4}"

    def test_beyond_the_limit(self) -> None:
        """503 and when to come again, and the end; who has a connection keeps it, and an end makes room."""
        clients = [self.client() for _ in range(4)]
        for client in clients:
            self.assert_status(200, self.ask("/healthz", client=client))
        for _ in range(3):
            late = self.client()
            self.assert_turned_away(503, late.head())
            late.finish()
            self.assertEqual(b"", late.rest())
        for client in clients:
            self.assert_status(200, self.ask("/healthz", client=client))
        clients[0].close()
        self.proxy.process.wait_for(lambda: self.ask("/healthz")[0].startswith(b"HTTP/1.1 200 "), "room")


class ClientConnectionTests(LimitTestCase):
    """`limits.connections_per_client`."""

    settings: ClassVar[str] = "trusted_proxies: []\nlimits: {connections_per_client: 3}"

    def test_beyond_the_share(self) -> None:
        """429 and when to come again, for that client only."""
        clients = [self.client() for _ in range(3)]
        for client in clients:
            self.assert_status(200, self.ask("/healthz", client=client))
        self.assert_turned_away(429, self.client().head())
        self.assert_status(200, self.ask("/healthz", client=self.client_at(_OTHER)))
        for client in clients:
            self.assert_status(200, self.ask("/healthz", client=client))


class ClientRateTests(LimitTestCase):
    """`limits.requests_per_client`."""

    settings: ClassVar[str] = "trusted_proxies: []\nlimits: {requests_per_client: 5/h}"

    def test_beyond_the_rate(self) -> None:
        """429 and when to come again, and not for others, nor for health checks; the upstream does not hear of it."""
        asked = []

        def count(wire: Wire) -> None:
            while head := wire.message()[0]:
                asked.append(head)
                wire.send(_OK)

        key = self.route(ScriptedUpstream(self, count))
        client = self.client()
        statuses = []
        for _ in range(8):
            head, _ = self.ask(key, "X-Forwarded-For: 192.0.2.1\r\n", client=client)
            statuses.append(int(head.split(b" ")[1]))
        self.assertEqual([200] * 5 + [429] * 3, statuses)
        self.assertEqual(5, len(asked))
        self.assert_turned_away(429, self.ask(key, client=client))
        self.assert_turned_away(429, self.ask("/no/route"))
        self.assert_status(200, self.ask("/healthz"))
        self.assert_status(200, self.ask(key, client=self.client_at(_OTHER)))


class RouteRateTests(LimitTestCase):
    """`rate` of a route."""

    def test_beyond_the_rate(self) -> None:
        """429 and when to come again, whoever asks, WebSockets included; other routes are not touched."""
        upstream = ScriptedUpstream(self, answering())
        key, other = self.route(upstream, rate="3/h"), self.route(upstream)
        for _ in range(3):
            self.assert_status(200, self.ask(key))
        self.assert_turned_away(429, self.ask(key))
        self.assert_turned_away(429, self.ask(f"{key}/x", client=self.client_at(_OTHER)))
        upgrade = (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
        )
        self.assert_turned_away(429, self.ask(key, upgrade))
        self.assert_status(200, self.ask(other))


class SlowTests(LimitTestCase):
    """Clients that are slow on purpose, many at once."""

    settings: ClassVar[str] = "timeouts: {header: 1s, body_idle: 3s, keep_alive: 1s}"

    def trickle(self, clients: list[Wire], piece: bytes, seconds: float) -> list[Wire]:
        """Send pieces from all clients until they are answered, or the time is over; those that are not answered."""
        deadline = time.monotonic() + seconds
        waiting = list(clients)
        while waiting and time.monotonic() < deadline:
            for client in tuple(waiting):
                client.sock.settimeout(0.05 / len(waiting))
                with contextlib.suppress(TimeoutError):
                    try:
                        client.buffer += client.sock.recv(65536)
                        waiting.remove(client)
                        continue
                    except ConnectionError:
                        waiting.remove(client)
                        continue
                with contextlib.suppress(ConnectionError):
                    client.sock.sendall(piece)
        for client in clients:
            client.sock.settimeout(PATIENCE_SECONDS)
        return waiting

    def test_slowloris(self) -> None:
        """The time for a head is absolute, for the first one and for the next; others are served meanwhile."""
        first = [self.client() for _ in range(20)]
        next_ones = [self.client() for _ in range(20)]
        for client in next_ones:
            self.assert_status(200, self.ask("/healthz", client=client))
        for client in first + next_ones:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        self.assert_alive()
        self.assertEqual([], self.trickle(first + next_ones, b"a", 20))
        for client in first + next_ones:
            self.assert_status(408, client.head())
        self.assert_alive()

    def test_lines_one_by_one(self) -> None:
        """Whole fields do not prolong it, and neither do empty lines before a request."""
        for start, piece in ((b"GET / HTTP/1.1\r\n", b"X: y\r\n"), (b"", b"\r\n")):
            clients = [self.client() for _ in range(3)]
            for client in clients:
                client.send(start)
            self.assertEqual([], self.trickle(clients, piece, 20), piece)

    def test_silence(self) -> None:
        """Who says nothing at all is closed without a word."""
        clients = [self.client() for _ in range(20)]
        self.assertEqual([b""] * 20, [client.rest() for client in clients])

    def test_an_upload_that_goes_on(self) -> None:
        """Slow is not stuck: a body that comes byte by byte may take longer than `body_idle`, and arrives whole."""
        upstream = ManualUpstream(self)
        client = self.client()
        client.send(b"POST %b HTTP/1.1\r\n" % self.route(upstream).encode() + _HEAD + b"Content-Length: 500\r\n\r\n")
        wire = upstream.accept()
        wire.head()
        self.assertEqual([client], self.trickle([client], b"a", 3.5))  # nobody has answered yet
        with contextlib.suppress(ConnectionError):
            client.send(b"a" * 500)
        self.assertEqual(b"a" * 500, wire.exactly(500))
        wire.send(_OK)
        self.assert_status(200, client.head())

    def test_a_download_that_goes_on(self) -> None:
        """A client that takes little at a time gets all of it, however long that takes."""
        size = 6 * 1024 * 1024
        upstream = ScriptedUpstream(self, answering(bytes(size)))
        client = self.client(receive_buffer=65536)
        client.send(b"GET %b HTTP/1.1\r\n" % self.route(upstream).encode() + _HEAD + b"\r\n")
        client.head()
        got = len(client.buffer)
        began = time.monotonic()
        while got < size and (data := client.sock.recv(65536)):
            got += len(data)
            if time.monotonic() - began < 3.5:
                time.sleep(0.02)
        self.assertEqual(size, got)
