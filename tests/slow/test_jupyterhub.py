"""A real JupyterHub whose proxy is proxyd: people log in, compute, and leave, all through it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from secrets import token_hex
from typing import Any
from unittest import TestCase
from uuid import uuid4

import requests
from twisted.trial import unittest
from websockets.sync.client import ClientConnection, connect

from tests.support import MARK, Process, accepts, free_port, script, wait_for

USER = "alice"
CONFIG = """
c = get_config()  # noqa
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.Authenticator.allow_all = True
c.ConfigurableHTTPProxy.command = [{proxyd!r}, "chp"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.check_running_interval = 1
c.SimpleLocalProcessSpawner.home_dir_template = {home!r}
c.Spawner.cmd = [{singleuser!r}]
c.Spawner.args = {args!r}
c.Spawner.default_url = "/api"
c.Spawner.env_keep.append({mark!r})
"""


# Services do not inherit the environment; nothing of them is to outlive a test either.
MARKED = """
import os
if "services" in c.JupyterHub:
    for service in c.JupyterHub.services:
        service.setdefault("environment", {{}})[{mark!r}] = os.environ[{mark!r}]
"""
INTERNAL_SSL = """
c.JupyterHub.internal_ssl = True
c.JupyterHub.internal_certs_location = {certificates!r}
c.ConfigurableHTTPProxy.api_url = "https://127.0.0.1:{api_port}"
"""
SUBDOMAINS = """
c.JupyterHub.subdomain_host = "http://hub.localhost:{port}"
"""


class Hub:
    """A JupyterHub in a directory of its own, with `more` in its configuration; `case` owns processes and files."""

    def __init__(self, case: TestCase, more: str = "") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-hub-"))
        case.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.port, self.api_port, self.hub_port = free_port(), free_port(), free_port()
        self.url = f"http://hub.localhost:{self.port}" if SUBDOMAINS in more else f"http://127.0.0.1:{self.port}"
        self.server_url = self.url.replace("hub.", f"{USER}.hub.")
        self._case = case
        self._has_internal_ssl = INTERNAL_SSL in more
        self._api_token = token_hex(16)
        config = self.directory / "jupyterhub_config.py"
        config.write_text(
            (CONFIG + more + MARKED).format(
                port=self.port,
                api_port=self.api_port,
                hub_port=self.hub_port,
                proxyd=script("proxyd"),
                home=str(self.directory / "home" / "{username}"),
                singleuser=script("jupyterhub-singleuser"),
                args=["--allow-root"] if os.geteuid() == 0 else [],
                mark=MARK,
                certificates=str(self.directory / "internal-ssl"),
            )
        )
        self.start()

    def start(self) -> None:
        """Start it, or another one with the same files after its end."""
        self.process = Process(
            self._case,
            script("jupyterhub"),
            "--config",
            self.directory / "jupyterhub_config.py",
            env={"CONFIGPROXY_AUTH_TOKEN": self._api_token},
            cwd=self.directory,
        )
        self.process.wait_for(self.is_reachable, "the Hub answers through the proxy", 60, 0.25)

    def is_reachable(self) -> bool:
        """True when the Hub answers through the proxy."""
        return status(f"{self.url}/hub/health") == 200

    def proxy_pid(self) -> int:
        """The process id that the Hub has written down for its proxy; 0 while there is none."""
        try:
            return int((self.directory / "jupyterhub-proxy.pid").read_text() or 0)
        except FileNotFoundError:
            return 0

    def routes(self) -> dict[str, dict[str, object]]:
        """What the REST API of the proxy lists; nothing while it cannot be reached."""
        headers = {"Authorization": f"token {self._api_token}"}
        files = self.directory / "internal-ssl"
        own = [str(files / "hub-internal" / f"hub-internal.{kind}") for kind in ("crt", "key")]
        try:
            if self._has_internal_ssl:
                url = f"https://127.0.0.1:{self.api_port}/api/routes"
                bundle = str(files / "hub-ca_trust.crt")
                answer = requests.get(url, headers=headers, timeout=5, cert=(own[0], own[1]), verify=bundle)
            else:
                answer = requests.get(f"http://127.0.0.1:{self.api_port}/api/routes", headers=headers, timeout=5)
        except requests.ConnectionError:
            return {}
        answer.raise_for_status()
        return dict(answer.json())


class Visitor:
    """Somebody with a browser: logs in at once, and has cookies, and a token for what is no browser."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._session = requests.Session()
        self._session.get(f"{hub.url}/hub/login", timeout=10).raise_for_status()
        form = {"username": USER, "password": "any", "_xsrf": self._xsrf()}
        answer = self._session.post(f"{hub.url}/hub/login", data=form, timeout=60)
        answer.raise_for_status()
        answer = self._session.post(
            f"{hub.url}/hub/api/users/{USER}/tokens", headers={"X-XSRFToken": self._xsrf()}, timeout=10
        )
        answer.raise_for_status()
        self._authorization = {"Authorization": f"token {answer.json()['token']}"}

    def _xsrf(self) -> str:
        return next(cookie.value or "" for cookie in self._session.cookies if cookie.name == "_xsrf")

    def start_server(self) -> None:
        """Follow the pages of the Hub until the user's own server answers."""
        page = f"{self._hub.url}/hub/spawn/{USER}"

        def has_arrived() -> bool:
            answer = self._session.get(page, timeout=60)
            return answer.status_code == 200 and answer.url.startswith(f"{self._hub.server_url}/user/{USER}/api")

        wait_for(has_arrived, "the user's server answers", 60, 0.25)

    def stop_server(self) -> None:
        """Ask the Hub to stop the user's server."""
        url = f"{self._hub.url}/hub/api/users/{USER}/server"
        requests.delete(url, headers=self._authorization, timeout=30).raise_for_status()

    def has_server(self) -> bool:
        """True when the user's server answers through the proxy."""
        return status(f"{self._hub.server_url}/user/{USER}/api/status", self._authorization) == 200

    def start_kernel(self) -> str:
        """Start a kernel and return its id."""
        answer = requests.post(
            f"{self._hub.server_url}/user/{USER}/api/kernels", json={}, headers=self._authorization, timeout=30
        )
        answer.raise_for_status()
        return str(answer.json()["id"])

    def connect(self, kernel: str) -> AbstractContextManager[ClientConnection]:
        """Open the kernel's WebSocket."""
        url = f"{self._hub.server_url.replace('http', 'ws', 1)}/user/{USER}/api/kernels/{kernel}/channels"
        return connect(url, additional_headers=self._authorization, open_timeout=30)

    def run(self, kernel: str, code: str) -> str:
        """Run `code` over the kernel's WebSocket, and return what it results in."""
        with self.connect(kernel) as connection:
            return execute(connection, code)


def execute(connection: ClientConnection, code: str) -> str:
    """Run `code` in the kernel behind `connection`, and return what it results in."""
    header = {"msg_id": uuid4().hex, "session": uuid4().hex, "username": USER, "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    message = {"header": header | {"msg_type": "execute_request"}, "parent_header": {}, "metadata": {}}
    connection.send(json.dumps(message | {"content": content, "channel": "shell", "buffers": []}))
    while True:
        answer = json.loads(connection.recv(timeout=60))
        if answer["msg_type"] == "execute_result" and answer["parent_header"].get("msg_id") == header["msg_id"]:
            return str(answer["content"]["data"]["text/plain"])


def status(url: str, headers: dict[str, str] | None = None) -> int:
    """The status of the answer; 0 while there is none."""
    try:
        return requests.get(url, headers=headers, timeout=10, allow_redirects=False).status_code
    except requests.ConnectionError:
        return 0


class JupyterHubTests(unittest.SynchronousTestCase):
    """The Hub starts proxyd as its own proxy, and never notices that it is not configurable-http-proxy."""

    def setUp(self) -> None:
        """Start a Hub, and a server for one user."""
        self.hub = Hub(self)
        with self.hub.process.log_on_failure():
            self.visitor = Visitor(self.hub)
            self.visitor.start_server()

    def test_a_kernel_computes_through_the_proxy(self) -> None:
        """A user logs in, gets a server, computes over the kernel's WebSocket, and leaves no route behind."""
        with self.hub.process.log_on_failure():
            self.assertEqual(set(self.hub.routes()), {"/", f"/user/{USER}"})
            self.assertEqual(self.visitor.run(self.visitor.start_kernel(), "1+1"), "2")
            self.visitor.stop_server()
            wait_for(lambda: set(self.hub.routes()) == {"/"}, "the user's route is gone", 30)
            self.assertFalse(self.visitor.has_server())

    def test_the_routes_come_back_after_the_proxy_was_killed(self) -> None:
        """The Hub replaces a proxy that was killed, and the user's kernel is where it was."""
        with self.hub.process.log_on_failure():
            kernel = self.visitor.start_kernel()
            self.assertEqual(self.visitor.run(kernel, "x = 20; x"), "20")
            routes, killed = self.hub.routes(), self.hub.proxy_pid()
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda: self.hub.proxy_pid() not in {0, killed}, "the Hub starts another proxy", 30)
            wait_for(lambda: set(self.hub.routes()) == set(routes), "the routes come back", 30)
            wait_for(self.hub.is_reachable, "the Hub is reachable again", 30)
            wait_for(self.visitor.has_server, "the user's server is reachable again", 30)
            self.assertEqual(self.visitor.run(kernel, "x + 1"), "21")
            targets = {path: route["target"] for path, route in self.hub.routes().items()}
            self.assertEqual(targets, {path: route["target"] for path, route in routes.items()})

    def test_a_hub_that_stops_leaves_nothing_behind(self) -> None:
        """With the Hub, the proxy ends, open WebSockets or not, and the user's server, and all ports are free again."""
        with self.hub.process.log_on_failure():
            ports = [self.hub.port, self.hub.api_port, self.hub.hub_port]
            ports += [int(str(route["target"]).rpartition(":")[2]) for route in self.hub.routes().values()]
            with self.visitor.connect(self.visitor.start_kernel()):
                self.assertGreaterEqual(len(self.hub.process.family()), 4)  # Hub, proxy, server, kernel
                self.hub.process.send(signal.SIGTERM)
                self.assertEqual(self.hub.process.wait(30), 0)
                wait_for(lambda: not self.hub.process.family(), "the end of all processes", 30)
            self.assertEqual([port for port in ports if accepts(port)], [])


class InternalSslTests(unittest.SynchronousTestCase):
    """All that is between Hub, proxy and servers is encrypted, and each side shows its certificate."""

    def test_a_kernel_computes_through_the_proxy(self) -> None:
        """The routes lead to https targets; nobody without a certificate gets to the API or to the user's server."""
        hub = Hub(self, INTERNAL_SSL)
        with hub.process.log_on_failure():
            visitor = Visitor(hub)
            visitor.start_server()
            targets = {path: str(route["target"]) for path, route in hub.routes().items()}
            self.assertEqual(set(targets), {"/", f"/user/{USER}"})
            self.assertEqual({target.partition(":")[0] for target in targets.values()}, {"https"})
            self.assertEqual(visitor.run(visitor.start_kernel(), "1+1"), "2")
            for url in (f"https://127.0.0.1:{hub.api_port}/api/routes", targets[f"/user/{USER}"]):
                with self.assertRaises(requests.ConnectionError):
                    requests.get(url, verify=False, timeout=10)  # it is the client that is unknown
            page = requests.get(f"{hub.url}/user/nobody/x", timeout=10)
            self.assertIn("JupyterHub", page.text)
            visitor.stop_server()
            wait_for(lambda: set(hub.routes()) == {"/"}, "the user's route is gone", 30)


class SubdomainTests(unittest.SynchronousTestCase):
    """Each user has a host of their own."""

    def test_a_kernel_computes_through_the_proxy(self) -> None:
        """The route has the user's host in front, and leads there only."""
        genuine = socket.getaddrinfo

        def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
            return genuine("127.0.0.1" if str(host).endswith(".localhost") else host, *arguments, **options)

        self.patch(socket, "getaddrinfo", resolve)
        hub = Hub(self, SUBDOMAINS)
        with hub.process.log_on_failure():
            visitor = Visitor(hub)
            visitor.start_server()
            self.assertEqual(set(hub.routes()), {"/", f"/{USER}.hub.localhost/user/{USER}"})
            self.assertEqual(visitor.run(visitor.start_kernel(), "1+1"), "2")
            self.assertEqual(status(f"{hub.server_url}/user/{USER}/api/status"), 403)  # of the server: nobody asks so
            self.assertEqual(status(f"{hub.url}/user/{USER}/api/status"), 302)  # of the Hub, to the user's host
            visitor.stop_server()
            wait_for(lambda: set(hub.routes()) == {"/"}, "the user's route is gone", 30)
