"""The Hub's idle culler and what `proxyd wrap` tells the Hub: who is at work is left alone."""

from __future__ import annotations

import sys

import requests
from twisted.trial import unittest
from websockets.sync.client import connect

from tests.slow.test_both_roles import config_of
from tests.slow.test_jupyterhub import Hub
from tests.slow.test_wrap import APP, SECONDS, Person
from tests.support import wait_for

CULLER = f"""
c.JupyterHub.services = [
    {{{{"name": "culler",
      "command": [{sys.executable!r}, "-m", "jupyterhub_idle_culler", "--timeout=15", "--cull-every=1"]}}}},
]
c.JupyterHub.load_roles.append({{{{
    "name": "culler", "services": ["culler"],
    "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
}}}})
"""


class CullingTests(unittest.SynchronousTestCase):
    """Four users, of whom one does nothing."""

    def test_the_idle_one_is_culled(self) -> None:
        """Not who loads pages, not who has a WebSocket with something on it, and not what claims to be in use."""
        application = ["--ready-timeout=60", "--", sys.executable, str(APP), "{port}"]
        honest = ["wrap", "--no-force-alive", "--last-activity-interval=1", "--activity-ignore=/poll", *application]
        forced = ["wrap", "--last-activity-interval=1", *application]
        names = ("reads", "talks", "polls", "forced")
        hub = Hub(self, config_of({name: forced if name == "forced" else honest for name in names}) + CULLER)
        with hub.process.log_on_failure():
            people = {name: Person(hub, name) for name in names}
            for name, person in people.items():
                person.arrive(f"/hub/spawn/{name}", f"/user/{name}/")
            url = f"{hub.url.replace('http', 'ws', 1)}/user/talks/socket"
            fields = {"Cookie": people["talks"].cookies_for("/user/talks/"), "Origin": hub.url}
            with connect(url, additional_headers=fields, open_timeout=SECONDS) as websocket:
                websocket.recv(SECONDS)

                def is_culled() -> bool:
                    people["reads"].get("/user/reads/")
                    websocket.send("hello")
                    self.assertEqual("hello", websocket.recv(SECONDS))
                    if "/user/polls" in hub.routes():
                        people["polls"].get("/user/polls/poll")
                        return False
                    return True

                wait_for(is_culled, "the end of the idle server", SECONDS, 0.5)
                self.assertEqual({"/", *(f"/user/{name}" for name in names if name != "polls")}, set(hub.routes()))
                for name in ("reads", "forced"):
                    self.assertEqual(200, people[name].get(f"/user/{name}/").status_code)
                websocket.send("still here")
                self.assertEqual("still here", websocket.recv(SECONDS))
            self.assertEqual(1, hub.process.log.count("Culling server"))
            self.assertIn("Culling server polls", hub.process.log)
            page = requests.get(f"{hub.url}/user/polls/", timeout=SECONDS)
            self.assertIn("JupyterHub", page.text)
