"""Kind `jupyterhub` against the real thing: a Hub that starts proxyd as a service, and what its own library says."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import requests
from jupyterhub.services.auth import HubOAuth
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import Application, RequestHandler
from twisted.trial import unittest

from proxyd.core.hubcookies import CookieOptions, HubCookies
from proxyd.core.scopes import admits
from tests.slow.people import Person
from tests.slow.test_jupyterhub import Hub
from tests.support import free_port, script, wait_for
from tests.wire import ScriptedUpstream, Wire

SERVICE = """
c.JupyterHub.services = [{{
    "name": "app", "url": "http://127.0.0.1:@PORT@", "oauth_no_confirm": True,
    "command": ["@PROXYD@", "serve", "--config", "@CONFIG@"],
}}]
c.JupyterHub.load_roles = [
    {{"name": "users-of-app", "users": ["alice"], "scopes": ["access:services!service=app"]}},
]
"""
SERVER = """
c.Spawner.cmd = ["{proxyd}", "serve", "--config", "@CONFIG@"]
c.Spawner.args = []
c.Spawner.port = @PORT@
c.Spawner.default_url = ""
"""


class Shown:
    """An upstream's script that shows what it was asked for."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    def __call__(self, wire: Wire) -> None:
        while head := wire.message()[0]:
            self.heads.append(head)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nthe app")


class ServiceTests(unittest.SynchronousTestCase):
    """The Hub starts proxyd as a service, in front of an application that knows nothing of it."""

    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="proxyd-hub-service-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.application = Shown()
        upstream = ScriptedUpstream(self, self.application)
        port = free_port()
        config = directory / "proxyd.yaml"
        config.write_text(
            f"listeners: [{{kind: http, port: {port}}}]\napi: off\nstate_directory: {directory}/state\n"
            "base_url: /services/app/\nauth: {kind: jupyterhub, forward_user_info: true}\n"
            f"routes: {{/services/app: '{upstream.url}'}}\n"
        )
        more = SERVICE.replace("@PORT@", str(port)).replace("@PROXYD@", script("proxyd"))
        self.hub = Hub(self, more.replace("@CONFIG@", str(config)))
        wait_for(lambda: "/services/app" in self.hub.routes(), "the service has a route", 60)

    def test_people_and_programs(self) -> None:
        """Who may gets in, by login or token; who may not does not; and with the logout it is over, at once."""
        with self.hub.process.log_on_failure():
            alice, bob = Person(self.hub, "alice"), Person(self.hub, "bob")
            page = alice.open("/services/app/a%2Fb?c=d")
            self.assertEqual((page.status_code, page.text), (200, "the app"))
            self.assertEqual(page.url, f"{self.hub.url}/services/app/a%2Fb?c=d")
            (head,) = self.application.heads
            self.assertIn(b'X-CDSDASHBOARDS-JH-USER: {"kind": "user", "name": "alice", "admin": false', head)
            self.assertNotRegex(head, b"jupyterhub-|service-app")

            self.assertEqual(bob.open("/services/app/").status_code, 403)  # the Hub does not let him
            for person, status in ((alice, 200), (bob, 403)):
                authorization = {"Authorization": f"token {person.token}"}
                url = f"{self.hub.url}/services/app/x"
                self.assertEqual(requests.get(url, headers=authorization, timeout=10).status_code, status)
                self.assertEqual(requests.post(url, headers=authorization, timeout=10).status_code, status)
            self.assertEqual(
                requests.get(f"{self.hub.url}/services/app/x", timeout=10, allow_redirects=False).status_code, 302
            )

            before = len(self.application.heads)
            login = [cookie for cookie in alice.session.cookies if cookie.name == "service-app"]
            self.assertEqual([cookie.path for cookie in login], ["/services/app/"])
            alice.open("/hub/logout")
            page = alice.get("/services/app/x")
            self.assertEqual(page.status_code, 302)
            self.assertIn("/hub/api/oauth2/authorize", page.headers["Location"])
            self.assertEqual(len(self.application.heads), before)


class ServerTests(unittest.SynchronousTestCase):
    """The Hub spawns proxyd as the server of a user."""

    def test_a_server_of_a_user(self) -> None:
        """The spawn succeeds, its user gets in and others do not, and the Hub hears when somebody is at work."""
        directory = Path(tempfile.mkdtemp(prefix="proxyd-hub-server-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        upstream = ScriptedUpstream(self, Shown())
        port = free_port()
        config = directory / "proxyd.yaml"
        config.write_text(
            f"listeners: [{{kind: http, port: {port}}}]\napi: off\nstate_directory: {directory}/state\n"
            "base_url: /user/alice/\nauth: {kind: jupyterhub}\nactivity: {interval: 1s}\n"
            f"routes: {{/user/alice: '{upstream.url}'}}\n"
        )
        hub = Hub(self, SERVER.replace("@PORT@", str(port)).replace("@CONFIG@", str(config)))
        with hub.process.log_on_failure():
            alice = Person(hub, "alice")
            wait_for(lambda: alice.open("/hub/spawn/alice").text == "the app", "the server of alice", 60, 0.25)
            self.assertEqual(alice.open("/user/alice/x").text, "the app")
            bob = Person(hub, "bob")
            self.assertEqual(bob.open("/user/alice/x").status_code, 403)

            def last_activity() -> str:
                url = f"{hub.url}/hub/api/users/alice"
                answer = alice.session.get(url, headers={"Accept": "*/*", "X-XSRFToken": alice.xsrf()}, timeout=10)
                return str(answer.json()["servers"][""]["last_activity"])

            before = last_activity()
            alice.get("/user/alice/x")
            wait_for(lambda: last_activity() > before, "the Hub hears of it", 20, 0.25)


class WitnessTests(unittest.SynchronousTestCase):
    """The Hub's own library says the same."""

    def test_scopes(self) -> None:
        """Of every pair of scopes."""
        filters = ["", "!user=alice", "!user=bob", "!server=alice/", "!server=alice/two", "!group=team", "!service=app"]
        scopes = [name + filter_ for name in ("access:servers", "access:services", "users") for filter_ in filters]
        auth = HubOAuth.__new__(HubOAuth)
        for required, held in itertools.product(scopes, scopes):
            theirs = bool(HubOAuth.check_scopes(auth, {required}, {"name": "x", "kind": "user", "scopes": [held]}))
            self.assertEqual(admits([required], [held]), theirs, (required, held))

    def test_attributes_of_cookies(self) -> None:
        """But for SameSite, which they leave to the browser."""
        for host_prefix, scheme, options in itertools.product(
            (False, True), ("http", "https"), ({}, {"samesite": "None", "secure": True}, {"expires_days": None})
        ):
            environ = {
                "JUPYTERHUB_API_TOKEN": "x",
                "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-alice",
                "JUPYTERHUB_SERVICE_PREFIX": "/user/alice/",
                "JUPYTERHUB_COOKIE_OPTIONS": json.dumps(options),
                "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "1" if host_prefix else "0",
            }
            with mock.patch.dict("os.environ", environ):
                theirs = self.set_by_the_library(scheme)
            made, _ = CookieOptions.read(options)
            names = HubCookies(b"jupyterhub-user-alice", host_prefix=host_prefix)
            path = b"/" if host_prefix else b"/user/alice/"
            line = made.line(names.session, b"v", path, secure=scheme == "https", max_age=made.max_age)
            ours = attributes(line.removeprefix(b"Set-Cookie: ").decode())
            self.assertEqual(ours["name"], theirs["name"])
            for name in ("path", "secure", "httponly"):
                self.assertEqual(ours.get(name), theirs.get(name), (name, environ, scheme))
            self.assertEqual("max-age" in ours, "expires" in theirs, environ)

    def set_by_the_library(self, scheme: str) -> dict[str, str]:
        """The attributes of its session cookie."""
        auth = HubOAuth(hub_host="", base_url="/user/alice/", oauth_client_id="jupyterhub-user-alice")
        connection = mock.Mock()
        request = HTTPServerRequest("GET", "/user/alice/", headers=HTTPHeaders({"Host": "a"}), connection=connection)
        request.protocol = scheme
        handler = RequestHandler(Application(cookie_secret="x"), request)
        handler._xsrf_token_id = b"x"  # type: ignore[attr-defined]
        with mock.patch("jupyterhub.services.auth._set_xsrf_cookie"):
            auth.set_cookie(handler, "token")
        (line,) = [morsel.OutputString() for morsel in handler._new_cookie.values()]  # type: ignore[attr-defined]
        return attributes(line)


def attributes(line: str) -> dict[str, str]:
    """The name and the attributes of a cookie."""
    pair, *rest = line.split("; ")
    return {"name": pair.partition("=")[0]} | {
        name.lower(): value for name, _, value in (part.partition("=") for part in rest)
    }
