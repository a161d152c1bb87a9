"""A JupyterHub with proxyd in both roles, its proxy and its servers, and people in front of a real Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import nbformat
import requests
from twisted.trial import unittest
from websockets.sync.client import connect

from tests.slow.people import APP, COMMON, SECONDS, Desk, Person, config_of
from tests.slow.test_jupyterhub import Hub
from tests.slow.test_packages import COUNTER
from tests.support import Process, accepts, free_port, script, wait_for

CELL = """\
import ipywidgets
from IPython.display import display

print("the answer is", 6 * 7)
button, shown = ipywidgets.Button(description="Count"), ipywidgets.Label("counted 0")
button.on_click(lambda _: setattr(shown, "value", f"counted {int(shown.value.split()[1]) + 1}"))
display(button, shown)
"""


class BothRolesTests(unittest.SynchronousTestCase):
    """`proxyd chp` is the proxy of the Hub, `proxyd wrap` is what it spawns."""

    def setUp(self) -> None:
        """Start a Hub; alice has a Streamlit of hers, vera a Voila."""
        files = Path(tempfile.mkdtemp(prefix="proxyd-roles-"))
        self.addCleanup(shutil.rmtree, files, ignore_errors=True)
        (files / "counter.py").write_text(COUNTER)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])  # type: ignore[no-untyped-call]
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, files / "answer.ipynb")  # type: ignore[no-untyped-call]
        wrap = ["wrap", "--no-force-alive", "--ready-timeout=90"]
        streamlit = [script("streamlit"), "run", str(files / "counter.py"), "--server.port", "{port}"]
        streamlit += ["--server.headless", "true", "--browser.gatherUsageStats", "false"]
        voila = [script("voila"), "{presentation_path}", "{--}port={port}", "{--}no-browser"]
        voila += ["{--}Voila.server_url=/", "{--}Voila.base_url={base_url}/"]
        commands = {
            "alice": [*wrap, "--", *streamlit],
            "vera": [*wrap, *voila, f"--presentation-path={files / 'answer.ipynb'}"],
        }
        self.hub = Hub(self, config_of(commands))

    def see_websocket(self, path: str) -> None:
        """There was one, which is over now: the access log tells so then."""
        line = re.compile(rf'"GET {path}\S* HTTP/1.1" 101 ')
        wait_for(lambda: line.search(self.hub.process.log), f"the end of a WebSocket at {path}", SECONDS)

    def test_streamlit(self) -> None:
        """Login, WebSocket, guests and strangers, parts that end, and the logout."""
        with self.hub.process.log_on_failure():
            alice = Desk(self.hub, self, "alice")
            alice.open("/user/alice/")  # nothing runs: the Hub says so, and starts it for whom it belongs to
            alice.log_in()
            alice.open("/hub/spawn/alice")
            alice.browser.see("counted 0")
            self.assertEqual("/user/alice/", alice.path)
            self.count(alice, 1)
            self.have_guests()
            self.lose_the_proxy(alice)
            self.see_websocket("/user/alice/_stcore/stream")
            self.lose_the_application(alice)
            self.lose_the_server(alice)
            self.lose_the_hub(alice)
            self.log_out(alice)
        self.assertNotIn("Traceback", self.hub.process.log)

    def count(self, desk: Desk, number: int) -> None:
        """A click goes to the script and comes back over the WebSocket."""
        desk.browser.press(".st-key-count button")
        desk.browser.see(f"counted {number}")

    def have_guests(self) -> None:
        """Eve is none; bob is one from the moment on at which alice says so."""
        for name in ("eve", "bob"):
            desk = Desk(self.hub, self, name)
            desk.open("/user/alice/")
            desk.log_in()
            desk.browser.see("403")
        owner = Person(self.hub, "alice")
        answer = requests.post(
            f"{self.hub.url}/hub/api/shares/alice/",
            headers={"Authorization": f"token {owner.token}"},
            json={"user": "bob"},
            timeout=SECONDS,
        )
        answer.raise_for_status()
        desk.open("/user/alice/")
        desk.browser.press(
            "form input[type=submit], form button[type=submit]"
        )  # the Hub asks whether alice may know who it is
        desk.browser.see("counted 0")
        self.count(desk, 1)

    def lose_the_proxy(self, alice: Desk) -> None:
        """The Hub starts another one; nobody has to log in, and the page goes on."""
        killed = self.hub.proxy_pid()
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: self.hub.proxy_pid() not in {0, killed}, "another proxy", SECONDS)
        wait_for(lambda: "/user/alice" in self.hub.routes(), "the routes", SECONDS)
        alice.open("/user/alice/")
        alice.browser.see("counted 0")
        self.count(alice, 1)

    def lose_the_application(self, alice: Desk) -> None:
        """It is started again; the page waits for it."""
        (killed,) = self.pids_of("streamlit")
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: self.pids_of("streamlit") not in ([], [killed]), "another application", SECONDS)
        alice.open("/user/alice/")
        alice.browser.see("counted 0")
        self.count(alice, 1)

    def pids_of(self, program: str) -> list[int]:
        """The processes of a program that is a script of Python's."""
        found = []
        for pid in self.hub.process.family():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if len(words) > 1 and words[1] == script(program):
                    found.append(pid)
        return found

    def lose_the_server(self, alice: Desk) -> None:
        """Its key is new, so the browser logs in once more; a person sees nothing of that."""
        owner = Person(self.hub, "alice")
        url = f"{self.hub.url}/hub/api/users/alice/server"
        fields = {"Authorization": f"token {owner.token}"}
        requests.delete(url, headers=fields, timeout=SECONDS).raise_for_status()
        wait_for(lambda: not self.pids_of("streamlit"), "the end of the application", SECONDS)
        wait_for(
            lambda: requests.post(url, headers=fields, timeout=SECONDS).status_code in (201, 202), "a start", SECONDS
        )
        wait_for(lambda: "/user/alice" in self.hub.routes(), "the route", SECONDS)
        alice.open("/user/alice/")
        alice.browser.see("counted 0")
        self.count(alice, 1)

    def lose_the_hub(self, alice: Desk) -> None:
        """Whom it has named goes on, and nobody else gets in; with the next one everything is as before."""
        known, unknown = Person(self.hub, "alice"), Person(self.hub, "alice")
        self.assertEqual(200, self.status_for(known))
        first = self.hub.process
        first.send(signal.SIGKILL)
        first.wait()
        self.assertEqual(200, self.status_for(known))
        self.assertEqual(503, self.status_for(unknown))
        url = f"{self.hub.url.replace('http', 'ws', 1)}/user/alice/_stcore/stream"
        fields = {"Authorization": f"token {known.token}", "Origin": self.hub.url}
        with connect(url, additional_headers=fields, open_timeout=SECONDS):
            pass
        self.hub.start()
        with self.hub.process.log_on_failure():
            wait_for(lambda: "/user/alice" in self.hub.routes(), "the routes", SECONDS)
            self.assertEqual(200, self.status_for(unknown))
            alice.open("/user/alice/")
            alice.browser.see("counted 0")
            self.count(alice, 1)

    def status_for(self, person: Person) -> int:
        fields = {"Authorization": f"token {person.token}"}
        return requests.get(f"{self.hub.url}/user/alice/", headers=fields, timeout=SECONDS).status_code

    def log_out(self, alice: Desk) -> None:
        """In another tab; the next request is one too many."""
        self.assertEqual(200, alice.status("/user/alice/_stcore/health"))
        alice.open("/hub/logout")
        self.assertEqual(403, alice.status("/user/alice/_stcore/health"))
        alice.open("/user/alice/")
        alice.browser.wait_for("document.querySelector('#username_input') !== null")

    def test_voila(self) -> None:
        """A notebook as a page, in one line of the manual; its widgets work over the WebSocket of the kernel."""
        with self.hub.process.log_on_failure():
            vera = Desk(self.hub, self, "vera")
            vera.open("/hub/spawn/vera")
            vera.log_in()
            vera.browser.see("the answer is 42")
            vera.browser.see("counted 0")
            vera.browser.press("button.jupyter-button")
            vera.browser.see("counted 1")
            self.assertEqual("/user/vera/", vera.path)
            stranger = f"{self.hub.url}/user/vera/"
            self.assertEqual(302, requests.get(stranger, timeout=SECONDS, allow_redirects=False).status_code)
            vera.open("/hub/logout")
            self.assertEqual(403, vera.status("/user/vera/"))
            self.see_websocket("/user/vera/api/kernels/.*/channels")


SERVE = (
    COMMON
    + """
from pathlib import Path
Path("serve.yaml").write_text("ports: {{enabled: true}}\\n")
c.Spawner.cmd = [{proxyd!r}, "serve", "--config", str(Path("serve.yaml").absolute())]
"""
)
ECHO = """
(() => {
  const socket = new WebSocket(location.href.replace("http", "ws").replace("page", "socket"));
  const heard = window.heard = [];
  socket.addEventListener("message", (event) => { heard.push(event.data); });
  socket.addEventListener("open", () => { socket.send("hello from the page"); });
  return true;
})()
"""


class UserRedirectTests(unittest.SynchronousTestCase):
    """`proxyd serve` is what the Hub spawns, and somebody has a program on a port of the machine."""

    def test_a_port(self) -> None:
        """The link that fits everybody: logged out and without a server, logged in, and logged out beside a server."""
        port = free_port()
        program = Process(self, sys.executable, APP, str(port))
        program.wait_for(lambda: accepts(port), "the program listens", 30)
        hub = Hub(self, SERVE)
        with hub.process.log_on_failure():
            olga = Desk(hub, self, "olga")
            link = f"/hub/user-redirect/proxy/{port}/page"
            olga.open(f"{link}?x=1")
            olga.log_in()
            self.arrive(olga, port, "x=1")
            olga.open(f"{link}?x=2")
            self.arrive(olga, port, "x=2")
            olga.open("/hub/logout")
            self.assertEqual(403, olga.status(f"/user/olga/proxy/{port}/page"))
            olga.open(f"{link}?x=3")
            olga.log_in()
            self.arrive(olga, port, "x=3")

    def arrive(self, olga: Desk, port: int, query: str) -> None:
        """The page is that of the program, and so is what a WebSocket of the page leads to; neither gets a secret."""
        olga.browser.wait_for(f"location.pathname === '/user/olga/proxy/{port}/page'")
        olga.browser.see(f'"path": "/page?{query}"')
        told = olga.browser.text("body")
        self.assertTrue(olga.browser.evaluate(ECHO.strip()))
        olga.browser.wait_for("window.heard.length === 2")
        first, second = olga.browser.evaluate("window.heard")
        self.assertEqual(f"/socket?{query}", json.loads(first)["path"])
        self.assertEqual("hello from the page", second)
        for seen in (told, first):
            headers = json.dumps(json.loads(seen)["headers"])
            self.assertNotRegex(headers, r"jupyterhub-|Authorization|token")
