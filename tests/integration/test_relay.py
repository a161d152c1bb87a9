"""WebSockets whose route relays messages, through a running proxy, with another library at both ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_websocket
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.integration.test_tls import TlsCase
from tests.integration.test_websocket import HANDSHAKE, MIB, SWITCHING, WebSocketTestCase, echo
from tests.support import wait_for, wait_for_rest
from tests.websocket.frames import BINARY, COMPRESSED, TEXT, close_frame, frame, read_close, read_frames
from tests.websocket.test_relay import packed
from tests.wire import Wire, resident_bytes

DEFLATE = {"compression": "deflate"}  # of the library


class RelayTestCase(WebSocketTestCase):
    """Routes with `websocket: relay`."""

    def relay_to(self, url: str, **settings: object) -> str:
        """A route that relays to `url`."""
        return self.route(url, websocket={"kind": "relay", **settings} if settings else "relay")

    def join_relay(self, fields: bytes = b"", agreed: bytes = b"", **settings: object) -> tuple[Wire, Wire]:
        """Both ends of a relay, as bytes; `fields` stand in the handshake, `agreed` in the upstream's answer."""
        client, upstream = self.begin(HANDSHAKE[:-2] + fields + b"\r\n", websocket={"kind": "relay", **settings})
        upstream.head()
        upstream.send(SWITCHING + agreed + b"\r\n")
        self.assert_status(101, client.head())
        return client, upstream


class MessageTests(RelayTestCase):
    """What passes."""

    def test_messages(self) -> None:
        """Texts and bytes of every size come back as they were, fragments joined."""
        client = self.open(self.relay_to(self.serve(echo)))
        for message in ("", "grün 🙂", "x" * 70_000, b"", bytes(range(256)), b"y" * 125, b"z" * 3 * MIB):
            client.send(message)
            self.assertEqual(message, client.recv(10))
        client.send(iter(["one", "two", "three"]))
        self.assertEqual("onetwothree", client.recv(10))
        self.assertTrue(client.ping(b"from the client").wait(10))

    def test_compression_on_either_side(self) -> None:
        """Client and upstream agree on permessage-deflate with the relay, each whether or not the other one does."""
        seen: list[list[str]] = []

        def talk(connection: ServerConnection) -> None:
            seen.append([extension.name for extension in connection.protocol.extensions])
            echo(connection)

        for of_upstream in ({}, DEFLATE):
            key = self.relay_to(self.serve(talk, **of_upstream))
            for of_client in ({}, DEFLATE):
                client = self.open(key, **of_client)
                for message in ("x" * MIB, "short", b"", os.urandom(MIB), "x" * MIB):
                    client.send(message)
                    self.assertEqual(message, client.recv(10))
                agreed = [extension.name for extension in client.protocol.extensions]
                self.assertEqual((bool(of_client), bool(of_upstream)), (bool(agreed), bool(seen.pop())))
                client.close()

    def test_compression_can_be_off(self) -> None:
        """Then neither side has any."""
        seen: list[int] = []

        def talk(connection: ServerConnection) -> None:
            seen.append(len(connection.protocol.extensions))
            echo(connection)

        client = self.open(self.relay_to(self.serve(talk, **DEFLATE), compression=False), **DEFLATE)
        client.send("x")
        self.assertEqual("x", client.recv(10))
        self.assertEqual(([], [0]), (client.protocol.extensions, seen))

    def test_subprotocols(self) -> None:
        """They are agreed on end to end."""
        url = self.serve(echo, subprotocols=[Subprotocol("two")])
        client = self.open(self.relay_to(url), subprotocols=[Subprotocol("one"), Subprotocol("two")])
        self.assertEqual("two", client.subprotocol)

    def test_early_frames(self) -> None:
        """A frame in one packet with either head arrives."""
        early, late = frame(TEXT, b"early", mask=True), frame(TEXT, b"late")
        client, upstream = self.begin(HANDSHAKE + early, websocket="relay")
        upstream.head()
        upstream.send(SWITCHING + b"\r\n" + late)
        self.assert_status(101, client.head())
        self.assertEqual(late, client.exactly(len(late)))
        self.assertEqual([(TEXT, b"early")], read_frames(upstream.exactly(len(early)), masked=True))

    def test_verdicts(self) -> None:
        """Another version is 426, `off` 403, and a tunnel leaves the version to the upstream."""
        old = HANDSHAKE.replace(b"Version: 13", b"Version: 8")
        for websocket, status in (("relay", 426), ("off", 403)):
            client = self.client()
            client.send(old % self.route(self.serve(echo), websocket=websocket).encode())
            head = client.head()
            self.assert_status(status, head)
            self.assertEqual(status == 426, b"\r\nSec-WebSocket-Version: 13\r\n" in head)
        _, upstream = self.begin(old)
        self.assertIn(b"Sec-WebSocket-Version: 8", upstream.head())
        with self.assertRaises(InvalidStatus):
            self.open(self.route(self.serve(echo), websocket="off"))


class CloseTests(RelayTestCase):
    """How it ends."""

    def test_codes(self) -> None:
        """Code and reason reach the other side, whichever begins; so does a close without a code."""
        seen: list[tuple[int | None, str | None]] = []
        ended = threading.Event()

        def talk(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                code = int(str(connection.recv()))
                if code:
                    connection.close(code, "schön")
                connection.recv()
            seen.append((connection.close_code, connection.close_reason))
            ended.set()

        key = self.relay_to(self.serve(talk))
        for code in (1000, 1001, 3000, 4999):
            for by_upstream in (True, False):
                ended.clear()
                client = self.open(key)
                client.send(str(code if by_upstream else 0))
                if by_upstream:
                    with self.assertRaises(ConnectionClosed):
                        client.recv(10)
                    self.assertEqual((code, "schön"), (client.close_code, client.close_reason))
                else:
                    client.close(code, "schön")
                self.assertTrue(ended.wait(10))
                self.assertEqual((code, "schön"), seen[-1])
        client, upstream = self.join_relay()
        client.send(close_frame(None, mask=True))
        self.assertEqual(close_frame(None)[:1] + b"\x80", upstream.exactly(6)[:2])
        upstream.send(close_frame(None))
        self.assertEqual(close_frame(None), client.rest())
        self.assertFalse(upstream.is_closed(0.2))

    def test_messages_that_are_too_long(self) -> None:
        """1009 for the sender, and an end for the other side, in both directions, packed or not."""
        ended: list[int | None] = []

        def talk(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                connection.send("x" * int(str(connection.recv())))
                connection.recv()
            ended.append(connection.close_code)

        for options in ({}, DEFLATE):
            key = self.relay_to(self.serve(talk, **options), max_message_size="100 KiB")
            for size, at_client, at_upstream in ((102_401, 1011, 1009), (0, 1009, 1001)):
                ended.clear()
                client = self.open(key, **options)
                client.send(str(size))
                with self.assertRaises(ConnectionClosed):
                    if not size:
                        client.recv(10)
                        client.send("x" * 102_401)
                    client.recv(10)
                self.assertEqual(at_client, client.close_code)
                wait_for(lambda: ended, "the end at the upstream")
                self.assertEqual([at_upstream], ended)

    def test_bombs(self) -> None:
        """200 MB in 200 KB are refused in little memory."""
        bomb = packed(bytes(200 * MIB))
        before = resident_bytes(self.proxy.pid)
        client, upstream = self.join_relay(
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n", max_message_size="1 MiB"
        )
        client.send(frame(BINARY, bomb, rsv=COMPRESSED, mask=True))
        ((_, payload),) = read_frames(client.rest())
        self.assertEqual(1009, read_close(payload).code)
        self.assertLess(resident_bytes(self.proxy.pid) - before, 50 * MIB)
        self.assertEqual(1001, read_close(read_frames(upstream.exactly(48), masked=True)[0][1]).code)

    def test_upstream_is_lost(self) -> None:
        """A reset is 1011 for the client; the loss of the client is a bare end for the upstream."""
        client, upstream = self.join_relay()
        upstream.reset()
        data = client.until(b"lost")
        self.assertEqual(1011, read_close(read_frames(data)[0][1]).code)
        client, upstream = self.join_relay()
        client.reset()
        self.assertEqual(b"", upstream.rest())

    def test_silence(self) -> None:
        """Whoever does not answer a ping is dropped."""
        client, upstream = self.join_relay(ping_interval="300ms", ping_timeout="300ms")
        self.assertEqual(frame(9), client.exactly(2))
        upstream.exactly(6)
        self.assertTrue(upstream.is_closed(10))
        self.assertTrue(client.is_closed(10))

    def test_slow_reader(self) -> None:
        """An upstream that takes nothing holds the client up, and costs no memory."""
        client, _upstream = self.join_relay()
        before = resident_bytes(self.proxy.pid)
        sent = [0]
        message = frame(BINARY, bytes(MIB), mask=True)

        def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client.send(message)
                    sent[0] += 1

        client.sock.settimeout(3)
        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        wait_for_rest(sent, "the client is held up")
        self.assertLess(sent[0], 60)
        self.assertLess(resident_bytes(self.proxy.pid) - before, 40 * MIB)
        thread.join(10)


class TunnelTests(RelayTestCase):
    """Beside relays, tunnels are what they were."""

    settings = "route_defaults: {websocket: {kind: relay, max_message_size: 100 KiB}}"

    def test_own_word(self) -> None:
        """A route may differ from `route_defaults`: extensions pass, and nothing is limited."""
        key = self.route(self.serve(echo, **DEFLATE), websocket="tunnel")
        client = self.open(key, **DEFLATE)
        client.send("x" * MIB)
        self.assertEqual("x" * MIB, client.recv(10))

    def test_defaults(self) -> None:
        """What `route_defaults` says of relays holds for a route that says something else of them, too."""
        client = self.open(self.relay_to(self.serve(echo), compression=False))
        client.send("x" * 102_401)
        with self.assertRaises(ConnectionClosed):
            client.recv(10)
        self.assertEqual(1009, client.close_code)

    def test_no_import_while_serving(self) -> None:
        """Autobahn is there before the first request, which does not wait for it."""
        maps = f"/proc/{self.proxy.pid}/maps"
        with open(maps) as file:
            self.assertIn("nvx", file.read())


class TlsTests(TlsCase):
    """A relay between two sides that speak TLS, and the end of the process."""

    def test_over_tls(self) -> None:
        """Messages of every size, a message that is too long, and SIGTERM while a relay is open."""

        def talk(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                echo(connection)

        context = self.authority.server_context(self.issued)
        server = serve(talk, "127.0.0.1", 0, ssl=context, max_size=None)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        upstream = f"https://localhost:{server.socket.getsockname()[1]}"
        tls = f"{{ca: '{self.authority.file}'}}"
        route = f"{{upstream: '{upstream}', upstream_tls: {tls}, websocket: {{kind: relay, max_message_size: 3 MiB}}}}"
        process = self.serve(self.listener() + f"api: off\ndrain_seconds: 0\nroutes: {{/: {route}}}\n")
        url = f"wss://localhost:{self.port_of(process, 'Proxying https')}/"
        with open_websocket(url, ssl=self.authority.client_context(), max_size=None, proxy=None) as client:
            for message in ("", "x" * 70_000, os.urandom(3 * MIB)):
                client.send(message)
                self.assertEqual(message, client.recv(20))
            with self.assertRaises(ConnectionClosed):
                client.send(bytes(3 * MIB + 1))
                client.recv(20)
            self.assertEqual(1009, client.close_code)
        with open_websocket(url, ssl=self.authority.client_context(), proxy=None) as client:
            client.close(4000, "why")
            self.assertEqual((4000, "why"), (client.close_code, client.close_reason))
        with open_websocket(url, ssl=self.authority.client_context(), proxy=None) as client:
            client.send("x")
            self.assertEqual("x", client.recv(20))
            process.send(signal.SIGTERM)
            self.assertEqual(0, process.wait())
        self.assertNotIn("Traceback", process.log)
