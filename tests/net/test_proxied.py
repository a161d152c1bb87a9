"""Tests of `proxyd.net.proxied`."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import tempfile

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from proxyd.model.settings import ServerTlsSettings
from proxyd.net.certificates import ServerTls
from proxyd.net.deadlines import Deadlines
from proxyd.net.proxied import ProxiedPort
from proxyd.net.tcp import DataPathPort
from proxyd.net.tls import DataPathTlsPort
from tests.certificates import Authority
from tests.net.test_tcp import RealTransportCase, Recorder

V4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
V6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
UNIX = b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8" + b"\0" * 216


class ProxiedPortTests(RealTransportCase):
    """`ProxiedPort`."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.protocols: list[Recorder] = []
        self.trusted = True

    def listen(self, tls: ServerTls | None = None, path: str = "") -> socket.socket:
        """Accept clients that are announced; what comes of them is in `protocols`."""

        def build() -> Recorder:
            self.protocols.append(Recorder())
            return self.protocols[-1]

        sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        sock.bind(path or ("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        factory = Factory.forProtocol(build)
        if tls is None:
            inner = DataPathPort(sock, factory, self.reactor)
        else:
            inner = DataPathTlsPort(sock, factory, self.reactor, tls)
        port = ProxiedPort(inner, self.reactor, Deadlines(self.clock), lambda: 5.0, lambda address: self.trusted)
        port.startListening()
        self.addCleanup(port.stopListening)
        return sock

    def connect(self, sock: socket.socket) -> socket.socket:
        """A client."""
        client = socket.socket(sock.family)
        self.addCleanup(client.close)
        client.settimeout(10)
        client.connect(sock.getsockname())
        return client

    async def closed(self, client: socket.socket) -> bytes:
        """What the client got before its connection was closed."""
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(100):
                got += data
        return got

    async def test_the_announced_address_is_the_peer(self) -> None:
        """What follows the header, in the same piece or not, is the connection's."""
        sock = self.listen()
        for header, host in ((V4, "192.0.2.7"), (V6, "2001:db8::7"), (LOCAL, "127.0.0.1")):
            client = self.connect(sock)
            client.sendall(header + b"first")
            await self.turn()
            client.sendall(b" second")
            await self.turn()
            protocol = self.protocols.pop()
            self.assertEqual(protocol.transport.getPeer().host, host)
            self.assertEqual(protocol.data, b"first second")
            protocol.transport.write(b"answer")
            self.assertEqual(client.recv(100), b"answer")

    async def test_byte_by_byte(self) -> None:
        """Nothing happens before the last one, and there is no deadline of the header's then."""
        client = self.connect(self.listen())
        for index in range(len(V4)):
            self.assertEqual(self.protocols, [])
            client.sendall(V4[index : index + 1])
            await self.turn()
        self.clock.advance(100)
        self.assertTrue(self.protocols[0].transport.connected)
        self.assertEqual(self.protocols[0].data, b"")

    async def test_a_unix_socket_on_either_side(self) -> None:
        """A client that is announced on a socket of ours, and one that is announced to be on another's."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        client = self.connect(self.listen(path=os.path.join(directory, "s")))
        client.sendall(V4)
        self.connect(self.listen()).sendall(UNIX)
        await self.turn()
        peers = sorted(str(protocol.transport.getPeer()) for protocol in self.protocols)
        self.assertEqual(peers, ["IPv4Address(type='TCP', host='192.0.2.7', port=56324)", "UNIXAddress(None)"])

    async def test_in_front_of_tls(self) -> None:
        """The header is in the clear, and the handshake behind it loses no byte, even if all comes at once."""
        authority = Authority(self.mktemp())
        tls = ServerTls(ServerTlsSettings(certificates=(authority.issue("localhost").option,)))
        tls.load()
        client = self.connect(self.listen(tls))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        shaking = authority.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            shaking.do_handshake()
        client.sendall(V4 + outgoing.read())
        for _ in range(10):
            await self.turn()
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                incoming.write(client.recv(100_000))
            try:
                shaking.do_handshake()
            except ssl.SSLWantReadError:
                continue
            break
        shaking.write(b"hello")
        client.sendall(outgoing.read())
        await self.turn()
        (protocol,) = self.protocols
        self.assertEqual((protocol.transport.getPeer().host, protocol.data), ("192.0.2.7", b"hello"))
        self.assertTrue(protocol.transport.is_secure)

    async def test_nobody_else_is_believed(self) -> None:
        """A stranger's connection is closed without an answer, whatever it says; one line a minute tells so."""
        sock = self.listen()
        self.trusted = False
        with capturedLogs() as events:
            for _ in range(3):
                client = self.connect(sock)
                client.sendall(V4 + b"GET / HTTP/1.1\r\n\r\n")
                await self.turn()
                self.assertEqual(await self.closed(client), b"")
            self.clock.advance(61)
            self.connect(sock)
            await self.turn()
        said = [formatEvent(event) for event in events if "PROXY" in str(event.get("log_format"))]
        self.assertEqual(len(said), 2)
        self.assertIn("127.0.0.1 not taken, connection closed: its address is not in trusted_proxies", said[0])
        self.assertEqual(self.protocols, [])

    async def test_anything_else_is_closed_without_an_answer(self) -> None:
        """What is no header, and a client that goes before there is one."""
        sock = self.listen()
        with capturedLogs() as events:
            for data in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PROXY TCP4 x\r\n", b"\x16\x03\x01\x02\x00"):
                client = self.connect(sock)
                client.sendall(data)
                await self.turn()
                self.assertEqual(await self.closed(client), b"")
            client = self.connect(sock)
            client.sendall(V4[:10])
            await self.turn()
            client.close()
            await self.turn()
        self.assertEqual(sum("PROXY" in str(event.get("log_format")) for event in events), 1)
        self.assertEqual((self.protocols, len(self.reactor.getReaders())), ([], 1))

    async def test_a_slow_header_is_closed(self) -> None:
        """However it trickles in."""
        client = self.connect(self.listen())
        client.sendall(V4[:5])
        await self.turn()
        self.clock.advance(4)
        client.sendall(V4[5:10])
        await self.turn()
        self.clock.advance(1.2)
        self.assertEqual(await self.closed(client), b"")
        self.assertEqual((self.protocols, len(self.reactor.getReaders())), ([], 1))

    async def test_the_end_of_everything(self) -> None:
        """Whoever is still announcing itself is cut."""
        client = self.connect(self.listen())
        client.sendall(V4[:5])
        await self.turn()
        self.reactor.close()
        self.assertEqual(await self.closed(client), b"")
