"""Somebody sets the clock of the machine while a proxy runs."""

from __future__ import annotations

import calendar
import contextlib
import json
import re
import subprocess
import time
from http.client import HTTPConnection

from tests.faults.blackhole import blackhole
from tests.faults.scripts import OK
from tests.integration.test_serve import OPEN, PATIENCE_SECONDS, CommandCase, Server, field, status_of
from tests.wire import ManualUpstream, ScriptedUpstream, connect, get, now

HOUR = 3600


class ClockTests(CommandCase):
    """A proxy that sees another time of day than the tests."""

    def setUp(self) -> None:
        super().setUp()
        self.offset = self.write("+0", "offset")
        library = subprocess.run(
            ("faketime", "-f", "+0", "printenv", "LD_PRELOAD"), capture_output=True, text=True, check=True
        ).stdout.strip()
        self.environ |= {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_clock(self, seconds: int) -> None:
        """Let the process see a time of day that is so much later than ours."""
        new = self.offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.rename(self.offset)

    def seen_by(self, server: Server) -> float:
        """The time of day that the process tells, less ours."""
        date = field(get(server.port, "/healthz"), "Date")
        return calendar.timegm(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")) - time.time()

    def jump(self, seconds: int) -> None:
        """Set the clock while there is an upstream that is silent, and one that answers later."""
        upstream = ManualUpstream(self)
        hole = self.enterContext(blackhole())
        store = "store: {kind: sqlite, path: routes.sqlite}\n"
        timeouts = "timeouts: {connect: 2s, header: 1s, response: 60s, keep_alive: 60s}\n"
        silent = ScriptedUpstream(self, lambda wire: wire.rest() and None)
        routes = (
            f"routes:\n  /: {upstream.url}\n  /hole: http://127.0.0.1:{hole}\n"
            f"  /silent: {{upstream: {silent.url}, timeouts: {{response: 2s}}}}\n"
        )
        self.set_clock(0)
        server = self.start(OPEN + store + timeouts + routes)
        self.assertLess(abs(self.seen_by(server)), 60)
        waiting, idle, dialing, mute = [connect(server.port) for _ in range(4)]
        idle.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(200, status_of(idle.message()))
        waiting.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        wire = upstream.accept()
        wire.head()
        mute.send(b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n")
        began = now()
        dialing.send(b"GET /hole HTTP/1.1\r\nHost: a\r\n\r\n")

        self.set_clock(seconds)
        self.assertLess(abs(self.seen_by(server) - seconds), 60)
        # Deadlines strike that began before it, and such that begin after it.
        self.assertEqual(504, status_of(dialing.message()))
        self.assertGreater(now() - began, 1.9)
        self.assertEqual(504, status_of(mute.message()))
        slow = connect(server.port)
        slow.send(b"GET / HTTP/1.1\r\nX: ")
        self.assertEqual(408, status_of(slow.message()))
        # Nothing is ended that still has time.
        wire.send(OK)
        self.assertEqual(200, status_of(waiting.message()))
        idle.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(200, status_of(idle.message()))
        # Lines come, and have the new time; so has a route that is made now.
        server.process.wait_for_log('"GET /late HTTP/1.1" 200', PATIENCE_SECONDS)
        self.assertLess(abs(self.activity_of_a_new_route(server) - time.time() - seconds), 60)
        self.assertEqual(0, server.stop())

    def activity_of_a_new_route(self, server: Server) -> float:
        """When a route that is made now says that it was made."""
        client = HTTPConnection("127.0.0.1", server.api_port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(client):
            client.request("POST", "/api/routes/new", json.dumps({"target": "http://127.0.0.1:9"}))
            self.assertEqual(201, client.getresponse().status)
            client.close()
            client.request("GET", "/api/routes")
            moment = json.loads(client.getresponse().read())["/new"]["last_activity"]
        return float(calendar.timegm(time.strptime(re.sub(r"\.\d+Z", "", moment), "%Y-%m-%dT%H:%M:%S")))

    def test_back(self) -> None:
        """Waits end in time, and none of them too early."""
        self.jump(-HOUR)

    def test_ahead(self) -> None:
        """Nothing ends because of it."""
        self.jump(HOUR)
