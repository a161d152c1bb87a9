"""`/api/events`: what happens to the routes, told as it happens (server-sent events).

The id of an event is what the list of routes has as its entity tag while nothing else has happened: whoever lists the
routes first and follows from there misses nothing.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from proxyd.api.resource import Call, Function
from proxyd.api.router import Router
from proxyd.api.routes import described
from proxyd.api.tags import Tags
from proxyd.core.changes import Change
from proxyd.core.table import Entry
from proxyd.http.eventstreams import EventStreams

# So much is remembered for clients that come back: enough for a short break, and small.
_MAX_EVENTS = 1000
_MAX_HISTORY_BYTES = 1024 * 1024


class Events:
    """Tells every stream what happens to the table of `tags`; `clock` has `callLater` and `seconds`.

    It has to be told itself, as a `proxyd.stores.feed.TableListener`.
    """

    router: Router[Function] = Router()

    def __init__(self, tags: Tags, clock: Any) -> None:
        self._tags = tags
        self._table = tags.table
        self._streams = EventStreams(clock)
        self._history: deque[tuple[int, bytes]] = deque()
        self._history_bytes = 0
        self._begins_at: int | None = None  # everything after this version is in the history

    @router.route("/api/events", "GET")
    def follow(self, call: Call) -> None:
        """Answer with a stream that begins behind Last-Event-ID, or with `reset` if that is not known any more."""
        last = (call.request.head.get(b"last-event-id") or b"").decode("latin-1")
        self._streams.open(call.request, self._missed(self._tags.version_at(last)))

    def close(self) -> None:
        """End all streams; there will be no others."""
        self._streams.close()

    def route_changed(self, change: Change, before: Entry | None, after: Entry | None) -> None:
        """Tell of a change."""
        if before is None and after is None:
            return
        name = "route-added" if before is None else "route-deleted" if after is None else "route-changed"
        route = f', "route": {described(after)}' if after is not None else ""
        data = f'{{"key": {json.dumps(change.key)}, "revision": {change.revision}{route}}}'
        self._remember(event := self._event(name, data))
        self._streams.send(event)

    def table_replaced(self) -> None:
        """Tell that the routes have to be listed again."""
        self._forget()
        self._streams.send(self._reset())

    def _missed(self, version: int | None) -> bytes:
        """What a client does not know that knows all up to a version."""
        if self._begins_at is None:
            self._begins_at = self._table.version
        if version is None or not self._begins_at <= version <= self._table.version:
            return self._reset()
        return b"".join(event for number, event in self._history if number > version)

    def _remember(self, event: bytes) -> None:
        version = self._table.version
        if self._begins_at is None:
            self._begins_at = version - 1
        self._history.append((version, event))
        self._history_bytes += len(event)
        while len(self._history) > _MAX_EVENTS or self._history_bytes > _MAX_HISTORY_BYTES:
            self._begins_at, oldest = self._history.popleft()
            self._history_bytes -= len(oldest)

    def _forget(self) -> None:
        self._history.clear()
        self._history_bytes = 0
        self._begins_at = self._table.version

    def _reset(self) -> bytes:
        return self._event("reset", f'{{"revision": {self._table.revision}}}')

    def _event(self, name: str, data: str) -> bytes:
        return f"id: {self._tags.point}\nevent: {name}\ndata: {data}\n\n".encode()
