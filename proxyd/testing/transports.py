"""A transport of the data path in memory, whose other end is the test."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

_BUFFER = 64 * 1024


class MemoryTransport:
    """What `proxyd.net.tcp` offers a protocol, with the peer played by the test.

    The peer takes everything at once until `stall`; what it has got is in `received`. Events come in later turns of
    `clock`, as they do from a reactor: run `clock.advance(0)`.
    """

    disconnecting = False
    watches_peer = True
    is_secure = False
    held_back = b""

    def __init__(self, clock: Any, address: str = "192.0.2.1") -> None:
        self.read_size = 0
        self.protocol: Any = None
        self.connected = False
        self.ended_by: type[Exception] | None = None
        self.write_closed = False
        self.received = b""
        self.unread: list[bytes] = []
        self.is_reading = True
        self._clock = clock
        self._address = address
        self._stalled = False
        self._buffer = b""
        self._producer: Any = None
        self._streaming = True
        self._producer_paused = False
        self._peer_is_gone: type[Exception] | None = None

    def connect(self, protocol: Any) -> None:
        """Give the transport to `protocol`."""
        self.protocol = protocol
        self.connected = True
        protocol.makeConnection(self)

    # The peer.

    def send(self, data: bytes) -> None:
        """The peer sends `data`."""
        self.unread.append(data)
        self._deliver()

    def send_slowly(self, data: bytes) -> None:
        """The peer sends `data` byte by byte."""
        for index in range(len(data)):
            self.send(data[index : index + 1])

    def close(self) -> None:
        """The peer closes its side."""
        self._peer_left(ConnectionDone)

    def reset(self) -> None:
        """The peer resets the connection."""
        self.unread.clear()
        self._peer_left(ConnectionLost)

    def stall(self) -> None:
        """The peer takes nothing any more."""
        self._stalled = True

    def take(self, count: int | None = None) -> None:
        """The peer takes `count` bytes of what waits for it; None: everything, now and in future."""
        if count is None:
            self._stalled = False
            count = len(self._buffer)
        self.received += self._buffer[:count]
        self._buffer = self._buffer[count:]
        if not self._buffer:
            self._flushed()

    def pop(self) -> bytes:
        """What the peer got since the last time."""
        data, self.received = self.received, b""
        return data

    def _peer_left(self, how: type[Exception]) -> None:
        self._peer_is_gone = how
        if self.is_reading or self.watches_peer or how is ConnectionLost:
            self._deliver()
            self._end_later(how)

    def _deliver(self) -> None:
        while self.unread and self.is_reading and self.connected:
            self.protocol.dataReceived(self.unread.pop(0))
        if self._peer_is_gone is not None and self.is_reading and not self.unread:
            self._end_later(self._peer_is_gone)

    def _end_later(self, how: type[Exception]) -> None:
        self._clock.callLater(0, self._end, how)

    def _end(self, how: type[Exception]) -> None:
        if self.connected:
            self.connected = False
            self.ended_by = how
            if self._producer is not None:
                self._producer.stopProducing()
                self._producer = None
            self.protocol.connectionLost(Failure(how()))

    def _flushed(self) -> None:
        if self._producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self._end_later(ConnectionDone)

    # The protocol.

    def write(self, data: bytes) -> None:
        """Send `data` to the peer."""
        if not self.connected or self.write_closed:
            return
        if not self._stalled and not self._buffer:
            self.received += data
            if self._producer is not None and not self._streaming:
                self._clock.callLater(0, self._flushed)
            return
        self._buffer += data
        if self._producer is not None and self._streaming and len(self._buffer) > _BUFFER:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, pieces: list[bytes]) -> None:
        """Send the pieces as one."""
        self.write(b"".join(pieces))

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent."""
        return len(self._buffer)

    def is_quiet(self) -> bool:
        """Whether there is nothing to read, not even the end."""
        return not self.unread and self._peer_is_gone is None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let `producer` be paused and resumed by the state of the buffer."""
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Pause and resume the producer no more."""
        self._producer = None
        self._producer_paused = False
        if self.disconnecting and not self._buffer:
            self._end_later(ConnectionDone)

    def pauseProducing(self) -> None:
        """Stop reading."""
        self.is_reading = False

    def resumeProducing(self) -> None:
        """Read again."""
        if self.connected and not self.disconnecting:
            self.is_reading = True
            self._clock.callLater(0, self._deliver)

    def stopProducing(self) -> None:
        """As a producer, be stopped."""
        self.loseConnection()

    def loseConnection(self) -> None:
        """Close once everything has been sent."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.is_reading = False
            if not self._buffer and self._producer is None:
                self._end_later(ConnectionDone)

    def loseWriteConnection(self) -> None:
        """Close our side once everything has been sent."""
        self.write_closed = True

    def abortConnection(self) -> None:
        """Cut the connection."""
        self.is_reading = False
        self._buffer = b""
        self._end_later(ConnectionAborted)

    def connectionLost(self, reason: Failure) -> None:
        """Be cut by the end of the reactor."""
        if self.connected:
            self.connected = self.is_reading = False
            self.protocol.connectionLost(reason)

    def getPeer(self) -> IPv4Address | UNIXAddress:
        """Where the peer is; an empty address is a unix socket."""
        return IPv4Address("TCP", self._address, 54321) if self._address else UNIXAddress(None)

    def getHost(self) -> IPv4Address:
        """Where we are."""
        return IPv4Address("TCP", "192.0.2.80", 80)

    def getHandle(self) -> Any:
        """A stand-in for the socket, which takes no options."""
        return _Handle()


class _Handle:
    family = socket.AF_UNIX
