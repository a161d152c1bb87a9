"""Kinds `jupyterhub` and `forward` in real processes: what is refused never reaches an upstream."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from tests.hub.fake import CLIENT_ID, SCOPE, SECRET, FakeHub, model_of
from tests.integration.proxies import Proxy, ProxyTestCase
from tests.integration.test_auth import HANDSHAKE, Recorder
from tests.support import wait_for
from tests.wire import ManualUpstream, ScriptedUpstream

TOKEN, OTHER = "alices-token", "bobs-token"
HTML = "Accept: text/html\r\n"
SETTINGS = """
state_directory: state
base_url: /user/alice/
log: {{level: debug}}
activity: {{url: "{api_url}/users/alice/activity", interval: 500ms, ignore: [".*/idle"]}}
"""
AUTH = (
    "{{kind: jupyterhub, api_url: '{api_url}', api_token: " + SECRET + ", client_id: " + CLIENT_ID + ", "
    "access_scopes: ['" + SCOPE + "'], forward_user_info: true, prefix: /user/alice/}}"
)


class HubProxyTestCase(ProxyTestCase):
    """A proxy that asks a Hub, for everything or for one route, and an upstream that remembers."""

    auth = "auth: " + AUTH

    def setUp(self) -> None:
        self.hub = FakeHub(self)
        self.hub.tokens = {TOKEN: model_of("alice", SCOPE), OTHER: model_of("bob")}
        self.recorder = Recorder()
        self.upstream = ScriptedUpstream(self, self.recorder)
        settings = (SETTINGS + self.auth).format(api_url=self.hub.api_url, upstream=self.upstream.url)
        self.use(Proxy(self, settings))

    def log_in(self, target: str) -> str:
        """A browser is sent to the Hub, comes back, and is where it wanted to be; its cookie."""
        head, _ = self.ask(target, HTML)
        self.assert_status(302, head)
        location = re.search(rb"\r\nLocation: ([^\r]+)", head)
        attempt = re.search(rb"\r\nSet-Cookie: ([^;]+)", head)
        assert location is not None, head
        assert attempt is not None, head
        query = self.hub.authorize(location[1].decode(), TOKEN)
        head, _ = self.ask(f"/user/alice/oauth_callback?{query}", f"{HTML}Cookie: {attempt[1].decode()}\r\n")
        self.assert_status(302, head)
        self.assertIn(f"\r\nLocation: {target}\r\n".encode(), head)
        cookies = [pair for pair in re.findall(rb"\r\nSet-Cookie: ([^;]+)", head) if not pair.endswith(b"=")]
        return cookies[0].decode()  # type: ignore[no-any-return]


class HubTests(HubProxyTestCase):
    """Everything below one prefix."""

    def test_nothing_arrives(self) -> None:
        """Whatever is asked, and whatever is shown; then the one good request is the first that the upstream sees."""
        self.proxy.put_route("/user/alice", self.upstream.url)
        shown = {
            "nothing": "",
            "an unknown token": "Authorization: token unknown\r\n",
            "somebody else's token": f"Authorization: token {OTHER}\r\n",
            "a token as a cookie": f"Cookie: {CLIENT_ID}={TOKEN}\r\n",
            "a token for Basic": f"Authorization: Basic {TOKEN}\r\n",
        }
        asked = {
            "GET": ("GET", "", b""),
            "POST": ("POST", "Content-Length: 4\r\n", b"body"),
            "chunks": ("POST", "Transfer-Encoding: chunked\r\n", b"4\r\nbody\r\n0\r\n\r\n"),
            "HEAD": ("HEAD", "", b""),
            "OPTIONS": ("OPTIONS", "", b""),
            "a WebSocket": ("GET", HANDSHAKE.format(13), b"\x81\x85aaaa"),
            "events": ("GET", "Accept: text/event-stream\r\n", b""),
        }
        for who, credentials in shown.items():
            for what, (method, fields, body) in asked.items():
                client = self.client()
                head = f"{method} /user/alice/x HTTP/1.1\r\nHost: test\r\n{fields}{credentials}\r\n"
                client.send(head.encode() + body)
                self.assertEqual(client.head()[:13], b"HTTP/1.1 403 ", (who, what))
        self.hub.close()
        self.assert_status(503, self.ask("/user/alice/x", "Authorization: token never-seen\r\n"))
        self.assertEqual(self.recorder.heads, [])
        for word in (TOKEN, OTHER, SECRET, "never-seen"):
            self.assertNotIn(word, self.proxy.process.log)

    def test_the_whole_way(self) -> None:
        """A browser logs in and works; the application learns who it is, and nothing that would let it in."""
        self.proxy.put_route("/user/alice", self.upstream.url)
        cookie = self.log_in("/user/alice/a%2Fb?c=d")
        shown = f"Cookie: {cookie}; own=1\r\nX-CDSDASHBOARDS_jh_user: eve\r\n"
        self.assert_status(200, self.ask("/user/alice/a%2Fb?c=d", shown))
        (head,) = self.recorder.heads
        self.assertTrue(head.startswith(b"GET /user/alice/a%2Fb?c=d HTTP/1.1\r\n"), head)
        self.assertIn(b"\r\nCookie: own=1\r\n", head)
        self.assertIn(b'\r\nX-CDSDASHBOARDS-JH-USER: {"kind": "user", "name": "alice", ', head)
        self.assertNotRegex(head, b"eve|oauth|" + CLIENT_ID.encode())
        # The rest of a WebSocket is for the upstream once it is let in.
        upstream = ManualUpstream(self)
        self.proxy.put_route("/user/alice/ws", upstream.url)
        client = self.client()
        client.send(
            f"GET /user/alice/ws HTTP/1.1\r\nHost: test\r\nOrigin: http://test\r\nCookie: {cookie}\r\n"
            f"{HANDSHAKE.format(13)}\r\n".encode()
        )
        self.assertNotIn(b"Cookie", upstream.accept().head())

    def test_the_logout(self) -> None:
        """At the Hub: the session ends there, and with it everything here, at once."""
        self.proxy.put_route("/user/alice", self.upstream.url)
        cookie = self.log_in("/user/alice/")
        session = f"Cookie: {cookie}; jupyterhub-session-id=s1\r\n"
        self.assert_status(200, self.ask("/user/alice/", session))
        del self.hub.tokens[TOKEN]
        head, _ = self.ask("/user/alice/", HTML + session.replace("s1", "s2"))
        self.assert_status(302, head)
        self.assertIn(f"\r\nSet-Cookie: {CLIENT_ID}=; ".encode(), head)

    def test_a_hub_that_starts_us(self) -> None:
        """Gets its answer at once, whether there is a route or not."""
        self.proxy.put_route("/user/alice", self.upstream.url)
        self.hub.say = self.hub.hang
        head, _ = self.ask("/user/alice/api")
        self.assert_status(200, head)
        self.assertIn(b"\r\nX-JupyterHub-Version: 6.1.1\r\n", head)
        self.assertEqual(self.recorder.heads, [])

    def test_activity_is_reported(self) -> None:
        """Of those who may be here, and but for what does not count."""
        path = "/hub/api/users/alice/activity"
        wait_for(lambda: self.hub.of_path(path), "the first report", 20)  # of the start
        self.proxy.put_route("/user/alice", self.upstream.url)
        self.ask("/user/alice/idle", f"Authorization: token {TOKEN}\r\n")
        self.ask("/user/alice/x", f"Authorization: token {OTHER}\r\n")
        self.ask("/user/alice/x", f"Authorization: token {TOKEN}\r\n")
        wait_for(lambda: len(self.hub.of_path(path)) > 1, "another report", 20)
        reports = [json.loads(asked[3]) for asked in self.hub.of_path(path)]
        self.assertEqual({tuple(report["servers"]) for report in reports}, {("",)})
        self.assertEqual(self.hub.of_path(path)[0][2]["authorization"], f"token {SECRET}")


class RouteTests(HubProxyTestCase):
    """One route asks, and the rest does not."""

    auth = "routes: {{/user/alice/app: {{upstream: '{upstream}', auth: " + AUTH + "}}}}"

    def test_the_callback_is_beside_the_route(self) -> None:
        """As the Hub knows it; and the other routes keep the login back."""
        cookie = self.log_in("/user/alice/app/x")
        self.assert_status(200, self.ask("/user/alice/app/x", f"Cookie: {cookie}\r\n"))
        key = self.route(self.upstream)
        self.assert_status(200, self.ask(f"{key}/x", f"Cookie: {cookie}; own=1\r\n"))
        self.assertIn(b"\r\nCookie: own=1\r\n", self.recorder.heads[-1])


class ForwardTests(ProxyTestCase):
    """Another service decides."""

    def test_it_decides(self) -> None:
        """Its refusal is the client's answer; nothing reaches the upstream before it has admitted the request."""
        service = FakeHub(self)
        auth = f"{{kind: forward, url: 'http://127.0.0.1:{service.port}/verify', response_headers: [Remote-User]}}"
        self.use(Proxy(self, f"auth: {auth}\n"))
        recorder = Recorder()
        key = self.route(ScriptedUpstream(self, recorder))
        login = f"https://login.test/?rd={quote(key)}"
        service.say = lambda _: (302, b"go", ("Location", login), ("Set-Cookie", "sso=1"))
        for fields in ("", HANDSHAKE.format(13)):
            head, body = self.ask(f"{key}/x", fields)
            self.assert_status(302, head)
            self.assertIn(f"\r\nLocation: {login}\r\n".encode(), head)
            self.assertIn(b"\r\nSet-Cookie: sso=1\r\n", head)
            self.assertEqual(body, b"go")
        service.say = lambda _: (200, b"", ("Remote-User", "alice"), ("Set-Cookie", "sso=2"))
        head, _ = self.ask(f"{key}/x?y", "remote_user: eve\r\n")
        self.assertIn(b"\r\nSet-Cookie: sso=2\r\n", head)
        (head,) = recorder.heads
        self.assertIn(b"\r\nRemote-User: alice\r\n", head)
        self.assertNotIn(b"eve", head)
        self.assertEqual(service.asked[-1][2]["x-forwarded-uri"], f"{key}/x?y")
        service.close()
        self.assert_status(503, self.ask(f"{key}/x"))
        self.assertEqual(len(recorder.heads), 1)
