"""Tests of `proxyd.auth.forward`: what another service is asked, and what becomes of its answers."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor  # noqa: TID251  # that of trial
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from proxyd.auth.environment import AuthEnvironment
from proxyd.auth.forward import ForwardAuthConfig, ForwardAuthenticator
from proxyd.core.admission import admitted_fields, answered_fields
from proxyd.core.forward import Peer
from proxyd.core.head import HeadLimits, RequestReader
from proxyd.errors import OptionError, RequestError
from proxyd.interfaces import IAuthenticator
from proxyd.model.auth import Admit, Answer, Verdict
from proxyd.model.routes import Route
from proxyd.model.upstream import Upstream
from proxyd.option import Seconds
from tests.hub.fake import FakeHub

ROUTE = Route("/", Upstream.parse("http://up.test"), ())
PEER = Peer(b"192.0.2.1", secure=True, trusted=False)
WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AA==")


class ForwardTests(TestCase):
    """2xx admits; everything else is the client's answer."""

    def setUp(self) -> None:
        self.service = FakeHub(self)
        self.says: Any = (200, b"")
        self.service.say = lambda _: self.says
        self.touched: list[bytes] = []
        self.authenticator = self.make(response_headers=("Remote-User", "Remote-Groups"), hidden_cookies=("sso",))

    def make(self, seconds: float = 5, **options: Any) -> ForwardAuthenticator:
        """One with these options."""
        made = ForwardAuthenticator(
            ForwardAuthConfig(
                url=f"http://127.0.0.1:{self.service.port}/verify/?a=b", timeout=Seconds(seconds), **options
            ),
            AuthEnvironment(
                seconds=reactor.seconds,  # type: ignore[attr-defined]
                wall_clock=lambda: 0.0,
                trusts=lambda _: False,
                cookie_key=lambda: b"",
                reactor=reactor,
                touch_of=lambda path: lambda: self.touched.append(path),
            ),
        )
        self.addCleanup(made._asker.close)
        return made

    async def ask(self, *fields: str, method: str = "GET", target: str = "/x%20y?z=1", peer: Peer = PEER) -> Verdict:
        """The verdict on a request."""
        lines = [f"{method} {target} HTTP/1.1", "Host: a.test:8443", *fields]
        head = RequestReader(HeadLimits()).read("\r\n".join(lines).encode())
        return await self.authenticator.authenticate(head, peer, ROUTE)

    async def test_the_question(self) -> None:
        """The request without its body, and what it was; nobody else can say that."""
        verifyObject(IAuthenticator, self.authenticator)
        await self.ask(
            "Cookie: sso=1; a=2", "Authorization: Basic x", "Content-Length: 7", "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-Uri: /evil", "X_Forwarded_Method: EVIL", "x-forwarded_proto: http", "Accept: */*",
            "X-Original-URL: http://a.test/evil", "X-Original-Method: EVIL", "X_Rewrite_Url: /evil",
            "Referer: /r", "Expect: 100-continue", method="POST",
        )  # fmt: skip
        ((method, path, fields, body),) = self.service.asked
        self.assertEqual((method, path, body), ("GET", "/verify/?a=b", b""))
        for name, value in (
            ("x-forwarded-method", "POST"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.test:8443"),
            ("x-forwarded-uri", "/x%20y?z=1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("cookie", "sso=1; a=2"),
            ("authorization", "Basic x"),
            ("referer", "/r"),
        ):
            self.assertEqual(fields.pop(name), value, name)
        self.assertNotRegex(repr(fields), "(?i)evil|6.6.6.6|expect")
        await self.ask(*WEBSOCKET)
        self.assertEqual(self.service.asked[-1][2]["x-forwarded-proto"], "https")

    async def test_the_service_is_asked_for_what_the_upstream_would_get(self) -> None:
        """Without dot segments: it may decide by a prefix, and that has to be the one of the route that answers."""
        for target, asked in (
            ("/public/../admin?x=/../y", "/admin?x=/../y"),
            ("/public/%2E%2e/admin", "/admin"),
            ("http://a.test/./admin", "/admin"),
            ("/public/..%2fadmin", "/public/..%2fadmin"),
        ):
            await self.ask(target=target)
            self.assertEqual(self.service.asked[-1][2]["x-forwarded-uri"], asked)

    async def test_a_trusted_proxy_in_front(self) -> None:
        """Knows the client."""
        peer = Peer(b"127.0.0.1", secure=False, trusted=True)
        await self.ask("X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: h.test", peer=peer)
        fields = self.service.asked[-1][2]
        self.assertEqual(
            [fields[f"x-forwarded-{name}"] for name in ("for", "proto", "host")],
            ["192.0.2.9,127.0.0.1", "https", "h.test"],
        )

    async def test_it_admits(self) -> None:
        """The upstream gets what is configured, from nobody else; the client gets the cookies."""
        self.says = 204, b"", ("remote-user", "alice"), ("Set-Cookie", "sso=2"), ("X-Other", "x"), ("Set-Cookie", "b=3")
        for fields in ((), WEBSOCKET):
            admit = await self.ask("Cookie: sso=1", *fields)
            assert isinstance(admit, Admit), admit
            self.assertEqual(admit.identity.name, "alice")
            came = [b"Remote_User: eve", b"REMOTE-GROUPS: admins", b"A: b", b"Cookie: sso=1; a=2"]
            self.assertEqual(admitted_fields(came, admit), [b"A: b", b"Cookie: a=2", b"Remote-User: alice"])
            self.assertEqual(answered_fields([], admit), [b"Set-Cookie: sso=2", b"Set-Cookie: b=3"])
            assert admit.touch is not None
            admit.touch()
        self.assertEqual(self.touched, [b"/x%20y"] * 2)
        self.authenticator = self.make(set_cookies=False)
        admit = await self.ask()
        assert isinstance(admit, Admit), admit
        self.assertEqual((admit.set_cookies, admit.add), ((), ()))

    async def test_it_does_not(self) -> None:
        """Redirects and cookies of the service are the client's, but for what concerns the connection."""
        for status in (301, 302, 303, 307, 401, 403, 404, 429, 500, 503):
            self.says = status, b"<p>no", ("Location", "https://login.test/?rd=x"), ("Set-Cookie", "sso=2"), ("TE", "x")
            for fields in ((), WEBSOCKET):
                answer = await self.ask(*fields)
                assert isinstance(answer, Answer), answer
                self.assertEqual((answer.status, answer.body), (status, b"<p>no"))
                self.assertIn(b"Location: https://login.test/?rd=x", answer.fields)
                self.assertIn(b"Set-Cookie: sso=2", answer.fields)
                self.assertNotRegex(repr(answer.fields).lower(), "te: x|content-length|connection|server|date")
        self.assertEqual(self.touched, [])

    async def test_faults_admit_nobody(self) -> None:
        """A service that is down, or silent, or says too much."""
        self.authenticator = self.make(0.3)
        self.says = 200, b"x" * 2_000_000
        error = await self.assertFailure(self.ask_later(), RequestError)
        self.assertEqual(error.status, 503)
        self.service.say = self.service.hang
        error = await self.assertFailure(self.ask_later(), RequestError)
        self.assertEqual((error.status, str(error)), (503, "the service of auth did not answer in time"))
        self.service.close()
        error = await self.assertFailure(self.ask_later(), RequestError)
        self.assertEqual(error.status, 503)

    def ask_later(self) -> Any:
        """A Deferred of a verdict."""
        head = RequestReader(HeadLimits()).read(b"GET / HTTP/1.1\r\nHost: a")
        return self.authenticator.authenticate(head, PEER, ROUTE)

    def test_options(self) -> None:
        """What can be no question is refused."""
        for options, path in (
            ({}, ("url",)),
            ({"url": "x"}, ("url",)),
            ({"url": "http://[x"}, ("url",)),
            ({"url": "http://a", "timeout": 0}, ("timeout",)),
            ({"url": "http://a", "response_headers": ("A", "b c")}, ("response_headers", 1)),
            ({"url": "http://a", "response_headers": ("",)}, ("response_headers", 0)),
            ({"url": "http://a", "response_headers": ("Content-Length",)}, ("response_headers", 0)),
            ({"url": "http://a", "response_headers": ("X-A", "Host")}, ("response_headers", 1)),
            ({"url": "http://a", "response_headers": ("x-forwarded-for",)}, ("response_headers", 0)),
        ):
            error = self.assertRaises(OptionError, ForwardAuthConfig, **options)
            self.assertEqual(error.path, path, options)
        head = RequestReader(HeadLimits()).read(b"GET / HTTP/1.1\r\nHost: a")
        self.assertEqual(self.authenticator.serve(head, PEER, b"/", b"", b"").status, 404)
