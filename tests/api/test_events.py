"""Tests of `proxyd.api.events`."""

from __future__ import annotations

import json
import re
from typing import Any

from proxyd.http.eventstreams import HEARTBEAT_SECONDS
from proxyd.testing.contracts import make_route
from proxyd.testing.transports import MemoryTransport
from tests.api.support import NativeApiTestCase

A = {"target": "http://a"}
CHUNK = re.compile(rb"[0-9a-f]+\r\n(.*?)\r\n(?=[0-9a-f]+\r\n|\Z)", re.DOTALL)


class EventsTestCase(NativeApiTestCase):
    """Clients that follow."""

    def follow(self, last: str = "", version: bytes = b"1.1") -> MemoryTransport:
        """A client begins to follow behind the event `last`."""
        field = f"Last-Event-ID: {last}\r\n".encode() if last else b""
        client = self.proxy.client()
        client.send(b"GET /api/events HTTP/%b\r\nHost: a\r\nAuthorization: token secret\r\n%b\r\n" % (version, field))
        return client

    def body(self, client: MemoryTransport) -> bytes:
        """What has come since, without head and chunks."""
        data = client.pop()
        head, found, body = data.partition(b"\r\n\r\n")
        if found and head.startswith(b"HTTP/"):
            self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
            self.assertIn(b"\r\nContent-Type: text/event-stream\r\n", head)
            data = body
        return b"".join(CHUNK.findall(data))

    def events(self, client: MemoryTransport) -> list[tuple[str, dict[str, Any]]]:
        """The events that have come since: name and data."""
        return [(name, data) for _, name, data in self.whole_events(client)]

    def whole_events(self, client: MemoryTransport) -> list[tuple[str, str, dict[str, Any]]]:
        """The events that have come since: id, name and data."""
        found = []
        for text in self.body(client).decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(":"))
            if fields:
                found.append((fields["id"], fields["event"], json.loads(fields["data"])))
        return found

    def put(self, key: str, **members: Any) -> None:
        """Post a route."""
        self.assertEqual(201, self.call("POST", f"/api/routes{key}", {**A, **members})[0])


class EventsTests(EventsTestCase):
    """What is told."""

    def test_what_happens_is_told(self) -> None:
        """Added, changed, deleted, each with the key, and the route as it is then."""
        client = self.follow()
        self.assertEqual([("reset", {"revision": 0})], self.events(client))
        self.put("/x")
        self.put("/x", n=1)
        self.call("PATCH", "/api/routes/x", {"n": 2})
        told = self.events(client)
        self.assertEqual(["route-added", "route-changed", "route-changed"], [name for name, _ in told])
        self.assertEqual([("/x", 1), ("/x", 2), ("/x", 3)], [(data["key"], data["revision"]) for _, data in told])
        self.assertEqual([None, 1, 2], [data["route"].get("n") for _, data in told])
        self.call("DELETE", "/api/routes/x")
        self.assertEqual([("route-deleted", {"key": "/x", "revision": 4})], self.events(client))

    def test_what_is_uncovered_is_told(self) -> None:
        """A static route that answers again."""
        self.feed.table.set_static([make_route("/s")], 0)
        self.put("/s")
        client = self.follow()
        self.events(client)
        self.call("DELETE", "/api/routes/s")
        ((name, data),) = self.events(client)
        self.assertEqual(("route-changed", "http://up.test"), (name, data["route"]["target"]))

    def test_list_first_and_follow(self) -> None:
        """The tag of the list is where the stream goes on: nothing is missed, and nothing comes twice."""
        self.follow()
        self.put("/before")
        tag = self.tag("/api/routes")
        self.put("/between")
        client = self.follow(tag.strip('"'))
        self.put("/after")
        told = self.whole_events(client)
        self.assertEqual(["/between", "/after"], [data["key"] for _, _, data in told])
        self.assertEqual(self.tag("/api/routes").strip('"'), told[-1][0])
        again = self.follow(told[0][0])
        self.assertEqual(["/after"], [data["key"] for _, data in self.events(again)])
        self.assertEqual(b":\n\n", self.body(self.follow(told[-1][0])))

    def test_what_cannot_be_resumed_begins_anew(self) -> None:
        """An id of another process, of the future, of before what is remembered, or none at all."""
        self.put("/x")
        last = self.whole_events(self.follow())[0][0]
        process, _, version = last.partition("-")
        for number in range(1100):
            self.store.put(make_route(f"/r{number}"))
        for name in ("", "x", "0-0", f"{'0' * 8}-{version}", f"{process}-9999999", last, "-", f"{process}-"):
            self.assertEqual(["reset"], [name for name, _ in self.events(self.follow(name))], name)
        recent = f"{process}-{self.table.version - 900}"
        self.assertEqual(900, len(self.events(self.follow(recent))))

    def test_large_routes_are_not_remembered_for_ever(self) -> None:
        """The history is bounded in bytes, too."""
        self.follow()
        last = self.tag("/api/routes").strip('"')
        for number in range(30):
            route = make_route(f"/r{number}")
            text = json.dumps({"target": route.upstream.url, "x": "y" * 100_000})
            self.store.put(type(route)(route.key, route.upstream, route.segments, "", route.options, text))
        self.assertEqual([("reset", {"revision": 30})], self.events(self.follow(last)))

    def test_very_many_changes_are_a_reset(self) -> None:
        """And so is another configuration: the client lists the routes again."""
        client = self.follow()
        self.events(client)
        routes = {f"/r{number}": A for number in range(2000)}
        self.assertEqual(200, self.call("PUT", "/api/routes", routes)[0])
        self.assertEqual([("reset", {"revision": 2000})], self.events(client))
        self.feed.set_static([make_route("/s")])
        self.assertEqual([("reset", {"revision": 2000})], self.events(client))
        self.assertEqual(200, self.call("PUT", "/api/routes", {"/r0": A})[0])
        self.assertEqual("reset", self.events(client)[0][0])
        self.call("PUT", "/api/routes", {"/r0": A, "/r1": A})
        self.assertEqual([("route-added", "/r1")], [(name, data["key"]) for name, data in self.events(client)])


class StreamTests(EventsTestCase):
    """The connections."""

    def test_heartbeats(self) -> None:
        """While nothing happens; none when nobody follows."""
        client = self.follow()
        self.events(client)
        self.clock.advance(HEARTBEAT_SECONDS)
        self.assertEqual(b":\n\n", self.body(client))
        client.reset()
        self.proxy.advance()
        self.clock.advance(HEARTBEAT_SECONDS)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_old_clients_get_no_chunks(self) -> None:
        """HTTP/1.0."""
        client = self.follow(version=b"1.0")
        head, _, body = client.pop().partition(b"\r\n\r\n")
        self.assertNotIn(b"Transfer-Encoding", head)
        self.assertTrue(body.startswith(b"id: "), body)
        self.events_end(client, b"")

    def test_the_end(self) -> None:
        """Streams end properly, and no new ones begin."""
        client = self.follow()
        client.pop()
        self.events_end(client, b"0\r\n\r\n")
        self.assertEqual(503, self.call("GET", "/api/events")[0])

    def events_end(self, client: MemoryTransport, last: bytes) -> None:
        """The proxy is about to end."""
        self.events_hub.close()
        self.assertEqual(last, client.pop())
        self.proxy.advance()
        self.assertFalse(client.connected and not client.write_closed)

    def test_who_does_not_keep_up_is_dropped(self) -> None:
        """When too much waits for it; others go on."""
        slow, good = self.follow(), self.follow()
        slow.stall()
        route = make_route("/x")
        for number in range(50):
            text = json.dumps({"target": route.upstream.url, "x": f"{number}" + "y" * 100_000})
            self.store.put(type(route)(route.key, route.upstream, route.segments, "", route.options, text))
            good.pop()
        self.proxy.advance()
        self.assertFalse(slow.connected)
        self.assertTrue(good.connected)

    def test_there_is_a_limit(self) -> None:
        """Of clients that follow at once; one that leaves makes room."""
        clients = [self.follow() for _ in range(100)]
        self.assertEqual(503, self.call("GET", "/api/events")[0])
        clients[0].reset()
        self.proxy.advance()
        self.assertTrue(self.follow().pop().startswith(b"HTTP/1.1 200 "))

    def test_a_body_that_breaks_the_rules_ends_it(self) -> None:
        """The client speaks no HTTP then."""
        client = self.proxy.client()
        client.send(
            b"GET /api/events HTTP/1.1\r\nHost: a\r\nAuthorization: token secret\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        client.send(b"1\r\nx\r\n")
        self.assertTrue(client.connected)
        client.send(b"nonsense\r\n")
        self.proxy.advance()
        self.assertFalse(client.connected)
