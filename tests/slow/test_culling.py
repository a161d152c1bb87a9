"""The Hub's idle culler and what `proxyd wrap` tells the Hub: who is at work is left alone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Self

import requests
from twisted.trial import unittest
from websockets.sync.client import connect

from tests.slow.people import APP, SECONDS, Person, config_of
from tests.slow.test_jupyterhub import Hub
from tests.support import wait_for

CULLER = f"""
c.JupyterHub.services = [
    {{{{"name": "culler",
      "command": [{sys.executable!r}, "-m", "jupyterhub_idle_culler", "--timeout=20", "--cull-every=1"]}}}},
]
c.JupyterHub.load_roles.append({{{{
    "name": "culler", "services": ["culler"],
    "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
}}}})
"""


class Busy:
    """Does things again and again, beside the test, until the block ends."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def do(self, something: Callable[[], object]) -> None:
        """Begin with one more thing."""

        def run() -> None:
            while not self._over.wait(0.5):
                something()

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()


class CullingTests(unittest.SynchronousTestCase):
    """Four users, of whom one does nothing."""

    def test_the_idle_one_is_culled(self) -> None:
        """Not who loads pages, not who has a WebSocket with something on it, and not what claims to be in use."""
        application = ["--ready-timeout=60", "--", sys.executable, str(APP), "{port}"]
        honest = ["wrap", "--no-force-alive", "--last-activity-interval=1", "--activity-ignore=/poll", *application]
        forced = ["wrap", "--last-activity-interval=1", *application]
        names = ("reads", "talks", "forced", "polls")
        hub = Hub(self, config_of({name: forced if name == "forced" else honest for name in names}) + CULLER)
        with hub.process.log_on_failure(), Busy() as busy:
            people: dict[str, Person] = {}

            def arrive(name: str) -> Person:
                person = people[name] = Person(hub, name)
                person.arrive(f"/hub/spawn/{name}", f"/user/{name}/")
                return person

            reads = arrive("reads")
            busy.do(lambda: reads.get("/user/reads/"))
            talks = arrive("talks")
            url = f"{hub.url.replace('http', 'ws', 1)}/user/talks/socket"
            fields = {"Cookie": talks.cookies_for("/user/talks/"), "Origin": hub.url}
            websocket = self.enterContext(connect(url, additional_headers=fields, open_timeout=SECONDS))
            websocket.recv(SECONDS)
            busy.do(lambda: (websocket.send("hello"), websocket.recv(SECONDS)))
            arrive("forced")
            polls = arrive("polls")  # the last one: the others are at work by now
            busy.do(lambda: polls.get("/user/polls/poll"))
            wait_for(lambda: "/user/polls" not in hub.routes(), "the end of the idle server", SECONDS, 0.5)
            self.assertEqual({"/", *(f"/user/{name}" for name in names if name != "polls")}, set(hub.routes()))
            for name in ("reads", "forced"):
                self.assertEqual(200, people[name].get(f"/user/{name}/").status_code)
        websocket.send("still here")
        self.assertEqual("still here", websocket.recv(SECONDS))
        self.assertEqual(1, hub.process.log.count("Culling server"))
        self.assertIn("Culling server polls", hub.process.log)
        page = requests.get(f"{hub.url}/user/polls/", timeout=SECONDS)
        self.assertIn("JupyterHub", page.text)
