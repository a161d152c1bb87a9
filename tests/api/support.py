"""The native API in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.api.events import Events
from proxyd.api.native import NativeRoutesApi
from proxyd.api.resource import ApiLog, ApiResource
from proxyd.api.tags import Tags
from proxyd.config.types import read_posted_options
from proxyd.core.posted import RouteReader
from proxyd.core.table import RouteTable
from proxyd.model.settings import Config, Limits
from proxyd.option import ByteCount
from proxyd.stores.feed import TableFeed
from proxyd.stores.memory import MemoryRouteStore
from proxyd.testing.harness import Harness

TOKEN = b"Authorization: token secret\r\n"


class NativeApiTestCase(SynchronousTestCase):
    """An API with the token `secret`, and with events."""

    host_routing = False

    def setUp(self) -> None:
        self.table = RouteTable()
        self.clock = Clock()
        self.feed = TableFeed(self.table, self.clock, self.seconds)
        self.store: Any = MemoryRouteStore(self.clock)
        self.store.watch(0, self.feed.take)
        reader = self.reader = RouteReader(self.host_routing, read_posted_options)
        tags = Tags(self.table)
        limits = Limits(api_body=ByteCount(1000), api_bulk_body=ByteCount(1_000_000), route_path=ByteCount(100))
        api = NativeRoutesApi(self.feed, self.store, self.clock, reader=reader, tags=tags, limits=limits)
        self.events_hub = Events(tags, self.clock)
        self.feed.listeners.append(self.events_hub)
        self.root = ApiResource(NativeRoutesApi.router, api, ("secret",))
        self.root.add(Events.router, self.events_hub)
        self.proxy = Harness(root=self.root, config=Config())
        self.proxy.site.access_log = ApiLog()
        self.addCleanup(self.events_hub.close)

    def seconds(self) -> float:
        """The time of the proxy."""
        return self.proxy.clock.seconds()

    def call(
        self, method: str, path: str, body: Any = None, *fields: str, token: bytes = TOKEN
    ) -> tuple[int, dict[str, str], Any]:
        """Call the API; gives back the status, the fields by their names, and what the JSON says, None for nothing."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: api", f"Content-Length: {len(data)}", *fields]
        client = self.proxy.client()
        client.send("\r\n".join(lines).encode() + b"\r\n" + token + b"\r\n" + data)
        self.clock.advance(0)
        head, _, answer = client.pop().partition(b"\r\n\r\n")
        self.assertTrue(head, "there is no answer")
        named = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        return int(head.split(b" ")[1]), named, json.loads(answer) if answer else None

    def tag(self, path: str) -> str:
        """The entity tag of what is there."""
        status, fields, _ = self.call("GET", path)
        self.assertEqual(200, status)
        return fields["ETag"]

    def keys(self, query: str = "") -> set[str]:
        """The keys of the list."""
        return set(self.call("GET", "/api/routes" + query)[2])
