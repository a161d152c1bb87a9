"""The code flow."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.oauth import Attempt, Exchange, GoOn, OAuthClient, Refusal, call_back

CLIENT = OAuthClient(
    client_id="jupyterhub-user-al%40x",
    secret="hush",
    authorize_url="/hub/api/oauth2/authorize",
    redirect_uri="/user/al@x/oauth_callback",
)
# RFC 7636, Appendix B.
OCTETS = bytes.fromhex("7418dfb49799e0254ffa607dd8adbbba16d4254d69d6bff05b58055853848d79")
OURS = Attempt("ours", "verifier", "/user/alice/x?y=1")
OTHER = Attempt("other", "verifier2", "/user/alice/z")


class AttemptTests(SynchronousTestCase):
    """A login that begins."""

    def test_the_browser_is_sent_to_the_hub(self) -> None:
        """With a challenge, whose verifier only the cookie knows; the example is that of RFC 7636."""
        parts = iter((b"s" * 32, OCTETS))
        attempt = Attempt.begin("/user/alice/", lambda _: next(parts))
        self.assertEqual("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", attempt.verifier)
        url = urlsplit(attempt.location(CLIENT))
        self.assertEqual(("", "", "/hub/api/oauth2/authorize"), url[:3])
        self.assertEqual(
            {
                "client_id": ["jupyterhub-user-al%40x"],
                "redirect_uri": ["/user/al@x/oauth_callback"],
                "response_type": ["code"],
                "code_challenge": ["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"],
                "code_challenge_method": ["S256"],
                "state": [attempt.state],
            },
            parse_qs(url.query),
        )
        self.assertNotIn(attempt.verifier, url.query)

    def test_state_and_verifier_are_independent(self) -> None:
        """Neither tells of the other."""
        parts = iter((b"a" * 32, b"b" * 32))
        attempt = Attempt.begin("/", lambda _: next(parts))
        self.assertNotEqual(attempt.state, attempt.verifier)
        self.assertEqual(43, len(attempt.state))

    @given(st.text(), st.text(), st.text())
    def test_a_cookie_brings_it_back(self, state: str, verifier: str, next_url: str) -> None:
        """As it was."""
        attempt = Attempt(state, verifier, next_url)
        self.assertEqual(attempt, Attempt.from_content(attempt.content))

    def test_other_contents_are_none(self) -> None:
        """They were sealed for something else."""
        for content in (b"", b"\xff", b"{}", b'["a","b"]', b'["a","b",1]', b'{"a": 1}', b"[[],[],[]]"):
            self.assertIsNone(Attempt.from_content(content), content)

    def test_secrets_are_not_shown(self) -> None:
        """In no log."""
        self.assertNotIn("hush", repr(CLIENT))
        self.assertNotIn("code1", repr(Exchange(OURS, "code1")))


class CallbackTests(SynchronousTestCase):
    """The browser comes back."""

    def test_a_code_is_exchanged(self) -> None:
        """For the attempt whose state it is, with its verifier."""
        found = call_back(b"code=c%2B1&state=ours", [OTHER, OURS], is_logged_in=False)
        self.assertEqual(Exchange(OURS, "c+1"), found)
        assert isinstance(found, Exchange)
        self.assertEqual(
            {
                "grant_type": "authorization_code",
                "code": "c+1",
                "client_id": "jupyterhub-user-al%40x",
                "client_secret": "hush",
                "redirect_uri": "/user/al@x/oauth_callback",
                "code_verifier": "verifier",
            },
            dict(found.form(CLIENT)),
        )

    def test_what_is_refused(self) -> None:
        """Errors of the Hub, a missing or doubled part, and a state that this browser did not begin with."""
        for query, attempts, expected in (
            (b"", [OURS], Refusal(400, "the callback has no code")),
            (b"state=ours", [OURS], Refusal(400, "the callback has no code")),
            (b"code=c", [OURS], Refusal(400, "the callback has no state")),
            (b"code=&state=ours", [OURS], Refusal(400, "the callback has no code")),
            (b"code=c&state=ours&state=other", [OURS], Refusal(400, "the callback has no state")),
            (b"code=c&state=ours", [], Refusal(403, "state does not match")),
            (b"code=c&state=forged", [OURS], Refusal(403, "state does not match")),
            (b"error=access_denied&state=ours", [OURS], Refusal(400, "the Hub refused the login", "access_denied")),
            (b"error=a&error_description=Not%20you", [], Refusal(400, "the Hub refused the login", "Not you")),
            (b"error=a&error=b", [], Refusal(400, "the Hub refused the login", "")),
        ):
            self.assertEqual(expected, call_back(query, attempts, is_logged_in=False), query)
        long = call_back(b"error=" + b"x" * 9999, [], is_logged_in=True)
        self.assertEqual(Refusal(400, "the Hub refused the login", "x" * 300), long)

    def test_a_stale_tab_goes_on(self) -> None:
        """When the browser is logged in by another one; where to, only if there is no doubt."""
        for attempts, expected in (([OURS], OURS.next_url), ([], ""), ([OURS, OTHER], "")):
            self.assertEqual(GoOn(expected), call_back(b"code=c&state=old", attempts, is_logged_in=True))
            known = call_back(b"code=c&state=old", attempts, is_logged_in=True, next_of={"old": "/it"}.get)
            self.assertEqual(GoOn("/it"), known)
