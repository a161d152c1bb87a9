"""Tests of `proxyd.http.guard`: nothing gets behind a guard before it has said yes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from proxyd.auth.token import TokenAuthConfig
from proxyd.core.upgrade import accept_value
from proxyd.errors import ConnectError, RequestError
from proxyd.http.accesslog import JsonLog
from proxyd.http.guard import GuardedResource, OwnPathsResource
from proxyd.model.auth import ANYBODY, Admit, Answer, Identity, Strip
from proxyd.model.routes import Route, RouteOptions
from proxyd.model.settings import Config
from proxyd.model.upstream import Upstream
from proxyd.option import Rate, Secret
from proxyd.testing.harness import Harness, Lines
from proxyd.testing.transports import MemoryTransport
from tests.http.support import GET, OK, DataPathTestCase

POST = b"POST /x?token=t&a=b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)


class ScriptedAuthenticator:
    """Says what the test wants it to say."""

    paths = frozenset({b"/.proxyd/in"})

    def __init__(self) -> None:
        self.verdict: Any = ANYBODY
        self.answer: Any = Answer(200, (b"X: y",), b"mine")
        self.asked: list[Any] = []

    def authenticate(self, head: Any, peer: Any, route: Any) -> Any:
        self.asked.append(route.key)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def serve(self, head: Any, peer: Any, path: bytes, query: bytes, body: bytes) -> Any:
        self.asked.append((path, query, body))
        return self.answer


class GuardTestCase(DataPathTestCase):
    """A route behind a scripted authenticator."""

    def setUp(self) -> None:
        super().setUp()
        self.authenticator = ScriptedAuthenticator()
        tree = self.proxy.tree
        build = tree._build

        def guarded(entry: Any) -> GuardedResource:
            return GuardedResource(build(entry), self.authenticator, entry.route)  # type: ignore[arg-type]

        tree._build = guarded

    def send(self, request: bytes = GET) -> MemoryTransport:
        client = self.proxy.client()
        client.send(request)
        return client

    def assert_nobody_was_called(self) -> None:
        """No upstream has heard of anything."""
        self.proxy.advance()
        self.assertEqual(self.proxy.dialer.dials, [])


class VerdictTests(GuardTestCase):
    """What is said at once."""

    def test_admitted(self) -> None:
        """As it came, if nothing is to be changed."""
        client, upstream = self.begin()
        self.assertTrue(upstream.received.startswith(b"GET /x HTTP/1.1\r\nHost: a.test\r\n"))
        upstream.send(OK)
        self.assert_status(200, client)
        self.assertEqual(self.authenticator.asked, ["/"])

    def test_changed(self) -> None:
        """The upstream gets neither the credentials nor a forged field; the client gets the cookie."""
        self.authenticator.verdict = Admit(
            strip=Strip(
                cookies=frozenset({b"s"}), fields=frozenset({b"authorization"}), arguments=frozenset({b"token"})
            ),
            add=((b"X-User", b"alice"),),
            set_cookies=(b"s=new",),
        )
        fields = b"Cookie: s=1; a=2\r\nAuthorization: token t\r\nX-User: eve\r\nContent-Length: 4\r\n\r\nbody"
        client, upstream = self.begin(POST.replace(b"Content-Length: 4\r\n\r\n", fields))
        sent = upstream.pop()
        self.assertTrue(sent.startswith(b"POST /x?a=b HTTP/1.1\r\n"), sent)
        self.assertTrue(sent.endswith(b"\r\n\r\nbody"), sent)
        self.assertIn(b"\r\nCookie: a=2\r\nX-User: alice\r\n", sent)
        for word in (b"s=1", b"token", b"eve"):
            self.assertNotIn(word, sent)
        upstream.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: s=evil\r\nSet-Cookie: b=3\r\nContent-Length: 0\r\n\r\n")
        answer = client.pop()
        self.assertIn(b"\r\nSet-Cookie: b=3\r\nSet-Cookie: s=new\r\n", answer)
        self.assertNotIn(b"evil", answer)

    def test_cookies_come_with_every_answer(self) -> None:
        """An error page and a 101, too."""
        self.authenticator.verdict = Admit(set_cookies=(b"s=new",))
        client = self.send()
        self.proxy.dialer.dials[-1].fail(ConnectError("up.test:81", "x"))
        self.assertIn(b"\r\nSet-Cookie: s=new\r\n", client.pop())
        client, upstream = self.begin(HANDSHAKE)
        accept = b"Sec-WebSocket-Accept: " + accept_value(KEY)
        upstream.send(b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + accept + b"\r\n\r\n")
        self.assertIn(b"\r\nSet-Cookie: s=new\r\n", self.assert_status(101, client))

    def test_what_happens_is_told(self) -> None:
        """From the beginning to the end of the exchange, and for every piece of a tunnel."""
        touched: list[float] = []
        seconds = self.proxy.clock.seconds
        self.authenticator.verdict = Admit(touch=lambda: touched.append(seconds()))
        client, upstream = self.begin(POST)
        self.proxy.advance(1)
        client.send(b"body")
        self.proxy.advance(1)
        upstream.send(b"HTTP/1.1 404 x\r\nContent-Length: 2\r\n\r\nok")
        self.assert_status(404, client)
        self.assertEqual([round(moment) for moment in touched], [0, 1, 2])
        touched.clear()
        client, upstream = self.begin(HANDSHAKE)
        accept = b"Sec-WebSocket-Accept: " + accept_value(KEY)
        upstream.send(b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + accept + b"\r\n\r\n")
        for side in (client, upstream, client):
            before = len(touched)
            side.send(b"x")
            self.assertEqual(len(touched), before + 1)

    def test_who_it_was_is_logged(self) -> None:
        """As one word, with which nobody can forge another field."""
        for name, shown in (("", "-"), ("alice", "alice"), ('a b"\n', r"a\x20b\x22\x0a")):
            self.authenticator.verdict = Admit(identity=Identity(name))
            self.begin()[1].send(OK)
            self.assertIn(f" - {shown} [", self.proxy.access.lines[-1])
            lines = Lines()
            before = self.proxy.site.access_log
            self.proxy.site.access_log = JsonLog(lines)
            self.begin()[1].send(OK)
            self.proxy.site.access_log = before
            self.assertEqual(json.loads(lines.lines[0]).get("user", ""), name)

    def test_answered(self) -> None:
        """With the answer itself, or with an error page; no upstream is called."""
        self.authenticator.verdict = Answer(302, (b"Location: /in",), b"")
        client = self.send()
        self.assertIn(b"\r\nLocation: /in\r\n", self.assert_status(302, client))
        self.authenticator.verdict = Answer(401, (b"WWW-Authenticate: Bearer", b"Cache-Control: no-store"), detail="no")
        client.send(GET)
        answer = self.assert_status(401, client)
        self.assertIn(b"\r\nWWW-Authenticate: Bearer\r\n", answer)
        self.assertEqual(answer.count(b"Cache-Control"), 1)
        self.assertIn(b"This needs a token or a login.", answer)
        self.assert_nobody_was_called()

    def test_a_refused_body_is_no_request(self) -> None:
        """What comes of it is dropped with the connection."""
        self.authenticator.verdict = Answer(401)
        client = self.send(POST)
        self.assert_status(401, client)
        self.assertTrue(client.write_closed)
        client.send(GET)
        self.proxy.advance(3)
        self.assertEqual(client.pop(), b"")
        self.assert_ended(client)
        whole = self.send(POST + b"body" + GET)
        self.proxy.advance()
        self.assertEqual(whole.pop().count(b"HTTP/1.1 401"), 2)
        self.assert_nobody_was_called()

    def test_a_body_that_waits_for_leave_is_not_asked_for(self) -> None:
        """The final status is all that the client gets."""
        self.authenticator.verdict = Answer(403)
        client = self.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        self.assertNotIn(b"100 Continue", self.assert_status(403, client))

    def test_a_refused_handshake_ends_the_connection(self) -> None:
        """Whatever the answer looks like: what comes behind it are frames, and no requests."""
        self.authenticator.verdict = Answer(403, (b"X: y",), b"another page")
        client = self.send(HANDSHAKE + GET)
        answer = client.pop()
        self.assertEqual(1, answer.count(b"HTTP/1.1 "), answer)
        self.assertIn(b"\r\nConnection: close\r\n", answer)
        self.assert_nobody_was_called()
        self.assertEqual(1, len(self.authenticator.asked))

    def test_websockets(self) -> None:
        """Refused with a status and no page, and never agreed to."""
        self.authenticator.verdict = Answer(403, (b"X: y",))
        client = self.send(HANDSHAKE)
        answer = self.assert_status(403, client)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))
        self.assertIn(b"X: y", answer)
        self.assert_nobody_was_called()

    def test_a_mistake_lets_nobody_through(self) -> None:
        """What raises, and what is no verdict."""
        for verdict in (ValueError("oops"), None, True, "admit"):
            self.authenticator.verdict = verdict
            self.assert_status(500, self.send())
            self.assertEqual(len(self.flushLoggedErrors()), 1, verdict)
        self.authenticator.verdict = RequestError(400, "no")
        self.assert_status(400, self.send())
        self.assert_nobody_was_called()


class WaitingTests(GuardTestCase):
    """The verdict takes its time."""

    def setUp(self) -> None:
        super().setUp()
        self.cancelled: list[object] = []
        self.verdict: Deferred[Any] = Deferred(self.cancelled.append)
        self.authenticator.verdict = self.verdict

    def test_nobody_is_called_meanwhile(self) -> None:
        """Nor is the body read; then everything goes on in order."""
        client = self.send(POST + b"bo")
        self.assertFalse(client.is_reading)
        client.send(b"dy" + GET)
        self.assert_nobody_was_called()
        self.verdict.callback(ANYBODY)
        upstream = self.proxy.accept()
        self.proxy.advance()
        self.assertTrue(upstream.pop().endswith(b"\r\n\r\nbody"))
        self.authenticator.verdict = ANYBODY
        upstream.send(OK)
        self.proxy.advance()
        self.assert_status(200, client)
        self.assertTrue(upstream.pop().startswith(b"GET /x"))

    def test_refused_in_the_end(self) -> None:
        """As if it had been at once."""
        client = self.send(POST + b"bo")
        self.verdict.callback(Answer(403))
        self.assert_status(403, client)
        self.assert_nobody_was_called()

    def test_a_client_that_leaves(self) -> None:
        """Nobody asks any more, and nothing happens when the answer comes all the same."""
        client = self.send()
        client.reset()
        self.proxy.advance()
        self.assertEqual(len(self.cancelled), 1)
        self.assert_nobody_was_called()

    def test_failures(self) -> None:
        """Let nobody through; those that are known have their status."""
        for error, status in ((RequestError(502, "no hub"), 502), (ValueError("oops"), 500)):
            self.authenticator.verdict = Deferred()
            client = self.send()
            self.authenticator.verdict.errback(error)
            self.assert_status(status, client)
            self.assertEqual(len(self.flushLoggedErrors()), status == 500)
        self.assert_nobody_was_called()

    def test_cancelled_by_somebody_else(self) -> None:
        """The client is still there, and gets an answer."""
        client = self.send()
        self.verdict.cancel()
        self.assert_status(500, client)
        self.assertEqual(len(self.flushLoggedErrors(CancelledError)), 1)
        self.assert_nobody_was_called()

    def test_no_verdict_at_all(self) -> None:
        """Is a failure."""
        client = self.send()
        self.verdict.callback(None)
        self.assert_status(500, client)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assert_nobody_was_called()

    def test_errors_of_what_is_behind(self) -> None:
        """Get their pages, as they would at once."""
        self.proxy.add_route("/off", "http://up.test", RouteOptions(websocket="off"))
        client = self.send(HANDSHAKE.replace(b"/x", b"/off"))
        self.verdict.callback(ANYBODY)
        self.assert_status(403, client)

    def test_a_body_that_breaks_meanwhile(self) -> None:
        """A piece that was on its way is looked at: if it is no body, the answer is 400."""
        client = self.send(POST.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"))
        client.protocol.dataReceived(b"2\r\nbo\r\n")
        client.protocol.dataReceived(b"x\r\n")
        self.assert_status(400, client)
        self.assertEqual(len(self.cancelled), 1)
        self.assert_nobody_was_called()


class OwnPathTests(GuardTestCase):
    """The paths of an authenticator."""

    def test_below_a_route(self) -> None:
        """They are served without asking, with the body; the route sees nothing of it."""
        self.authenticator.verdict = Answer(403)
        client = self.send(POST.replace(b"/x", b"/.proxyd/in") + b"bo")
        self.assertEqual(client.pop(), b"")
        client.send(b"dy")
        answer = self.assert_status(200, client)
        self.assertIn(b"\r\nX: y\r\n", answer)
        self.assertTrue(answer.endswith(b"mine"))
        self.assertEqual(self.authenticator.asked, [(b"/.proxyd/in", b"?token=t&a=b", b"body")])
        self.assert_nobody_was_called()

    def test_answers_may_take_their_time(self) -> None:
        """Or fail."""
        for result, status in ((succeed(Answer(204, (), b"")), 204), (Deferred(), 502)):
            self.authenticator.answer = result
            client = self.send(GET.replace(b"/x", b"/.proxyd/in"))
            if not result.called:
                self.assertEqual(client.pop(), b"")
                result.errback(RequestError(502, "no hub"))
            self.assert_status(status, client)

    def test_a_body_has_an_end(self) -> None:
        """Nobody fills our memory before they are known."""
        client = self.send(POST.replace(b"/x", b"/.proxyd/in").replace(b": 4", b": 99999") + b"x" * 70000)
        self.assert_status(413, client)

    def test_mounted_beside_routes(self) -> None:
        """With these paths only, whatever they are called from."""
        self.proxy.tree.mount((".proxyd", "in"), OwnPathsResource(self.authenticator))
        self.assert_status(200, self.send(GET.replace(b"/x", b"/.proxyd/in")))
        self.assert_status(404, self.send(GET.replace(b"/x", b"/.proxyd/in/x")))
        self.assert_status(404, self.send(GET.replace(b"/x", b"/.proxyd/%69n")))

    def test_a_client_that_leaves(self) -> None:
        """In the middle of its body is forgotten."""
        client = self.send(POST.replace(b"/x", b"/.proxyd/in") + b"bo")
        client.reset()
        self.proxy.advance()
        self.assertEqual(self.authenticator.asked, [])


class RateTests(DataPathTestCase):
    """A route takes so many requests."""

    def test_beyond_the_rate(self) -> None:
        """It is 429 with the time to wait, for all clients together; other routes do not notice."""
        self.proxy.add_route("/slow", "http://up.test", RouteOptions(rate=Rate(2, 4)))
        request = GET.replace(b"/x", b"/slow")
        for _ in range(2):
            client, upstream = self.begin(request)
            upstream.send(OK)
            self.assert_status(200, client)
        client = self.proxy.client("192.0.2.77")
        client.send(request)
        answer = self.assert_status(429, client)
        self.assertIn(b"\r\nRetry-After: 2\r\n", answer)
        self.assertIn(b"too many requests", answer)
        client, upstream = self.begin()
        upstream.send(OK)
        self.assert_status(200, client)
        self.proxy.advance(2)
        self.begin(request)

    def test_no_rate_no_resource(self) -> None:
        """Whoever has none pays nothing."""
        self.begin()
        entry = self.proxy.table.get("/")
        assert entry is not None
        self.assertEqual(type(entry.resource).__name__, "ForwardResource")


class TokenTests(SynchronousTestCase):
    """Kind `token`, from end to end."""

    def setUp(self) -> None:
        self.state = Path(self.mktemp())
        self.proxy = Harness(config=Config(auth=TokenAuthConfig(token=Secret("correct-horse"))), state=self.state)

    def ask(self, *fields: bytes, line: bytes = b"GET /x?y=1", body: bytes = b"") -> bytes:
        client = self.proxy.client()
        length = [b"Content-Length: %d" % len(body)] if body else []
        client.send(b"\r\n".join([line + b" HTTP/1.1", b"Host: a.test", *length, *fields, b"", body]))
        return client.pop()

    def test_login(self) -> None:
        """From the first request of a browser to the page, and out again."""
        sent_away = self.ask(b"Accept: text/html")
        self.assertIn(b"\r\nLocation: /.proxyd/login?next=/x%3Fy%3D1\r\n", sent_away)
        self.assertIn(b"<form", self.ask(line=b"GET /.proxyd/login?next=/x%3Fy%3D1"))
        self.assertIn(b"403 Forbidden", self.ask(line=b"POST /.proxyd/login?next=/x%3Fy%3D1", body=b"token=wrong-one"))
        logged_in = self.ask(line=b"POST /.proxyd/login?next=/x%3Fy%3D1", body=b"token=correct-horse")
        self.assertTrue(logged_in.startswith(b"HTTP/1.1 303"))
        self.assertIn(b"\r\nLocation: /x?y=1\r\n", logged_in)
        cookie = logged_in.partition(b"Set-Cookie: ")[2].partition(b";")[0]
        self.assertEqual(self.proxy.dialer.dials, [])
        self.ask(b"Cookie: a=b; " + cookie)
        upstream = self.proxy.accept()
        self.assertIn(b"\r\nCookie: a=b\r\n", upstream.received)
        self.assertNotIn(b"proxyd", upstream.received)
        self.assertIn(b"Max-Age=0", self.ask(line=b"POST /.proxyd/logout"))
        self.assertEqual((self.state / "cookie-key").stat().st_mode & 0o777, 0o600)

    def test_pages_know_nothing_of_requests(self) -> None:
        """Nothing that was sent is in what is answered, but a path to go to."""
        for line in (b"GET /.proxyd/login?next=%3Cscript%3Ex1x", b"POST /.proxyd/login?x1x", b"GET /x1x"):
            answer = self.ask(b"X: x1x", line=line, body=b"token=x1x-x1x-x1x" if line.startswith(b"POST") else b"")
            self.assertNotIn(b"x1x", answer)

    def test_health_checks_ask_nothing(self) -> None:
        """A load balancer has no token."""
        self.assertIn(b"200 OK", self.ask(line=b"GET /healthz"))

    def test_logs_hold_no_token(self) -> None:
        """Whatever is wrong with a request."""
        self.ask(b"Authorization: Bearer correct-horse-not")
        self.ask(line=b"GET /.proxyd/login?token=correct-horse")
        self.ask(line=b"POST /.proxyd/login", body=b"token=correct-horse-not")
        self.assertEqual(len(self.proxy.access.lines), 3)
        self.assertNotIn("correct", "".join(self.proxy.access.lines))

    def test_a_stock_resource_gets_cookies_too(self) -> None:
        """One that knows of nothing but twisted.web."""
        authenticator = ScriptedAuthenticator()
        authenticator.verdict = Admit(set_cookies=(b"s=new",))
        route = Route("/", Upstream.parse("http://up.test"), ())
        root = Resource()
        root.putChild(b"x", GuardedResource(_Stock(), authenticator, route))  # type: ignore[arg-type]
        client = Harness(root=root).client()
        client.send(GET)
        self.assertIn(b"\r\nSet-Cookie: s=new\r\n", client.pop())


class _Stock(Resource):
    """Serves the stock way what a guard hands on."""

    def render_streaming(self, request: Any) -> None:
        request.serve_stock(_Page(), b"/", 0)


class _Page(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"stock"
