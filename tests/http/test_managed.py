"""Tests of `proxyd.http.managed` with `proxyd.workers.servers`: managed servers, in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.auth.token import TokenAuthConfig
from proxyd.errors import ConnectError, ServerStartError
from proxyd.http.request import Request
from proxyd.interfaces import ILease, IServerSupervisor
from proxyd.metrics.meters import Meters
from proxyd.model.servers import Place, ServerSpec
from proxyd.model.settings import Config
from proxyd.option import FilePath, Function, Pattern, Port, Secret, ServerName, UrlPath
from proxyd.testing.harness import Harness
from proxyd.testing.servers import ScriptedLease, ScriptedSupervisor
from proxyd.testing.transports import MemoryTransport

from .support import OK, DataPathTestCase
from .test_ports import UPGRADE

PLACE = Place(4711)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def managed(**options: object) -> ServerSpec:
    """A server that proxyd starts."""
    return ServerSpec(command=("program",), **options)  # type: ignore[arg-type]


class ManagedTestCase(DataPathTestCase):
    """A proxy with servers and no routes."""

    base_url = "/"

    def setUp(self) -> None:
        self.serve(app=managed())

    def serve(self, **servers: ServerSpec) -> None:
        """Serve these."""
        named = {ServerName(name): spec for name, spec in servers.items()}
        self.proxy = Harness(routes={}, config=Config(base_url=UrlPath(self.base_url), servers=named))
        self.supervisor = self.proxy.supervisor

    def get(self, target: str, fields: str = "", method: str = "GET") -> MemoryTransport:
        """A client that has asked."""
        client = self.proxy.client()
        client.send(f"{method} {target} HTTP/1.1\r\nHost: client.test\r\n{fields}\r\n".encode())
        return client

    def asked(self, target: str, fields: str = "", method: str = "GET") -> bytes:
        """What the server got of a request, on a new connection."""
        self.proxy.pools.close()
        self.get(target, fields, method)
        return self.proxy.accept().pop()


class FakeTests(SynchronousTestCase):
    """The supervisor and the lease of the tests."""

    def test_interfaces(self) -> None:
        """They have all that the seams ask for."""
        verifyObject(IServerSupervisor, ScriptedSupervisor({}))
        verifyObject(ILease, ScriptedLease(place=PLACE, spec=ServerSpec()))


class UrlTests(ManagedTestCase):
    """Which URL leads where (contract of managed servers, section 1)."""

    base_url = "/user/a%20b/"

    def test_the_server_sees_what_is_below_its_name(self) -> None:
        """Raw, with its query, and names of several segments first."""
        self.serve(
            **{"app": managed(), "app/deep": managed(), "dot.name": managed(), "abs": managed(absolute_url=True)}
        )
        for port, name in enumerate(("app", "app/deep", "dot.name", "abs"), 1):
            self.supervisor.become_ready(name, Place(port))
        cases = {
            "app/": ("/", 1), "app/x?q=%2F": ("/x?q=%2F", 1), "app/a%2Fb%20c/": ("/a%2Fb%20c/", 1),
            "app//x": ("//x", 1), "app/deep/x": ("/x", 2), "app/deeper/x": ("/deeper/x", 1),
            "dot.name/": ("/", 3), "abs/x?y": ("/user/a%20b/abs/x?y", 4), "app/%ff/%C3": ("/%ff/%C3", 1),
            "abs/%e9?%ff": ("/user/a%20b/abs/%e9?%ff", 4),
        }  # fmt: skip
        for target, (seen, port) in cases.items():
            got = self.asked(f"/user/a%20b/{target}")
            self.assertTrue(got.startswith(f"GET {seen} HTTP/1.1\r\n".encode()), got)
            self.assertEqual(port, self.proxy.dialer.dials[-1].upstream.port)
        for target in ("/app/", "/user/a%20b/appx/", "/user/a%20b/dotxname/", "/user/a%20b/"):
            self.assert_status(404, self.get(target))
        for target in ("/user/a%20b/app/%zz", "/user/a%20b/app%ff/", "/%ff/app/"):
            self.assert_status(400, self.get(target))
        self.proxy.add_route("/user/a b/app/own", "http://up.test")
        self.assert_status(400, self.get("/user/a%20b/app/own/%ff"))

    def test_without_the_slash(self) -> None:
        """A redirect that keeps the query, and nothing is started; never to another host."""
        self.serve(app=managed(), here=ServerSpec(port=Port(80)))
        for target in ("/user/a%20b/app", "/user/a%20b/here", "//user/a%20b/app"):
            name = target.rpartition("/")[2]
            for method, status in {"GET": 302, "HEAD": 302, "POST": 308, "DELETE": 308}.items():
                answer = self.assert_status(status, self.get(f"{target}?a=b", method=method))
                self.assertIn(f"\r\nLocation: /user/a%20b/{name}/?a=b\r\n".encode(), answer)
        self.assertEqual([], self.supervisor.asked)

    def test_servers_that_run_already(self) -> None:
        """Their port or socket; what has neither is not there."""
        self.serve(port=ServerSpec(port=Port(81)), socket=ServerSpec(unix_socket=FilePath("/s")), none=ServerSpec())
        self.assertIn(b"\r\nHost: client.test\r\n", self.asked("/user/a%20b/port/"))
        self.assertEqual(81, self.proxy.dialer.dials[-1].upstream.port)
        self.assertIn(b"\r\nHost: client.test\r\n", self.asked("/user/a%20b/socket/"))
        self.assertEqual("/s", self.proxy.dialer.dials[-1].upstream.socket)
        self.assert_status(404, self.get("/user/a%20b/none/"))


class MeterTests(ManagedTestCase):
    """How requests are counted."""

    def test_kinds(self) -> None:
        """A redirect and a refusal are our own; what waits, fails or is forwarded counts as that."""
        servers = {ServerName("app"): managed(), ServerName("raw"): managed(raw_socket_proxy=True)}
        meters = Meters()
        self.proxy = Harness(routes={}, config=Config(servers=servers), meters=meters)
        for target in ("/app", "/raw/x"):
            self.get(target)
        for fields in ("", UPGRADE):
            self.get("/app/", fields)
            self.proxy.supervisor.become_failed("app", "was late")
        counted = {kind: {n: c for n, c in enumerate(meters.requests[kind].classes) if c} for kind in meters.requests}
        self.assertEqual({3: 1, 4: 1}, counted["resource"])
        self.assertEqual(({5: 1}, {5: 1}), (counted["forward"], counted["websocket"]))


class WaitingTests(ManagedTestCase):
    """What happens while a server starts."""

    def test_everything_waits(self) -> None:
        """Requests and handshakes alike, for one server; then they are served, and the lease ends with them."""
        client, other = self.get("/app/x"), self.get("/app/ws", UPGRADE)
        self.assertEqual(b"", client.pop())
        self.assertEqual([], self.proxy.dialer.dials)
        self.supervisor.become_ready("app", PLACE)
        upstreams = [dial.accept() for dial in self.proxy.dialer.dials]
        self.assertIn(b"GET /x ", upstreams[0].pop())
        self.assertIn(b"\r\nX-Forwarded-Prefix: /app\r\n", upstreams[1].pop())
        upstreams[0].send(OK)
        self.assert_status(200, client)
        upstreams[1].send(ACCEPTED)
        self.assert_status(101, other)
        self.assertEqual(1, self.supervisor.in_use)
        upstreams[1].send(b"\x81\x01a")
        self.assertEqual(b"\x81\x01a", other.pop())
        other.close()
        self.proxy.advance()
        self.assertEqual(0, self.supervisor.in_use)

    def test_a_body_waits_with_its_request(self) -> None:
        """Nothing of it is lost, and no more of it is read than is there."""
        client = self.get("/app/x", "Content-Length: 6\r\n", "POST")
        client.send(b"ab")
        client.send(b"cd")
        self.assertFalse(client.is_reading)
        self.supervisor.become_ready("app", PLACE)
        upstream = self.proxy.accept()
        client.send(b"ef")
        self.assertTrue(upstream.pop().endswith(b"\r\n\r\nabcdef"))

    def test_what_comes_behind_a_handshake(self) -> None:
        """Waits as well, and in order."""
        client = self.get("/app/", UPGRADE)
        client.send(b"early")
        self.supervisor.become_ready("app", PLACE)
        upstream = self.proxy.accept()
        client.send(b" and late")
        upstream.pop()
        upstream.send(ACCEPTED + b"glued")
        self.proxy.advance()
        self.assertTrue(client.pop().endswith(b"glued"))
        self.assertEqual(b"early and late", upstream.pop())

    def test_a_body_that_is_none(self) -> None:
        """Is refused while its request waits, or when it is read; nothing is held for it."""
        client = self.get("/app/x", "Transfer-Encoding: chunked\r\n", "POST")
        client.send(b"zz\r\n")
        self.supervisor.become_ready("app", PLACE)
        self.proxy.accept()
        self.proxy.advance()
        self.assert_status(400, client)
        self.assertEqual(0, self.supervisor.in_use)
        self.assertEqual([], self.supervisor.waiting.get("app", []))

    def test_a_client_that_leaves(self) -> None:
        """Waits no more, and holds nothing; the start goes on."""
        client = self.get("/app/x")
        client.close()
        self.proxy.advance()
        self.assertEqual([], self.supervisor.waiting["app"])
        self.supervisor.become_ready("app", PLACE)
        self.assertEqual([], self.supervisor.leases)

    def test_a_failure(self) -> None:
        """503 with Retry-After; the log names the server and the reason; the next request tries again."""
        for fields in ("", UPGRADE):
            client = self.get("/app/x", fields)
            self.supervisor.become_failed("app", "was not ready in time")
            answer = self.assert_status(503, client)
            self.assertIn(b"\r\nRetry-After: 1\r\n", answer)
        self.assertEqual(["app", "app"], self.supervisor.asked)
        self.assertEqual([], self.supervisor.leases)


class WordsTests(ManagedTestCase):
    """What the definition says of requests and responses."""

    def serve_ready(self, spec: ServerSpec) -> None:
        """Serve it as `app`, which is ready."""
        self.serve(app=spec)
        if spec.is_managed:
            self.supervisor.become_ready("app", PLACE)

    def test_fields_are_set(self) -> None:
        """Whatever the client sent, on both kinds; but they cannot change what tells of the prefix."""
        fields = {"authorization": "token {port}", "Origin": "http://127.0.0.1:{port}", "X-Forwarded-Prefix": "/x"}
        given = [fields, Function("m:f", lambda port: {**fields, "authorization": f"token {port}"})]
        for override in given:
            self.serve_ready(managed(request_headers_override=override))
            for more in ("", UPGRADE):
                got = self.asked("/app/", f"{more}Authorization: mine\r\nOrigin: http://client.test\r\n")
                self.assertEqual(1, got.lower().count(b"\r\nauthorization:"))
                self.assertIn(b"\r\nauthorization: token 4711\r\n", got)
                self.assertIn(b"\r\nOrigin: http://127.0.0.1:4711\r\n", got)
                self.assertIn(b"\r\nX-Forwarded-Prefix: /app\r\n", got)

    def test_a_function_is_asked_for_each_request(self) -> None:
        """And sees where the server is."""
        numbers = iter(range(10))
        self.serve_ready(
            managed(request_headers_override=Function("m:f", lambda base_url: {"X-N": f"{base_url}{next(numbers)}"}))
        )
        for number in range(3):
            self.assertIn(b"\r\nX-N: /%d\r\n" % number, self.asked("/app/"))

    def test_mistakes_of_the_user(self) -> None:
        """500, and nothing reaches the server; the lease is given back."""
        wrong = Function("m:f", lambda nope: {})
        for options in (
            {"request_headers_override": {"X": "{nope}"}},
            {"request_headers_override": wrong},
            {"mappath": wrong},
            {"update_last_activity": Function("m:f", lambda handler: 1 // 0)},
        ):
            self.serve_ready(managed(**options))
            self.assert_status(500, self.get("/app/x"))
            self.assertEqual([], self.proxy.dialer.dials)
            self.assertEqual(0, self.supervisor.in_use)

    def test_paths_are_mapped(self) -> None:
        """Of HTTP only; the query of the client follows that of the result; an absolute one keeps its prefix."""
        given = [{"/": "/index.html?k=v"}, Function("m:f", lambda path: f"{path}index.html?k=v")]
        for mappath in given:
            self.serve_ready(managed(mappath=mappath))
            self.assertTrue(self.asked("/app/?a=b").startswith(b"GET /index.html?k=v&a=b HTTP/1.1\r\n"))
            self.assertTrue(self.asked("/app/", UPGRADE).startswith(b"GET / HTTP/1.1\r\n"))
        self.serve_ready(managed(mappath={"/": "/x"}, absolute_url=True))
        self.assertTrue(self.asked("/app/").startswith(b"GET /app/x HTTP/1.1\r\n"))
        self.assertTrue(self.asked("/app/a%2Fb").startswith(b"GET /app/a%2Fb HTTP/1.1\r\n"))

    def test_an_absolute_one(self) -> None:
        """Sees the whole path, is told nothing of the prefix, and its redirects stay."""
        self.serve_ready(managed(absolute_url=True))
        client = self.get("/app/x")
        upstream = self.proxy.accept()
        self.assertNotIn(b"X-Forwarded-Prefix", upstream.pop())
        upstream.send(b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"\r\nLocation: /y\r\n", client.pop())

    def test_responses_are_rewritten(self) -> None:
        """By functions that get host and port; afterwards Location gets the prefix."""

        def change(response: Any, host: object, port: object, path: object, request: Any) -> None:
            response.body = f"{host!r} {port!r} {path!r} {request.path}".encode()
            response.headers["Location"] = "/new"

        self.serve_ready(managed(rewrite_response=Function("m:f", change), mappath={"/a": "/b"}))
        client = self.get("/app/a?q")
        self.proxy.accept().send(b"HTTP/1.1 302 Found\r\nContent-Length: 3\r\n\r\nold")
        answer = self.assert_status(302, client)
        self.assertIn(b"\r\nLocation: /app/new\r\n", answer)
        self.assertTrue(answer.endswith(b"'localhost' 4711 '/b' /app/a"), answer)
        self.assertEqual(0, self.supervisor.in_use)
        self.serve_ready(
            managed(rewrite_response=Function("m:f", change), mappath={"/a": "/b?own=1"}, absolute_url=True)
        )
        client = self.get("/app/a?q")
        upstream = self.proxy.accept()
        self.assertTrue(upstream.pop().startswith(b"GET /app/b?own=1&q HTTP/1.1\r\n"))
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
        self.assertTrue(self.assert_status(200, client).endswith(b"'localhost' 4711 '/b' /app/a"))

    def test_responses_come_as_they_come(self) -> None:
        """Unless `progressive` is false; cookies stay apart in both cases."""
        head = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\n"
        for progressive, is_early in ((None, True), (True, True), (False, False), (Function("m", lambda: 0), False)):
            self.serve_ready(managed(progressive=progressive))
            client = self.get("/app/")
            upstream = self.proxy.accept()
            upstream.send(head + b"a")
            early = client.pop()
            self.assertEqual(is_early, early.endswith(b"\r\n\r\na"))
            upstream.send(b"b")
            answer = early + client.pop()
            self.assertIn(b"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n", answer)
            self.assertTrue(answer.endswith(b"\r\n\r\nab"))

    def test_origins(self) -> None:
        """A page of somebody else opens no WebSocket, and starts nothing, unless it is allowed."""
        foreign = f"{UPGRADE}Origin: http://evil.test\r\n"
        self.assert_status(403, self.get("/app/", foreign))
        self.assertEqual([], self.supervisor.asked)
        self.serve_ready(managed(allow_origin=("http://evil.test",)))
        self.assertIn(b"\r\nOrigin: http://evil.test\r\n", self.asked("/app/", foreign))

    def test_activity(self) -> None:
        """Counts at the beginning, for each piece, and at the end; what is no activity does not."""
        numbers: list[tuple[int, float]] = []
        for options in (
            {},
            {"update_last_activity": Function("m:f", lambda handler: handler.request.path == "/app/x")},
            {"update_last_activity": False},
            {"exclude_last_activity_patterns": (Pattern("/app/x"),)},
            {"update_last_activity": Function("m:f", lambda handler: False)},
        ):
            self.serve_ready(managed(**options))
            self.proxy.advance(7)
            self.get("/app/x")
            upstream = self.proxy.accept()
            upstream.send(OK[:-1])
            (lease,) = self.supervisor.leases
            before = lease.touches
            self.proxy.advance(1)
            upstream.send(OK[-1:])
            self.assertEqual(bool(before), lease.touches > before)
            self.assertTrue(lease.is_released)
            numbers.append((before, round(self.proxy.activity.last, 3)))
        self.assertEqual([(2, 8.0), (2, 8.0), (0, 0), (0, 0), (0, 0)], numbers)

    def test_the_hub_is_told_what_counts(self) -> None:
        """And not of what does not, although somebody was let in for it; nor of redirects and the launcher."""
        touched: list[bytes] = []
        numbers = []
        for options in (
            {},
            {"update_last_activity": Function("m:f", lambda handler: True)},
            {"update_last_activity": False},
            {"exclude_last_activity_patterns": (Pattern("/app/x"),)},
            {"update_last_activity": Function("m:f", lambda handler: False)},
        ):
            config = Config(servers={ServerName("app"): managed(**options)}, base_url=UrlPath(self.base_url))
            self.proxy = Harness(routes={}, config=config, touch_of=lambda path: lambda: touched.append(path))
            self.proxy.show_pages()
            self.supervisor = self.proxy.supervisor
            self.supervisor.become_ready("app", PLACE)
            self.get("/app")
            self.get("/server-proxy/servers-info")
            self.assertEqual([], touched)
            self.get("/app/x")
            upstream = self.proxy.accept()
            upstream.send(OK[:-1])
            upstream.send(OK[-1:])
            numbers.append(len(touched))
            touched.clear()
        self.assertEqual([4, 4, 0, 0, 0], numbers)

    def test_leases_end_with_what_they_are_for(self) -> None:
        """Whatever ends it: the server, the client, or a mistake."""
        self.serve_ready(managed())
        self.get("/app/")
        self.proxy.dialer.dials[-1].fail(ConnectError("localhost", "refused"))
        client = self.get("/app/")
        self.proxy.accept()
        self.assertEqual(1, self.supervisor.in_use)
        client.close()
        self.proxy.advance()
        self.assertEqual(0, self.supervisor.in_use)
        client = self.get("/app/")
        upstream = self.proxy.accept()
        upstream.send(OK[:-1])
        upstream.close()
        self.proxy.advance()
        self.assertEqual(0, self.supervisor.in_use)
        self.assert_ended(client)

    def test_the_wait_is_not_the_upstreams(self) -> None:
        """The time for the response begins when the server is ready."""
        self.serve(app=managed())
        client = self.get("/app/")
        self.proxy.advance(1000)
        self.supervisor.become_ready("app", PLACE)
        upstream = self.proxy.accept()
        self.proxy.advance(299)
        self.assertEqual(b"", client.pop())
        upstream.send(OK)
        self.assert_status(200, client)


class PagesTests(ManagedTestCase):
    """The seam for what people see of a server that is not ready."""

    def test_a_page_in_place_of_the_wait(self) -> None:
        """It is asked before anything starts, which is up to it; failures are told by it as well."""
        test = self

        class Pages:
            def waiting(self, request: Request, name: str) -> bool:
                waits = request.method == b"GET" and test.supervisor.status(name)[0].state == "stopped"
                if waits:
                    request.answer(200, [], b"wait")
                return waits

            def failed(self, request: Request, error: ServerStartError) -> None:
                request.answer(503, [], str(error).encode())

        self.proxy.servers.pages = Pages()
        self.assertTrue(self.assert_status(200, self.get("/app/")).endswith(b"wait"))
        self.assertEqual({}, self.supervisor.waiting)
        client = self.get("/app/", method="POST")
        self.supervisor.become_failed("app", "was late")
        self.assertTrue(self.assert_status(503, client).endswith(b"server app was late"))
        self.supervisor.become_ready("app", PLACE)
        self.assertIn(b"GET / ", self.asked("/app/"))


class AuthenticatedTests(ManagedTestCase):
    """Behind a login (sections 7 and 14)."""

    def setUp(self) -> None:
        auth = TokenAuthConfig(token=Secret("secret-token"))
        servers = {ServerName("app"): managed(), ServerName("raw"): managed(raw_socket_proxy=True)}
        self.proxy = Harness(routes={}, config=Config(servers=servers, auth=auth), state=Path(self.mktemp()))
        self.supervisor = self.proxy.supervisor
        for name in servers:
            self.supervisor.become_ready(name, PLACE)

    def test_nobody_reaches_or_starts_anything(self) -> None:
        """Neither by HTTP nor by WebSocket, raw ones included."""
        for target in ("/app/", "/app", "/raw/"):
            for fields in ("", UPGRADE):
                self.assertIn(self.get(target, fields).pop()[9:12], (b"401", b"403", b"302", b"303"))
        self.assertEqual([], self.supervisor.asked)

    def test_credentials_stay_with_us(self) -> None:
        """Those of the application are passed on."""
        for fields in ("", UPGRADE):
            got = self.asked("/app/x", f"{fields}Authorization: token secret-token\r\nCookie: own=1\r\n")
            self.assertNotIn(b"secret-token", got)
            self.assertIn(b"\r\nCookie: own=1\r\n", got)
