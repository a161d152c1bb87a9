"""Tests of `proxyd.net.splicing`, and of transports that splice, on real sockets."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from proxyd.net.splicing import SplicePipe
from proxyd.net.tcp import DataPathServer, SplicingProtocol
from tests.net.test_tcp import RealPeer, RealTransportCase, Recorder

MIB = 1 << 20


class Passing(SplicingProtocol):
    """Passes the next `most` bytes on to `target`, and remembers what comes behind them."""

    transport: Any

    def __init__(self, target: Any, most: int) -> None:
        self.target = target
        self.most = most
        self.spliced = 0
        self.read = 0
        self.behind = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Pass it on, and count it."""
        self.read += len(data)
        self._pass(data)

    def splice_target(self) -> tuple[Any, int] | None:
        """The target, as long as something may pass."""
        return (self.target, self.most) if self.most else None

    def data_spliced(self, count: int, rest: bytes) -> None:
        """Count it; what could not be passed has been read."""
        self.spliced += count
        self.read += len(rest)
        self.most -= count
        self._pass(rest)

    def _pass(self, data: bytes) -> None:
        passed, behind = data[: self.most], data[self.most :]
        self.most -= len(passed)
        self.target.write(passed)
        self.behind += behind

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Remember it."""
        self.reason = reason


def refusing(code: int, fd: int, of_source: bool) -> Callable[..., int]:
    """An `os.splice` that fails with `code` from this descriptor, or from all others."""
    splice = os.splice

    def refuse(source: int, target: int, count: int, *, flags: int) -> int:
        if (source == fd) is of_source:
            raise OSError(code, os.strerror(code))
        return splice(source, target, count, flags=flags)

    return refuse


class SplicingTests(RealTransportCase):
    """A connection whose bytes go to another one."""

    family = socket.AF_INET

    def setUp(self) -> None:
        super().setUp()
        self.target, self.client = self.pair()
        self.data = random.Random(1).randbytes(8 * MIB)

    def pair(self) -> tuple[Recorder, RealPeer]:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            theirs = socket.create_connection(listening.getsockname())
            ours, address = listening.accept()
        ours.setblocking(False)
        return self.adopt(ours, theirs, DataPathServer, address)

    def passing(self, most: int = 1 << 60) -> tuple[Passing, RealPeer]:
        """A protocol that passes what comes to the client, and the peer that it comes from."""
        recorder, peer = self.pair()
        protocol = Passing(self.target.transport, most)
        transport = recorder.transport
        transport.protocol = protocol
        protocol.makeConnection(transport)
        transport.read_size = 256 * 1024
        return protocol, peer

    async def send(self, peer: RealPeer, data: bytes, *, takes: bool = True) -> None:
        """Send `data`, as fast as it is taken, the client taking its part."""
        sent = 0
        for _ in range(5000):
            try:
                sent += peer.sock.send(data[sent : sent + MIB])
            except BlockingIOError:
                await self.turn()
            if takes:
                self.client.take()
            if sent == len(data):
                return
        self.fail(f"only {sent} of {len(data)} bytes were taken")

    async def received(self, count: int) -> bytes:
        """What the client got, once that is so much."""
        for _ in range(2000):
            self.client.take()
            if len(self.client.received) >= count:
                break
            await self.turn()
        return self.client.received

    async def test_everything_arrives_in_order(self) -> None:
        """Most of it without being read, and nothing stays in the pipe."""
        protocol, peer = self.passing()
        await self.send(peer, self.data)
        self.assertEqual(self.data, await self.received(len(self.data)))
        self.assertEqual(len(self.data), protocol.spliced + protocol.read)
        self.assertGreater(protocol.spliced, protocol.read)

    async def test_client_that_is_slow(self) -> None:
        """What it does not take is held, as if it had been read, and arrives in order."""
        protocol, peer = self.passing()
        protocol.target.registerProducer(protocol.transport, True)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        sent = 0
        while sent < len(self.data):  # until nothing moves any more
            try:
                sent += peer.sock.send(self.data[sent : sent + MIB])
            except BlockingIOError:
                before = protocol.spliced + protocol.read
                await self.turn()
                if before == protocol.spliced + protocol.read:
                    break
        self.assertLess(0, protocol.target.unsent)
        self.assertLessEqual(protocol.target.unsent, 2 * MIB)
        self.assertLess(sent, len(self.data))
        await self.send(peer, self.data[sent:])
        self.assertEqual(self.data, await self.received(len(self.data)))
        self.assertGreater(protocol.spliced, 0)

    async def test_no_byte_more_than_may_pass(self) -> None:
        """What is behind them has to be looked at."""
        most = 3 * MIB + 17
        protocol, peer = self.passing(most)
        await self.send(peer, self.data[: 4 * MIB])
        self.assertEqual(self.data[:most], await self.received(most))
        await self.turn()
        self.assertEqual(self.data[most : 4 * MIB], protocol.behind)
        self.assertGreater(protocol.spliced, 0)

    async def test_little_is_read(self) -> None:
        """Splicing begins when there is much, and ends when there is little."""
        protocol, peer = self.passing()
        for _ in range(20):
            await self.send(peer, b"a little")
            await self.turn()
        self.assertEqual((0, 160), (protocol.spliced, protocol.read))
        await self.send(peer, self.data[:MIB])
        await self.received(160 + MIB)
        spliced = protocol.spliced
        self.assertGreater(spliced, 0)
        await self.send(peer, b"a little")  # it may be the one that shows how little there is
        await self.turn()
        spliced = protocol.spliced
        await self.send(peer, b"a little more")
        await self.turn()
        self.assertEqual(spliced, protocol.spliced)

    async def test_nothing_overtakes_what_waits(self) -> None:
        """While something in front of it is unsent, and once the other side is closing, it is read."""
        protocol, peer = self.passing()
        waiting = bytes(8 * MIB)
        protocol.target.write(waiting)
        self.assertGreater(protocol.target.unsent, 0)
        await self.send(peer, self.data[:MIB], takes=False)
        await self.turn()
        self.assertEqual(0, protocol.spliced)
        self.assertEqual(waiting + self.data[:MIB], await self.received(9 * MIB))
        protocol.target.loseWriteConnection()
        protocol.read = 0
        await self.send(peer, self.data[:MIB])
        await self.turn()
        self.assertEqual((0, MIB), (protocol.spliced, protocol.read))

    async def test_kernel_without_splicing(self) -> None:
        """From sockets of this kind, or to them: what is in the pipe is not lost."""
        for of_source in (True, False):
            for code in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                self.target, self.client = self.pair()
                protocol, peer = self.passing()
                source = protocol.transport.fileno()

                with patch("os.splice", refusing(code, source, of_source)):
                    await self.send(peer, self.data[: 2 * MIB])
                    self.assertEqual(self.data[: 2 * MIB], await self.received(2 * MIB))
                self.assertEqual(0, protocol.spliced)
                self.assertEqual(not of_source, protocol.transport.is_ready_for_splices)
                self.assertEqual(of_source, protocol.target.is_ready_for_splices)

    async def test_no_descriptors_left(self) -> None:
        """Without a pipe everything is read."""
        protocol, peer = self.passing()
        with patch("os.pipe2", side_effect=OSError(errno.EMFILE, "too many")):
            await self.send(peer, self.data[:MIB])
            self.assertEqual(self.data[:MIB], await self.received(MIB))
        self.assertEqual(0, protocol.spliced)

    async def test_small_pipe(self) -> None:
        """Where a larger pipe is not allowed, it takes more turns."""
        with patch("fcntl.fcntl", side_effect=PermissionError):
            protocol, peer = self.passing()
            await self.send(peer, self.data[: 2 * MIB])
        self.assertEqual(self.data[: 2 * MIB], await self.received(2 * MIB))
        self.assertGreater(protocol.spliced, 0)

    async def test_end_of_the_source(self) -> None:
        """It is told as for bytes that are read, and comes behind all of them."""
        protocol, peer = self.passing()
        await self.send(peer, self.data[:MIB])
        await self.received(MIB)
        protocol.transport._next_read = 256 * 1024
        peer.close()
        await self.turn()
        assert protocol.reason is not None
        protocol.reason.trap(ConnectionDone)
        protocol, peer = self.passing()
        await self.send(peer, self.data[:MIB])
        await self.received(2 * MIB)
        protocol.transport._next_read = 256 * 1024
        peer.reset()
        await self.turn()
        assert protocol.reason is not None
        protocol.reason.trap(ConnectionLost)

    async def test_client_that_is_gone(self) -> None:
        """Its connection ends as by a failed write; the source goes on."""
        protocol, peer = self.passing()
        protocol.target.watches_peer = False
        protocol.target.pauseProducing()  # only sending tells
        await self.send(peer, self.data[:MIB])
        await self.received(MIB)
        self.client.reset()
        await self.send(peer, self.data, takes=False)
        await self.turn()
        self.assertIsNotNone(self.target.reason)
        self.assertIsNone(protocol.reason)
        self.assertEqual(len(self.data) + MIB, protocol.spliced + protocol.read)
        # The pipe is as empty as before, and serves the next one.
        self.target, self.client = self.pair()
        protocol, peer = self.passing()
        await self.send(peer, self.data[:MIB])
        self.assertEqual(self.data[:MIB], await self.received(MIB))


class PipeTests(RealTransportCase):
    """The pipe."""

    def test_it_is_closed_with_the_reactor(self) -> None:
        """Descriptors are taken at the first use, and given back."""
        before = len(os.listdir("/proc/self/fd"))
        pipe = SplicePipe()
        pipe.close()
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))
        ours, theirs = socket.socketpair()
        theirs.send(b"hello")
        self.assertEqual(5, pipe.fill(ours.fileno(), 100))
        self.assertEqual(before + 4, len(os.listdir("/proc/self/fd")))
        self.assertEqual(2, pipe.pour(ours.fileno(), 2))
        self.assertEqual(b"llo", pipe.empty(3))
        self.assertEqual(b"he", theirs.recv(100))
        with self.assertRaises(BlockingIOError):
            ours.setblocking(False)
            pipe.fill(ours.fileno(), 100)
        pipe.close()
        ours.close()
        theirs.close()
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))
