"""Tests of `proxyd.listeners.http` and `proxyd.listeners.demo`."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import tempfile
from typing import Any

from twisted.internet import reactor  # noqa: TID251  # the data path hangs on a real one
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from proxyd.errors import ListenError, OptionError, TlsError
from proxyd.interfaces import IListener
from proxyd.listeners.demo import DemoPage
from proxyd.listeners.http import HttpConfig, HttpListener, HttpsConfig, build_https
from proxyd.listeners.sockets import open_tcp, open_unix
from proxyd.model.tls import Certificate
from proxyd.net.reactor import DataPathReactor
from proxyd.option import FileMode, FilePath, Port
from proxyd.system.activation import InheritedSockets
from proxyd.testing.harness import Harness
from tests.certificates import Authority


class HttpListenerTests(TestCase):
    """A listener that opens and closes."""

    def setUp(self) -> None:
        self.reactor = DataPathReactor(reactor)
        self.addCleanup(self.reactor.close)

    def make(self, **options: Any) -> HttpListener:
        """A listener."""
        return HttpListener(HttpConfig(**options), lambda: Factory.forProtocol(Protocol), self.reactor)

    async def test_tcp(self) -> None:
        """It says where it is, takes a free port for 0, and can be opened again after it was closed."""
        listener = self.make(port=Port(0))
        verifyObject(IListener, listener)
        listener.open()
        self.assertEqual(f"http://127.0.0.1:{listener.port}", listener.where)
        self.assertRaises(ListenError, self.make(port=Port(listener.port)).open)
        await listener.close()
        again = self.make(port=Port(listener.port))
        again.open()
        await again.close()
        await again.close()

    def test_where(self) -> None:
        """URLs that can be used, and paths."""
        self.assertEqual("http://[::1]:80", self.make(address="::1", port=Port(80)).where)
        self.assertEqual("http://*:80", self.make(address="", port=Port(80)).where)
        self.assertEqual("/run/x", self.make(socket=FilePath("/run/x")).where)

    async def test_unix(self) -> None:
        """A socket is there while the listener is open."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = f"{directory}/s"
        listener = self.make(socket=FilePath(path), mode=FileMode(0o600))
        listener.open()
        self.assertTrue(os.path.exists(path))
        await listener.close()
        self.assertFalse(os.path.exists(path))

    async def test_the_backlog_is_that_of_the_configuration(self) -> None:
        """As the kernel has it."""
        listener = self.make(port=Port(0), backlog=7)

        def backlog() -> tuple[int]:
            information = listener._ports[0].socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            return struct.unpack_from("I", information, 28)  # tcpi_sacked: of a listener, the backlog

        listener.open()
        self.assertEqual(backlog(), (7,))
        listener.prepare(HttpConfig(port=Port(0), backlog=11))()
        self.assertEqual(backlog(), (11,))
        await listener.close()

    async def test_it_goes_on_with_the_same_socket(self) -> None:
        """With TLS or without: who has come meanwhile is served, and an inherited socket goes on when we are gone."""
        (sock,) = open_tcp("127.0.0.1", 0, 5)
        self.addCleanup(sock.close)
        address = sock.getsockname()
        issued = Authority(self.mktemp()).issue("localhost")
        listener = self.make(port=Port(address[1]))
        listener.inherit(InheritedSockets([("web", sock.dup())]))
        listener.open()
        waiting = socket.create_connection(address, 10)
        self.addCleanup(waiting.close)
        for tls, scheme in ((HttpsConfig(certificates=(issued.option,)), "https"), (None, "http")):
            listener.prepare(tls)()
            self.assertEqual(listener.where, f"{scheme}://127.0.0.1:{address[1]}")
            self.assertTrue(listener._ports[0].is_shared)
        await listener.close()
        waiting.close()
        with socket.create_connection(address, 10):
            sock.settimeout(10)
            sock.accept()[0].close()

    async def test_an_inherited_socket(self) -> None:
        """It is listened on instead, and goes on listening, and lying on disk, when we are gone."""
        path = f"{tempfile.mkdtemp()}/s"
        self.addCleanup(shutil.rmtree, os.path.dirname(path))
        for sock, options in (
            (open_tcp("127.0.0.1", 0, 5)[0], {}),
            (open_unix(path, 5), {"socket": FilePath(path)}),
        ):
            self.addCleanup(sock.close)
            if not options:
                options = {"port": Port(sock.getsockname()[1])}  # noqa: PLW2901  # the port is known only now
            listener = self.make(**options)
            inherited = InheritedSockets([("web", sock.dup()), ("other", open_tcp("127.0.0.1", 0, 5)[0])])
            listener.inherit(inherited)
            self.assertEqual(len(inherited.take(lambda sock: True)), 1)
            listener.open()
            where = listener.where
            await listener.close()
            self.assertIn(str(options.get("port", path)), where)
            with socket.socket(sock.family) as client:
                client.settimeout(10)
                client.connect(sock.getsockname())
                sock.accept()[0].close()

    async def test_https(self) -> None:
        """It is open once its certificates are, and says so."""
        issued = Authority(self.mktemp()).issue("localhost")
        config = HttpsConfig(port=Port(0), certificates=(issued.option,))
        listener = build_https(config, lambda: Factory.forProtocol(Protocol), self.reactor)
        verifyObject(IListener, listener)
        listener.open()
        self.assertEqual(f"https://127.0.0.1:{listener.port}", listener.where)
        listener.refresh()
        await listener.close()
        os.unlink(issued.key)
        again = build_https(config, lambda: Factory.forProtocol(Protocol), self.reactor)
        self.assertRaises(TlsError, again.open)
        self.make().refresh()

    def test_https_needs_a_certificate(self) -> None:
        """Or a directory of them; and versions in order."""
        issued = Certificate(certificate=FilePath("c.pem"))
        self.assertRaises(OptionError, HttpsConfig)
        self.assertRaises(OptionError, HttpsConfig, certificates=(issued,), mode=FileMode(0o600))
        wrong = {"minimum_version": "TLSv1.3", "maximum_version": "TLSv1.2"}
        self.assertRaises(OptionError, HttpsConfig, certificates=(issued,), **wrong)
        HttpsConfig(certificate_directories=(FilePath("live"),))

    def test_mode_without_socket(self) -> None:
        """Only a socket has permissions."""
        self.assertRaises(OptionError, HttpConfig, mode=FileMode(0o600))


class DemoTests(SynchronousTestCase):
    """The demonstration."""

    def test_page(self) -> None:
        """It shows what arrived, escaped, without credentials."""
        client = (proxy := Harness(root=DemoPage(None))).client()
        client.send(b"GET /?b HTTP/1.1\r\nHost: h\r\nX-Own: <i>\r\nCookie: secret=1\r\nAuthorization: secret\r\n\r\n")
        page = client.pop()
        self.assertIn(b"<td>&lt;i&gt;</td>", page)
        self.assertIn(b"GET /?b", page)
        self.assertNotIn(b"secret", page)
        client.send(b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertIn(b" 404 ", client.pop())
        proxy.advance()

    def test_clock(self) -> None:
        """It ticks once a second until the client goes, and leaves nothing behind."""
        clock = WallClock()
        proxy = Harness(root=DemoPage(clock))
        client = proxy.client()
        client.send(b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertIn(b"text/event-stream", client.pop())
        for second in (1, 2):
            clock.advance(1)
            self.assertIn(b"data: 1970-01-01T00:00:0%d.000Z\n\n" % second, client.pop())
        client.close()
        proxy.advance()
        self.assertEqual([], clock.getDelayedCalls())


class WallClock(Clock):
    """A clock that is one on the wall as well."""

    def wall_clock(self) -> float:
        """The time."""
        return self.seconds()
