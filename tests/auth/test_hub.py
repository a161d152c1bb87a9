"""Tests of `proxyd.auth.hub`: verdicts on requests, and logins, with a Hub that is scripted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
from twisted.internet import reactor  # noqa: TID251  # that of trial
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from proxyd.auth.environment import AuthEnvironment
from proxyd.auth.hub import HubAuthConfig, HubAuthenticator
from proxyd.core.admission import admitted_fields, admitted_query, answered_fields
from proxyd.core.forward import Peer
from proxyd.core.head import HeadLimits, RequestHead, RequestReader
from proxyd.errors import OptionError
from proxyd.interfaces import IAuthenticator
from proxyd.model.auth import Admit, Answer, Verdict
from proxyd.model.routes import Route
from proxyd.model.upstream import Upstream
from proxyd.option import Seconds
from tests.hub.fake import CLIENT_ID, SCOPE, FakeHub, model_of

KEY = b"k" * 32
ROUTE = Route("/user/alice", Upstream.parse("http://up.test"), ("user", "alice"))
PEER = Peer(b"192.0.2.1", secure=False, trusted=False)
PAGE = "Accept: text/html"
TOKEN, OTHER, STRANGER = "alices-token", "bobs-token", "nobodys-token"
CALLBACK = b"/user/alice/oauth_callback"
WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


def head_of(*fields: str, method: str = "GET", target: str = "/user/alice/x?y=1") -> RequestHead:
    """A request with these fields."""
    return RequestReader(HeadLimits()).read(
        "\r\n".join([f"{method} {target} HTTP/1.1", "Host: a.test", *fields]).encode()
    )


class QuietReactor:
    """The reactor, but that nothing is begun on it that goes on by itself."""

    def callFromThread(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class HubTestCase(TestCase):
    """An authenticator of alice's server, and her Hub."""

    def setUp(self) -> None:
        self.hub = FakeHub(self)
        self.hub.tokens = {TOKEN: model_of("alice", SCOPE), OTHER: model_of("bob", "access:servers!user=bob")}
        self.now = 1000.0
        self.touched: list[bytes] = []
        self.authenticator = self.make()

    def make(
        self,
        environ: dict[str, str] | None = None,
        key: bytes = KEY,
        touch_of: Callable[[bytes], Any] | None = None,
        **options: Any,
    ) -> HubAuthenticator:
        """One with these variables besides the usual ones, and these options."""
        made = HubAuthenticator(
            HubAuthConfig(**options),
            AuthEnvironment(
                seconds=lambda: self.now,
                wall_clock=lambda: self.now,
                trusts=lambda _: False,
                cookie_key=lambda: key,
                reactor=QuietReactor(),
                environ={**self.hub.environ, **(environ or {})},
                touch_of=touch_of or (lambda _: None),
            ),
        )
        self.addCleanup(made._client.close)
        return made

    async def ask(self, *fields: str, method: str = "GET", target: str = "/user/alice/x?y=1", peer: Peer = PEER) -> Any:
        """The verdict on a request."""
        head = head_of(*fields, method=method, target=target)
        verdict = self.authenticator.authenticate(head, peer, ROUTE)
        return await verdict if isinstance(verdict, Deferred) else verdict

    async def call_back(self, query: str, *fields: str, method: str = "GET") -> Answer:
        """What a browser gets that comes back from the Hub."""
        head = head_of(*fields, method=method, target=f"{CALLBACK.decode()}?{query}")
        answer = self.authenticator.serve(head, PEER, CALLBACK, b"?" + query.encode(), b"")
        return await answer if isinstance(answer, Deferred) else answer

    async def begin(self, *fields: str, target: str = "/user/alice/x?y=1") -> tuple[str, str]:
        """Where a browser is sent to log in, and the cookie that it gets."""
        answer = await self.ask(PAGE, *fields, target=target)
        self.assert_refused(answer, 302)
        return location_of(answer), cookies_of(answer)[-1]

    async def log_in(self, token: str = TOKEN, beside: str = "") -> str:
        """The Cookie field of a browser that has just logged in; `beside` are cookies that it has already."""
        location, cookie = await self.begin()
        answer = await self.call_back(self.hub.authorize(location, token), f"Cookie: {cookie}{beside}")
        self.assert_refused(answer, 302)
        return f"Cookie: {cookies_of(answer)[-1]}"

    def assert_admitted(self, verdict: Verdict, name: str = "alice") -> Admit:
        """It is in."""
        assert isinstance(verdict, Admit), verdict
        self.assertEqual(verdict.identity.name, name)
        return verdict

    def assert_refused(self, verdict: Verdict, status: int) -> Answer:
        """It is not; and nothing of what was shown is told."""
        assert isinstance(verdict, Answer), verdict
        self.assertEqual(verdict.status, status, verdict)
        for token in (TOKEN, OTHER, STRANGER):
            self.assertNotIn(token, repr(verdict))
        return verdict


def location_of(answer: Answer) -> str:
    """Where an answer leads."""
    (line,) = (line for line in answer.fields if line.startswith(b"Location: "))
    return line.removeprefix(b"Location: ").decode()


def set_cookies(answer: Answer) -> list[str]:
    """The Set-Cookie fields of an answer."""
    return [line.removeprefix(b"Set-Cookie: ").decode() for line in answer.fields if line.startswith(b"Set-Cookie: ")]


def cookies_of(answer: Answer) -> list[str]:
    """The pairs that a browser keeps of an answer."""
    return [line.partition(";")[0] for line in set_cookies(answer) if "Max-Age=0" not in line]


def deleted_by(answer: Answer) -> list[str]:
    """The names that a browser forgets after an answer."""
    return [line.partition("=")[0] for line in set_cookies(answer) if "Max-Age=0" in line]


class TokenTests(HubTestCase):
    """Programs show a token of the Hub's."""

    async def test_the_seam(self) -> None:
        """It is an authenticator."""
        verifyObject(IAuthenticator, self.authenticator)
        self.assertEqual(self.authenticator.paths, {CALLBACK})

    async def test_forms(self) -> None:
        """Of Authorization; other schemes are not ours."""
        for value, is_in in (
            (f"token {TOKEN}", True),
            (f"Token  {TOKEN}", True),
            (f"bearer {TOKEN}", True),
            (f"BEARER   {TOKEN}", True),
            (f"Basic {TOKEN}", False),
            (TOKEN, False),
            (f"token {TOKEN} x", False),
            ("token", False),
        ):
            verdict = await self.ask(f"Authorization: {value}")
            self.assertEqual(isinstance(verdict, Admit), is_in, value)
        verdict = await self.ask(f"Authorization: token {TOKEN}", f"Authorization: token {TOKEN}")
        self.assert_refused(verdict, 403)

    async def test_in_the_url(self) -> None:
        """Only if it is allowed, or for a WebSocket; it goes no further then."""
        target = f"/user/alice/x?a=1&token={TOKEN}&b=2"
        self.assert_refused(await self.ask(target=target), 403)
        other = [field.replace("websocket", "h2c") for field in WEBSOCKET]
        self.assert_refused(await self.ask(*other, target=target), 403)
        self.assert_refused(await self.ask(*WEBSOCKET, method="POST", target=target), 403)
        admit = self.assert_admitted(await self.ask(*WEBSOCKET, target=target))
        self.assertEqual(admitted_query(b"?a=1&token=x&b=2", admit), b"?a=1&b=2")
        self.authenticator = self.make({"JUPYTERHUB_ALLOW_TOKEN_IN_URL": "1"})
        admit = self.assert_admitted(await self.ask("Authorization: token theirs", target=target))
        fields = [b"Authorization: token theirs"]
        self.assertEqual(admitted_fields(fields, admit), fields)
        self.assert_refused(await self.ask(target=target + "&token=x"), 403)

    async def test_what_was_shown_goes_no_further(self) -> None:
        """But what was not used as a credential stays."""
        admit = self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}"))
        self.assertEqual(admitted_fields([b"authorization: token x", b"A: b"], admit), [b"A: b"])
        self.assertEqual(admitted_query(b"?token=theirs", admit), b"?token=theirs")
        for allowed in ("", "1"):  # of the two, the one or the other is what lets them in
            self.authenticator = self.make({"JUPYTERHUB_ALLOW_TOKEN_IN_URL": allowed})
            query = f"?token={TOKEN}&a=1&token=theirs" if not allowed else f"?token={TOKEN}&a=1"
            field = f"Authorization: Bearer {TOKEN}"
            admit = self.assert_admitted(await self.ask(field, target=f"/user/alice/x{query}"))
            self.assertEqual(admitted_fields([field.encode()], admit), [])
            self.assertEqual(admitted_query(query.encode(), admit), b"?a=1")
        cookie = await self.log_in()
        admit = self.assert_admitted(await self.ask(cookie, "Authorization: Bearer of-the-application"))
        kept = [b"Authorization: Bearer of-the-application"]
        self.assertEqual(admitted_fields(kept, admit), kept)

    async def test_outcomes(self) -> None:
        """For who is not known, and for who is but may not."""
        known = f"Authorization: token {OTHER}"
        for credentials, page, other, websocket in ((), 302, 403, 403), ((known,), 403, 403, 403):
            for accept in (PAGE, "Accept: */*", "Accept: application/json, */*;q=0.1"):
                self.assert_refused(await self.ask(*credentials, accept), page)
            self.assert_refused(await self.ask(*credentials, PAGE, method="HEAD"), page)
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"):
                self.assert_refused(await self.ask(*credentials, PAGE, method=method), other)
            self.assert_refused(await self.ask(*credentials, PAGE, *WEBSOCKET), websocket)
            self.assert_refused(await self.ask(*credentials, "Accept: application/json"), 403)
            self.assert_refused(await self.ask(*credentials), 403)
            self.assert_refused(await self.ask(*credentials, "Accept: */*", "Sec-Fetch-Mode: cors"), 403)
        answer = self.assert_refused(await self.ask(known, PAGE), 403)
        self.assertIn(b"bob is logged in", answer.body or b"")
        self.hub.tokens[OTHER] = model_of("<b>", "x")
        self.now += 3600
        answer = self.assert_refused(await self.ask(known, PAGE), 403)
        self.assertIn(b"&lt;b&gt; is logged in", answer.body or b"")

    async def test_a_bad_token_is_no_token(self) -> None:
        """The cookie beside it counts."""
        cookie = await self.log_in()
        self.assert_admitted(await self.ask(cookie, f"Authorization: token {STRANGER}"))
        self.assert_refused(await self.ask(cookie, f"Authorization: token {OTHER}"), 403)

    async def test_users_tokens_are_asked_for_with_themselves(self) -> None:
        """Ours is not shown in their place."""
        await self.ask(f"Authorization: token {TOKEN}")
        (asked,) = self.hub.of_path("/hub/api/user")
        self.assertEqual(asked[2]["authorization"], f"token {TOKEN}")


class FaultTests(HubTestCase):
    """Nobody gets in while the Hub does not say who it is."""

    async def test_answers(self) -> None:
        """Each fault has its status, and none is remembered."""
        for said, status in (
            ((500, b""), 502),
            ((503, b""), 502),
            ((404, b""), 500),
            ((401, b""), 500),
            ((302, b""), 500),
            ((200, b"<html>"), 502),
            ((200, b"{}"), 502),
            ((200, b"x" * 2_000_000), 503),
        ):
            self.hub.say = lambda _, said=said: said  # type: ignore[misc]
            self.assert_refused(await self.ask(f"Authorization: token {TOKEN}"), status)
            self.assert_refused(await self.ask(f"Authorization: token {TOKEN}", PAGE), status)
        self.hub.say = None
        self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}"))

    async def test_a_hub_that_is_silent(self) -> None:
        """Costs as long as `timeout`; who was known a moment ago still is."""
        self.authenticator = self.make(timeout=Seconds(0.3))
        self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}"))
        self.hub.say = self.hub.hang  # type: ignore[assignment]
        self.assert_refused(await self.ask("Authorization: token unknown"), 503)
        self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}"))
        self.now += 61
        self.assert_refused(await self.ask(f"Authorization: token {TOKEN}"), 503)
        self.hub.released.set()

    async def test_a_hub_that_is_down(self) -> None:
        """Is as good as one that says nothing."""
        cookie = await self.log_in()
        self.assert_admitted(await self.ask(cookie))
        self.hub.close()
        self.assert_admitted(await self.ask(cookie))
        self.now += 61
        answer = self.assert_refused(await self.ask(cookie, PAGE), 503)
        self.assertEqual(set_cookies(answer), [])  # it may be good again in a minute
        self.assertIn(b"Retry-After: 5", answer.fields)
        self.assertIn(b"The Hub cannot be asked: ConnectionRefusedError.", answer.body or b"")
        answer = self.assert_refused(await self.ask(cookie), 503)
        self.assertEqual((answer.body, answer.detail), (None, "the Hub cannot be asked: ConnectionRefusedError"))


class RememberedTests(HubTestCase):
    """What the Hub has said counts for a while."""

    async def test_how_long(self) -> None:
        """A minute for who is known, a moment for who is not."""
        for token, seconds in ((TOKEN, 60), (STRANGER, 5)):
            before = self.hub.questions
            for _ in range(3):
                await self.ask(f"Authorization: token {token}")
            self.assertEqual(self.hub.questions, before + 1)
            self.now += seconds
            await self.ask(f"Authorization: token {token}")
            self.assertEqual(self.hub.questions, before + 2)

    async def test_a_logout_counts_at_once(self) -> None:
        """The browser's session at the Hub is another one then, or none."""
        session = "; jupyterhub-session-id=s1"
        cookie = await self.log_in(beside=session) + session
        self.assert_admitted(await self.ask(cookie))
        del self.hub.tokens[TOKEN]
        self.assert_admitted(await self.ask(cookie))
        answer = self.assert_refused(await self.ask(cookie.replace("s1", "s2"), PAGE), 302)
        self.assertEqual(deleted_by(answer), [CLIENT_ID])
        answer = self.assert_refused(await self.ask(cookie.partition(";")[0]), 403)
        self.assertEqual(deleted_by(answer), [CLIENT_ID])


class LoginTests(HubTestCase):
    """People log in at the Hub."""

    async def test_the_whole_way(self) -> None:
        """To the Hub, back with a code, and to what was asked for."""
        location, cookie = await self.begin(target="/user/alice/a%2Fb?c=d%20e")
        url = urlsplit(location)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.assertEqual((url.netloc, url.path), ("", "/hub/api/oauth2/authorize"))
        self.assertEqual(set(query), {
            "client_id", "redirect_uri", "response_type", "code_challenge", "code_challenge_method", "state",
        })  # fmt: skip
        self.assertEqual(query["redirect_uri"], CALLBACK.decode())
        self.assertEqual(len(query["code_challenge"]), 43)
        self.assertNotIn(query["state"], cookie)
        answer = await self.call_back(self.hub.authorize(location, TOKEN), f"Cookie: {cookie}")
        self.assertEqual((answer.status, location_of(answer)), (302, "/user/alice/a%2Fb?c=d%20e"))
        self.assertEqual(deleted_by(answer), [f"{CLIENT_ID}-oauth-state"])
        (kept,) = cookies_of(answer)
        self.assertNotIn(TOKEN, kept)
        self.assert_admitted(await self.ask(f"Cookie: {kept}"))
        (asked,) = self.hub.of_path("/hub/api/oauth2/token")
        form = parse_qs(asked[3].decode())
        self.assertEqual(set(form), {
            "grant_type", "code", "client_id", "client_secret", "redirect_uri", "code_verifier",
        })  # fmt: skip
        self.assertEqual(form["redirect_uri"], [CALLBACK.decode()])

    async def test_attributes(self) -> None:
        """Of the cookies: the path of the server, out of reach for scripts, Secure where the browser speaks https."""
        answer = await self.ask(PAGE)
        (attempt,) = set_cookies(answer)
        self.assertTrue(attempt.startswith(f"{CLIENT_ID}-oauth-state="))
        self.assertTrue(attempt.endswith("; Path=/user/alice/; Max-Age=600; HttpOnly; SameSite=Lax"), attempt)
        for fields, environ, is_secure in (
            ((), {}, False),
            (("X-Forwarded-Proto: https,http",), {}, True),
            (("X-Forwarded-Proto: http,https",), {}, False),
            (("X-Scheme: https",), {}, True),
            (("Forwarded: for=x;proto=https",), {}, True),
            ((), {"JUPYTERHUB_PUBLIC_URL": "https://hub.test/user/alice/"}, True),
            ((), {"JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "1"}, True),
            ((), {"JUPYTERHUB_COOKIE_OPTIONS": '{"secure": true, "samesite": "None"}'}, True),
            ((), {"cookie_same_site": "none", "cookie_secure": True, "cookie_lifetime": 2592000.0}, True),
        ):
            variables = {name: value for name, value in environ.items() if name.isupper()}
            options = {name: value for name, value in environ.items() if not name.isupper()}
            self.authenticator = self.make(variables, **options)
            location, cookie = await self.begin(*fields)
            answer = await self.call_back(self.hub.authorize(location, TOKEN), f"Cookie: {cookie}", *fields)
            deleted, kept = set_cookies(answer)
            for line in (deleted, kept):
                self.assertEqual("; Secure" in line, is_secure, line)
                path = "/" if "COOKIE_HOST" in str(environ) else "/user/alice/"
                self.assertIn(f"; Path={path}; ", line)
            self.assertEqual(kept.startswith("__Host-"), "COOKIE_HOST" in str(environ))
            self.assertIn("Max-Age=2592000; HttpOnly", kept)
            self.assertIn("SameSite=None" if "none" in str(environ).lower() else "SameSite=Lax", kept)
            name = kept.partition(";")[0]
            self.assert_admitted(await self.ask(f"Cookie: {name}", "Sec-Fetch-Site: cross-site"))

    async def test_attributes_that_are_not_taken(self) -> None:
        """A cookie has no domain."""
        self.authenticator = self.make({"JUPYTERHUB_COOKIE_OPTIONS": '{"Domain": ".test", "path": "/"}'})
        (line,) = set_cookies(await self.ask(PAGE))
        self.assertNotIn("omain", line)
        self.assertIn("Path=/user/alice/", line)

    async def test_another_host(self) -> None:
        """With a host for each user, the Hub is elsewhere; and the Hub may have a path."""
        self.authenticator = self.make({
            "JUPYTERHUB_HOST": "http://hub.test:8000",
            "JUPYTERHUB_BASE_URL": "/jh/",
            "JUPYTERHUB_SERVICE_PREFIX": "/jh/user/alice",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": "http://alice.hub.test:8000/jh/user/alice/oauth_callback",
        })  # fmt: skip
        self.assertEqual(self.authenticator.paths, {b"/jh/user/alice/oauth_callback"})
        location, _ = await self.begin(target="/jh/user/alice/")
        self.assertTrue(location.startswith("http://hub.test:8000/jh/hub/api/oauth2/authorize?"))
        self.assertIn("redirect_uri=http%3A%2F%2Falice.hub.test%3A8000%2Fjh%2Fuser%2Falice%2Foauth_callback", location)

    async def test_at_the_root(self) -> None:
        """Of a host of its own."""
        environ = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_OAUTH_CALLBACK_URL": ""}
        self.authenticator = self.make(environ)
        self.assertEqual(self.authenticator.paths, {b"/oauth_callback"})
        (line,) = set_cookies(await self.ask(PAGE, target="/x"))
        self.assertIn("; Path=/; ", line)

    async def test_parallel_tabs(self) -> None:
        """Each attempt has its own cookie; the tab that comes last finds a login."""
        first, one = await self.begin(target="/user/alice/one")
        second, two = await self.begin(f"Cookie: {one}", target="/user/alice/two")
        self.assertRegex(two, rf"^{CLIENT_ID}-oauth-state-[A-Za-z]{{8}}=")
        both = f"Cookie: {one}; {two}"
        answer = await self.call_back(self.hub.authorize(second, TOKEN), both)
        self.assertEqual(location_of(answer), "/user/alice/two")
        self.assertEqual(len(deleted_by(answer)), 2)
        (login,) = cookies_of(answer)
        query = self.hub.authorize(first, TOKEN)
        answer = await self.call_back(query, f"Cookie: {one}; {login}")
        self.assertEqual(location_of(answer), "/user/alice/one")
        # Its own cookie was taken away by the first one; where it led to is known all the same.
        answer = await self.call_back(query, f"Cookie: {login}")
        self.assertEqual((answer.status, location_of(answer)), (302, "/user/alice/one"))
        answer = await self.call_back("code=x&state=unknown", f"Cookie: {login}")
        self.assertEqual((answer.status, location_of(answer)), (302, "/user/alice/"))

    async def test_twenty_tabs_at_once(self) -> None:
        """None has the cookie of another one when it asks, and none takes the cookie of another one away."""
        targets = [f"/user/alice/tab{number}" for number in range(20)]
        begun = [await self.begin(target=target) for target in targets]
        jar = dict(cookie.partition("=")[::2] for _, cookie in begun)
        self.assertEqual(len(jar), 20)
        self.assertEqual(min(jar), f"{CLIENT_ID}-oauth-state")
        for (location, _), target in zip(begun, targets, strict=True):
            cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
            answer = await self.call_back(self.hub.authorize(location, TOKEN), f"Cookie: {cookies}")
            self.assertEqual((answer.status, location_of(answer)), (302, target))
            for name in deleted_by(answer):
                jar.pop(name, None)
            jar.update(cookie.partition("=")[::2] for cookie in cookies_of(answer))
        self.assertEqual(list(jar), [CLIENT_ID])
        self.assertEqual(len(self.hub.of_path("/hub/api/oauth2/token")), 1)
        self.now += 60
        _, cookie = await self.begin()
        self.assertTrue(cookie.startswith(f"{CLIENT_ID}-oauth-state="))

    async def test_too_many_attempts(self) -> None:
        """The oldest ones are forgotten: the cookies would not fit a request any more."""
        cookie = "; ".join(f"{CLIENT_ID}-oauth-state-{number}=x" for number in range(30))
        answer = await self.ask(PAGE, f"Cookie: {cookie}")
        self.assertEqual(deleted_by(answer), [f"{CLIENT_ID}-oauth-state-{number}" for number in range(7)])
        self.assertTrue(cookies_of(answer)[0].startswith(f"{CLIENT_ID}-oauth-state="))

    async def test_a_state_counts_once(self) -> None:
        """Even if the browser keeps its cookie."""
        location, cookie = await self.begin()
        self.assertEqual((await self.call_back(self.hub.authorize(location, TOKEN), f"Cookie: {cookie}")).status, 302)
        answer = await self.call_back(self.hub.authorize(location, OTHER), f"Cookie: {cookie}")
        self.assert_refused(answer, 403)
        self.assertEqual(len(self.hub.of_path("/hub/api/oauth2/token")), 1)

    async def test_bad_callbacks(self) -> None:
        """Nobody is logged in by somebody else's."""
        location, cookie = await self.begin()
        good = self.hub.authorize(location, TOKEN)
        other, _ = await self.begin()
        for query, fields, status in (
            ("", (f"Cookie: {cookie}",), 400),
            ("state=x", (f"Cookie: {cookie}",), 400),
            ("code=x", (f"Cookie: {cookie}",), 400),
            ("error=access_denied&error_description=%3Cb%3E&state=x", (f"Cookie: {cookie}",), 400),
            (good, (), 403),
            (good, (f"Cookie: {CLIENT_ID}-oauth-state=forged",), 403),
            (good, (f"Cookie: other-oauth-state={cookie.partition('=')[2]}",), 403),
            (self.hub.authorize(other, TOKEN), (f"Cookie: {cookie}",), 403),
        ):
            answer = await self.call_back(query, *fields)
            self.assert_refused(answer, status)
            self.assertEqual(cookies_of(answer), [], query)
            self.assertNotIn(b"<b>", answer.body or b"")
        self.assertEqual(self.hub.of_path("/hub/api/oauth2/token"), [])
        self.assert_refused(await self.call_back(good, f"Cookie: {cookie}", method="POST"), 405)
        self.now += 600
        self.assert_refused(await self.call_back(good, f"Cookie: {cookie}"), 403)
        login = self.authenticator._logins.seal(TOKEN.encode(), self.now + 10).decode()
        self.hub.close()
        self.assert_refused(await self.call_back(good, f"Cookie: {CLIENT_ID}={login}"), 403)

    async def test_exchanges_that_fail(self) -> None:
        """End on a page that leads to another attempt, and set nothing."""
        cases: list[tuple[Callable[[], object], int]] = [
            (self.hub.codes.clear, 403),
            (lambda: setattr(self.hub, "secret", "rotated"), 500),
            (lambda: setattr(self.hub, "say", lambda _: (500, b"")), 502),
            (lambda: setattr(self.hub, "say", lambda _: (200, b"[]")), 502),
            (lambda: setattr(self.hub, "say", lambda _: (200, b'{"access_token": ""}')), 502),
            (self.hub.tokens.clear, 500),
            (self.hub.close, 503),
        ]
        for spoil, status in cases:
            self.hub.secret, self.hub.say = self.hub.environ["JUPYTERHUB_API_TOKEN"], None
            location, cookie = await self.begin()
            query = self.hub.authorize(location, TOKEN)
            spoil()
            answer = await self.call_back(query, f"Cookie: {cookie}")
            self.assert_refused(answer, status)
            self.assertEqual(cookies_of(answer), [])
            self.assertIn(b'<a href="/user/alice/">Log in again</a>', answer.body or b"")

    async def test_a_login_leads_nowhere_else(self) -> None:
        """Than to a path below the prefix of the server."""
        self.authenticator = self.make({"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_OAUTH_CALLBACK_URL": ""})
        for target, expected in (
            ("/x?next=//evil.test", "/x?next=//evil.test"),
            ("//evil.test/", "/"),
            ("///evil.test/", "/"),
            ("/%2Fevil.test/", "/"),
            ("/%2f%2fevil.test/", "/"),
            ("/%5Cevil.test", "/"),
            ("/oauth_callback?code=x", "/"),
            ("/" + "x" * 3000, "/"),
        ):
            location, cookie = await self.begin(target=target)
            query = self.hub.authorize(location, TOKEN)
            head = head_of(f"Cookie: {cookie}", target="/oauth_callback")
            answer = await self.authenticator.serve(head, PEER, b"/oauth_callback", b"?" + query.encode(), b"")  # type: ignore[misc]
            self.assertEqual(location_of(answer), expected, target)

    async def test_a_long_name(self) -> None:
        """Of a hundred letters that are not Latin: browsers keep no cookies of more than 4096 bytes."""
        for client_id in ("jupyterhub-user-" + "%D1%8F" * 100, "x" * 1000):
            self.hub.client_id = client_id
            self.authenticator = self.make(
                {"JUPYTERHUB_CLIENT_ID": client_id, "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "1"}
            )
            target = "/user/alice/".ljust(2048, "x")
            _, cookie = await self.begin(target=target)
            location, second = await self.begin(f"Cookie: {cookie}", target=target)
            self.assertLessEqual(max(len(cookie), len(second)), 4096)
            answer = await self.call_back(self.hub.authorize(location, TOKEN), f"Cookie: {cookie}; {second}")
            self.assertEqual(location_of(answer), target)
            self.assert_admitted(await self.ask(f"Cookie: {cookies_of(answer)[-1]}"))

    async def test_elsewhere_nobody_is_sent_to_log_in(self) -> None:
        """The cookie would not come there, and the login never end."""
        self.assert_refused(await self.ask(PAGE, target="/other/x"), 403)
        self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}", target="/other/x"))

    async def test_the_prefix_has_one_spelling(self) -> None:
        """Browsers send cookies for the path as it is written; so GET and HEAD are sent to the regular one first."""
        prefix = "/user/dan@example.com/"
        self.authenticator = self.make({"JUPYTERHUB_SERVICE_PREFIX": prefix, "JUPYTERHUB_OAUTH_CALLBACK_URL": ""})
        for target, status in ((prefix.replace("@", "%40") + "a%20b?c", 301), (prefix[:-1] + "?c", 302)):
            for method in ("GET", "HEAD"):
                answer = self.assert_refused(await self.ask(method=method, target=target), status)
                self.assertEqual(location_of(answer), prefix + ("a%20b?c" if status == 301 else "?c"))
            self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}", method="POST", target=target))
            self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}", *WEBSOCKET, target=target))


class CookieTests(HubTestCase):
    """What comes in the Cookie field."""

    async def test_one_that_is_good_among_others(self) -> None:
        """Is enough: a page of a neighbour may have planted some."""
        login = (await self.log_in()).removeprefix("Cookie: ")
        forged = f"{CLIENT_ID}=forged; {CLIENT_ID}={login.partition('=')[2][:-4]}AAAA"
        self.assert_admitted(await self.ask(f"Cookie: {forged}; {login}"))
        self.assert_admitted(await self.ask(f"Cookie: {login}; {forged}"))
        answer = self.assert_refused(await self.ask(f"Cookie: {forged}", PAGE), 302)
        self.assertEqual(deleted_by(answer), [CLIENT_ID])

    async def test_whose_it_is(self) -> None:
        """Not that of another server, nor of another key, nor an attempt, nor a token as it is."""
        login = (await self.log_in()).partition("=")[2]
        _, attempt = await self.begin()
        for value in (TOKEN, attempt.partition("=")[2]):
            self.assert_refused(await self.ask(f"Cookie: {CLIENT_ID}={value}"), 403)
        self.authenticator = self.make({"JUPYTERHUB_CLIENT_ID": f"{CLIENT_ID}-second"})
        self.assert_refused(await self.ask(f"Cookie: {CLIENT_ID}-second={login}; {CLIENT_ID}={login}"), 403)
        self.authenticator = self.make(key=b"x" * 32)
        self.assert_refused(await self.ask(f"Cookie: {CLIENT_ID}={login}"), 403)
        self.authenticator = self.make()
        self.assert_admitted(await self.ask(f"Cookie: {CLIENT_ID}={login}"))
        self.now += 30 * 86400
        self.assert_refused(await self.ask(f"Cookie: {CLIENT_ID}={login}"), 403)

    async def test_what_no_application_gets(self) -> None:
        """Logins, of whichever server, and those of the Hub; nor can it set them."""
        login = await self.log_in()
        cookie = (
            f"{login}; a=1; jupyterhub-session-id=s; jupyterhub-hub-login=h; jupyterhub-services=x; _xsrf=2; "
            f"__Host-{CLIENT_ID}=y; __Host-jupyterhub-hub-login=l; jupyterhub-user-bob=b; "
            f"{CLIENT_ID}-oauth-state-abc=z; proxyd-login=p"
        )
        for fields in ((), WEBSOCKET):
            admit = self.assert_admitted(await self.ask(cookie, *fields))
            self.assertEqual(admitted_fields([cookie.encode()], admit), [b"Cookie: a=1; _xsrf=2"])
            answered = [b"Set-Cookie: %b=evil; Path=/" % CLIENT_ID.encode(), b"Set-Cookie: a=2"]
            self.assertEqual(answered_fields(answered, admit), answered[1:])

    async def test_other_routes_keep_them_back(self) -> None:
        """Their authenticators are told the names; but the route of the Hub itself needs the Hub's."""
        names = self.authenticator._environment.cookies
        self.assertIn(CLIENT_ID.encode(), names)
        self.assertNotIn(b"jupyterhub-session-id", names)


class OriginTests(HubTestCase):
    """Pages of other origins cannot use the login of their reader."""

    async def test_with_a_cookie(self) -> None:
        """Nothing that changes something, and no WebSocket."""
        login = await self.log_in()
        for fields, post, websocket in (
            ((), True, True),
            (("Sec-Fetch-Site: same-origin", "Origin: http://a.test"), True, True),
            (("Sec-Fetch-Site: none",), True, True),
            (("Sec-Fetch-Site: cross-site",), False, False),
            (("Sec-Fetch-Site: same-site",), False, False),
            (("Origin: http://a.test",), True, True),
            (("Origin: http://a.test:80",), True, True),
            (("Origin: http://b.test",), False, False),
            (("Origin: http://a.test:81",), False, False),
            (("Origin: null",), False, False),
            (("Referer: http://a.test/x",), True, True),
            (("Referer: http://b.test/x",), False, True),
        ):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                verdict = await self.ask(login, *fields, method=method)
                self.assertEqual(isinstance(verdict, Admit), post, (fields, method))
            verdict = await self.ask(login, *fields, *WEBSOCKET)
            self.assertEqual(isinstance(verdict, Admit), websocket, fields)
            for method in ("GET", "HEAD", "OPTIONS"):
                self.assert_admitted(await self.ask(login, *fields, method=method))
            for kind in ({"method": "POST"}, {}):
                shown = (*fields, f"Authorization: token {TOKEN}", *(() if kind else WEBSOCKET))
                self.assert_admitted(await self.ask(*shown, **kind))  # type: ignore[arg-type]

    async def test_our_public_host(self) -> None:
        """Is ours, whatever a proxy in front makes of Host."""
        login = await self.log_in()
        self.authenticator = self.make({"JUPYTERHUB_PUBLIC_URL": "https://hub.test/user/alice/"})
        self.assert_admitted(await self.ask(login, *WEBSOCKET, "Origin: https://hub.test"))
        self.assert_refused(await self.ask(login, *WEBSOCKET, "Origin: https://evil.test"), 403)

    async def test_websockets_without_cookies(self) -> None:
        """If it is so wanted; a token still lets in, and the login stays."""
        login = await self.log_in()
        self.authenticator = self.make({"JUPYTERHUB_ALLOW_WEBSOCKET_COOKIE_AUTH": "0"})
        answer = self.assert_refused(await self.ask(login, *WEBSOCKET), 403)
        self.assertEqual(set_cookies(answer), [])
        self.assert_admitted(await self.ask(login, *WEBSOCKET, f"Authorization: token {TOKEN}"))
        self.assert_admitted(await self.ask(login))


class UserInfoTests(HubTestCase):
    """What an application is told of a visitor."""

    INFO = b'{"kind": "user", "name": "alice", "admin": false, "groups": []}'

    async def test_in_a_field_and_in_the_query(self) -> None:
        """If it is so wanted; copies that came are removed in any case."""
        forged = [b"x_cdsdashboards_JH_user: eve", b"A: b", b"X-CDSDASHBOARDS-JH-USER: eve"]
        for field, argument in ((False, False), (True, False), (False, True)):
            self.authenticator = self.make(forward_user_info=field, query_user_info=argument)
            for fields in ((), WEBSOCKET):
                admit = self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}", *fields))
                told = [b"X-CDSDASHBOARDS-JH-USER: " + self.INFO] if field else []
                self.assertEqual(admitted_fields(forged, admit), [b"A: b", *told])
                query = admitted_query(b"?a=1&Cdsdashboards_jh_user=eve", admit)
                if argument:
                    self.assertEqual(parse_qs(query[1:])[b"CDSDASHBOARDS_JH_USER"], [self.INFO])
                else:
                    self.assertEqual(query, b"?a=1")


class HealthTests(HubTestCase):
    """The Hub looks whether the server that it has started answers."""

    async def test_it_is_answered_at_once(self) -> None:
        """Without asking the Hub, which waits for it; with a credential the path is the application's."""
        self.assertIsInstance(self.authenticator.authenticate(head_of(target="/user/alice/api"), PEER, ROUTE), Answer)
        answer = self.assert_refused(await self.ask(target="/user/alice/api"), 200)
        self.assertIn(b"X-JupyterHub-Version: 6.1.1", answer.fields)
        self.assertEqual(self.hub.questions, 0)
        self.assert_refused(await self.ask(target="/user/alice/api", method="POST"), 403)
        self.assert_refused(await self.ask(target="/user/alice/api/x"), 403)
        self.assert_refused(await self.ask(f"Authorization: token {STRANGER}", target="/user/alice/api"), 403)
        self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}", target="/user/alice/api"))

    async def test_another_spelling(self) -> None:
        """The HTTP client of the Hub writes some names in its own way, and the version is looked for all the same."""
        prefix = "/user/a%2Cb/"
        self.authenticator = self.make({"JUPYTERHUB_SERVICE_PREFIX": prefix, "JUPYTERHUB_OAUTH_CALLBACK_URL": ""})
        for target, expected in (("/user/a,b/api", [b"X-JupyterHub-Version: 6.1.1"]), ("/user/a,b/x", [])):
            answer = self.assert_refused(await self.ask(target=target), 301)
            self.assertEqual([b"Location: " + target.replace(",", "%2C").encode(), *expected], list(answer.fields))

    async def test_the_version_is_that_of_the_hub(self) -> None:
        """Once it has told it; nothing else of it is believed."""
        for said, expected in (("5.4.1", b"5.4.1"), ("evil\x01", b"6.1.1"), ("7.0.0b1", b"7.0.0b1")):
            self.hub.version = said
            made = self.make()
            await made._ask_version()
            self.assertIn(b"X-JupyterHub-Version: " + expected, made._answer_probe().fields)

    async def test_a_hub_that_is_not_there_yet(self) -> None:
        """Is looked for a few times more, and nothing depends on it."""
        self.hub.close()
        clock = Clock()
        self.authenticator._environment = attrs.evolve(self.authenticator._environment, reactor=clock)
        asking = Deferred.fromCoroutine(self.authenticator._ask_version())
        for seconds in (1, 2, 4, 8, 16):
            while not clock.getDelayedCalls():
                await deferLater(reactor, 0.01)
            self.assertFalse(asking.called)
            clock.advance(seconds)
        await asking
        self.assertIn(b"X-JupyterHub-Version: 6.1.1", self.authenticator._answer_probe().fields)


class ActivityTests(HubTestCase):
    """Who is admitted is at work; who is not, is not."""

    async def test_what_counts(self) -> None:
        """Not the probe, and no refusal."""
        touched: list[bytes] = []
        self.authenticator = self.make(
            touch_of=lambda path: None if path.endswith(b"/idle") else lambda: touched.append(path)
        )
        for fields, target in (
            ((), "/user/alice/api"),
            ((), "/user/alice/x"),
            ((f"Authorization: token {OTHER}",), "/user/alice/x"),
            ((f"Authorization: token {TOKEN}",), "/user/alice/idle"),
        ):
            await self.ask(*fields, target=target)
        self.assertEqual(touched, [])
        admit = self.assert_admitted(await self.ask(f"Authorization: token {TOKEN}"))
        assert admit.touch is not None
        admit.touch()
        self.assertEqual(touched, [b"/user/alice/x"])


class EnvironmentTests(HubTestCase):
    """What is not in the file is in the environment, or is missed."""

    async def test_what_is_missing_is_named(self) -> None:
        """With its variable."""
        for name, option in (
            ("API_URL", "api_url"),
            ("API_TOKEN", "api_token"),
            ("CLIENT_ID", "client_id"),
            ("OAUTH_ACCESS_SCOPES", "access_scopes"),
        ):
            environ = {**self.hub.environ, "JUPYTERHUB_USER": "", f"JUPYTERHUB_{name}": ""}
            error = self.assertRaises(OptionError, HubAuthConfig().check, environ)
            self.assertEqual(error.path, (option,))
            self.assertIn(f"JUPYTERHUB_{name} ", str(error))
        HubAuthConfig().check(self.hub.environ)
        HubAuthConfig().check({**self.hub.environ, "JUPYTERHUB_API_TOKEN": "", "JPY_API_TOKEN": "x"})

    async def test_what_is_senseless(self) -> None:
        """Is told with the option that would say it."""
        for environ, option in (
            ({"API_URL": "ftp://x"}, "api_url"),
            ({"API_TOKEN": "a b"}, "api_token"),
            ({"CLIENT_ID": "a;b"}, "client_id"),
            ({"CLIENT_ID": "a" * 1001}, "client_id"),
            ({"SERVICE_PREFIX": "user"}, "prefix"),
            ({"SERVICE_PREFIX": "/a;b/"}, "prefix"),
            ({"OAUTH_CALLBACK_URL": "/elsewhere"}, "callback_url"),
            ({"OAUTH_ACCESS_SCOPES": "x"}, "access_scopes"),
            ({"OAUTH_ACCESS_SCOPES": "{}"}, "access_scopes"),
            ({"COOKIE_OPTIONS": "[]"}, "cookie_same_site"),
            ({"COOKIE_OPTIONS": "{"}, "cookie_same_site"),
        ):
            given = {f"JUPYTERHUB_{name}": value for name, value in environ.items()}
            error = self.assertRaises(OptionError, HubAuthConfig().check, {**self.hub.environ, **given})
            self.assertEqual(error.path, (option,), environ)
        self.assertRaises(OptionError, HubAuthConfig, timeout=Seconds(0))
        self.assertRaises(OptionError, HubAuthConfig, known_for=Seconds(-1))

    async def test_our_token_goes_to_our_hub(self) -> None:
        """And to no other one that an option names."""
        error = self.assertRaises(OptionError, HubAuthConfig(api_url="http://evil.test/").check, self.hub.environ)
        self.assertEqual(error.path, ("api_token",))
        HubAuthConfig(api_url=self.hub.api_url + "/").check(self.hub.environ)
        HubAuthConfig(api_url="http://other.test/", api_token="x").check(self.hub.environ)  # type: ignore[arg-type]

    async def test_a_service(self) -> None:
        """Is for those who may use it."""
        environ = {
            "JUPYTERHUB_SERVICE_NAME": "app",
            "JUPYTERHUB_CLIENT_ID": "",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": "",
            "JUPYTERHUB_USER": "",
        }
        self.authenticator = self.make(environ)
        self.assertEqual(self.authenticator._cookies.session, b"service-app")
        self.assert_refused(await self.ask(f"Authorization: token {TOKEN}"), 403)
        self.hub.tokens["t"] = model_of("bob", "access:services!service=app")
        self.assert_admitted(await self.ask("Authorization: token t"), "bob")

    async def test_without_scopes(self) -> None:
        """The user counts, or the group."""
        self.authenticator = self.make({"JUPYTERHUB_OAUTH_ACCESS_SCOPES": "", "JUPYTERHUB_GROUP": "team"})
        self.hub.tokens = {"a": model_of("alice"), "b": model_of("bob", groups=["team"]), "c": model_of("carol")}
        verdicts = [await self.ask(f"Authorization: token {token}") for token in "abc"]
        self.assertEqual([isinstance(verdict, Admit) for verdict in verdicts], [True, True, False])

    async def test_anyone(self) -> None:
        """Whom the Hub knows."""
        self.authenticator = self.make({"JUPYTERHUB_ANYONE": "1"})
        self.assert_admitted(await self.ask(f"Authorization: token {OTHER}"), "bob")
        self.assert_refused(await self.ask(f"Authorization: token {STRANGER}"), 403)

    def test_it_does_not_tell_what_it_holds(self) -> None:
        """Tracebacks show what things are."""
        secret = self.hub.environ["JUPYTERHUB_API_TOKEN"]
        shown = repr((HubAuthConfig(api_token=secret), self.authenticator._settings, self.authenticator._environment))  # type: ignore[arg-type]
        self.assertIsNone(re.search(secret, shown))
