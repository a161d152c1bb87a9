"""A real Chromium for tests."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any
from unittest import TestCase

import requests

from tests.support import Process, accepts, free_port, wait_for

PATIENCE_SECONDS = 120.0
"""How long an application may take to show something."""

_TEXT = "document.documentElement.innerText"
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

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true in the page; what is to be seen is printed if that is in vain."""

        def is_true() -> bool:
            try:
                return bool(self.evaluate(expression))
            except AssertionError:  # one page is on its way out, the next one is not there yet
                return False

        try:
            wait_for(is_true, f"{expression} in the page", PATIENCE_SECONDS, 0.1)
        except AssertionError:
            with contextlib.suppress(AssertionError):
                sys.stderr.write(f"\n{self.evaluate('location.href')}\n{self.evaluate(_TEXT)}\n")
            raise

    def see(self, text: str) -> None:
        """Wait until the page shows `text`."""
        self.wait_for(f"{_TEXT}.includes({json.dumps(text)})")

    def press(self, selector: str) -> None:
        """Wait for a button, which may be there later than text around it, and press it."""
        button = f"document.querySelector({json.dumps(selector)})"
        self.wait_for(f"{button} !== null")
        self.evaluate(f"{button}.click()")

    def text(self, selector: str) -> str:
        """The text of the first element that fits a CSS selector."""
        code = "return document.querySelector(arguments[0]).textContent"
        return str(self._post("/execute/sync", {"script": code, "args": [selector]}))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self._post("/execute/sync", {"script": f"return {expression}", "args": []})

    def click(self, selector: str) -> None:
        """Click on an element; the page that this leads to may be there a moment later."""
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
