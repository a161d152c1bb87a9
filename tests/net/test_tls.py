"""Tests of `proxyd.net.tls`: the transports' contract over TLS, and what TLS adds to it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from twisted.internet import reactor as installed  # noqa: TID251  # the data path hangs on a real one
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import ClientFactory, Factory
from twisted.python.failure import Failure

from proxyd.model.tls import ServerTlsSettings, UpstreamTlsSettings
from proxyd.net.certificates import ClientContexts, ClientTls, ServerTls
from proxyd.net.tcp import LARGE_READ
from proxyd.net.tls import DataPathTlsConnector, DataPathTlsPort, DataPathTlsServer, DataPathTlsUnixServer
from proxyd.option import FilePath
from tests.certificates import Authority
from tests.net import test_tcp
from tests.net.test_tcp import RealPeer, RealTransportCase, Recorder, ResetContract

reactor: Any = installed


class TlsPeer(RealPeer):
    """The client of a real connection over TLS."""

    sock: ssl.SSLSocket

    def close(self) -> None:
        """Say goodbye, and close this side."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.sock.unwrap()
        self.sock.close()

    def take(self) -> None:
        """Take everything that is there."""
        try:
            while data := self.sock.recv(1 << 20):
                self.received += data
        except (ssl.SSLWantReadError, OSError):
            pass


class TlsCase(RealTransportCase):
    """Has certificates, and makes connections whose handshake is over or is not."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority(self.mktemp())
        self.tls = ServerTls(ServerTlsSettings(certificates=(self.authority.issue("localhost", "127.0.0.1").option,)))
        self.tls.load()

    def begin(self, kind: Any = DataPathTlsServer, family: int = socket.AF_INET) -> tuple[Recorder, socket.socket]:
        """A server's transport that waits for the handshake, and a client's plain socket."""
        if family == socket.AF_UNIX:
            ours, theirs = socket.socketpair(family)
            address: Any = ""
        else:
            with socket.socket(family) as listening:
                listening.bind(("127.0.0.1", 0))
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as that of a listener
                listening.listen()
                theirs = socket.create_connection(listening.getsockname()[:2])
                theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ours, address = listening.accept()
        self.addCleanup(theirs.close)
        protocol = Recorder()
        protocol.makeConnection(kind(ours, protocol, address, self, 0, self.reactor))
        return protocol, theirs

    def shake(self, protocol: Recorder, theirs: socket.socket, context: ssl.SSLContext | None = None) -> TlsPeer:
        """Carry the handshake out, both sides in turn."""
        theirs.setblocking(False)
        context = context or self.authority.client_context()
        client = context.wrap_socket(theirs, server_hostname="localhost", do_handshake_on_connect=False)
        self.addCleanup(client.close)
        for _ in range(10):
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                protocol.transport.doRead()
            else:
                protocol.transport.doRead()
                return TlsPeer(client)
        raise AssertionError("the handshake does not come to an end")

    def connect(self) -> tuple[Recorder, TlsPeer]:
        """A connection whose handshake is over."""
        protocol, theirs = self.begin()
        return protocol, self.shake(protocol, theirs)


class ServerContractTests(TlsCase, ResetContract):
    """A client over TLS: what holds for TCP holds for it."""

    test_what_came_before_a_failed_write_is_read = test_tcp.TcpTests.test_what_came_before_a_failed_write_is_read
    test_failed_write_while_paused = test_tcp.TcpTests.test_failed_write_while_paused
    test_failed_write_of_the_buffer = test_tcp.TcpTests.test_failed_write_of_the_buffer


class UnixServerTests(TlsCase):
    """A client over TLS on a unix socket."""

    async def test_both_directions(self) -> None:
        """What one side sends, the other one gets."""
        protocol, theirs = self.begin(DataPathTlsUnixServer, socket.AF_UNIX)
        peer = self.shake(protocol, theirs)
        peer.send(b"hello")
        await self.turn()
        self.assertEqual(b"hello", protocol.data)
        protocol.transport.write(b"world")
        peer.take()
        self.assertEqual(b"world", peer.received)
        self.assertTrue(protocol.transport.is_secure)


class ServerTests(TlsCase):
    """What TLS adds to the contract."""

    async def test_reset_before_the_handshake(self) -> None:
        """The protocol hears of the end, and nothing of the connection is left, whatever had come before."""
        for sent in (b"", b"\x16", b"GET / HTTP/1.1\r\n\r\n"):
            protocol, theirs = self.begin()
            theirs.sendall(sent)
            RealPeer(theirs).reset()
            await self.turn()
            self.assertIsNotNone(protocol.reason, sent)
            self.assertEqual([], self.reactor.getReaders())
            self.assertEqual([], self.reactor.removeAll())

    async def test_what_is_written_before_the_handshake_waits_for_it(self) -> None:
        """Nothing goes out in plain text."""
        protocol, theirs = self.begin()
        protocol.transport.write(b"hello")
        await self.turn()
        theirs.setblocking(False)
        self.assertRaises(BlockingIOError, theirs.recv, 1)
        peer = self.shake(protocol, theirs)
        await self.turn()
        peer.take()
        self.assertEqual(b"hello", peer.received)

    async def test_our_end_before_the_handshake_waits_for_it(self) -> None:
        """With nothing to send as well: the client sees the end, and may still say something."""
        for data in (b"", b"hello"):
            protocol, theirs = self.begin()
            protocol.transport.write(data)
            protocol.transport.loseWriteConnection()
            await self.turn()
            peer = self.shake(protocol, theirs)
            await self.turn()
            self.assertEqual(data, peer.sock.recv(10) if data else b"")
            self.assertEqual(b"", peer.sock.recv(10))
            peer.send(b"world")
            await self.turn()
            self.assertEqual(b"world", protocol.data)

    async def test_a_client_that_waits_with_its_handshake_can_be_sent_away(self) -> None:
        """Closing does not wait for a handshake that does not come."""
        for close in ("loseConnection", "abortConnection"):
            protocol, _ = self.begin()
            getattr(protocol.transport, close)()
            await self.turn()
            self.assertIsNotNone(protocol.reason, close)

    async def test_no_handshake(self) -> None:
        """What is no TLS ends the connection, and the protocol sees none of it."""
        for words in (b"\x16\x03\x01\x00\x05hello", b"\0" * 100, b"SSH-2.0-x\r\n", b""):
            protocol, theirs = self.begin()
            theirs.sendall(words)
            theirs.shutdown(socket.SHUT_WR)
            await self.turn()
            self.assertIsNotNone(protocol.reason, words)
            self.assertEqual(b"", protocol.data)

    async def test_plain_http_is_told(self) -> None:
        """Who writes http:// for https:// reads what is wrong, in plain text."""
        protocol, theirs = self.begin()
        theirs.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await self.turn()
        self.assertIsNotNone(protocol.reason)
        theirs.settimeout(5)
        answer = theirs.recv(1000)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), answer)
        self.assertIn(b"HTTPS", answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertIn(b"Content-Length: %d" % len(body), head)

    async def test_an_end_without_a_goodbye_is_a_loss(self) -> None:
        """Anybody on the way can send a FIN: what came may be cut (RFC 8446 §6.1)."""
        protocol, peer = self.connect()
        peer.send(b"what came")
        socket.socket.shutdown(peer.sock, socket.SHUT_WR)
        await self.turn()
        self.assertEqual(b"what came", protocol.data)
        self.assertTrue(protocol.reason.check(ConnectionLost))

    async def test_we_say_goodbye(self) -> None:
        """The peer can tell our end from a cut."""
        protocol, peer = self.connect()
        protocol.transport.write(b"bye")
        protocol.transport.loseConnection()
        await self.turn()
        peer.sock.setblocking(True)
        self.assertEqual(b"bye", peer.sock.recv(100))
        peer.sock.suppress_ragged_eofs = False
        self.assertEqual(b"", peer.sock.recv(100))
        self.assertTrue(protocol.reason.check(ConnectionDone))

    async def test_large_reads_are_handed_over_as_one(self) -> None:
        """As many records as make up `read_size`, and no more."""
        protocol, peer = self.connect()
        pieces: list[int] = []
        protocol.dataReceived = lambda data: pieces.append(len(data))  # type: ignore[method-assign]
        size = 1_000_000
        sent = 0
        for _ in range(200):
            try:
                sent += peer.sock.send(b"x" * min(50_000, size - sent))
            except ssl.SSLWantWriteError:
                await self.turn()
            if sent == size:
                break
        protocol.transport.read_size = LARGE_READ
        await self.turn()
        self.assertEqual(size, sum(pieces))
        self.assertLess(len(pieces), 61)  # less than one for each record
        self.assertLess(max(pieces), LARGE_READ + 16384)

    async def test_the_end_behind_large_reads(self) -> None:
        """What came before it is handed over first, cut or not."""
        for is_cut in (False, True):
            protocol, peer = self.connect()
            peer.send(b"x" * 16384)
            if is_cut:
                peer.sock.close()
            else:
                peer.close()
            await self.turn()
            self.assertEqual(16384, len(protocol.data))
            self.assertTrue(protocol.reason.check(ConnectionLost if is_cut else ConnectionDone))

    async def test_renegotiation_is_refused(self) -> None:
        """A client of TLSv1.2 cannot make us do the costly part again and again."""
        context = self.authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        protocol, theirs = self.begin()
        peer = self.shake(protocol, theirs, context)
        self.assertEqual("TLSv1.2", peer.sock.version())
        self.assertTrue(protocol.transport.getHandle().context.options & ssl.OP_NO_RENEGOTIATION)

    async def test_an_answer_to_a_key_update_waits_for_room(self) -> None:
        """OpenSSL wants to write before it can read: reading goes on when there is room."""
        protocol, peer = self.connect()
        transport = protocol.transport
        peer.send(b"hello")
        genuine = transport.socket

        class Full:
            """A socket that has no room, once."""

            recv = staticmethod(_raise_want_write)

        transport.socket = Full()
        self.assertIsNone(transport.doRead())
        self.assertNotIn(transport, self.reactor.getReaders())
        transport.socket = genuine
        await self.turn()
        self.assertEqual(b"hello", protocol.data)


def _raise_want_write(_: int) -> bytes:
    raise ssl.SSLWantWriteError


class Connected(ClientFactory):
    """Makes one protocol, and tells how it went."""

    noisy = False

    def __init__(self) -> None:
        self.made = Recorder()
        self.result: Deferred[Recorder] = Deferred()

    def buildProtocol(self, addr: object) -> Recorder:
        """The connection is there once its handshake is over."""
        reactor.callLater(0, self.result.callback, self.made)
        return self.made

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """There is none."""
        self.result.errback(reason)


class ClientTests(TlsCase):
    """`DataPathTlsClient`, with the server of this module as its peer."""

    def setUp(self) -> None:
        super().setUp()
        self.contexts = ClientContexts()
        self.servers: list[Recorder] = []

    def listen(self, tls: ServerTls | None = None) -> int:
        """Accept clients; gives back the port."""

        def build() -> Recorder:
            self.servers.append(Recorder())
            return self.servers[-1]

        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.listen()
        port = DataPathTlsPort(sock, Factory.forProtocol(build), self.reactor, tls or self.tls)
        port.startListening()
        self.addCleanup(port.stopListening)
        return int(sock.getsockname()[1])

    def side(self, host: str = "localhost", **settings: Any) -> ClientTls:
        """The client's side, which trusts our authority unless it is told otherwise."""
        settings.setdefault("ca", FilePath(str(self.authority.file)))
        return ClientTls(self.contexts, UpstreamTlsSettings(**settings), host)

    async def dial(self, port: int, tls: ClientTls) -> Recorder:
        """Connect."""
        factory = Connected()
        connector = DataPathTlsConnector("127.0.0.1", port, factory, 10, tls, self.reactor)
        connector.connect()
        return await factory.result

    async def refusal(self, port: int, tls: ClientTls) -> str:
        """Why there is no connection."""
        failure = await self.assertFailure(Deferred.fromCoroutine(self.dial(port, tls)), Exception)
        return str(failure)

    async def test_both_directions(self) -> None:
        """What one side sends, the other one gets."""
        client = await self.dial(self.listen(), self.side())
        self.assertTrue(client.transport.getTcpNoDelay())
        client.transport.write(b"hello")
        await self.turn()
        self.assertEqual(b"hello", self.servers[0].data)
        self.servers[0].transport.write(b"world")
        await self.turn()
        self.assertEqual(b"world", client.data)
        self.assertTrue(client.transport.is_quiet())

    async def test_the_certificate_has_to_be_for_the_host(self) -> None:
        """The host of the upstream's URL, or the name that is configured for it."""
        port = self.listen()
        self.assertIn("TLS: Hostname mismatch", await self.refusal(port, self.side("example.org")))
        self.assertIn("IP address mismatch", await self.refusal(port, self.side("127.0.0.2")))
        for side in (self.side("127.0.0.1"), self.side("example.org", server_name="localhost")):
            client = await self.dial(port, side)
            client.transport.loseConnection()
            await self.turn()

    async def test_the_authority_has_to_be_trusted(self) -> None:
        """Unless nothing is verified."""
        port = self.listen()
        other = Authority(self.mktemp())
        self.assertIn("TLS: ", await self.refusal(port, self.side(ca=FilePath(str(other.file)))))
        self.assertIn("TLS: ", await self.refusal(port, self.side(ca=None)))
        client = await self.dial(port, self.side("example.org", ca=None, verify=False))
        self.assertTrue(client.transport.connected)

    async def test_files_that_cannot_be_used(self) -> None:
        """They fail the connection that needs them, and say which they are."""
        port = self.listen()
        self.assertIn("no/such/file", await self.refusal(port, self.side(ca=FilePath("no/such/file"))))

    async def test_own_certificate(self) -> None:
        """It is shown to a server that asks for one."""
        own = self.authority.issue("client", file="client")
        settings = ServerTlsSettings(
            certificates=(self.authority.issue("localhost").option,),
            client_ca=FilePath(str(self.authority.file)),
            client_certificates="required",
        )
        tls = ServerTls(settings)
        tls.load()
        port = self.listen(tls)
        side = self.side(certificate=FilePath(str(own.certificate)), key=FilePath(str(own.key)))
        client = await self.dial(port, side)
        client.transport.write(b"hello")
        await self.turn()
        self.assertEqual(b"hello", self.servers[-1].data)
        stranger = await self.dial(port, self.side())  # in TLSv1.3 the client is done before it is refused
        await self.turn()
        self.assertIsNotNone(stranger.reason)

    async def test_sessions_are_resumed(self) -> None:
        """The second connection to an upstream is cheaper than the first."""
        port, side = self.listen(), self.side()
        reused = []
        for _ in range(2):
            client = await self.dial(port, side)
            self.servers[-1].transport.write(b"something behind the ticket")
            await self.turn()
            reused.append(client.transport.getHandle().session_reused)
            client.transport.loseConnection()
            await self.turn()
        self.assertEqual([False, True], reused)

    async def test_a_server_without_tls(self) -> None:
        """It is told apart from one that refuses."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            dialing = Deferred.fromCoroutine(self.refusal(listening.getsockname()[1], self.side()))
            await self.turn()
            accepted, _ = listening.accept()
            accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.addCleanup(accepted.close)
            self.assertIn("TLS: ", await dialing)

    async def test_the_end_in_the_middle_of_a_handshake(self) -> None:
        """From either side."""
        for end in ("server", "client"):
            with socket.socket() as listening:
                listening.bind(("127.0.0.1", 0))
                listening.listen()
                factory = Connected()
                port = listening.getsockname()[1]
                connector = DataPathTlsConnector("127.0.0.1", port, factory, 10, self.side(), self.reactor)
                connector.connect()
                await self.turn()
                accepted, _ = listening.accept()
                if end == "client":
                    connector.stopConnecting()
                accepted.close()
                await self.assertFailure(factory.result, Exception)
            self.assertEqual([], self.reactor.getReaders())


class TurnTests(TlsCase):
    """A handshake that comes byte by byte."""

    async def test_byte_by_byte(self) -> None:
        """It goes on with whatever comes."""
        protocol, theirs = self.begin()
        theirs.setblocking(False)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.authority.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        is_done = False
        for _ in range(2000):
            try:
                if not is_done:
                    client.do_handshake()
                    is_done = True
                    client.write(b"hello")
            except ssl.SSLWantReadError:
                pass
            for byte in outgoing.read():
                theirs.send(bytes([byte]))
                protocol.transport.doRead()
            try:
                incoming.write(theirs.recv(1))
            except BlockingIOError:
                if is_done:
                    break
        await self.turn()
        self.assertEqual(b"hello", protocol.data)
