"""WebSocket handshakes: which requests are one, and which answers agree."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.head import CRLF
from proxyd.core.upgrade import accept_value, is_agreed, is_handshake
from proxyd.errors import RequestError
from tests.core.heads import read_request, read_response

# The example of RFC 6455 §1.3.
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"


class HandshakeTests(SynchronousTestCase):
    """Requests that ask for a WebSocket."""

    def test_handshake_is_recognized(self) -> None:
        """A GET whose Connection names Upgrade, and whose Upgrade is websocket in any case, is a handshake."""
        for block in (
            HANDSHAKE,
            HANDSHAKE + b"\r\nContent-Length: 0",
            b"GET / HTTP/1.1\r\nHost: h\r\nupgrade: WebSocket\r\nconnection: keep-alive, UPGRADE",
        ):
            self.assertTrue(is_handshake(read_request(block)), repr(block))

    def test_other_upgrades_are_ignored(self) -> None:
        """Another protocol, another method, another version: an ordinary request, with or without a body."""
        start = b" / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: "
        for block in (
            b"GET" + start + b"h2c",
            b"GET" + start + b"foo",
            b"GET" + start,
            b"GET" + start + b"websocket, h2c",
            b"GET" + start + b"h2c\r\nUpgrade: websocket",
            b"GET" + start + b"h2c\r\nContent-Length: 5",
            b"GET" + start + b"websocket/13",
            b"POST" + start + b"websocket",
            b"POST" + start + b"websocket\r\nContent-Length: 5",
            b"get" + start + b"websocket",
            b"HEAD" + start + b"websocket",
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket",
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade",
            b"GET / HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket",
            b"GET / HTTP/1.1\r\nHost: h",
        ):
            self.assertFalse(is_handshake(read_request(block)), repr(block))

    def test_handshake_has_no_body(self) -> None:
        """Bytes that are a body to one and frames to another are refused."""
        for line in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
            error = self.assertRaises(RequestError, is_handshake, read_request(HANDSHAKE + CRLF + line))
            self.assertEqual(error.status, 400, repr(line))


class AgreementTests(SynchronousTestCase):
    """Answers that really begin a WebSocket."""

    def agrees(self, response: bytes, request: bytes = HANDSHAKE + b"\r\nSec-WebSocket-Key: " + KEY) -> bool:
        """Whether `response` answers `request`."""
        return is_agreed(read_request(request), read_response(response))

    def test_accept_value_is_that_of_the_rfc(self) -> None:
        """The example of RFC 6455 §1.3 comes out."""
        self.assertEqual(accept_value(KEY), ACCEPT)

    def test_right_answer_agrees(self) -> None:
        """101, Connection and Upgrade, and the accept value of the key."""
        self.assertTrue(self.agrees(SWITCHING + b"\r\nsec-websocket-accept:  " + ACCEPT + b" "))
        self.assertTrue(
            self.agrees(
                b"HTTP/1.1 101\r\nupgrade: WebSocket\r\nconnection: x, upgrade\r\nSec-WebSocket-Accept: " + ACCEPT
            )
        )

    def test_other_answers_do_not_agree(self) -> None:
        """Nothing less than a whole agreement makes a tunnel (RFC 6455 §4.1)."""
        accept = b"\r\nSec-WebSocket-Accept: " + ACCEPT
        start = b"HTTP/1.1 101 x"
        for response in (
            SWITCHING,
            SWITCHING + b"\r\nSec-WebSocket-Accept:",
            SWITCHING + b"\r\nSec-WebSocket-Accept: " + KEY,
            SWITCHING + b"\r\nSec-WebSocket-Accept: " + ACCEPT.lower(),
            SWITCHING + b"\r\nSec-WebSocket-Accept: " + ACCEPT + b"=",
            SWITCHING.replace(b"101", b"200") + accept,
            SWITCHING.replace(b"101", b"100") + accept,
            start + accept,
            start + b"\r\nUpgrade: websocket" + accept,
            start + b"\r\nConnection: Upgrade" + accept,
            start + b"\r\nConnection: close\r\nUpgrade: websocket" + accept,
            start + b"\r\nConnection: Upgrade\r\nUpgrade: h2c" + accept,
            start + b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket" + accept,
            SWITCHING + b"\r\nConnection: Sec-WebSocket-Accept" + accept,
        ):
            self.assertFalse(self.agrees(response), repr(response))

    def test_handshake_without_a_key_cannot_be_agreed_to(self) -> None:
        """Without Sec-WebSocket-Key there is nothing that an answer could prove."""
        response = SWITCHING + b"\r\nSec-WebSocket-Accept: " + accept_value(b"")
        self.assertFalse(self.agrees(response, HANDSHAKE))
        self.assertFalse(
            self.agrees(response, HANDSHAKE + b", Sec-WebSocket-Key\r\nConnection: x\r\nSec-WebSocket-Key: " + KEY)
        )
