"""Tests of `proxyd.api.servers`."""

from __future__ import annotations

from proxyd.api.servers import ServersApi
from proxyd.http.serverlog import ServerLogs
from proxyd.model.servers import Place, ServerSpec
from proxyd.option import Port, ServerName
from proxyd.testing.servers import ScriptedSupervisor
from proxyd.testing.transports import MemoryTransport
from tests.api.support import NativeApiTestCase

APP = ServerName("grp/app")
PATH = "/api/servers/grp%2Fapp"


class ServersApiTests(NativeApiTestCase):
    """Two servers, one of which somebody else runs."""

    def setUp(self) -> None:
        super().setUp()
        specs = {APP: ServerSpec(command=("run",)), ServerName("board"): ServerSpec(port=Port(6006))}
        self.supervisor = ScriptedSupervisor(specs)
        self.api = ServersApi(self.supervisor, ServerLogs(self.supervisor, self.clock), "/b/")
        self.root.add(ServersApi.router, self.api)
        self.addCleanup(self.api.close)

    def begin(self, method: str, path: str, *fields: str) -> MemoryTransport:
        client = self.proxy.client()
        lines = [f"{method} {path} HTTP/1.1", "Host: a", "Authorization: token secret", *fields, "", ""]
        client.send("\r\n".join(lines).encode())
        return client

    def test_how_they_are(self) -> None:
        """All, and one; a slash in a name may be escaped or not."""
        self.supervisor.become_ready(APP, Place(7001))
        listed = self.call("GET", "/api/servers")[2]
        self.assertEqual(["grp/app", "board"], list(listed))
        self.assertEqual(("ready", "/b/grp/app/"), (listed["grp/app"]["state"], listed["grp/app"]["path"]))
        self.assertEqual((7001, None), (listed["grp/app"]["instances"][0]["port"], listed["board"]["state"]))
        for path in (PATH, "/api/servers/grp/app", PATH + "/"):
            self.assertEqual(listed["grp/app"], self.call("GET", path)[2])
        for path in ("/api/servers/x", "/api/servers/x/log", "/api/servers/grp"):
            self.assertEqual(404, self.call("GET", path)[0])
        self.assertEqual(400, self.call("GET", "/api/servers/%ff")[0])

    def test_start_answers_when_it_is_ready(self) -> None:
        """And says why it is not."""
        client = self.begin("POST", PATH + "/start")
        self.assertEqual(b"", client.pop())
        self.supervisor.become_ready(APP, Place(1))
        self.assertIn(b'"state": "ready"', client.pop())
        self.supervisor.print(APP, "why")
        self.supervisor.become_failed(APP, "was stopped")
        client = self.begin("POST", PATH + "/restart")
        self.supervisor.become_failed(APP, "was late")
        answer = client.pop()
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
        self.assertIn(b'"message": "server grp/app was late", "lines": ["why"]', answer)

    def test_stop(self) -> None:
        """What proxyd does not start it does not stop."""
        self.supervisor.become_ready(APP, Place(1))
        self.assertEqual((200, "stopped"), (self.call("POST", PATH + "/stop")[0], self._state()))
        self.assertEqual(409, self.call("POST", "/api/servers/board/stop")[0])
        self.assertEqual(404, self.call("POST", "/api/servers/x/stop")[0])
        self.assertEqual(403, self.call("POST", PATH + "/stop", token=b"")[0])

    def _state(self) -> object:
        return self.call("GET", PATH)[2]["state"]

    def test_log(self) -> None:
        """Text or JSON, as many lines as are asked for."""
        for number in range(3):
            self.supervisor.print(APP, f"line {number}")
        self.assertEqual(
            ["line 1", "line 2"], self.call("GET", PATH + "/log?lines=2", None, "Accept: application/json")[2]["lines"]
        )
        self.assertTrue(self.begin("GET", PATH + "/log").pop().endswith(b"\r\n\r\nline 0\nline 1\nline 2\n"))
        for lines in ("0", "x", "-1", "%C2%B2"):
            self.assertEqual(400, self.call("GET", f"{PATH}/log?lines={lines}")[0])

    def test_log_that_is_followed(self) -> None:
        """What has been printed, what is printed, and the states; it ends with the API."""
        self.supervisor.print(APP, "before")
        clients = [
            self.begin("GET", PATH + "/log?follow=1"),
            self.begin("GET", PATH + "/log", "Accept: text/event-stream"),
        ]
        self.supervisor.print(APP, "after")
        self.supervisor.become_ready(APP, Place(1))
        for client in clients:
            told = client.pop()
            for part in (b'data: "before"', b'data: "after"', b'data: {"state": "ready"}'):
                self.assertIn(part, told)
        self.api.close()
        self.assertEqual([b"0\r\n\r\n"] * 2, [client.pop() for client in clients])
