"""What a client gets to see of an exchange, and whether that is what should come."""

from __future__ import annotations

import contextlib
import socket
import threading

import attrs

from tests.websocket.exchanges import Exchange, Frames
from tests.websocket.frames import CLOSE, PONG, take_frames
from tests.wire import PATIENCE_SECONDS, Wire, connect

# Key and answer of RFC 6455 §1.3.
_HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)
_ACCEPT = b"\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"


@attrs.frozen
class Transcript:
    """The status line of the handshake, and every byte behind its head until the end of the connection.

    `is_hung`: the end did not come.
    """

    status: bytes
    said: bytes
    is_hung: bool = False

    @property
    def is_open(self) -> bool:
        """The handshake was agreed to."""
        return self.status.startswith(b"HTTP/1.1 101 ")

    def frames(self) -> tuple[Frames, bytes]:
        """The whole frames that came, unpacked, and what is behind them that is none."""
        return take_frames(self.said)


def handshake(target: bytes, offer: bytes = b"") -> bytes:
    """The head that opens a WebSocket; `offer` are its extensions."""
    return _HANDSHAKE % (target, b"Sec-WebSocket-Extensions: %b\r\n" % offer if offer else b"")


def transcript(
    port: int, target: str, exchange: Exchange, *, glued: bool = False, seconds: float = PATIENCE_SECONDS
) -> Transcript:
    """Run an exchange; `glued`: its first piece goes out in one write with the handshake.

    It is hung when nothing comes for so many `seconds`.
    """
    wire = connect(port)
    wire.sock.settimeout(seconds)
    wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pieces = list(exchange.sent)
    head = handshake(target.encode(), exchange.offer)
    wire.send(head + pieces.pop(0) if glued else head)
    answer = wire.head()
    if _ACCEPT not in answer.lower():
        wire.close()
        return Transcript(answer.partition(b"\r\n")[0], answer)

    def send() -> None:
        with contextlib.suppress(OSError):  # who breaks a rule is not listened to for long
            for piece in pieces:
                wire.send(piece)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    said, is_hung = _everything(wire)
    with contextlib.suppress(OSError):
        wire.sock.shutdown(socket.SHUT_RDWR)
    sending.join()
    wire.close()
    return Transcript(answer.partition(b"\r\n")[0], said, is_hung)


def _everything(wire: Wire) -> tuple[bytes, bool]:
    said, wire.buffer = bytearray(wire.buffer), b""
    try:
        while data := wire.sock.recv(1 << 20):
            said += data
    except TimeoutError:
        return bytes(said), True
    except ConnectionResetError:
        pass
    return bytes(said), False


def problem(exchange: Exchange, seen: Transcript, *, in_order: bool = True) -> str:
    """What is wrong with a transcript by RFC 6455; empty if it is right.

    Unless `in_order`, pongs may come before messages that were sent earlier: whoever relays messages answers pings
    itself.
    """
    if not seen.is_open:
        return f"the handshake was answered with {seen.status!r}"
    frames, behind = seen.frames()
    if behind:
        return f"there are bytes that are no frame: {behind[:60]!r}"
    if seen.is_hung:
        return "the connection did not end"
    if not frames or frames[-1][0] != CLOSE:
        return "it ended without a Close"
    *answered, (_, close) = frames
    if (close[:2] if exchange.fault else close) != exchange.close:
        return f"it ended with {close!r} instead of {exchange.close!r}"
    expected = list(exchange.answered)
    if not in_order:
        answered, expected = _by_kind(answered), _by_kind(expected)
    if exchange.fault:
        expected = expected[: len(answered)]
    if answered != expected:
        return f"it answered {_short(answered)} instead of {_short(expected)}"
    return ""


def _by_kind(frames: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Messages, then pongs; pings are nobody's business but those who exchange them."""
    return [f for f in frames if f[0] < CLOSE] + [f for f in frames if f[0] == PONG]


def _short(frames: list[tuple[int, bytes]]) -> str:
    return str([(opcode, len(payload), payload[:20]) for opcode, payload in frames[:5]])
