"""Clients and upstreams that send without end, or take nothing: what that costs is bounded."""

from __future__ import annotations

import contextlib
import select
import threading

from tests.faults.sockets import in_kernel
from tests.integration.proxies import Proxy, ProxyTestCase
from tests.support import wait_for, wait_for_rest
from tests.wire import ScriptedUpstream, Wire, answering, cpu_seconds, now, resident_bytes

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
GET_1_0 = b"GET %b HTTP/1.0\r\n\r\n"
PUT = b"PUT %b HTTP/1.1\r\nHost: test\r\nContent-Length: 100000000000\r\n\r\n"
CHUNKED_POST = b"POST %b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"

MIB = 1024 * 1024
# The kernel's buffers on the two connections of an exchange hold at most so much, with some to spare.
_IN_KERNEL = 64 * MIB
# What an upload may have in our memory while its upstream takes nothing.
_HELD_BYTES = MIB
_IDLE = 400
_BYTES_AN_IDLE_CONNECTION = 16 * 1024


class MemoryTestCase(ProxyTestCase):
    """Has a proxy whose memory no other test has used."""

    def setUp(self) -> None:
        """Let it load what it loads at the first exchange."""
        self.use(Proxy(self))
        for _ in range(3):
            self.ask(self.route(ScriptedUpstream(self, answering())))
        self.before = resident_bytes(self.proxy.pid)

    def assert_grown_less_than(self, mebibytes: float) -> None:
        """The process needs hardly more memory than before."""
        self.assertLess(resident_bytes(self.proxy.pid) - self.before, mebibytes * MIB)


class PressureTests(MemoryTestCase):
    """A side that does not take what the other sends costs no memory."""

    def assert_stalls(self, counts: list[int]) -> None:
        """What is counted in `counts` stops growing, with no more sent than kernels buffer."""
        wait_for_rest(counts, "the sender has to wait")
        self.assertLess(counts[0], _IN_KERNEL)

    def test_slow_reader_of_an_endless_answer(self) -> None:
        """The upstream has to wait for a client that does not read, others do not, and then it goes on."""
        sent = [0]

        def pour(wire: Wire) -> None:
            wire.sock.settimeout(60)
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                wire.send(bytes(64 * 1024))
                sent[0] += 64 * 1024

        key = self.route(ScriptedUpstream(self, pour)).encode()
        client = self.client()
        client.send(GET_1_0 % key)
        self.assert_stalls(sent)
        self.assert_grown_less_than(16)
        self.assert_alive()
        self.assert_status(200, client.head())
        taken = 0
        while taken < 2 * _IN_KERNEL:
            taken += len(client.sock.recv(MIB))
        self.assert_grown_less_than(16)

    def test_many_slow_readers(self) -> None:
        """Twenty clients that read nothing of large answers cost little more than one."""

        def pour(wire: Wire) -> None:
            wire.sock.settimeout(60)
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
            for _ in range(50):
                wire.send(bytes(1_000_000))
                sent[0] += 1_000_000

        sent = [0]
        key = self.route(ScriptedUpstream(self, pour)).encode()
        clients = [self.client(receive_buffer=8192) for _ in range(20)]
        for client in clients:
            client.send(GET % key)
        for client in clients:
            self.assert_status(200, client.head())
        wait_for_rest(sent, "the upstreams have to wait")
        self.assert_grown_less_than(32)
        self.assert_alive()

    def test_slow_taker_of_an_endless_upload(self) -> None:
        """The client has to wait for an upstream that does not read, and its upload goes on when it does."""
        piece = bytes(64 * 1024)
        for request, data in ((PUT, piece), (CHUNKED_POST, b"%x\r\n%b\r\n" % (len(piece), piece))):
            client, upstream = self.begin(request)
            upstream.head()
            pouring = Pouring(client, data)
            pouring.until_stall()
            self.assertLess(pouring.sent, _IN_KERNEL)
            taken = len(upstream.buffer)
            ports = (client.sock.getsockname()[1], upstream.sock.getpeername()[1])
            self.assertLess(pouring.sent - taken - in_kernel(*ports), _HELD_BYTES)
            self.assert_grown_less_than(16)
            self.assert_alive()
            while taken < 2 * _IN_KERNEL:
                taken += len(upstream.sock.recv(MIB))
                pouring.more()
            self.assert_grown_less_than(16)
            upstream.reset()
            self.assertTrue(client.is_closed(10))

    def test_idle_connections(self) -> None:
        """Each costs a few kilobytes, whether it has served a request or not."""
        clients = [self.client() for _ in range(_IDLE)]
        for client in clients[::2]:
            self.assert_status(200, self.ask("/healthz", client=client))
        self.assert_alive()  # all of them are accepted by then
        self.assert_grown_less_than(_IDLE * _BYTES_AN_IDLE_CONNECTION / MIB)


class Pouring:
    """Sends `data` over and over without ever waiting; `sent` counts bytes."""

    def __init__(self, wire: Wire, data: bytes) -> None:
        self.sent = 0
        self._sock = wire.sock
        self._sock.setblocking(False)
        self._data = memoryview(data)

    def more(self) -> None:
        """Send as much as is taken now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sent += self._sock.send(self._data[self.sent % len(self._data) :])

    def until_stall(self) -> None:
        """Send until nobody has taken any of it for a second."""
        while select.select([], [self._sock], [], 1.0)[1]:
            self.more()


class FloodTests(MemoryTestCase):
    """Clients and upstreams that send without an end."""

    def test_pipelined_requests(self) -> None:
        """Twenty thousand requests at once cost little, starve nobody, and end with the client who sent them."""
        answered = [0]

        def count(wire: Wire) -> None:
            while wire.message()[0]:
                answered[0] += 1
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + bytes(10_000))

        key = self.route(ScriptedUpstream(self, count)).encode()
        client = self.client(receive_buffer=8192)

        def flood() -> None:
            with contextlib.suppress(OSError):
                client.send(GET % key * 20_000)

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        wait_for(lambda: answered[0] > 0, "the first answers")
        for _ in range(5):
            began = now()
            self.assert_alive()
            self.assertLess(now() - began, 5)
        wait_for_rest(answered, "a client that reads nothing is served no more")
        self.assert_grown_less_than(8)
        client.reset()
        thread.join(10)
        self.assert_alive()
        self.assertLess(answered[0], 20_000)

    def test_late_reader_of_many_answers(self) -> None:
        """A client that reads nothing for a while gets all of its answers after that, in order."""
        answered = [0]

        def answer(wire: Wire) -> None:
            while head := wire.message()[0]:
                answered[0] += 1
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n%10000b" % head.split()[1])

        key = self.route(ScriptedUpstream(self, answer)).encode()
        requests = [GET % (b"%b/%d" % (key, number)) for number in range(1500)]
        client = self.client(receive_buffer=8192)
        thread = threading.Thread(target=client.send, args=[b"".join(requests)], daemon=True)
        thread.start()
        wait_for_rest(answered, "a client that reads nothing is served no more")
        self.assertLess(answered[0], len(requests))
        for request in requests:
            self.assertEqual(request.split()[1], client.message()[1].strip())
        thread.join(10)
        self.assertEqual(len(requests), answered[0])

    def test_endless_head(self) -> None:
        """A head without an end, or lines before one, cost neither memory nor much time."""
        used = cpu_seconds(self.proxy.pid)
        for start in (b"GET /", b"GET / HTTP/1.1\r\nX: ", b"", b"\r\n"):
            client = self.client()
            with contextlib.suppress(ConnectionError):
                client.send(start)
                for _ in range(100):
                    client.send((start if start == b"\r\n" else b"a") * (MIB // 4))
            if start != b"\r\n":
                self.assertTrue(client.is_closed(10), start)
            client.close()
        self.assert_grown_less_than(8)
        self.assertLess(cpu_seconds(self.proxy.pid) - used, 2)
        self.assert_alive()

    def test_endless_heads_and_interim_responses_of_upstreams(self) -> None:
        """They are given up at a limit, and cost as little however many of them there are."""
        for start, piece in (
            (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 65536),
            (b"", b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n" * 1000),
            (b"", b"HTTP/1.1 103 Early Hints\r\nLink: " + b"a" * 8000 + b"\r\n\r\n"),
        ):

            def pour(wire: Wire, start: bytes = start, piece: bytes = piece) -> None:
                wire.head()
                wire.send(start)
                while True:
                    wire.send(piece)

            key = self.route(ScriptedUpstream(self, pour)).encode()
            clients = [self.client() for _ in range(30)]
            for client in clients:
                client.send(GET % key)
            for client in clients:
                head = client.head()
                while head.startswith(b"HTTP/1.1 10"):
                    head = client.head()
                self.assert_status(502, head)
        self.assert_grown_less_than(8)
        self.assert_alive()
