"""`/api/events`: what happens to the routes, told as it happens (server-sent events).

The id of an event is what the list of routes has as its entity tag while nothing else has happened: whoever lists the
routes first and follows from there misses nothing.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.api.resource import Call, Function
from proxyd.api.router import Router
from proxyd.api.routes import described
from proxyd.api.tags import Tags
from proxyd.core.changes import Change
from proxyd.core.framing import LAST_CHUNK, chunk
from proxyd.core.head import CRLF
from proxyd.core.table import Entry
from proxyd.errors import RequestError
from proxyd.http.request import Request

# Proxies and load balancers usually give a silent connection up after 30 or 60 seconds.
HEARTBEAT_SECONDS = 15.0
# So much is remembered for clients that come back: enough for a short break, and small.
_MAX_EVENTS = 1000
_MAX_HISTORY_BYTES = 1024 * 1024
# A client that is so far behind had better come back and list the routes.
_MAX_UNSENT_BYTES = 4 * 1024 * 1024
_MAX_STREAMS = 100

_HEAD = (b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream", b"Cache-Control: no-store", b"X-Accel-Buffering: no")


class Events:
    """Tells every stream what happens to the table of `tags`; `clock` has `callLater` and `seconds`.

    It has to be told itself, as a `proxyd.stores.feed.TableListener`.
    """

    _log = Logger()
    router: Router[Function] = Router()

    def __init__(self, tags: Tags, clock: Any) -> None:
        self._tags = tags
        self._table = tags.table
        self._streams: set[_Stream] = set()
        self._history: deque[tuple[int, bytes]] = deque()
        self._history_bytes = 0
        self._begins_at: int | None = None  # everything after this version is in the history
        self._is_closed = False
        self._heart = LoopingCall(self._beat)
        self._heart.clock = clock

    @router.route("/api/events", "GET")
    def follow(self, call: Call) -> None:
        """Answer with a stream that begins behind Last-Event-ID, or with `reset` if that is not known any more."""
        if self._is_closed:
            raise RequestError(503, "the proxy is about to end")
        if len(self._streams) >= _MAX_STREAMS:
            raise RequestError(503, f"{_MAX_STREAMS} clients follow already")
        stream = _Stream(call.request, self._streams.discard)
        self._streams.add(stream)
        last = (call.request.head.get(b"last-event-id") or b"").decode("latin-1")
        stream.begin(self._missed(self._tags.version_at(last)))
        if not self._heart.running:
            self._heart.start(HEARTBEAT_SECONDS, now=False).addErrback(self._failed)

    def close(self) -> None:
        """End all streams; there will be no others."""
        self._is_closed = True
        for stream in list(self._streams):
            stream.end()
        if self._heart.running:
            self._heart.stop()

    def route_changed(self, change: Change, before: Entry | None, after: Entry | None) -> None:
        """Tell of a change."""
        if before is None and after is None:
            return
        name = "route-added" if before is None else "route-deleted" if after is None else "route-changed"
        route = f', "route": {described(after)}' if after is not None else ""
        data = f'{{"key": {json.dumps(change.key)}, "revision": {change.revision}{route}}}'
        self._remember(event := self._event(name, data))
        self._send(event)

    def table_replaced(self) -> None:
        """Tell that the routes have to be listed again."""
        self._forget()
        self._send(self._reset())

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

    def _send(self, text: bytes) -> None:
        for stream in list(self._streams):
            stream.send(text)

    def _beat(self) -> None:
        if self._streams:
            self._send(b":\n\n")
        else:
            self._heart.stop()

    def _failed(self, failure: Failure) -> None:
        self._log.failure("unexpected error in the stream of events", failure=failure)


class _Stream:
    """A client that follows; `ended` is told when it does no more."""

    _log = Logger()

    def __init__(self, request: Request, ended: Any) -> None:
        self._request = request
        self._channel = request.channel
        self._ended = ended
        self._is_chunked = request.head.version > 0

    def begin(self, text: bytes) -> None:
        """Send the head, and what the client has missed."""
        request = self._request
        request.receive_body(self)  # a GET seldom has one; and we are told of the client's end
        request.status = 200
        lines = [*_HEAD, b"Date: " + self._channel.site.date(), b"Connection: close"]
        if self._is_chunked:
            lines.append(b"Transfer-Encoding: chunked")
        self._channel.write(CRLF.join([*lines, CRLF]))
        self.send(text or b":\n\n")

    def send(self, text: bytes) -> None:
        """Send a part of the stream, unless the client is too far behind."""
        self._request.body_sent += len(text)
        self._channel.write(chunk(text) if self._is_chunked else text)
        if self._channel.transport.unsent > _MAX_UNSENT_BYTES:
            self._log.warn("a client that follows the routes does not keep up, and is dropped")
            self._ended(self)
            self._request.cut(reset=True)

    def end(self) -> None:
        """End the stream properly."""
        self._ended(self)
        if self._is_chunked:
            self._channel.write(LAST_CHUNK)
        self._request.done(keep_alive=False)

    def body_received(self, data: bytes, *, complete: bool) -> None:
        """Nobody wants it."""

    def body_failed(self, error: RequestError) -> None:
        """The client does not speak HTTP any more."""
        self._ended(self)
        self._request.cut(reset=True)

    def client_lost(self, reason: Failure) -> None:
        """The client is gone."""
        self._ended(self)
