"""Bytes both ways after an upgrade, uninterpreted.

Keeps extensions, subprotocols and close codes by construction. Each transport is the other's producer, so neither
side is read faster than the other one takes it. There is no idle limit: a notebook may be silent for days.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from proxyd.net.deadlines import NEVER, Deadlines
from proxyd.net.tcp import LARGE_READ, DataPathTransport, SplicingProtocol

# A side that has been told to close has this long to take what is still on its way to it.
_CLOSING_SECONDS = 10.0
# There is no idle limit, so it is up to TCP to find out that a peer is dead: RFC 5482, in milliseconds.
_TCP_USER_TIMEOUT = 120_000
_KEEPALIVE_IDLE_SECONDS = 60
_KEEPALIVE_INTERVAL_SECONDS = 20


class Tunnel:
    """Joins two transports until either ends; `ended` is called once then, `passed` for each piece of data."""

    def __init__(self, deadlines: Deadlines, passed: Callable[[], None], ended: Callable[[Tunnel], None]) -> None:
        self.deadlines = deadlines
        self.passed = passed
        self.to_client = 0
        self.to_upstream = 0
        self.began = deadlines.seconds()
        self.label = ""  # what it is called in a state dump
        self._ended = ended
        self._open = True
        self._ends: tuple[_End, ...] = ()

    def join(self, client: Any, upstream: Any, early: bytes) -> None:
        """Take both transports over; `early` came from the client before the upstream had agreed."""
        client_end, upstream_end = _End(self, client), _End(self, upstream)
        client_end.peer, upstream_end.peer = upstream_end, client_end
        self._ends = (client_end, upstream_end)
        for end in self._ends:
            transport = end.transport
            transport.protocol = end
            transport.watches_peer = False  # what came before the end has to be delivered first
            transport.read_size = LARGE_READ
            keep_alive(transport)
        client_end.counts_up = True
        client.registerProducer(upstream_end, True)
        upstream.registerProducer(client_end, True)
        if early:
            client_end.dataReceived(early)
        client.resumeProducing()
        upstream.resumeProducing()

    def go_away(self) -> None:
        """End both sides: what is on its way to either is still delivered, and then its connection is closed.

        Nothing is said: bytes of ours could stand in the middle of a message.
        """
        ends, self._ends = self._ends, ()
        for end in ends:
            end.leave()

    def end(self) -> None:
        """Tell the owner, once."""
        self._ends = ()
        if self._open:
            self._open = False
            self._ended(self)


class _End(SplicingProtocol):
    """One side: what comes here goes to its peer."""

    deadline: float | None = None
    looked_at = NEVER
    counts_up = False
    _is_leaving = False
    transport: Any
    peer: _End

    def __init__(self, tunnel: Tunnel, transport: Any) -> None:
        self._tunnel = tunnel
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        tunnel = self._tunnel
        if self.counts_up:
            tunnel.to_upstream += len(data)
        else:
            tunnel.to_client += len(data)
        self.peer.transport.write(data)
        tunnel.passed()

    def splice_target(self) -> tuple[DataPathTransport, int] | None:
        """The other side, for everything, until this one is told to go away."""
        return None if self._is_leaving else (self.peer.transport, sys.maxsize)

    def data_spliced(self, count: int, rest: bytes) -> None:
        """A piece has gone to the other side, but the `rest` of it."""
        if self.counts_up:
            self._tunnel.to_upstream += count
        else:
            self._tunnel.to_client += count
        if rest:
            self.dataReceived(rest)
        else:
            self._tunnel.passed()

    # As the producer of what goes to the other side.

    def pauseProducing(self) -> None:
        """The other side does not keep up."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The other side takes more."""
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other side is gone; its end tells what that means here."""

    # The end.

    def leave(self) -> None:
        """Close our side once everything is delivered, and drop what still comes.

        To close both sides at once would reset the connection if there is something to read, and what is on its way
        would be lost.
        """
        transport = self.transport
        if self._is_leaving or not transport.connected:
            return
        self._is_leaving = True
        self.dataReceived = _drop  # type: ignore[method-assign]  # not one more question for each piece of data
        transport.unregisterProducer()
        transport.loseWriteConnection()
        transport.resumeProducing()
        self._tunnel.deadlines.set(self, _CLOSING_SECONDS)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Either side ends: so does the other, after what is on its way to it; after a reset, at once."""
        tunnel = self._tunnel
        tunnel.deadlines.forget(self)
        if reason.check(ConnectionDone):
            self.peer.leave()
        else:
            self.peer.transport.unregisterProducer()
            self.peer.transport.abortConnection()
        tunnel.end()

    def deadline_passed(self) -> None:
        """This side does not take the rest."""
        self.transport.abortConnection()


def _drop(data: bytes) -> None:
    """Nobody is there any more to pass it on to."""


def keep_alive(transport: Any) -> None:
    """Let the kernel notice a peer that is gone without a word."""
    handle = transport.getHandle()
    if handle.family == socket.AF_UNIX:
        return
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_SECONDS)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_SECONDS)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT)
