"""Tests of `proxyd.workers.guards`: which authenticator is in front of which route."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.hubsettings import HubAuthConfig
from proxyd.auth.token import TokenAuthConfig
from proxyd.model.auth import AnonymousAuthConfig
from proxyd.model.routes import RouteOptions
from proxyd.model.settings import Config, RouteSpec
from proxyd.option import RouteKey, Secret, UpstreamUrl, UrlPath
from proxyd.testing.harness import Harness

FIRST, SECOND = "correct-horse", "battery-staple"
WITH_FIRST = TokenAuthConfig(token=Secret(FIRST))
WITH_SECOND = TokenAuthConfig(token=Secret(SECOND))
ANYBODY = AnonymousAuthConfig()


class GuardsTests(SynchronousTestCase):
    """The section of a route, else that of `route_defaults`, else `auth`."""

    def start(self, config: Config) -> None:
        self.proxy = Harness(config=config, state=Path(self.mktemp()))

    def ask(self, path: str, *fields: str, method: str = "GET", body: str = "") -> bytes:
        """What the upstream gets, else what the client gets."""
        self.proxy.pools.close()
        before = len(self.proxy.dialer.dials)
        client = self.proxy.client()
        length = f"Content-Length: {len(body)}"
        client.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: a.test", length, *fields, "", body]).encode())
        if len(self.proxy.dialer.dials) > before:
            return b"upstream: " + self.proxy.accept().pop()
        return client.pop()

    def opens(self, path: str) -> str:
        """Who may use a path: `all`, `first`, `second`, or nobody."""
        if self.ask(path).startswith(b"upstream"):
            return "all"
        asked = [self.ask(path, f"Authorization: Bearer {token}") for token in (FIRST, SECOND)]
        good = [answer.startswith(b"upstream") for answer in asked]
        return {(True, False): "first", (False, True): "second", (False, False): "nobody"}.get(tuple(good), "both")

    def log_in(self, path: str, token: str) -> str:
        """The Cookie field of a browser that logged in there."""
        answer = self.ask(path, method="POST", body=f"token={token}")
        self.assertIn(b" 303 ", answer.partition(b"\r\n")[0])
        return "Cookie: " + answer.partition(b"Set-Cookie: ")[2].partition(b";")[0].decode()

    def test_the_nearest_section_counts(self) -> None:
        """Even if it is there to ask nothing."""
        self.start(Config(auth=WITH_FIRST))
        self.proxy.add_route("/open", "http://up.test", RouteOptions(auth=ANYBODY))
        self.proxy.add_route("/own", "http://up.test", RouteOptions(auth=WITH_SECOND))
        self.proxy.add_route("/own/deeper", "http://up.test")
        self.assertEqual(
            [self.opens(path) for path in ("/", "/open", "/own", "/own/deeper", "/opened")],
            ["first", "all", "second", "first", "first"],
        )
        self.start(Config(auth=WITH_FIRST, route_defaults=RouteOptions(auth=WITH_SECOND)))
        self.proxy.add_route("/open", "http://up.test", RouteOptions(auth=ANYBODY))
        self.assertEqual([self.opens(path) for path in ("/", "/open")], ["second", "all"])

    def test_logins_are_where_their_routes_are(self) -> None:
        """And one does not open the other."""
        self.start(Config(auth=WITH_FIRST))
        self.proxy.add_route("/own", "http://up.test", RouteOptions(auth=WITH_SECOND))
        common = self.log_in("/.proxyd/login", FIRST)
        own = self.log_in("/own/.proxyd/login", SECOND)
        self.assertNotEqual(common.partition("=")[0], own.partition("=")[0])
        for path, field, is_good in (
            ("/x", common, True),
            ("/own/x", own, True),
            ("/x", own, False),
            ("/own/x", common, False),
            ("/own/x", f"{common}; {own.removeprefix('Cookie: ')}", True),
        ):
            answer = self.ask(path, field)
            self.assertEqual(answer.startswith(b"upstream"), is_good, (path, field))
            self.assertNotIn(b"proxyd-login", answer if is_good else b"")

    def test_a_login_is_answered_without_a_route(self) -> None:
        """Even if none leads there; and where nobody is asked, there is none."""
        self.start(Config(auth=WITH_FIRST))
        self.proxy.delete_route("/")
        self.assertIn(b" 200 OK", self.ask("/.proxyd/login"))
        self.assertIn(b" 404 ", self.ask("/x"))
        self.start(Config())
        self.proxy.delete_route("/")
        self.assertIn(b" 404 ", self.ask("/.proxyd/login"))

    def test_routes_that_ask_nothing_get_no_logins(self) -> None:
        """Nor do those that were there before the first one that asks."""
        self.start(Config())
        login = "Cookie: a=b; proxyd-login=x; proxyd-login-0123456789ab=y"
        self.assertIn(b"proxyd-login", self.ask("/x", login))
        self.proxy.add_route("/own", "http://up.test", RouteOptions(auth=WITH_SECOND))
        self.assertIn(b" 401 ", self.ask("/own"))
        sent = self.ask("/x", login)
        self.assertIn(b"\r\nCookie: a=b\r\n", sent)
        self.assertNotIn(b"proxyd-login", sent)

    def test_a_static_route_that_asks_is_known_from_the_start(self) -> None:
        """The others let no login through, from the first request on."""
        spec = RouteSpec(upstream=UpstreamUrl("http://up.test"), auth=WITH_FIRST)
        self.start(Config(routes={RouteKey("/own"): spec}))
        sent = self.ask("/x", "Cookie: proxyd-login=x")
        self.assertTrue(sent.startswith(b"upstream"), sent)
        self.assertNotIn(b"proxyd-login", sent)

    def test_nothing_stands_in_front_where_nobody_is_asked(self) -> None:
        """No key is made, and requests go straight to the route."""
        self.start(Config())
        self.ask("/x")
        entry = self.proxy.table.get("/")
        assert entry is not None
        self.assertEqual(type(entry.resource).__name__, "ForwardResource")
        self.assertFalse(hasattr(entry.resource, "inner"))

    def test_odd_prefixes(self) -> None:
        """The login is where a browser asks for it."""
        self.start(Config())
        self.proxy.add_route("/a b/ü", "http://up.test", RouteOptions(auth=WITH_FIRST))
        answer = self.ask("/a%20b/%C3%BC/x", "Accept: text/html")
        self.assertIn(b"\r\nLocation: /a%20b/%C3%BC/.proxyd/login?next=/a%2520b/%25C3%25BC/x\r\n", answer)
        self.assertIn(b" 200 OK", self.ask("/a%20b/%C3%BC/.proxyd/login"))

    def test_without_a_key_nobody_comes_in(self) -> None:
        """A route that asks for a login fails closed; a common section ends the start."""
        state = Path(self.mktemp())
        state.write_text("no directory")
        self.assertRaises(OSError, Harness, config=Config(auth=WITH_FIRST), state=state)
        self.proxy = Harness(state=state)
        self.proxy.add_route("/own", "http://up.test", RouteOptions(auth=WITH_FIRST))
        self.assertIn(b" 500 ", self.ask("/own", f"Authorization: Bearer {FIRST}"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_below_base_url(self) -> None:
        """The common login is there; a route elsewhere has its own, as the cookie would not reach it."""
        self.start(Config(auth=WITH_FIRST, base_url=UrlPath("/base/")))
        self.proxy.add_route("/base/app", "http://up.test")
        html = "Accept: text/html"
        for path, login in (
            ("/base/app/x", "/base/.proxyd/login?next=/base/app/x"),
            ("/other", "/.proxyd/login?next=/other"),
        ):
            self.assertIn(f"\r\nLocation: {login}\r\n".encode(), self.ask(path, html))
        answer = self.ask("/base/.proxyd/login?next=/elsewhere", method="POST", body=f"token={FIRST}")
        self.assertIn(b"\r\nLocation: /base/\r\n", answer)
        self.assertIn(b"; Path=/base; ", answer)
        cookie = "Cookie: " + answer.partition(b"Set-Cookie: ")[2].partition(b";")[0].decode()
        self.assertTrue(self.ask("/base/app", cookie).startswith(b"upstream"))
        self.assertIn(b" 401 ", self.ask("/other", cookie))

    def test_a_static_route_has_one_authenticator(self) -> None:
        """Made at the start, and still the same when the route is built again."""
        spec = RouteSpec(upstream=UpstreamUrl("http://up.test"), auth=WITH_FIRST)
        self.start(Config(routes={RouteKey("/own"): spec}))
        self.proxy.add_route("/own", "http://up.test", RouteOptions(auth=WITH_FIRST))
        self.ask("/own")
        (made,) = self.proxy.guards._of_routes.values()
        entry = self.proxy.table.get("/own")
        assert entry is not None
        self.assertEqual(entry.resource._authenticate, made.authenticate)

    def test_paths_beside_a_route(self) -> None:
        """Such as a callback for several routes: of static ones from the start, of others with the first request."""
        hub = HubAuthConfig(
            api_url="http://hub.test/hub/api", api_token=Secret("token"), service_name="app", prefix="/services/app/"
        )
        spec = RouteSpec(upstream=UpstreamUrl("http://up.test"), auth=hub)
        callback = "/services/app/oauth_callback"
        for config in (Config(routes={RouteKey("/services/app/one"): spec}), Config()):
            self.start(config)
            self.proxy.add_route("/services/app/one", "http://up.test", RouteOptions(auth=hub))
            if not config.routes:
                self.assertTrue(self.ask(callback).startswith(b"upstream"))
                self.assertIn(b" 302 ", self.ask("/services/app/one/x", "Accept: text/html"))
            self.assertIn(b" 400 Bad Request", self.ask(callback))
            self.proxy.guards.unmount(self.proxy.tree)
            self.assertTrue(self.ask(callback).startswith(b"upstream"))

    def test_what_removes_claims_stands_in_front(self) -> None:
        """Even if it asks nobody."""
        self.start(Config(auth=AnonymousAuthConfig(remove_user_info=True)))
        sent = self.ask("/x?CDSDASHBOARDS_JH_USER=eve&a=b", "X_CDSDASHBOARDS_JH_USER: eve")
        self.assertTrue(sent.startswith(b"upstream: GET /x?a=b HTTP/1.1"), sent)
        self.assertNotIn(b"eve", sent)

    def test_a_posted_section_that_cannot_be_used(self) -> None:
        """Lets nobody in, and the log says what is missing."""
        self.start(Config())
        self.proxy.add_route("/own", "http://up.test", RouteOptions(auth=HubAuthConfig()))
        answer = self.ask("/own", "Authorization: token x")
        self.assertIn(b" 500 ", answer)
        self.assertNotIn(b"JUPYTERHUB", answer)
