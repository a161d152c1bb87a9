"""What people see: the reference configuration, in a real Chromium."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import requests
from twisted.trial import unittest

from tests.slow.browser import Browser
from tests.support import CHECKOUT, Process, accepts, free_port, script, wait_for


class BrowserTests(unittest.SynchronousTestCase):
    """`proxyd serve` runs with the reference configuration, only its ports differ."""

    def setUp(self) -> None:
        """Start it, and a browser."""
        directory = Path(tempfile.mkdtemp(prefix="proxyd-browser-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        ports = {"8000": free_port(), "8001": free_port(), "8010": free_port()}
        text = (CHECKOUT / "etc" / "proxyd.yaml").read_text()
        config = directory / "proxyd.yaml"
        config.write_text(re.sub(r"\b(8000|8001|8010)\b", lambda match: str(ports[match[0]]), text))
        self.proxyd = Process(
            self, script("proxyd"), "serve", "--config", config, env={"STATE_DIRECTORY": str(directory)}
        )
        self.proxyd.wait_for(lambda: accepts(ports["8000"]) and accepts(ports["8010"]), "proxyd listens")
        self.url = f"http://127.0.0.1:{ports['8000']}"
        self.browser = Browser(self, directory / "browser")

    def test_the_demonstration_shows_a_page_and_a_clock_that_ticks(self) -> None:
        """The page comes through the route, with and without a slash at its end, and so do the events of its clock."""
        for path in ("/demo/", "/demo"):
            with self.proxyd.log_on_failure():
                self.browser.open(self.url + path)
                self.assertEqual(self.browser.text("h1"), "proxyd works")
                first = wait_for(self.tick, "the first tick")
                wait_for(lambda seen=first: self.tick() not in {"", seen}, "another tick")

    def tick(self) -> str:
        """What the clock shows; nothing before its first tick."""
        shown = self.browser.text("#clock")
        return shown if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", shown) else ""

    def test_an_error_page_has_a_number_that_the_log_has_too(self) -> None:
        """A page that is not there says so, with the id under which the log tells why."""
        with self.proxyd.log_on_failure():
            self.browser.open(f"{self.url}/nothing")
            self.assertIn("404", self.browser.text("h1"))
            request_id = self.browser.text("code")
            self.assertRegex(request_id, r"\A[0-9a-f]{16}\Z")
            self.assertIn("GET /nothing", self.proxyd.wait_for_log(request_id))


_SLOW = """
import http.server, sys, time
for part in range(12):
    print(f"part {part} is there", flush=True)
    time.sleep(0.25)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<h1>the application</h1>")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
_DYING = """
import sys, time
print("KeyError: <DATABASE>", flush=True)
time.sleep(1.5)
"""
_TALKATIVE = """
import time
for number in range(10000):
    print(f"line {number}")
print("that was all", flush=True)
time.sleep(600)
"""


_LOUD = """
import http.server, sys
line = "x" * 999
for _ in range(10_000):
    print(line)
sys.stdout.flush()
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<h1>the application</h1>")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
_FAILURES = {
    "dies": ("{command: [sh, -c, 'echo boom >&2; exit 3'], timeout: 10s, restart: {backoff: 60s, backoff_max: 60s}}",
             "was not ready in time (10 s): it ended with exit status 3", "boom\n"),
    "gives_up": ("{command: [sh, -c, 'echo boom; exit 3'], restart: {give_up_after: 2}}",
                 "ended with exit status 3 before it was ready", "boom\nboom\n"),
    "hangs": ("{command: [sleep, '600'], timeout: 2s}", "was not ready in time (2 s)", None),
    "ends": ("{command: ['true']}", "ended with exit status 0 before it was ready", None),
    "killed": ("{command: [sh, -c, 'echo x; kill -9 $$'], restart: {give_up_after: 1}}",
               "was killed by SIGKILL before it was ready", "x\n"),
    "absent": ("{command: [/no/such/program]}", "could not be started: /no/such/program: No such file or directory",
               None),
    "template": ("{command: [program, '{nope}']}", ("could not be started: '{nope}': {nope} is none of port, "
                 "unix_socket, base_url"), None),
}  # fmt: skip
"""For each server that does not start: its definition, what page and log say of it, and its last lines."""


class ServerPageTests(unittest.SynchronousTestCase):
    """Managed servers, seen while they start."""

    def setUp(self) -> None:
        """Start a proxy with them, and a browser."""
        directory = Path(tempfile.mkdtemp(prefix="proxyd-browser-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        port = free_port()
        servers = "".join(f"  {name}: {definition}\n" for name, (definition, _, _) in _FAILURES.items())
        servers += (
            "  crashes: {command: [sh, -c, 'exit 3'], timeout: 300s, "
            "restart: {backoff: 1s, backoff_max: 1s, give_up_after: 0}}\n"
        )
        servers += f"  loud: {{command: [{sys.executable}, {directory}/loud.py, '{{port}}'], timeout: 240s}}\n"
        (directory / "loud.py").write_text(_LOUD)
        for name, program in (("slow", _SLOW), ("dying", _DYING), ("talkative", _TALKATIVE)):
            (directory / f"{name}.py").write_text(program)
            servers += f"  {name}: {{command: [{sys.executable}, {directory}/{name}.py, '{{port}}']}}\n"
        config = directory / "proxyd.yaml"
        listeners = f"listeners: [{{kind: http, port: {port}}}]\napi: off\n"
        config.write_text(f"{listeners}servers:\n{servers}")
        self.proxyd = Process(self, script("proxyd"), "serve", "-c", config, env={"STATE_DIRECTORY": str(directory)})
        self.proxyd.wait_for(lambda: accepts(port), "proxyd listens", 60)
        self.url = f"http://127.0.0.1:{port}"
        self.browser = Browser(self, directory / "browser")

    def test_the_application_takes_the_place_of_its_log(self) -> None:
        """The page comes at once, lines as they are printed, and then the application, all without a hand."""
        with self.proxyd.log_on_failure():
            self.browser.open(f"{self.url}/slow/")
            self.assertEqual("Starting slow", self.browser.text("h1"))
            wait_for(lambda: "part 2 is there" in self.browser.text("#log"), "a line", 60)
            wait_for(lambda: self.browser.text("h1") == "the application", "the application", 60)
            self.browser.open(f"{self.url}/")
            self.assertEqual("running", self.browser.text("[data-server=slow]"))

    def test_a_failure_takes_the_place_of_the_log(self) -> None:
        """With the reason and the lines, and it stays; a click tries again."""
        with self.proxyd.log_on_failure():
            self.browser.open(f"{self.url}/dying/")
            self.assertEqual("Starting dying", self.browser.text("h1"))
            wait_for(lambda: self.browser.text("h1") == "dying did not start", "the failure", 60)
            self.assertEqual("KeyError: <DATABASE>\n", self.browser.text("pre"))
            self.assertEqual(1, self.proxyd.log.count("starting server dying"))
            self.browser.click("main a")
            self.browser.see("Starting dying")

    def test_what_went_wrong_is_told(self) -> None:
        """On the page in the place of the log, and in the log of proxyd with the number that the page has."""
        with self.proxyd.log_on_failure():
            for name, (_, reason, lines) in _FAILURES.items():
                self.browser.open(f"{self.url}/{name}/")
                wait_for(lambda name=name: self.browser.text("h1") == f"{name} did not start", name, 60)
                text = self.browser.text("main")
                self.assertIn(f"{name} {reason}.", text)
                if lines is None:
                    self.assertIn("It has printed nothing.", text)
                else:
                    self.assertTrue(self.browser.text("pre").endswith(lines), name)
                log = self.proxyd.wait_for_log(self.browser.text("code"))
                self.assertIn(f" 503 GET /{name}/ server {name} {reason} (request ", log.replace("error", "", 1))
                self.assertRegex(self.proxyd.log, f"error server {name} {re.escape(reason)}\n")
            self.browser.open(f"{self.url}/")
            for name in _FAILURES:
                self.assertEqual("failed", self.browser.text(f"[data-server={name}]"))
            # The browser has been told nothing else than that.
            faults = [entry["message"] for entry in self.browser.console() if entry["level"] == "SEVERE"]
            self.assertEqual([], [fault for fault in faults if "503 (Service Unavailable)" not in fault])

    def test_a_crash_during_the_start(self) -> None:
        """Is told while it goes on."""
        with self.proxyd.log_on_failure():
            self.browser.open(f"{self.url}/crashes/")
            wait_for(lambda: self.browser.text("#trouble"), "what happened", 60)
            self.assertEqual("It ended with exit status 3, and is started again.", self.browser.text("#trouble"))
            self.assertEqual("Starting crashes", self.browser.text("h1"))

    def test_much_output_before_it_listens(self) -> None:
        """Ten megabytes of it hold nobody up."""
        with self.proxyd.log_on_failure():
            self.browser.open(f"{self.url}/loud/")
            wait_for(lambda: self.browser.text("h1") == "the application", "the application", 240)

    def test_very_many_lines(self) -> None:
        """The last ones are shown, and the page is as quick as ever."""
        with self.proxyd.log_on_failure():
            self.browser.open(f"{self.url}/talkative/")
            wait_for(lambda: self.browser.text("#log").endswith("that was all\n"), "the last line", 60)
            self.assertLessEqual(self.browser.text("#log").count("\n"), 2000)

    def test_the_start_page_follows_the_states(self) -> None:
        """Nobody has to load it again."""
        with self.proxyd.log_on_failure():
            self.browser.open(f"{self.url}/")
            self.assertEqual("not running", self.browser.text("[data-server=slow]"))
            requests.get(f"{self.url}/slow/", timeout=60)
            wait_for(lambda: self.browser.text("[data-server=slow]") == "running", "the state", 60)
