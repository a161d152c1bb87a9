"""Tests of `proxyd.http.managed` with `proxyd.workers.servers`: managed servers, in memory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.interfaces import ILease, IServerSupervisor
from proxyd.model.servers import Place, ServerSpec
from proxyd.model.settings import Config
from proxyd.option import FilePath, Port, ServerName, UrlPath
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
            "dot.name/": ("/", 3), "abs/x?y": ("/user/a%20b/abs/x?y", 4),
        }  # fmt: skip
        for target, (seen, port) in cases.items():
            got = self.asked(f"/user/a%20b/{target}")
            self.assertTrue(got.startswith(f"GET {seen} HTTP/1.1\r\n".encode()), got)
            self.assertEqual(port, self.proxy.dialer.dials[-1].upstream.port)
        for target in ("/app/", "/user/a%20b/appx/", "/user/a%20b/dotxname/", "/user/a%20b/"):
            self.assert_status(404, self.get(target))

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
        self.supervisor.become_ready("app", PLACE)
        upstream = self.proxy.accept()
        client.send(b"ef")
        self.assertTrue(upstream.pop().endswith(b"\r\n\r\nabcdef"))

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
