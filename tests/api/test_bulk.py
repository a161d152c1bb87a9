"""Tests of `proxyd.api.bulk`, and of PUT in `proxyd.api.native`."""

from __future__ import annotations

import gc
import json
from typing import Any

from twisted.internet.defer import fail

from proxyd.core.posted import RouteReader
from proxyd.errors import StoreError
from proxyd.testing.contracts import make_route
from tests.api.support import NativeApiTestCase

A = {"target": "http://a"}
B = {"target": "http://b"}


class BulkTests(NativeApiTestCase):
    """All routes at once."""

    def put(self, body: Any, *fields: str) -> tuple[int, dict[str, str], Any]:
        """Replace them."""
        return self.call("PUT", "/api/routes", body, *fields)

    def test_exactly_these(self) -> None:
        """What is not there goes, what is new comes, what is the same stays as it is, and the answer counts."""
        for key in ("/kept", "/gone", "/other"):
            self.call("POST", "/api/routes" + key, A)
        kept = self.table.get("/kept")
        self.proxy.advance(5)
        status, fields, body = self.put({"/kept": A, "/other": B, "/new": {**A, "strip_prefix": True}})
        self.assertEqual((200, {"routes": 3, "added": 1, "changed": 1, "deleted": 1}), (status, body))
        self.assertEqual(self.tag("/api/routes"), fields["ETag"])
        self.assertEqual({"/kept", "/other", "/new"}, self.keys())
        self.assertIs(kept, self.table.get("/kept"))
        other, new = self.table.get("/other"), self.table.get("/new")
        assert other is not None
        assert new is not None
        self.assertEqual((self.proxy.clock.seconds(), True), (other.last_activity, new.route.options.strip_prefix))
        self.assertEqual({"routes": 0, "added": 0, "changed": 0, "deleted": 3}, self.put({})[2])
        self.assertEqual(set(), self.keys())

    def test_every_problem_is_told(self) -> None:
        """With its key; and nothing changes."""
        self.call("POST", "/api/routes/x", A)
        body = json.dumps({
            "/a": B, "b": A, "/c/": A, "": A, "/d": 3, "/e": {}, "/f": {**A, "timeouts": {"idle": 5}},
            "/" + "g" * 100: A,
        })  # fmt: skip
        status, _, answer = self.put(body[:-1].encode() + b', "/a": {"target": "http://a"}}')
        self.assertEqual((400, 400), (status, answer["status"]))
        self.assertEqual("8 routes cannot be used, nothing was changed", answer["message"])
        problems = {problem["key"]: problem["message"] for problem in answer["problems"]}
        self.assertEqual(["b", "/c/", "", "/d", "/e", "/f", "/" + "g" * 99, "/a"], list(problems))
        self.assertIn("one slash", problems["b"])
        self.assertIn("JSON object", problems["/d"])
        self.assertIn("'target'", problems["/e"])
        self.assertIn("timeouts.idle: expected a duration", problems["/f"])
        self.assertIn("limits.route_path", problems["/" + "g" * 99])
        self.assertIn("twice", problems["/a"])
        self.assertEqual("1 route cannot be used, nothing was changed", self.put({"b": A})[2]["message"])
        self.assertEqual({"/x"}, self.keys())

    def test_problems_end_somewhere(self) -> None:
        """A program that makes them all wrong is told of a hundred."""
        answer = self.put({f"x{number}": A for number in range(500)})[2]
        self.assertEqual((100, True), (len(answer["problems"]), answer["message"].startswith("at least 100 ")))

    def test_what_is_no_object_is_refused(self) -> None:
        """Also if the mistake comes at the end, behind good routes."""
        self.call("POST", "/api/routes/x", A)
        for body in (b"", b"[]", b'{"/a": {"target": "http://a"}, ', b'{"/a": {"target": "http://a"}}}'):
            status, _, answer = self.put(body)
            self.assertEqual(400, status)
            self.assertIn("JSON", answer["message"])
        self.assertEqual(413, self.put(b" " * 1_000_001)[0])
        self.assertEqual({"/x"}, self.keys())

    def test_what_the_list_says_can_be_put_back(self) -> None:
        """With the times, which are ours, and the static routes, which stay where they are."""
        self.table.set_static([make_route("s.test/s")], 0)
        self.call("POST", "/api/routes/x", A)
        listed = self.call("GET", "/api/routes")[2]
        listed["s.test/s"]["static"] = True
        self.assertEqual({"routes": 1, "added": 0, "changed": 0, "deleted": 0}, self.put(listed)[2])
        self.assertIsNone(self.table.posted("s.test/s"))

    def test_many_take_turns(self) -> None:
        """Traffic goes on while many are read and brought in; until then all is as it was, and then all is new."""
        self.call("POST", "/api/routes/x", A)
        data = json.dumps({f"/r{number}": {"target": "http://h", "n": number} for number in range(5000)}).encode()
        client = self.proxy.client()
        client.send(
            b"PUT /api/routes HTTP/1.1\r\nHost: a\r\nAuthorization: token secret\r\nContent-Length: %d\r\n\r\n"
            % len(data)
            + data
        )
        sizes: list[int] = []

        def look() -> None:
            sizes.append(len(self.table))
            if not client.received:
                self.clock.callLater(0, look)

        look()
        self.clock.advance(0)
        self.assertEqual({1, 5000}, set(sizes))
        self.assertGreater(len(sizes), 25)
        self.assertTrue(client.pop().startswith(b"HTTP/1.1 200 "))
        self.assertEqual(5000, len(self.table))
        self.assertTrue(gc.isenabled())

    def test_writes_wait_for_each_other(self) -> None:
        """A route that is posted while all are replaced comes afterwards, and another replacement as well."""
        bodies = [json.dumps({f"/{name}{number}": A for number in range(2000)}).encode() for name in "ab"]
        clients = []
        for body in bodies:
            client = self.proxy.client()
            client.send(
                b"PUT /api/routes HTTP/1.1\r\nHost: a\r\nAuthorization: token secret\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            clients.append(client)
        self.clock.advance(0)
        self.assertEqual([b"HTTP/1.1 200 OK"] * 2, [client.pop()[:15] for client in clients])
        self.assertIsNone(self.table.get("/a0"))
        self.assertIsNotNone(self.table.get("/b0"))

    def test_a_reload_meanwhile_that_changes_what_routes_mean(self) -> None:
        """What was read before it is not written after it; a single route is read in its turn."""
        data = json.dumps({f"/r{number}": A for number in range(2000)}).encode()
        client = self.proxy.client()
        client.send(
            b"PUT /api/routes HTTP/1.1\r\nHost: a\r\nAuthorization: token secret\r\nContent-Length: %d\r\n\r\n%b"
            % (len(data), data)
        )
        self.reader.read_as(RouteReader(host_routing=True, read_options=self.reader.read_options))
        self.clock.advance(0)
        answer = client.pop()
        self.assertTrue(answer.startswith(b"HTTP/1.1 409 "), answer)
        self.assertIn(b"has changed meanwhile what routes mean", answer)
        self.assertEqual(self.keys(), set())
        self.assertEqual(self.put({"/a.test/x": A})[0], 200)
        entry = self.table.look_up("a.test", ("x",))
        self.assertEqual(None if entry is None else entry.route.key, "/a.test/x")

    def test_a_store_that_fails(self) -> None:
        """Is 500, nothing has changed, and the next change works."""
        self.store.replace = lambda routes: fail(StoreError("x", "disk full"))
        self.assertEqual(500, self.put({"/a": A})[0])
        self.assertEqual((201, {"/x"}), (self.call("POST", "/api/routes/x", A)[0], self.keys()))
