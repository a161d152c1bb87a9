"""One side of a relay: an Autobahn protocol that begins in the state OPEN, because our channel did the handshake.

Of Autobahn we use the parser of frames, the checks of RFC 6455, UTF-8, permessage-deflate and the writing of frames.
Its handshakes, timers and ways to close are not used: closing passes through `Relay`, and all waits are `Deadlines`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketClientProtocol, WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketClientFactory, WebSocketProtocol, WebSocketServerFactory
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from proxyd.core.closing import Close, Side, fault, fault_of
from proxyd.core.deflate import Deflate
from proxyd.model.relay import RelaySettings
from proxyd.net.deadlines import NEVER
from proxyd.net.tcp import LARGE_READ
from proxyd.websocket.deflate import RelayDeflate

if TYPE_CHECKING:
    from proxyd.websocket.relay import Relay

# What is read at once while no long frame is under way: of the smallest frames these are 1,300, which take 30 ms
# (2026-11-24), and nobody else is served meanwhile.
_SHORT_READ = 8 * 1024
# Autobahn copies what is left of its buffer for each frame, and cannot pause: it gets no more than this at once, unless
# it is the rest of one frame.
_PIECE = 4096
_COMPRESSED = 4  # RSV1, RFC 7692 §6
_TEXT, _BINARY, _CLOSE = 1, 2, 8


def make_factories(settings: RelaySettings) -> tuple[WebSocketServerFactory, WebSocketClientFactory]:
    """What Autobahn's protocols take their options from, for the client's side and for the upstream's.

    With these options it never asks for the time: `txaio.config.loop`, a global of the process, may stay unset.
    """
    factories = WebSocketServerFactory(), WebSocketClientFactory()
    for factory in factories:
        factory.setProtocolOptions(
            maxMessagePayloadSize=settings.max_message_size,
            maxFramePayloadSize=settings.max_frame_size,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            failByDrop=True,  # what breaks a rule is not parsed any further
        )
    return factories


class _Phase(Enum):
    """How far one side is on its way out."""

    OPEN = auto()
    ASKED = auto()  # its Close came; ours waits for the other side's
    CLOSING = auto()  # ours went out; its answer is awaited
    LEAVING = auto()  # all is said: nothing more of it counts, and its connection is about to end
    ENDED = auto()


_HEARD = frozenset({_Phase.OPEN, _Phase.CLOSING})


class RelayEnd(WebSocketProtocol):
    """What both sides have in common. As a producer it is paused by the transport of the other side."""

    deadline: float | None = None
    looked_at = NEVER
    side: Side
    other: RelayEnd
    asked: Close | None = None  # what its Close said, while it waits for ours
    transport: Any
    current_frame: Any
    _perMessageCompress: Any
    _isMessageCompressed: bool

    def __init__(self, relay: Relay, transport: Any, factory: Any, deflate: Deflate | None) -> None:
        super().__init__()
        self.transport = transport
        transport.read_size = _SHORT_READ
        self.factory = factory
        WebSocketProtocol._connectionMade(self)  # all of its state; the subclasses' would begin a handshake
        self.state = WebSocketProtocol.STATE_OPEN
        self.inside_message = False
        self.current_frame = None
        if deflate is not None:
            self._perMessageCompress = RelayDeflate(deflate, factory.maxMessagePayloadSize, is_server=factory.isServer)
        self._relay = relay
        self._phase = _Phase.OPEN
        self._unread = b""
        self._is_paused = False
        self._is_pinged = False
        self._due_pong: bytes | None = None
        self._unsent = 0
        self._message: bytes | bytearray = b""

    def begin(self) -> None:
        """Read, if nothing has spoken against it yet."""
        if not self._is_paused:
            self.transport.resumeProducing()
        if self._phase is _Phase.OPEN:
            self._listen()

    @property
    def is_talking(self) -> bool:
        """No Close has passed here."""
        return self._phase is _Phase.OPEN

    @property
    def is_ended(self) -> bool:
        """The connection is over."""
        return self._phase is _Phase.ENDED

    # What comes from this side.

    def dataReceived(self, data: bytes) -> None:
        """Take it apart as long as the other side keeps up."""
        if self._phase is _Phase.OPEN:
            self._listen()
        self._unread = self._unread + data if self._unread else data
        self._parse()

    def _parse(self) -> None:
        while self._unread and not self._is_paused:
            if self._phase not in _HEARD:
                self._unread = b""
                return
            size = _PIECE
            if self.current_frame is not None:
                size = max(size, self.current_frame.length - self.current_frame_masker.pointer())
            piece, self._unread = self._unread[:size], self._unread[size:]
            self.data += piece
            self.consumeData()
        is_long = self.current_frame is not None and self.current_frame.length > _SHORT_READ
        self.transport.read_size = LARGE_READ if is_long else _SHORT_READ

    def onMessageBegin(self, is_binary: bool) -> None:
        """Autobahn read the head of a message's first frame."""
        self.message_is_binary = is_binary
        self.message_data_total_length = 0
        self._message = b""

    def onMessageFrameBegin(self, length: int) -> None:
        """Autobahn read the head of a frame; of what is packed, it is not known yet how long it is."""
        if not self._isMessageCompressed:
            super().onMessageFrameBegin(length)
        elif 0 < self.factory.maxFramePayloadSize < length:
            self._fail_connection(WebSocketProtocol.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG, "longer than max_frame_size")

    def onMessageFrameData(self, payload: bytes) -> None:
        """Autobahn has a piece of a message, unmasked and unpacked."""
        if not self._message:
            self._message = payload
        else:
            if isinstance(self._message, bytes):
                self._message = bytearray(self._message)
            self._message += payload  # no list: of a million fragments it would be larger than what is in them

    def onMessageFrameEnd(self) -> None:
        """Fragments are joined."""

    def onMessageEnd(self) -> None:
        """A message is complete, and within the limits."""
        message, self._message = bytes(self._message), b""
        if not self.failedByMe and self._phase in _HEARD:
            self._relay.passed()
            self.other.send_message(message, is_binary=self.message_is_binary)

    def onPing(self, payload: bytes) -> None:
        """Answer, and ask the other side as well: its answer ends here."""
        if self.other._is_paused:
            self._due_pong = payload  # RFC 6455 §5.5.3: of several, the last one is enough
        else:
            self.sendPong(payload)
        if self.other.is_talking:
            self.other.sendPing(payload)

    def onPong(self, payload: bytes) -> None:
        """A sign of life, as everything that comes."""

    def onCloseFrame(self, code: int | None, reason: bytes | None) -> bool:
        """Nothing counts that comes behind a Close (RFC 6455 §5.5.1)."""
        self.data = self._unread = b""
        close = Close(code, reason or b"")
        wrong = fault_of(close)
        if wrong is None:
            self._relay.closed(self, close)
        else:
            self._relay.failed(self, wrong)
        return True

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        """Autobahn found a rule broken."""
        self.failedByMe = True
        self.data = self._unread = b""
        self._message = b""
        if self._phase in _HEARD:
            self._relay.failed(self, fault(code, reason))

    # What goes to this side.

    def send_message(self, payload: bytes, *, is_binary: bool) -> None:
        """Send a message, unless there was a Close before it. Limits are a matter of whoever it came from."""
        if self.state != WebSocketProtocol.STATE_OPEN:
            return
        deflate = self._perMessageCompress
        if deflate is not None:
            deflate.start_compress_message()
            payload = deflate.compress_message_data(payload) + deflate.end_compress_message()
        self.sendFrame(_BINARY if is_binary else _TEXT, payload, rsv=0 if deflate is None else _COMPRESSED)

    def say_close(self, close: Close) -> None:
        """Send a Close, whose answer has `close_timeout` to come."""
        self._send_close(close)
        self._phase = _Phase.CLOSING
        self._await_end()

    def await_other(self, close: Close) -> None:
        """This side's own Close waits for the answer of the other side."""
        self._phase = _Phase.ASKED
        self.asked = close
        self._relay.deadlines.clear(self)

    def answer_close(self, close: Close) -> None:
        """Send the Close that this side has waited for."""
        self.asked = None
        self._send_close(close)
        self.finish()

    def finish(self) -> None:
        """Both Closes have passed: the server ends the connection, and that is here for the client only (§7.1.1)."""
        self._leave()
        if self.side is Side.CLIENT:
            self.transport.loseConnection()

    def dismiss(self, close: Close) -> None:
        """Send a Close to whoever broke a rule, and end our half, so that it has a chance to read it (§7.1.7)."""
        self._send_close(close)
        self._leave()
        self.transport.loseWriteConnection()

    def cut(self) -> None:
        """End the connection without a Close, after what is on its way."""
        self._leave()
        self.state = WebSocketProtocol.STATE_CLOSED
        self.transport.loseConnection()

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Autobahn made a frame."""
        if self.side is Side.CLIENT:
            self._relay.to_client += len(data)
        else:
            self._relay.to_upstream += len(data)
        self.transport.write(data)

    def _send_close(self, close: Close) -> None:
        if self.state == WebSocketProtocol.STATE_OPEN:
            payload = b"" if close.code is None else close.code.to_bytes(2, "big") + close.reason
            self.sendFrame(_CLOSE, payload)
            self.state = WebSocketProtocol.STATE_CLOSING

    def _leave(self) -> None:
        self._phase = _Phase.LEAVING
        self.asked = None
        self._unread = b""
        self._is_paused = False
        self.transport.unregisterProducer()
        self.transport.resumeProducing()
        self._await_end()

    # As the producer of what goes to the other side.

    def pauseProducing(self) -> None:
        """The other side does not keep up."""
        if self._phase in _HEARD:
            self._is_paused = True
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The other side takes more."""
        if not self._is_paused:
            return
        self._is_paused = False
        self.other.send_due_pong()
        self._parse()
        if not self._is_paused:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other side is gone; its end tells what that means."""

    def send_due_pong(self) -> None:
        """Answer the last ping that came while this side took nothing."""
        payload, self._due_pong = self._due_pong, None
        if payload is not None:
            self.sendPong(payload)

    # Waits, and the end.

    def _listen(self) -> None:
        """There was a sign of life: the next one has time."""
        self._is_pinged = False
        self._relay.deadlines.set(self, self._relay.settings.ping_interval or 0)

    def _await_end(self) -> None:
        self._unsent = self.transport.unsent
        self._relay.deadlines.set(self, self._relay.settings.close_timeout or 0)

    def deadline_passed(self) -> None:
        """This side was silent for too long."""
        if self._phase is not _Phase.OPEN:
            if self.transport.unsent < self._unsent:
                self._await_end()  # slow, but not stuck
            else:
                self.transport.abortConnection()
        elif self._is_paused or self.other._is_paused:
            self._listen()  # we do not hear it, or it would not hear us
        elif self._is_pinged:
            self.transport.abortConnection()
        else:
            self._is_pinged = True
            self.sendPing()
            self._relay.deadlines.set(self, self._relay.settings.ping_timeout or 0)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is over, with or without a Close."""
        self._relay.deadlines.forget(self)
        self._phase = _Phase.ENDED
        self.asked = None
        self.state = WebSocketProtocol.STATE_CLOSED
        self._relay.lost(self)


class ClientEnd(RelayEnd, WebSocketServerProtocol):  # type: ignore[misc]  # no types
    """The side of the client."""

    side = Side.CLIENT


class UpstreamEnd(RelayEnd, WebSocketClientProtocol):  # type: ignore[misc]  # no types
    """The side of the upstream."""

    side = Side.UPSTREAM
