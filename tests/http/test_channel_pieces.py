"""Tests of `proxyd.http.channel`: heads that come in pieces leave nothing behind for what follows."""

from __future__ import annotations

from random import Random

from tests.http.support import GET, OK, DataPathTestCase

CHECK = b"GET /healthz HTTP/1.1\r\nHost: a.test\r\n\r\n"
HANDSHAKE = (
    b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class PiecesTests(DataPathTestCase):
    """A head ends where a packet ends, after a part of it came before."""

    def test_the_next_request_is_read_afresh(self) -> None:
        """Wherever the first one was cut, and though it was answered at once."""
        for cut in range(1, len(CHECK)):
            client = self.proxy.client()
            for piece in (CHECK[:cut], CHECK[cut:], CHECK):
                client.send(piece)
            self.assertEqual(client.pop().count(b"HTTP/1.1 200 OK\r\n"), 2, CHECK[:cut])

    def test_the_next_request_is_forwarded_afresh(self) -> None:
        """When the first one had to wait for its upstream."""
        client = self.proxy.client()
        client.send(GET[:-1])
        client.send(GET[-1:])
        upstream = self.proxy.accept()
        upstream.pop()
        upstream.send(OK)
        self.assertEqual(client.pop().count(b"HTTP/1.1 200 OK\r\n"), 1)
        client.send(GET.replace(b"/x", b"/y"))
        self.assertTrue(upstream.pop().startswith(b"GET /y HTTP/1.1\r\n"))

    def test_a_tunnel_begins_empty(self) -> None:
        """The upstream of a WebSocket gets nothing that belonged to the handshake."""
        client = self.proxy.client()
        client.send(HANDSHAKE[:-5])
        client.send(HANDSHAKE[-5:])
        upstream = self.proxy.accept()
        upstream.pop()
        upstream.send(AGREED)
        self.proxy.advance()
        client.send(b"\x81\x80abcd")
        self.proxy.advance()
        self.assertEqual(upstream.pop(), b"\x81\x80abcd")

    def test_pipelined_requests_may_be_cut_anywhere(self) -> None:
        """As many answers as requests, whatever the network makes of them."""
        for seed in range(100):
            random = Random(seed)
            client = self.proxy.client()
            data = CHECK * 40
            while data:
                size = random.choice([1, 2, 3, 10, 100, 1000])
                client.send(data[:size])
                data = data[size:]
                self.proxy.clock.pump([0] * random.randrange(3))
            self.proxy.clock.pump([0] * 10)
            answers = client.pop()
            self.assertEqual((answers.count(b"HTTP/1.1 "), answers.count(b"HTTP/1.1 200 OK\r\n")), (40, 40), seed)
