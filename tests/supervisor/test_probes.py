"""Tests of how a server is asked whether it is ready."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from proxyd.model.servers import Place, Readiness, ServerSpec
from proxyd.option import Port
from proxyd.supervisor.probes import wait_until_ready
from tests.supervisor.support import global_reactor


class Answering(Protocol):
    """Writes the pieces of the factory, one for each turn of the reactor."""

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.factory.requests.append(data)
        self.write(list(self.factory.pieces))

    def write(self, pieces: list[bytes]) -> None:
        if pieces and self.transport.connected:
            self.transport.write(pieces.pop(0))
            global_reactor.callLater(0, self.write, pieces)
        elif not pieces and self.factory.closes:
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.lost += 1
        self.factory.reasons.append(reason.type)


class ProbeTests(TestCase):
    """`wait_until_ready`."""

    timeout = 60.0

    def serve(self, *pieces: bytes, closes: bool = True, address: str = "127.0.0.1") -> tuple[Place, Any]:
        factory: Any = Factory.forProtocol(Answering)
        factory.noisy = False
        factory.pieces, factory.requests, factory.connections, factory.lost = pieces, [], [], 0
        factory.reasons = []
        factory.closes = closes
        if address.startswith("/"):
            port = global_reactor.listenUNIX(address, factory)
            place = Place(0, address)
        else:
            port = global_reactor.listenTCP(0, factory, interface=address)
            place = Place(port.getHost().port)
        self.addCleanup(port.stopListening)
        return place, factory

    async def ask(self, place: Place, seconds: float = 30.0, **options: Any) -> bool:
        spec = ServerSpec(port=Port(1), **options)
        return await wait_until_ready(global_reactor, global_reactor, place, spec, seconds)

    async def test_any_whole_status_line_is_an_answer(self) -> None:
        """Whatever its pieces, and whatever it says; over IPv6 and unix sockets as well."""
        path = os.path.join(tempfile.mkdtemp(), "s")
        for pieces, address in (
            ((b"HTTP/1.1 200 OK\r\n",), "127.0.0.1"),
            ((b"HT", b"TP/1.0 5", b"00 Oops", b"\r", b"\n"), "127.0.0.1"),
            ((b"HTTP/1.1 404\r\n",), "127.0.0.1"),
            ((b"HTTP/1.1 302 Found\nLocation: /x\n\n",), "::1"),
            (
                (
                    b"HTTP/1.1 100 Continue\r\n\r\n",
                    b"HTTP/1.1 204 No Content\r\n",
                ),
                path,
            ),
        ):
            place, factory = self.serve(*pieces, address=address)
            self.assertTrue(await self.ask(place), pieces)
            self.assertEqual(len(factory.requests), 1)

    async def test_the_rest_of_the_answer_is_taken(self) -> None:
        """Who is cut off while sending tells of it in the log; one without an end is not waited for."""
        place, factory = self.serve(b"HTTP/1.1 200 OK\r\n", b"\r\n", *[b"x" * 1000] * 20)
        self.assertTrue(await self.ask(place))
        while factory.lost < 1:
            await _turn()
        self.assertEqual(factory.reasons, [ConnectionDone])
        for pieces in ((b"HTTP/1.1 200 OK\r\n\r\n",), (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 3_000_000)):
            place, factory = self.serve(*pieces, closes=False)
            self.assertTrue(await self.ask(place))
            while factory.lost < 1:
                await _turn()

    async def test_it_asks_for_the_path(self) -> None:
        """By the authority of the upstream, and as a request that is complete."""
        place, factory = self.serve(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertTrue(await self.ask(place, ready=Readiness(path="/health?x")))
        head = factory.requests[0].decode()
        self.assertTrue(head.startswith(f"GET /health?x HTTP/1.1\r\nHost: localhost:{place.port}\r\n"), head)
        self.assertTrue(head.endswith("\r\nConnection: close\r\n\r\n"), head)

    async def test_what_is_no_answer_is_not_taken_for_one(self) -> None:
        """Nor one with another status than those that are wanted; it is asked again until the time is up."""
        for pieces, options in (
            ((b"SSH-2.0-OpenSSH\r\n",), {}),
            ((b"HTTP/1.1 200 OK",), {}),
            ((b"",), {}),
            ((b"x" * 10_000,), {}),
            ((b"HTTP/1.1 200 OK\r\n\r\n",), {"ready": Readiness(statuses=(204,))}),
        ):
            place, factory = self.serve(*pieces)
            self.assertFalse(await self.ask(place, 0.3, **options), pieces)
            self.assertGreater(len(factory.requests), 1)

    async def test_a_bare_server_is_asked_nothing(self) -> None:
        """To accept is enough, and the connection is closed at once."""
        place, factory = self.serve(closes=False)
        self.assertTrue(await self.ask(place, raw_socket_proxy=True))
        self.assertEqual(factory.requests, [])

    async def test_a_question_ends_with_the_time(self) -> None:
        """And with whoever asks; no connection is left."""
        place, factory = self.serve(closes=False)
        self.assertFalse(await self.ask(place, 0.2))
        asking = Deferred.fromCoroutine(self.ask(place))
        while len(factory.requests) < 2:
            await _turn()
        asking.cancel()
        with self.assertRaises(CancelledError):
            await asking
        while factory.lost < len(factory.connections):
            await _turn()

    async def test_pauses_double_up_to_the_deadline(self) -> None:
        """The first one is 10 ms, and the last one ends with the time."""
        clock = Clock()
        place = Place(0, "/nowhere/at/all")
        asking = Deferred.fromCoroutine(wait_until_ready(global_reactor, clock, place, ServerSpec(port=Port(1)), 0.1))
        for moment in (0.01, 0.03, 0.07, 0.1):
            while [round(call.getTime(), 6) for call in clock.getDelayedCalls()] != [moment]:
                await _turn()  # a question is on its way, and has a limit of its own
            clock.advance(moment - clock.seconds() + 1e-9)
        self.assertFalse(await asking)


def _turn() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    global_reactor.callLater(0.01, done.callback, None)
    return done
