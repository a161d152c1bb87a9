"""Tests of `proxyd.upstream.pools`."""

from __future__ import annotations

import gc

from twisted.internet.defer import Deferred, fail

from proxyd.errors import ConnectError
from proxyd.model.settings import Config, Limits, PoolSettings, Timeouts
from proxyd.model.upstream import Upstream
from proxyd.net.certificates import ClientContexts
from proxyd.option import ByteCount, Seconds
from proxyd.testing.transports import MemoryTransport
from proxyd.upstream.connection import UpstreamConnection
from tests.http.support import GET, OK, DataPathTestCase


class PoolTests(DataPathTestCase):
    """Idle connections, through exchanges."""

    config = Config(pool=PoolSettings(idle_per_upstream=2, idle_seconds=60))

    def test_a_surplus_is_kept_for_a_moment(self) -> None:
        """More than `idle_per_upstream` stay for a second, in case the burst comes again; the rest stays longer."""
        ends = []
        for _ in range(5):
            client = self.proxy.client()
            client.send(GET)
            ends.append(self.proxy.accept())
        for upstream in ends:
            upstream.send(OK)
        self.assertEqual(5, sum(upstream.connected for upstream in ends))
        self.proxy.advance(1.5)
        self.assertEqual(2, sum(upstream.connected for upstream in ends))
        self.proxy.advance(60)
        self.assertEqual(0, sum(upstream.connected for upstream in ends))

    def test_the_last_one_in_is_the_first_one_out(self) -> None:
        """A few connections do the work, so that the others age."""
        first, second = self.proxy.client(), self.proxy.client()
        first.send(GET)
        one = self.proxy.accept()
        second.send(GET)
        two = self.proxy.accept()
        one.send(OK)
        two.send(OK)
        for upstream in (one, two):
            upstream.pop()
        first.send(GET)
        self.assertEqual((b"", True), (one.pop(), two.pop().startswith(b"GET")))

    def test_one_pool_for_a_place(self) -> None:
        """The path of an upstream does not matter; scheme, host, port and socket do."""
        pools = self.proxy.pools
        one = pools.of(Upstream.parse("http://h:81/a"))
        self.assertIs(one, pools.of(Upstream.parse("http://H:81/b?c")))
        for url in ("http://h:82", "https://h:81", "http://i:81", "http+unix://%2Fh"):
            self.assertIsNot(one, pools.of(Upstream.parse(url)))

    def test_pools_of_nobody_vanish(self) -> None:
        """A pool that no route and no connection uses does not stay: users come and go."""
        pools = self.proxy.pools
        pools.of(Upstream.parse("http://gone.test"))
        gc.collect()
        self.assertEqual([], [pool for pool in pools._pools.values() if pool.upstream.host == "gone.test"])

    def test_close(self) -> None:
        """Idle connections are closed; those in use are not."""
        _, idle = self.begin()
        idle.send(OK)
        client = self.proxy.client()
        client.send(GET)
        other = self.proxy.client()
        other.send(GET)
        busy = self.proxy.accept()
        idle.send(OK)
        self.proxy.pools.close()
        self.proxy.advance()
        self.assertEqual((False, True), (idle.connected, busy.connected))


class LimitTests(DataPathTestCase):
    """`pool.connections_per_upstream`: beyond, requests wait."""

    config = Config(pool=PoolSettings(connections_per_upstream=2), timeouts=Timeouts(connect=Seconds(5)))

    def setUp(self) -> None:
        super().setUp()
        self.pool = self.proxy.pools.of(Upstream.parse("http://up.test:81"))

    def ask(self, path: str = "/x") -> MemoryTransport:
        """A client sends a request."""
        client = self.proxy.client()
        client.send(b"GET %b HTTP/1.1\r\nHost: a.test\r\n\r\n" % path.encode())
        return client

    def fill(self) -> list[MemoryTransport]:
        """All connections are in use; their ends at the upstream."""
        ends = []
        for _ in range(2):
            self.ask("/first")
            ends.append(self.proxy.accept())
        for end in ends:
            end.pop()
        return ends

    def dials(self) -> int:
        """How many connections were asked for so far."""
        return len(self.proxy.dialer.dials)

    def test_who_waits_gets_the_connection_of_who_is_done(self) -> None:
        """In the order in which they came; no other connection is made."""
        one, two = self.fill()
        clients = [self.ask(f"/{number}") for number in range(3)]
        self.assertEqual(2, self.dials())
        two.send(OK)
        self.assertTrue(two.pop().startswith(b"GET /0 "))
        one.send(OK)
        self.assertTrue(one.pop().startswith(b"GET /1 "))
        two.send(OK)
        self.assertTrue(two.pop().startswith(b"GET /2 "))
        one.send(OK)
        two.send(OK)
        for client in clients:
            self.assert_status(200, client)
        self.assertEqual((2, 2), (self.dials(), self.pool.idle))

    def test_who_comes_late_does_not_overtake(self) -> None:
        """A client whose connection is just done stands behind those that wait."""
        one, _ = self.fill()
        self.ask("/waits")
        again = self.ask("/waits-too")
        one.send(OK)
        self.assertTrue(one.pop().startswith(b"GET /waits "))
        one.send(OK)
        self.assertTrue(one.pop().startswith(b"GET /waits-too "))
        one.send(OK)
        self.assert_status(200, again)

    def test_an_end_makes_room_for_a_new_one(self) -> None:
        """However a connection ends, who waits makes one."""
        one, two = self.fill()
        for number, end in enumerate((one, two)):
            self.ask(f"/{number}")
            self.assertEqual(2 + number, self.dials())
            end.close()
            self.proxy.advance()
            self.assertEqual(3 + number, self.dials())
            self.assertTrue(self.proxy.accept().pop().startswith(b"GET /%d " % number))

    def test_a_failed_attempt_makes_room(self) -> None:
        """Each has its own answer, and nobody waits for ever."""
        first, second, third = self.ask(), self.ask(), self.ask()
        self.assertEqual(2, self.dials())
        self.proxy.dialer.dials[0].fail(ConnectError("up.test:81", "refused"))
        self.assert_status(502, first)
        self.assertEqual(3, self.dials())
        for dial in self.proxy.dialer.dials[1:]:
            dial.fail(ConnectError("up.test:81", "refused"))
        for client in (second, third):
            self.assert_status(502, client)
        self.assertEqual(0, self.pool._dialing)

    def test_attempts_that_fail_at_once(self) -> None:
        """A crowd is answered without a stack that grows with it."""
        self.fill()
        clients = [self.ask() for _ in range(300)]

        def refuse(*_: object) -> Deferred[UpstreamConnection]:
            return fail(ConnectError("up.test:81", "no such host"))

        self.patch(self.proxy.dialer, "dial", refuse)
        self.pool.reconfigure(PoolSettings(connections_per_upstream=3), Limits())
        for client in clients:
            self.assert_status(502, client)

    def test_the_wait_ends(self) -> None:
        """After the time that a connection may take, with 503, and when to come back."""
        self.fill()
        client = self.ask()
        self.proxy.advance(4.8)
        self.assertEqual(b"", client.pop())
        self.proxy.advance(0.5)
        self.assertIn(b"\r\nRetry-After: 1\r\n", self.assert_status(503, client))
        self.assertEqual((2, {}), (self.dials(), self.pool._waiting))

    def test_who_leaves_gets_nothing(self) -> None:
        """The connection goes to the next one."""
        one, _ = self.fill()
        leaves, stays = self.ask("/leaves"), self.ask("/stays")
        leaves.close()
        self.proxy.advance()
        one.send(OK)
        self.assertTrue(one.pop().startswith(b"GET /stays "))
        one.send(OK)
        self.assert_status(200, stays)

    def test_who_leaves_while_connecting(self) -> None:
        """The attempt is given up, and the next one has its turn."""
        one, _ = self.fill()
        leaves = self.ask("/leaves")
        self.ask("/stays")
        one.close()
        self.proxy.advance()
        dial = self.proxy.dialer.dials[-1]
        leaves.close()
        self.proxy.advance()
        self.assertTrue(dial.is_cancelled)
        self.assertTrue(self.proxy.accept().pop().startswith(b"GET /stays "))

    def test_the_end_of_everything(self) -> None:
        """Who waits is told so, and nothing is dialed."""
        self.fill()
        client = self.ask()
        self.proxy.pools.close()
        self.assert_status(503, client)
        self.assertEqual(2, self.dials())

    def test_tunnels_do_not_count(self) -> None:
        """They last for hours."""
        handshake = (
            b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        for number in range(3):
            self.proxy.client().send(handshake)
            self.assertEqual(number + 1, self.dials())
            self.proxy.accept().send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            )
        self.assertEqual(set(), self.pool._connections)

    def test_a_retry_does_not_wait_beside_an_idle_connection(self) -> None:
        """It wants a fresh one, and an idle one makes room for it."""
        one, two = self.fill()
        one.send(OK)
        two.send(OK)
        client = self.ask("/again")
        self.assertTrue(two.pop().startswith(b"GET /again "))
        two.close()
        self.proxy.advance()
        self.assertEqual(3, self.dials())
        fresh = self.proxy.accept()
        self.assertTrue(fresh.pop().startswith(b"GET /again "))
        fresh.send(OK)
        self.assert_status(200, client)

    def test_another_limit(self) -> None:
        """More let those in who wait; with fewer, connections end when they are done."""
        one, two = self.fill()
        self.ask("/waits")
        self.pool.reconfigure(PoolSettings(connections_per_upstream=3), Limits())
        self.assertTrue(self.proxy.accept().pop().startswith(b"GET /waits "))
        self.pool.reconfigure(PoolSettings(connections_per_upstream=1), Limits())
        one.send(OK)
        two.send(OK)
        self.assertEqual((0, 1), (self.pool.idle, len(self.pool._connections)))
        self.pool.reconfigure(PoolSettings(), Limits())
        for _ in range(5):
            self.ask()
        self.assertEqual(8, self.dials())


class SettingsTests(DataPathTestCase):
    """Other settings for pools that are there."""

    def test_plain_connections_stay(self) -> None:
        """Idle ones are used again, and the new numbers hold."""
        client, upstream = self.begin()
        upstream.send(OK)
        self.assert_status(200, client)
        self.proxy.pools.reconfigure(PoolSettings(idle_per_upstream=0), Limits(headers=ByteCount(10)), ClientContexts())
        upstream.pop()
        client.send(GET)
        self.assertTrue(upstream.pop().startswith(b"GET"))
        upstream.send(OK)
        self.assert_status(502, client)

    def test_a_request_goes_on_with_its_limits(self) -> None:
        """The head of its response is read within those of its beginning."""
        client, upstream = self.begin()
        self.proxy.pools.reconfigure(PoolSettings(), Limits(headers=ByteCount(10)), ClientContexts())
        upstream.send(OK)
        self.assert_status(200, client)

    def test_tls_connections_end_when_they_are_done(self) -> None:
        """New ones are made with the files as they are now."""
        self.proxy.add_route("/", "https://up.test")
        pools = self.proxy.pools
        before = pools.of(Upstream.parse("https://up.test"))
        busy = self.proxy.client()
        busy.send(GET)
        working = self.proxy.accept()
        other = self.proxy.client()
        other.send(GET)
        idle = self.proxy.accept()
        idle.send(OK)
        pools.reconfigure(PoolSettings(), Limits(), ClientContexts())
        self.proxy.advance()
        self.assertEqual((False, True), (idle.connected, working.connected))
        working.send(OK)
        self.assert_status(200, busy)
        self.proxy.advance()
        self.assertFalse(working.connected)
        self.assertIsNot(before, pools.of(Upstream.parse("https://up.test")))
