"""The REST API of a real process: what its description promises, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.api.openapi import describe
from proxyd.builtins import KINDS
from tests.integration.proxies import Proxy
from tests.support import CHECKOUT, Process, script, wait_for
from tests.wire import connect

HERE = Path(__file__).parent
FOLLOW = b"GET /api/events HTTP/1.1\r\nHost: api\r\n\r\n"


class ConformanceTests(SynchronousTestCase):
    """schemathesis, which invents calls, good and bad ones, from the OpenAPI document."""

    def test_every_answer_is_as_described(self) -> None:
        """Statuses, fields, content types and bodies; what is wrong is refused, and what is right is not."""
        directory = Path(tempfile.mkdtemp(prefix="proxyd-api-"))
        self.addCleanup(shutil.rmtree, directory)
        config = directory / "proxyd.yaml"
        config.write_text("listeners: [{kind: http, port: 0}]\napi: {port: 0, tokens: [secret]}\n")
        proxy = Process(self, script("proxyd"), "serve", "--config", config, cwd=directory)
        url = re.findall(r"http://[0-9.:]+", proxy.wait_for_log("Proxy API at http", 30))[0]
        document = directory / "openapi.json"
        document.write_text(json.dumps(describe(KINDS)))
        ended = subprocess.run(
            [
                *(script("schemathesis"), "--config-file", HERE / "schemathesis.toml", "run", document, "--url", url),
                *("--header", "Authorization: token secret", "--max-examples", "8", "--no-color"),
            ],
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "tests.integration.schemathesis_hooks",
                "PYTHONPATH": str(CHECKOUT),
            },
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        counted = re.search(r"(\d+) generated, (\d+) passed", ended.stdout)
        self.assertEqual(0, ended.returncode, ended.stdout[-20_000:] + ended.stderr)
        assert counted is not None, ended.stdout
        self.assertEqual(counted[1], counted[2], ended.stdout)
        self.assertGreater(int(counted[1]), 1000)
        print(f"schemathesis: {counted[0]}")
        self.assertTrue(proxy.is_running)
        self.assertNotIn("unexpected error", proxy.log)


class EventsTests(SynchronousTestCase):
    """Whoever follows the routes."""

    def test_a_change_is_told(self) -> None:
        """Over a real connection, at once."""
        proxy = Proxy(self)
        wire = connect(proxy.api_port)
        wire.send(FOLLOW)
        wire.until(b"event: reset")
        proxy.put_route("/x", "http://127.0.0.1:1")
        wire.until(b"event: route-added")
        wire.close()

    def test_it_does_not_hold_the_end_up(self) -> None:
        """SIGTERM ends the stream properly, and the process without waiting for anybody."""
        proxy = Proxy(self, "drain_seconds: 300\n")
        wire = connect(proxy.api_port)
        wire.send(FOLLOW)
        wire.until(b"event: reset")
        proxy.process.send(signal.SIGTERM)
        self.assertTrue(wire.rest().endswith(b"0\r\n\r\n"))
        self.assertEqual(0, proxy.process.wait(30))
        wait_for(lambda: not proxy.process.is_running, "end")
