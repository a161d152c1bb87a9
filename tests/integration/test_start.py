"""What the start of `proxyd serve` loads: what a configuration does not use is not imported for it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

# Runs until it serves, and says what is there then.
SERVE = """
import gc, json, sys
from twisted.internet import reactor

def tell():
    sys.__stderr__.write(json.dumps({"modules": list(sys.modules), "collects": gc.isenabled()}) + "\\n")
    reactor.stop()

from proxyd.cli import main
reactor.callWhenRunning(tell)
sys.argv = ["proxyd", "serve", "--config", "proxyd.yaml"]
main()
"""

# Each of these takes some milliseconds, or some tenths of a second.
NOT_PLAIN = frozenset(
    {
        "automat",
        "autobahn",
        "importlib.metadata",
        "prometheus_client",
        "proxyd.api.openapi",
        "proxyd.auth.forward",
        "proxyd.auth.hub",
        "proxyd.auth.token",
        "proxyd.compat.jupyter_config",
        "proxyd.config.schema",
        "proxyd.hub.asking",
        "proxyd.listeners.demo",
        "proxyd.listeners.redirect",
        "proxyd.stores.sqlite",
        "proxyd.stores.storage",
        "proxyd.supervisor.instance",
        "proxyd.supervisor.process",
        "proxyd.websocket.ends",
        "proxyd.workers.crew",
        "proxyd.workers.link",
        "sqlite3",
        "treq",
        "twisted.internet.endpoints",
        "twisted.plugins.twisted_trial",
        "twisted.protocols.amp",
        "twisted.web.client",
    }
)
PLAIN = """
listeners: [{kind: http, port: 0}]
api: {port: 0, open: true}
routes: {/app: http://127.0.0.1:9}
"""
FULL = """
listeners: [{kind: http, port: 0}, {kind: redirect, port: 0, to_port: 443}, {kind: demo, port: 0}]
api: {port: 0, open: true}
auth: {kind: token, token: correct-horse}
store: {kind: sqlite}
servers: {app: {command: ["true"]}}
jupyter_config: [jupyter.json]
routes:
  /hub: {upstream: "http://127.0.0.1:9", auth: {kind: forward, url: "http://127.0.0.1:9/"}}
  /relay: {upstream: "http://127.0.0.1:9", websocket: relay}
"""
OF_FULL = frozenset(
    {
        "automat",
        "autobahn",
        "proxyd.auth.forward",
        "proxyd.auth.token",
        "proxyd.compat.jupyter_config",
        "proxyd.hub.asking",
        "proxyd.listeners.demo",
        "proxyd.listeners.redirect",
        "proxyd.stores.sqlite",
        "proxyd.supervisor.instance",
        "proxyd.supervisor.process",
        "sqlite3",
    }
)


class StartTests(SynchronousTestCase):
    """A process that has started with a configuration."""

    def start(self, config: str) -> Any:
        """What the process says of itself."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "proxyd.yaml").write_text(f"state_directory: .\n{config}")
        (directory / "jupyter.json").write_text("{}")
        ended = subprocess.run(
            (sys.executable, "-c", SERVE), cwd=directory, capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual(ended.returncode, 0, ended.stderr + ended.stdout)
        return json.loads(ended.stderr.splitlines()[-1])

    def test_a_plain_configuration_loads_what_it_uses_only(self) -> None:
        """Static routes, the API and the numbers need none of the big packages but Twisted's reactor and web."""
        self.assertEqual(NOT_PLAIN & set(self.start(PLAIN)["modules"]), set())

    def test_what_is_used_is_loaded_before_it_serves(self) -> None:
        """What is missing shows at the start, and no request waits for an import."""
        self.assertEqual(OF_FULL - set(self.start(FULL)["modules"]), set())

    def test_garbage_is_looked_for_again(self) -> None:
        """The start goes without; what serves does not."""
        self.assertTrue(gc.isenabled())
        self.assertTrue(self.start(PLAIN)["collects"])
