"""Tests of exchanges whose responses functions rewrite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute

from proxyd.core.rewriting import RewritableResponse, RewriteRequest
from proxyd.http.resources import ForwardResource
from proxyd.http.rewriting import Rewriting
from proxyd.model.routes import DEFAULT_OPTIONS, Route
from proxyd.model.upstream import Upstream
from proxyd.testing.harness import Harness
from proxyd.testing.transports import MemoryTransport
from tests.http.support import GET, OK, DataPathTestCase


def shout(response: RewritableResponse) -> None:
    """Change the body, and with it its length."""
    response.body = response.body.upper() + b"!"


class RewritingTests(DataPathTestCase):
    """One route whose responses are rewritten."""

    def setUp(self) -> None:
        self.running: list[Deferred[bytes]] = []
        self.is_slow = False
        self.proxy = Harness(routes={})
        self.rewritten_by(shout)

    def run_later(self, work: Callable[[], bytes]) -> Deferred[bytes]:
        """In place of a thread."""
        if self.is_slow:
            self.running.append(Deferred())
            return self.running[-1]
        return execute(work)

    def rewritten_by(self, *rewriters: Callable[..., Any], **offered: object) -> None:
        """What is done to the responses."""
        clock = self.proxy.clock
        rewriting = Rewriting(
            rewriters=rewriters, run=self.run_later, clock=clock, max_body=10, max_seconds=5, offered=offered
        )
        upstream = Upstream.parse("http://up.test:81")
        pool = self.proxy.pools.of(upstream)
        route = Route("/", upstream, ())
        resource = ForwardResource(route, DEFAULT_OPTIONS, pool, self.proxy.config.timeouts, rewriting=rewriting)
        self.proxy.tree.mount((), resource)

    def ask(self, response: bytes, request: bytes = GET) -> MemoryTransport:
        """A client asks, and the upstream answers."""
        client, upstream = self.begin(request)
        upstream.send(response)
        return client

    def test_the_result_is_sent(self) -> None:
        """With its own length, and the connection goes on."""
        client, upstream = self.begin()
        upstream.send(OK)
        answer = self.assert_status(200, client)
        self.assertTrue(answer.endswith(b"\r\n\r\nOK!"), answer)
        self.assertIn(b"Content-Length: 3\r\n", answer)
        client.send(GET)
        self.assertIn(b"GET /x ", upstream.pop())
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        self.assertEqual(b"", client.pop())
        upstream.send(b"1\r\nc\r\n0\r\n\r\n")
        self.assertTrue(client.pop().endswith(b"ABC!"))

    def test_functions_see_the_request(self) -> None:
        """Its body included, and what the resource offers."""
        seen: list[tuple[RewriteRequest, int]] = []
        self.rewritten_by(lambda request, port: seen.append((request, port)), port=81)
        request = b"POST /x?q=1 HTTP/1.1\r\nHost: a.test\r\nCookie: c=1\r\nContent-Length: 4\r\n\r\nab"
        client, upstream = self.begin(request)
        client.send(b"cd")
        self.assertTrue(upstream.pop().endswith(b"abcd"))
        upstream.send(OK)
        self.assert_status(200, client)
        ((asked, port),) = seen
        self.assertEqual(("POST", "/x?q=1", b"abcd", 81), (asked.method, asked.uri, asked.body, port))
        self.assertEqual(("http://a.test/x?q=1", "1"), (asked.full_url(), asked.cookies["c"].value))
        self.assertEqual("192.0.2.1", asked.remote_ip)

    def test_a_location_is_left_to_the_route(self) -> None:
        """What a function set counts."""

        def elsewhere(response: RewritableResponse) -> None:
            response.code = 302
            response.headers["Location"] = "/there"

        self.rewritten_by(elsewhere)
        answer = self.assert_status(302, self.ask(OK))
        self.assertIn(b"HTTP/1.1 302 Found\r\n", answer)
        self.assertIn(b"Location: /there\r\n", answer)

    def test_responses_without_a_body(self) -> None:
        """To HEAD there is none, and no length that would be a lie; 304 has neither."""
        answer = self.assert_status(200, self.ask(OK, GET.replace(b"GET", b"HEAD")))
        self.assertTrue(answer.endswith(b"\r\n\r\n"))
        self.assertNotIn(b"Content-Length", answer)
        answer = self.assert_status(304, self.ask(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"))
        self.assertTrue(b"Etag: x\r\n" in answer and answer.endswith(b"\r\n\r\n"), answer)

    def test_event_streams_pass(self) -> None:
        """At once, and as they are."""
        client = self.ask(b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; x\r\n\r\ndata: 1\n\n")
        self.assertIn(b"data: 1\n\n", self.assert_status(200, client))

    def test_a_response_that_is_too_long(self) -> None:
        """Is the upstream's fault; nothing of it is kept."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b"x" * 11)
        self.assert_status(502, client)
        self.assert_ended(upstream)

    def test_a_request_that_is_too_long_is_kept_in_part(self) -> None:
        """Up to the bound, and without a hole; it is passed on as a whole."""
        seen: list[bytes] = []
        self.rewritten_by(lambda request: seen.append(request.body))
        client, upstream = self.begin(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\nabcd")
        client.send(b"e" * 10)
        self.assertTrue(upstream.pop().endswith(b"abcdeeeeeeeeee"))
        upstream.send(OK)
        self.assert_status(200, client)
        self.assertEqual([b"abcdeeeeee"], seen)

    def test_a_response_that_is_cut(self) -> None:
        """Is an error of the upstream, and no part of it reaches the client."""
        client, upstream = self.begin()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
        upstream.close()
        self.proxy.advance()
        self.assert_status(502, client)

    def test_a_function_that_fails(self) -> None:
        """Is our fault."""
        self.rewritten_by(lambda: 1 / 0)
        self.assert_status(500, self.ask(OK))

    def test_a_function_that_takes_too_long(self) -> None:
        """Is not waited for."""
        self.is_slow = True
        client = self.ask(OK)
        self.proxy.advance(4)
        self.assertEqual(b"", client.pop())
        self.proxy.advance(2)
        self.assert_status(500, client)

    def test_the_rest_of_an_upload(self) -> None:
        """Is not taken while it is worked out what becomes of an early answer."""
        self.is_slow = True
        client, upstream = self.begin(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nab")
        upstream.send(OK)
        self.assertFalse(client.is_reading)
        self.running[0].callback(b"done")
        self.assertTrue(self.assert_status(200, client).endswith(b"done"))
        self.assert_ended(client)

    def test_unexpected_errors_are_logged(self) -> None:
        """And answered."""
        self.is_slow = True
        client = self.ask(OK)
        self.running[0].errback(ZeroDivisionError())
        self.assert_status(500, client)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_a_client_that_leaves(self) -> None:
        """Gets nothing, whatever comes of it."""
        for end in (lambda running: running.callback(b"x"), lambda running: running.errback(ZeroDivisionError())):
            self.is_slow = True
            self.running.clear()
            client = self.ask(OK)
            client.reset()
            self.proxy.advance()
            end(self.running[0])
            self.assertEqual(b"", client.pop())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
