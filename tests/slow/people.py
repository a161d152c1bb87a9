"""Who comes to a real JupyterHub with proxyd in both roles, and what that Hub spawns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import TestCase
from urllib.parse import quote

import requests

from tests.slow.browser import Browser
from tests.slow.test_jupyterhub import Hub
from tests.support import wait_for

SECONDS = 120.0
APP = Path(__file__).parent.parent / "integration" / "wrapped.py"
"""An application that tells what it was asked."""

COMMON = """
c.Spawner.args = []
c.Spawner.default_url = ""
"""
# Users may let others in; which program somebody gets depends on the name.
CONFIG = (
    COMMON
    + """
c.JupyterHub.load_roles = [
    {{"name": "user", "scopes": ["self", "shares!user", "read:users:name", "read:groups:name"]}},
]
c.JupyterHub.cleanup_servers = False
COMMANDS = @COMMANDS@

def choose(spawner):
    spawner.cmd = [{proxyd!r}, *COMMANDS[spawner.user.name]]

c.Spawner.pre_spawn_hook = choose
"""
)


def config_of(commands: dict[str, list[str]]) -> str:
    """The configuration of a Hub that spawns a command of ours for each user."""
    return CONFIG.replace("@COMMANDS@", repr(commands).replace("{", "{{").replace("}", "}}"))


class Person:
    """Somebody with a browser, who is logged in at the Hub under `name`."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.session = requests.Session()
        self.session.headers["Accept"] = "text/html"
        self.session.get(f"{hub.url}/hub/login", timeout=SECONDS).raise_for_status()
        form = {"username": name, "password": "any", "_xsrf": self.xsrf()}
        self.session.post(f"{hub.url}/hub/login", data=form, timeout=SECONDS, allow_redirects=False)
        self.token, _ = self.make_token()

    def make_token(self, **options: object) -> tuple[str, str]:
        """A token of the Hub's, and under which id that is known."""
        url = f"{self.hub.url}/hub/api/users/{quote(self.name)}/tokens"
        answer = self.session.post(url, headers={"X-XSRFToken": self.xsrf()}, json=options, timeout=SECONDS)
        answer.raise_for_status()
        return str(answer.json()["token"]), str(answer.json()["id"])

    def xsrf(self) -> str:
        """What the Hub wants with every form."""
        return next(cookie.value or "" for cookie in self.session.cookies if cookie.name == "_xsrf")

    def arrive(self, path: str, at: str) -> requests.Response:
        """Follow the pages of the Hub from `path` on until there is one whose path begins with `at`."""

        def has_arrived() -> requests.Response | None:
            answer = self.session.get(self.hub.url + path, timeout=SECONDS)
            there = answer.url.startswith(f"{self.hub.url}{at}")
            return answer if there and answer.status_code == 200 else None

        found = wait_for(has_arrived, f"{path} leads to {at}", SECONDS, 0.5)
        assert found is not None
        return found

    def get(self, path: str, **options: Any) -> requests.Response:
        """One page, without following redirects."""
        return self.session.get(self.hub.url + path, timeout=SECONDS, allow_redirects=False, **options)

    def open(self, path: str) -> requests.Response:
        """A page, wherever it is in the end."""
        return self.session.get(self.hub.url + path, timeout=SECONDS)

    def cookies_for(self, path: str) -> str:
        """What the browser would send for a path."""
        request = self.session.prepare_request(requests.Request("GET", self.hub.url + path))
        return str(request.headers.get("Cookie", ""))


class Desk:
    """Somebody with a Chromium of their own, who is called `name` at the Hub."""

    def __init__(self, hub: Hub, case: TestCase, name: str) -> None:
        self.hub = hub
        self.name = name
        self.browser = Browser(case, hub.directory / f"browser-{name}")

    def open(self, path: str) -> None:
        """Go to a page of the Hub's host."""
        self.browser.open(self.hub.url + path)

    def log_in(self) -> None:
        """Fill in the Hub's form, which is what there is to be seen now."""
        self.browser.wait_for("document.querySelector('#username_input') !== null")
        self.browser.type("#username_input", self.name)
        self.browser.type("#password_input", "any")
        self.browser.click("#login_submit")

    @property
    def path(self) -> str:
        """Where the page is."""
        return str(self.browser.evaluate("location.pathname + location.search"))

    def status(self, path: str) -> int:
        """The status of what a page would get; the page has to be on the same origin."""
        ask = f"const asked = new XMLHttpRequest(); asked.open('GET', {json.dumps(path)}, false); asked.send()"
        return int(self.browser.evaluate(f"(() => {{ {ask}; return asked.status }})()"))
