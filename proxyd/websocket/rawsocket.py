"""WebSocket messages on one side, a bare stream of bytes on the other (contract of managed servers, section 8.2).

It is a relay whose upstream speaks no WebSocket: each message becomes its bytes, and what is read at once becomes one
binary message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from proxyd.core.closing import Close, Side
from proxyd.core.deflate import Deflate
from proxyd.net.deadlines import NEVER
from proxyd.net.tcp import LARGE_READ
from proxyd.websocket.relay import Relay, RelayPlan

if TYPE_CHECKING:
    from proxyd.websocket.ends import RelayEnd

_OVER = Close(1000)


class RawPlan(RelayPlan):
    """How WebSockets are joined with streams."""

    def make_ends(
        self, relay: Relay, client: Any, upstream: Any, deflates: tuple[Deflate | None, Deflate | None]
    ) -> tuple[RelayEnd, RelayEnd]:
        """The protocols of both sides."""
        client_end = self._ends.ClientEnd(relay, client, self._factories[0], deflates[0])
        raw_end = cast("RelayEnd", RawEnd(relay, upstream))  # it has all that a relay asks of the upstream's side
        client_end.other, raw_end.other = raw_end, client_end
        return client_end, raw_end


class RawEnd(Protocol):
    """The side of the stream. It takes no part in closes and pings: what it says is bytes, and the end of them."""

    deadline: float | None = None
    looked_at = NEVER
    side = Side.UPSTREAM
    asked: Close | None = None
    is_talking = True
    is_ended = False
    _is_paused = False
    transport: Any
    other: RelayEnd

    def __init__(self, relay: Relay, transport: Any) -> None:
        self._relay = relay
        self.transport = transport
        transport.read_size = LARGE_READ

    def begin(self) -> None:
        """Read, if nothing has spoken against it yet."""
        if not self._is_paused:
            self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """Each read is a message."""
        self._relay.passed()
        self.other.send_message(data, is_binary=True)

    # What goes to this side.

    def send_message(self, payload: bytes, *, is_binary: bool) -> None:
        """Only its bytes count."""
        if self.is_talking:
            self._relay.to_upstream += len(payload)
            self.transport.write(payload)

    def sendPing(self, payload: bytes) -> None:
        """There is nobody to ask."""

    def send_due_pong(self) -> None:
        """There are none."""

    def say_close(self, close: Close) -> None:
        """End the stream, after what is on its way; there is no other way to say anything."""
        self.cut()

    def answer_close(self, close: Close) -> None:
        """It never asks."""

    def cut(self) -> None:
        """End the stream, after what is on its way."""
        self.is_talking = False
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        if not self.is_ended:
            self._relay.deadlines.set(self, self._relay.settings.close_timeout or 0)

    # As the producer of what goes to the client.

    def pauseProducing(self) -> None:
        """The client does not keep up."""
        self._is_paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The client takes more."""
        if self._is_paused:
            self._is_paused = False
            if not self.is_ended:
                self.other.send_due_pong()
                self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The client is gone; its end tells what that means."""

    # The end.

    def deadline_passed(self) -> None:
        """It does not take the rest."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Everything that was read is on its way to the client: so is the close behind it."""
        self._relay.deadlines.forget(self)
        self.is_ended = True
        was_talking, self.is_talking = self.is_talking, False
        if was_talking and self.other.is_talking and reason.check(ConnectionDone):
            self.other.resumeProducing()
            self.other.say_close(_OVER)
        else:
            self._relay.lost(cast("RelayEnd", self))
