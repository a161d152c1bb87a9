"""Scripted WebSocket exchanges, after the groups of the Autobahn testsuite: directly, in a tunnel, and in a relay."""

from __future__ import annotations

from proxyd.core.upgrade import accept_value
from tests.integration.proxies import ProxyTestCase
from tests.websocket.echo import echo_server
from tests.websocket.exchanges import EXCHANGES, GROUPS, Frames
from tests.websocket.frames import BINARY, CLOSE, TEXT, close_frame, frame, read_close, take_frames
from tests.websocket.transcripts import handshake, problem, transcript
from tests.wire import Wire

_AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_value(b"dGhlIHNhbXBsZSBub25jZQ==")
)
# What an upstream has to say, in frames: it is cut at each byte.
_STORY = frame(TEXT, "grün".encode()) + frame(BINARY, b"x" * 126) + frame(TEXT, b"a", fin=False) + close_frame(1000)


def until_close(wire: Wire, read: bytes = b"", *, masked: bool = False) -> Frames:
    """The frames that come, up to a Close, which is the last thing that comes; `read` was read already."""
    frames: Frames = ()
    while not frames or frames[-1][0] != CLOSE:
        data = wire.some(65536)
        read += data
        frames, behind = take_frames(read, masked=masked)
        assert data or not behind, f"no frame: {behind!r}"
        assert data, f"there is no Close behind {frames!r}"
    assert not behind, f"there is something behind the Close: {behind!r}"
    return frames


class ExchangeTests(ProxyTestCase):
    """A server that echoes, and whoever talks with it by the rules, or against them."""

    def setUp(self) -> None:
        super().setUp()
        self.server = echo_server(self)

    def test_every_group_is_there(self) -> None:
        """Each has its exchanges, good ones and bad ones where the group knows both, under names of their own."""
        self.assertEqual(set(GROUPS), {exchange.group for exchange in EXCHANGES})
        self.assertEqual(len(EXCHANGES), len({exchange.title for exchange in EXCHANGES}))
        self.assertEqual({2, 3, 4, 5, 6, 7, 9, 12}, {exchange.group for exchange in EXCHANGES if exchange.fault})
        self.assertGreaterEqual(len(EXCHANGES), 120)

    def test_tunnel(self) -> None:
        """What should come comes directly; through a tunnel the same bytes come."""
        key = self.route(self.server)
        for exchange in EXCHANGES:
            direct = transcript(self.server.port, "/", exchange)
            self.assertEqual("", problem(exchange, direct), f"directly, {exchange.title}")
            self.assertEqual(direct, transcript(self.proxy.port, key, exchange), exchange.title)
        self.assert_alive()

    def test_relay(self) -> None:
        """Through a relay comes what the RFC asks for."""
        key = self.route(self.server, websocket="relay")
        for exchange in EXCHANGES:
            relayed = transcript(self.proxy.port, key, exchange)
            self.assertEqual("", problem(exchange, relayed, in_order=False), exchange.title)
        self.assert_alive()

    def test_glued_to_the_handshake(self) -> None:
        """Nothing changes when the first piece comes in one write with the handshake."""
        tunnel, relay = self.route(self.server), self.route(self.server, websocket="relay")
        exchanges = [exchange for exchange in EXCHANGES if exchange.group in (1, 2, 4, 5, 7)]
        for exchange in exchanges:
            for key in (tunnel, relay):
                seen = transcript(self.proxy.port, key, exchange, glued=True)
                self.assertEqual("", problem(exchange, seen, in_order=key is tunnel), f"{key}, {exchange.title}")

    def test_server_that_resets(self) -> None:
        """What it has said before comes as it does directly, and nothing of ours behind it.

        A reset overtakes what is on its way: long answers may be cut, directly as well.
        """
        server = echo_server(self, resets=True)
        key = self.route(server)
        for exchange in EXCHANGES:
            if exchange.group in (3, 4, 5, 7) and exchange.is_short:
                direct = transcript(server.port, "/", exchange)
                self.assertEqual("", problem(exchange, direct), f"directly, {exchange.title}")
                self.assertEqual(direct, transcript(self.proxy.port, key, exchange), exchange.title)
        self.assert_alive()


class OpenStreamTests(ProxyTestCase):
    """From the 101 on there is nothing of HTTP in the stream, whatever happens to the upstream."""

    def open(self, websocket: str) -> tuple[Wire, Wire]:
        """Both ends of an open WebSocket."""
        client, upstream = self.begin(handshake(b"%b"), websocket=websocket)
        upstream.head()
        upstream.send(_AGREED)
        self.assert_status(101, client.head())
        return client, upstream

    def test_cut_at_every_byte_of_a_tunnel(self) -> None:
        """Close or reset, what was sent arrives, and nothing else does."""
        for resets in (False, True):
            for count in range(len(_STORY)):
                client, upstream = self.open("tunnel")
                upstream.send(_STORY[:count])
                if resets:
                    self.assertEqual(_STORY[:count], client.exactly(count))  # a reset overtakes what is on its way
                    upstream.reset()
                    self.assertEqual(b"", client.rest())
                else:
                    upstream.close()
                    self.assertEqual(_STORY[:count], client.rest())
                client.close()

    def test_cut_at_every_byte_of_a_relay(self) -> None:
        """The messages that are whole arrive, and then a Close that tells of the upstream."""
        for resets in (False, True):
            for count in range(len(_STORY)):
                client, upstream = self.open("relay")
                upstream.send(_STORY[:count])
                whole = take_frames(_STORY[:count])[0]
                if resets:
                    expected = b"".join(frame(opcode, payload) for opcode, payload in whole)
                    self.assertEqual(expected, client.exactly(len(expected)))
                    upstream.reset()
                else:
                    expected = b""
                    upstream.close()
                *messages, close = until_close(client, expected)
                self.assertEqual((list(whole), 1011), (messages, read_close(close[1]).code), count)
                client.send(close_frame(1011, mask=True))
                self.assertEqual(b"", client.rest(), count)

    def test_requests_of_a_client_are_no_requests(self) -> None:
        """What looks like HTTP goes to the upstream of a tunnel as it is, and is a fault in a relay."""
        hidden = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
        client, upstream = self.open("tunnel")
        client.send(hidden)
        self.assertEqual(hidden, upstream.exactly(len(hidden)))
        upstream.close()
        self.assertEqual(b"", client.rest())
        client, upstream = self.open("relay")
        client.send(hidden)
        for wire, code in ((client, 1002), (upstream, 1001)):
            ((_, payload),) = until_close(wire, masked=wire is upstream)
            self.assertEqual(code, read_close(payload).code)
