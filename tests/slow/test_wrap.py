"""What a real JupyterHub spawns: `proxyd wrap` with an application, and `proxyd serve` with ports."""

from __future__ import annotations

import json
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import requests
from twisted.trial import unittest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.slow.test_jupyterhub import INTERNAL_SSL, SUBDOMAINS, Hub
from tests.support import free_port, wait_for
from tests.wire import ScriptedUpstream, answering

APP = Path(__file__).parent.parent / "integration" / "wrapped.py"
COMMON = """
c.Spawner.args = []
c.Spawner.default_url = ""
"""
WRAP = (
    COMMON
    + f"""
c.Spawner.cmd = [{{proxyd!r}}, "wrap", "--no-force-alive", "--last-activity-interval=1", "--ready-timeout=60",
                 "--forward-user-info", "--", {sys.executable!r}, {str(APP)!r}, "{{{{port}}}}"]
"""
)
# Nobody is to be let in by it.
_SECRETS = ("jupyterhub-user-", "jupyterhub-session-id", "oauth-state", "authorization", "token")
SECONDS = 60.0


class Person:
    """Somebody with a browser, who is logged in at the Hub under `name`."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.session = requests.Session()
        self.session.headers["Accept"] = "text/html"
        self.session.get(f"{hub.url}/hub/login", timeout=SECONDS).raise_for_status()
        form = {"username": name, "password": "any", "_xsrf": self._xsrf()}
        self.session.post(f"{hub.url}/hub/login", data=form, timeout=SECONDS, allow_redirects=False)
        self.token, _ = self.make_token()

    def make_token(self, **options: object) -> tuple[str, str]:
        """A token of the Hub's, and under which id that is known."""
        url = f"{self.hub.url}/hub/api/users/{quote(self.name)}/tokens"
        answer = self.session.post(url, headers={"X-XSRFToken": self._xsrf()}, json=options, timeout=SECONDS)
        answer.raise_for_status()
        return str(answer.json()["token"]), str(answer.json()["id"])

    def _xsrf(self) -> str:
        return next(cookie.value or "" for cookie in self.session.cookies if cookie.name == "_xsrf")

    def arrive(self, path: str, at: str) -> requests.Response:
        """Follow the pages of the Hub from `path` on until there is one whose path begins with `at`."""

        def has_arrived() -> requests.Response | None:
            answer = self.session.get(self.hub.url + path, timeout=SECONDS)
            there = answer.url.startswith(f"{self.hub.url}{at}")
            return answer if there and answer.status_code == 200 else None

        found = wait_for(has_arrived, f"{path} leads to {at}", SECONDS, 0.5)
        assert found is not None
        return found

    def get(self, path: str, **options: Any) -> requests.Response:
        """One page, without following redirects."""
        return self.session.get(self.hub.url + path, timeout=SECONDS, allow_redirects=False, **options)

    def cookies_for(self, path: str) -> str:
        """What the browser would send for a path."""
        request = self.session.prepare_request(requests.Request("GET", self.hub.url + path))
        return str(request.headers.get("Cookie", ""))


class WrapTests(unittest.SynchronousTestCase):
    """An application that knows nothing of Hubs."""

    def setUp(self) -> None:
        self.hub = Hub(self, WRAP)
        with self.hub.process.log_on_failure():
            self.alice = Person(self.hub, "alice")
            self.told = self.alice.arrive("/hub/spawn/alice", "/user/alice/").json()

    def test_people_use_it_and_nobody_else_does(self) -> None:
        """Pages and WebSockets, for the owner and not for others, until the logout; the application sees no secret."""
        with self.hub.process.log_on_failure():
            self._use_pages()
            self._use_websockets()
            self._be_refused()
            self._show_activity()
            self._log_out()
        self.assertNotIn("Traceback", self.hub.process.log)
        self.assertNotIn(self.alice.token, self.hub.process.log)

    def _use_pages(self) -> None:
        self.assertEqual("/", self.told["path"].partition("?")[0])
        self.assertEqual("/user/alice", dict(self.told["headers"])["X-Forwarded-Prefix"])
        visitor = json.loads(dict(self.told["headers"])["X-CDSDASHBOARDS-JH-USER"])
        self.assertEqual({"kind": "user", "name": "alice", "admin": False, "groups": []}, visitor)
        self.assertNotIn("JUPYTERHUB_API_TOKEN", self.told["environ"])
        self.assertEqual("alice", self.told["environ"]["JUPYTERHUB_USER"])
        self.assert_no_secret(self.told)
        self.alice.session.cookies.set("own", "mine", domain="127.0.0.1", path="/user/alice/")
        told = self.alice.get("/user/alice/a%2Fb?x=1").json()
        self.assertEqual("/a%2Fb?x=1", told["path"])
        self.assertEqual("own=mine", dict(told["headers"])["Cookie"])
        self.assert_no_secret(told)
        by_token = requests.get(
            f"{self.hub.url}/user/alice/x", headers={"Authorization": f"token {self.alice.token}"}, timeout=SECONDS
        )
        self.assertEqual(200, by_token.status_code)
        self.assert_no_secret(by_token.json())
        self.assertNotIn(self.alice.token, by_token.text)

    def _use_websockets(self) -> None:
        url = f"{self.hub.url.replace('http', 'ws', 1)}/user/alice/socket"
        fields = {"Cookie": self.alice.cookies_for("/user/alice/socket"), "Origin": self.hub.url}
        with connect(url, additional_headers=fields, open_timeout=SECONDS) as websocket:
            self.assert_no_secret(json.loads(websocket.recv(SECONDS)))
            websocket.send("hello")
            self.assertEqual("hello", websocket.recv(SECONDS))
        with connect(f"{url}?token={self.alice.token}", open_timeout=SECONDS) as websocket:
            self.assertNotIn(self.alice.token, str(websocket.recv(SECONDS)))
        for refused in ({}, {**fields, "Origin": "http://evil.example"}, {"Authorization": "token wrong"}):
            with self.assertRaises(InvalidStatus) as caught:
                connect(url, additional_headers=refused, open_timeout=SECONDS)
            self.assertEqual(403, caught.exception.response.status_code)

    def _be_refused(self) -> None:
        bob = Person(self.hub, "bob")
        self.assertEqual(403, bob.session.get(f"{self.hub.url}/user/alice/", timeout=SECONDS).status_code)
        fields = {"Authorization": f"token {bob.token}"}
        self.assertEqual(403, requests.get(f"{self.hub.url}/user/alice/", headers=fields, timeout=10).status_code)
        self.assertEqual(403, requests.post(f"{self.hub.url}/user/alice/", timeout=10).status_code)

    def _show_activity(self) -> None:
        """The Hub learns of it from us, within about a second; its own look at the proxy comes every 5 minutes."""
        before = self._last_activity()

        def is_later() -> bool:
            self.alice.get("/user/alice/")
            return self._last_activity() > before

        wait_for(is_later, "a report of activity", SECONDS, 1.0)

    def _last_activity(self) -> datetime:
        fields = {"Authorization": f"token {self.alice.token}"}
        answer = requests.get(f"{self.hub.url}/hub/api/users/alice", headers=fields, timeout=SECONDS)
        answer.raise_for_status()
        return datetime.fromisoformat(answer.json()["servers"][""]["last_activity"])

    def _log_out(self) -> None:
        self.assertEqual(200, self.alice.get("/user/alice/").status_code)
        kept = self.alice.cookies_for("/user/alice/")
        self.alice.session.get(f"{self.hub.url}/hub/logout", timeout=SECONDS)
        left = self.alice.get("/user/alice/")
        self.assertEqual(302, left.status_code)
        self.assertIn("/hub/api/oauth2/authorize", left.headers["Location"])
        without_session = "; ".join(part for part in kept.split("; ") if not part.startswith("jupyterhub-session-id"))
        fields = {"Cookie": without_session, "Accept": "text/html"}
        stolen = requests.get(f"{self.hub.url}/user/alice/", headers=fields, timeout=10, allow_redirects=False)
        self.assertEqual(302, stolen.status_code)

    def test_the_hub_stops_it(self) -> None:
        """Application and proxy end, and the Hub has nothing to complain about its version."""
        with self.hub.process.log_on_failure():
            pid = self.told["pid"]
            self.assertIn(pid, self.hub.process.family())
            fields = {"Authorization": f"token {self.alice.token}"}
            url = f"{self.hub.url}/hub/api/users/alice/server"
            requests.delete(url, headers=fields, timeout=SECONDS).raise_for_status()
            wait_for(lambda: pid not in self.hub.process.family(), "the end of the application", SECONDS)
        self.assertNotIn("version", "\n".join(line for line in self.hub.process.log.splitlines() if "[W " in line))

    def assert_no_secret(self, told: dict[str, Any]) -> None:
        """Neither fields nor the query have what the Hub or we have given to the browser."""
        seen = json.dumps([told["path"], told["headers"]]).lower()
        for secret in _SECRETS:
            self.assertNotIn(secret, seen)


_PROGRAM = f'"--ready-timeout=60", "--", {sys.executable!r}, {str(APP)!r}, "{{{{port}}}}"'
CREDENTIALS = (
    COMMON
    + f"""
c.JupyterHub.allow_named_servers = True
c.JupyterHub.services = [
    {{{{"name": "robot", "api_token": "@ROBOT@"}}}},
    {{{{
        "name": "board", "url": "http://127.0.0.1:@PORT@", "oauth_no_confirm": True,
        "command": [{{proxyd!r}}, "wrap", {_PROGRAM}],
    }}}},
]
c.JupyterHub.load_roles = [
    {{{{"name": "robots", "services": ["robot"], "scopes": ["access:servers!user=alice"]}}}},
    {{{{"name": "board", "users": ["alice"], "scopes": ["access:services!service=board"]}}}},
]
c.Spawner.environment = {{{{"JUPYTERHUB_ALLOW_TOKEN_IN_URL": "1"}}}}
c.Spawner.cmd = [
    {{proxyd!r}}, "wrap", "--forward-user-info", "--query-user-info", "--no-force-alive",
    "--last-activity-interval=1", {_PROGRAM},
]
"""
)


class CredentialTests(unittest.SynchronousTestCase):
    """Every way to show who one is, and what the application gets to see of it."""

    def test_every_way(self) -> None:
        """At the user's own server, at a named one, and at a service; then the Hub hangs."""
        robot = token_hex(16)
        self.hub = Hub(self, CREDENTIALS.replace("@ROBOT@", robot).replace("@PORT@", str(free_port())))
        with self.hub.process.log_on_failure():
            self.alice = Person(self.hub, "alice")
            self.alice.arrive("/hub/spawn/alice", "/user/alice/")
            self.fields = {"Authorization": f"token {self.alice.token}"}
            self._look_at_pages(robot)
            self._look_at_websockets()
            self._look_at_a_named_server()
            self._look_at_a_service()
            self._show_what_is_no_token_any_more()
            self._have_a_difficult_name()
            self._be_in_many_tabs()
            self._let_the_hub_hang()
        for secret in (robot, self.alice.token):
            self.assertNotIn(secret, self.hub.process.log)

    def _look_at_pages(self, robot: str) -> None:
        """Cookie, field and query, of a person and of a service; what is the application's own arrives."""
        url = f"{self.hub.url}/user/alice/page?x=1"
        by_query = f"{url}&token={self.alice.token}"
        own = "own=mine; _xsrf=theirs"
        cookies = f"{self.alice.cookies_for('/user/alice/')}; {own}"
        basic = "Basic Zm9yIHlvdQ=="
        ways: tuple[tuple[str, str, dict[str, str], str, str | None], ...] = (
            ("cookie", url, {"Cookie": cookies}, "alice", None),
            ("cookie, and a field", url, {"Cookie": cookies, "Authorization": basic}, "alice", basic),
            ("token", url, {**self.fields, "Cookie": own}, "alice", None),
            ("Bearer", url, {"Authorization": f"Bearer {self.alice.token}", "Cookie": own}, "alice", None),
            ("bearer", url, {"Authorization": f"bearer  {self.alice.token}", "Cookie": own}, "alice", None),
            ("query", by_query, {"Cookie": own}, "alice", None),
            (
                "query, and a field",
                f"{url}&token={self.alice.token}",
                {"Cookie": own, "Authorization": basic},
                "alice",
                basic,
            ),
            ("everything", by_query, {"Cookie": cookies}, "alice", None),
            ("service", url, {"Authorization": f"token {robot}", "Cookie": own}, "robot", None),
        )
        for way, target, fields, name, authorization in ways:
            for method in ("GET", "POST"):
                answer = requests.request(method, target, headers=fields, timeout=SECONDS, allow_redirects=False)
                self.assertEqual(200, answer.status_code, (way, method))
                told = answer.json()
                self.assert_spared(told, way, robot)
                headers = dict(told["headers"])
                self.assertEqual(own, headers["Cookie"], way)
                self.assertEqual(authorization, headers.get("Authorization"), way)
                self.assert_told_who(told, name, way)
        for forged in ({"Cookie": f"jupyterhub-user-alice={self.alice.token}"}, {"Authorization": "token forged"}):
            answer = requests.get(url, headers=forged, timeout=SECONDS, allow_redirects=False)
            self.assertNotEqual(200, answer.status_code)

    def assert_told_who(self, told: dict[str, Any], name: str, way: str) -> None:
        """In field and query, and nothing else was added to that."""
        query = parse_qs(urlsplit(told["path"]).query)
        self.assertEqual({"x", "CDSDASHBOARDS_JH_USER"}, set(query), way)
        kind = "service" if name == "robot" else "user"
        for info in (query["CDSDASHBOARDS_JH_USER"][0], dict(told["headers"])["X-CDSDASHBOARDS-JH-USER"]):
            visitor = json.loads(info)
            self.assertEqual(
                (["kind", "name", "admin", "groups"], name, kind), (list(visitor), visitor["name"], visitor["kind"])
            )

    def assert_spared(self, told: dict[str, Any], way: str, *secrets: str) -> None:
        """No credential is in what the application was told, whether it was used or just there."""
        seen = json.dumps([told["path"], told["headers"]])
        values = [cookie.value or "" for cookie in self.alice.session.cookies if cookie.name != "_xsrf"]
        for secret in (self.alice.token, "jupyterhub-", "service-board", "oauth-state", "token=", *secrets, *values):
            self.assertNotIn(secret, seen, way)

    def _look_at_websockets(self) -> None:
        """The same ways, and the same that arrives."""
        url = f"{self.hub.url.replace('http', 'ws', 1)}/user/alice/socket?x=1"
        cookies = {"Cookie": f"{self.alice.cookies_for('/user/alice/')}; own=mine", "Origin": self.hub.url}
        own = {"Cookie": "own=mine", "Origin": "http://elsewhere.example"}
        for way, target, fields in (
            ("cookie", url, cookies),
            ("field", url, {**own, **self.fields}),
            ("query", f"{url}&token={self.alice.token}", own),
        ):
            with connect(target, additional_headers=fields, open_timeout=SECONDS) as websocket:
                told = json.loads(websocket.recv(SECONDS))
            self.assert_spared(told, way)
            self.assertEqual("own=mine", dict(told["headers"])["Cookie"], way)
            self.assert_told_who(told, "alice", way)

    def _look_at_a_named_server(self) -> None:
        """It has a login of its own, which is worth nothing at the other one, and reports under its name."""
        url = f"{self.hub.url}/hub/api/users/alice/servers/second"
        requests.post(url, headers=self.fields, timeout=SECONDS).raise_for_status()
        wait_for(lambda: "/user/alice/second" in self.hub.routes(), "the second server", SECONDS)
        # The cookie of the first one comes along, by its path, and does not count.
        first = self.alice.cookies_for("/user/alice/second/")
        self.assertIn("jupyterhub-user-alice=", first)
        answer = requests.get(
            f"{self.hub.url}/user/alice/second/x", headers={"Cookie": first}, timeout=SECONDS, allow_redirects=False
        )
        self.assertEqual(302, answer.status_code)
        told = self.alice.arrive("/user/alice/second/x?x=1", "/user/alice/second/x").json()
        self.assertEqual("second", told["environ"]["JUPYTERHUB_SERVER_NAME"])
        self.assertNotIn("Cookie", dict(told["headers"]))
        self.assert_spared(told, "a named server")
        paths = {cookie.name: cookie.path for cookie in self.alice.session.cookies}
        self.assertEqual("/user/alice/", paths["jupyterhub-user-alice"])
        self.assertEqual("/user/alice/second/", paths["jupyterhub-user-alice-second"])

        def last_activity() -> str:
            answer = requests.get(f"{self.hub.url}/hub/api/users/alice", headers=self.fields, timeout=SECONDS)
            return str(answer.json()["servers"]["second"]["last_activity"])

        before = last_activity()

        def is_later() -> bool:
            self.alice.get("/user/alice/second/")
            return last_activity() > before

        wait_for(is_later, "a report of the named server", SECONDS, 0.5)

    def _look_at_a_service(self) -> None:
        """`proxyd wrap` is one, too."""
        told = self.alice.arrive("/services/board/x?x=1", "/services/board/x").json()
        self.assertEqual("/x?x=1", told["path"])
        self.assertEqual("/services/board", dict(told["headers"])["X-Forwarded-Prefix"])
        self.assertNotIn("Cookie", dict(told["headers"]))
        self.assert_spared(told, "a service")
        self.assertEqual(403, requests.post(f"{self.hub.url}/services/board/x", timeout=SECONDS).status_code)
        bob = Person(self.hub, "bob")
        self.assertEqual(403, bob.session.get(f"{self.hub.url}/services/board/x", timeout=SECONDS).status_code)

    def _show_what_is_no_token_any_more(self) -> None:
        """One that was taken away, one whose time is over, and one that never was."""
        revoked, identity = self.alice.make_token()
        expired, _ = self.alice.make_token(expires_in=1)
        url = f"{self.hub.url}/hub/api/users/alice/tokens/{identity}"
        requests.delete(url, headers=self.fields, timeout=SECONDS).raise_for_status()

        def is_over() -> bool:
            fields = {"Authorization": f"token {expired}"}
            return requests.get(f"{self.hub.url}/hub/api/user", headers=fields, timeout=SECONDS).status_code == 403

        wait_for(is_over, "the end of a token", SECONDS, 0.2)
        for token in (revoked, expired, "0" * 32):
            for scheme in ("token", "Bearer"):
                fields = {"Authorization": f"{scheme} {token}", "Accept": "application/json"}
                answer = requests.get(f"{self.hub.url}/user/alice/x", headers=fields, timeout=SECONDS)
                self.assertEqual(403, answer.status_code)
                self.assertNotIn(token, answer.text)

    def _have_a_difficult_name(self) -> None:
        """Its escapes are in the prefix, in the names of cookies, and in the address that the Hub calls back."""
        name = "josé x@y+z"
        person = Person(self.hub, name)
        prefix = f"/user/{quote(name, safe='@')}/"
        told = person.arrive(f"/hub/spawn/{quote(name)}", prefix).json()
        self.assertEqual((name, "/"), (told["environ"]["JUPYTERHUB_USER"], told["path"].partition("?")[0]))
        self.assertEqual(prefix.rstrip("/"), dict(told["headers"])["X-Forwarded-Prefix"])
        other = person.get(f"/user/{quote(name, safe='')}/x%2Fy?z=%20")
        self.assertEqual((301, f"{prefix}x%2Fy?z=%20"), (other.status_code, other.headers["Location"]))
        url = f"{self.hub.url.replace('http', 'ws', 1)}{prefix}socket"
        fields = {"Cookie": person.cookies_for(f"{prefix}socket"), "Origin": self.hub.url}
        with connect(url, additional_headers=fields, open_timeout=SECONDS) as websocket:
            self.assertNotIn("Cookie", dict(json.loads(websocket.recv(SECONDS))["headers"]))

    def _be_in_many_tabs(self) -> None:
        """Twenty at once find out that nobody is logged in, and in the end each is where it wanted to be."""
        person = Person(self.hub, "alice")
        paths = [f"/user/alice/tab?x={number}" for number in range(20)]

        def load(path: str) -> list[str]:
            """To the Hub, back to the callback, and on; where each answer leads."""
            seen, location = [], path
            while location and len(seen) < 5:
                answer = person.session.get(urljoin(self.hub.url, location), timeout=SECONDS, allow_redirects=False)
                location = answer.headers.get("Location", "")
                seen.append(f"{answer.status_code} {location}")
            return seen

        with ThreadPoolExecutor(20) as pool:
            for path, seen in zip(paths, pool.map(load, paths), strict=True):
                self.assertEqual([f"302 {path}", "200 "], seen[-2:], seen)
        self.assertEqual(200, person.get("/user/alice/tab?x=7").status_code)

    def _let_the_hub_hang(self) -> None:
        """Whom it has just named goes on, and nobody else gets in until it answers again."""
        known, unknown = Person(self.hub, "alice"), Person(self.hub, "alice")
        url = f"{self.hub.url}/user/alice/x"

        def status_for(person: Person) -> int:
            fields = {"Authorization": f"token {person.token}"}
            return requests.get(url, headers=fields, timeout=SECONDS).status_code

        self.assertEqual(200, status_for(known))
        self.hub.process.send(signal.SIGSTOP)
        try:
            self.assertEqual(200, status_for(known))
            self.assertEqual(503, status_for(unknown))
        finally:
            self.hub.process.send(signal.SIGCONT)
        self.assertEqual(200, status_for(unknown))


class SubdomainTests(unittest.SynchronousTestCase):
    """Each user has a host of their own."""

    def test_an_application(self) -> None:
        """The login goes to the host of the Hub and comes back to that of the user."""
        genuine = socket.getaddrinfo

        def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
            return genuine("127.0.0.1" if str(host).endswith(".localhost") else host, *arguments, **options)

        self.patch(socket, "getaddrinfo", resolve)
        hub = Hub(self, SUBDOMAINS + WRAP)
        with hub.process.log_on_failure():
            alice = Person(hub, "alice")
            server = f"http://alice.hub.localhost:{hub.port}"

            def page() -> requests.Response | None:
                answer = alice.session.get(f"{hub.url}/hub/spawn/alice", timeout=SECONDS)
                return answer if answer.url == f"{server}/user/alice/" else None

            told = wait_for(page, "the application", SECONDS, 0.5)
            assert told is not None
            self.assertEqual("/", told.json()["path"])
            self.assertNotIn("Cookie", dict(told.json()["headers"]))
            login = [cookie for cookie in alice.session.cookies if cookie.name == "jupyterhub-user-alice"]
            self.assertEqual([("alice.hub.localhost", "/user/alice/")], [(one.domain, one.path) for one in login])
            stranger = requests.get(f"{server}/user/alice/", timeout=SECONDS, allow_redirects=False)
            self.assertEqual(302, stranger.status_code)
            self.assertTrue(stranger.headers["Location"].startswith(f"{hub.url}/hub/api/oauth2/authorize?"))
            # The page of another user's host asks with the cookies of alice.
            fields = {"Origin": f"http://eve.hub.localhost:{hub.port}", "Sec-Fetch-Site": "same-site"}
            self.assertEqual(
                403, alice.session.post(f"{server}/user/alice/", headers=fields, timeout=SECONDS).status_code
            )


class ServeTests(unittest.SynchronousTestCase):
    """`proxyd serve` in place of jupyterhub-singleuser."""

    def test_ports_of_the_user(self) -> None:
        """Through the Hub's own redirect, and as the page where people arrive; behind the same login."""
        upstream = ScriptedUpstream(self, answering(b"an application"))
        more = f"""
from pathlib import Path
Path("serve.yaml").write_text("ports: {{{{enabled: true}}}}\\n")
c.Spawner.cmd = [{{proxyd!r}}, "serve", "--config", str(Path("serve.yaml").absolute())]
c.Spawner.default_url = "/proxy/{upstream.port}/"
"""
        hub = Hub(self, COMMON + more)
        with hub.process.log_on_failure():
            alice = Person(hub, "alice")
            arrived = alice.arrive("/hub/spawn/alice", f"/user/alice/proxy/{upstream.port}")
            self.assertEqual("an application", arrived.text)
            redirected = alice.arrive(f"/hub/user-redirect/proxy/{upstream.port}", "/user/alice/proxy/")
            self.assertEqual("an application", redirected.text)
            landing = alice.get("/user/alice/")
            self.assertEqual(f"/user/alice/proxy/{upstream.port}/", landing.headers["Location"])
            stranger = requests.get(f"{hub.url}/user/alice/proxy/{upstream.port}/", timeout=10, allow_redirects=False)
            self.assertNotEqual("an application", stranger.text)
            bob = Person(hub, "bob")
            url = f"{hub.url}/user/alice/proxy/{upstream.port}/"
            self.assertEqual(403, bob.session.get(url, timeout=SECONDS).status_code)
        self.assertNotIn("version", "\n".join(line for line in hub.process.log.splitlines() if "[W " in line))
        self.assertNotIn("Traceback", hub.process.log)


class InternalSslTests(unittest.SynchronousTestCase):
    """All that is between Hub, proxy and application's proxy is encrypted."""

    def test_an_application(self) -> None:
        """It is reached as without, and nobody without a certificate of the Hub's gets to its proxy."""
        hub = Hub(self, INTERNAL_SSL + WRAP)
        with hub.process.log_on_failure():
            alice = Person(hub, "alice")
            told = alice.arrive("/hub/spawn/alice", "/user/alice/").json()
            self.assertEqual("https://", told["environ"]["JUPYTERHUB_SERVICE_URL"][:8])
            self.assertNotIn("JUPYTERHUB_SSL_KEYFILE", told["environ"])
            with self.assertRaises(requests.ConnectionError):
                requests.get(told["environ"]["JUPYTERHUB_SERVICE_URL"] + "api", verify=False, timeout=10)
