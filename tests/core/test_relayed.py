"""Tests of `proxyd.core.relayed`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.deflate import Deflate, ExtensionError
from proxyd.core.head import RequestHead, ResponseHead
from proxyd.core.relayed import RelayHandshake
from proxyd.errors import RequestError

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = b"Sec-WebSocket-Version: 13"
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"
AGREED = b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12"


def request(*fields: bytes) -> RequestHead:
    head = RequestHead()
    head.fields = [KEY, VERSION, *fields]
    return head


def response(*fields: bytes) -> ResponseHead:
    head = ResponseHead()
    head.fields = list(fields)
    return head


class RelayHandshakeTests(SynchronousTestCase):
    """Extensions never pass through."""

    def test_offers(self) -> None:
        """The upstream gets the relay's own offer, whatever the client's was; without compression none."""
        for fields in ((), (DEFLATE,), (b"sec-websocket-extensions: foo", b"Sec-WebSocket-Extensions: bar;a=1")):
            head = request(b"Sec-WebSocket-Protocol: a", *fields)
            RelayHandshake(head, compresses=True)
            self.assertEqual([KEY, VERSION, b"Sec-WebSocket-Protocol: a", DEFLATE], head.fields)
            head = request(*fields)
            RelayHandshake(head, compresses=False)
            self.assertEqual([KEY, VERSION], head.fields)

    def test_agreements(self) -> None:
        """Each side has what it agreed to, with no regard to the other one."""
        ours, theirs = Deflate(server_max_window_bits=12), Deflate(client_max_window_bits=12)
        cookie = b"Set-Cookie: a=1"
        for offered, answered, client, upstream in (
            ((DEFLATE,), (DEFLATE,), ours, theirs),
            ((DEFLATE,), (), ours, None),
            ((), (DEFLATE,), None, theirs),
            ((), (), None, None),
        ):
            handshake = RelayHandshake(request(*offered), compresses=True)
            head = response(cookie, *answered)
            handshake.agree(head)
            self.assertEqual((client, upstream), (handshake.client, handshake.upstream))
            self.assertEqual([cookie, AGREED] if client else [cookie], head.fields)

    def test_without_compression(self) -> None:
        """The client gets none, and an upstream that insists is at fault."""
        handshake = RelayHandshake(request(DEFLATE), compresses=False)
        head = response()
        handshake.agree(head)
        self.assertEqual((None, None, []), (handshake.client, handshake.upstream, head.fields))
        with self.assertRaises(ExtensionError):
            RelayHandshake(request(DEFLATE), compresses=False).agree(response(DEFLATE))

    def test_other_versions(self) -> None:
        """426, with the version that is spoken (RFC 6455 §4.2.2)."""
        for fields in ((), (b"Sec-WebSocket-Version: 8",), (VERSION, VERSION), (b"Sec-WebSocket-Version: 13, 8",)):
            head = RequestHead()
            head.fields = [KEY, *fields]
            error = self.assertRaises(RequestError, RelayHandshake, head, compresses=True)
            self.assertEqual(426, error.status)
            self.assertIn(b"Sec-WebSocket-Version: 13", error.fields)

    def test_keys(self) -> None:
        """16 bytes in base64, once: else 400."""
        for fields in ((), (KEY, KEY), (b"Sec-WebSocket-Key: x",), (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",)):
            head = RequestHead()
            head.fields = [VERSION, *fields]
            error = self.assertRaises(RequestError, RelayHandshake, head, compresses=True)
            self.assertEqual((400, ()), (error.status, error.fields))
