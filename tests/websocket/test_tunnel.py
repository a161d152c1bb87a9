"""Tests of `proxyd.websocket.tunnel`, from the handshake on."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone

from proxyd.core.upgrade import accept_value
from proxyd.errors import ConnectError
from proxyd.model.routes import RouteOptions
from proxyd.testing.harness import Harness
from proxyd.testing.transports import MemoryTransport
from tests.http.support import GET, OK, DataPathTestCase

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /ws?x=1 HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, b\r\n\r\n"
)
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + accept_value(KEY)
    + b"\r\nSec-WebSocket-Protocol: b\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"
)


class HandshakeTests(DataPathTestCase):
    """Before the 101."""

    def test_upstream_first(self) -> None:
        """The upstream sees the handshake; the client hears of success only when the upstream has agreed."""
        client, upstream = self.begin(HANDSHAKE)
        request = upstream.pop()
        self.assertTrue(request.startswith(b"GET /ws?x=1 HTTP/1.1\r\nHost: a.test\r\n"), request)
        for line in (
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Protocol: a, b",
            b"X-Forwarded-Proto: ws",
            b"X-Forwarded-Host: a.test",
        ):
            self.assertIn(b"\r\n" + line + b"\r\n", request)
        self.assertEqual(b"", client.pop())
        upstream.send(AGREED)
        answer = client.pop()
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        self.assertEqual(2, answer.count(b"Set-Cookie: "))
        for line in (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Protocol: b"):
            self.assertEqual(1, answer.count(b"\r\n" + line + b"\r\n"), line)

    def test_early_bytes_are_not_lost(self) -> None:
        """What stands behind either head in the same packet goes through, and first."""
        client, upstream = self.begin(HANDSHAKE + b"early")
        upstream.pop()
        client.send(b" bird")
        upstream.send(AGREED + b"welcome")
        self.proxy.advance()
        self.assertEqual(b"early bird", upstream.pop())
        self.assertTrue(client.pop().endswith(b"\r\n\r\nwelcome"))

    def test_refusal_is_passed_on(self) -> None:
        """Any other answer is relayed whole, and the connection ends; early bytes never become a request."""
        for response, body in (
            (b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", b"no"),
            (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", b"2\r\nno\r\n0\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        ):
            client, upstream = self.begin(HANDSHAKE + GET)
            upstream.send(response)
            answer = client.pop()
            self.assertIn(b"\r\nConnection: close\r\n", answer)
            self.assertTrue(answer.endswith(b"\r\n\r\n" + body))
            self.assert_ended(client)
            self.assertEqual(1, upstream.pop().count(b"GET "))

    def test_a_101_that_does_not_answer_is_refused(self) -> None:
        """Without the right Upgrade and Sec-WebSocket-Accept there is no tunnel."""
        for response in (
            AGREED.replace(accept_value(KEY), accept_value(b"x")),
            AGREED.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
            AGREED.replace(b"Connection: Upgrade", b"Connection: close"),
            AGREED.replace(b"Sec-WebSocket-Accept", b"X"),
        ):
            client, upstream = self.begin(HANDSHAKE)
            upstream.send(response)
            self.assertIn(b"Content-Length: 0\r\n", self.assert_status(502, client))
            self.assert_ended(client)
            self.assert_ended(upstream)

    def test_errors_are_bare(self) -> None:
        """No route, a dead upstream, a bad path: a status without a body, and the end of the connection."""
        self.proxy = Harness(routes={"/ws": "http://up.test:81"})
        for target, status in ((b"/other", 404), (b"/%zz", 400), (b"/ws", 502)):
            client = self.proxy.client()
            client.send(HANDSHAKE.replace(b"/ws?x=1", target))
            if status == 502:
                self.proxy.dialer.dials[-1].fail(ConnectError("up.test:81", "refused"))
            answer = self.assert_status(status, client)
            self.assertTrue(answer.endswith(b"\r\n\r\n"))
            self.assertIn(b"\r\nContent-Length: 0\r\n", answer)
            self.assert_ended(client)

    def test_silence(self) -> None:
        """A verdict that does not come in time is 504."""
        client, upstream = self.begin(HANDSHAKE)
        self.proxy.advance(301)
        self.assert_status(504, client)
        self.assert_ended(upstream)

    def test_client_leaves_during_the_handshake(self) -> None:
        """The upstream's connection does not outlive it."""
        client, upstream = self.begin(HANDSHAKE)
        client.close()
        self.proxy.advance()
        self.assertFalse(upstream.connected)

    def test_other_upgrades_are_ignored(self) -> None:
        """h2c, others, and handshakes that are no GET are ordinary requests without Upgrade."""
        for request in (
            HANDSHAKE.replace(b"WebSocket", b"h2c"),
            HANDSHAKE.replace(b"GET", b"POST"),
            HANDSHAKE.replace(b", Upgrade", b""),
            HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            client, upstream = self.begin(request)
            self.assertNotIn(b"\r\nUpgrade:", upstream.pop())
            upstream.send(OK)
            self.assert_status(200, client)

    def test_routes_without_websockets(self) -> None:
        """`websocket: off` is 403; ordinary requests pass."""
        self.proxy.add_route("/", "http://up.test:81", RouteOptions(websocket="off"))
        client = self.proxy.client()
        client.send(HANDSHAKE)
        self.assert_status(403, client)
        self.begin(GET)

    def test_on_a_connection_that_was_closed(self) -> None:
        """A handshake is repeated on a fresh connection when a kept one turns out closed."""
        _client, upstream = self.begin()
        upstream.send(OK)
        other = self.proxy.client()
        other.send(HANDSHAKE)
        upstream.close()
        self.proxy.advance()
        self.proxy.accept().send(AGREED)
        self.assert_status(101, other)


class TunnelTests(DataPathTestCase):
    """After the 101."""

    def tunnel(self) -> tuple[MemoryTransport, MemoryTransport]:
        """An open tunnel, both ends."""
        client, upstream = self.begin(HANDSHAKE)
        upstream.send(AGREED)
        self.proxy.advance()
        client.pop()
        upstream.pop()
        return client, upstream

    def test_bytes_flow_both_ways(self) -> None:
        """They are passed on as they come, whatever they are."""
        client, upstream = self.tunnel()
        for count in (1, 1000, 100_000):
            client.send(b"\x81" * count)
            self.assertEqual(b"\x81" * count, upstream.pop())
            upstream.send(b"HTTP/1.1 " * count)
            self.assertEqual(b"HTTP/1.1 " * count, client.pop())

    def test_there_is_no_idle_limit(self) -> None:
        """Neither side has to say anything."""
        client, upstream = self.tunnel()
        self.proxy.advance(1000)
        client.send(b"x")
        self.assertEqual(b"x", upstream.pop())

    def test_back_pressure(self) -> None:
        """Neither side is read faster than the other one takes it."""
        for sender, receiver in (self.tunnel(), self.tunnel()[::-1]):
            receiver.stall()
            sender.send(b"x" * 100_000)
            self.assertFalse(sender.is_reading)
            receiver.take()
            self.assertTrue(sender.is_reading)
            self.assertEqual(100_000, len(receiver.pop()))

    def test_either_end_ends_the_other(self) -> None:
        """A FIN goes on behind what is on its way; what the other side still says is dropped, and resets nothing."""
        for swap in (False, True):
            for how, ended_by in (("close", "ConnectionDone"), ("reset", "ConnectionAborted")):
                ends = self.tunnel()
                leaver, other = ends[::-1] if swap else ends
                other.stall()
                leaver.send(b"last words")
                getattr(leaver, how)()
                self.proxy.advance()
                if how == "close":
                    self.assertTrue(other.connected)
                    other.take()
                    self.proxy.advance()
                    self.assertEqual(b"last words", other.pop())
                    self.assertTrue(other.write_closed and other.connected)
                    other.send(b"too late")
                    other.close()
                    self.proxy.advance()
                self.assertFalse(other.connected)
                self.assertEqual(ended_by, other.ended_by.__name__)
                self.assertEqual(set(), self.proxy.site.tunnels)

    def test_unread_bytes_come_before_the_end(self) -> None:
        """A client that leaves while it is not read is heard out first."""
        client, upstream = self.tunnel()
        upstream.stall()
        client.send(b"x" * 100_000)
        client.send(b"y" * 10)
        client.close()
        self.proxy.advance()
        upstream.take()
        self.proxy.advance()
        self.assertTrue(upstream.pop().endswith(b"y" * 10))
        self.assertTrue(upstream.write_closed)

    def test_an_end_that_is_not_taken(self) -> None:
        """A side that does not take the rest is cut after ten seconds."""
        client, upstream = self.tunnel()
        upstream.stall()
        client.send(b"x")
        client.close()
        self.proxy.advance(9)
        self.assertTrue(upstream.connected)
        self.proxy.advance(2)
        self.assertFalse(upstream.connected)

    def test_going_away(self) -> None:
        """Each side gets what is on its way to it, then the end, and nothing of ours; what it still says is dropped."""
        client, upstream = self.tunnel()
        client.stall()
        upstream.send(b"x" * 100_000)
        (tunnel,) = self.proxy.site.tunnels
        tunnel.go_away()
        tunnel.go_away()
        self.assertTrue(client.write_closed and upstream.write_closed)
        client.send(b"late")
        upstream.send(b"late")
        client.take()
        self.assertEqual((client.pop(), upstream.pop()), (b"x" * 100_000, b""))
        upstream.close()
        client.close()
        self.proxy.advance()
        self.assertEqual({client.ended_by, upstream.ended_by}, {ConnectionDone})
        self.assertEqual((self.proxy.site.tunnels, len(self.proxy.access.lines)), (set(), 1))
        tunnel.go_away()

    def test_going_away_from_somebody_who_does_not_mind(self) -> None:
        """Nobody is waited for."""
        client, upstream = self.tunnel()
        (tunnel,) = self.proxy.site.tunnels
        tunnel.go_away()
        self.proxy.advance(9)
        self.assertTrue(client.connected and upstream.connected)
        self.proxy.advance(2)
        self.assertFalse(client.connected or upstream.connected)
        self.assertEqual(self.proxy.site.tunnels, set())

    def test_route_changes_leave_it_alone(self) -> None:
        """Deleting or replacing the route does not touch what is open."""
        client, upstream = self.tunnel()
        self.proxy.add_route("/", "http://other.test")
        self.proxy.delete_route("/")
        client.send(b"x")
        self.assertEqual(b"x", upstream.pop())

    def test_activity(self) -> None:
        """Data in either direction counts; silence does not."""
        client, upstream = self.tunnel()
        entry = self.proxy.table.get("/")
        assert entry is not None
        for sender in (client, upstream):
            self.proxy.advance(10)
            before = entry.last_activity
            self.proxy.advance(10)
            self.assertEqual(before, entry.last_activity)
            sender.send(b"x")
            self.assertAlmostEqual(self.proxy.clock.seconds(), entry.last_activity)

    def test_access_line(self) -> None:
        """The line comes at the end, with what went to the client."""
        client, upstream = self.tunnel()
        upstream.send(b"x" * 500)
        self.proxy.advance(3)
        self.assertEqual([], self.proxy.access.lines)
        client.close()
        self.proxy.advance()
        (line,) = self.proxy.access.lines
        self.assertRegex(line, r'"GET /ws HTTP/1\.1" 101 500 .* 3\.\d+ -\n')
