"""Tests of `proxyd.http.tree`: which resource answers."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.web.resource import Resource
from twisted.web.static import Data

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.http.tree import Rank, RouteTree
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

    def test_an_absolute_form_names_the_host(self) -> None:
        """It finds the route, and goes on, in place of what Host says (RFC 9112 §3.2.2)."""
        self.assertEqual("host.test", self.answering("http://host.test/x"))
        self.assertEqual("a.test", self.answering("http://other.test/a", "host.test"))
        client = self.proxy.client()
        client.send(b"GET http://b.test:81/a HTTP/1.1\r\nHost: c.test\r\n\r\n")
        head = self.proxy.accept().pop()
        self.assertIn(b"\r\nHost: b.test:81\r\n", head)
        self.assertNotIn(b"c.test", head)

    def test_nothing_is_read_behind_a_bad_target(self) -> None:
        """400, and the end of the connection: what follows may be a part of it."""
        for target in (b"a", b"/a#b", b"/%zz", b"/%ff", b"http://x@host.test/", b"*"):
            client = self.proxy.client()
            client.send(b"GET %b HTTP/1.1\r\nHost: host.test\r\n\r\n" % target + b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertRegex(client.received, rb"^HTTP/1\.1 400 (?s:.*)\r\nConnection: close\r\n", target)
            self.assertEqual(1, client.received.count(b"HTTP/1.1 "))
        self.assertEqual([], self.proxy.dialer.dials)

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


class AnswersTests(DataPathTestCase):
    """Who answers, of everything there can be."""

    def setUp(self) -> None:
        config = parse("patterns: [{pattern: '/(?:x|api|n)(?:/.*)?', upstream: 'http://pattern.test'}]", KINDS)
        self.proxy = Harness(routes={}, config=config)
        self.mount("n")
        self.mount("a/b")
        self.mount("proxy", Rank.BUILT_IN)
        self.mount("", Rank.PAGE)

    def mount(self, key: str, rank: Rank = Rank.OWN) -> None:
        """Mount a resource that tells where it is, and of which rank."""
        leaf = Data(f"{rank.name} {key}".encode(), "text/plain")
        leaf.isLeaf = True
        self.proxy.tree.mount(_segments(key), leaf, rank)

    def answering(self, target: str, host: str = "other.test") -> str:
        """What a mounted resource says, the host that is called, or the status of an error."""
        before = len(self.proxy.dialer.dials)
        client = self.proxy.client()
        client.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        if len(self.proxy.dialer.dials) > before:
            return self.proxy.dialer.dials[-1].upstream.host
        head, _, body = client.received.partition(b"\r\n\r\n")
        return body.decode() if head.startswith(b"HTTP/1.1 200 ") else head.split(b" ")[1].decode()

    def assert_answers(self, cases: dict[str, str], host: str = "other.test") -> None:
        """Each path is answered by whom it should."""
        for target, answer in cases.items():
            self.assertEqual(answer, self.answering(target, host), target)

    def test_without_routes(self) -> None:
        """The longest mount, then patterns, then the page at exactly its path, then nobody."""
        self.assert_answers({
            "/n": "OWN n", "/n/x": "OWN n", "/nn": "404", "/a/b/c": "OWN a/b", "/a": "404", "/y": "404",
            "/x": "pattern.test", "/x/y": "pattern.test", "/api": "pattern.test", "/": "PAGE ", "/?q": "PAGE ",
            "/proxy/1": "BUILT_IN proxy",
        })  # fmt: skip

    def test_with_routes(self) -> None:
        """A longer prefix wins, of two equal ones the route; the route `/` comes last, behind patterns and the page."""
        for key in ("/", "/a", "/a/b/c", "/n", "/x/z", "/proxy/8080"):
            self.proxy.add_route(key, f"http://{'root' if key == '/' else key[1:].replace('/', '-')}.test")
        self.assert_answers({
            "/a": "a.test", "/a/x": "a.test", "/a/b": "OWN a/b", "/a/b/x": "OWN a/b", "/a/b/c/d": "a-b-c.test",
            "/n": "n.test", "/x": "pattern.test", "/x/z/1": "x-z.test", "/proxy/80": "BUILT_IN proxy",
            "/proxy/8080/x": "proxy-8080.test", "/": "PAGE ", "/y": "root.test",
        })  # fmt: skip

    def test_a_server_shadows_what_is_built_in(self) -> None:
        """At the same prefix, and below it; it comes back when the server goes."""
        self.mount("proxy")
        self.mount("proxy/own")
        self.assert_answers({"/proxy/1": "OWN proxy", "/proxy/own/1": "OWN proxy/own"})
        self.proxy.tree.unmount(("proxy",))
        self.proxy.tree.unmount(("proxy",))
        self.assert_answers({"/proxy/1": "BUILT_IN proxy", "/proxy/own/1": "OWN proxy/own"})
        self.mount("proxy/own", Rank.BUILT_IN)
        self.assert_answers({"/proxy/own/1": "OWN proxy/own"})

    def test_routes_of_the_host_come_first(self) -> None:
        """A route for the request's host has all of that host; one for any host does not."""
        self.proxy.add_route("h.test/", "http://host.test")
        self.proxy.add_route("*.w.test/a", "http://wild.test")
        self.assert_answers(dict.fromkeys(("/", "/n", "/x", "/proxy/1", "/y"), "host.test"), "h.test")
        self.assert_answers({"/a": "wild.test", "/a/b": "wild.test", "/n": "OWN n", "/": "PAGE "}, "b.w.test")

    def test_something_at_the_root(self) -> None:
        """What is mounted at `/` answers where nothing else does; a route `/` is before it."""
        self.mount("")
        self.assert_answers({"/": "PAGE ", "/y": "OWN ", "/x": "pattern.test", "/n": "OWN n"})
        self.proxy.add_route("/", "http://root.test")
        self.assert_answers({"/y": "root.test"})

    def test_nothing_is_left(self) -> None:
        """What is taken away is gone, and routes are all there is."""
        tree = self.proxy.tree
        for place, rank in (("n", Rank.OWN), ("a/b", Rank.OWN), ("proxy", Rank.BUILT_IN), ("", Rank.PAGE)):
            tree.unmount(_segments(place), rank)
        self.assert_answers({"/n": "pattern.test"})
        tree.set_patterns(None)
        self.assert_answers(dict.fromkeys(("/n", "/a/b", "/proxy/1", "/", "/x"), "404"))
        self.assertFalse(tree._has_more)

    def test_an_explanation_serves_nobody(self) -> None:
        """It tells the log why there is nothing, as long as it is there."""
        for why, told in ((lambda: "it is off", True), (lambda: "", False), (None, False), (None, False)):
            self.proxy.tree.explain(("y",), why)
            with capturedLogs() as events:
                self.assert_answers({"/y/z": "404"})
            self.assertEqual(told, "no route; it is off" in str(formatEvent(events[-1])))
        self.proxy.add_route("/", "http://root.test")
        self.assert_answers({"/y/z": "root.test"})


def _segments(key: str) -> tuple[str, ...]:
    return tuple(key.split("/")) if key else ()
