"""The login page of `auth: {kind: token}`, in a real Chromium."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from twisted.trial import unittest

from tests.slow.browser import Browser
from tests.support import Process, accepts, free_port, script, wait_for
from tests.wire import ScriptedUpstream, Wire

_TOKEN = "correct-horse-battery"
_PAGE = (
    b"<!DOCTYPE html><title>app</title><h1>the application</h1><form method=post action=/app/post><button>go</button>"
)


class Application:
    """An upstream's script that shows a page, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    def __call__(self, wire: Wire) -> None:
        while head := wire.message()[0]:
            self.heads.append(head)
            wire.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: own=1; Path=/app\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(_PAGE), _PAGE)
            )


class LoginTests(unittest.SynchronousTestCase):
    """A person comes, without a token, with a wrong one, with the right one, and leaves."""

    def setUp(self) -> None:
        """Start a proxy with an application behind it, and a browser."""
        directory = Path(tempfile.mkdtemp(prefix="proxyd-login-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.application = Application()
        upstream = ScriptedUpstream(self, self.application)
        port = free_port()
        config = directory / "proxyd.yaml"
        config.write_text(
            f"listeners: [{{kind: http, port: {port}}}]\napi: off\nstate_directory: state\n"
            f"auth: {{kind: token, token: {_TOKEN}}}\nroutes: {{/app: '{upstream.url}'}}\n"
        )
        self.proxyd = Process(self, script("proxyd"), "serve", "--config", config)
        self.proxyd.wait_for(lambda: accepts(port), "proxyd listens", 30)
        self.url = f"http://127.0.0.1:{port}"
        self.browser = Browser(self, directory / "browser")

    def submit(self, token: str | None = None) -> None:
        """Fill the form of the page in, and send it off as a person does."""
        if token is not None:
            self.browser.type("input", token)
        self.browser.click("button")

    def test_the_way_in_and_out(self) -> None:
        """Without any script of the page: the style is there, the way back is remembered, and scripts see no cookie."""
        browser = self.browser
        with self.proxyd.log_on_failure():
            browser.open(f"{self.url}/app/page?x=1")
            self.assertEqual((browser.text("h1"), browser.text("p")), ("Log in", "This page asks for a token."))
            self.assertEqual(browser.evaluate("getComputedStyle(document.querySelector('main')).maxWidth"), "384px")
            self.assertEqual(browser.evaluate("document.activeElement.id"), "token")
            self.submit("something-wrong")
            browser.see("That is not the token.")
            self.assertEqual(self.application.heads, [])
            self.submit(_TOKEN)
            browser.see("the application")
            self.assertEqual(browser.evaluate("location.pathname + location.search"), "/app/page?x=1")
            self.assertEqual(browser.evaluate("document.cookie"), "own=1")
            self.submit()
            browser.wait_for("location.pathname === '/app/post'")
            wait_for(lambda: len(self.application.heads) > 1, "the POST")
            self.assertTrue(any(re.match(rb"POST /app/post ", head) for head in self.application.heads))
            self.assertNotIn(b"proxyd-login", b"".join(self.application.heads))
            browser.open(f"{self.url}/.proxyd/logout")
            self.submit()
            browser.wait_for("document.querySelector('h1').textContent === 'Log in'")
            browser.open(f"{self.url}/app/page")
            self.assertEqual(browser.text("h1"), "Log in")
