"""Tests of `proxyd.upstream.dialing`, on real sockets."""

from __future__ import annotations

import gc
import shutil
import socket
import tempfile
import weakref
from typing import Any

from twisted.internet import reactor as installed  # noqa: TID251  # the data path hangs on a real one
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.errors import ConnectError, ConnectTimeoutError
from proxyd.model.settings import Limits, PoolSettings
from proxyd.model.upstream import Upstream
from proxyd.net.deadlines import Deadlines
from proxyd.net.reactor import DataPathReactor
from proxyd.upstream.connection import UpstreamConnection
from proxyd.upstream.dialing import Dialer, interleave
from proxyd.upstream.pools import Pools
from tests.support import free_port

reactor: Any = installed


class Names:
    """A name service that the test plays."""

    def __init__(self, **hosts: Any) -> None:
        self.hosts = hosts

    def resolve(self, host: str) -> Deferred[tuple[str, ...]]:
        """Answer, fail, or let wait."""
        answer = self.hosts[host.partition(".")[0]]
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)


class DialingCase(TestCase):
    """Dials on sockets of this machine."""

    def setUp(self) -> None:
        self.reactor = DataPathReactor(reactor)
        self.addCleanup(self.reactor.close)
        self.deadlines = Deadlines(self.reactor)
        self.addCleanup(self.deadlines.close)

    def dial(self, url: str, seconds: float = 3, **hosts: Any) -> Deferred[UpstreamConnection]:
        """Dial `url`."""
        dialer = Dialer(self.reactor, Names(**hosts))  # type: ignore[arg-type]
        pools = Pools(dialer, self.deadlines, PoolSettings(), Limits())
        return pools.of(Upstream.parse(url)).connect(seconds)

    def listen(self, address: str = "127.0.0.1", backlog: int = 5, port: int = 0) -> int:
        """A port on which connections are taken by the kernel."""
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.addCleanup(sock.close)
        sock.bind((address, port))
        sock.listen(backlog)
        return int(sock.getsockname()[1])


class DialingTests(DialingCase):
    """Connections that come about, or not."""

    async def test_addresses(self) -> None:
        """IPv4 and IPv6 literals are connected to directly."""
        for address in ("127.0.0.1", "::1"):
            port = self.listen(address)
            host = f"[{address}]" if ":" in address else address
            connection = await self.dial(f"http://{host}:{port}")
            self.assertEqual(
                (address, port), (connection.transport.getPeer().host, connection.transport.getPeer().port)
            )
            self.assertIs(self.reactor, connection.transport.reactor)

    async def test_names(self) -> None:
        """A name is looked up, and its addresses are tried until one answers, in whatever family."""
        port = self.listen("127.0.0.1")
        for addresses in (("127.0.0.1",), ("::1", "127.0.0.1"), ("127.0.0.2", "::1", "127.0.0.1")):
            connection = await self.dial(f"http://name.test:{port}", name=addresses)
            self.assertEqual("127.0.0.1", connection.transport.getPeer().host)

    async def test_nothing_stays_of_a_dial(self) -> None:
        """A connection may last for days: what made it is let go of, and no delayed call waits for it."""
        port = self.listen()
        calls = len(reactor.getDelayedCalls())  # trial has one of its own, too
        dialing = self.dial(f"http://127.0.0.1:{port}")
        dial = weakref.ref(next(found for found in gc.get_objects() if type(found).__name__ == "_Dial"))
        connection = await dialing
        del dialing
        await deferLater(reactor, 0)
        gc.collect()
        self.assertIsNone(dial())
        self.assertTrue(connection.transport.connected)
        self.assertLessEqual(len(reactor.getDelayedCalls()), max(calls, 1))

    async def test_a_dead_address_does_not_hold_up(self) -> None:
        """An address that does not answer at all is given a quarter of a second before the next one is tried."""
        port = self.listen("127.0.0.1")
        full = self.full_backlog("127.0.0.2", port)
        started = reactor.seconds()
        connection = await self.dial(f"http://name.test:{port}", name=("127.0.0.2", "127.0.0.1"))
        self.assertEqual("127.0.0.1", connection.transport.getPeer().host)
        self.assertTrue(0.2 < reactor.seconds() - started < 2)
        del full

    def full_backlog(self, address: str, port: int) -> list[socket.socket]:
        """Let nobody in at an address any more: connections to it hang, as those to a dead machine do."""
        self.listen(address, backlog=0, port=port)
        sockets = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((address, port))
            self.addCleanup(sock.close)
            sockets.append(sock)
        return sockets

    async def test_refused(self) -> None:
        """Nobody there: the error says who was tried and what happened."""
        port = free_port()
        for url, hosts in (
            (f"http://127.0.0.1:{port}", {}),
            (f"http://n.test:{port}", {"n": ("127.0.0.1", "127.0.0.2")}),
        ):
            with self.assertRaises(ConnectError) as caught:
                await self.dial(url, **hosts)
            self.assertRegex(str(caught.exception), rf"upstream .*:{port} cannot be reached: .*refused")

    async def test_unknown_name(self) -> None:
        """A name without an address cannot be reached."""
        with self.assertRaises(ConnectError) as caught:
            await self.dial("http://name.test", name=socket.gaierror(-2, "Name or service not known"))
        self.assertIn("Name or service not known", str(caught.exception))

    async def test_too_slow(self) -> None:
        """The time covers the look-up and all attempts."""
        port = free_port()
        self.full_backlog("127.0.0.3", port)
        silent: Deferred[Any] = Deferred()
        for url, hosts in ((f"http://127.0.0.3:{port}", {}), ("http://name.test", {"name": silent})):
            started = reactor.seconds()
            with self.assertRaises(ConnectTimeoutError):
                await self.dial(url, 0.3, **hosts)
            self.assertTrue(0.2 < reactor.seconds() - started < 2)
        silent.callback(("127.0.0.1",))

    async def test_cancelled(self) -> None:
        """Nothing is left of a dial that is given up."""
        port = free_port()
        self.full_backlog("127.0.0.3", port)
        silent: Deferred[Any] = Deferred()
        for url, hosts in ((f"http://127.0.0.3:{port}", {}), ("http://name.test", {"name": silent})):
            dialing = self.dial(url, **hosts)
            await deferLater(reactor, 0.02)
            dialing.cancel()
            with self.assertRaises(CancelledError):
                await dialing
            await deferLater(reactor, 0.02)
            self.assertEqual([], self.reactor.getReaders())
        silent.errback(OSError("too late"))

    async def test_unix_sockets(self) -> None:
        """A socket is connected to by its path; one that is not there cannot be reached."""
        directory = tempfile.mkdtemp()  # a short path: the name of a socket has 107 bytes at most
        self.addCleanup(shutil.rmtree, directory)
        path = f"{directory}/sock"
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.bind(path)
        sock.listen()
        connection = await self.dial(f"http+unix://{path.replace('/', '%2F')}")
        self.assertTrue(connection.transport.connected)
        connection.transport.write(b"x")
        with self.assertRaises(ConnectError):
            await self.dial("http+unix://%2Fnothing%2Fhere")

    async def test_without_a_limit(self) -> None:
        """0 seconds are no limit."""
        connection = await self.dial(f"http://127.0.0.1:{self.listen()}", 0)
        self.assertTrue(connection.transport.connected)


class InterleaveTests(SynchronousTestCase):
    """`interleave`."""

    def test_families_alternate(self) -> None:
        """The family of the first address begins, and the order inside a family stays."""
        cases = (
            (("1", "2"), ["1", "2"]),
            ((":1", "1", "2", ":2", ":3"), [":1", "1", ":2", "2", ":3"]),
            (("1", "2", "3", ":1"), ["1", ":1", "2", "3"]),
        )
        for addresses, order in cases:
            self.assertEqual(order, interleave(addresses))
