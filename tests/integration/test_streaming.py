"""What flows through a running proxy: piece by piece, byte for byte, and no faster than the other side takes it."""

from __future__ import annotations

import contextlib
import random
import socket
import tempfile
import threading
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from urllib.parse import quote

from tests.integration.proxies import ProxyTestCase
from tests.wire import PATIENCE_SECONDS, ManualUpstream, ScriptedUpstream, Wire, answering, now

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
GET_1_0 = b"GET %b HTTP/1.0\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n"
CHUNKED_POST = b"POST %b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

MIB = 1024 * 1024


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class PieceTests(ProxyTestCase):
    """Nothing waits for what comes after it."""

    def test_events_arrive_one_by_one(self) -> None:
        """The head comes before the first event, and each event before the next one is sent, in whatever framing."""
        events = [b"data: %d\n\n" % number for number in range(10)]
        length = b"Content-Length: %d\r\n" % sum(map(len, events))
        for fields, wraps in ((b"Transfer-Encoding: chunked\r\n", True), (b"", False), (length, False)):
            client, upstream = self.begin(GET)
            upstream.head()
            upstream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + fields + b"\r\n")
            head = client.head()
            self.assert_status(200, head)
            self.assertIn(b"Content-Type: text/event-stream\r\n", head)
            self.assertEqual(b"", client.buffer)
            for event in events:
                upstream.send(chunked(event) if wraps else event)
                self.assertEqual(event, client.exactly(len(event)) if fields == length else client.chunk())
            if wraps:
                upstream.send(b"0\r\n\r\n")
            elif fields != length:
                upstream.close()
            if fields != length:
                self.assertEqual(b"", client.chunk())

    def test_upload_arrives_piece_by_piece(self) -> None:
        """The upstream has the head before the first piece, and each piece before the next one is sent."""
        for request, wraps in ((POST, False), (CHUNKED_POST, True)):
            client, upstream = self.begin(request)
            self.assertTrue(upstream.head().startswith(b"POST "))
            self.assertEqual(b"", upstream.buffer)
            for piece in (b"one", b"two"):
                client.send(chunked(piece) if wraps else piece)
                self.assertEqual(piece, upstream.chunk() if wraps else upstream.exactly(3))
            if wraps:
                client.send(b"0\r\n\r\n")
                self.assertEqual(b"", upstream.chunk())
            upstream.send(OK)
            self.assert_status(200, client.message())

    def test_both_directions_at_once(self) -> None:
        """A response may begin, and flow, while the upload goes on; then the upstream's connection is in order."""
        listening = ManualUpstream(self)
        target = self.route(listening).encode()
        client = self.client()
        client.send(CHUNKED_POST % target)
        upstream = listening.accept()
        upstream.head()
        upstream.send(CHUNKED_OK)
        self.assert_status(200, client.head())
        for number in range(50):
            piece = b"piece %d" % number
            client.send(chunked(piece))
            self.assertEqual(piece, upstream.chunk())
            upstream.send(chunked(piece))
            self.assertEqual(piece, client.chunk())
        client.send(b"0\r\n\r\n")
        self.assertEqual(b"0\r\n\r\n", upstream.until(b"\r\n\r\n"))
        upstream.send(b"0\r\n\r\n")
        self.assertEqual(b"0\r\n\r\n", client.until(b"\r\n\r\n"))
        deadline = now() + PATIENCE_SECONDS
        while now() < deadline:
            # One of many that come at once comes to the same worker, if there are several.
            for other in [self.client() for _ in range(8)]:
                other.send(GET % (target + b"/next"))
                wire = listening.accept() if listening.is_asked_before(upstream) else upstream
                self.assertIn(b"/next ", wire.head())
                # One that comes to another worker must not be used by the next one that does.
                wire.send(OK if wire is upstream else OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                self.assert_status(200, other.message())
                if wire is upstream:
                    return
        self.fail("nobody came over the connection of the upstream again")

    def test_early_answer_is_not_lost(self) -> None:
        """A client that is still sending gets the answer that could not wait, whole, and then the end."""
        client, upstream = self.begin(b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 100000000\r\n\r\n")
        client.send(bytes(100_000))
        upstream.head()
        upstream.exactly(100_000)
        upstream.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
        with contextlib.suppress(ConnectionError):
            for _ in range(8):  # within what is read and dropped after an answer
                client.send(bytes(64 * 1024))
        head, body = client.message()
        self.assert_status(413, head)
        self.assertIn(b"Connection: close\r\n", head)
        self.assertEqual(b"too large", body)
        client.finish()
        self.assertTrue(client.is_closed(10))
        self.assertTrue(upstream.is_closed(10))

    def test_interim_responses_come_at_once(self) -> None:
        """A client has the early hints before there is an answer (RFC 8297)."""
        client, upstream = self.begin(GET)
        upstream.head()
        upstream.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        self.assertEqual(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n", client.head())
        upstream.send(OK)
        self.assert_status(200, client.message())


class MessageTests(ProxyTestCase):
    """Where messages end, and what comes next on their connections."""

    def test_expect_continue(self) -> None:
        """A client that asks first is told to go on, and its body arrives whole."""
        client, upstream = self.begin(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        self.assertEqual(CONTINUE, client.head())
        client.send(b"body!!")
        self.assertEqual(b"body!!", upstream.message()[1])
        upstream.send(OK)
        self.assert_status(200, client.message())

    def test_expect_of_a_refused_upload(self) -> None:
        """The upstream's answer reaches a client that has not sent its body, and the body is never asked of anyone."""
        client, upstream = self.begin(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        self.assertTrue(upstream.head())
        upstream.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        answer = client.head()
        if answer == CONTINUE:  # the proxy's own: it may come before the upstream's verdict
            answer = client.head()
        self.assert_status(403, answer)
        self.assertEqual(b"no", client.exactly(2))
        self.assertTrue(client.is_closed(10))

    def test_other_expectations(self) -> None:
        """An expectation that nobody knows is refused before anybody is asked (RFC 9110 §10.1.1)."""
        upstream = ManualUpstream(self)
        client = self.client()
        client.send(b"GET %b HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n" % self.route(upstream).encode())
        self.assert_status(417, client.message())
        self.assertFalse(upstream.is_asked())

    def test_bodiless_answers_keep_the_connection(self) -> None:
        """HEAD, 204 and 304 have no body whatever their fields say, and the next answer follows on both connections."""
        client, upstream = self.begin(b"HEAD %b HTTP/1.1\r\nHost: test\r\n\r\n")
        key = f"/{self._testMethodName}/1".encode()
        answers = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"Content-Length: 1000\r\n"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n"),
            (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 500\r\n\r\n', b'ETag: "a"\r\n'),
        ]
        for answer, expected in answers:
            self.assertTrue(upstream.head())
            upstream.send(answer)
            self.assertIn(expected, client.head())
            client.send(GET % key)
        upstream.head()
        upstream.send(OK)
        head, body = client.message()
        self.assert_status(200, head)
        self.assertEqual(b"ok", body)
        self.assertEqual(b"", client.buffer)

    def test_http_1_0(self) -> None:
        """An old client gets no chunks, but the body and then the end; one that asks to stay may stay."""
        client, upstream = self.begin(GET_1_0)
        upstream.head()
        upstream.send(CHUNKED_OK + chunked(b"one") + chunked(b"two") + b"0\r\n\r\n")
        answer = client.rest()
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assert_status(200, head)
        self.assertNotIn(b"Transfer-Encoding", head)
        self.assertEqual(b"onetwo", body)

        client, upstream = self.begin(b"GET %b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        for _ in range(2):
            upstream.head()
            upstream.send(OK)
            head, body = client.message()
            self.assertIn(b"Connection: keep-alive\r\n", head)
            self.assertEqual(b"ok", body)
            client.send(b"GET /%b/2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % self._testMethodName.encode())

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """Requests that come at once are answered one after the other, the slow one of another upstream first."""

        def echo(wire: Wire) -> None:
            while head := wire.message()[0]:
                path = head.split()[1]
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path) + path)

        slow = ManualUpstream(self)
        slow_key = self.route(slow).encode()
        fast_key = self.route(ScriptedUpstream(self, echo)).encode()
        paths = [b"%b/%d" % (fast_key, number) for number in range(50)]
        client = self.client()
        body = b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nHTTP/" % slow_key
        client.send(body + b"".join(GET % path for path in paths))
        upstream = slow.accept()
        self.assertEqual(b"HTTP/", upstream.message()[1])
        upstream.send(OK)
        self.assertEqual(b"ok", client.message()[1])
        self.assertEqual(paths, [client.message()[1] for _ in paths])

    def test_connections_are_kept_on_both_sides(self) -> None:
        """A hundred exchanges of one client are one connection of it, and one to the upstream."""
        upstream = ScriptedUpstream(self, answering(b"ok"))
        key = self.route(upstream)
        client = self.client()
        for _ in range(100):
            self.assertEqual(b"ok", self.ask(key, client=client)[1])
        self.assertEqual(1, upstream.connections)

    def test_connections_to_unix_sockets_are_kept(self) -> None:
        """As those over TCP are."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        with tempfile.TemporaryDirectory() as directory:
            path = f"{directory}/app.sock"
            listening.bind(path)
            listening.listen()
            key = self.route(f"http+unix://{quote(path, safe='')}")
            client = self.client()
            for number in range(10):
                client.send(GET % key.encode())
                if number == 0:
                    listening.settimeout(PATIENCE_SECONDS)
                    upstream = Wire(listening.accept()[0])
                upstream.head()
                upstream.send(OK)
                self.assertEqual(b"ok", client.message()[1])
            upstream.close()

    def test_answers_are_not_mixed_up(self) -> None:
        """Sixteen clients at once, each with twenty bodies that nobody else sends, get their own ones back."""

        def echo(wire: Wire) -> None:
            while (message := wire.message())[0]:
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(message[1]) + message[1])

        key = self.route(ScriptedUpstream(self, echo)).encode()
        wrong: list[object] = []

        def talk(number: int, client: Wire) -> None:
            try:
                for turn in range(20):
                    body = b"%d/%d;" % (number, turn) * (1 + turn * 100)
                    client.send(
                        b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b" % (key, len(body), body)
                    )
                    if client.message()[1] != body:
                        wrong.append((number, turn))
            except Exception as error:  # noqa: BLE001  # a thread has nobody to raise to
                wrong.append(error)

        threads = [threading.Thread(target=talk, args=(number, self.client())) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual([], wrong)
        self.assertFalse(any(thread.is_alive() for thread in threads))


class ByteTests(ProxyTestCase):
    """Bodies are the same on both sides."""

    def setUp(self) -> None:
        """Make a body that has every byte, and is no multiple of anything."""
        super().setUp()
        self.random = random.Random(1)
        self.body = self.random.randbytes(8 * MIB + 12_345)

    def pieces(self, largest: int) -> Iterator[bytes]:
        """The body, cut at random places."""
        places = [0]
        while places[-1] < len(self.body):
            places.append(min(len(self.body), places[-1] + self.random.randint(1, largest)))
        return (self.body[start:end] for start, end in pairwise(places))

    def framed(self, framing: str, largest: int = 200_000) -> tuple[bytes, Iterator[bytes]]:
        """The field that announces the body, and what to send in pieces."""
        if framing == "length":
            return b"Content-Length: %d\r\n" % len(self.body), self.pieces(largest)
        if framing == "close":
            return b"", self.pieces(largest)
        wrapped = (chunked(piece) for piece in self.pieces(largest))
        return b"Transfer-Encoding: chunked\r\n", (piece for part in (wrapped, iter([b"0\r\n\r\n"])) for piece in part)

    def test_download(self) -> None:
        """What the client gets is what the upstream sent, in each framing."""
        for framing in ("length", "chunked", "close"):
            fields, pieces = self.framed(framing)

            def send(wire: Wire, fields: bytes = fields, pieces: Iterator[bytes] = pieces) -> None:
                wire.head()
                wire.send(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
                for piece in pieces:
                    wire.send(piece)

            head, body = self.ask(self.route(ScriptedUpstream(self, send)))
            self.assert_status(200, head)
            self.assertIn(fields or b"Transfer-Encoding: chunked\r\n", head)
            self.assertEqual(sha256(self.body).digest(), sha256(body).digest())

    def test_upload(self) -> None:
        """What the upstream gets is what the client sent, in each framing, with many small chunks as well."""
        digests: list[bytes] = []

        def digest(wire: Wire) -> None:
            while (message := wire.message())[0]:
                digests.append(sha256(message[1]).digest())
                wire.send(OK)

        key = self.route(ScriptedUpstream(self, digest)).encode()
        client = self.client()
        for framing, largest in (("length", 200_000), ("chunked", 200_000), ("chunked", 3_000)):
            fields, pieces = self.framed(framing, largest)
            client.send(b"PUT %b HTTP/1.1\r\nHost: test\r\n%b\r\n" % (key, fields))
            for piece in pieces:
                client.send(piece)
            self.assert_status(200, client.message())
            self.assertEqual(sha256(self.body).digest(), digests.pop())

    def test_body_of_a_get(self) -> None:
        """A GET may have a body; it arrives, and is not taken for the next request."""
        client, upstream = self.begin(b"GET %b HTTP/1.1\r\nHost: test\r\nContent-Length: 16\r\n\r\nGET / HTTP/1.1\r\n")
        self.assertEqual(b"GET / HTTP/1.1\r\n", upstream.message()[1])
        upstream.send(OK)
        self.assert_status(200, client.message())
