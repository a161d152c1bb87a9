"""Real applications below a real proxyd, in a real Chromium: from packages for jupyter-server-proxy, and from YAML."""

from __future__ import annotations

import json
import os
import re
import signal
import sysconfig
import time
from http.client import HTTPConnection
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tests.integration.test_serve import CommandCase
from tests.slow.browser import Browser
from tests.support import accepts, wait_for

SECONDS = 120.0

CONFIG = """\
listeners: [{{kind: http, port: 0}}]
api: {{port: 0, open: true}}
base_url: {base_url}
server_packages: [tensorboard, marimo]
servers:
  whole:
    command: [streamlit, run, counter.py, --server.port, "{{port}}", --server.baseUrlPath, "{{base_url}}whole"]
    environment: &streamlit
      STREAMLIT_SERVER_ADDRESS: 127.0.0.1
      STREAMLIT_SERVER_HEADLESS: "true"
      STREAMLIT_BROWSER_GATHER_USAGE_STATS: "false"
    absolute_url: true
    ready: {{timeout: 120s}}
  stripped:
    command: [streamlit, run, counter.py, --server.port, "{{port}}"]
    environment: *streamlit
    ready: {{timeout: 120s}}
"""

COUNTER = """\
import streamlit

state = streamlit.session_state
if streamlit.button("Count", key="count"):
    state.counted = state.get("counted", 0) + 1
streamlit.write(f"counted {state.get('counted', 0)}")
"""

NOTEBOOK = """\
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    mo.md(f"the answer is {6 * 7}")
    return


if __name__ == "__main__":
    app.run()
"""


class PackagesTests(CommandCase):
    """One proxyd with all of them, of which a test uses one."""

    base_url = "/"

    def setUp(self) -> None:
        """Start proxyd and a browser, where nothing is but what the applications show."""
        super().setUp()
        self.write(COUNTER, "counter.py")
        self.write(NOTEBOOK, "answer.py")
        self.environ |= {
            "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
            "JUPYTERHUB_SERVICE_PREFIX": self.base_url,
        }
        server = self.start(CONFIG.format(base_url=self.base_url))
        self.port, self.proxyd = server.port, server.process
        self.browser = Browser(self, self.directory / "browser")

    def open(self, path: str) -> None:
        """Go to a page below the base URL."""
        self.browser.open(f"http://127.0.0.1:{self.port}{self.base_url}{path}")

    def ask(self, path: str, port: int = 0, **fields: str) -> tuple[int, bytes]:
        """Status and body of one GET below the base URL, through proxyd unless another `port` is given."""
        connection = HTTPConnection("127.0.0.1", port or self.port, timeout=SECONDS)
        self.addCleanup(connection.close)
        connection.request("GET", self.base_url + path, headers=fields)
        response = connection.getresponse()
        return response.status, response.read()

    def leave(self, *websockets: str, faults: str = r"\Z.") -> None:
        """The `websockets` were used, the console has no errors but `faults`, and proxyd ends with everything."""
        errors = [entry["message"] for entry in self.browser.console() if entry["level"] == "SEVERE"]
        self.assertEqual([], [error for error in errors if not re.search(faults, error)])
        self.assertGreater(len(self.proxyd.family()), 2)
        self.proxyd.send(signal.SIGTERM)
        self.assertEqual(0, self.proxyd.wait(SECONDS))
        self.assertEqual([], self.proxyd.family())
        for path in websockets:
            self.assertRegex(self.proxyd.log, rf'"GET {self.base_url}{path}\S* HTTP/1.1" 101 ')

    def test_streamlit(self) -> None:
        """It knows its prefix, or none; a click goes to the script over the WebSocket, and what it shows comes back."""
        for name in ("whole", "stripped"):
            self.open(f"{name}/")
            self.browser.see("counted 0")
            for number in (1, 2):
                self.browser.press(".st-key-count button")
                self.browser.see(f"counted {number}")
        self.leave("whole/_stcore/stream", "stripped/_stcore/stream")

    def test_tensorboard(self) -> None:
        """Its page, with what it has read from a file of events."""
        # The package has the port of TensorBoard, and here may be others who run this very test.
        wait_for(lambda: not accepts(6006), "the end of somebody else's TensorBoard", SECONDS, 0.5)
        self.write_events()
        self.open("tensorboard/")
        self.browser.see("loss")
        self.browser.see("first-run")
        status, body = self.ask("tensorboard/data/runs")
        self.assertEqual((200, ["first-run"]), (status, json.loads(body)))
        # Its style names fonts by absolute paths, whatever the prefix; they are nowhere.
        self.leave(faults=r"/font-roboto/\S+ - Failed to load resource: .* 404 ")

    def write_events(self) -> None:
        """Five steps of a run, where the package looks for them."""
        writer = EventFileWriter(str(self.directory / "logs" / "first-run"))
        for step in range(5):
            summary = Summary(value=[Summary.Value(tag="loss", simple_value=1 / (step + 1))])
            writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
        writer.close()

    def test_marimo(self) -> None:
        """A cell runs; marimo asks for a token that only the field knows that the package overrides."""
        self.open("marimo/?file=answer.py")
        self.browser.see("import marimo as mo")
        self.browser.press("[data-testid=run-button]")
        self.browser.see("the answer is 42")
        for fields in ({}, {"Authorization": "Basic d3Jvbmc6d3Jvbmc="}):
            status, body = self.ask("marimo/", **fields)
            self.assertEqual(200, status)
            self.assertIn(b"<marimo-filename", body)
        self.assertEqual(200, self.ask("marimo/health")[0])
        self.assertIn(self.ask("marimo/", self.port_of("marimo"))[0], (303, 401))
        self.leave("marimo/ws")

    def port_of(self, program: str) -> int:
        """The port that a program was given on its command line."""
        for pid in self.proxyd.family():
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if any(word.endswith(f"/{program}") for word in words) and "--port" in words:
                return int(words[words.index("--port") + 1])
        raise AssertionError(f"{program} does not run")


class PrefixedPackagesTests(PackagesTests):
    """The same below the prefix that a Hub gives."""

    base_url = "/user/u1/"
