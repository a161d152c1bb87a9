"""Tests of `proxyd.http.ports` with `proxyd.workers.ports`: ports by number, in memory."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ConnectError, ForbiddenAddressError
from proxyd.http.ports import Reminder
from proxyd.model.ports import PortsSettings
from proxyd.model.routes import DEFAULT_OPTIONS
from proxyd.model.settings import Config
from proxyd.option import Function, UrlPath
from proxyd.testing.harness import Harness
from proxyd.testing.transports import MemoryTransport

from .support import OK, DataPathTestCase

ENABLED = Config(ports=PortsSettings(enabled=True))
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class PortsTestCase(DataPathTestCase):
    """A proxy with nothing but ports."""

    config = ENABLED

    def setUp(self) -> None:
        self.proxy = Harness(routes={}, config=self.config)

    def get(self, target: str, fields: str = "", method: str = "GET") -> MemoryTransport:
        """A client that has asked."""
        client = self.proxy.client()
        client.send(f"{method} {target} HTTP/1.1\r\nHost: client.test\r\n{fields}\r\n".encode())
        return client

    def asked(self, target: str, fields: str = "", method: str = "GET") -> tuple[str, bytes]:
        """Who was called for a request, and what he got."""
        self.proxy.pools.close()
        self.get(target, fields, method)
        return str(self.proxy.dialer.dials[-1].upstream), self.proxy.accept().pop()


class PortsTests(PortsTestCase):
    """Requests (contract of managed servers, sections 1, 6, 7 and 9)."""

    def test_forms(self) -> None:
        """Each form of the URL leads to its port, with its own idea of the path; nothing is redirected."""
        cases = {
            "/proxy/8080": ("localhost:8080", "/"),
            "/proxy/8080?q=1": ("localhost:8080", "/?q=1"),
            "/proxy/8080/": ("localhost:8080", "/"),
            "/proxy/8080/a%2Fb%20c/?q=%2F": ("localhost:8080", "/a%2Fb%20c/?q=%2F"),
            "/proxy/8080/%ff": ("localhost:8080", "/%ff"),
            "/proxy/absolute/8080": ("localhost:8080", "/proxy/absolute/8080"),
            "/proxy/absolute/8080/a?q": ("localhost:8080", "/proxy/absolute/8080/a?q"),
            "/proxy/localhost:80/a": ("localhost:80", "/a"),
            "/proxy/127.0.0.1:80/a": ("127.0.0.1:80", "/a"),
            "/proxy/absolute/127.0.0.1:80/a": ("127.0.0.1:80", "/proxy/absolute/127.0.0.1:80/a"),
        }
        for target, (upstream, path) in cases.items():
            called, got = self.asked(target)
            self.assertEqual((upstream, path), (called, got.split(b" ")[1].decode()), target)

    def test_methods_and_bodies(self) -> None:
        """All of them, with and without a body, streamed."""
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
            _, got = self.asked("/proxy/80/x", "Content-Length: 2\r\n", method)
            self.assertTrue(got.startswith(f"{method} /x HTTP/1.1\r\n".encode()))
        client = self.get("/proxy/80/x", "Transfer-Encoding: chunked\r\n", "POST")
        upstream = self.proxy.accept()
        client.send(b"2\r\nab\r\n0\r\n\r\n")
        self.assertTrue(upstream.pop().endswith(b"\r\n\r\n2\r\nab\r\n0\r\n\r\n"))

    def test_fields(self) -> None:
        """Host and the others are the client's, and the prefix is told, on handshakes as well."""
        own = "http://client.test"
        for fields in ("", UPGRADE):
            _, got = self.asked("/proxy/127.0.0.1:80/", f"{fields}Origin: {own}\r\nX-Forwarded-Prefix: /forged\r\n")
            self.assertIn(b"\r\nHost: client.test\r\n", got)
            self.assertIn(b"\r\nOrigin: http://client.test\r\n", got)
            for name in (b"X-Forwarded-Context", b"X-ProxyContextPath", b"X-Forwarded-Prefix"):
                self.assertEqual(1, got.count(name))
                self.assertIn(b"\r\n%b: /proxy/127.0.0.1:80\r\n" % name, got)
            self.assertIn(b"\r\nX-Forwarded-For: 192.0.2.1\r\n", got)

    def test_origins(self) -> None:
        """A page of somebody else opens no WebSocket, unless it is allowed; what is no browser says no origin."""
        foreign = f"{UPGRADE}Origin: http://evil.test\r\n"
        self.assert_status(403, self.get("/proxy/80/", foreign))
        self.assertEqual([], self.proxy.dialer.dials)
        for fields in (UPGRADE, f"{UPGRADE}Origin: http://client.test\r\n", "Origin: http://evil.test\r\n"):
            self.assertEqual("localhost:80", self.asked("/proxy/80/", fields)[0])
        settings = PortsSettings(enabled=True, allow_origin=("http://evil.test",))
        self.proxy.ports.apply(Config(ports=settings), DEFAULT_OPTIONS, self.proxy.guards)
        self.assertIn(b"\r\nOrigin: http://evil.test\r\n", self.asked("/proxy/80/", foreign)[1])

    def test_refusals_call_nobody(self) -> None:
        """Plain requests and handshakes alike; the answer repeats nothing of what was asked."""
        cases = {
            "/proxy/": 404, "/proxy/x": 404, "/proxy/[::1]:80/": 404, "/proxy/u@127.0.0.1:80/": 404,
            "/proxy/u%40127.0.0.1:80/": 404, "/proxy/0/": 400, "/proxy/65536/": 400, "/proxy/localhost:0/": 400,
            "/proxy/evil.test:80/": 403, "/proxy/127.0.0.1%23:80/": 403, "/proxy/localhost%00:80/": 403,
            "/proxy/%3Cscript%3E:80/": 403, "/proxy/169.254.169.254:80/": 403, "/proxy/%ff:80/": 403,
        }  # fmt: skip
        for target, status in cases.items():
            for fields in ("", UPGRADE):
                client = self.get(target, fields)
                answer = self.assert_status(status, client)
                self.assertNotIn(b"script", answer)
        self.assertEqual([], self.proxy.dialer.dials)

    def test_failures(self) -> None:
        """Nobody listening is 502; a name that means a forbidden address is 403. The page does not say which."""
        for error, status in (
            (ConnectError("localhost:80", "Connection refused"), 502),
            (ForbiddenAddressError("db.test", "it resolves to 169.254.169.254"), 403),
        ):
            client = self.get("/proxy/80/")
            self.proxy.dialer.dials[-1].fail(error)
            self.assertNotIn(b"169.254", self.assert_status(status, client))

    def test_redirects_come_back_below_the_prefix(self) -> None:
        """And cookies as they are."""
        client = self.get("/proxy/80/")
        self.proxy.accept().send(
            b"HTTP/1.1 302 Gone Away\r\nLocation: /login?x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        answer = self.assert_status(302, client)
        self.assertIn(b"\r\nLocation: /proxy/80/login?x\r\n", answer)
        self.assertIn(b"302 Gone Away\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n", answer)

    def test_everything_is_activity(self) -> None:
        """From the beginning to the end; what is refused is not."""
        self.proxy.advance(5)
        self.assert_status(403, self.get("/proxy/evil.test:80/"))
        self.assertEqual(0, self.proxy.activity.last)
        self.get("/proxy/80/")
        self.assertAlmostEqual(5, self.proxy.activity.last)
        upstream = self.proxy.accept()
        self.proxy.advance(2)
        upstream.send(OK)
        self.assertAlmostEqual(7, self.proxy.activity.last)

    def test_connections_are_kept(self) -> None:
        """As those of a route are; both forms of the same port share them."""
        self.get("/proxy/80/")
        upstream = self.proxy.accept()
        upstream.send(OK)
        for target in ("/proxy/80/a", "/proxy/localhost:80/a", "/proxy/absolute/80/a"):
            upstream.pop()
            client = self.get(target)
            self.assertIn(b"/a HTTP/1.1\r\n", upstream.pop())
            upstream.send(OK)
            self.assert_status(200, client)
        self.assertEqual(1, len(self.proxy.dialer.dials))

    def test_a_scan_leaves_nothing(self) -> None:
        """Of all the ports that somebody asks for, only a few are remembered."""
        for port in range(1, 2001):
            client = self.get(f"/proxy/{port}/")
            self.proxy.dialer.dials.pop().fail(ConnectError("localhost", "refused"))
            self.assert_status(502, client)
            client.close()
        self.assertLessEqual(len(self.proxy.pools._pools), 257)


class BaseUrlTests(PortsTestCase):
    """Ports below a prefix, as in a Hub."""

    config = attrs.evolve(ENABLED, base_url=UrlPath("/user/a%20b/"))

    def test_everything_is_below_it(self) -> None:
        """In any spelling; nothing is beside it; what is told is the configured one."""
        for target in ("/user/a%20b/proxy/80/x", "/user/a%20%62/proxy/80/x", "//user/a%20b/proxy/80/x"):
            called, got = self.asked(target)
            self.assertEqual("localhost:80", called)
            self.assertTrue(got.startswith(b"GET /x "), got)
            self.assertIn(b"\r\nX-Forwarded-Prefix: /user/a%20b/proxy/80\r\n", got)
        for target in ("/proxy/80/x", "/user/proxy/80/x", "/user/b/proxy/80/x", "/user/a%20b/x/proxy/80"):
            self.assert_status(404, self.get(target))


class SettingsTests(PortsTestCase):
    """What the configuration says, now or later."""

    config = Config()

    def test_off(self) -> None:
        """404, and the log names the setting, once a minute; a route may be there all the same."""
        told = []
        for seconds in (0, 1, 58, 1, 59.5):
            self.proxy.advance(seconds)
            with capturedLogs() as events:
                client = self.get("/proxy/8080/")
            self.assertNotIn(b"ports.enabled", self.assert_status(404, client))
            told.append("ports.enabled" in str(formatEvent(events[-1])))
        self.assertEqual([True, False, False, True, False], told)
        self.assert_status(404, self.get("/other"))
        self.proxy.add_route("/", "http://app.test")
        self.assertEqual("app.test:80", self.asked("/proxy/8080/")[0])

    def test_the_configuration_can_change(self) -> None:
        """From one moment to the next; what is under way goes on."""
        apply = self.proxy.ports.apply
        apply(ENABLED, DEFAULT_OPTIONS, self.proxy.guards)
        client = self.get("/proxy/80/")
        upstream = self.proxy.accept()
        apply(attrs.evolve(ENABLED, base_url=UrlPath("/b/")), DEFAULT_OPTIONS, self.proxy.guards)
        self.assert_status(404, self.get("/proxy/80/"))
        self.assertEqual("localhost:80", self.asked("/b/proxy/80/")[0])
        apply(Config(), DEFAULT_OPTIONS, self.proxy.guards)
        self.assert_status(404, self.get("/b/proxy/80/"))
        upstream.send(OK)
        self.assert_status(200, client)

    def test_websockets_can_be_off(self) -> None:
        """As `route_defaults` say, which hold for ports as well."""
        options = attrs.evolve(DEFAULT_OPTIONS, websocket="off")
        self.proxy.ports.apply(ENABLED, options, self.proxy.guards)
        self.assert_status(403, self.get("/proxy/80/", UPGRADE))
        self.assertEqual([], self.proxy.dialer.dials)


class FunctionTests(PortsTestCase):
    """What functions of the user decide and change."""

    def test_hosts(self) -> None:
        """A function sees the request, and is asked for hosts only."""
        seen: list[str] = []

        def decide(handler: Any, host: str) -> bool:
            handler.log.debug("asked for %s", host)
            seen.append(f"{handler.request.path} {handler.request.headers['Host']} {host}")
            return host == "db.test"

        settings = PortsSettings(enabled=True, hosts=Function("m:f", decide))
        self.proxy.ports.apply(Config(ports=settings), DEFAULT_OPTIONS, self.proxy.guards)
        self.assertEqual("db.test:80", self.asked("/proxy/db.test:80/x?y")[0])
        for fields in ("", UPGRADE):
            self.assert_status(403, self.get("/proxy/other.test:80/", fields))
        self.asked("/proxy/80/")
        expected = ["/proxy/db.test:80/x client.test db.test", "/proxy/other.test:80/ client.test other.test"]
        self.assertEqual(expected, list(dict.fromkeys(seen)))

    def test_a_function_that_takes_its_time(self) -> None:
        """Holds nobody else up; the request waits, and no longer than for a response."""
        waiting: list[Deferred[Any]] = []

        def run(function: Any) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: function())

        settings = PortsSettings(enabled=True, hosts=Function("m:f", lambda handler, host: True))
        self.proxy.ports._around.run = run
        self.proxy.ports.apply(Config(ports=settings), DEFAULT_OPTIONS, self.proxy.guards)
        client = self.get("/proxy/db.test:80/", "Content-Length: 4\r\n", "POST")
        client.send(b"bo")
        self.assertFalse(client.is_reading)
        self.assertEqual("localhost:80", self.asked("/proxy/80/")[0])
        waiting[0].callback(None)
        self.assertEqual("db.test", self.proxy.dialer.dials[-1].upstream.host)
        upstream = self.proxy.accept()
        client.send(b"dy")
        self.assertTrue(upstream.pop().endswith(b"\r\n\r\nbody"))
        late = self.get("/proxy/other.test:80/")
        self.proxy.advance(299)
        self.assertEqual(b"", late.pop())
        self.proxy.advance(2)
        self.assert_status(403, late)

    def test_responses(self) -> None:
        """Functions get host, port (as text) and stripped path; Location is rewritten after them."""

        def change(response: Any, host: object, port: object, path: object, request: Any) -> None:
            response.body = f"{host!r} {port!r} {path!r} {request.path}".encode()
            response.headers["Location"] = "/new"

        settings = PortsSettings(enabled=True, rewrite_response=Function("m:f", change))
        self.proxy.ports.apply(Config(ports=settings), DEFAULT_OPTIONS, self.proxy.guards)
        client = self.get("/proxy/127.0.0.1:80/a?b")
        self.proxy.accept().send(b"HTTP/1.1 302 Found\r\nContent-Length: 3\r\nLocation: /old\r\n\r\nold")
        answer = self.assert_status(302, client)
        self.assertIn(b"\r\nLocation: /proxy/127.0.0.1:80/new\r\n", answer)
        self.assertTrue(answer.endswith(b"'127.0.0.1' '80' '/a' /proxy/127.0.0.1:80/a"), answer)


class ReminderTests(SynchronousTestCase):
    """What the log need not hear all the time."""

    def test_once_in_an_interval(self) -> None:
        """From the first time on."""
        clock = Clock()
        reminder = Reminder("off", clock.seconds, 60)
        said = []
        for seconds in (0, 0, 59, 1, 1):
            clock.advance(seconds)
            said.append(reminder())
        self.assertEqual(["off", "", "", "off", ""], said)
