"""The command lines and calls in the manuals of configurable-http-proxy, with only the program's name changed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess

from tests.integration.test_chp_command import CHP, PATIENCE_SECONDS, TOKEN, ChpCase
from tests.support import Process, free_ports
from tests.wire import ScriptedUpstream, answering, get


class ManualTests(ChpCase):
    """What people have learnt by heart."""

    skip = None if shutil.which("curl") else "curl is not installed"

    def setUp(self) -> None:
        super().setUp()
        self.port, self.api_port = free_ports(2)
        self.upstream = ScriptedUpstream(self, answering(b"a notebook"))

    def run_line(self, line: str) -> Process:
        """Start the proxy as the line says, on free ports, and wait until it serves."""
        program, *words = shlex.split(line.replace("8888", str(self.upstream.port)))
        self.assertEqual("configurable-http-proxy", program)
        words += ["--ip=127.0.0.1", f"--port={self.port}"]
        process = Process(self, *CHP, *words, env=self.environ, cwd=self.directory)
        process.wait_for_log("Proxy API at", PATIENCE_SECONDS)
        return process

    def call(self, line: str) -> str:
        """Run a line with curl in a shell, as the manual has it, and return what is printed."""
        done = subprocess.run(
            ["sh", "-c", line.replace("8001", str(self.api_port)).replace("8888", str(self.upstream.port))],
            env={**os.environ, "CONFIGPROXY_AUTH_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        )
        return done.stdout

    def test_a_default_target(self) -> None:
        """It answers whatever no route leads to, and is in the table."""
        self.run_line("configurable-http-proxy --default-target=http://localhost:8888")
        self.assertEqual(b"a notebook", get(self.port, "/anything")[1])
        line = 'curl -s -H "Authorization: token $CONFIGPROXY_AUTH_TOKEN" http://localhost:8001/api/routes'
        table = json.loads(self.call(line))
        self.assertEqual(["/"], list(table))
        self.assertEqual({"target", "last_activity"}, set(table["/"]))

    def test_the_calls_of_the_api(self) -> None:
        """Adding a route, looking at it, listing those that nobody uses, and deleting it."""
        self.run_line("configurable-http-proxy --log-level=debug --no-include-prefix")
        curl = 'curl -s -w "%{http_code}" -H "Authorization: token $CONFIGPROXY_AUTH_TOKEN"'
        routes = "http://localhost:8001/api/routes"
        body = """'{"target": "http://localhost:8888", "owner": "me"}'"""
        self.assertEqual("201", self.call(f"{curl} -X POST -d {body} {routes}/user/me"))
        self.assertEqual(b"a notebook", get(self.port, "/user/me/x")[1])
        answer = self.call(f"{curl} {routes}/user/me")
        self.assertEqual("me", json.loads(answer.removesuffix("200"))["owner"])
        self.assertEqual("{}200", self.call(f"{curl} '{routes}?inactive_since=2015-02-20T00:00:00Z'"))
        self.assertEqual("204", self.call(f"{curl} -X DELETE {routes}/user/me"))
        self.assertEqual("404", self.call(f"{curl} -X DELETE {routes}/user/me"))
        self.assertIn(b" 404 ", get(self.port, "/user/me/x")[0])

    def test_an_error_target(self) -> None:
        """It is asked for the page of an error, by status and by what was asked for."""
        self.run_line("configurable-http-proxy --error-target=http://localhost:8888")
        head, page = get(self.port, "/nowhere")
        self.assertIn(b" 404 ", head)
        self.assertEqual(b"a notebook", page)

    def test_host_routing(self) -> None:
        """The first segment of a route is its host."""
        self.run_line("configurable-http-proxy --host-routing")
        curl = 'curl -s -w "%{http_code}" -H "Authorization: token $CONFIGPROXY_AUTH_TOKEN"'
        body = """'{"target": "http://localhost:8888"}'"""
        self.assertEqual("201", self.call(f"{curl} -X POST -d {body} http://localhost:8001/api/routes/me.test"))
        self.assertEqual(b"a notebook", get(self.port, "/x", "me.test")[1])
        self.assertIn(b" 404 ", get(self.port, "/x", "other.test")[0])
