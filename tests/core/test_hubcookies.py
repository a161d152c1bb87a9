"""Tests of `proxyd.core.hubcookies`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.hubcookies import CookieOptions, HubCookies

ID = b"jupyterhub-user-dan%40x"


class NameTests(SynchronousTestCase):
    """What the cookies are called."""

    def test_names(self) -> None:
        """With and without the prefix that holds them to one host."""
        plain, prefixed = HubCookies(ID, host_prefix=False), HubCookies(ID, host_prefix=True)
        self.assertEqual((plain.session, plain.state), (ID, ID + b"-oauth-state"))
        self.assertEqual((prefixed.session, prefixed.state), (b"__Host-" + ID, b"__Host-" + ID + b"-oauth-state"))

    def test_several_attempts(self) -> None:
        """Each has a name of its own, which is known for what it is."""
        cookies = HubCookies(ID, host_prefix=False)
        self.assertEqual(cookies.fresh_state([b"a"], bytes, may_be_plain=True), cookies.state)

        def random(count: int) -> bytes:
            return bytes(range(50, 50 + count))

        second = cookies.fresh_state([b"a", cookies.state], random, may_be_plain=True)
        self.assertRegex(second, b"^" + cookies.state + b"-[A-Za-z]{8}$")
        self.assertEqual(cookies.fresh_state([b"a"], random, may_be_plain=False), second)
        self.assertEqual(
            [cookies.is_state(name) for name in (cookies.state, second, cookies.state + b"x", ID, b"a")],
            [True, True, False, False, False],
        )

    def test_attempts_that_are_too_many(self) -> None:
        """The oldest ones go, which browsers send first: of 24, or of what would not fit a request any more."""
        cookies = HubCookies(ID, host_prefix=False)
        for count, size, gone in ((0, 0, 0), (23, 100, 0), (24, 100, 1), (30, 100, 7), (5, 3000, 3), (1, 9000, 1)):
            attempts = [(b"%d" % number, b"x" * size) for number in range(count)]
            self.assertEqual([b"%d" % number for number in range(gone)], cookies.surplus(attempts), (count, size))

    def test_what_no_application_gets(self) -> None:
        """Ours and the Hub's, in both forms, and the logins of other servers and services; nothing else."""
        cookies = HubCookies(ID, host_prefix=False)
        for name in (
            ID,
            b"__Host-" + ID,
            ID + b"-oauth-state",
            b"__Host-" + ID + b"-oauth-state",
            b"jupyterhub-session-id",
            b"jupyterhub-hub-login",
            b"__Host-jupyterhub-hub-login",
            b"jupyterhub-services",
        ):
            self.assertIn(name, cookies.hidden(()))
        more = [
            ID + b"-oauth-state-AbCdEfGh",
            b"__Host-" + ID + b"-oauth-state-x",
            b"jupyterhub-user-bob",
            b"__Host-jupyterhub-user-bob",
            b"__Host-service-board",
        ]
        kept = [b"_xsrf", b"session", b"jupyterhub", b"xjupyterhub-user-bob", b"service-board", b"__Host-session"]
        self.assertEqual(cookies.hidden([*more, *kept]) - cookies.hidden(()), set(more))
        self.assertIs(cookies.hidden(kept), cookies.hidden(()))
        self.assertEqual(len(cookies.ours), 4)


class OptionTests(SynchronousTestCase):
    """What the cookies are set with."""

    def line(self, options: dict[str, object], name: bytes = b"n", *, secure: bool = False) -> bytes:
        made, ignored = CookieOptions.read(options)
        self.assertEqual(ignored, [])
        return made.line(name, b"v", b"/p/", secure=secure, max_age=made.max_age)

    def test_attributes(self) -> None:
        """The path, out of reach for scripts and other sites, for 30 days; Secure where the browser speaks https."""
        usual = b"Set-Cookie: n=v; Path=/p/; Max-Age=2592000; HttpOnly; SameSite=Lax"
        self.assertEqual(self.line({}), usual)
        self.assertEqual(self.line({}, secure=True), usual + b"; Secure")
        self.assertEqual(self.line({}, b"__Host-n"), usual.replace(b"n=", b"__Host-n=") + b"; Secure")
        self.assertIn(b"; Secure", self.line({"secure": False}, b"__Host-n"))

    def test_options(self) -> None:
        """Those that change nothing about who gets the cookie."""
        self.assertIn(b"SameSite=None; Secure", self.line({"samesite": "none", "secure": True}))
        self.assertIn(b"SameSite=Strict", self.line({"SameSite": "Strict"}))
        self.assertNotIn(b"Secure", self.line({"secure": False}, secure=True))
        self.assertNotIn(b"HttpOnly", self.line({"httponly": False}))
        self.assertIn(b"Max-Age=43200", self.line({"expires_days": 0.5}))
        self.assertIn(b"Max-Age=7;", self.line({"max_age": 7}))
        self.assertNotIn(b"Max-Age", self.line({"expires_days": None}))

    def test_what_is_not_taken(self) -> None:
        """Is told."""
        senseless = {"domain": ".x", "Path": "/", "samesite": "maybe", "max_age": "long", "expires_days": "x"}
        made, ignored = CookieOptions.read(senseless)
        self.assertEqual((made, ignored), (CookieOptions(), list(senseless)))
