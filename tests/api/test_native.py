"""Tests of `proxyd.api.native`, and of how `proxyd.api.resource` speaks natively."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail

from proxyd.core.changes import Change
from proxyd.errors import StoreError
from proxyd.testing.contracts import make_route
from tests.api.support import TOKEN, NativeApiTestCase

A = {"target": "http://a"}
B = {"target": "http://b"}


class ErrorTests(NativeApiTestCase):
    """What goes wrong."""

    def test_errors_are_json(self) -> None:
        """All of them, with the status and a message."""
        cases = (
            ("GET", "/nothing", None, 404, "Not Found"),
            ("GET", "/api/routes/x", None, 404, "there is no route of exactly this key"),
            ("DELETE", "/api/routes/x", None, 404, "there is no route of exactly this key"),
            ("PATCH", "/api/routes/x", {}, 404, "there is no route of exactly this key"),
            ("FROB", "/api/routes/x", None, 405, "Method not supported"),
            ("POST", "/api/routes/x", b"{", 400, "the body is not JSON: "),
            ("POST", "/api/routes/x", {"target": "x"}, 400, "target: the scheme "),
            ("POST", "/api/routes/x", {**A, "timeouts": {"connect": 5}}, 400, "timeouts.connect: expected a duration"),
            ("POST", "/api/routes/x", {**A, "host": 5}, 400, "host: expected text"),
            ("POST", "/api/routes/x", b" " * 1001, 413, "the body is longer"),
            ("GET", "/api/routes/" + "x" * 101, None, 414, "the path of the route is longer"),
            ("GET", "/api/routes?inactive_since=x", None, 400, "inactive_since is not"),
        )
        for method, path, body, status, message in cases:
            answer = self.call(method, path, body)
            self.assertEqual(
                (status, "application/json", status), (answer[0], answer[1]["Content-Type"], answer[2]["status"])
            )
            self.assertTrue(answer[2]["message"].startswith(message), answer[2])

    def test_a_store_that_fails(self) -> None:
        """Says why, if that is for everybody who has the token; the rest is in the log."""
        for error, message in (
            (StoreError("/x", "failed: full", "full"), "the route store: full"),
            (StoreError("m:C", "RuntimeError: redis://:geheim@h"), "the route store failed; the log says why"),
        ):
            self.store.delete = lambda _, error=error: fail(error)
            self.assertEqual((500, {"status": 500, "message": message}), self.call("DELETE", "/api/routes/x")[::2])

    def test_the_token_comes_first(self) -> None:
        """Without it every method is 403, and the body is not read."""
        for method, path in (("GET", ""), ("HEAD", ""), ("PUT", ""), ("PATCH", "/x"), ("POST", "/x"), ("DELETE", "/x")):
            status, fields, body = self.call(method, "/api/routes" + path, token=b"Authorization: token secre\r\n")
            self.assertEqual((403, method == "HEAD"), (status, body is None))
            self.assertNotIn("WWW-Authenticate", fields)
        for line in (b"PUT /api/routes", b"PATCH /api/routes/x"):
            client = self.proxy.client()
            client.send(line + b" HTTP/1.1\r\nHost: api\r\nContent-Length: 100000000\r\n\r\n")
            self.assertTrue(client.pop().startswith(b"HTTP/1.1 403 "))
            self.assertTrue(client.write_closed)

    def test_other_tokens_may_take_the_place(self) -> None:
        """Of those that were accepted; several are good at once."""
        self.root.accept(("new", "old"))
        for token, status in ((b"new", 200), (b"old", 200), (b"secret", 403), (b"", 403)):
            self.assertEqual(
                status, self.call("GET", "/api/routes", token=b"Authorization: token " + token + b"\r\n")[0]
            )

    def test_options(self) -> None:
        """Tells the methods of a path, to everybody, as 405 does."""
        for path, allowed in (
            ("/api/routes", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
            ("/api/routes/x", "DELETE, GET, HEAD, OPTIONS, PATCH, POST"),
            ("/api/events", "GET, OPTIONS"),
        ):
            status, fields, body = self.call("OPTIONS", path, token=b"")
            self.assertEqual((204, allowed, None), (status, fields["Allow"], body))
            self.assertEqual(allowed, self.call("FROB", path)[1]["Allow"])
        self.assertEqual(404, self.call("OPTIONS", "/nothing")[0])

    def test_head(self) -> None:
        """Is a GET without the body."""
        self.call("POST", "/api/routes/x", A)
        for path in ("/api/routes", "/api/routes/x"):
            _, fields, _ = self.call("GET", path)
            self.assertEqual((200, fields, None), self.call("HEAD", path))
        self.assertEqual((404, None), self.call("HEAD", "/api/routes/y")[::2])


class ConditionTests(NativeApiTestCase):
    """Entity tags."""

    def test_what_is_known_is_not_sent(self) -> None:
        """304 while nothing has changed, of a route and of the list; activity does not count."""
        self.call("POST", "/api/routes/x", A)
        for path in ("/api/routes", "/api/routes?prefix=/x", "/api/routes/x"):
            tag = self.tag(path)
            status, fields, body = self.call("GET", path, None, f"If-None-Match: {tag}")
            self.assertEqual((304, tag, None), (status, fields["ETag"], body))
            self.assertNotIn("Content-Length", fields)
            entry = self.table.get("/x")
            assert entry is not None
            entry.last_activity += 1
            self.assertEqual(304, self.call("GET", path, None, f"If-None-Match: W/{tag}")[0])
            self.call("POST", "/api/routes/x", {**A, path: 1})
            self.assertEqual(200, self.call("GET", path, None, f"If-None-Match: {tag}")[0])
            self.assertNotEqual(tag, self.tag(path))

    def test_a_list_of_the_inactive_has_no_tag(self) -> None:
        """Because it changes by itself."""
        _, fields, _ = self.call("GET", "/api/routes?inactive_since=2020-01-01", None, "If-None-Match: *")
        self.assertNotIn("ETag", fields)

    def test_the_tag_of_a_route_is_that_of_its_content(self) -> None:
        """The answers of writes have it; another route with the same content has another one."""
        posted = self.call("POST", "/api/routes/x", A)[1]["ETag"]
        self.assertEqual(posted, self.tag("/api/routes/x"))
        self.call("POST", "/api/routes/x", B)
        self.assertNotEqual(posted, self.tag("/api/routes/x"))
        self.assertEqual(posted, self.call("PATCH", "/api/routes/x", A)[1]["ETag"])
        self.assertNotEqual(posted, self.call("POST", "/api/routes/y", A)[1]["ETag"])

    def test_another_process_has_other_tags(self) -> None:
        """Or a restart would bring 304 for other routes."""
        tag = self.tag("/api/routes")
        self.setUp()
        self.assertNotEqual(tag, self.tag("/api/routes"))

    def test_writes_that_do_not_fit_are_refused(self) -> None:
        """412, and nothing has changed; with what is there, or not there, they are done."""
        self.call("POST", "/api/routes/x", A)
        tag = self.tag("/api/routes/x")
        for method, body in (("POST", B), ("PATCH", B), ("DELETE", None)):
            for field in ('If-Match: "other"', f"If-Match: W/{tag}", "If-None-Match: *", f"If-None-Match: {tag}"):
                self.assertEqual(412, self.call(method, "/api/routes/x", body, field)[0], (method, field))
        self.assertEqual(412, self.call("POST", "/api/routes/y", A, "If-Match: *")[0])
        self.assertEqual(412, self.call("PUT", "/api/routes", {}, 'If-Match: "other"')[0])
        self.assertEqual(412, self.call("PUT", "/api/routes", {}, "If-None-Match: *")[0])
        self.assertEqual(({"/x"}, tag), (self.keys(), self.tag("/api/routes/x")))
        self.assertEqual(201, self.call("POST", "/api/routes/y", A, "If-None-Match: *")[0])
        self.assertEqual(200, self.call("PATCH", "/api/routes/x", {"n": 1}, f"If-Match: {tag}")[0])
        self.assertEqual(204, self.call("DELETE", "/api/routes/x", None, "If-Match: *")[0])
        self.assertEqual(200, self.call("PUT", "/api/routes", {}, f"If-Match: {self.tag('/api/routes')}")[0])
        self.assertEqual(400, self.call("POST", "/api/routes/x", A, "If-Match: x")[0])

    def test_nothing_comes_between(self) -> None:
        """Of two clients that have read the same, one writes; the other one is told, however slow the store is."""
        self.call("POST", "/api/routes/x", A)
        tag = self.tag("/api/routes/x").encode()
        waiting: list[Deferred[None]] = []
        put = self.store.put

        def slow_put(route: Any) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: put(route))

        self.store.put = slow_put
        clients = []
        for number, field in enumerate((b"If-Match: " + tag, b"If-Match: " + tag, b"X: y")):
            client = self.proxy.client()
            body = b'{"target": "http://h%d"}' % number
            client.send(
                b"POST /api/routes/x HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n%b\r\n\r\n%b"
                % (TOKEN, len(body), field, body)
            )
            clients.append(client)
        self.assertEqual(1, len(waiting))
        waiting[0].callback(None)
        self.assertTrue(clients[0].pop().startswith(b"HTTP/1.1 201 "))
        self.assertTrue(clients[1].pop().startswith(b"HTTP/1.1 412 "))
        waiting[1].callback(None)
        self.assertTrue(clients[2].pop().startswith(b"HTTP/1.1 201 "))
        self.assertEqual("http://h2", self.call("GET", "/api/routes/x")[2]["target"])


class PrefixTests(NativeApiTestCase):
    """`?prefix=`."""

    def test_whole_segments(self) -> None:
        """The route of this key, and those below it; a slash at the end does not count."""
        for key in ("", "/a", "/a/b", "/a/b/c", "/ab", "/b"):
            self.call("POST", "/api/routes" + key, A)
        for query, expected in (
            ("?prefix=/a", {"/a", "/a/b", "/a/b/c"}),
            ("?prefix=/a/", {"/a", "/a/b", "/a/b/c"}),
            ("?prefix=%2Fa%2Fb", {"/a/b", "/a/b/c"}),
            ("?prefix=/x", set()),
            ("?prefix=/", {"/", "/a", "/a/b", "/a/b/c", "/ab", "/b"}),
            ("?prefix=", {"/", "/a", "/a/b", "/a/b/c", "/ab", "/b"}),
            ("?prefix=a", set()),
        ):
            self.assertEqual(expected, self.keys(query), query)

    def test_with_the_inactive(self) -> None:
        """Both have to be so."""
        self.call("POST", "/api/routes/a", A)
        self.call("POST", "/api/routes/b", A)
        self.proxy.advance(10)
        self.call("POST", "/api/routes/a/new", A)
        self.assertEqual({"/a"}, self.keys("?prefix=/a&inactive_since=1970-01-01T00:00:05Z"))


class PatchTests(NativeApiTestCase):
    """PATCH."""

    def test_members_change(self) -> None:
        """What is given replaces, merges, or with null removes; options take effect."""
        self.call("POST", "/api/routes/x", {**A, "n": 1, "timeouts": {"connect": "1s"}})
        status, _, body = self.call("PATCH", "/api/routes/x", {"n": None, "m": [1], "timeouts": {"idle": "2s"}})
        self.assertEqual(200, status)
        self.assertEqual(self.call("GET", "/api/routes/x")[2], body)
        self.assertEqual(
            {**A, "m": [1], "timeouts": {"connect": "1s", "idle": "2s"}, "last_activity": body["last_activity"]}, body
        )
        entry = self.table.get("/x")
        assert entry is not None
        assert entry.route.options.timeouts is not None
        self.assertEqual((1, 2), (entry.route.options.timeouts.connect, entry.route.options.timeouts.idle))

    def test_activity_stays(self) -> None:
        """To change an option is none, and neither is to change nothing."""
        self.call("POST", "/api/routes/x", A)
        self.proxy.advance(5)
        for patch in ({"target": "http://c"}, {}):
            _, _, body = self.call("PATCH", "/api/routes/x", patch)
            self.assertEqual("1970-01-01T00:00:00.000Z", body["last_activity"])

    def test_upstream_is_a_word_for_the_target(self) -> None:
        """As with POST, and whichever word was posted."""
        for posted in ({"upstream": "http://a"}, A):
            self.call("POST", "/api/routes/x", posted)
            status, _, body = self.call("PATCH", "/api/routes/x", {"upstream": "http://b"})
            self.assertEqual((200, {**B, "last_activity": body["last_activity"]}), (status, body))
        self.assertEqual(400, self.call("PATCH", "/api/routes/x", {"upstream": None})[0])

    def test_nothing_changes_when_nothing_is_to(self) -> None:
        """The entry, and what serves it, stays."""
        self.call("POST", "/api/routes/x", A)
        entry, version = self.table.get("/x"), self.table.version
        self.assertEqual(200, self.call("PATCH", "/api/routes/x", {"gone": None})[0])
        self.assertIs(entry, self.table.get("/x"))
        self.assertEqual(version, self.table.version)

    def test_what_would_be_no_route_is_refused(self) -> None:
        """With the reason, and nothing changes."""
        self.call("POST", "/api/routes/x", A)
        for patch in ({"target": None}, {"target": 3}, {"websocket": "maybe"}, {"timeouts": {"idle": 5}}, b"[]", b""):
            self.assertEqual(400, self.call("PATCH", "/api/routes/x", patch)[0], patch)
        self.assertEqual("http://a", self.call("GET", "/api/routes/x")[2]["target"])

    def test_the_collection_is_the_default_route(self) -> None:
        """As with POST."""
        self.call("POST", "/api/routes", A)
        self.assertEqual(200, self.call("PATCH", "/api/routes", B)[0])
        self.assertEqual("http://b", self.call("GET", "/api/routes")[2]["/"]["target"])

    def test_static_routes_stay(self) -> None:
        """Those of the configuration are neither patched nor deleted, and the answer says so."""
        self.table.set_static([make_route("/s")], 0)
        for method in ("PATCH", "DELETE"):
            status, _, body = self.call(method, "/api/routes/s", {})
            self.assertEqual((404, "a route of the configuration stays as it is"), (status, body["message"]))

    def test_a_route_of_a_store(self) -> None:
        """One that has nothing but its target is one as well."""
        self.successResultOf(self.store.put(make_route("/x")))
        self.assertEqual("http://up.test", self.call("PATCH", "/api/routes/x", {"n": 1})[2]["target"])

    def test_somebody_else_was_faster(self) -> None:
        """Who changes the store itself at the same moment; 409."""
        self.call("POST", "/api/routes/x", A)
        put = self.store.put

        def put_and_lose(route: Any) -> Deferred[Change]:
            done: Deferred[Change] = put(route)
            put(make_route("/x", "http://other"))
            return done

        self.store.put = put_and_lose
        self.assertEqual(409, self.call("PATCH", "/api/routes/x", B)[0])
