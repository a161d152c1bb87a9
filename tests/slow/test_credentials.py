"""Every way to show who one is, under a real JupyterHub, and what the application gets to see of it."""

from __future__ import annotations

import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import requests
from twisted.trial import unittest
from websockets.sync.client import connect

from tests.slow.people import APP, COMMON, SECONDS, Person
from tests.slow.test_jupyterhub import Hub
from tests.support import free_port, wait_for

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
