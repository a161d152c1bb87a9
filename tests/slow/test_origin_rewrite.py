"""The Apache recipe with a real Jupyter server, which takes only what comes from its own pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from secrets import token_hex
from typing import Any
from unittest import TestCase
from uuid import uuid4

import requests
from twisted.trial import unittest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.integration.proxies import Proxy
from tests.support import CHECKOUT, Process, free_port, script

ELSEWHERE = "https://lab.example.org"


class JupyterServer:
    """A Jupyter server below `/PREFIX/PORT/`, with its own ideas of Host and Origin; `case` owns it."""

    def __init__(self, case: TestCase, prefix: str) -> None:
        self.port = free_port()
        self.token = token_hex(16)
        self.base = f"/{prefix}/{self.port}/"
        directory = Path(tempfile.mkdtemp(prefix="proxyd-jupyter-"))
        case.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        names = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        self.process = Process(
            case,
            script("jupyter-server"),
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.base_url={self.base}",
            f"--ServerApp.root_dir={directory}",
            f"--IdentityProvider.token={self.token}",
            "--no-browser",
            *(["--allow-root"] if os.geteuid() == 0 else []),
            env={name: str(directory) for name in names},
            cwd=directory,
        )
        self.process.wait_for(self.answers, "the Jupyter server answers", 60, 0.25)

    def answers(self) -> bool:
        """True when the server answers."""
        try:
            url = f"http://127.0.0.1:{self.port}{self.base}api"
            return requests.get(url, timeout=5).status_code == 200
        except requests.ConnectionError:
            return False


class OriginRewriteTests(unittest.SynchronousTestCase):
    """Through a proxy with the patterns of etc/examples/origin-rewrite.yaml, and through one with plain routes."""

    def setUp(self) -> None:
        example = (CHECKOUT / "etc/examples/origin-rewrite.yaml").read_text(encoding="utf-8")
        self.proxy = Proxy(self, example[example.index("patterns:") :])

    def use(self, prefix: str) -> None:
        """Start a server, log in as a browser does, and start a kernel."""
        self.server = JupyterServer(self, prefix)
        self.url = f"http://127.0.0.1:{self.proxy.port}{self.server.base}"
        # Not with the token: whoever has that is not asked where he comes from.
        login = requests.get(
            self.url,
            params={"token": self.server.token},
            headers={"Origin": ELSEWHERE},
            timeout=60,
        )
        login.raise_for_status()
        self.cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in login.cookies)
        self.assertIn("username-", self.cookies)
        self.kernel = self.rest("POST", "api/kernels")["id"]

    def rest(self, method: str, path: str) -> Any:
        """What the server answers to a program with the token that asks through the proxy."""
        answer = requests.request(
            method,
            self.url + path,
            headers={"Authorization": f"token {self.server.token}", "Origin": ELSEWHERE},
            timeout=60,
        )
        answer.raise_for_status()
        self.assertRegex(answer.headers["Origin"], rf"^http://(127\.0\.0\.1|localhost):{self.server.port}$")
        return answer.json() if answer.content else None

    def open(self, prefix: str = "", *, origin: str = ELSEWHERE) -> ClientConnection:
        """The WebSocket of the kernel, as a page at `origin` opens it."""
        url = f"ws://127.0.0.1:{self.proxy.port}{prefix}{self.server.base}api/kernels/{self.kernel}/channels"
        websocket = connect(
            url,
            origin=Origin(origin),
            additional_headers={"Cookie": self.cookies},
            open_timeout=60,
            max_size=None,
            proxy=None,
        )
        self.addCleanup(websocket.close)
        return websocket

    def assert_computes(self, websocket: ClientConnection) -> None:
        """The kernel knows what 1+1 is."""
        header = {"msg_id": uuid4().hex, "username": "", "session": "", "msg_type": "execute_request", "version": "5.3"}
        content = {"code": "1+1", "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        websocket.send(
            json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"})
        )
        while True:
            message = json.loads(websocket.recv(60))
            if message["msg_type"] == "execute_result":
                self.assertEqual("2", message["content"]["data"]["text/plain"])
                return
            self.assertNotEqual("error", message["msg_type"])

    def assert_refused(self, prefix: str, **options: object) -> None:
        """The server refuses the WebSocket through a route with these options."""
        upstream = f"http://127.0.0.1:{self.server.port}"
        self.proxy.put_route(prefix, upstream, strip_prefix=True, **options)
        with self.assertRaises(InvalidStatus) as caught:
            self.open(prefix)
        self.assertEqual(403, caught.exception.response.status_code)

    def check(self, prefix: str) -> None:
        """Requests and the WebSocket of the kernel get through, which they do not without the recipe."""
        self.use(prefix)
        self.assert_refused("/plain")
        self.assert_refused("/host-only", change_origin=True)
        self.assert_refused("/origin-only", request_headers={"set": {"Origin": f"http://127.0.0.1:{self.server.port}"}})
        self.assertTrue(re.search(r"(?i)origin", self.server.process.log), "the server does not say why it refused")
        self.assert_computes(self.open())
        # A plain request through the rule whose target says ws://.
        self.assertIsNone(self.rest("POST", f"api/kernels/{self.kernel}/interrupt"))
        self.assert_computes(self.open())
        self.assertEqual([self.kernel], [kernel["id"] for kernel in self.rest("GET", "api/kernels")])

    def test_two_rules(self) -> None:
        """The recipe as it was written for Apache."""
        self.check("ipython")

    def test_one_rule(self) -> None:
        """The same, shorter."""
        self.check("jupyter")
