"""Tests of `proxyd.workers.servers`: servers as the configuration of the moment has them, in memory."""

from __future__ import annotations

import attrs

from proxyd.model.relay import RelaySettings
from proxyd.model.routes import DEFAULT_OPTIONS, HeaderChanges
from proxyd.model.servers import Place, ServerSpec
from proxyd.model.settings import Config
from proxyd.option import ByteCount, Function, Port, ServerName, UrlPath
from tests.http.support import OK
from tests.http.test_managed import PLACE, ManagedTestCase, managed
from tests.http.test_ports import UPGRADE
from tests.websocket.frames import BINARY, frame, read_close, read_frames


class ApplyTests(ManagedTestCase):
    """Another configuration, from one moment to the next."""

    def apply(self, base_url: str = "/", **servers: ServerSpec) -> None:
        """Serve these from now on."""
        named = {ServerName(name): spec for name, spec in servers.items()}
        config = Config(servers=named, base_url=UrlPath(base_url))
        self.proxy.servers.apply(config, DEFAULT_OPTIONS, self.proxy.guards)

    def test_what_is_gone_is_not_found_at_once(self) -> None:
        """What is under way goes on; what is new is there."""
        self.supervisor.become_ready("app", PLACE)
        client = self.get("/app/")
        upstream = self.proxy.accept()
        self.apply(new=managed())
        self.assert_status(404, self.get("/app/"))
        self.assertEqual(["new"], list(self.supervisor.specs()))
        upstream.send(OK)
        self.assert_status(200, client)
        self.get("/new/")
        self.supervisor.become_ready("new", Place(5))
        self.assertEqual(5, self.proxy.dialer.dials[-1].upstream.port)

    def test_who_waits_for_what_is_gone(self) -> None:
        """Is told so when it turns out."""
        client = self.get("/app/")
        self.apply()
        self.supervisor.become_failed("app", "was removed")
        self.assert_status(503, client)

    def test_a_changed_server(self) -> None:
        """Is served as the lease says what runs: the old one until it has ended, at the same place as the new one."""
        self.supervisor.become_ready("app", PLACE)
        self.assertTrue(self.asked("/app/").startswith(b"GET / "))
        changed = managed(absolute_url=True, request_headers_override={"X-New": "1"})
        self.apply(app=changed)
        self.assertTrue(self.asked("/app/").startswith(b"GET / "))
        self.supervisor.become_ready("app", PLACE)
        got = self.asked("/app/")
        self.assertTrue(got.startswith(b"GET /app/ "))
        self.assertIn(b"\r\nX-New: 1\r\n", got)

    def test_another_base_url(self) -> None:
        """For the paths and for the templates."""
        self.supervisor.become_ready("app", PLACE)
        self.apply("/b/", app=managed(request_headers_override={"X-Base": "{base_url}"}))
        self.supervisor.become_ready("app", PLACE)
        self.assert_status(404, self.get("/app/"))
        self.assertIn(b"\r\nX-Base: /b/\r\n", self.asked("/b/app/"))
        self.assertEqual("/b/", self.supervisor.base_url)

    def test_a_name_of_the_built_in(self) -> None:
        """What the user has named comes first."""
        self.apply(proxy=ServerSpec(port=Port(7)))
        self.assertTrue(self.asked("/proxy/80/").startswith(b"GET /80/ "))


class OptionsTests(ManagedTestCase):
    """What `route_defaults` say, which hold for servers as well."""

    def apply(self, spec: ServerSpec, **options: object) -> None:
        """Serve `app`, which is ready, with these defaults."""
        defaults = attrs.evolve(DEFAULT_OPTIONS, **options)
        self.proxy.servers.apply(Config(servers={ServerName("app"): spec}), defaults, self.proxy.guards)
        self.supervisor.become_ready("app", PLACE)

    def test_fields(self) -> None:
        """Those of the server win."""
        changes = HeaderChanges(set={"X-A": "default", "X-B": "default"}, remove=("X-C",))
        for override in ({"X-A": "own"}, Function("m:f", lambda: {"X-A": "own"})):
            self.apply(managed(request_headers_override=override), request_headers=changes)
            got = self.asked("/app/", "X-C: client\r\nX-A: client\r\n")
            self.assertIn(b"\r\nX-A: own\r\n", got)
            self.assertIn(b"\r\nX-B: default\r\n", got)
            self.assertNotIn(b"client\r\nX", got)
            self.assertNotIn(b"X-C", got)

    def test_websockets_can_be_off(self) -> None:
        """For raw sockets, too."""
        for raw in (False, True):
            self.apply(managed(raw_socket_proxy=raw), websocket="off")
            self.assert_status(403, self.get("/app/", UPGRADE))
        self.assertEqual([], self.proxy.dialer.dials)

    def test_limits_of_a_relay(self) -> None:
        """Raw sockets are one in any case."""
        settings = RelaySettings(kind="relay", max_message_size=ByteCount(10))
        self.apply(managed(raw_socket_proxy=True), websocket=settings)
        client = self.get("/app/", UPGRADE)
        self.proxy.accept()
        self.assert_status(101, client)
        client.send(frame(BINARY, b"x" * 11, mask=True))
        self.assertEqual(1009, read_close(read_frames(client.pop())[-1][1]).code)
