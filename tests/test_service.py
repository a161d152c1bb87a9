"""Tests of `proxyd.service`: from the configuration to a running proxy. Sockets are real, time is not."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import Application, IService
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.errors import ListenError
from proxyd.logs import LogObserver
from proxyd.model.routes import Route, RouteTimeouts
from proxyd.model.settings import RouteSpec
from proxyd.model.upstream import Upstream
from proxyd.option import Seconds, UpstreamUrl
from proxyd.service import ProxyService
from proxyd.testing.transports import MemoryTransport
from proxyd.workers.static import static_route

SOCKET = "listeners: [{kind: http, socket: '{directory}/http.sock'}]\n"
OPEN = SOCKET + "api: {port: 0, open: true}\n"


class ServiceCase(SynchronousTestCase):
    """Makes services in a directory of their own; their log is what the standard output is then."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.clock = MemoryReactorClock()
        self.environ = {"STATE_DIRECTORY": str(self.directory / "state")}
        self.log = Path(self.mktemp())
        stdout = self.log.open("w")
        self.addCleanup(stdout.close)
        self.patch(sys, "stdout", stdout)
        self.stderr = StringIO()
        self.patch(sys, "__stderr__", self.stderr)
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)

    def make(self, settings: str = OPEN, **options: Any) -> ProxyService:
        """A service with a configuration in YAML, in which `{directory}` stands for the test's own."""
        config = parse(settings.replace("{directory}", str(self.directory)), KINDS)
        service = ProxyService(config, KINDS, self.clock, environ=self.environ, **options)
        self.addCleanup(service.close)
        return service

    def open(self, settings: str = OPEN, **options: Any) -> ProxyService:
        """A service that is open."""
        service = self.make(settings, **options)
        service.open()
        return service

    def said(self, settings: str = OPEN, **options: Any) -> list[str]:
        """What is logged when a service is opened."""
        with capturedLogs() as events:
            self.open(settings, **options)
        return [formatEvent(event) for event in events]

    def ask(
        self, service: ProxyService, site: int, line: str, body: object = None, fields: str = ""
    ) -> tuple[int, bytes]:
        """What a client of the site gets for a request: status and body."""
        assert service.data_path is not None
        clock = Clock()
        client = MemoryTransport(clock)
        client.connect(service.data_path.sites[site].buildProtocol(None))
        text = json.dumps(body) if body is not None else ""
        client.send(f"{line} HTTP/1.1\r\nHost: a.test\r\n{fields}Content-Length: {len(text)}\r\n\r\n{text}".encode())
        answer, _, content = client.pop().partition(b"\r\n\r\n")
        client.close()
        clock.advance(0)
        return int(answer.split(b" ")[1]), content

    def keys(self, service: ProxyService) -> list[str]:
        """What the API lists."""
        return sorted(json.loads(self.ask(service, 1, "GET /api/routes")[1]))


class OpenTests(ServiceCase):
    """What is there once a service is open."""

    def test_nothing_is_open_before(self) -> None:
        """A service may be made to see whether it can be."""
        service = self.make()
        self.assertIsNone(service.data_path)
        self.assertEqual(list(self.directory.iterdir()), [])
        self.assertIsNone(service.stopService())

    def test_routes_of_the_file_and_routes_from_the_start(self) -> None:
        """Both are in the table; that of the API wins, and deleting it uncovers the other one."""
        service = self.open(
            OPEN + "routes: {/a: http://file.test/, /b: http://file.test/}\n",
            initial_routes=[Route("/a", Upstream.parse("http://start.test"), ("a",))],
        )
        self.assertEqual(self.keys(service), ["/a", "/b"])

        def upstreams() -> list[str]:
            entries = (service.table.get(key) for key in ("/a", "/b"))
            return [entry.route.upstream.url for entry in entries if entry is not None]

        self.assertEqual(upstreams(), ["http://start.test", "http://file.test/"])
        self.assertEqual(self.ask(service, 1, "DELETE /api/routes/a")[0], 204)
        self.assertEqual(upstreams(), ["http://file.test/", "http://file.test/"])

    def test_a_posted_route_is_served_at_once(self) -> None:
        """The API and the public side share one table."""
        service = self.open()
        self.assertEqual(self.ask(service, 0, "GET /a")[0], 404)
        self.assertEqual(self.ask(service, 1, "POST /api/routes/a", {"target": "http://x", "websocket": "off"})[0], 201)
        handshake = (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
        self.assertEqual(self.ask(service, 0, "GET /a", fields=handshake)[0], 403)

    def test_options_of_posted_routes(self) -> None:
        """They are read as those of the file, or kept without being looked at."""
        route = {"target": "http://x", "strip_prefix": "maybe"}
        self.assertEqual(self.ask(self.open(), 1, "POST /api/routes/a", route)[0], 400)
        service = self.open(SOCKET.replace("http.sock", "2") + "api: {port: 0, open: true, route_options: verbatim}\n")
        self.assertEqual(self.ask(service, 1, "POST /api/routes/a", route)[0], 201)
        answer = json.loads(self.ask(service, 1, "GET /api/routes/a")[1])
        self.assertEqual({name: answer[name] for name in route}, route)

    def test_the_api_is_not_on_the_public_side(self) -> None:
        """Nor the other way round, and it may be off altogether."""
        service = self.open()
        self.assertEqual(self.ask(service, 0, "GET /api/routes")[0], 404)
        self.assertEqual(self.ask(service, 1, "GET /healthz")[0], 404)
        service = self.open(SOCKET.replace("http.sock", "2") + "api: off\n")
        assert service.data_path is not None
        self.assertIsNone(service.api)
        self.assertEqual([listener.purpose for listener in service.data_path.listeners], ["Proxying"])

    def test_host_routing(self) -> None:
        """The first segment of a posted route is its host."""
        service = self.open(OPEN + "host_routing: true\n")
        self.ask(service, 1, "POST /api/routes/h.test/a", {"target": "http://x"})
        entry = service.table.look_up("h.test", ("a",))
        assert entry is not None
        self.assertEqual((entry.route.host, entry.route.segments), ("h.test", ("a",)))
        self.assertIsNone(service.table.look_up("other.test", ("a",)))

    def test_a_token_is_asked_for(self) -> None:
        """The one of the environment that was given, not that of the process."""
        self.environ["PROXYD_AUTH_TOKEN"] = "secret"
        service = self.open(SOCKET + "api: {port: 0}\n")
        self.assertEqual(self.ask(service, 1, "GET /api/routes")[0], 403)
        self.assertEqual(self.ask(service, 1, "GET /api/routes", fields="Authorization: token secret\r\n")[0], 200)
        self.assertFalse((self.directory / "state").exists())

    def test_descriptors_are_raised(self) -> None:
        """Opening takes as many as the system allows, and remembers how many children should have."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        service = self.open()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (hard, hard))
        self.assertEqual(service.open_files_limit, (256, hard))


class AnnouncementTests(ServiceCase):
    """What the log says at the start."""

    def test_every_place_is_said(self) -> None:
        """The file, listeners with the ports that they got, the API, where `/` leads to, and every static route."""
        settings = (
            "listeners: [{kind: http, port: 0, address: '*'}, {kind: http, socket: '{directory}/s'},"
            " {kind: demo, port: 0}]\napi: {port: 0, open: true}\n"
            "routes: {/: 'http://127.0.0.1:9/x', /a: http://file.test, h.test/b/: http://file.test}\n"
        )
        service = self.make(settings, file=Path("the.yaml"))
        with capturedLogs() as events:
            service.open()
        assert service.data_path is not None
        public, _, demo, api = (listener.where for listener in service.data_path.listeners)
        port = public.rpartition(":")[2]
        self.assertNotEqual(port, "0")
        self.assertEqual(
            [formatEvent(event) for event in events if event["log_namespace"] == "proxyd.service.ProxyService"],
            [
                "configuration: the.yaml",
                f"Proxying http://*:{port} to http://127.0.0.1:9/x",
                f"Proxying {self.directory}/s to http://127.0.0.1:9/x",
                f"Demonstration at {demo}",
                f"Proxy API at {api}/api/routes",
                f"http://localhost:{port}/ leads to http://127.0.0.1:9/x",
                f"http://localhost:{port}/a/ leads to http://file.test",
                "http://h.test/b/ leads to http://file.test",
            ],
        )

    def test_very_many_routes_are_counted(self) -> None:
        """Nobody reads thousands of lines, and writing them takes seconds."""
        routes = ", ".join(f"/{number}: http://file.test" for number in range(60))
        service = self.make(f"listeners: [{{kind: http, socket: '{{directory}}/s'}}]\napi: off\nroutes: {{{routes}}}\n")
        with capturedLogs() as events:
            service.open()
        said = [formatEvent(event) for event in events]
        self.assertEqual(50, len([line for line in said if "leads to" in line]))
        self.assertIn("... and 10 more static routes", said)

    def test_a_directory_of_pages_that_is_not_there_is_told(self) -> None:
        """Or nobody would know before the first error."""
        for name, count in (("nowhere", 1), (str(self.directory), 0)):
            with capturedLogs() as events:
                self.open(OPEN + f"errors: {{directory: {name}}}\n").close()
            said = [formatEvent(event) for event in events]
            self.assertEqual(count, len([line for line in said if "errors have no pages" in line]), said)

    def test_without_a_default_route(self) -> None:
        """The words that tools know."""
        self.assertIn(f"Proxying {self.directory}/http.sock to (no default)", self.said())

    def test_a_default_route_from_the_start(self) -> None:
        """It counts as well."""
        route = Route("/", Upstream.parse("http://start.test"), ())
        self.assertIn(f"Proxying {self.directory}/http.sock to http://start.test", self.said(initial_routes=[route]))

    def test_the_path_of_a_made_token_is_said(self) -> None:
        """And the token is not."""
        lines = "\n".join(self.said(SOCKET + "api: {port: 0}\n"))
        path = self.directory / "state" / "token"
        self.assertIn(str(path), lines)
        self.assertNotIn(path.read_text().strip(), lines)


class FailedStartTests(ServiceCase):
    """What cannot be opened."""

    def assert_ends(self, settings: str, says: str, status: int = 1) -> None:
        """With this status and one line, and nothing is left."""
        service = self.make(settings)
        error = self.assertRaises(SystemExit, service.privilegedStartService)
        self.assertEqual(error.code, status)
        self.assertRegex(self.stderr.getvalue(), rf"\Aproxyd: .*{says}.*\n\Z")
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["file"])
        self.assertEqual(self.clock.getReaders(), [])

    def setUp(self) -> None:
        super().setUp()
        (self.directory / "file").write_text("")

    def test_a_listener(self) -> None:
        """Here, a file is where the socket should be."""
        self.assert_ends(
            "listeners: [{kind: http, socket: '{directory}/s'}, {kind: http, socket: '{directory}/file'}]\n"
            "api: off\npid_file: '{directory}/pid'\n",
            "cannot listen on .*/file: ",
        )

    def test_the_pid_file(self) -> None:
        """All listeners are closed again."""
        self.assert_ends(SOCKET + "api: off\npid_file: '{directory}/file/pid'\n", "file/pid")

    def test_the_access_log(self) -> None:
        """The file that cannot be written is named."""
        self.assert_ends(SOCKET + "api: off\nlog: {access_file: '{directory}/file/x'}\n", "file/x")

    def test_the_state(self) -> None:
        """Without a token the API must not be open to all."""
        self.assert_ends(SOCKET + "api: {port: 0}\nstate_directory: '{directory}/file/x'\n", "file/x")

    def test_an_option_that_is_wrong(self) -> None:
        """It is named, and the status is that of a configuration that cannot be used."""
        text = SOCKET + "api: off\nactivity: {url: 'http://127.0.0.1:1/activity'}\n"
        self.assert_ends(text, "activity.token: is needed: JUPYTERHUB_API_TOKEN is not set", status=78)

    def test_the_error_is_for_whoever_opens(self) -> None:
        """`open` raises it, and leaves the words to its caller."""
        self.assertRaises(ListenError, self.open, "listeners: [{kind: http, socket: '{directory}/file'}]\napi: off\n")
        self.assertEqual(self.stderr.getvalue(), "")

    def test_the_pid_file_of_somebody_else_stays(self) -> None:
        """The process that has the port has the file, too."""
        (self.directory / "pid").write_text("1")
        service = self.make(
            "listeners: [{kind: http, socket: '{directory}/file'}]\napi: off\npid_file: '{directory}/pid'\n"
        )
        self.assertRaises(SystemExit, service.privilegedStartService)
        self.assertEqual((self.directory / "pid").read_text(), "1")


class StopTests(ServiceCase):
    """The end."""

    def test_everything_is_closed(self) -> None:
        """Sockets, the pid file, the access log; what was logged is written."""
        service = self.open(OPEN + "pid_file: '{directory}/pid'\nlog: {access_file: '{directory}/access'}\n")
        self.assertEqual((self.directory / "pid").read_text(), str(os.getpid()))
        self.assertEqual(self.ask(service, 0, "GET /x")[0], 404)
        self.assertEqual(self.ask(service, 1, "GET /api/routes")[0], 200)
        service.writer.write("the last words\n")
        done = service.stopService()
        assert done is not None
        self.clock.advance(0)
        self.clock.pump([0.1] * 10)
        self.successResultOf(done)
        self.assertEqual([path.name for path in self.directory.iterdir()], ["access"])
        self.assertEqual(len((self.directory / "access").read_text().splitlines()), 1)
        self.assertEqual(self.log.read_text(), "the last words\n")
        self.assertEqual((self.clock.getReaders(), service.data_path), ([], None))

    def test_to_close_twice_does_no_harm(self) -> None:
        """Whoever is told to end twice ends once."""
        service = self.open()
        service.close()
        service.close()
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_a_pid_file_that_is_not_ours_any_more_stays(self) -> None:
        """So does nothing where it was removed by somebody else."""
        for text in ("1", None):
            service = self.open(OPEN + "pid_file: '{directory}/pid'\n")
            (self.directory / "pid").unlink()
            if text is not None:
                (self.directory / "pid").write_text(text)
            service.close()
            self.assertEqual((self.directory / "pid").exists(), text is not None)


class ApplicationTests(ServiceCase):
    """As a part of what twistd runs."""

    def test_the_log_of_the_application_has_our_form(self) -> None:
        """And our level; what twistd says is in it."""
        application = Application("proxyd")
        service = self.make(OPEN + "log: {format: json, level: warn}\n")
        service.setServiceParent(application)
        self.assertIs(service.parent, IService(application))
        observer = application.getComponent(ILogObserver)
        self.assertIsInstance(observer, LogObserver)
        with capturedLogs() as events:
            self.open(SOCKET.replace("http.sock", "2") + "api: {port: 0, open: true}\n")
        for event in events:
            observer(event)
        service.close()
        (line,) = self.log.read_text().splitlines()
        self.assertEqual(json.loads(line)["level"], "warn")
        self.assertIn("not authenticated", json.loads(line)["message"])


class StaticRouteTests(SynchronousTestCase):
    """From a key and a section of the file to a route."""

    def test_a_key_is_a_place(self) -> None:
        """With a host or without."""
        spec = RouteSpec(upstream=UpstreamUrl("http://Up.test:80/x"))
        for key, host, segments in (
            ("/", "", ()),
            ("/a/b/", "", ("a", "b")),
            ("H.test/", "h.test", ()),
            ("*.h.test/a", "*.h.test", ("a",)),
        ):
            route = static_route(key, spec)
            self.assertEqual((route.key, route.host, route.segments), (key, host, segments))

    def test_options_and_members(self) -> None:
        """What the section says holds, what it does not say is inherited, and the API shows that it is static."""
        waits = RouteTimeouts(connect=Seconds(1))
        route = static_route(
            "/a", RouteSpec(upstream=UpstreamUrl("http://up.test/x"), strip_prefix=True, timeouts=waits)
        )
        self.assertEqual(
            (route.options.strip_prefix, route.options.timeouts, route.options.websocket), (True, waits, None)
        )
        self.assertEqual(json.loads(route.members), {"target": "http://up.test/x", "static": True})
