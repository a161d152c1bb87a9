"""Tests of `proxyd servers`."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from proxyd.cli import proxyd
from tests.support import Process, free_port, script

_PROGRAM = """
import http.server, sys
print("it listens on", sys.argv[1], flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()
"""


class ServersTests(SynchronousTestCase):
    """Against a real proxy, with a server that works and one that does not."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-servers-")).resolve()
        self.addCleanup(shutil.rmtree, self.directory)
        (self.directory / "app.py").write_text(_PROGRAM)
        self.config = self.directory / "proxyd.yaml"
        self.config.write_text(
            f"listeners: [{{kind: http, port: 0}}]\napi: {{port: {free_port()}, token: x}}\nservers:\n"
            f"  grp/app: {{command: [{sys.executable}, {self.directory}/app.py, '{{port}}']}}\n"
            "  broken: {command: [./nowhere]}\n  board: {port: 6006}\n"
        )
        self.process = Process(self, script("proxyd"), "serve", "-c", self.config, cwd="/")
        self.process.wait_for_log("Proxy API at", 60)

    def servers(self, *words: str) -> Result:
        return CliRunner().invoke(proxyd, ["servers", *words[:1], "-c", str(self.config), *words[1:]])

    def good(self, *words: str) -> str:
        result = self.servers(*words)
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        return result.stdout

    def test_a_life(self) -> None:
        """Listed, started, shown, read, restarted, stopped."""
        listed = "grp/app stopped /grp/app/\nbroken stopped /broken/\nboard unmanaged /board/\n"
        self.assertEqual(listed, self.good("list"))
        self.assertEqual(listed, self.good())
        self.assertEqual("grp/app ready\n", self.good("start", "grp/app"))
        shown = json.loads(self.good("show", "grp/app"))
        self.assertEqual(("ready", 1), (shown["state"], shown["instances"][0]["starts"]))
        line = f"it listens on {shown['instances'][0]['port']}\n"
        self.assertTrue(self.good("log", "grp/app").startswith(line))
        self.assertEqual("grp/app ready\n", self.good("restart", "grp/app"))
        follower = Process(self, script("proxyd"), "servers", "log", "-f", "-c", self.config, "grp/app")
        follower.wait_for_log(line.strip(), 60)
        self.assertEqual("grp/app stopped\n", self.good("stop", "grp/app"))

    def test_what_cannot_be_done(self) -> None:
        """One line, and status 1."""
        for words, message in (
            (("start", "broken"), "proxyd: 503: server broken "),
            (("stop", "board"), "proxyd: 409: "),
            (("show", "none"), "proxyd: there is no such server"),
            (("log", "-f", "none"), "proxyd: there is no such server"),
        ):
            result = self.servers(*words)
            self.assertEqual((1, "", 1), (result.exit_code, result.stdout, result.stderr.count("\n")), result.stderr)
            self.assertIn(message, result.stderr)
