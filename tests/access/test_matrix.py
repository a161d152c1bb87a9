"""Every kind of `auth` x every kind of request x every credential that is none x everything that can be behind it.

None of them reaches the upstream with as much as a byte, or starts a server; the same requests with a good credential
do, so that the upstream is known to be where they would have gone.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import ClassVar

from twisted.trial import unittest

from proxyd.core.sealed import Sealer
from tests.access.recording import RecordingUpstream
from tests.hub.fake import CLIENT_ID, SCOPE, SECRET, FakeHub, model_of
from tests.integration.proxies import Proxy
from tests.support import CHECKOUT, Process, free_port, script
from tests.wire import Wire, connect

TOKEN, OTHER = "correct-horse-battery", "staple-staple-staple"
# Later than any test, and long ago.
FUTURE, PAST = 4e9, 1.0
PROGRAM = (sys.executable, "-E", str(CHECKOUT / "tests" / "integration" / "application.py"))

# What is asked: method, fields, and a body.
Asked = tuple[str, str, bytes]
_HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: {}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
REQUESTS: dict[str, Asked] = {
    "GET": ("GET", "", b""),
    "a page": ("GET", "Accept: text/html\r\n", b""),
    "HEAD": ("HEAD", "", b""),
    "OPTIONS": ("OPTIONS", "", b""),
    "a preflight": ("OPTIONS", "Origin: http://evil.test\r\nAccess-Control-Request-Method: PUT\r\n", b""),
    "POST": ("POST", "Content-Length: 4\r\n", b"body"),
    "POST in chunks": ("POST", "Transfer-Encoding: chunked\r\n", b"4\r\nbody\r\n0\r\n\r\n"),
    "POST with another method in a field": ("POST", "X-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n", b""),
    "PUT": ("PUT", "Content-Length: 4\r\n", b"body"),
    "PATCH": ("PATCH", "Content-Length: 4\r\n", b"body"),
    "DELETE": ("DELETE", "", b""),
    "an unknown method": ("PROPFIND", "", b""),
    "a WebSocket": ("GET", _HANDSHAKE.format(13), b"\x81\x82aaaa\x01\x02"),
    "a WebSocket of a browser": ("GET", _HANDSHAKE.format(13) + "Origin: http://test\r\n", b""),
    "a WebSocket with a bad version": ("GET", _HANDSHAKE.format(99), b""),
    "a WebSocket without a key": ("GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n", b""),
    "a WebSocket by POST": ("POST", _HANDSHAKE.format(13) + "Content-Length: 0\r\n", b""),
    "another upgrade": (
        "GET",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"",
    ),
    "events": ("GET", "Accept: text/event-stream\r\n", b""),
    "an upload that asks first": ("POST", "Expect: 100-continue\r\nContent-Length: 4\r\n", b""),
    "a request that strips its fields": ("GET", "Connection: Cookie, Authorization\r\n", b""),
    "a request of HTTP/1.0": ("GET", "", b""),
}


# What everything is asked with that is not about the kinds of requests.
FEW = ("GET", "POST", "a WebSocket")
# The first of these words in the name of a credential is its kind; one of each kind is shown with every request.
KINDS = ("nothing", "expired", "foreign", "forged", "another user's", "malformed")


class Matrix:
    """A proxy with something behind everything that can be in front of an upstream; a mix-in of tests."""

    auth: ClassVar[str] = ""
    base: ClassVar[str] = "/"
    made_from: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.recorder = RecordingUpstream(self)
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.starts = self.directory / "starts"
        port = self.recorder.port
        servers = {
            "managed": {"command": [*PROGRAM, f"--count={self.starts}", "{port}"], "timeout": "60s"},
            "started": {"port": port},
            "raw": {"port": port, "raw_socket_proxy": True},
            "rawmanaged": {
                "command": [*PROGRAM, f"--count={self.starts}", "--raw", "{port}"],
                "raw_socket_proxy": True,
                "timeout": "60s",
            },
        }
        relay = {"upstream": self.recorder.url, "websocket": "relay"}
        own = {"upstream": self.recorder.url, "request_headers": {"remove": ["Authorization"]}}
        routes = {f"{self.base}route": self.recorder.url, f"{self.base}relay": relay, f"{self.base}own": own}
        pattern = {
            "pattern": f"{self.base}pattern/(?P<port>[0-9]+)/.*",
            "allow": {"port": "1024-65535"},
            "upstream": "http://127.0.0.1:{port}",
        }
        self.proxy = Proxy(
            self,
            f"base_url: {self.base}\nauth: {self.authenticator()}\nstate_directory: {self.directory}/state\n"
            f"ports: {{enabled: true}}\nroutes: {json.dumps(routes)}\nservers: {json.dumps(servers)}\n"
            f"patterns: [{json.dumps(pattern)}]\ntrusted_proxies: [127.0.0.0/8]\nlog: {{level: debug}}\n",
        )
        self.proxy.put_route(f"{self.base}posted", self.recorder.url)
        self._numbers = count(1)
        self._wire: Wire | None = None
        self.addCleanup(lambda: self._wire and self._wire.close())
        self.behind = {
            "a route": f"{self.base}route/x",
            "a route that relays": f"{self.base}relay/x",
            "a route that removes fields": f"{self.base}own/x",
            "a posted route": f"{self.base}posted/x",
            "a pattern": f"{self.base}pattern/{port}/x",
            "a managed server": f"{self.base}managed/x",
            "a server that runs": f"{self.base}started/x",
            "a raw socket": f"{self.base}raw/x",
            "a raw socket of a managed server": f"{self.base}rawmanaged/x",
            "a port": f"{self.base}proxy/{port}/x",
            "a port, absolute": f"{self.base}proxy/absolute/{port}/x",
            "a host with a port": f"{self.base}proxy/127.0.0.1:{port}/x",
        }

    def authenticator(self) -> str:
        """The section `auth`."""
        raise AssertionError

    def shown(self) -> Mapping[str, str]:
        """Credentials that are none, as fields; of `KINDS`, and some more."""
        raise AssertionError

    def good(self) -> str:
        """A credential that is one."""
        raise AssertionError

    def refused(self, what: str) -> set[bytes]:
        """The statuses that a request `what` may be refused with."""
        raise AssertionError

    def answer(self, target: str, asked: Asked, credentials: str, *, version: str = "HTTP/1.1") -> bytes:
        """The head of the answer; each request is another client's, so that nobody is taken for one who guesses."""
        method, fields, body = asked
        number = next(self._numbers)
        client = f"X-Forwarded-For: 10.{number >> 16}.{number >> 8 & 255}.{number & 255}\r\n"
        wire, self._wire = self._wire or connect(self.proxy.port), None
        wire.send(f"{method} {target} {version}\r\nHost: test\r\n{client}{fields}{credentials}\r\n".encode() + body)
        head = wire.head()
        if head[9:12] == b"101" or b"\r\nConnection: close\r\n" in head or version == "HTTP/1.0":
            wire.close()
            return head
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        if length and method != "HEAD":
            wire.exactly(int(length[1]))
        self._wire = wire
        return head

    def assert_refused(self, what: str, head: bytes, told: tuple[str, ...]) -> None:
        """It is the refusal that it should be, and not even an interim response came before it."""
        self.assertIn(head[9:12], self.refused(what), (*told, head))
        self.assertTrue(head.startswith(b"HTTP/1.1 "), (*told, head))

    def test_nothing_arrives(self) -> None:
        """Not a byte, whatever is asked for and shown; and each of them arrives that is good."""
        shown = self.shown()
        of_each_kind = {kind: next(v for name, v in shown.items() if name.startswith(kind)) for kind in KINDS}
        for behind, target in self.behind.items():
            for what, asked in REQUESTS.items():
                version = "HTTP/1.0" if what.endswith("HTTP/1.0") else "HTTP/1.1"
                for who, credentials in of_each_kind.items():
                    head = self.answer(target, asked, credentials, version=version)
                    self.assert_refused(what, head, (behind, what, who))
        for who, credentials in shown.items():
            for what in FEW:
                self.assert_refused(what, self.answer(self.behind["a route"], REQUESTS[what], credentials), (what, who))
        self.assert_untouched()
        self.assert_spellings_do_not_help()
        self.assert_untouched()
        self.assert_good_ones_arrive()

    def assert_spellings_do_not_help(self) -> None:
        """No other spelling of a target gets around it either."""
        for behind, target in self.behind.items():
            below = target.removeprefix(self.base)
            first = f"%{ord(below[0]):02x}"
            for spelling in (
                f"{self.base}{first}{below[1:]}",
                f"{self.base}{below[0]}{below[1:].replace('x', '%78')}",
                f"{self.base}./{below}",
                f"{self.base}nowhere/../{below}",
                f"{self.base}nowhere/%2e%2e/{below}",
                f"{target}/../x",
                f"{target}?token=&next=/",
                f"http://test{target}",
                f"http://TEST:80{target}",
                f"{self.base}/{below}",
                f"{target};jsessionid=1",
                f"{target}%00",
                f"{target.upper()}",
            ):
                for what in ("POST", "a WebSocket"):
                    head = self.answer(spelling, REQUESTS[what], "")
                    # What leads nowhere is not found, which is as good.
                    statuses = self.refused(what) | {b"301", b"302", b"308", b"400", b"404", b"405"}
                    self.assertIn(head[9:12], statuses, (behind, spelling, what, head))

    def assert_untouched(self) -> None:
        """No byte has arrived, and nothing was started."""
        self.assertEqual((b"", 0), (self.recorder.seen, self.recorder.connections))
        self.assertFalse(self.starts.exists(), "a server was started")
        self.assertNotIn("Traceback", self.proxy.process.log)

    def assert_good_ones_arrive(self) -> None:
        """At each place; and what the bad ones were made from is good."""
        good = self.good()
        for credentials in (good, *self.made_from):
            head = self.answer(self.behind["a route"], REQUESTS["GET"], credentials)
            self.assertEqual(b"200", head[9:12], credentials)
        for behind, target in self.behind.items():
            is_raw = "raw" in behind
            before = len(self.recorder.seen), self.starts.read_text() if self.starts.exists() else ""
            what = REQUESTS["a WebSocket" if is_raw else "GET"]
            head = self.answer(target, what, good)
            self.assertEqual(b"101" if is_raw else b"200", head[9:12], (behind, head))
            if "managed" in behind:
                self.assertNotEqual(before[1], self.starts.read_text(), behind)
            elif not is_raw:
                self.assertGreater(len(self.recorder.seen), before[0], behind)


class TokenTests(Matrix, unittest.SynchronousTestCase):
    """`auth: {kind: token}`."""

    def authenticator(self) -> str:
        return f"{{kind: token, token: {TOKEN}}}"

    def shown(self) -> Mapping[str, str]:
        secret = bytes.fromhex((self.directory / "state" / "cookie-key").read_text())

        def cookie(expires: float, token: str = TOKEN, name: str = "", key: bytes = secret) -> str:
            sealed = Sealer(key, b"token login", name.encode(), token.encode()).seal(b"", expires)
            return f"Cookie: proxyd-login={sealed.decode()}\r\n"

        good = cookie(FUTURE).removesuffix("\r\n")
        self.made_from = (cookie(FUTURE),)
        middle = len(good) // 2
        return {
            "nothing": "",
            "expired": cookie(PAST),
            "foreign: of another proxy": cookie(FUTURE, key=b"another key"),
            "foreign: of another scope": cookie(FUTURE, name="/route"),
            "another user's: for another token": cookie(FUTURE, OTHER),
            "another user's: token": f"Authorization: Bearer {OTHER}\r\n",
            "forged: one character": f"{good[:middle]}{'B' if good[middle] == 'A' else 'A'}{good[middle + 1 :]}\r\n",
            "forged: cut off": f"{good[:-6]}\r\n",
            "forged: the token itself": f"Cookie: proxyd-login={TOKEN}\r\n",
            "forged: another name": f"{good.replace('proxyd-login', 'PROXYD-LOGIN')}\r\n",
            "malformed: no cookie": "Cookie: proxyd-login\r\n",
            "malformed: no base64": "Cookie: proxyd-login=%00\xff=;;; =\r\n",
            "malformed: no word": f"Authorization: {TOKEN}\r\n",
            "malformed: another scheme": f"Authorization: Basic {TOKEN}\r\n",
            "malformed: nothing behind it": "Authorization: Bearer \r\n",
            "malformed: two of them": f"Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}\r\n",
            "malformed: elsewhere": f"X-Authorization: Bearer {TOKEN}\r\nProxy-Authorization: Bearer {TOKEN}\r\n",
            "from the machine itself": "X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\nX-Real-IP: ::1\r\n",
            "of another user of proxies": "Remote-User: admin\r\nX-Forwarded-User: admin\r\nX-Remote-User: admin\r\n",
        }

    def good(self) -> str:
        return f"Authorization: Bearer {TOKEN}\r\n"

    def refused(self, what: str) -> set[bytes]:
        if what == "a WebSocket by POST":
            return {b"401", b"403"}
        return {b"403" if "WebSocket" in what else b"302" if what == "a page" else b"401"}


class HubTests(Matrix, unittest.SynchronousTestCase):
    """`auth: {kind: jupyterhub}`, with a Hub that knows alice, who may, and bob, who may not."""

    base = "/user/alice/"

    def setUp(self) -> None:
        self.hub = FakeHub(self)
        self.hub.tokens = {TOKEN: model_of("alice", SCOPE), OTHER: model_of("bob", "access:servers!user=bob")}
        super().setUp()

    def authenticator(self) -> str:
        return (
            f"{{kind: jupyterhub, api_url: '{self.hub.api_url}', api_token: {SECRET}, client_id: {CLIENT_ID}, "
            f"access_scopes: ['{SCOPE}'], prefix: {self.base}}}"
        )

    def shown(self) -> Mapping[str, str]:
        secret = bytes.fromhex((self.directory / "state" / "cookie-key").read_text())

        def cookie(expires: float, token: str = TOKEN, client: str = CLIENT_ID, key: bytes = secret) -> str:
            sealed = Sealer(key, b"hub login", client.encode()).seal(token.encode(), expires)
            return f"Cookie: {CLIENT_ID}={sealed.decode()}\r\n"

        good = cookie(FUTURE).removesuffix("\r\n")
        self.made_from = (cookie(FUTURE),)
        middle = len(good) // 2
        state = Sealer(secret, b"hub attempt", CLIENT_ID.encode()).seal(TOKEN.encode(), FUTURE).decode()
        return {
            "nothing": "",
            "expired: the cookie": cookie(PAST),
            "expired: the token in it": cookie(FUTURE, "was-a-token-once"),
            "expired: the token": "Authorization: token was-a-token-once\r\n",
            "foreign: of another proxy": cookie(FUTURE, key=b"another key"),
            "foreign: of another server of alice": cookie(FUTURE, client=f"{CLIENT_ID}-second"),
            "forged: one character": f"{good[:middle]}{'B' if good[middle] == 'A' else 'A'}{good[middle + 1 :]}\r\n",
            "forged: the token itself": f"Cookie: {CLIENT_ID}={TOKEN}\r\n",
            "forged: what a login begins with": f"Cookie: {CLIENT_ID}={state}\r\n",
            "another user's: token": f"Authorization: token {OTHER}\r\n",
            "another user's: cookie": cookie(FUTURE, OTHER),
            "malformed: no base64": f"Cookie: {CLIENT_ID}=%00\xff; ; =\r\n",
            "malformed: another scheme": f"Authorization: Basic {TOKEN}\r\n",
            "malformed: two of them": f"Authorization: token {TOKEN}\r\nAuthorization: token {OTHER}\r\n",
            "the session of the Hub": "Cookie: jupyterhub-session-id=s1; jupyterhub-hub-login=x\r\n",
            "what applications are told": 'X-CDSDASHBOARDS-JH-USER: {"name": "alice"}\r\n',
            "the token of the server, unknown here": f"Authorization: token {SECRET}\r\n",
        }

    def good(self) -> str:
        return f"Authorization: token {TOKEN}\r\n"

    def refused(self, what: str) -> set[bytes]:
        is_page = what == "a page"
        # A page may be a redirect to the Hub, or, for bob, a refusal.
        return {b"302", b"403"} if is_page else {b"403"}

    def test_a_hub_that_is_down(self) -> None:
        """Lets nobody in."""
        self.hub.close()
        for behind, target in self.behind.items():
            for what in FEW:
                head = self.answer(target, REQUESTS[what], f"Authorization: token never-seen-{next(self._numbers)}\r\n")
                self.assertIn(head[9:12], (b"500", b"502", b"503"), (behind, what, head))
        self.assert_untouched()


class ForwardTests(Matrix, unittest.SynchronousTestCase):
    """`auth: {kind: forward}`, with a service that knows one session."""

    def setUp(self) -> None:
        self.service = FakeHub(self)
        self.service.say = lambda asked: (
            (200, b"", ("Remote-User", "alice"))
            if asked[2].get("cookie") == "session=good"
            else (401, b"no", ("Set-Cookie", "seen=1"))
        )
        super().setUp()

    def authenticator(self) -> str:
        url = f"http://127.0.0.1:{self.service.port}/verify"
        return f"{{kind: forward, url: '{url}', response_headers: [Remote-User]}}"

    def shown(self) -> Mapping[str, str]:
        return {
            "nothing": "",
            "expired": "Cookie: session=expired\r\n",
            "foreign": "Cookie: session=foreign\r\n",
            "forged": "Cookie: session=good2\r\n",
            "another user's": "Cookie: session=bob\r\n",
            "malformed": "Cookie: session\r\nAuthorization: \r\n",
            "what the service would say": "Remote-User: alice\r\nremote_user: alice\r\n",
            "what the service would be told": "X-Forwarded-Uri: /public\r\nX-Forwarded-Method: OPTIONS\r\n",
        }

    def good(self) -> str:
        return "Cookie: session=good\r\n"

    def refused(self, what: str) -> set[bytes]:
        return {b"401"}

    def test_a_service_that_fails(self) -> None:
        """Lets nobody in: when it redirects, forbids, fails, answers nonsense, or is down."""
        for status, seen in ((302, b"302"), (403, b"403"), (500, b"500"), (304, b"304")):
            self.service.say = lambda _, status=status: (status, b"")  # type: ignore[misc]  # bound here
            for behind, target in self.behind.items():
                for what in FEW:
                    head = self.answer(target, REQUESTS[what], self.good())
                    self.assertEqual(seen, head[9:12], (behind, what, head))
        self.service.close()
        for behind, target in self.behind.items():
            for what in FEW:
                head = self.answer(target, REQUESTS[what], self.good())
                self.assertEqual(b"503", head[9:12], (behind, what, head))
        self.assert_untouched()


class AnonymousTests(unittest.SynchronousTestCase):
    """Without any `auth`, where anybody could come."""

    def test_it_does_not_start(self) -> None:
        """Servers and ports for everybody, on an address that others reach, are refused, and nothing is started."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        starts = directory / "starts"
        eager = {"app": {"command": [*PROGRAM, f"--count={starts}", "{port}"], "start": "eager"}}
        servers, ports = f"servers: {json.dumps(eager)}\n", "ports: {enabled: true}\n"
        for section, address in ((servers, "0.0.0.0"), (servers, '"*"'), (ports, '""'), (servers + ports, '"::"')):
            config = directory / "proxyd.yaml"
            config.write_text(
                f"listeners: [{{kind: http, address: {address}, port: {free_port()}}}]\napi: off\n{section}"
                f"state_directory: {directory}/state\n"
            )
            process = Process(self, script("proxyd"), "serve", "--config", config, cwd=directory)
            self.assertEqual(78, process.wait(60), (section, address, process.log))
            self.assertIn("allow_anonymous", process.log)
        self.assertFalse(starts.exists())
