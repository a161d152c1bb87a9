"""WebSocket handshakes (RFC 6455 §4): which requests are one, and when an upstream has really agreed."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1

from proxyd.core.head import RequestHead, ResponseHead
from proxyd.errors import RequestError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


def is_handshake(head: RequestHead) -> bool:
    """Whether a request asks for a WebSocket.

    Any other Upgrade is ignored, as RFC 9110 §7.8 allows: it is an ordinary request. Raises `RequestError` for a
    handshake with a body, whose bytes could be read as frames or as a second request.
    """
    if head.upgrade != b"websocket" or head.method != b"GET":
        return False
    if head.body:
        raise RequestError(400, "a WebSocket handshake has no body")
    return True


def accept_value(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers Sec-WebSocket-Key `key`."""
    return b64encode(sha1(key + _GUID).digest())


def is_agreed(request: RequestHead, response: ResponseHead) -> bool:
    """Whether a 101 really answers the handshake, so that what follows cannot be HTTP (RFC 6455 §4.1)."""
    key = request.get(b"sec-websocket-key")
    return (
        response.status == 101
        and response.upgrade == b"websocket"
        and key is not None
        and response.get(b"sec-websocket-accept") == accept_value(key)
    )
