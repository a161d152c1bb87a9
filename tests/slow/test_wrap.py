"""What a real JupyterHub spawns: `proxyd wrap` with an application, and `proxyd serve` with ports."""

from __future__ import annotations

import json
import socket
import sys
from datetime import datetime
from typing import Any

import requests
from twisted.trial import unittest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.slow.people import APP, COMMON, SECONDS, Person
from tests.slow.test_jupyterhub import INTERNAL_SSL, SUBDOMAINS, Hub
from tests.support import wait_for
from tests.wire import ScriptedUpstream, answering

WRAP = (
    COMMON
    + f"""
c.Spawner.cmd = [{{proxyd!r}}, "wrap", "--no-force-alive", "--last-activity-interval=1", "--ready-timeout=60",
                 "--forward-user-info", "--", {sys.executable!r}, {str(APP)!r}, "{{{{port}}}}"]
"""
)
# Nobody is to be let in by it.
_SECRETS = ("jupyterhub-user-", "jupyterhub-session-id", "oauth-state", "authorization", "token")


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
                # A page that waits for the application has the same URL, and the status 503.
                there = answer.url == f"{server}/user/alice/" and answer.status_code == 200
                return answer if there else None

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
