"""Exchanges on real sockets, step by step: what transports in memory cannot show."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import execute
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.rewriting import RewriteRequest
from proxyd.http.resources import ForwardResource
from proxyd.http.rewriting import Rewriting
from proxyd.model.routes import DEFAULT_OPTIONS, Route
from proxyd.model.upstream import Upstream
from proxyd.testing.harness import Harness
from tests.support import wait_for
from tests.walks import Rounds, Secure, Wire

GET = b"GET /%d HTTP/1.1\r\nHost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = bytes(range(251)) * 4000


class Exchanging(SynchronousTestCase):
    """One client, one upstream."""

    compiled = True

    def setUp(self) -> None:
        self.rounds = Rounds(0, Secure(self.mktemp()), compiled=self.compiled)
        self.addCleanup(self.rounds.close)
        self.proxy = Harness()
        self.addCleanup(self.proxy.deadlines.close)
        self.accepted = 0

    def connect(self, protocol: Any, kind: str = "tcp") -> Wire:
        """A connection of the proxy's; gives its other end."""
        transport, wire = self.rounds.connect(protocol, kind)
        transport.watches_peer = False
        protocol.makeConnection(transport)
        return wire

    def client(self, kind: str = "tcp") -> Wire:
        """A client comes."""
        return self.connect(self.proxy.site.buildProtocol(None), kind)

    def upstream(self) -> Wire:
        """The upstream accepts."""
        dials = self.proxy.dialer.dials
        wait_for(lambda: self.turn() or len(dials) > self.accepted, "a connection to the upstream", interval=0)
        dial = dials[self.accepted]
        self.accepted += 1
        return self.connect(dial.build(dial.result.callback))

    def turn(self) -> None:
        """Let a round of events happen."""
        self.rounds.turn()
        self.proxy.advance()

    def settle(self) -> None:
        """Let everything happen that is under way: from then on, what is sent first is seen first."""
        for _ in range(50):
            self.turn()

    def send(self, wire: Wire, data: bytes) -> None:
        """Send all of it; the proxy takes its part."""
        rest = data

        def is_sent() -> bool:
            nonlocal rest
            rest = rest[len(wire.send(rest)) :] if rest else b""
            self.turn()
            return not rest

        wait_for(is_sent, "room for all of it", interval=0)

    def heard(self, wire: Wire, end: bytes) -> bytes:
        """What comes, up to the `end`."""
        got = b""

        def has_come() -> bool:
            nonlocal got
            self.turn()
            got += wire.take(1 << 20) or b""
            return got.endswith(end)

        wait_for(has_come, repr(end[-20:]), interval=0)
        return got


class SocketTests(Exchanging):
    """What only happens on sockets."""

    def test_what_came_before_a_request_is_no_answer(self) -> None:
        """A farewell on an idle connection, and the next request, in one round: that goes to another connection."""
        for farewell in (b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", OK):
            client = self.client()
            client.send(GET % 1)
            first = self.upstream()
            self.heard(first, b"\r\n\r\n")
            first.send(OK)
            self.heard(client, b"ok")
            self.settle()
            client.send(GET % 2)
            first.send(farewell)
            second = self.upstream()
            self.assertIn(b"GET /2 ", self.heard(second, b"\r\n\r\n"))
            second.send(OK.replace(b"ok", b"OK"))
            self.assertIn(b" 200 ", self.heard(client, b"OK"))
            self.assertEqual(b"", first.take(100))
            self.proxy.pools.close()

    def test_idle_connections_are_not_cut(self) -> None:
        """They end when they have been idle for long enough, and with the pools: a reset would be an error there."""
        for end in (lambda: self.proxy.advance(61), self.proxy.pools.close):
            client = self.client()
            client.send(GET % 1)
            upstream = self.upstream()
            self.heard(upstream, b"\r\n\r\n")
            upstream.send(OK)
            self.heard(client, b"ok")
            self.settle()
            end()
            wait_for(lambda taken=upstream.take: self.turn() or taken(1) == b"", "the end", interval=0)
            self.assertFalse(upstream.was_reset)

    def test_a_reset_that_a_send_has_met_cuts_the_response(self) -> None:
        """One that would last until its end is not taken for whole, although the kernel tells of a reset only once."""
        for before in (1_000, 50_000):  # read and sent, or spliced
            client = self.client()
            head = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10000000\r\n\r\n"
            self.send(client, head + bytes(60_000))
            upstream = self.upstream()
            self.turn()
            upstream.send(b"HTTP/1.1 200 OK\r\n\r\npartial")
            self.heard(client, b"partial\r\n")
            while upstream.take(1 << 20):
                pass
            self.settle()
            client.send(bytes(before))
            upstream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            upstream.close()
            got: list[bytes] = []

            def is_over(client: Wire = client, got: list[bytes] = got) -> bool:
                self.turn()
                data = client.take(1000)
                got.append(data or b"")
                return data == b""

            wait_for(is_over, "the end of the connection", interval=0)
            self.assertEqual(b"", b"".join(got))
            self.flushLoggedErrors()

    def test_urgent_data_does_not_stop_a_body(self) -> None:
        """It is left out; what is around it arrives."""
        client = self.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n")
        upstream = self.upstream()
        self.send(client, b"a" * 60_000)  # so much at once that the rest is spliced
        client.sock.send(b"!", socket.MSG_OOB)
        client.send(b"b" * 40_000)
        self.assertIn(b"\r\n\r\n" + b"a" * 60_000, self.heard(upstream, b"b" * 40_000))

    def test_functions_see_a_large_body(self) -> None:
        """As it came, although it could have gone past them."""
        seen: list[bytes] = []

        def note(request: RewriteRequest) -> None:
            seen.append(request.body)

        rewriting = Rewriting(rewriters=(note,), run=execute, clock=self.proxy.clock, max_body=1 << 24, max_seconds=5)
        upstream = Upstream.parse("http://up.test:81")
        resource = ForwardResource(
            Route("/", upstream, ()),
            DEFAULT_OPTIONS,
            self.proxy.pools.of(upstream),
            self.proxy.config.timeouts,
            rewriting=rewriting,
        )
        self.proxy.delete_route("/")
        self.proxy.tree.mount((), resource)
        client = self.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % len(LARGE))
        wire = self.upstream()
        for start in range(0, len(LARGE), 100_000):
            piece = LARGE[start : start + 100_000]
            self.send(client, piece)
            self.heard(wire, piece[-1000:])
        wire.send(OK)
        self.heard(client, b"ok")
        self.assertEqual([LARGE], seen)

    def test_what_stands_behind_the_last_request_cuts_nothing(self) -> None:
        """Over TLS neither, which ends when something comes that it does not expect."""
        for kind in ("tcp", "tls"):
            client = self.client(kind)
            rest = b"GET / HTTP/1.0\r\n\r\n" + GET % 2 * 10_000
            for _ in range(50):  # until no more of it is taken
                rest = rest[len(client.send(rest)) :]
                self.turn()
            upstream = self.upstream()
            self.heard(upstream, b"\r\n\r\n")
            self.send(upstream, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE)
            self.settle()
            self.heard(client, LARGE)
            self.proxy.pools.close()


class SocketInPythonTests(SocketTests):
    """The same where there was no compiler."""

    compiled = False
