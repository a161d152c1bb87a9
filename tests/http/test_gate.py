"""Tests of `proxyd.http.gate`: how many connections, and how many requests."""

from __future__ import annotations

import attrs
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.upgrade import accept_value
from proxyd.model.settings import Config, Limits
from proxyd.option import Network, Rate
from proxyd.testing.harness import Harness
from proxyd.testing.transports import MemoryTransport
from tests.http.support import GET, OK

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
AGREED = (
    b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
    + accept_value(KEY)
    + b"\r\n\r\n"
)


class GateTestCase(SynchronousTestCase):
    """A proxy with limits."""

    limits = Limits()

    def setUp(self) -> None:
        self.proxy = Harness(config=Config(limits=self.limits))

    def is_served(self, client: MemoryTransport, request: bytes = GET) -> bool:
        """Whether a request on this connection reaches an upstream, which answers it."""
        before = len(self.proxy.dialer.dials)
        self.proxy.pools.close()
        client.send(request)
        if len(self.proxy.dialer.dials) == before:
            return False
        self.proxy.accept().send(OK)
        return client.pop().startswith(b"HTTP/1.1 200 ")


class ConnectionTests(GateTestCase):
    """Of all clients together."""

    limits = Limits(connections=2)

    def test_beyond_the_limit(self) -> None:
        """503, at once and without reading anything; whoever leaves makes room."""
        first, second, third = (self.proxy.client(f"192.0.2.{number}") for number in range(3))
        answer = third.pop()
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
        self.assertIn(b"\r\nRetry-After: 5\r\n", answer)
        self.assertTrue(third.write_closed)
        third.send(GET)
        self.assertEqual((third.pop(), self.proxy.dialer.dials), (b"", []))
        self.assertTrue(self.is_served(first))
        self.assertTrue(self.is_served(second))
        first.close()
        self.proxy.advance()
        self.assertTrue(self.is_served(self.proxy.client()))

    def test_who_was_turned_away_does_not_stay(self) -> None:
        """It is cut two seconds later; and of very many, most at once."""
        for _ in range(2):
            self.proxy.client()
        away = [self.proxy.client() for _ in range(200)]
        self.proxy.advance()
        self.assertEqual(sum(client.connected for client in away), 128)
        self.proxy.advance(3)
        self.assertEqual(sum(client.connected for client in away), 0)
        self.assertIn(b"503", self.proxy.client().pop())

    def test_a_tunnel_keeps_its_seat(self) -> None:
        """Until it ends."""
        client = self.proxy.client()
        client.send(HANDSHAKE)
        upstream = self.proxy.accept()
        upstream.send(AGREED)
        self.assertIn(b"101", client.pop())
        self.proxy.client()
        self.assertIn(b"503", self.proxy.client().pop())
        upstream.close()
        client.close()
        self.proxy.advance(11)
        self.assertTrue(self.is_served(self.proxy.client()))

    def test_seats_of_every_kind_of_end_come_back(self) -> None:
        """However a connection ends."""
        gate = self.proxy.site.gate
        assert gate is not None
        for end in ("close", "reset", "timeout", "malformed", "close after", "cut"):
            client = self.proxy.client()
            if end in ("close after", "cut"):
                client.send(GET)
                upstream = self.proxy.accept()
                if end == "cut":
                    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
                    upstream.reset()
                else:
                    upstream.send(OK)
            if end == "malformed":
                client.send(b"junk\r\n\r\n")
            elif end == "reset":
                client.reset()
            elif end != "timeout":
                client.close()
            self.proxy.advance(11)
            client.close()
            self.proxy.advance(80)
            self.assertEqual(len(gate), 0, end)

    def test_the_log_says_it_once_a_minute(self) -> None:
        """Who floods us does not flood the log."""
        with capturedLogs() as events:
            for _ in range(20):
                self.proxy.client()
            self.assertEqual([event["limit"] for event in events], ["limits.connections"])
            self.proxy.advance(61)
            for _ in range(3):
                self.proxy.client()
        self.assertEqual(len(events), 2)


class ClientConnectionTests(GateTestCase):
    """Of each client."""

    limits = Limits(connections_per_client=1)

    def test_beyond_the_share(self) -> None:
        """429; others are served."""
        first, again, other = (self.proxy.client(f"192.0.2.{number}") for number in (1, 1, 2))
        self.assertIn(b"HTTP/1.1 429 ", again.pop())
        self.assertTrue(self.is_served(first))
        self.assertTrue(self.is_served(other))

    def test_neighbours_in_ipv6_share(self) -> None:
        """A /64 is one client."""
        self.proxy.client("2001:db8::1")
        self.assertIn(b"429", self.proxy.client("2001:db8::2").pop())
        self.assertEqual(self.proxy.client("2001:db8:0:1::1").pop(), b"")

    def test_trusted_proxies_are_no_clients(self) -> None:
        """There are many behind each."""
        for _ in range(5):
            self.assertTrue(self.is_served(self.proxy.client("127.0.0.1")))


class RequestTests(GateTestCase):
    """How often a client may ask."""

    limits = Limits(requests_per_client=Rate(2, 2))

    def asking_for(self, address: str) -> bytes:
        """A request that a proxy passes on for a client."""
        return GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: " + address.encode() + b"\r\n\r\n")

    def test_beyond_the_rate(self) -> None:
        """429 on a connection that stays, over all connections of the client; others are served."""
        client = self.proxy.client()
        self.assertEqual([self.is_served(client) for _ in range(2)], [True, True])
        self.assertFalse(self.is_served(client))
        answer = client.pop()
        self.assertTrue(answer.startswith(b"HTTP/1.1 429 "), answer)
        self.assertIn(b"\r\nRetry-After: 1\r\n", answer)
        self.assertFalse(self.is_served(self.proxy.client()))
        self.assertTrue(self.is_served(self.proxy.client("192.0.2.2")))
        self.proxy.advance(1)
        self.assertTrue(self.is_served(client))

    def test_forged_names_do_not_help(self) -> None:
        """Only a trusted proxy tells whom it asks for."""
        served = [self.is_served(self.proxy.client(), self.asking_for(f"10.0.0.{n}")) for n in range(4)]
        self.assertEqual(served, [True, True, False, False])
        proxy = self.proxy.client("127.0.0.1")
        served = [self.is_served(proxy, self.asking_for(f"10.0.0.{n % 2}")) for n in range(6)]
        self.assertEqual(served, [True] * 4 + [False] * 2)

    def test_health_checks_are_not_counted(self) -> None:
        """They tell how things are in any case."""
        client = self.proxy.client()
        for _ in range(9):
            client.send(GET.replace(b"/x", b"/healthz"))
        self.assertEqual(client.pop().count(b"200 OK"), 9)
        self.assertTrue(self.is_served(client))

    def test_what_leads_nowhere_counts(self) -> None:
        """Else guessing paths was free."""
        self.proxy.delete_route("/")
        client = self.proxy.client()
        for status in (b"404", b"404", b"429"):
            client.send(GET)
            self.assertIn(status, client.pop().partition(b"\r\n")[0])


class NoLimitTests(SynchronousTestCase):
    """Nothing is configured."""

    def test_there_are_no_gates(self) -> None:
        """So nothing is counted, and nothing called."""
        proxy = Harness(config=Config(trusted_proxies=(Network("10.0.0.1"),)))
        self.assertEqual((proxy.site.gate, proxy.tree._gate), (None, None))
        self.assertEqual(attrs.evolve(Limits(), connections=1).connections, 1)
