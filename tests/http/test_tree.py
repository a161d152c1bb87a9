"""Tests of `proxyd.http.tree`: which resource answers."""

from __future__ import annotations

from twisted.web.resource import Resource
from twisted.web.static import Data

from proxyd.http.tree import RouteTree
from proxyd.model.routes import RouteOptions
from proxyd.testing.harness import Harness

from .support import OK, DataPathTestCase


class RoutingTests(DataPathTestCase):
    """Routes, by prefix and host (contract of configurable-http-proxy, section 3)."""

    def setUp(self) -> None:
        self.proxy = Harness(
            routes={
                "/a": "http://a.test",
                "/a/b": "http://ab.test",
                "/café/@x": "http://cafe.test",
                "host.test/": "http://host.test",
                "*.wild.test/w": "http://wild.test",
            }
        )

    def answering(self, target: str, host: str = "other.test", method: str = "GET") -> str:
        """The host of the upstream that is called for a request, "" if none is."""
        before = len(self.proxy.dialer.dials)
        client = self.proxy.client()
        client.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        if len(self.proxy.dialer.dials) == before:
            self.assertRegex(client.received, rb"^HTTP/1\.1 404 ")
            return ""
        return self.proxy.dialer.dials[-1].upstream.host

    def test_longest_prefix_by_segments(self) -> None:
        """The longest chain of equal whole segments of the decoded path wins."""
        cases = {
            "/a": "a.test", "/a/": "a.test", "/a?x": "a.test", "/a/c": "a.test", "/a/bc": "a.test",
            "/a/b": "ab.test", "/a/b/": "ab.test", "/a/b/c/d": "ab.test", "/a%2Fb": "ab.test", "/%61/b": "ab.test",
            "/a/x/../b": "ab.test", "/a/%2e%2E/a/b": "ab.test", "//a/b": "ab.test", "http://evil.test/a/b": "ab.test",
            "/a//b": "a.test", "/ab": "", "/A": "", "/a;x": "", "/": "", "/a/..": "", "/caf%C3%A9/@x": "cafe.test",
            "/caf%C3%A9/%40x/y": "cafe.test", "/café/@x": "cafe.test", "/constructor": "", "/__proto__": "",
        }  # fmt: skip
        for target, upstream in cases.items():
            self.assertEqual(upstream, self.answering(target), target)

    def test_hosts(self) -> None:
        """An exact host wins over a wildcard; a host without a matching path falls through to any host."""
        cases = {
            ("/", "host.test"): "host.test", ("/a", "host.test"): "host.test", ("/x", "HOST.test:8000"): "host.test",
            ("/x", "host.test."): "host.test", ("/x", "sub.host.test"): "", ("/w/x", "one.wild.test"): "wild.test",
            ("/w", "two.one.wild.test"): "", ("/a", "one.wild.test"): "a.test", ("/w", "wild.test"): "",
        }  # fmt: skip
        for (target, host), upstream in cases.items():
            self.assertEqual(upstream, self.answering(target, host), (target, host))

    def test_changes_take_effect_at_once(self) -> None:
        """A route that is added, replaced or deleted is so for the next request, not for one that runs."""
        client, upstream = self.begin(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        self.proxy.add_route("/a", "http://new.test")
        upstream.send(OK)
        self.assert_status(200, client)
        self.assertEqual("new.test", self.answering("/a"))
        self.proxy.delete_route("/a/b")
        self.assertEqual("new.test", self.answering("/a/b"))
        self.proxy.delete_route("/a")
        self.assertEqual("", self.answering("/a/b"))

    def test_what_the_upstream_sees(self) -> None:
        """The path goes on dot-resolved but raw, with its query, the prefix stripped by whole segments if asked."""
        cases = {
            "/a/x%2Fy%20z?q=%zz&+": ("/a/x%2Fy%20z?q=%zz&+", "/x%2Fy%20z?q=%zz&+"),
            "/a/./x/../y/": ("/a/y/", "/y/"),
            "//a//x": ("//a//x", "//x"),
            "/%61%2Fx": ("/%61%2Fx", "/x"),
            "/a": ("/a", "/"),
            "/a?q": ("/a?q", "/?q"),
            "http://h/a/x": ("/a/x", "/x"),
            "/a/..%2fx": ("/a/..%2fx", "/..%2fx"),
        }
        for strip in (False, True):
            self.proxy.add_route("/a", "http://a.test", RouteOptions(strip_prefix=strip))
            for target, seen in cases.items():
                _, upstream = self.begin(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                self.assertEqual(seen[strip].encode(), upstream.pop().split(b" ")[1], target)

    def test_resources_are_built_at_the_first_hit(self) -> None:
        """A route costs no resource until somebody comes."""
        entry = self.proxy.table.get("/a")
        assert entry is not None
        self.assertIsNone(entry.resource)
        self.answering("/a")
        first = entry.resource
        self.assertIsNotNone(first)
        self.answering("/a/x")
        self.assertIs(first, entry.resource)


class OwnAnswerTests(DataPathTestCase):
    """What the proxy answers itself."""

    def test_health(self) -> None:
        """The exact target answers, whatever the method and the routes; anything near it is an ordinary request."""
        for method in ("GET", "HEAD", "POST", "DELETE"):
            client = self.proxy.client()
            client.send(f"{method} /healthz HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            answer = self.assert_status(200, client)
            self.assertIn(b"Content-Type: application/json\r\n", answer)
            self.assertEqual(method != "HEAD", answer.endswith(b'\r\n\r\n{"status":"OK"}'))
        self.assertEqual([], self.proxy.dialer.dials)
        for target in ("/healthz?", "/healthz/", "/x/healthz", "/HEALTHZ"):
            self.begin(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    def test_readiness(self) -> None:
        """Ready until a drain begins."""
        client = self.proxy.client()
        client.send(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assert_status(200, client)
        late = self.proxy.client()
        late.send(b"GET /readyz ")
        self.proxy.site.is_draining = True
        late.send(b"HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertIn(b"draining", self.assert_status(503, late))

    def test_options_of_the_server(self) -> None:
        """`OPTIONS *` asks the proxy, not a route; `*` makes no sense otherwise."""
        client = self.proxy.client()
        client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assert_status(204, client)
        client.send(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assert_status(400, client)
        self.assertEqual([], self.proxy.dialer.dials)

    def test_foreign_requests_are_refused(self) -> None:
        """The tree and its proxying resources cannot serve requests of another server."""
        self.assertRaises(TypeError, self.proxy.tree.render, object())
        self.begin()
        entry = self.proxy.table.get("/")
        assert entry is not None
        self.assertRaises(TypeError, entry.resource.render, object())
        self.assertIs(entry.resource, entry.resource.getChild(b"x", object()))


class MountTests(DataPathTestCase):
    """Resources beside the routes."""

    def setUp(self) -> None:
        self.proxy = Harness(routes={"/a/b": "http://ab.test"})
        page = Resource()
        page.putChild(b"", Data(b"index", "text/plain"))
        page.putChild(b"b", Data(b"shadowed", "text/plain"))
        page.putChild(b"c d", Data(b"child", "text/plain"))
        self.proxy.tree.mount(("a",), page)
        self.proxy.tree.mount(("t",), RouteTree(self.proxy.table, lambda entry: page))

    def test_longest_prefix_wins(self) -> None:
        """A stock resource is walked below its mount; a longer route wins, and so does one of equal length."""
        for target, body in ((b"/a/", b"index"), (b"/a/c%20d", b"child")):
            client = self.proxy.client()
            client.send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertTrue(self.assert_status(200, client).endswith(b"\r\n\r\n" + body))
        _, upstream = self.begin(b"GET /a/b/x HTTP/1.1\r\nHost: a\r\n\r\n")
        self.proxy.add_route("/a", "http://a.test")
        _, upstream = self.begin(b"GET /a/ HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertIn(b"Host: a", upstream.pop())

    def test_streaming_resources_are_asked_at_once(self) -> None:
        """A resource that knows of streaming is not made to wait for the body."""
        client = self.proxy.client()
        client.send(b"GET /t/nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assert_status(404, client)
