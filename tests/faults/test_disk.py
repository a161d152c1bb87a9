"""Disks without room for a log, or for the routes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
from http.client import HTTPConnection

from tests.integration.test_serve import OPEN, PATIENCE_SECONDS, CommandCase, Server, status_of
from tests.wire import ScriptedUpstream, answering, cpu_seconds, get, now

_DISK_BYTES = 4 * 1024 * 1024


class DiskCase(CommandCase):
    """Has a small disk at `disk`; who is not root has none, and limits what the process may write instead."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = self.directory / "disk"
        self.disk.mkdir()
        self.is_mounted = os.geteuid() == 0
        if self.is_mounted:
            words = ("mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", self.disk)
            subprocess.run(words, check=True)
            self.addCleanup(subprocess.run, ("umount", "--lazy", self.disk), check=True)

    def fill(self, server: Server) -> None:
        """Leave no room."""
        if not self.is_mounted:
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return
        fd = os.open(self.disk / "ballast", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, bytes(4096))
        os.close(fd)

    def make_room(self, server: Server) -> None:
        """Take away what fills the disk."""
        if self.is_mounted:
            (self.disk / "ballast").unlink()
        else:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)


class LogTests(DiskCase):
    """An access log that cannot be written."""

    def test_lines_are_lost_and_nothing_else(self) -> None:
        """Requests are served, the log of events says once what is wrong, and lines come again when there is room."""
        path = self.disk / "access.log"
        upstream = ScriptedUpstream(self, answering())
        server = self.start(f"{OPEN}routes: {{/: {upstream.url}}}\nlog: {{access_file: {path}}}\n")
        self.ask(server, "first")
        server.process.wait_for(lambda: "/first" in path.read_text(), "the first line")
        self.fill(server)
        used, began = cpu_seconds(server.process.pid), now()
        line = ""
        while not line:
            self.ask(server, "x" * 500)
            line = "".join(server.lines("cannot be written"))
            self.assertLess(now() - began, PATIENCE_SECONDS)
        self.assertRegex(line, r" error +a log cannot be written, and lines are lost: .*(No space left|File too large)")
        for _ in range(50):
            self.ask(server, "x" * 500)
        self.assertEqual(1, len(server.lines("cannot be written")))
        self.assertLess(cpu_seconds(server.process.pid) - used, 5)
        self.make_room(server)

        def is_written() -> bool:
            self.ask(server, "last")
            return "GET /last " in path.read_text()

        server.process.wait_for(is_written, "lines again", PATIENCE_SECONDS)
        for entry in path.read_text().splitlines():
            self.assertLessEqual(entry.count("127.0.0.1 - - ["), 1, entry)
        self.assertRegex(get(server.api_port, "/metrics")[1], rb"\nproxyd_access_log_dropped_lines_total [1-9]")
        self.assertEqual(0, server.stop())

    def ask(self, server: Server, path: str) -> None:
        """A request that is answered."""
        self.assertEqual(b"ok", get(server.port, f"/{path}")[1])


class StoreTests(DiskCase):
    """A route store that cannot be written."""

    def call(self, server: Server, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Call the API: status and text."""
        client = HTTPConnection("127.0.0.1", server.api_port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(client):
            client.request(method, f"/api/routes{path}", None if body is None else json.dumps(body))
            answer = client.getresponse()
            return answer.status, answer.read().decode()

    def test_what_is_refused_has_not_happened(self) -> None:
        """A change without room is 500, says why and changes nothing; others count, also after a restart."""
        upstream = ScriptedUpstream(self, answering())
        target = {"target": upstream.url}
        settings = f"{OPEN}store: {{kind: sqlite, path: {self.disk}/routes.sqlite}}\n"
        server = self.start(settings)
        kept = []
        for number in range(3):
            self.assertEqual(201, self.call(server, "POST", f"/before/{number}", target)[0])
            kept.append(f"/before/{number}")
        self.fill(server)
        refused = []
        for number in range(200):
            key = f"/full/{number}"
            status, text = self.call(server, "POST", key, {**target, "note": "x" * 4000})
            if status == 201:  # there is some room in the pages of the file that are there
                kept.append(key)
                continue
            self.assertEqual(500, status)
            self.assertRegex(text, "the route store: .*(full|disk I/O error)")
            refused.append(key)
            if len(refused) == 10:
                break
        self.assertEqual(10, len(refused))
        self.assertIn(self.call(server, "DELETE", "/before/2")[0], (204, 500))
        for key in kept:
            if key != "/before/2":
                self.assertEqual(b"ok", get(server.port, f"{key}/x")[1])
        for key in refused:
            self.assertEqual(404, status_of(get(server.port, f"{key}/x")))
        held = set(json.loads(self.call(server, "GET", "")[1]))
        self.make_room(server)
        server.process.wait_for(lambda: self.call(server, "POST", "/after", target)[0] == 201, "room", PATIENCE_SECONDS)
        held.add("/after")
        self.assertEqual(held, set(json.loads(self.call(server, "GET", "")[1])))
        self.assertEqual(0, server.stop())
        server = self.start(settings)
        self.assertEqual(held, set(json.loads(self.call(server, "GET", "")[1])))
        self.assertEqual(0, server.stop())
        self.assertNotIn("Traceback", server.process.log)
