"""Tests of `proxyd.websocket.rawsocket` and `proxyd.http.rawsocket`, with both ends in memory."""

from __future__ import annotations

from proxyd.core.closing import Close
from proxyd.errors import ConnectError
from proxyd.model.servers import Place, ServerSpec
from proxyd.testing.transports import MemoryTransport
from tests.http.test_managed import PLACE, ManagedTestCase, managed
from tests.http.test_ports import UPGRADE
from tests.websocket.frames import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame, read_close, read_frames


class RawTestCase(ManagedTestCase):
    """A server that speaks no HTTP, and is ready."""

    def setUp(self) -> None:
        self.serve(app=managed(raw_socket_proxy=True))
        self.supervisor.become_ready("app", PLACE)

    def open(self, target: str = "/app/", fields: str = "") -> tuple[MemoryTransport, MemoryTransport]:
        """An open WebSocket, and the stream that it leads to."""
        client = self.get(target, UPGRADE + fields)
        self.assertEqual(b"", client.pop())  # not before the server has accepted
        stream = self.proxy.accept()
        self.proxy.advance()
        self.answer = self.assert_status(101, client)
        return client, stream

    def close_of(self, client: MemoryTransport) -> Close:
        """What the Close said that the client got last."""
        opcode, payload = read_frames(client.pop())[-1]
        self.assertEqual(CLOSE, opcode)
        return read_close(payload)


class HandshakeTests(RawTestCase):
    """How it begins (contract of managed servers, section 8.2)."""

    def test_any_path(self) -> None:
        """And nothing of the handshake reaches the server; the key is answered."""
        for target in ("/app/", "/app/a/b?c"):
            _, stream = self.open(target)
            self.assertEqual(b"", stream.pop())
            self.assertIn(b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", self.answer)
            self.assertNotIn(b"Sec-WebSocket-Protocol", self.answer)

    def test_what_is_for_http_does_not_count(self) -> None:
        """Fields and paths, whatever is wrong with them."""
        self.serve(app=managed(raw_socket_proxy=True, request_headers_override={"{nope}": ""}, mappath={"/": "/x"}))
        self.supervisor.become_ready("app", PLACE)
        self.open()

    def test_the_first_subprotocol_is_taken(self) -> None:
        """As clients of noVNC expect; extensions are not."""
        self.open(
            fields="Sec-WebSocket-Protocol: binary, base64\r\nSec-WebSocket-Protocol: x\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        )
        self.assertIn(b"\r\nSec-WebSocket-Protocol: binary\r\n", self.answer)
        self.assertNotIn(b"Extensions", self.answer)

    def test_everything_else_is_refused_and_starts_nothing(self) -> None:
        """405 for other requests, 426 and 400 for handshakes that are none."""
        self.serve(app=managed(raw_socket_proxy=True), here=ServerSpec(raw_socket_proxy=True, unix_socket="/s"))
        for target in ("/app/", "/app/x", "/here/"):
            for method in ("GET", "POST"):
                self.assert_status(405, self.get(target, method=method))
        self.assertEqual([], self.supervisor.asked)
        self.assert_status(403, self.get("/app/", UPGRADE + "Origin: http://evil.test\r\n"))
        self.assert_status(426, self.get("/here/", UPGRADE.replace("13", "8")))
        self.assert_status(400, self.get("/here/", UPGRADE.replace("dGhl", "!")))
        self.assertEqual([], self.proxy.dialer.dials)
        self.assertEqual(0, self.supervisor.in_use)

    def test_nobody_there(self) -> None:
        """502, before the handshake is answered."""
        client = self.get("/app/", UPGRADE)
        self.proxy.dialer.dials[-1].fail(ConnectError("localhost", "refused"))
        self.assert_status(502, client)
        self.assertEqual(0, self.supervisor.in_use)

    def test_a_client_that_leaves_too_early(self) -> None:
        """The attempt to connect ends."""
        client = self.get("/app/", UPGRADE)
        client.close()
        self.proxy.advance()
        self.assertTrue(self.proxy.dialer.dials[-1].is_cancelled)
        self.assertEqual(0, self.supervisor.in_use)

    def test_each_has_a_connection_of_its_own(self) -> None:
        """Also to a unix socket."""
        self.serve(app=managed(raw_socket_proxy=True))
        self.supervisor.become_ready("app", Place(0, "/s"))
        streams = [self.open()[1] for _ in range(3)]
        self.assertEqual(3, len(self.proxy.dialer.dials))
        self.assertEqual("/s", self.proxy.dialer.dials[-1].upstream.socket)
        self.assertEqual(3, self.supervisor.in_use)
        del streams


class DataTests(RawTestCase):
    """What passes."""

    def test_messages_are_bytes(self) -> None:
        """Text as UTF-8, fragments and what came with the handshake included; the answer is binary."""
        client = self.proxy.client()
        client.send(f"GET /app/ HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n".encode() + frame(TEXT, "ö".encode(), mask=True))
        stream = self.proxy.accept()
        self.proxy.advance()
        client.pop()
        client.send(frame(BINARY, b"a", fin=False, mask=True) + frame(0, b"b", mask=True) + frame(TEXT, mask=True))
        self.assertEqual("öab".encode(), stream.pop())
        stream.send(b"\x00\xff")
        stream.send("ü".encode())
        self.assertEqual([(BINARY, b"\x00\xff"), (BINARY, "ü".encode())], read_frames(client.pop()))

    def test_pings_are_answered_here(self) -> None:
        """The stream hears nothing of them, and we ask nobody ourselves."""
        client, stream = self.open()
        client.send(frame(PING, b"x", mask=True))
        self.assertEqual([(PONG, b"x")], read_frames(client.pop()))
        self.assertEqual(b"", stream.pop())
        self.proxy.advance(100)
        self.assertEqual(b"", client.pop())

    def test_no_limit(self) -> None:
        """A message of 20 MB passes."""
        client, stream = self.open()
        client.send(frame(BINARY, b"x" * 20_000_000, mask=True))
        self.assertEqual(20_000_000, len(stream.pop()))

    def test_neither_side_is_read_faster_than_the_other_takes_it(self) -> None:
        """And everything comes in the end."""
        client, stream = self.open()
        stream.stall()
        for _ in range(20):
            client.send(frame(BINARY, b"x" * 100_000, mask=True))
        self.assertFalse(client.is_reading)
        stream.take()
        self.proxy.advance()
        self.assertTrue(client.is_reading)
        client.stall()
        for _ in range(20):
            stream.send(b"x" * 100_000)
        self.assertFalse(stream.is_reading)
        client.take()
        self.proxy.advance()
        self.assertTrue(stream.is_reading)


class EndTests(RawTestCase):
    """How it ends."""

    def test_the_end_of_the_stream(self) -> None:
        """Everything that was read is delivered, and then the close, which is a good one."""
        client, stream = self.open()
        stream.send(b"last")
        stream.close()
        self.proxy.advance()
        *data, close = read_frames(client.pop())
        self.assertEqual([(BINARY, b"last")], data)
        self.assertEqual((CLOSE, (1000).to_bytes(2, "big")), close)
        client.send(close_frame(1000, mask=True))
        self.assert_ended(client)
        self.assertEqual(0, self.supervisor.in_use)

    def test_a_stream_that_breaks(self) -> None:
        """Does not look as if it had ended well."""
        client, stream = self.open()
        stream.reset()
        self.proxy.advance()
        self.assertEqual(1011, self.close_of(client).code)

    def test_the_client_closes(self) -> None:
        """The stream ends after what is on its way to it, and the client gets its answer."""
        client, stream = self.open()
        client.send(frame(BINARY, b"last", mask=True) + close_frame(1001, b"bye", mask=True))
        self.assertEqual(b"last", stream.pop())
        self.assert_ended(stream)
        stream.close()
        self.proxy.advance()
        self.assertEqual(Close(1001, b"bye"), self.close_of(client))
        self.assert_ended(client)
        self.assertEqual(0, self.supervisor.in_use)

    def test_the_client_is_lost(self) -> None:
        """So is the stream."""
        client, stream = self.open()
        client.close()
        self.assert_ended(stream)
        stream.close()
        self.proxy.advance()
        self.assertEqual(0, self.supervisor.in_use)

    def test_a_client_that_breaks_the_rules(self) -> None:
        """1002 for frames without a mask, and the stream ends."""
        client, stream = self.open()
        client.send(frame(BINARY, b"x"))
        self.assertEqual(1002, self.close_of(client).code)
        self.assertEqual(b"", stream.pop())
        self.assert_ended(stream)

    def test_a_stream_that_takes_nothing_is_not_waited_for(self) -> None:
        """Its connection is reset after the time for a close."""
        client, stream = self.open()
        stream.stall()
        client.send(frame(BINARY, b"x" * 100, mask=True) + close_frame(1000, mask=True))
        self.proxy.advance(30)
        self.assertFalse(stream.connected)
        self.assertEqual(0, self.supervisor.in_use)
