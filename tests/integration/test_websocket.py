"""WebSockets through a running proxy: a tunnel that neither end can tell from a direct connection."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.integration.proxies import Proxy, ProxyTestCase
from tests.support import free_port, wait_for_rest
from tests.websocket.frames import TEXT, frame
from tests.wire import ManualUpstream, ScriptedUpstream, Wire, answering, resident_bytes

# Key and answer of RFC 6455 §1.3.
HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"

MIB = 1024 * 1024
# A side that nobody reads any more is cut after ten seconds; the rest is for a busy machine.
_CUT_SECONDS = 30.0


class WebSocketTestCase(ProxyTestCase):
    """Real WebSocket servers and clients, on both sides of the proxy."""

    def serve(self, talk: Callable[[ServerConnection], None], **options: Any) -> str:
        """Run a WebSocket server that talks to each client, and return its URL; its log is for nobody."""
        logger = logging.Logger("upstream")
        logger.addHandler(logging.NullHandler())

        def talk_to_the_end(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                talk(connection)

        options = {"max_size": None, "ping_interval": None, "compression": None, **options}
        server = serve(talk_to_the_end, "127.0.0.1", 0, logger=logger, **options)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.socket.getsockname()[1]}"

    def open(self, key: str, **options: Any) -> ClientConnection:
        """Open a WebSocket through the proxy."""
        options = {"max_size": None, "ping_interval": None, "compression": None, **options}
        client: ClientConnection = open_websocket(f"ws://127.0.0.1:{self.proxy.port}{key}", proxy=None, **options)
        self.addCleanup(client.close_socket)
        return client

    def join(self) -> tuple[Wire, Wire]:
        """Both ends of a tunnel, as bytes."""
        client, upstream = self.begin(HANDSHAKE)
        upstream.head()
        upstream.send(SWITCHING + b"\r\n")
        self.assert_status(101, client.head())
        return client, upstream


def echo(connection: ServerConnection) -> None:
    """Send everything back."""
    for message in connection:
        connection.send(message)


class MessageTests(WebSocketTestCase):
    """What a client and a server say to each other arrives."""

    def test_messages(self) -> None:
        """Texts and bytes of every size come back as they were."""
        client = self.open(self.route(self.serve(echo)))
        for message in ("", "grün 🙂", "x" * 70_000, b"", bytes(range(256)), b"y" * 125, b"z" * 3 * MIB):
            client.send(message)
            self.assertEqual(message, client.recv(10))

    def test_fragments(self) -> None:
        """A message in fragments arrives in the same fragments, in both directions."""
        seen: list[list[str | bytes]] = []

        def talk(connection: ServerConnection) -> None:
            seen.append(list(connection.recv_streaming()))
            connection.send(iter(["four", "five", ""]))

        client = self.open(self.route(self.serve(talk)))
        client.send(iter(["one", "two", "three"]))
        self.assertEqual(["four", "five", ""], list(client.recv_streaming())[:3])
        self.assertEqual(["one", "two", "three"], seen[0][:3])

    def test_pings(self) -> None:
        """Each side gets the pong to its own ping from the other side, not from the proxy."""
        answered = threading.Event()

        def talk(connection: ServerConnection) -> None:
            if connection.ping(b"from the upstream").wait(10):
                answered.set()
            echo(connection)

        client = self.open(self.route(self.serve(talk)))
        self.assertTrue(client.ping(b"from the client").wait(10))
        self.assertTrue(answered.wait(10))

    def test_close_codes(self) -> None:
        """Code and reason of a close reach the other side, whichever begins."""
        seen: list[tuple[int | None, str | None]] = []
        ended = threading.Event()

        def talk(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                if connection.recv() == "close":
                    connection.close(4002, "enough")
            seen.append((connection.close_code, connection.close_reason))
            ended.set()

        key = self.route(self.serve(talk))
        client = self.open(key)
        client.send("close")
        with self.assertRaises(ConnectionClosed):
            client.recv(10)
        self.assertEqual((4002, "enough"), (client.close_code, client.close_reason))
        self.assertTrue(ended.wait(10))
        self.assertEqual([(4002, "enough")], seen)
        ended.clear()
        client = self.open(key)
        client.close(4001, "schön war's")
        self.assertTrue(ended.wait(10))
        self.assertEqual((4001, "schön war's"), seen[-1])

    def test_subprotocols(self) -> None:
        """The subprotocol is agreed on end to end, or none is."""
        url = self.serve(echo, subprotocols=[Subprotocol("two"), Subprotocol("three")])
        key = self.route(url)
        client = self.open(key, subprotocols=[Subprotocol("one"), Subprotocol("two")])
        self.assertEqual("two", client.subprotocol)
        plain = self.route(self.serve(echo))
        self.assertIsNone(self.open(plain, subprotocols=[Subprotocol("one")]).subprotocol)
        self.assertIsNone(self.open(plain).subprotocol)

    def test_compression(self) -> None:
        """permessage-deflate is agreed on end to end, and messages pass compressed (RFC 7692)."""
        key = self.route(self.serve(echo, compression="deflate"))
        client = self.open(key, compression="deflate")
        self.assertEqual(["permessage-deflate"], [extension.name for extension in client.protocol.extensions])
        for message in ("x" * MIB, "short", "x" * MIB):
            client.send(message)
            self.assertEqual(message, client.recv(10))
        self.assertEqual([], self.open(key).protocol.extensions)
        plain = self.route(self.serve(echo))
        self.assertEqual([], self.open(plain, compression="deflate").protocol.extensions)

    def test_many_at_once(self) -> None:
        """Fifty tunnels of one upstream do not mix their messages."""
        key = self.route(self.serve(echo))
        clients = [self.open(key) for _ in range(50)]
        for turn in range(3):
            for number, client in enumerate(clients):
                client.send(f"{turn}/{number}")
            self.assertEqual([f"{turn}/{number}" for number in range(50)], [str(client.recv(10)) for client in clients])


class HandshakeTests(WebSocketTestCase):
    """Before there is a tunnel."""

    def test_fields_of_the_handshake(self) -> None:
        """The upstream gets the client's handshake, the client the upstream's answer, cookies one by one."""
        client, upstream = self.begin(HANDSHAKE.replace(b"Host: test\r\n", b"Host: test\r\nCookie: a=b\r\n"))
        head = upstream.head().lower()
        for line in (b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13", b"cookie: a=b"):
            self.assertIn(b"\r\n" + line + b"\r\n", head)
        self.assertIn(b"\r\nx-forwarded-proto: ws\r\n", head)
        upstream.send(SWITCHING + b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n")
        head = client.head()
        self.assertIn(b"\r\nSet-Cookie: a=1\r\n", head)
        self.assertIn(b"\r\nSet-Cookie: b=2\r\n", head)
        self.assertIn(b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", head)

    def test_refused_by_the_upstream(self) -> None:
        """A client that is refused gets status, fields and body as the upstream gave them."""

        def refuse(connection: ServerConnection, request: Request) -> Response:
            response = connection.respond(418, "no websockets today\n")
            response.headers["X-Why"] = "teapot"
            return response

        with self.assertRaises(InvalidStatus) as caught:
            self.open(self.route(self.serve(echo, process_request=refuse)))
        response = caught.exception.response
        self.assertEqual((418, "teapot"), (response.status_code, response.headers["X-Why"]))
        self.assertEqual(b"no websockets today\n", response.body)

    def test_refusals_end_the_connection(self) -> None:
        """Whatever the framing of the refusal, it comes whole, and nothing can follow it, early bytes least of all."""
        for fields, body in (
            (b"Content-Length: 2\r\n", b"no"),
            (b"Transfer-Encoding: chunked\r\n", b"2\r\nno\r\n0\r\n\r\n"),
            (b"", b"no"),
        ):
            client, upstream = self.begin(HANDSHAKE + frame(TEXT, b"early", mask=True))
            upstream.head()
            upstream.send(b"HTTP/1.1 403 Not You\r\nX-Why: because\r\n" + fields + b"\r\n" + body)
            if not fields:
                upstream.close()
            head, got = client.message()
            self.assertTrue(head.startswith(b"HTTP/1.1 403 Not You\r\n"))
            self.assertIn(b"\r\nX-Why: because\r\n", head)
            self.assertIn(b"\r\nConnection: close\r\n", head)
            self.assertEqual(b"no", got)
            client.finish()
            self.assertEqual(b"", client.rest())
            self.assertNotIn(b"early", upstream.buffer)

    def assert_bare_refusal(self, status: int, client: Wire) -> None:
        """A status, no body, and the end."""
        head, body = client.message()
        self.assert_status(status, head)
        self.assertIn(b"\r\nContent-Length: 0\r\n", head)
        self.assertEqual((b"", b""), (body, client.buffer))
        client.finish()
        self.assertEqual(b"", client.rest())

    def test_no_route(self) -> None:
        """Nobody is there: 404 without a body, and the end."""
        client = self.client()
        client.send(HANDSHAKE % b"/nowhere")
        self.assert_bare_refusal(404, client)

    def test_dead_upstream(self) -> None:
        """An upstream that refuses, or ends before its answer, is 502 without a body, and the end."""
        client = self.client()
        client.send(HANDSHAKE % self.route(f"http://127.0.0.1:{free_port()}").encode())
        self.assert_bare_refusal(502, client)
        client, upstream = self.begin(HANDSHAKE)
        upstream.head()
        upstream.close()
        self.assert_bare_refusal(502, client)

    def test_silent_upstream(self) -> None:
        """An upstream that does not answer the handshake is 504."""
        client, upstream = self.begin(HANDSHAKE, timeouts={"response": "300ms"})
        self.assert_bare_refusal(504, client)
        upstream.head()
        self.assertTrue(upstream.is_closed(10))

    def test_answer_to_another_handshake(self) -> None:
        """A 101 that does not prove that the upstream understood makes no tunnel (RFC 6455 §4.1)."""
        for answer in (
            SWITCHING.replace(b"s3pPLM", b"AAAAAA"),
            SWITCHING.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
            b"HTTP/1.1 101 Switching Protocols\r\n",
        ):
            client, upstream = self.begin(HANDSHAKE)
            upstream.head()
            upstream.send(answer + b"\r\n")
            self.assert_bare_refusal(502, client)
            self.assertTrue(upstream.is_closed(10))

    def test_other_upgrades_are_ignored(self) -> None:
        """A client that would rather speak something else is served in HTTP/1.1 (RFC 9110 §7.8)."""
        key = self.route(ScriptedUpstream(self, answering())).encode()
        client = self.client()
        for name in (b"h2c", b"foo", b"websocket, foo"):
            client.send(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % (key, name))
            self.assertEqual(b"ok", client.message()[1])

    def test_client_that_leaves(self) -> None:
        """A client that does not wait for the answer takes the upstream's connection along."""
        for resets in (False, True):
            client, upstream = self.begin(HANDSHAKE)
            upstream.head()
            if resets:
                client.reset()
            else:
                client.close()
            self.assertTrue(upstream.is_closed(10))


class ChpHandshakeTests(WebSocketTestCase):
    """Handshakes under `errors.statuses: chp`."""

    settings = "errors: {statuses: chp}"

    def test_dead_upstream(self) -> None:
        """Every fault of an upstream is 503, without a body, and the end."""
        client = self.client()
        client.send(HANDSHAKE % self.route(f"http://127.0.0.1:{free_port()}").encode())
        head, body = client.message()
        self.assert_status(503, head)
        self.assertIn(b"\r\nContent-Length: 0\r\n", head)
        client.finish()
        self.assertEqual((b"", b""), (body, client.rest()))


class TunnelTests(WebSocketTestCase):
    """Bytes in both directions, and how they end."""

    # As short as they may be: none of them counts in a tunnel.
    settings = "timeouts: {header: 500ms, body_idle: 500ms, keep_alive: 500ms, idle: 500ms}"

    def test_bytes_behind_either_head(self) -> None:
        """What comes in the same packet as a head, or before the other side has agreed, is the first to arrive."""
        client, upstream = self.begin(HANDSHAKE + b"with the handshake,")
        upstream.head()
        client.send(b"before the answer")
        upstream.send(SWITCHING + b"\r\nwith the answer")
        self.assertEqual(b"with the handshake,before the answer", upstream.exactly(36))
        self.assertTrue(client.head().endswith(b"\r\n\r\n"))
        self.assertEqual(b"with the answer", client.exactly(15))
        client.send(b"later")
        self.assertEqual(b"later", upstream.exactly(5))

    def test_either_end_ends_the_other(self) -> None:
        """What was sent before arrives, then the end, by FIN or RST; nothing of HTTP gets into the stream."""
        for client_ends in (True, False):
            for how in ("FIN", "half", "RST"):
                client, upstream = self.join()
                ends, stays = (client, upstream) if client_ends else (upstream, client)
                ends.send(b"last words")
                self.assertEqual(b"last words", stays.exactly(10))
                if how == "RST":
                    ends.reset()
                else:
                    ends.send(b" and more")
                    if how == "FIN":
                        ends.close()
                    else:
                        ends.finish()
                    self.assertEqual(b" and more", stays.exactly(9))
                self.assertEqual(b"", stays.rest(), how)
                stays.close()
        self.assert_alive()

    def test_large_last_words(self) -> None:
        """Megabytes that were on their way when one side closed arrive whole."""
        for client_ends in (True, False):
            client, upstream = self.join()
            ends, stays = (client, upstream) if client_ends else (upstream, client)

            def send(ends: Wire = ends) -> None:
                ends.send(bytes(8 * MIB) + b"!")
                ends.close()

            thread = threading.Thread(target=send, daemon=True)
            thread.start()
            got = stays.rest()
            thread.join(10)
            self.assertEqual((8 * MIB + 1, b"!"), (len(got), got[-1:]))

    def test_route_that_is_deleted(self) -> None:
        """An open tunnel outlives its route, which leads nowhere for everyone else."""
        upstream = ManualUpstream(self)
        self.proxy.put_route("/goes/away", upstream.url)
        client = self.client()
        client.send(HANDSHAKE % b"/goes/away")
        wire = upstream.accept()
        wire.head()
        wire.send(SWITCHING + b"\r\n")
        self.assert_status(101, client.head())
        self.proxy.put_route("/goes/away", f"http://127.0.0.1:{free_port()}")
        self.assert_status(502, self.ask("/goes/away"))
        self.proxy.delete_route("/goes/away")
        self.assert_status(404, self.ask("/goes/away"))
        client.send(b"still")
        self.assertEqual(b"still", wire.exactly(5))
        wire.send(b"here")
        self.assertEqual(b"here", client.exactly(4))

    def test_no_idle_limit(self) -> None:
        """A tunnel in which nobody says anything stays open for longer than any other wait."""
        client, upstream = self.join()
        self.assertFalse(client.is_closed(1.5))
        self.assertFalse(upstream.is_closed(0.1))
        for wire in (client, upstream):
            wire.sock.settimeout(10)
        client.send(b"still")
        self.assertEqual(b"still", upstream.exactly(5))
        upstream.send(b"here")
        self.assertEqual(b"here", client.exactly(4))


class PressureTests(WebSocketTestCase):
    """A tunnel flows no faster than its slower end."""

    def setUp(self) -> None:
        """Start a proxy whose memory no other test has used."""
        self.use(Proxy(self))

    def test_side_that_does_not_read(self) -> None:
        """An endless sender has to wait for the other side, whichever it is, and memory stays bounded."""
        self.ask(self.route(ScriptedUpstream(self, answering())))
        before = resident_bytes(self.proxy.pid)
        for client_sends in (True, False):
            client, upstream = self.join()
            sends, waits = (client, upstream) if client_sends else (upstream, client)
            sends.sock.settimeout(60)
            sent = [0]

            def pour(sends: Wire = sends, sent: list[int] = sent) -> None:
                with contextlib.suppress(OSError):
                    while True:
                        sends.send(bytes(64 * 1024))
                        sent[0] += 64 * 1024

            thread = threading.Thread(target=pour, daemon=True)
            thread.start()
            wait_for_rest(sent, "the sender has to wait")
            self.assertLess(sent[0], 64 * MIB)  # what the kernel's buffers hold, with some to spare
            self.assertLess(resident_bytes(self.proxy.pid) - before, 16 * MIB)
            self.assert_alive()
            taken = 0
            while taken < 64 * MIB:
                taken += len(waits.sock.recv(MIB))
            waits.reset()
            # One reset in ten comes in the middle of a splice, and the kernel tells of no more than an end.
            thread.join(_CUT_SECONDS)
            self.assertFalse(thread.is_alive())
