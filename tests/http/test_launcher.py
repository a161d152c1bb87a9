"""Tests of `proxyd.http.launcher` and `proxyd.workers.launcher`."""

from __future__ import annotations

import json
from pathlib import Path

from proxyd.auth.token import TokenAuthConfig
from proxyd.model.ports import PortsSettings
from proxyd.model.servers import LauncherEntry, Place, ServerSpec
from proxyd.model.settings import Config
from proxyd.option import FilePath, Port, Secret, ServerName
from proxyd.testing.harness import Harness
from proxyd.testing.transports import MemoryTransport
from tests.http.support import DataPathTestCase

APP = ServerName("grp/app")


class LauncherTestCase(DataPathTestCase):
    """A server, ports, and their pages, below `/b/`."""

    def setUp(self) -> None:
        self.icon = Path(self.mktemp())
        self.icon.mkdir()
        self.icon /= "i.svg"
        self.icon.write_text("<svg/>")
        entry = LauncherEntry(title="The <app>", icon_path=FilePath(str(self.icon)))
        gone = LauncherEntry(icon_path=FilePath("nowhere.png"), enabled=False)
        self.serve(
            Config(
                base_url="/b/",  # type: ignore[arg-type]
                ports=PortsSettings(enabled=True),
                servers={
                    APP: ServerSpec(command=("run",), launcher_entry=entry),
                    ServerName("gone"): ServerSpec(port=Port(9), launcher_entry=gone),
                },
            )
        )

    def serve(self, config: Config, **routes: str) -> None:
        self.proxy = Harness(routes, config, state=Path(self.mktemp()))
        self.proxy.show_pages()
        self.supervisor = self.proxy.supervisor

    def get(self, path: str, *fields: str, address: str = "127.0.0.1", method: str = "GET") -> MemoryTransport:
        client = self.proxy.client(address)
        client.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *fields, "", ""]).encode())
        return client


class EndpointTests(LauncherTestCase):
    """What is below `server-proxy/`."""

    def test_servers_info(self) -> None:
        """As Jupyter's launcher reads it; nothing is started for it."""
        answer = self.assert_status(200, self.get("/b/server-proxy/servers-info"))
        listed = json.loads(answer.partition(b"\r\n\r\n")[2])["server_processes"]
        self.assertEqual(["grp/app", "gone"], [server["name"] for server in listed])
        self.assertEqual("/b/server-proxy/icon/grp/app", listed[0]["launcher_entry"]["icon_url"])
        self.assertEqual([], self.supervisor.asked)

    def test_icons(self) -> None:
        """With the type of their file, and harmless when opened alone; 404 for whatever else is asked for."""
        answer = self.assert_status(200, self.get("/b/server-proxy/icon/grp/app"))
        self.assertIn(b"Content-Type: image/svg+xml\r\nX-Content-Type-Options: nosniff", answer)
        self.assertIn(b"sandbox", answer)
        for name in ("gone", "none", "", "../grp/app", "%2e%2e/%2e%2e/etc/passwd", "grp", "grp/app/x"):
            self.assert_status(404, self.get(f"/b/server-proxy/icon/{name}"))

    def test_ports(self) -> None:
        """The form leads to the port."""
        answer = self.assert_status(302, self.get("/b/server-proxy/port?port=08080"))
        self.assertIn(b"Location: /b/proxy/8080/\r\n", answer)
        for query in ("", "?port=0", "?port=65536", "?port=x", "?port=%0d", "?port=-1"):
            self.assert_status(400, self.get(f"/b/server-proxy/port{query}"))

    def test_other_paths_and_methods(self) -> None:
        """404, and 405."""
        for path in ("", "/x", "/port/x", "/events/x", "/log", "/log/none"):
            self.assert_status(404, self.get(f"/b/server-proxy{path}"))
        self.assertIn(b"Allow: GET, HEAD", self.assert_status(405, self.get("/b/server-proxy/port", method="POST")))

    def test_states_are_told(self) -> None:
        """First as they are, then as they become; the stream ends with a reload, and none begins at the end."""
        client = self.get("/b/server-proxy/events")
        self.assertIn(b'data: {"server": "grp/app", "state": "stopped"}', client.pop())
        self.supervisor.become_ready(APP, Place(1))
        self.assertIn(b'{"server": "grp/app", "state": "ready"}', client.pop())
        self.proxy.show_pages()
        self.assertEqual(b"0\r\n\r\n", client.pop())
        self.proxy.launcher.close()
        self.assert_status(503, self.get("/b/server-proxy/events"))

    def test_lines_are_told_to_those_at_this_machine(self) -> None:
        """Others see the state alone; whoever leaves is forgotten."""
        self.supervisor.print(APP, "before")
        near, far = (
            self.get("/b/server-proxy/log/grp/app"),
            self.get("/b/server-proxy/log/grp/app", address="192.0.2.1"),
        )
        proxied = self.get("/b/server-proxy/log/grp/app", "X-Forwarded-For: 192.0.2.7")
        self.supervisor.print(APP, "after")
        self.supervisor.become_ready(APP, Place(1))
        for client, sees in ((near, True), (far, False), (proxied, False)):
            told = client.pop()
            self.assertIn(b'event: state\ndata: {"state": "ready"}', told)
            self.assertEqual((sees, sees), (b'data: "before"' in told, b'data: "after"' in told))
        self.supervisor.become_crashed(APP, "ended with exit status 3")
        for client, words in ((near, b', "reason": "ended with exit status 3"'), (far, b""), (proxied, b"")):
            self.assertIn(b'event: state\ndata: {"state": "backing_off"' + words + b"}\n\n", client.pop())
        near.reset()
        self.proxy.advance()
        self.supervisor.print(APP, "too late")


class StartPageTests(LauncherTestCase):
    """The page at `base_url`."""

    def test_what_is_on_it(self) -> None:
        """Servers with a card, the ports, and the routes that the visitor can open."""
        self.proxy.add_route("/b/wiki", "http://up.test")
        self.proxy.add_route("/elsewhere", "http://up.test")
        for path in ("/b/", "/b"):
            page = self.assert_status(200, self.get(path))
            self.assertIn(b"The &lt;app&gt;", page)
            self.assertIn(b'href="/b/grp/app/"', page)
            self.assertIn(b'href="/b/wiki/"', page)
            self.assertIn(b"server-proxy/port", page)
            self.assertNotIn(b"gone", page)
            self.assertNotIn(b"elsewhere", page)
        self.assertNotIn(b"wiki", self.assert_status(200, self.get("/b/", address="192.0.2.1")))
        self.assert_status(405, self.get("/b/", method="POST"))

    def test_many_routes_are_not_on_it(self) -> None:
        """They are somebody's own, most likely."""
        for number in range(201):
            self.proxy.add_route(f"/b/r{number}", "http://up.test")
        self.assertNotIn(b"/b/r1", self.assert_status(200, self.get("/b/")))

    def test_routes_come_first_when_there_is_nothing_else(self) -> None:
        """The page is where there would be 404, and for those at this machine only."""
        self.serve(Config())
        self.proxy.add_route("/wiki", "http://up.test")
        self.assertIn(b'href="/wiki/"', self.assert_status(200, self.get("/")))
        self.assert_status(404, self.get("/", address="192.0.2.1"))
        self.assert_status(404, self.get("/x"))
        self.assert_status(404, self.get("/server-proxy/servers-info"))
        self.proxy.add_route("/", "http://up.test")
        self.get("/")
        self.assertEqual(1, len(self.proxy.dialer.dials))

    def test_without_a_start_page(self) -> None:
        """404, but the launcher is there; everybody waits for a server."""
        self.serve(Config(start_page=False, servers={APP: ServerSpec(command=("run",))}))
        self.assert_status(404, self.get("/"))
        self.assert_status(200, self.get("/server-proxy/servers-info"))
        self.assertEqual(b"", self.get("/grp/app/", "Accept: text/html").pop())

    def test_everything_is_behind_the_login(self) -> None:
        """Page, icons and streams; who has the token sees it all, from wherever."""
        auth = TokenAuthConfig(token=Secret("secret-token"))
        self.serve(Config(auth=auth, servers={APP: ServerSpec(command=("run",))}))
        self.supervisor.print(APP, "a line")
        for path in ("/", "/server-proxy/servers-info", "/server-proxy/icon/grp/app", "/server-proxy/log/grp/app"):
            self.assertIn(self.get(path).pop()[9:12], (b"401", b"403", b"302", b"303"), path)
        known = self.get("/server-proxy/log/grp/app", "Authorization: Bearer secret-token", address="192.0.2.1")
        self.assertIn(b"a line", self.assert_status(200, known))


class ServerPagesTests(LauncherTestCase):
    """What people see of a server that is not ready."""

    def look(self, *fields: str, address: str = "127.0.0.1") -> MemoryTransport:
        return self.get("/b/grp/app/", "Accept: text/html", *fields, address=address)

    def test_a_navigation_gets_the_page(self) -> None:
        """The start goes on without anybody, and the next look finds the application."""
        self.supervisor.print(APP, "<line>")
        page = self.assert_status(202, self.look())
        self.assertIn(b'data-events="/b/server-proxy/log/grp/app"', page)
        self.assertIn(b"&lt;line&gt;", page)
        self.assertNotIn(b"&lt;line&gt;", self.assert_status(202, self.look(address="192.0.2.1")))
        self.assertEqual(["grp/app"], self.supervisor.asked)
        self.supervisor.become_ready(APP, Place(1))
        self.assertEqual(0, self.supervisor.in_use)
        self.assertEqual(b"", self.look().pop())
        self.assertEqual(1, len(self.proxy.dialer.dials))

    def test_everything_else_waits(self) -> None:
        """Data, and what scripts ask for."""
        for fields in (["Accept: */*"], ["Accept: text/html", "Sec-Fetch-Mode: cors"], ["Accept: application/json"]):
            self.assertEqual(b"", self.get("/b/grp/app/", *fields).pop())
        self.assertEqual(b"", self.get("/b/grp/app/", "Accept: text/html", method="HEAD").pop())
        self.assertEqual(4, len(self.supervisor.asked))

    def test_the_page_that_comes_back_finds_the_failure(self) -> None:
        """It does not start the server once more; a click does, and so does a look some time later."""
        self.assert_status(202, self.look())
        self.supervisor.print(APP, "<why>")
        self.supervisor.become_failed(APP, "was late")
        for _ in range(2):
            page = self.assert_status(503, self.look())
            self.assertIn(b"was late", page)
            self.assertIn(b"&lt;why&gt;", page)
            self.assertIn(b"Retry-After: 1", page)
        elsewhere = self.assert_status(503, self.look(address="192.0.2.1"))
        self.assertIn(b"grp/app did not start", elsewhere)
        self.assertFalse(b"&lt;why&gt;" in elsewhere or b"was late" in elsewhere, elsewhere)
        self.assertEqual(1, len(self.supervisor.asked))
        self.assert_status(202, self.look("Sec-Fetch-User: ?1"))
        self.supervisor.become_failed(APP, "was late again")
        self.proxy.advance(11)
        self.assert_status(202, self.look())
        self.assertEqual(3, len(self.supervisor.asked))

    def test_programs_read_json(self) -> None:
        """With the reason and the lines if they may see them."""
        for address, has_lines in (("127.0.0.1", True), ("192.0.2.1", False)):
            client = self.get("/b/grp/app/", "Accept: application/json", address=address)
            self.supervisor.become_failed(APP, "was late")
            told = json.loads(self.assert_status(503, client).partition(b"\r\n\r\n")[2])
            self.assertEqual(("grp/app", has_lines), (told["server"], "lines" in told))
            self.assertEqual("server grp/app " + ("was late" if has_lines else "did not start"), told["message"])
