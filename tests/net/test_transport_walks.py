"""Rounds of events at random: many connections to which anything happens, in C and in Python."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from tests.walks import Secure, Walk, WalkingCase

CONNECTIONS = 12
STEPS = 100
# Around what is held back, what is read at first, and what a socket takes.
SIZES = (1, 2, 100, 4_000, 16_383, 16_384, 16_385, 50_000, 300_000)


class MistakeError(Exception):
    """What a protocol raises."""


class Side(Protocol):
    """A connection that does what it is told when something comes, and its peer."""

    transport: Any

    def __init__(self, walk: TransportWalk, number: int) -> None:
        self.walk = walk
        self.number = number
        self.came = self.wrote = b""
        self.sent = self.taken = b""  # by the peer
        self.reason: Failure | None = None
        self.is_aborted = False
        self.is_cut = False  # what is on its way, in either direction, may be lost
        transport, self.wire = walk.connect(self)
        self.makeConnection(transport)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Do something."""
        if self.is_aborted:
            self.walk.late += 1
        self.came += data
        self.walk.act(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Remember it."""
        self.reason = reason

    # As the producer of its own transport.

    def pauseProducing(self) -> None:
        """The peer takes nothing at the moment."""

    def resumeProducing(self) -> None:
        """The peer takes more."""

    def stopProducing(self) -> None:
        """The connection is lost."""

    def write(self, size: int) -> None:
        """Write numbered bytes, if that can still be done."""
        if self.reason is None and not self.transport.disconnecting:
            data = self.walk.bytes(size)
            self.wrote += data
            self.transport.write(data)

    def send(self, size: int) -> None:
        """Let the peer send, as much as is taken."""
        with contextlib.suppress(OSError):
            self.sent += self.wire.send(self.walk.bytes(size))

    def take(self) -> None:
        """Let the peer take all there is."""
        while data := self.wire.take(1 << 20):
            self.taken += data


class TransportWalk(Walk):
    """What happens to some connections."""

    def __init__(self, seed: int, secure: Secure, *, compiled: bool) -> None:
        super().__init__(seed, secure, compiled=compiled)
        self.sides: list[Side] = []
        self.every: list[Side] = []
        self.mistakes = 0
        self.late = 0
        self.is_over = False
        for _ in range(CONNECTIONS):
            self.open()

    def open(self) -> None:
        """Begin one more."""
        side = Side(self, len(self.every))
        self.sides.append(side)
        self.every.append(side)

    def bytes(self, size: int) -> bytes:
        """Bytes that are not like others."""
        return self.random.randbytes(size)

    def act(self, side: Side) -> None:
        """What a protocol does when something comes."""
        if self.is_over:
            return
        choice = self.random.random()
        size = self.random.choice(SIZES)
        if choice < 0.5:
            side.write(size)
        elif choice < 0.7:
            self.random.choice(self.sides).write(size)
        elif choice < 0.75:
            side.transport.pauseProducing()
        elif choice < 0.8:
            for other in self.sides:
                other.transport.resumeProducing()
        elif choice < 0.84:
            side.is_cut |= side.wire.sock.family != socket.AF_UNIX  # TCP has a reset for what is unread
            side.transport.unregisterProducer()
            side.transport.loseConnection()
        elif choice < 0.86:
            other = self.random.choice(self.sides)
            other.is_cut = other.is_aborted = True
            other.transport.abortConnection()
        elif choice < 0.88:
            self.mistakes += 1
            side.is_cut = True
            raise MistakeError

    def step(self) -> None:
        for side in self.random.sample(self.sides, 6):
            choice = self.random.random()
            if choice < 0.6:
                side.send(self.random.choice(SIZES))
            elif choice < 0.9:
                side.take()
            elif choice < 0.92:
                side.is_cut = True  # what waits to be sent is not waited for
                side.wire.shut()
            elif choice < 0.93:
                side.is_cut = True
                side.wire.close()
        self.turn()
        for side in list(self.sides):
            if side.reason is not None:
                self.sides.remove(side)
                self.open()  # with a number that was another one's a moment ago

    def rest(self) -> None:
        self.is_over = True
        super().rest()

    def is_at_rest(self) -> bool:
        for side in self.alive:
            side.transport.resumeProducing()
        self.turn()
        for side in self.every:
            side.take()
        return all(side.sent == side.came for side in self.alive) and all(
            side.is_cut or side.wrote == side.taken for side in self.every
        )

    @property
    def alive(self) -> list[Side]:
        """Those that have not ended."""
        return [side for side in self.every if side.reason is None]


class RandomTests(WalkingCase):
    """Whatever happens, nothing is lost, doubled or mixed up."""

    def test_walks(self) -> None:
        """What was written arrives, and what was sent; what is cut off has arrived up to there."""
        for walk in self.walks(TransportWalk, steps=STEPS, count=8):
            alive = walk.alive
            self.assertIsNone(walk.reactor.outbox)
            self.assertEqual(0, walk.late, "something has come after the end")
            self.assertEqual(walk.mistakes, len(self.flushLoggedErrors(MistakeError)))
            self.assertGreater(len(walk.every), CONNECTIONS)
            self.assertTrue(alive)
            for side in alive:
                self.assertEqual(len(side.sent), len(side.came), f"seed {walk.seed}, connection {side.number}")
            for side in walk.every:
                words = f"seed {walk.seed}, connection {side.number}"
                self.assertTrue(side.sent.startswith(side.came), words)
                self.assertTrue(side.wrote.startswith(side.taken), words)
                if not side.is_cut:
                    self.assertEqual(len(side.wrote), len(side.taken), words)


class RandomInPythonTests(RandomTests):
    """The same where there was no compiler."""

    compiled = False
