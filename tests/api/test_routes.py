"""Tests of `proxyd.api.routes` and `proxyd.api.resource` (contract of configurable-http-proxy, section 2)."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.api.resource import ApiLog, ApiResource
from proxyd.api.routes import RoutesApi
from proxyd.builtins import KINDS
from proxyd.config.types import read_posted_options
from proxyd.core.posted import RouteReader
from proxyd.core.table import RouteTable
from proxyd.errors import StoreError
from proxyd.model.settings import Config
from proxyd.stores.memory import MemoryRouteStore
from proxyd.testing.contracts import make_route
from proxyd.testing.harness import Harness

TOKEN = b"Authorization: token secret\r\n"


class ApiTestCase(SynchronousTestCase):
    """An API in memory, with the token `secret`."""

    host_routing = False
    typed = False
    tokens: tuple[str, ...] = ("secret", "another")

    def setUp(self) -> None:
        self.table = RouteTable()
        self.clock = Clock()
        self.store = MemoryRouteStore(self.clock)
        self.store.watch(0, lambda change: self.table.apply(change, self.proxy.clock.seconds()))
        api = RoutesApi(
            self.table,
            self.store,
            self.clock,
            reader=RouteReader(self.host_routing, partial(read_posted_options, kinds=KINDS) if self.typed else None),
            max_body=1000,
            max_path=100,
        )
        self.proxy = Harness(root=ApiResource(RoutesApi.router, api, self.tokens, is_chp=True), config=Config())
        self.proxy.site.access_log = ApiLog()

    def call(
        self, method: str, path: str, body: Any = None, fields: bytes = TOKEN, raw: bytes | None = None
    ) -> tuple[int, bytes, bytes]:
        """Call the API; gives back status, head and body."""
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        length = b"Content-Length: %d\r\n" % len(data) if raw is not None or body is not None else b""
        client = self.proxy.client()
        client.send(f"{method} {path} HTTP/1.1\r\nHost: api\r\n".encode() + fields + length + b"\r\n" + data)
        self.clock.advance(0)
        head, _, answer = client.pop().partition(b"\r\n\r\n")
        self.assertTrue(head, "there is no answer")
        return int(head.split(b" ")[1]), head, answer

    def routes(self, query: str = "") -> dict[str, Any]:
        """The table as the API tells it."""
        status, head, body = self.call("GET", "/api/routes" + query)
        self.assertEqual(200, status)
        self.assertIn(b"\r\nContent-Type: application/json\r\n", head)
        table: dict[str, Any] = json.loads(body)
        return table


class AuthorizationTests(ApiTestCase):
    """Who may ask."""

    def test_only_form(self) -> None:
        """`token SECRET` with one or more spaces is accepted, and nothing else; the answer is a bare 403."""
        for good in (b"token secret", b"token   another"):
            self.assertEqual(200, self.call("GET", "/api/routes", fields=b"Authorization: " + good + b"\r\n")[0])
        for bad in (
            b"", b"secret", b"Token secret", b"TOKEN secret", b"Bearer secret", b"Basic c2VjcmV0", b"tokensecret",
            b"token secre", b"token secretx", b"token secret x", b"x token secret", b"token", b"token ",
            b"token\tsecret", b"token secret,token secret", b"token \xff", b"token " + b"x" * 5000,
        ):  # fmt: skip
            status, head, body = self.call("GET", "/api/routes?token=secret", fields=b"Authorization: " + bad + b"\r\n")
            self.assertEqual((403, b""), (status, body), bad)
            self.assertNotIn(b"WWW-Authenticate", head)
        self.assertEqual(403, self.call("GET", "/api/routes", fields=b"")[0])

    def test_every_method(self) -> None:
        """Reading, adding and deleting all need the token."""
        for method in ("GET", "POST", "DELETE"):
            for path in ("/api/routes", "/api/routes/x"):
                self.assertEqual(403, self.call(method, path, fields=b"")[0])
        self.assertEqual({}, self.routes())

    def test_nobody_makes_us_read_without_it(self) -> None:
        """A body is not read without the token: the answer comes before it, and bad JSON does not change it."""
        client = self.proxy.client()
        client.send(b"POST /api/routes/x HTTP/1.1\r\nHost: api\r\nContent-Length: 1000000000\r\n\r\n")
        self.assertTrue(client.pop().startswith(b"HTTP/1.1 403 "))
        self.assertTrue(client.write_closed)
        self.assertEqual(403, self.call("POST", "/api/routes/x", raw=b"{", fields=b"")[0])

    def test_unknown_resources_and_methods_come_first(self) -> None:
        """What is not there is 404, and a wrong method 405, with or without the token."""
        for fields in (TOKEN, b""):
            for path in (
                "/",
                "/api",
                "/api/",
                "/api/route",
                "/API/routes",
                "/api/routesx",
                "/metrics",
                "/x/api/routes",
            ):
                self.assertEqual((404, b"Not Found"), self.call("GET", path, fields=fields)[::2], path)
            for method in ("PUT", "PATCH", "OPTIONS", "FROB"):
                status, head, body = self.call(method, "/api/routes/x", fields=fields)
                self.assertEqual((405, b"Method not supported"), (status, body))
                self.assertIn(b"\r\nAllow: DELETE, GET, POST\r\n", head)
            self.assertEqual((405, b""), self.call("HEAD", "/api/routes", fields=fields)[::2])
        self.assertEqual(200, self.call("GET", "/x/../api/./routes")[0])


class OpenTests(ApiTestCase):
    """An API without a token."""

    tokens = ()

    def test_everybody_may(self) -> None:
        """No token is asked for, and a wrong one does not matter."""
        for fields in (b"", TOKEN, b"Authorization: nonsense\r\n"):
            self.assertEqual(200, self.call("GET", "/api/routes", fields=fields)[0])


class RouteTests(ApiTestCase):
    """Routes that are added, read and deleted."""

    def test_life_of_a_route(self) -> None:
        """201, 200, 204 and 404, with empty bodies where there is nothing to say."""
        posted = {"target": "http://127.0.0.1:9000", "jupyterhub": True, "data": [1, None, {"ä": "b"}], "user": "x"}
        self.assertEqual((201, b""), self.call("POST", "/api/routes/user/x", posted)[::2])
        status, _head, body = self.call("GET", "/api/routes/user/x")
        self.assertEqual(200, status)
        route = json.loads(body)
        self.assertEqual({**posted, "last_activity": "1970-01-01T00:00:00.000Z"}, route)
        self.assertEqual({"/user/x": route}, self.routes())
        self.assertEqual((204, b""), self.call("DELETE", "/api/routes/user/x")[::2])
        self.assertEqual((404, b""), self.call("GET", "/api/routes/user/x")[::2])
        self.assertEqual((404, b""), self.call("DELETE", "/api/routes/user/x")[::2])
        self.assertEqual({}, self.routes())

    def test_replaced_entirely(self) -> None:
        """A second POST leaves nothing of the first; the time is ours, whatever was posted."""
        self.call("POST", "/api/routes/x", {"target": "http://a", "a": 1})
        self.proxy.advance(5)
        self.call("POST", "/api/routes/x", {"target": "http://b", "b": 2, "last_activity": "2000-01-01T00:00:00.000Z"})
        self.assertEqual(
            {"/x": {"target": "http://b", "b": 2, "last_activity": "1970-01-01T00:00:05.000Z"}}, self.routes()
        )

    def test_the_target_is_told_as_it_was_posted(self) -> None:
        """JupyterHub compares it literally."""
        for target in (
            "HTTP://Host:80/",
            "http://h:1/a?b#c",
            "http://[::1]:80",
            "http+unix://%2FA%2Fb/c",
            "http://u:p@h",
        ):
            self.call("POST", "/api/routes/x", {"target": target})
            self.assertEqual(target, self.routes()["/x"]["target"])

    def test_keys(self) -> None:
        """A SPEC is decoded once; one leading and no trailing slash; case and unicode stay."""
        cases = {
            "": "/", "/": "/", "/a": "/a", "/a/": "/a", "/a/b": "/a/b", "/user/foo%40bar/": "/user/foo@bar",
            "/user/jos%C3%A9%20x": "/user/josé x", "/a%2Fb": "/a/b", "/a%3Fb": "/a?b", "/a+b": "/a+b", "/A": "/A",
            "/a%252Fb": "/a%2Fb", "/constructor": "/constructor", "/__proto__": "/__proto__", "/a/../b": "/b",
            "/@/~": "/@/~", "/a//b": "/a//b",
        }  # fmt: skip
        for spec, key in cases.items():
            self.assertEqual(201, self.call("POST", "/api/routes" + spec, {"target": "http://h"})[0], spec)
            self.assertEqual([key], list(self.routes()), spec)
            self.assertEqual(200, self.call("GET", "/api/routes" + spec)[0] if spec.strip("/") else 200, spec)
            self.assertEqual(204, self.call("DELETE", "/api/routes" + spec)[0], spec)

    def test_malformed_escapes(self) -> None:
        """They are answered, with 400."""
        for spec in ("/%", "/%zz", "/a%e9", "/%ff%fe", "/%C3"):
            for method in ("GET", "POST", "DELETE"):
                self.assertEqual(
                    400, self.call(method, "/api/routes" + spec, {"target": "http://h"})[0], (method, spec)
                )

    def test_exact_keys_only(self) -> None:
        """Parents and children of a deleted route stay."""
        for key in ("/a", "/a/b", "/a/b/c"):
            self.call("POST", "/api/routes" + key, {"target": "http://h"})
        self.assertEqual(404, self.call("DELETE", "/api/routes/a/x")[0])
        self.assertEqual(204, self.call("DELETE", "/api/routes/a/b")[0])
        self.assertEqual({"/a", "/a/b/c"}, set(self.routes()))

    def test_the_collection_is_the_default_route(self) -> None:
        """POST and DELETE of the collection mean `/`."""
        self.assertEqual(201, self.call("POST", "/api/routes", {"target": "http://h"})[0])
        self.assertEqual(["/"], list(self.routes()))
        self.assertEqual(204, self.call("DELETE", "/api/routes/")[0])
        self.assertEqual(404, self.call("DELETE", "/api/routes")[0])

    def test_bad_bodies(self) -> None:
        """Anything but a JSON object with a usable target is 400 with a reason, and changes nothing."""
        raws = (b"", b"{", b"null", b"[]", b"3", b'"x"', b"{}", b'{"target": 3}', b'{"target": null}', b"\xff\xfe",
                b'{"target": "http://h", "x": NaN}', b'{"target": "http://h", "x": 1e999}', b"[" * 900)  # fmt: skip
        for raw in raws:
            status, _, reason = self.call("POST", "/api/routes/x", raw=raw)
            self.assertEqual(400, status, raw)
            self.assertTrue(reason, raw)
        self.assertEqual(400, self.call("POST", "/api/routes/x")[0])
        self.assertEqual({}, self.routes())

    def test_senseless_targets(self) -> None:
        """Where nobody can ever be reached, nothing is routed."""
        targets = ("", "x", "/x", "h:80", "//h", "http:", "http://", "http://:80", "http:///x", "ftp://h", "file:///etc/passwd",
                   "javascript:alert(1)", "data:,x", "ws://h", "gopher://h", "http://h:99999", "http://h:-1", "http://h:x",
                   "http://h:0", "http://a b", "http://h\r\nX: y", "http://h/\r\n", "http://[::1", "http://[zz]", "http+unix://",
                   "http+unix:///x", "http://h\\x", "http://a..b", "http://" + "x" * 300)  # fmt: skip
        for target in targets:
            status, _, reason = self.call("POST", "/api/routes/x", {"target": target})
            self.assertEqual(400, status, target)
            self.assertIn(b"target", reason)
        self.assertEqual({}, self.routes())

    def test_large_bodies(self) -> None:
        """More than the limit is 413; chunked bodies and UTF-8 cut anywhere are fine."""
        self.assertEqual(413, self.call("POST", "/api/routes/x", {"target": "http://h", "x": "y" * 1000})[0])
        body = json.dumps({"target": "http://h", "x": "äöü€"}, ensure_ascii=False).encode()
        client = self.proxy.client()
        client.send(b"POST /api/routes/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + TOKEN + b"\r\n")
        for index in range(len(body)):
            client.send(b"1\r\n" + body[index : index + 1] + b"\r\n")
        client.send(b"0\r\n\r\n")
        self.assertTrue(client.pop().startswith(b"HTTP/1.1 201 "))
        self.assertEqual("äöü€", self.routes()["/x"]["x"])

    def test_long_paths(self) -> None:
        """A SPEC over the limit is 414."""
        self.assertEqual(414, self.call("GET", "/api/routes/" + "x" * 101)[0])

    def test_keep_alive(self) -> None:
        """Several calls go over one connection."""
        client = self.proxy.client()
        for _ in range(3):
            client.send(b"GET /api/routes HTTP/1.1\r\nHost: a\r\n" + TOKEN + b"\r\n")
            self.assertTrue(client.pop().startswith(b"HTTP/1.1 200 "))

    def test_many_routes_take_turns(self) -> None:
        """A long list is made piece by piece, and is whole."""
        for number in range(4500):
            self.successResultOf(self.store.put(make_route(f"/r{number}")))
        client = self.proxy.client()
        client.send(b"GET /api/routes HTTP/1.1\r\nHost: a\r\n" + TOKEN + b"\r\n")
        self.assertEqual(b"", client.received)
        self.clock.advance(0)
        self.assertEqual(4500, len(json.loads(client.pop().partition(b"\r\n\r\n")[2])))

    def test_client_gone(self) -> None:
        """A client that leaves in the middle of its body is nobody's error."""
        client = self.proxy.client()
        client.send(b"POST /api/routes/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n" + TOKEN + b"\r\n{")
        client.reset()
        self.proxy.advance()
        self.assertEqual({}, self.routes())

    def test_failing_store(self) -> None:
        """A store that fails is 500, and the API goes on."""
        self.store.put = lambda route: 1 / 0  # type: ignore[assignment, method-assign, return-value]
        self.assertEqual(500, self.call("POST", "/api/routes/x", {"target": "http://h"})[0])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual({}, self.routes())

    def test_store_that_gives_up(self) -> None:
        """A store that says why it cannot is 500 as well; the reason is a line in the log, and not the client's."""
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.store.delete = lambda key: fail(StoreError("x:Y", "disk full"))  # type: ignore[method-assign]
        self.assertEqual((500, b"Internal Server Error"), self.call("DELETE", "/api/routes/x")[::2])
        errors = [event["log_format"].format(**event) for event in events if event["log_level"] is LogLevel.error]
        self.assertEqual(["store x:Y: disk full", "500 DELETE /api/routes/x Internal Server Error"], errors)

    def test_log(self) -> None:
        """Each call is a line with its status, method, path and reason, and never a query or the token."""
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.call("GET", "/api/routes?token=geheim")
        self.call("GET", "/api/routes/none")
        self.call("GET", "/api/routes", fields=b"")
        self.call("POST", "/api/routes/x", {"target": "http://h"})
        self.call("DELETE", "/api/routes/x")
        self.call("DELETE", "/api/routes/x")
        lines = [(event["log_level"].name, event["log_format"].format(**event)) for event in events]
        self.assertEqual(
            [
                ("info", "200 GET /api/routes OK"),
                ("warn", "404 GET /api/routes/none Not Found"),
                ("warn", "403 GET /api/routes Forbidden"),
                ("info", "Adding route /x -> http://h"),
                ("info", "Route added /x -> http://h"),
                ("info", "201 POST /api/routes/x Created"),
                ("info", "Removing route /x"),
                ("info", "204 DELETE /api/routes/x No Content"),
                ("warn", "404 DELETE /api/routes/x Not Found"),
            ],
            lines,
        )


class InactiveSinceTests(ApiTestCase):
    """`?inactive_since=`."""

    def setUp(self) -> None:
        super().setUp()
        self.call("POST", "/api/routes/old", {"target": "http://h"})
        self.proxy.advance(10)
        self.call("POST", "/api/routes/new", {"target": "http://h"})

    def test_filter(self) -> None:
        """Only routes whose last activity is earlier; both names; empty and other parameters do not filter."""
        for name in ("inactive_since", "inactiveSince"):
            self.assertEqual(["/old"], list(self.routes(f"?{name}=1970-01-01T00:00:05.000Z")))
            self.assertEqual(["/old"], list(self.routes(f"?{name}=1970-01-01T01:00:05%2B01:00")))
            self.assertEqual(["/old"], list(self.routes(f"?{name}=1970-01-01T01:00:05+01:00")))
            self.assertEqual({"/old", "/new"}, set(self.routes(f"?{name}=1970-01-02")))
            self.assertEqual([], list(self.routes(f"?{name}=1970-01-01")))
            self.assertEqual({"/old", "/new"}, set(self.routes(f"?{name}=")))
        self.assertEqual({"/old", "/new"}, set(self.routes("?x=1970-01-01")))

    def test_unparsable(self) -> None:
        """400 with the value; a single route ignores the parameter."""
        for value in ("yesterday", "1970-13-01", "12:00"):
            status, _, reason = self.call("GET", f"/api/routes?inactive_since={value}")
            self.assertEqual(400, status)
            self.assertIn(value.encode(), reason)
        self.assertEqual(200, self.call("GET", "/api/routes/old?inactive_since=x")[0])


class HostRoutingTests(ApiTestCase):
    """`host_routing: true`."""

    host_routing = True

    def test_the_first_segment_is_the_host(self) -> None:
        """Routes gain `host`, `/` does not; the case of a host does not matter."""
        for spec in ("/", "/Host.Test/", "/host.test/a/b", "/%5B%3A%3A1%5D/x"):
            self.assertEqual(201, self.call("POST", "/api/routes" + spec, {"target": "http://h"})[0])
        routes = self.routes()
        self.assertEqual({"/", "/host.test", "/host.test/a/b", "/[::1]/x"}, set(routes))
        self.assertEqual(
            {"/": None, "/host.test": "host.test", "/host.test/a/b": "host.test", "/[::1]/x": "[::1]"},
            {key: route.get("host") for key, route in routes.items()},
        )
        entry = self.table.look_up("host.test", ("a", "b", "c"))
        assert entry is not None
        self.assertEqual("/host.test/a/b", entry.route.key)
        self.assertEqual(200, self.call("GET", "/api/routes/HOST.test/a/b")[0])
        self.assertEqual(204, self.call("DELETE", "/api/routes/host.TEST")[0])


class TypedTests(ApiTestCase):
    """`api.route_options: typed`."""

    typed = True

    def test_options_take_effect(self) -> None:
        """The members of a YAML route are read; `upstream` is another name of `target`; `host` is one."""
        posted = {"upstream": "http://h", "host": "H.test", "strip_prefix": True, "user": "me"}
        self.assertEqual(201, self.call("POST", "/api/routes/x", {**posted, "timeouts": {"connect": "1s"}})[0])
        entry = self.table.look_up("h.test", ("x",))
        assert entry is not None
        self.assertTrue(entry.route.options.strip_prefix)
        self.assertEqual(1, entry.route.options.timeouts.connect)  # type: ignore[union-attr]
        self.assertIsNone(self.table.look_up("other.test", ("x",)))
        route = self.routes()["/x"]
        self.assertEqual(("http://h", "me", True), (route["target"], route["user"], route["strip_prefix"]))

    def test_ill_typed_options(self) -> None:
        """They are 400 with the path and what would be right."""
        cases = (
            ({"strip_prefix": "yes"}, b"strip_prefix: expected true or false"),
            ({"websocket": "of"}, b"websocket: expected one of tunnel, off"),
            ({"request_headers": {"set": {"a b": "c"}}}, b"request_headers.set.a b: 'a b' is not a field name"),
            ({"timeouts": {"connect": 5}}, b"timeouts.connect: expected a duration"),
            ({"timeouts": 5}, b"timeouts: expected a section"),
            ({"request_headers": {"remove": "x", "ad": 1}}, b"request_headers.ad: unknown option"),
        )
        for options, reason in cases:
            status, _, said = self.call("POST", "/api/routes/x", {"target": "http://h", **options})
            self.assertEqual(400, status)
            self.assertIn(reason, said)
        self.assertEqual({}, self.routes())

    def test_secrets_are_not_shown(self) -> None:
        """They are read and kept, but not told; and what is told, posted again, is refused, not believed."""
        auth = {"kind": "token", "token": "correct-horse", "tokens": ["battery-staple"]}
        self.assertEqual(201, self.call("POST", "/api/routes/x", {"target": "http://h", "auth": auth})[0])
        entry = self.table.get("/x")
        assert entry is not None
        self.assertEqual(("correct-horse", "battery-staple"), entry.route.options.auth.all_tokens)  # type: ignore
        for path in ("/api/routes", "/api/routes/x"):
            self.assertNotRegex(self.call("GET", path)[2], b"correct|battery")
        shown = self.routes()["/x"]
        self.assertEqual({"kind": "token"}, shown["auth"])
        self.assertEqual((400, b"auth.token: a token is needed"), self.call("POST", "/api/routes/x", shown)[::2])
        self.assertNotRegex(self.call("POST", "/api/routes/y", {"target": "h", "auth": auth})[2], b"correct|battery")

    def test_reserved_paths(self) -> None:
        """No route can put itself in the place of a login."""
        status, _, said = self.call("POST", "/api/routes/.proxyd/login", {"target": "http://h"})
        self.assertEqual((400, b".proxyd in a path is reserved for logins"), (status, said))

    def test_the_environment_is_out_of_reach(self) -> None:
        """Nothing that the file may ask of the machine works here."""
        options = {"request_headers": {"set": {"X": "${HOME}", "Y": "file:/etc/passwd"}}}
        self.call("POST", "/api/routes/x", {"target": "http://h", **options})
        entry = self.table.get("/x")
        assert entry is not None
        self.assertEqual({"X": "${HOME}", "Y": "file:/etc/passwd"}, entry.route.options.request_headers.set)  # type: ignore[union-attr]


class VerbatimTests(ApiTestCase):
    """`api.route_options: verbatim`."""

    def test_options_do_nothing(self) -> None:
        """What looks like an option is kept and has no effect."""
        self.call(
            "POST", "/api/routes/x", {"target": "http://h", "strip_prefix": True, "host": "h.test", "websocket": 3}
        )
        entry = self.table.look_up("other.test", ("x",))
        assert entry is not None
        self.assertIsNone(entry.route.options.strip_prefix)
        route = self.routes()["/x"]
        self.assertEqual((True, "h.test", 3), (route["strip_prefix"], route["host"], route["websocket"]))
        self.assertEqual(400, self.call("POST", "/api/routes/x", {"upstream": "http://h"})[0])
