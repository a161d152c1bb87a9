"""Authenticators, rates and limits of real processes: what is refused never reaches an upstream."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.sealed import Sealer
from tests.integration.proxies import Proxy, ProxyTestCase
from tests.support import wait_for
from tests.wire import ScriptedUpstream, Wire, connect

TOKEN, OTHER = "correct-horse-battery", "staple-staple-staple"
TOKEN_AUTH = f"""
auth: {{kind: token, token: {TOKEN}}}
state_directory: state
log: {{level: debug}}
"""
HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: {}\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


class Recorder:
    """An upstream's script that keeps every byte, and answers each request."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self._lock = threading.Lock()

    def __call__(self, wire: Wire) -> None:
        while message := wire.message()[0]:
            with self._lock:
                self.heads.append(message)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def cookie_of(answer: tuple[bytes, bytes] | bytes) -> str:
    """What a browser sends after an answer that set a cookie."""
    head = answer if isinstance(answer, bytes) else answer[0]
    found = re.search(rb"\r\nSet-Cookie: ([^;]+)", head)
    assert found is not None, head
    return found[1].decode()


class LoginTestCase(ProxyTestCase):
    """A proxy that wants a token, and an upstream that remembers."""

    settings = TOKEN_AUTH

    def setUp(self) -> None:
        super().setUp()
        self.recorder = Recorder()
        self.upstream = ScriptedUpstream(self, self.recorder)

    def log_in(self, proxy: Proxy | None = None, token: str = TOKEN, path: str = "/.proxyd/login") -> str:
        """The cookie of a browser that has logged in."""
        wire = connect((proxy or self.proxy).port)
        body = f"token={quote(token)}"
        wire.send(f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = wire.message()
        wire.close()
        self.assert_status(303, answer)
        return cookie_of(answer)


class RefusalTests(LoginTestCase):
    """Nobody who is not logged in gets as much as a byte through."""

    def test_nothing_arrives(self) -> None:
        """Whatever is asked, and whatever is shown; then the one good request is the first that the upstream sees."""
        self.use(Proxy(self, TOKEN_AUTH))  # one of its own: after so many guesses nobody can log in for a while
        key = self.route(self.upstream)
        state = Path(f"/proc/{self.proxy.pid}/cwd").resolve() / "state"
        secret = bytes.fromhex((state / "cookie-key").read_text())
        expired = Sealer(secret, b"token login", b"", TOKEN.encode()).seal(b"", 1).decode()
        elsewhere = Proxy(self, TOKEN_AUTH)
        other_token = Sealer(secret, b"token login", b"", OTHER.encode()).seal(b"", 4e9).decode()
        good = self.log_in()
        shown = {
            "nothing": "",
            "an expired login": f"Cookie: proxyd-login={expired}\r\n",
            "a login of another proxy": f"Cookie: {self.log_in(elsewhere)}\r\n",
            "a login for another token": f"Cookie: proxyd-login={other_token}\r\n",
            "a forged login": f"Cookie: {good[:-4]}AAAA\r\n",
            "the token as a cookie": f"Cookie: proxyd-login={TOKEN}\r\n",
            "the token for Basic": f"Authorization: Basic {TOKEN}\r\n",
            "half a token": f"Authorization: Bearer {TOKEN[:-1]}\r\n",
        }
        asked = {
            "GET": ("GET", "Accept: */*\r\n", b"", 401),
            "a page": ("GET", "Accept: text/html\r\n", b"", 302),
            "POST": ("POST", "Content-Length: 4\r\n", b"body", 401),
            "POST without its body": ("POST", "Content-Length: 400\r\n", b"", 401),
            "chunks": ("POST", "Transfer-Encoding: chunked\r\n", b"4\r\nbody\r\n0\r\n\r\n", 401),
            "a request in a body": ("PUT", "Content-Length: 60\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 401),
            "100-continue": ("POST", "Expect: 100-continue\r\nContent-Length: 4\r\n", b"", 401),
            "HEAD": ("HEAD", "", b"", 401),
            "OPTIONS": ("OPTIONS", "", b"", 401),
            "DELETE": ("DELETE", "", b"", 401),
            "PROPFIND": ("PROPFIND", "", b"", 401),
            "a WebSocket": ("GET", HANDSHAKE.format(13), b"\x81\x85aaaa", 403),
            "an old WebSocket": ("GET", HANDSHAKE.format(99), b"", 403),
            "events": ("GET", "Accept: text/event-stream\r\n", b"", 401),
        }
        for who, credentials in shown.items():
            for what, (method, fields, body, status) in asked.items():
                client = self.client()
                client.send(f"{method} {key}/x HTTP/1.1\r\nHost: test\r\n{fields}{credentials}\r\n".encode() + body)
                head = client.head()
                if "half" in who and b" 429 " in head:
                    continue  # so many guesses
                self.assert_status(status, head)
                self.assertNotIn(b"101", head[:12], (who, what))
                client.close()
        self.assertEqual((self.recorder.heads, self.upstream.connections), ([], 0))
        self.assert_status(200, self.ask(f"{key}/first", f"Cookie: {good}\r\n"))
        self.assertEqual(len(self.recorder.heads), 1)
        self.assertTrue(self.recorder.heads[0].startswith(f"GET {key}/first ".encode()))

    def test_a_refused_body_hides_no_request(self) -> None:
        """What comes behind a refusal on its connection is dropped, or asked about like any other."""
        key = self.route(self.upstream)
        good = self.log_in()
        hidden = f"GET {key}/hidden HTTP/1.1\r\nHost: test\r\nCookie: {good}\r\n\r\n".encode()
        client = self.client()
        client.send(f"POST {key} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(hidden) + 1}\r\n\r\n".encode() + hidden)
        answers = client.rest()
        self.assertEqual(answers.count(b"HTTP/1.1 "), 1, answers)
        self.assertEqual(self.recorder.heads, [])

    def test_pages_of_others(self) -> None:
        """With the cookie of somebody who is logged in they change nothing, and open no WebSocket."""
        key = self.route(self.upstream)
        good = f"Cookie: {self.log_in()}\r\n"
        for foreign in ("Origin: http://evil.test\r\n", "Sec-Fetch-Site: cross-site\r\n", "Origin: null\r\n"):
            for line, fields in (("POST", "Content-Length: 0\r\n"), ("GET", HANDSHAKE.format(13))):
                client = self.client()
                client.send(f"{line} {key} HTTP/1.1\r\nHost: test\r\n{fields}{foreign}{good}\r\n".encode())
                self.assert_status(403, client.head())
        self.assertEqual(self.upstream.connections, 0)

    def test_secrets_stay_at_the_proxy(self) -> None:
        """The upstream sees neither the token nor the cookie, and the log neither of them."""
        key = self.route(self.upstream)
        good = self.log_in()
        self.assert_status(200, self.ask(key, f"Cookie: a=1; {good}; b=2\r\n"))
        self.assert_status(200, self.ask(key, f"Authorization: token {TOKEN}\r\nCookie: {good}\r\n"))
        self.assert_status(200, self.ask(key, f"Authorization: Basic eA==\r\nCookie: {good}\r\n"))
        first, second, third = self.recorder.heads
        self.assertIn(b"\r\nCookie: a=1; b=2\r\n", first)
        self.assertNotIn(b"Cookie", second)
        self.assertNotIn(b"Authorization", second)
        self.assertIn(b"\r\nAuthorization: Basic eA==\r\n", third)
        for secret in (TOKEN, good.partition("=")[2]):
            self.assertNotIn(secret.encode(), b"".join(self.recorder.heads))
            self.assertNotIn(secret, self.proxy.process.log)

    def test_a_route_that_asks_nothing(self) -> None:
        """Is open, but nobody's login goes there."""
        key = self.route(self.upstream, auth={"kind": "anonymous"})
        self.assert_status(200, self.ask(key))
        self.assert_status(200, self.ask(key, f"Cookie: {self.log_in()}\r\n"))
        self.assertNotIn(b"Cookie", self.recorder.heads[1])

    def test_a_posted_token_is_not_told(self) -> None:
        """It opens its route, and the API does not show it."""
        key = self.route(self.upstream, auth={"kind": "token", "token": OTHER})
        self.assert_status(401, self.ask(key, f"Authorization: Bearer {TOKEN}\r\n"))
        self.assert_status(200, self.ask(key, f"Authorization: Bearer {OTHER}\r\n"))
        cookie = self.log_in(token=OTHER, path=f"{key}/.proxyd/login")
        self.assert_status(200, self.ask(key, f"Cookie: {cookie}\r\n"))
        api = connect(self.proxy.api_port)
        api.send(b"GET /api/routes HTTP/1.1\r\nHost: api\r\n\r\n")
        shown = api.message()[1]
        api.close()
        self.assertIn(b'"auth": {"kind": "token"}', shown)
        self.assertNotIn(OTHER.encode(), shown)
        self.assertNotIn(OTHER, self.proxy.process.log)


class RestartTests(SynchronousTestCase):
    """What is kept."""

    def test_logins_last_longer_than_the_process(self) -> None:
        """Until the token is another one."""
        recorder = Recorder()
        upstream = ScriptedUpstream(self, recorder)
        state = Path(self.mktemp()).absolute()
        route = f"routes: {{/a: '{upstream.url}'}}\nstate_directory: {state}\n"

        def run(token: str) -> Proxy:
            return Proxy(self, f"auth: {{kind: token, token: {token}}}\n{route}")

        def status(proxy: Proxy, cookie: str) -> bytes:
            wire = connect(proxy.port)
            wire.send(f"GET /a HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n".encode())
            answer = wire.message()[0]
            wire.close()
            return answer[9:12]

        first = run(TOKEN)
        wire = connect(first.port)
        body = f"token={TOKEN}"
        wire.send(f"POST /.proxyd/login HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        cookie = cookie_of(wire.message())
        wire.close()
        self.assertEqual(status(first, cookie), b"200")
        self.assertEqual((state / "cookie-key").stat().st_mode & 0o777, 0o600)
        first.process.send(signal.SIGTERM)
        first.process.wait(30)
        self.assertEqual(status(run(TOKEN), cookie), b"200")
        self.assertEqual(status(run(OTHER), cookie), b"401")


class LimitTests(ProxyTestCase):
    """Rates and numbers of connections."""

    settings = (
        "limits: {connections_per_client: 2, requests_per_client: 5/h}\ntrusted_proxies: []\nhealth: {live: /up}\n"
    )

    def test_a_client_beyond_its_limits(self) -> None:
        """429 with Retry-After for connections and for requests, until there is room; health checks are for all."""
        recorder = Recorder()
        key = self.route(ScriptedUpstream(self, recorder))
        first, second = self.client(), self.client()
        for client in (first, second):
            self.assert_status(200, self.ask(key, client=client))
        third = self.client()
        answer = third.rest()
        self.assert_status(429, answer)
        self.assertIn(b"\r\nRetry-After: ", answer)
        second.close()

        def served() -> bool:
            client = self.client()
            head = self.ask(key, client=client)[0]
            client.close()
            return head.startswith(b"HTTP/1.1 200 ")

        wait_for(served, "a seat")
        statuses = [self.ask(key, client=first)[0][9:12] for _ in range(5)]
        self.assertEqual(statuses, sorted(statuses))
        self.assertEqual(statuses[-1], b"429")
        self.assertEqual(len(recorder.heads), 5)
        self.assert_status(200, self.ask("/up", client=first))
