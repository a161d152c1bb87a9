"""What people see: the reference configuration, in a real Chromium."""

from __future__ import annotations

import re
import shutil
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any
from unittest import TestCase

import requests
from twisted.trial import unittest

from tests.support import CHECKOUT, Process, accepts, free_port, script, wait_for

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Browser:
    """A Chromium, driven over WebDriver; `case` owns its processes, and all its files are in `directory`."""

    def __init__(self, case: TestCase, directory: Path) -> None:
        driver = shutil.which("chromedriver")
        if driver is None:
            raise AssertionError("chromedriver is not installed (Debian package chromium-driver)")
        port = free_port()
        directory.mkdir()
        environ = {"TMPDIR": str(directory), "HOME": str(directory)}
        self._driver = Process(case, driver, f"--port={port}", env=environ)
        self._driver.wait_for(lambda: accepts(port), "chromedriver listens")
        self._url = f"http://127.0.0.1:{port}/session"
        options = {"args": [*_FLAGS, f"--user-data-dir={directory}/profile"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        with self._driver.log_on_failure():
            session = self._post("", {"capabilities": {"alwaysMatch": wanted}})
        self._url += f"/{session['sessionId']}"
        case.addCleanup(requests.delete, self._url, timeout=30)

    def _post(self, path: str, body: dict[str, object]) -> Any:
        answer = requests.post(f"{self._url}{path}", json=body, timeout=60)
        if answer.status_code != 200:
            raise AssertionError(f"WebDriver: {answer.text}")
        return answer.json()["value"]

    def open(self, url: str) -> None:
        """Go to a page, and return when it is there."""
        self._post("/url", {"url": url})

    def text(self, selector: str) -> str:
        """The text of the first element that fits a CSS selector."""
        code = "return document.querySelector(arguments[0]).textContent"
        return str(self._post("/execute/sync", {"script": code, "args": [selector]}))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self._post("/execute/sync", {"script": f"return {expression}", "args": []})

    def click(self, selector: str) -> None:
        """Click on an element, and return when the page that this leads to is there."""
        self._post(f"/element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        self._post(f"/element/{self._find(selector)}/value", {"text": text})

    def console(self) -> list[dict[str, Any]]:
        """What was written to the console since the last call, by pages and by Chromium: `level` and `message`."""
        entries: list[dict[str, Any]] = self._post("/se/log", {"type": "browser"})
        return entries

    def screenshot(self) -> bytes:
        """What is to be seen, as PNG."""
        answer = requests.get(f"{self._url}/screenshot", timeout=60)
        return b64decode(answer.json()["value"])

    def _find(self, selector: str) -> str:
        found: dict[str, str] = self._post("/element", {"using": "css selector", "value": selector})
        return next(iter(found.values()))


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
