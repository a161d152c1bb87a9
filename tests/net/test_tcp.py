"""Tests of `proxyd.net.tcp` and `proxyd.net.reactor` on real sockets, and of their stand-in in memory."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed  # noqa: TID251  # the data path hangs on a real one
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.net.reactor import DataPathReactor, _round
from proxyd.net.tcp import LARGE_READ, SMALL_READ, DataPathPort, DataPathServer, DataPathUnixServer
from proxyd.testing.transports import MemoryTransport

reactor: Any = installed


class Recorder(Protocol):
    """Remembers what happens to it."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.reason: Failure | None = None
        self.fails = False
        self.fails_at_its_end = False

    def dataReceived(self, data: bytes) -> None:
        """Remember it."""
        if self.fails:
            raise ZeroDivisionError
        self.data += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Remember it."""
        if self.fails_at_its_end:
            raise ZeroDivisionError
        self.reason = reason


class Producer:
    """Remembers whether it is paused."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        """Remember it."""
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        """Remember it."""
        self.calls.append("resume")

    def stopProducing(self) -> None:
        """Remember it."""
        self.calls.append("stop")


class RealPeer:
    """The other end of a real connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        sock.setblocking(False)

    def send(self, data: bytes) -> None:
        """Send."""
        self.sock.sendall(data)

    def close(self) -> None:
        """Close this side only."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def take(self) -> None:
        """Take everything that is there."""
        try:
            while data := self.sock.recv(1 << 20):
                self.received += data
        except BlockingIOError:
            pass


class TransportContract:
    """What a protocol may count on, of a real transport and of the one in memory."""

    real = True

    def connect(self) -> tuple[Recorder, Any]:
        """A protocol on a transport, and the peer."""
        raise NotImplementedError

    async def turn(self) -> None:
        """Let events happen."""
        raise NotImplementedError

    async def test_both_directions(self) -> None:
        """What one side sends, the other one gets."""
        protocol, peer = self.connect()
        peer.send(b"hello")
        await self.turn()
        self.assertEqual(b"hello", protocol.data)
        protocol.transport.write(b"world")
        protocol.transport.writeSequence([b"!", b"!"])
        peer.take()
        self.assertEqual(b"world!!", peer.received)
        self.assertEqual(0, protocol.transport.unsent)

    async def test_paused(self) -> None:
        """Nothing is read while paused, and nothing is lost."""
        protocol, peer = self.connect()
        protocol.transport.pauseProducing()
        peer.send(b"hello")
        await self.turn()
        self.assertEqual(b"", protocol.data)
        protocol.transport.resumeProducing()
        await self.turn()
        self.assertEqual(b"hello", protocol.data)

    async def test_end_of_the_peer(self) -> None:
        """A FIN is `ConnectionDone`, after everything that came before."""
        protocol, peer = self.connect()
        peer.send(b"bye")
        peer.close()
        await self.turn()
        self.assertEqual(b"bye", protocol.data)
        self.assertTrue(protocol.reason.check(ConnectionDone))

    async def test_end_of_the_peer_while_paused(self) -> None:
        """It is noticed, or not, as `watches_peer` says; what is unread is not delivered in the one case only."""
        for watches in (True, False):
            protocol, peer = self.connect()
            protocol.transport.watches_peer = watches
            protocol.transport.pauseProducing()
            peer.send(b"unread")
            peer.close()
            await self.turn()
            self.assertEqual(watches, protocol.reason is not None)
            self.assertEqual(b"", protocol.data)
            if not watches:
                protocol.transport.resumeProducing()
                await self.turn()
                self.assertEqual(b"unread", protocol.data)
                self.assertTrue(protocol.reason.check(ConnectionDone))

    async def test_lose_connection(self) -> None:
        """The connection ends, later than the call, after what was written."""
        protocol, peer = self.connect()
        protocol.transport.write(b"bye")
        protocol.transport.loseConnection()
        self.assertIsNone(protocol.reason)
        await self.turn()
        peer.take()
        self.assertEqual(b"bye", peer.received)
        self.assertTrue(protocol.reason.check(ConnectionDone))
        protocol.transport.write(b"too late")
        protocol.transport.loseConnection()
        protocol.transport.abortConnection()

    async def test_abort_connection(self) -> None:
        """The connection ends, later than the call, as aborted."""
        protocol, peer = self.connect()
        protocol.transport.abortConnection()
        peer.send(b"unread")
        self.assertIsNone(protocol.reason)
        await self.turn()
        self.assertTrue(protocol.reason.check(ConnectionAborted))
        self.assertEqual(b"", protocol.data)

    async def test_producer(self) -> None:
        """A producer is paused when the peer does not take what is sent, and resumed when all is sent."""
        protocol, peer = self.connect()
        producer = Producer()
        protocol.transport.registerProducer(producer, True)
        if not self.real:
            peer.stall()
        for _ in range(40):
            protocol.transport.write(b"x" * 500_000)
            if producer.calls:
                break
        self.assertEqual(["pause"], producer.calls)
        self.assertGreater(protocol.transport.unsent, 0)
        for _ in range(100):
            peer.take()
            if "resume" in producer.calls:
                break
            await self.turn()
        self.assertEqual(["pause", "resume"], producer.calls)
        protocol.transport.unregisterProducer()
        peer.reset()
        await self.turn()
        self.assertEqual(["pause", "resume"], producer.calls)

    async def test_closing_waits_for_what_is_unsent(self) -> None:
        """`loseConnection` sends everything, also to a peer that takes its time."""
        protocol, peer = self.connect()
        if not self.real:
            peer.stall()
        size = 20_000_000
        protocol.transport.write(b"x" * size)
        protocol.transport.loseConnection()
        await self.turn()
        self.assertIsNone(protocol.reason)
        for _ in range(1000):
            peer.take()
            if protocol.reason is not None and len(peer.received) == size:  # what it has sent is still on its way
                break
            await self.turn()
        self.assertEqual(size, len(peer.received))
        self.assertTrue(protocol.reason.check(ConnectionDone))

    async def pause(self) -> None:
        """Let the kernel work, but no event happen."""

    async def test_half_close(self) -> None:
        """Our side is closed, and what the peer says is still read."""
        protocol, peer = self.connect()
        protocol.transport.write(b"bye")
        protocol.transport.loseWriteConnection()
        await self.turn()
        peer.take()
        self.assertEqual(b"bye", peer.received)
        peer.send(b"well")
        await self.turn()
        self.assertEqual(b"well", protocol.data)
        protocol.transport.write(b"too late")
        peer.take()
        self.assertEqual(b"bye", peer.received)


class ResetContract(TransportContract):
    """The same, and what a reset means: unix sockets have none."""

    async def test_reset_by_the_peer(self) -> None:
        """A RST is `ConnectionLost`."""
        protocol, peer = self.connect()
        peer.reset()
        await self.turn()
        self.assertTrue(protocol.reason.check(ConnectionLost))

    async def test_producer_of_a_lost_connection(self) -> None:
        """It is told to stop, when the connection ends or when it comes too late."""
        protocol, peer = self.connect()
        producer = Producer()
        protocol.transport.registerProducer(producer, True)
        peer.reset()
        await self.turn()
        self.assertEqual(["stop"], producer.calls)
        protocol.transport.registerProducer(producer, True)
        self.assertEqual(["stop", "stop"], producer.calls)
        protocol.transport.write(b"into the void")

    async def test_quiet(self) -> None:
        """Whether there is anything to read, unread bytes and the end alike."""
        for act in ("send", "close", "reset"):
            protocol, peer = self.connect()
            protocol.transport.watches_peer = False
            protocol.transport.pauseProducing()
            self.assertTrue(protocol.transport.is_quiet())
            peer.send(b"x") if act == "send" else getattr(peer, act)()
            await self.pause()
            if protocol.transport.connected:
                self.assertFalse(protocol.transport.is_quiet(), act)


class MemoryTransportTests(SynchronousTestCase, ResetContract):
    """The stand-in in memory keeps the contract."""

    real = False

    def setUp(self) -> None:
        self.clock = Clock()

    def connect(self) -> tuple[Recorder, Any]:
        protocol = Recorder()
        transport = MemoryTransport(self.clock)
        transport.connect(protocol)
        return protocol, transport

    async def turn(self) -> None:
        for _ in range(3):
            self.clock.advance(0)


def _run_coroutines(case: type) -> type:
    """Let a synchronous test case run tests that are coroutines and never really wait."""
    for name in dir(case):
        if name.startswith("test_"):
            method = getattr(case, name)

            def run(self: Any, method: Any = method) -> None:
                self.successResultOf(Deferred.fromCoroutine(method(self)))

            run.__doc__ = method.__doc__
            setattr(case, name, run)
    return case


_run_coroutines(MemoryTransportTests)


class _Watched:
    """A socket whose reads go through `recv`."""

    def __init__(self, sock: socket.socket, recv: Callable[[int], bytes]) -> None:
        self._sock = sock
        self.recv = recv

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class RealTransportCase(TestCase):
    """Connections on a data path's reactor of their own."""

    compiled = True

    def setUp(self) -> None:
        self.reactor = DataPathReactor(reactor, compiled=self.compiled)
        self.addCleanup(self.reactor.close)

    async def turn(self) -> None:
        """Let events happen."""
        for _ in range(4):
            await deferLater(reactor, 0.002)

    def adopt(self, ours: socket.socket, theirs: socket.socket, kind: Any, address: Any) -> tuple[Recorder, RealPeer]:
        """A protocol on one end of a connection, the peer on the other."""
        self.addCleanup(theirs.close)
        protocol = Recorder()
        transport = kind(ours, protocol, address, None, 0, self.reactor)
        protocol.makeConnection(transport)
        return protocol, RealPeer(theirs)


class TcpTests(RealTransportCase, ResetContract):
    """A client over TCP."""

    family, address = socket.AF_INET, "127.0.0.1"

    def connect(self) -> tuple[Recorder, RealPeer]:
        with socket.socket(self.family) as listening:
            listening.bind((self.address, 0))
            listening.listen()
            theirs = socket.create_connection(listening.getsockname()[:2])
            ours, address = listening.accept()
        return self.adopt(ours, theirs, DataPathServer, address)

    def test_addresses(self) -> None:
        """Both ends are known."""
        protocol, peer = self.connect()
        kind = IPv4Address if self.family == socket.AF_INET else IPv6Address
        self.assertIsInstance(protocol.transport.getPeer(), kind)
        self.assertEqual(peer.sock.getsockname()[1], protocol.transport.getPeer().port)
        self.assertEqual(peer.sock.getpeername()[1], protocol.transport.getHost().port)
        self.assertIn(self.address, repr(protocol.transport))

    async def test_reads_grow_as_long_as_they_are_full(self) -> None:
        """They begin small, grow up to `read_size` while there is more, and are small again once there is little."""
        protocol, peer = self.connect()
        transport = protocol.transport
        asked: list[int] = []
        receive = transport.socket.recv

        def recv(size: int) -> bytes:
            asked.append(size)
            return receive(size)  # type: ignore[no-any-return]

        transport.socket = _Watched(transport.socket, recv)
        for read_size in (LARGE_READ, SMALL_READ, 100):
            transport.read_size = read_size
            del asked[:]
            sent = 0
            while sent < 1_000_000:
                with contextlib.suppress(BlockingIOError):
                    sent += peer.sock.send(bytes(min(300_000, 1_000_000 - sent)), socket.MSG_DONTWAIT)
                transport.doRead()
            while len(protocol.data) < 1_000_000:
                transport.doRead()
            self.assertEqual(max(asked), read_size)
            self.assertLessEqual(asked[0], 16 * 1024)
            protocol.data = b""
            peer.send(b"a little")
            transport.doRead()
            peer.send(b"a little more")
            transport.doRead()
            self.assertLessEqual(asked[-1], 16 * 1024)
            protocol.data = b""

    async def test_what_came_before_a_failed_write_is_read(self) -> None:
        """A peer that answers and closes is heard, although what we still write fails."""
        protocol, peer = self.connect()
        peer.send(b"an early answer")
        peer.sock.close()
        for _ in range(3):
            protocol.transport.write(b"x" * 1000)
        await self.turn()
        self.assertIsNotNone(protocol.reason)
        self.assertEqual(b"an early answer", protocol.data)

    async def test_failed_write_while_paused(self) -> None:
        """A connection that nobody reads and that cannot be written ends."""
        protocol, peer = self.connect()
        protocol.transport.watches_peer = False
        protocol.transport.pauseProducing()
        peer.reset()
        for _ in range(3):
            protocol.transport.write(b"x" * 1000)
        await self.turn()
        self.assertIsNotNone(protocol.reason)
        self.assertEqual("<ended connection>", repr(protocol.transport))

    async def test_failed_write_of_the_buffer(self) -> None:
        """The same when the failure shows only when the buffer is sent."""
        protocol, peer = self.connect()
        protocol.transport.watches_peer = False
        protocol.transport.pauseProducing()
        protocol.transport.write(b"x" * 10_000_000)
        protocol.transport.writeSomeData(b"more")
        peer.reset()
        await self.turn()
        self.assertIsNotNone(protocol.reason)


class Acting(Recorder):
    """Does something when anything comes."""

    act: Callable[[], None]

    def dataReceived(self, data: bytes) -> None:
        """Do it."""
        self.act()


class RoundTests(RealTransportCase):
    """What is written while events are dealt with."""

    connect = TcpTests.connect
    family, address = TcpTests.family, TcpTests.address

    async def in_a_round(self, *acts: Callable[[], None]) -> None:
        """Deal with events that do all this, one after the other."""
        for act in acts:
            protocol, peer = self.connect()
            protocol.transport.protocol = acting = Acting()
            acting.act = act
            peer.send(b"x")
        await self.turn()
        self.assertIsNone(self.reactor.outbox)

    async def test_little_is_sent_at_the_end(self) -> None:
        """Pieces leave as one, when all events have been dealt with."""
        protocol, peer = self.connect()
        seen = []

        def write() -> None:
            protocol.transport.write(b"one")
            peer.take()
            seen.append(peer.received)

        await self.in_a_round(write, write)
        self.assertEqual([b"", b""], seen)
        peer.take()
        self.assertEqual(b"oneone", peer.received)

    async def test_it_does_not_wait_for_many_others(self) -> None:
        """What was said first has left before a large round is over."""
        ends = [self.connect() for _ in range(80)]
        first = ends[0][1]
        seen = []

        def write(transport: Any) -> None:
            transport.write(b"x")
            first.take()
            seen.append(first.received)

        await self.in_a_round(lambda: [write(protocol.transport) for protocol, _ in ends] and None, first.take)
        for _, peer in ends:
            peer.take()
            self.assertEqual(b"x", peer.received)

    async def test_much_is_sent_at_once(self) -> None:
        """In its order, and without a copy of it being kept."""
        for sizes in ((100_000,), (3, 100_000), (10_000, 10_000), (3, 100_000, 3)):
            protocol, peer = self.connect()
            pieces = [bytes([97 + index]) * size for index, size in enumerate(sizes)]

            def write(protocol: Recorder = protocol, pieces: list[bytes] = pieces, peer: RealPeer = peer) -> None:
                for piece in pieces[:2]:
                    protocol.transport.write(piece)
                peer.take()
                self.assertEqual(b"".join(pieces[:2]), peer.received)
                for piece in pieces[2:]:
                    protocol.transport.write(piece)

            await self.in_a_round(write)
            peer.take()
            self.assertEqual(b"".join(pieces), peer.received)

    async def test_what_is_done_next_comes_behind_it(self) -> None:
        """Whatever happens to the transport in the same round, what was written before has been sent by then."""
        for act in (
            lambda transport: transport.loseConnection(),
            lambda transport: transport.loseWriteConnection(),
            lambda transport: transport.abortConnection(),
            lambda transport: transport.connectionLost(Failure(ConnectionLost())),
            lambda transport: transport.registerProducer(Producer(), True),
            lambda transport: transport.registerProducer(Producer(), False),
            lambda transport: transport.unregisterProducer(),
            lambda transport: transport.unsent,
        ):
            protocol, _ = self.connect()
            sent: list[bytes] = []

            def write(
                protocol: Recorder = protocol, sent: list[bytes] = sent, act: Callable[[Any], object] = act
            ) -> None:
                transport = protocol.transport
                send = transport.socket.send

                def note(data: bytes) -> int:
                    if data:  # closing sends nothing, too
                        sent.append(data)
                    return send(data)  # type: ignore[no-any-return]

                transport.socket = _Watched(transport.socket, transport.socket.recv)
                transport.socket.send = note
                transport.write(b"bye")
                self.assertEqual([], sent)
                act(transport)
                self.assertEqual([b"bye"], sent)

            await self.in_a_round(write)
            self.assertEqual([b"bye"], sent)

    async def test_one_that_is_aborted(self) -> None:
        """Nothing comes from it in the rest of the round either, although somebody resumes it, and nothing is sent."""
        first, first_peer = self.connect()
        second, second_peer = self.connect()
        first.transport.protocol = acting = Acting()

        def abort() -> None:
            second.transport.abortConnection()
            second.transport.resumeProducing()
            second.transport.write(b"late")

        acting.act = abort
        first_peer.send(b"x")
        second_peer.send(b"x")
        await self.turn()
        self.assertTrue(second.reason.check(ConnectionAborted))
        self.assertEqual(b"", second.data)
        self.assertRaises(ConnectionResetError, second_peer.take)
        self.assertEqual(b"", second_peer.received)

    async def test_no_more_is_read_than_is_asked_for(self) -> None:
        """A protocol for which a lot is too much gets little at once, in a round as well."""
        protocol, peer = self.connect()
        protocol.transport.read_size = 100
        sizes: list[int] = []
        protocol.transport.protocol = acting = Acting()
        acting.dataReceived = lambda data: sizes.append(len(data))  # type: ignore[method-assign]
        peer.send(bytes(1000))
        for _ in range(100):
            await self.turn()
            if sum(sizes) == 1000:
                break
        self.assertEqual([100] * 10, sizes)

    async def test_a_full_peer(self) -> None:
        """What the kernel does not take waits, and pauses the producer."""
        protocol, peer = self.connect()
        producer = Producer()
        written = 0

        def write() -> None:
            nonlocal written
            for _ in range(2000):
                protocol.transport.write(b"x" * 10_000)
                written += 10_000
                if producer.calls:
                    return

        protocol.transport.registerProducer(producer, True)
        await self.in_a_round(write)
        self.assertEqual(["pause"], producer.calls)
        for _ in range(300):
            peer.take()
            if len(peer.received) == written:
                break
            await self.turn()
        self.assertEqual(written, len(peer.received))
        self.assertEqual(["pause", "resume"], producer.calls)

    async def test_a_send_that_fails(self) -> None:
        """It ends the one connection, and is logged if it was a mistake; the others get theirs."""
        failing, _ = self.connect()
        lost, lost_peer = self.connect()
        good, good_peer = self.connect()

        def write() -> None:
            failing.transport._send = failing.transport.fileno = None  # which cannot be called
            lost_peer.reset()
            for protocol in (failing, lost, good):
                protocol.transport.write(b"x")

        await self.in_a_round(write)
        good_peer.take()
        self.assertEqual(b"x", good_peer.received)
        self.assertTrue(failing.reason.check(TypeError))
        self.assertIsNotNone(lost.reason)
        self.assertIsNone(good.reason)
        self.assertEqual(1, len(self.flushLoggedErrors(TypeError)))


class TcpInPythonTests(TcpTests):
    """The same where there was no compiler."""

    compiled = False


class RoundInPythonTests(RoundTests):
    """The same where there was no compiler."""

    compiled = False


class CompiledRoundTests(SynchronousTestCase):
    """`_round.c`, by itself."""

    def test_it_is_there_where_it_can_be(self) -> None:
        """With a compiler and the headers of Python an installation has it."""
        header = Path(sysconfig.get_path("include")) / "Python.h"
        if (shutil.which("cc") or shutil.which("gcc")) and header.exists():
            self.assertIsNotNone(_round)

    def test_wrong_arguments(self) -> None:
        """They are the fault of who calls, and nothing happens."""
        if _round is None:
            return

        def nothing(*_: object) -> None:
            pass

        for arguments in (
            (),
            ((), {}, {}, (), nothing, nothing, nothing),
            ([], [], {}, (), nothing, nothing, nothing),
            ([1], {}, {}, (), nothing, nothing, nothing),
            ([(1,)], {}, {}, (), nothing, nothing, nothing),
            ([("1", 1)], {}, {}, (), nothing, nothing, nothing),
            ([(1, select.EPOLLIN)], {1: object()}, {1: "x"}, (), nothing, nothing, nothing),
        ):
            self.assertRaises(TypeError, _round.deal_with, *arguments)
        for arguments in ((), ((), (), nothing), ([], [], nothing)):
            self.assertRaises(TypeError, _round.send_all, *arguments)

    def test_mistakes_are_told(self) -> None:
        """What a transport raises goes to `failed`; what that raises ends the round."""
        if _round is None:
            return

        class Odd:
            """Has nothing of what a transport has."""

        class Texts:
            """Has something else."""

            held_back = "text"

        class Closed:
            """Has no descriptor."""

            held_back = b"x"

            def fileno(self) -> None:
                """It has none."""

        seen: list[type] = []
        several = [Odd(), Texts(), Closed()]
        _round.send_all(several, (Odd, Texts, Closed), lambda _, error: seen.append(type(error)))
        self.assertEqual([AttributeError, TypeError, TypeError], seen)
        _round.send_all([Odd()], (), lambda _, error: seen.append(type(error)))
        self.assertEqual(AttributeError, seen[-1])

        def fails(*_: object) -> None:
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, _round.send_all, several, (Odd,), fails)
        event = [(1, select.EPOLLIN)]
        self.assertRaises(AttributeError, _round.deal_with, event, {1: Odd()}, {1: 1}, (Odd,), fails, fails, fails)
        self.assertRaises(ZeroDivisionError, _round.deal_with, event, {1: Odd()}, {1: 1}, (), fails, fails, fails)


class TcpV6Tests(TcpTests):
    """A client over TCP and IPv6."""

    family, address = socket.AF_INET6, "::1"


class UnixTests(RealTransportCase, TransportContract):
    """A client over a unix socket."""

    def connect(self) -> tuple[Recorder, RealPeer]:
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        return self.adopt(ours, theirs, DataPathUnixServer, "")

    async def test_reset_by_the_peer(self) -> None:
        """Unix sockets know no RST but this: the peer closes and leaves something unread."""
        protocol, peer = self.connect()
        protocol.transport.write(b"unread")
        peer.sock.close()
        await self.turn()
        self.assertTrue(protocol.reason.check(ConnectionLost))

    def test_addresses(self) -> None:
        """Nothing is known of the peer."""
        protocol, _ = self.connect()
        self.assertEqual(UNIXAddress(None), protocol.transport.getPeer())
        self.assertIsInstance(protocol.transport.getHost(), UNIXAddress)
        protocol.transport.setTcpNoDelay(True)


class PortTests(RealTransportCase):
    """`DataPathPort`."""

    def listen(self, sock: socket.socket) -> list[Recorder]:
        """Accept on `sock`; gives back the protocols that come."""
        protocols: list[Recorder] = []

        def build() -> Recorder:
            protocols.append(Recorder())
            return protocols[-1]

        sock.setblocking(False)
        sock.listen()
        port = DataPathPort(sock, Factory.forProtocol(build), self.reactor)
        port.startListening()
        self.addCleanup(port.stopListening)
        return protocols

    async def test_tcp(self) -> None:
        """Clients are accepted, all at once if they come at once, and their transports are the data path's."""
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            sock = socket.socket(family)
            sock.bind((address, 0))
            protocols = self.listen(sock)
            for _ in range(20):
                self.addCleanup(socket.create_connection(sock.getsockname()[:2]).close)
            await self.turn()
            self.assertEqual(20, len(protocols))
            for protocol in protocols:
                self.assertIs(self.reactor, protocol.transport.reactor)
                self.assertEqual(address, protocol.transport.getPeer().host)

    async def test_unix(self) -> None:
        """Clients on unix sockets are accepted, too."""
        path = os.path.join(self.mktemp())
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        protocols = self.listen(sock)
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(path)
        await self.turn()
        self.assertIsInstance(protocols[0].transport, DataPathUnixServer)


class ReactorTests(RealTransportCase):
    """`DataPathReactor`."""

    connect = TcpTests.connect
    family, address = TcpTests.family, TcpTests.address

    async def test_one_that_fails_does_not_end_the_others(self) -> None:
        """An error in one protocol ends its connection, and is logged."""
        bad, bad_peer = self.connect()
        good, good_peer = self.connect()
        bad.fails = True
        bad_peer.send(b"x")
        good_peer.send(b"x")
        await self.turn()
        self.assertTrue(bad.reason.check(ZeroDivisionError))
        self.assertEqual(b"x", good.data)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_one_that_fails_at_its_end(self) -> None:
        """An error in `connectionLost` is logged as well."""
        bad, bad_peer = self.connect()
        good, good_peer = self.connect()
        bad.fails_at_its_end = True
        bad_peer.reset()
        good_peer.send(b"x")
        await self.turn()
        self.assertEqual(b"x", good.data)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_what_is_watched(self) -> None:
        """It can be listed, and taken away at once."""
        protocol, _ = self.connect()
        transport = protocol.transport
        self.assertEqual([transport], self.reactor.getReaders())
        self.assertEqual([], self.reactor.getWriters())
        transport.startWriting()
        self.assertEqual([transport], self.reactor.getWriters())
        self.assertEqual([transport], self.reactor.removeAll())
        self.assertEqual([], self.reactor.getReaders())
        transport.stopReading()
        transport.startReading()

    async def test_close_ends_everything(self) -> None:
        """Connections do not outlive their reactor."""
        protocol, peer = self.connect()
        self.reactor.close()
        self.assertTrue(protocol.reason.check(ConnectionLost))
        peer.take()

    async def test_numbers_are_used_again(self) -> None:
        """A descriptor that is closed and opened again in the same round gets no event of its predecessor."""
        first, first_peer = self.connect()
        second, second_peer = self.connect()
        number = first.transport.fileno()
        replacement: list[Recorder] = []

        def replace(data: bytes) -> None:
            first.transport.connectionLost(Failure(ConnectionDone()))
            ours, theirs = socket.socketpair()
            os.dup2(ours.fileno(), number) if ours.fileno() != number else None
            protocol, _ = self.adopt(socket.socket(fileno=os.dup(number)), theirs, DataPathUnixServer, "")
            replacement.append(protocol)
            ours.close()

        second.dataReceived = replace  # type: ignore[method-assign]
        second_peer.send(b"x")
        first_peer.reset()
        select.select([second.transport], [], [], 1)
        await self.turn()
        self.assertIsNone(replacement[0].reason)

    async def test_calls_are_those_of_the_main_reactor(self) -> None:
        """It has the timers."""
        called: Deferred[None] = Deferred()
        self.reactor.callLater(0, called.callback, None)
        await called
