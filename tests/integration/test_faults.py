"""What a running proxy makes of upstreams and clients that break, lie, stall or leave."""

from __future__ import annotations

import contextlib
import threading
from typing import ClassVar

from tests.faults.blackhole import blackhole
from tests.integration.proxies import ProxyTestCase
from tests.support import free_port
from tests.wire import (
    ManualUpstream,
    ScriptedUpstream,
    Wire,
    answering,
    now,
)

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
GET_1_0 = b"GET %b HTTP/1.0\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n"
CHUNKED_POST = b"POST %b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

MIB = 1024 * 1024

# Key and answer of RFC 6455 §1.3.
_HANDSHAKE = (
    b"GET %b/tunnel HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)

# Whole first packets of an upstream that must never reach a client as an answer (RFC 9112 §4, §5, §6).
_NO_RESPONSES = [
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x15\x03\x01\x00\x02\x02\x46",
    b"<html>hello</html>",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 99 Low\r\n\r\n",
    b"HTTP/1.1 1000 High\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: empty name\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX-Space : a\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX-Null: a\x00b\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n" * 17 + OK,
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
]


class UpstreamFaultTests(ProxyTestCase):
    """Faults of an upstream before the client has seen anything of an answer."""

    statuses: ClassVar[dict[int, int]] = {}

    def assert_fault(self, status: int, message: tuple[bytes, bytes]) -> None:
        """The client got this status, a body that belongs to it, and nothing of the upstream's."""
        head, body = message
        self.assert_status(self.statuses.get(status, status), head)
        self.assertIn(b"Content-Length: %d\r\n" % len(body), head)
        self.assertNotIn(b"ok!", body)
        self.assert_alive()

    def test_refused(self) -> None:
        """Nobody listens: 502, and at once; a connection that is not at fault serves the next request."""
        key = self.route(f"http://127.0.0.1:{free_port()}")
        client = self.client()
        for _ in range(3):
            began = now()
            self.assert_fault(502, self.ask(key, client=client))
            self.assertLess(now() - began, 5)

    def test_no_such_socket(self) -> None:
        """A unix socket that is not there is an upstream that refuses."""
        self.assert_fault(502, self.ask(self.route("http+unix://%2Fno%2Fsuch%2Fsocket")))

    def test_unreachable(self) -> None:
        """An upstream that swallows connections is 504 after `timeouts.connect`."""
        with blackhole() as port:
            key = self.route(f"http://127.0.0.1:{port}", timeouts={"connect": "300ms"})
            self.assert_fault(504, self.ask(key))

    def test_silent(self) -> None:
        """An upstream that accepts and says nothing is 504 after `timeouts.response`, and its connection ends."""
        client, upstream = self.begin(GET, timeouts={"response": "300ms"})
        self.assert_fault(504, client.message())
        self.assertTrue(upstream.head())
        self.assertTrue(upstream.is_closed(10))

    def test_silent_in_the_head(self) -> None:
        """Half a head does not count as an answer."""
        client, upstream = self.begin(GET, timeouts={"response": "300ms"})
        upstream.send(b"HTTP/1.1 200 OK\r\nX-")
        self.assert_fault(504, client.message())

    def test_ended_before_the_head(self) -> None:
        """A connection that ends, by FIN or RST, before a complete head is 502, whatever came of it."""
        for sent in (b"", b"H", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 103 Early Hints\r\n\r\n"):
            for resets in (False, True):
                client, upstream = self.begin(GET)
                upstream.head()
                upstream.send(sent)
                if resets:
                    upstream.reset()
                else:
                    upstream.close()
                head = client.head()
                if head.startswith(b"HTTP/1.1 103 "):
                    head = client.head()
                self.assert_status(self.statuses.get(502, 502), head)
        self.assert_alive()

    def test_no_response_at_all(self) -> None:
        """What is not HTTP/1.x, or could be read in two ways, is 502; nothing of it is passed on."""
        for sent in _NO_RESPONSES:
            client, upstream = self.begin(GET)
            upstream.head()
            upstream.send(sent)
            head = client.message()[0]
            while head.startswith(b"HTTP/1.1 10"):
                head = client.message()[0]
            self.assertEqual(b"HTTP/1.1 %d " % self.statuses.get(502, 502), head[:13], sent[:80])
            self.assertIn(b"\r\nX-Request-Id: ", head)  # a page of the proxy's own
            self.assertTrue(upstream.is_closed(10), sent[:80])
        self.assert_alive()

    def test_errors_of_the_upstream_are_its_own(self) -> None:
        """An error that the upstream answers itself is passed on as it is."""
        for status in (b"404 Nope", b"500 Ouch", b"502 Mine", b"503 Busy", b"504 Late"):
            client, upstream = self.begin(GET)
            upstream.head()
            upstream.send(b"HTTP/1.1 %b\r\nContent-Length: 2\r\nX-Own: yes\r\n\r\nok" % status)
            head, body = client.message()
            self.assertTrue(head.startswith(b"HTTP/1.1 " + status + b"\r\n"), head)
            self.assertIn(b"X-Own: yes\r\n", head)
            self.assertEqual(b"ok", body)


class ChpUpstreamFaultTests(UpstreamFaultTests):
    """The same under `errors.statuses: chp`: every fault of an upstream is 503."""

    settings = "errors: {statuses: chp}"
    statuses: ClassVar[dict[int, int]] = {502: 503, 504: 503}


class CutTests(ProxyTestCase):
    """Upstreams that break off in the middle of a body: the client must not take what it got for the whole."""

    def test_cut_in_a_body_with_a_length(self) -> None:
        """The client has less than was announced, and then the end."""
        for resets in (False, True):
            client, upstream = self.begin(GET)
            upstream.head()
            upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            self.assertIn(b"Content-Length: 100\r\n", client.head())
            self.assertEqual(b"half", client.exactly(4))
            if resets:
                upstream.reset()
            else:
                upstream.close()
            self.assertEqual(b"", client.rest())
        self.assert_alive()

    def test_cut_in_a_chunked_body(self) -> None:
        """The client gets no last chunk, wherever it was cut."""
        for sent in (b"4\r\nhalf\r\n", b"6\r\nhalf", b"4\r\nhalf\r", b"4\r\nhalf\r\n0\r\n", b"4\r\nhalf\r\n0"):
            for resets in (False, True):
                client, upstream = self.begin(GET)
                upstream.head()
                upstream.send(CHUNKED_OK + sent)
                self.assertIn(b"Transfer-Encoding: chunked\r\n", client.head())
                self.assertEqual(b"half", client.chunk())
                if resets:
                    upstream.reset()
                else:
                    upstream.close()
                self.assertEqual(b"", client.rest())
        self.assert_alive()

    def test_framing_that_breaks_in_the_middle(self) -> None:
        """A chunk that is none cuts the answer as the end of the connection would, and nothing of it is passed on."""
        client, upstream = self.begin(GET)
        upstream.head()
        upstream.send(CHUNKED_OK + b"4\r\nhalf\r\n")
        client.head()
        self.assertEqual(b"half", client.chunk())
        upstream.send(b"nonsense\r\n0\r\n\r\n")
        self.assertEqual(b"", client.rest())
        self.assertTrue(upstream.is_closed(10))

    def test_reset_of_a_body_until_close(self) -> None:
        """An old client, to whom the end means that all is there, gets a reset instead of an end."""
        client, upstream = self.begin(GET_1_0)
        upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        client.head()
        self.assertEqual(b"half", client.exactly(4))
        upstream.reset()
        with self.assertRaises(ConnectionResetError):
            client.sock.recv(1)

        client, upstream = self.begin(GET)
        upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        client.head()
        self.assertEqual(b"half", client.chunk())
        upstream.reset()
        self.assertEqual(b"", client.rest())

    def test_silence_in_a_body(self) -> None:
        """An answer that does not go on within `timeouts.idle` of its route is cut."""
        client, upstream = self.begin(GET, timeouts={"idle": "300ms"})
        upstream.head()
        upstream.send(CHUNKED_OK + b"4\r\nhalf\r\n")
        client.head()
        self.assertEqual(b"half", client.chunk())
        self.assertEqual(b"", client.rest())
        self.assertTrue(upstream.is_closed(10))

    def test_more_than_the_length(self) -> None:
        """Bytes behind an answer reach nobody, least of all as the answer to the next request."""
        client, upstream = self.begin(GET)
        upstream.head()
        upstream.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        self.assertEqual(b"ok", client.message()[1])
        self.assertTrue(upstream.is_closed(10))
        client.send(GET % self.route(ScriptedUpstream(self, answering(b"right"))).encode())
        self.assertEqual(b"right", client.message()[1])


class ReuseTests(ProxyTestCase):
    """Connections to upstreams that end between two requests, or at the very moment of the second."""

    def reuse(self, request: bytes) -> tuple[Wire, Wire, ManualUpstream]:
        """Send `request` on connections that have served before."""
        upstream = ManualUpstream(self)
        key = self.route(upstream).encode()
        client = self.client()
        client.send(GET % key)
        wire = upstream.accept()
        wire.head()
        wire.send(OK)
        client.message()
        client.send(request % key)
        return client, wire, upstream

    def test_closed_while_idle(self) -> None:
        """A kept connection that the upstream has closed hurts nobody, whatever the method."""
        for request in (GET, POST + b"body!!"):
            upstream = ManualUpstream(self)
            key = self.route(upstream).encode()
            client = self.client()
            client.send(GET % key)
            wire = upstream.accept()
            wire.head()
            wire.send(OK)
            client.message()
            wire.close()
            client.send(request % key)
            wire = upstream.accept()
            self.assertTrue(wire.message()[0].startswith(request[:4]))
            wire.send(OK)
            self.assert_status(200, client.message())

    def test_closed_at_the_moment_of_reuse(self) -> None:
        """What may be repeated is repeated once, on a fresh connection, and the client never knows."""
        for request in (GET, b"DELETE %b HTTP/1.1\r\nHost: test\r\n\r\n", b"HEAD %b HTTP/1.1\r\nHost: test\r\n\r\n"):
            for resets in (False, True):
                client, wire, upstream = self.reuse(request)
                first = wire.head()
                if resets:
                    wire.reset()
                else:
                    wire.close()
                wire = upstream.accept()
                self.assertEqual(first, wire.head())
                wire.send(OK if not request.startswith(b"HEAD") else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                self.assert_status(200, client.head())

    def test_repeated_only_once(self) -> None:
        """The second failure is the client's to know."""
        client, wire, upstream = self.reuse(GET)
        wire.head()
        wire.close()
        wire = upstream.accept()
        wire.head()
        wire.close()
        self.assert_status(502, client.message())
        self.assertFalse(upstream.is_asked())

    def test_not_repeated_after_the_first_byte(self) -> None:
        """An upstream that has begun to answer has acted on the request."""
        client, wire, upstream = self.reuse(GET)
        wire.head()
        wire.send(b"H")
        wire.close()
        self.assert_status(502, client.message())
        self.assertFalse(upstream.is_asked())

    def test_a_post_is_delivered_once(self) -> None:
        """What is not idempotent, or had a body, is never sent a second time."""
        put = POST.replace(b"POST", b"PUT") + b"body!!"
        for request in (POST + b"body!!", put, b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"):
            client, wire, upstream = self.reuse(request)
            wire.message()
            wire.close()
            self.assert_status(502, client.message())
            self.assertFalse(upstream.is_asked())


class ClientLeavesTests(ProxyTestCase):
    """Clients that go, by FIN or RST: so does what was done for them, at once."""

    def leave(self, client: Wire, how: str) -> None:
        """End the client's connection, or our side of it."""
        if how == "RST":
            client.reset()
        elif how == "FIN":
            client.close()
        else:
            client.finish()

    def test_while_the_upstream_thinks(self) -> None:
        """An upstream is not left to work for nobody; half a close is a close."""
        for how in ("FIN", "RST", "half"):
            client, upstream = self.begin(GET)
            upstream.head()
            self.leave(client, how)
            self.assertTrue(upstream.is_closed(10), how)
        self.assert_alive()

    def test_in_the_download(self) -> None:
        """An endless answer ends when nobody reads it any more, also while the client was not reading it before."""
        for how in ("FIN", "RST"):
            for reads in (True, False):
                sent = threading.Event()
                ended = threading.Event()

                def pour(wire: Wire, sent: threading.Event = sent, ended: threading.Event = ended) -> None:
                    wire.head()
                    wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
                    wire.sock.settimeout(1)
                    with contextlib.suppress(ConnectionError):
                        while not ended.is_set():
                            try:
                                wire.sock.send(bytes(MIB))
                            except TimeoutError:
                                sent.set()  # nobody takes more: everything is full
                    ended.set()

                client = self.client(receive_buffer=0 if reads else 8192)
                client.send(GET % self.route(ScriptedUpstream(self, pour)).encode())
                client.head()
                if reads:
                    client.sock.recv(MIB)
                else:
                    self.assertTrue(sent.wait(20))
                self.leave(client, how)
                self.assertTrue(ended.wait(20), (how, reads))

    def test_in_the_upload(self) -> None:
        """The upstream does not get to see a body that looks complete, and its connection ends."""
        for how in ("FIN", "RST", "half"):
            client, upstream = self.begin(CHUNKED_POST + b"4\r\nhalf\r\n")
            upstream.head()
            self.assertEqual(b"half", upstream.chunk())
            self.leave(client, how)
            self.assertEqual(b"", upstream.rest(), how)

            client, upstream = self.begin(POST + b"half")
            upstream.head()
            self.assertEqual(b"half", upstream.exactly(4))
            self.leave(client, how)
            self.assertEqual(b"", upstream.rest(), how)

    def test_behind_pipelined_requests(self) -> None:
        """A client that leaves takes the requests along that wait for their turn."""
        client, upstream = self.begin(GET)
        client.send(GET % b"/test_behind_pipelined_requests/1/second")
        upstream.head()
        client.close()
        self.assertTrue(upstream.is_closed(10))
        self.assertEqual(b"", upstream.buffer)


class RefusedClientTestCase(ProxyTestCase):
    """What happens to clients that the proxy does not want to hear more of."""

    def assert_refused(self, status: int, client: Wire, what: object = "") -> None:
        """The client gets this status and `Connection: close`, and then the end."""
        head, _ = client.message()
        self.assertEqual(b"HTTP/1.1 %d " % status, head[:13], what)
        self.assertIn(b"\r\nConnection: close\r\n", head)
        client.finish()
        self.assertEqual(b"", client.rest(), what)


class BadClientTests(RefusedClientTestCase):
    """Clients that send too much; what is no request is in `tests/hostile`."""

    settings = "limits: {body: 1000}"

    def test_too_much(self) -> None:
        """What is beyond a limit is answered by the status that says which, and forwarded to nobody."""
        upstream = ManualUpstream(self)
        key = self.route(upstream).encode()
        line = b"GET %b HTTP/1.1\r\nHost: a\r\n" % key
        for status, request in (
            (414, b"GET %b?%b HTTP/1.1\r\nHost: a\r\n\r\n" % (key, b"a" * 9000)),
            (414, b"GET %b?%b" % (key, b"a" * 100_000)),
            (431, line + b"X-Long: %b\r\n\r\n" % (b"a" * 17_000)),
            (431, line + b"".join(b"X-%d: %b\r\n" % (number, b"a" * 8000) for number in range(10)) + b"\r\n"),
            (431, line + b"X-Many: a\r\n" * 250 + b"\r\n"),
            (431, line + b"X-Endless: " + b"a" * 200_000),
            (413, b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" % key),
        ):
            client = self.client()
            with contextlib.suppress(ConnectionError):
                client.send(request)
            self.assert_refused(status, client, request[:40])
        self.assertFalse(upstream.is_asked())
        self.assert_alive()

    def test_just_below_the_limits(self) -> None:
        """What fits arrives as it was sent."""
        client = self.client()
        upstream = ManualUpstream(self)
        fields = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 12_000) for number in range(4))
        client.send(b"GET %b?%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (self.route(upstream).encode(), b"q" * 8000, fields))
        wire = upstream.accept()
        head = wire.head()
        self.assertIn(b"q" * 8000, head)
        self.assertEqual(4, head.count(b"a" * 12_000))
        wire.send(OK)
        self.assert_status(200, client.message())

    def test_chunked_body_beyond_the_limit(self) -> None:
        """The limit of a body holds as well for one without a length: 413, and the upstream never sees its end."""
        client, upstream = self.begin(CHUNKED_POST)
        client.send(b"258\r\n" + bytes(600) + b"\r\n258\r\n" + bytes(600) + b"\r\n0\r\n\r\n")
        self.assert_refused(413, client)
        self.assertFalse(upstream.rest().endswith(b"0\r\n\r\n"))


class SlowClientTests(RefusedClientTestCase):
    """Clients that send or take too slowly, or not at all."""

    settings = "timeouts: {header: 500ms, body_idle: 500ms, keep_alive: 500ms}"

    def test_head_that_takes_too_long(self) -> None:
        """Bytes one by one do not keep a head alive: 408 after `timeouts.header`, and the end."""
        client = self.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        client.sock.settimeout(0.05)
        deadline = now() + 20
        while now() < deadline:
            with contextlib.suppress(TimeoutError):
                client.buffer += client.sock.recv(65536)
                break
            client.sock.send(b"a")
        client.sock.settimeout(10)
        self.assert_refused(408, client)

    def test_connection_that_says_nothing(self) -> None:
        """Who never begins, and who does not come back, is closed without a word."""
        client = self.client()
        self.assertEqual(b"", client.rest())
        client = self.client()
        self.ask("/healthz", client=client)
        self.assertEqual(b"", client.rest())

    def test_body_that_does_not_come(self) -> None:
        """An upload that stops is 408 after `timeouts.body_idle`, and the upstream's request ends."""
        for request in (POST + b"half", CHUNKED_POST + b"4\r\nhalf\r\n"):
            client, upstream = self.begin(request)
            upstream.head()
            self.assert_refused(408, client)
            self.assertTrue(upstream.is_closed(10))

    def test_reader_that_is_stuck(self) -> None:
        """A client that takes nothing of its answer for `timeouts.body_idle` is dropped, and the upstream is free."""
        ended = threading.Event()

        def pour(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while True:
                    wire.send(bytes(MIB))
            ended.set()

        key = self.route(ScriptedUpstream(self, pour)).encode()
        client = self.client(receive_buffer=8192)
        client.send(GET % key)
        client.head()
        self.assertTrue(ended.wait(20))

    def test_reader_of_nothing_that_asks_on(self) -> None:
        """A client that takes none of its answers is dropped as well when each of them is small."""
        key = self.route(ScriptedUpstream(self, answering(bytes(10_000)))).encode()
        client = self.client(receive_buffer=8192)
        client.sock.settimeout(0.2)
        deadline = now() + 20
        with self.assertRaises(ConnectionError):
            while now() < deadline:
                with contextlib.suppress(TimeoutError):
                    client.sock.send(GET % key * 100)

    def test_upload_that_the_upstream_does_not_take(self) -> None:
        """A client that has to wait for the upstream is not too slow."""
        client, upstream = self.begin(b"PUT %b HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n")
        client.sock.settimeout(1.5)  # three times `timeouts.body_idle`
        with self.assertRaises(TimeoutError):
            for _ in range(1000):
                client.send(bytes(MIB))
        self.assertIn(b"PUT ", upstream.head())
        upstream.send(OK)
        client.sock.settimeout(10)
        self.assert_status(200, client.message())
