"""Tests of `proxyd.auth.token` and `proxyd.auth.anonymous`: verdicts, one request after the other."""

from __future__ import annotations

from functools import partial
from urllib.parse import quote

import attrs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.auth.anonymous import AnonymousAuthenticator
from proxyd.auth.environment import AuthEnvironment
from proxyd.auth.token import TokenAuthConfig, TokenAuthenticator
from proxyd.core.admission import admitted_fields, admitted_query
from proxyd.core.forward import Peer
from proxyd.core.head import HeadLimits, RequestHead, RequestReader
from proxyd.core.sealed import Sealer
from proxyd.errors import OptionError
from proxyd.interfaces import IAuthenticator
from proxyd.model.auth import ANYBODY, Admit, AnonymousAuthConfig, Answer, Verdict
from proxyd.model.routes import Route, RouteOptions
from proxyd.model.upstream import Upstream
from proxyd.option import Seconds, Secret

TOKEN = "correct-horse"
OTHER = "battery-staple"
KEY = b"k" * 32
ROUTE = Route("/", Upstream.parse("http://up.test"), ())
PEER = Peer(b"192.0.2.1", secure=False, trusted=False)
ENVIRONMENT = AuthEnvironment(
    seconds=lambda: 0.0, wall_clock=lambda: 0.0, trusts=lambda _: False, cookie_key=lambda: KEY
)
HTML = "Accept: text/html"
LOGIN, LOGOUT = b"/.proxyd/login", b"/.proxyd/logout"


def head_of(*fields: str, method: str = "GET", target: str = "/x?y=1") -> RequestHead:
    """A request with these fields."""
    return RequestReader(HeadLimits()).read(
        "\r\n".join([f"{method} {target} HTTP/1.1", "Host: a.test", *fields]).encode()
    )


class ConfigTests(SynchronousTestCase):
    """What is no token is refused before anybody can use it."""

    def test_tokens(self) -> None:
        """One, or several; an empty one, as from an empty variable, would let everybody in."""
        self.assertEqual(TokenAuthConfig(token=Secret(TOKEN)).all_tokens, (TOKEN,))
        both = TokenAuthConfig(token=Secret(TOKEN), tokens=(Secret(OTHER),))
        self.assertEqual(both.all_tokens, (TOKEN, OTHER))
        self.assertEqual(TokenAuthConfig(tokens=(Secret(OTHER),)).all_tokens, (OTHER,))

    def test_it_does_not_tell_what_it_holds(self) -> None:
        """Tracebacks and logs show what things are."""
        config = TokenAuthConfig(token=Secret(TOKEN), tokens=(Secret(OTHER),))
        self.assertNotRegex(repr((config, RouteOptions(auth=config))), f"{TOKEN}|{OTHER}")

    def test_bad_tokens(self) -> None:
        """Each with the place it stands at, and none of them repeated."""
        for options, path in (
            ({}, ("token",)),
            ({"tokens": ()}, ("token",)),
            ({"token": "seven77"}, ("token",)),
            ({"token": "with a blank"}, ("token",)),
            ({"token": "umlaut-ä-ö-ü"}, ("token",)),
            ({"token": TOKEN, "tokens": (OTHER, "")}, ("tokens", 1)),
            ({"tokens": (OTHER, "short")}, ("tokens", 1)),
            ({"token": TOKEN, "login_lifetime": 0.0}, ("login_lifetime",)),
        ):
            error = self.assertRaises(OptionError, TokenAuthConfig, **options)
            self.assertEqual(error.path, path, options)
            for word in ("seven77", "blank", "umlaut", "short"):
                self.assertNotIn(word if word != "blank" else "with a blank", str(error))


class TokenTestCase(SynchronousTestCase):
    """An authenticator whose time passes when the test says so."""

    scope, name = "/", ""

    def setUp(self) -> None:
        self.now = 1000.0
        self.authenticator = self.make(TOKEN)

    def make(self, *tokens: str, key: bytes = KEY, lifetime: float = 3600) -> TokenAuthenticator:
        """One for these tokens."""
        return TokenAuthenticator(
            TokenAuthConfig(tokens=tuple(map(Secret, tokens)), login_lifetime=Seconds(lifetime)),
            AuthEnvironment(
                seconds=lambda: self.now,
                wall_clock=lambda: self.now,
                trusts=lambda address: address == "127.0.0.1",
                cookie_key=lambda: key,
                scope=self.scope,
                name=self.name,
            ),
        )

    def ask(self, *fields: str, method: str = "GET", target: str = "/x?y=1", peer: Peer = PEER) -> Verdict:
        """The verdict on a request."""
        return self.authenticator.authenticate(head_of(*fields, method=method, target=target), peer, ROUTE)

    def serve(
        self, *fields: str, path: bytes = LOGIN, method: str = "GET", query: bytes = b"", body: bytes = b""
    ) -> Answer:
        """The answer of one of its own paths."""
        return self.authenticator.serve(head_of(*fields, method=method), PEER, path, query, body)

    def post(self, token: str, *fields: str, query: bytes = b"") -> Answer:
        """What the form gets when it is posted with `token`."""
        return self.serve(*fields, method="POST", query=query, body=f"token={quote(token)}".encode())

    def cookie(self, authenticator: TokenAuthenticator | None = None, token: str = TOKEN) -> str:
        """The Cookie field of a browser that has just logged in."""
        before, self.authenticator = self.authenticator, authenticator or self.authenticator
        (field,) = (field for field in self.post(token).fields if field.startswith(b"Set-Cookie: "))
        self.authenticator = before
        return "Cookie: " + field.removeprefix(b"Set-Cookie: ").partition(b";")[0].decode()

    def assert_admitted(self, verdict: Verdict, *, by_field: bool = False) -> None:
        """It is in, and what let it in goes no further."""
        assert isinstance(verdict, Admit), verdict
        self.assertIn(self.authenticator._name, verdict.strip.cookies)
        self.assertEqual(verdict.strip.fields, frozenset({b"authorization"} if by_field else ()))
        self.assertEqual(verdict.identity.kind, "token")

    def assert_refused(self, verdict: Verdict, status: int) -> Answer:
        """It is not."""
        assert isinstance(verdict, Answer), verdict
        self.assertEqual(verdict.status, status)
        self.assertNotIn(TOKEN, repr(verdict))
        return verdict


class HeaderTests(TokenTestCase):
    """Programs send the token."""

    def test_the_seam(self) -> None:
        """Both kinds are what the seam asks for."""
        verifyObject(IAuthenticator, self.authenticator)
        verifyObject(IAuthenticator, AnonymousAuthenticator(AnonymousAuthConfig(), ENVIRONMENT))

    def test_forms(self) -> None:
        """Either scheme, in any case; the upstream does not see it."""
        for value in (f"Bearer {TOKEN}", f"token {TOKEN}", f"BEARER   {TOKEN}", f"Token {TOKEN}"):
            self.assert_admitted(self.ask(f"Authorization: {value}"), by_field=True)
            self.assert_admitted(self.ask(f"Authorization: {value}", method="POST"), by_field=True)

    def test_what_is_no_token(self) -> None:
        """Other schemes, other words, two of them, other places."""
        for fields in (
            (),
            ("Authorization: Basic dG9rZW4=",),
            (f"Authorization: {TOKEN}",),
            (f"Authorization: Bearer{TOKEN}",),
            (f"Authorization: Basic {TOKEN}",),
            (f"Authorization: Bearer {TOKEN} x",),
            (f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {TOKEN}"),
            (f"Authorization: Bearer {TOKEN}", "Authorization: Basic eA=="),
            (f"X-Authorization: Bearer {TOKEN}",),
            (f"Cookie: proxyd-login={TOKEN}",),
            (f"Cookie: token={TOKEN}",),
        ):
            self.assert_refused(self.ask(*fields), 401)
        self.assert_refused(self.ask(target=f"/x?token={TOKEN}"), 401)

    def test_wrong_tokens(self) -> None:
        """A part of it, more than it, another case."""
        for word in (TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "", "x" * 5000):
            self.assert_refused(self.ask(f"Authorization: Bearer {word}"), 401)

    def test_several_tokens(self) -> None:
        """Each is good while it is there."""
        self.authenticator = self.make(TOKEN, OTHER)
        for token in (TOKEN, OTHER):
            self.assert_admitted(self.ask(f"Authorization: Bearer {token}"), by_field=True)

    def test_no_other_origin_is_asked_about(self) -> None:
        """A field with the token is nothing that a browser adds by itself."""
        fields = (f"Authorization: Bearer {TOKEN}", "Origin: http://evil.test", "Sec-Fetch-Site: cross-site")
        self.assert_admitted(self.ask(*fields, method="POST"), by_field=True)

    def test_guessing_is_slow(self) -> None:
        """Ten wrong ones, and then nobody from there is heard for a while, with the right one neither."""
        for number in range(10):
            self.assert_refused(self.ask(f"Authorization: Bearer guess-{number:04}"), 401)
        answer = self.assert_refused(self.ask(f"Authorization: Bearer {TOKEN}"), 429)
        self.assertEqual(answer.fields, (b"Retry-After: 6",))
        self.assert_admitted(self.ask(self.cookie_of_another_time, f"Authorization: Bearer {TOKEN}"))
        elsewhere = Peer(b"192.0.2.2", secure=False, trusted=False)
        self.assert_admitted(self.ask(f"Authorization: Bearer {TOKEN}", peer=elsewhere), by_field=True)
        self.now += 6
        self.assert_admitted(self.ask(f"Authorization: Bearer {TOKEN}"), by_field=True)

    @property
    def cookie_of_another_time(self) -> str:
        """A login from before all those attempts."""
        return self.cookie(self.make(TOKEN))

    def test_an_application_may_have_credentials_of_its_own(self) -> None:
        """With a login they pass, however often, and count as no attempt."""
        cookie = self.cookie()
        for _ in range(30):
            self.assert_admitted(self.ask(cookie, "Authorization: Bearer of-the-application"))
        self.assert_admitted(self.ask(f"Authorization: Bearer {TOKEN}"), by_field=True)


class CookieTests(TokenTestCase):
    """Browsers show a cookie."""

    def test_a_login_is_good(self) -> None:
        """For as long as it was meant to last."""
        cookie = self.cookie()
        self.assert_admitted(self.ask(cookie))
        self.now += 3599
        self.assert_admitted(self.ask(cookie))
        self.now += 1
        self.assert_refused(self.ask(cookie), 401)

    def test_what_is_no_login(self) -> None:
        """Of another proxy, for another token, forged, under another name, sealed for something else."""
        good = self.cookie()
        sealed = good.partition("=")[2]
        for field in (
            self.cookie(self.make(TOKEN, key=b"K" * 32)),
            self.cookie(self.make(OTHER), OTHER),
            good[:-1],
            good[:-2] + ("AA" if not good.endswith("AA") else "BB"),
            good + "A" * 4,
            f"Cookie: proxyd-login-0123456789ab={sealed}",
            f"Cookie: proxyd-logi={sealed}",
            "Cookie: proxyd-login=",
            f"Cookie: proxyd-login={Sealer(KEY, b'else').seal(b'', 1e9).decode()}",
            "Cookie: proxyd-login=" + "A" * 8000,
        ):
            self.assert_refused(self.ask(field), 401)

    def test_a_restart_keeps_logins_and_a_new_token_ends_them(self) -> None:
        """While both tokens are good, both logins are."""
        cookie = self.cookie()
        for tokens, is_good in (((TOKEN,), True), ((OTHER, TOKEN), True), ((OTHER,), False)):
            self.authenticator = self.make(*tokens)
            self.assertEqual(isinstance(self.ask(cookie), Admit), is_good, tokens)

    def test_one_that_verifies_is_enough(self) -> None:
        """A forged one beside it changes nothing; but nobody makes us try thousands."""
        pair = self.cookie().removeprefix("Cookie: ")
        self.assert_admitted(self.ask(f"Cookie: proxyd-login=forged; a=b; {pair}"))
        self.assert_admitted(self.ask("Cookie: proxyd-login=forged", f"Cookie: {pair}"))
        self.assert_refused(self.ask("Cookie: " + "proxyd-login=forged; " * 100 + pair), 401)

    def test_all_cookies_of_ours_stay_here(self) -> None:
        """Those of other routes' logins, too; an application's do not."""
        verdict = self.ask(self.cookie() + "; proxyd-login-0123456789ab=x; own=1")
        assert isinstance(verdict, Admit)
        self.assertEqual(verdict.strip.cookies, {b"proxyd-login", b"proxyd-login-0123456789ab"})

    def test_a_dead_cookie_is_deleted(self) -> None:
        """So that the browser does not send it for ever."""
        deletion = b"Set-Cookie: proxyd-login=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        for fields in ((), (HTML,), ("Connection: Upgrade", "Upgrade: websocket")):
            verdict = self.ask("Cookie: proxyd-login=dead", *fields)
            assert isinstance(verdict, Answer)
            self.assertIn(deletion, verdict.fields)
        self.assertNotIn(deletion, self.assert_refused(self.ask("Cookie: a=b"), 401).fields)

    def test_pages_of_others_cannot_use_a_login(self) -> None:
        """Not for methods that change something, and not for a WebSocket; reading is left to SameSite and CORS."""
        cookie = self.cookie()
        upgrade = ("Connection: Upgrade", "Upgrade: websocket")
        for foreign in (
            ("Origin: http://evil.test",),
            ("Origin: null",),
            ("Sec-Fetch-Site: cross-site",),
            ("Sec-Fetch-Site: same-site",),
            ("Referer: http://evil.test/",),
        ):
            for method in ("POST", "PUT", "DELETE", "PATCH", "PROPFIND"):
                self.assert_refused(self.ask(cookie, *foreign, method=method), 403)
            self.assert_admitted(self.ask(cookie, *foreign))
            if not foreign[0].startswith("Referer"):
                self.assert_refused(self.ask(cookie, *foreign, *upgrade), 403)
        for own in ((), ("Origin: http://a.test",), ("Sec-Fetch-Site: same-origin",)):
            self.assert_admitted(self.ask(cookie, *own, method="POST"))
            self.assert_admitted(self.ask(cookie, *own, *upgrade))


class RefusalTests(TokenTestCase):
    """What somebody gets who is not logged in."""

    def test_people_are_sent_to_the_login(self) -> None:
        """With the way back; GET and HEAD alike."""
        for method in ("GET", "HEAD"):
            answer = self.assert_refused(self.ask(HTML, method=method), 302)
            self.assertEqual(answer.fields, (b"Cache-Control: no-store", b"Location: /.proxyd/login?next=/x%3Fy%3D1"))

    def test_the_way_back_is_one_of_ours(self) -> None:
        """An odd one is left out, and so is one that would not fit."""
        for target in ("//evil.test/", "/%2Fevil.test", "http://evil.test/"):
            answer = self.assert_refused(self.ask(HTML, target=target), 302)
            self.assertIn(b"Location: /.proxyd/login?next=/", answer.fields)
        answer = self.assert_refused(self.ask(HTML, target="/" + "%" * 4000), 302)
        self.assertIn(b"Location: /.proxyd/login", answer.fields)

    def test_programs_get_a_status(self) -> None:
        """Never a redirect, which would be followed into nothing."""
        for method, fields in (
            ("POST", (HTML,)),
            ("OPTIONS", (HTML,)),
            ("DELETE", ()),
            ("GET", ("Accept: application/json",)),
            ("GET", ("Accept: text/event-stream",)),
            ("GET", ("Accept: */*",)),
            ("GET", (HTML, "Sec-Fetch-Mode: cors")),
        ):
            answer = self.assert_refused(self.ask(*fields, method=method), 401)
            self.assertIn(b'WWW-Authenticate: Bearer realm="proxyd"', answer.fields)

    def test_websockets_are_refused(self) -> None:
        """With 403, whatever they accept."""
        upgrade = ("Connection: Upgrade", "Upgrade: websocket")
        for fields in ((), (HTML,), ("Sec-Fetch-Mode: navigate", HTML), ("Authorization: Bearer wrong-one",)):
            self.assert_refused(self.ask(*upgrade, *fields), 403)


class PageTests(TokenTestCase):
    """The paths of its own."""

    def test_the_login_page(self) -> None:
        """The same for everybody, whatever they ask for; it loads nothing, and nobody can frame it."""
        pages = {
            self.serve(query=query, method=method).body
            for query in (b"", b"?next=/x", b"?next=<script>", b"?token=" + TOKEN.encode())
            for method in ("GET", "HEAD")
        }
        self.assertEqual(len(pages), 1)
        answer = self.serve()
        fields = b"\n".join(answer.fields)
        self.assertEqual(answer.status, 200)
        for word in (b"default-src 'none'", b"frame-ancestors 'none'", b"no-store", b"nosniff", b"same-origin"):
            self.assertIn(word, fields)
        page = pages.pop() or b""
        self.assertIn(b'<form method="post">', page)
        for word in (b"http:", b"https:", b"<script", b"src=", b"@import", b"url("):
            self.assertNotIn(word, page)

    def test_the_way_in(self) -> None:
        """The token gives a cookie that scripts and other sites do not get, and leads back."""
        answer = self.post(TOKEN, query=b"?next=/x%3Fy%3D1")
        location, cached, cookie = answer.fields
        self.assertEqual((answer.status, answer.body), (303, b""))
        self.assertEqual((location, cached), (b"Location: /x?y=1", b"Cache-Control: no-store"))
        self.assertRegex(
            cookie, rb"\ASet-Cookie: proxyd-login=[\w-]{40,}; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax\Z"
        )
        self.assertNotIn(TOKEN.encode(), cookie)

    def test_secure(self) -> None:
        """If the browser speaks https."""
        for fields, peer, is_secure in (
            ((), PEER, False),
            (("X-Forwarded-Proto: https",), PEER, True),
            ((), Peer(b"192.0.2.1", secure=True, trusted=False), True),
        ):
            answer = self.authenticator.serve(
                head_of(*fields, method="POST"), peer, LOGIN, b"", b"token=" + TOKEN.encode()
            )
            self.assertEqual(answer.fields[-1].endswith(b"; Secure"), is_secure)

    def test_next_leads_nowhere_else(self) -> None:
        """Whatever it says: to the scope, if it is no path of ours, and not out again."""
        for value in (
            b"//evil.test",
            b"/%2F%2Fevil.test",
            b"%2F%2Fevil.test",
            b"/%5Cevil.test",
            b"%5C%5Cevil.test",
            b"/%09/evil.test",
            b"https:evil.test",
            b"https://evil.test/",
            b"javascript:alert(1)",
            b"/x%0D%0ASet-Cookie:%20a=b",
            b"/%E2%80%A8",
            b"@evil.test",
            b"",
            LOGIN,
            LOGOUT + b"?x",
        ):
            answer = self.post(TOKEN, query=b"?next=" + value)
            self.assertEqual(answer.fields[0], b"Location: /", value)
        for query in (b"", b"?", b"?next", b"?" + b"a=b&" * 100, b"?next=\xff"):
            self.assertEqual(self.post(TOKEN, query=query).fields[0], b"Location: /", query)

    def test_a_wrong_token(self) -> None:
        """The page again, with a word about it and none of what was sent."""
        answer = self.post("<b>wrong</b>")
        self.assertEqual(answer.status, 403)
        self.assertIn(b"That is not the token.", answer.body or b"")
        self.assertNotIn(b"<b>", answer.body or b"")
        self.assertFalse([field for field in answer.fields if field.startswith(b"Set-Cookie")])

    def test_forms_that_are_none(self) -> None:
        """They hold no token."""
        for body in (b"", b"token", b"token=", b"TOKEN=" + TOKEN.encode(), b"\xff\xfe", b"{}", b"&" * 1000):
            self.setUp()
            self.assertEqual(self.serve(method="POST", body=body).status, 403, body)

    def test_blanks_around_it_do_not_matter(self) -> None:
        """Copying brings some along."""
        self.assertEqual(self.post(f" {TOKEN}\r\n").status, 303)

    def test_attempts_are_limited(self) -> None:
        """With those by a field in one count; whoever is logged in does not notice."""
        cookie = self.cookie()
        for _ in range(5):
            self.assertEqual(self.post("wrong-one").status, 403)
            self.ask("Authorization: Bearer wrong-one")
        answer = self.post(TOKEN)
        self.assertEqual(answer.status, 429)
        self.assertIn(b"Retry-After: 6", answer.fields)
        self.assertIn(b"Too many attempts", answer.body or b"")
        self.assert_admitted(self.ask(cookie))
        self.now += 6
        self.assertEqual(self.post(TOKEN).status, 303)

    def test_other_sites_cannot_post_the_form(self) -> None:
        """Neither to log somebody in, nor out, nor to guess."""
        for field in ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: null", "Origin: http://e.t"):
            self.assertEqual(self.post(TOKEN, field).status, 403)
            self.assertEqual(self.serve(field, path=LOGOUT, method="POST").status, 403)
            self.assertIsNone(self.post(TOKEN, field).body)

    def test_who_is_logged_in_goes_on(self) -> None:
        """As after "back" in a browser."""
        answer = self.serve(self.cookie(), query=b"?next=/x")
        self.assertEqual((answer.status, answer.fields[0]), (303, b"Location: /x"))

    def test_the_way_out(self) -> None:
        """A GET asks, a POST does it."""
        asked = self.serve(path=LOGOUT)
        self.assertEqual(asked.status, 200)
        self.assertFalse([field for field in asked.fields if field.startswith(b"Set-Cookie")])
        answer = self.serve(path=LOGOUT, method="POST")
        self.assertEqual((answer.status, answer.fields[0]), (303, b"Location: /.proxyd/login"))
        self.assertIn(b"Set-Cookie: proxyd-login=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax", answer.fields)

    def test_other_methods(self) -> None:
        """Are none of a form."""
        for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
            answer = self.serve(method=method)
            self.assertEqual((answer.status, answer.fields), (405, (b"Allow: GET, HEAD, POST",)))


class RouteTests(TokenTestCase):
    """One route has an authenticator of its own."""

    scope, name = "/app", "/app"

    def test_everything_of_it_is_below_the_route(self) -> None:
        """Its paths, its cookie, and where one is led."""
        self.assertEqual(self.authenticator.paths, {b"/app/.proxyd/login", b"/app/.proxyd/logout"})
        answer = self.assert_refused(self.ask(HTML, target="/app/x"), 302)
        self.assertIn(b"Location: /app/.proxyd/login?next=/app/x", answer.fields)
        answer = self.post(TOKEN, query=b"?next=/other")
        self.assertEqual(answer.fields[0], b"Location: /app")
        self.assertRegex(answer.fields[2], rb"\ASet-Cookie: proxyd-login-[0-9a-f]{12}=[^;]+; Path=/app; ")

    def test_the_login_of_another_route_is_none_here(self) -> None:
        """Even if the token is the same."""
        here = self.authenticator
        self.name = "/app2"
        sealed = self.cookie(self.make(TOKEN)).partition("=")[2]
        self.authenticator = here
        self.assert_refused(self.ask(f"Cookie: {here._name.decode()}={sealed}"), 401)


class AnonymousTests(SynchronousTestCase):
    """Kind `anonymous`."""

    def test_everybody_may_but_logins_stay_here(self) -> None:
        """They are those of other routes."""
        ask = AnonymousAuthenticator(AnonymousAuthConfig(), ENVIRONMENT).authenticate
        self.assertIs(ask(head_of("Cookie: a=b"), PEER, ROUTE), ANYBODY)
        verdict = ask(head_of("Cookie: a=b; proxyd-login=x", "Cookie: proxyd-login-ab=y"), PEER, ROUTE)
        self.assertEqual(attrs.asdict(verdict.strip)["cookies"], {b"proxyd-login", b"proxyd-login-ab"})
        ENVIRONMENT.cookies.add(b"hub")
        self.addCleanup(ENVIRONMENT.cookies.clear)
        verdict = ask(head_of("Cookie: a=b; hub=x"), PEER, ROUTE)
        self.assertEqual(attrs.asdict(verdict.strip)["cookies"], {b"hub"})

    def test_claims_about_visitors_are_removed(self) -> None:
        """If it says so: nobody was asked, so they are forged, however they are written."""
        ask = AnonymousAuthenticator(AnonymousAuthConfig(remove_user_info=True), ENVIRONMENT).authenticate
        verdict = ask(head_of(), PEER, ROUTE)
        forged = [b"x_cdsdashboards-jh_USER: eve", b"X-CDSDASHBOARDS-JH-USER: eve", b"X-User: eve"]
        self.assertEqual(admitted_fields(forged, verdict), forged[2:])
        self.assertEqual(admitted_query(b"?a=1&cdsdashboards_jh_user=eve&b", verdict), b"?a=1&b")

    def test_it_tells_of_activity(self) -> None:
        """Where somebody wants to know, and the path counts."""
        touched: list[bytes] = []
        environment = attrs.evolve(
            ENVIRONMENT, touch_of=lambda path: partial(touched.append, path) if path != b"/idle" else None
        )
        ask = AnonymousAuthenticator(AnonymousAuthConfig(), environment).authenticate
        self.assertIs(ask(head_of(target="/idle?x"), PEER, ROUTE), ANYBODY)
        verdict = ask(head_of(target="/x?y"), PEER, ROUTE)
        assert verdict.touch is not None
        verdict.touch()
        self.assertEqual(touched, [b"/x"])

    def test_a_token_tells_of_it_as_well(self) -> None:
        """Whichever way it is shown."""
        touched: list[bytes] = []
        environment = attrs.evolve(ENVIRONMENT, touch_of=lambda path: partial(touched.append, path))
        ask = TokenAuthenticator(TokenAuthConfig(token=Secret(TOKEN)), environment).authenticate
        verdict = ask(head_of(f"Authorization: token {TOKEN}", target="/x?y"), PEER, ROUTE)
        assert isinstance(verdict, Admit)
        assert verdict.touch is not None
        verdict.touch()
        self.assertEqual(touched, [b"/x"])

    def test_no_path_of_its_own(self) -> None:
        """It has no login."""
        authenticator = AnonymousAuthenticator(AnonymousAuthConfig(), ENVIRONMENT)
        self.assertEqual(authenticator.serve(head_of(), PEER, b"/", b"", b"").status, 404)
