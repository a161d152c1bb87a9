"""Streams of server-sent events: so many at most, kept awake, and ended with the proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.admission import cookie_lines
from proxyd.core.framing import LAST_CHUNK, chunk
from proxyd.core.head import CRLF
from proxyd.errors import RequestError
from proxyd.http.request import Request

# Proxies and load balancers usually give a silent connection up after 30 or 60 seconds.
HEARTBEAT_SECONDS = 15.0
MAX_STREAMS = 100
# A client that is so far behind had better come back.
_MAX_UNSENT_BYTES = 4 * 1024 * 1024

_HEAD = (b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream", b"Cache-Control: no-store", b"X-Accel-Buffering: no")
_COMMENT = b":\n\n"


class EventStreams:
    """The streams of one kind; `clock` has `callLater` and `seconds`."""

    _log = Logger()

    def __init__(self, clock: Any, *, limit: int = MAX_STREAMS) -> None:
        self._limit = limit
        self._streams: set[EventStream] = set()
        self._is_closed = False
        self._heart = LoopingCall(self._beat)
        self._heart.clock = clock

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, request: Request, first: bytes, ended: Callable[[], None] = lambda: None) -> EventStream:
        """Answer `request` with a stream that begins with `first`; `ended` is told when it is over, for any reason.

        Raises `RequestError` if there are too many, or there will be none any more.
        """
        if self._is_closed:
            raise RequestError(503, "the proxy is about to end")
        if len(self._streams) >= self._limit:
            raise RequestError(503, f"{self._limit} clients follow already")

        def forget(stream: EventStream) -> None:
            if stream in self._streams:
                self._streams.discard(stream)
                ended()

        stream = EventStream(request, forget)
        self._streams.add(stream)
        stream.begin(first or _COMMENT)
        if not self._heart.running:
            self._heart.start(HEARTBEAT_SECONDS, now=False).addErrback(self._failed)
        return stream

    def send(self, text: bytes) -> None:
        """Send a part to all of them."""
        for stream in list(self._streams):
            stream.send(text)

    def end(self) -> None:
        """End those that are there; clients come back."""
        for stream in list(self._streams):
            stream.end()
        if self._heart.running:
            self._heart.stop()

    def close(self) -> None:
        """End all of them; there will be no others."""
        self._is_closed = True
        self.end()

    def _beat(self) -> None:
        if self._streams:
            self.send(_COMMENT)
        else:
            self._heart.stop()

    def _failed(self, failure: Failure) -> None:
        self._log.failure("unexpected error in the streams of events", failure=failure)


class EventStream:
    """A client that follows; `ended` is told when it does no more."""

    _log = Logger()

    def __init__(self, request: Request, ended: Callable[[EventStream], None]) -> None:
        self._request = request
        self._channel = request.channel
        self._ended = ended
        self._is_chunked = request.head.version > 0

    def begin(self, text: bytes) -> None:
        """Send the head, and the first part."""
        request = self._request
        request.receive_body(self)  # a GET seldom has one; and we are told of the client's end
        request.status = 200
        lines = [*_HEAD, b"Date: " + self._channel.site.date(), b"Connection: close"]
        if request.admission is not None:
            lines += cookie_lines(request.admission)
        if self._is_chunked:
            lines.append(b"Transfer-Encoding: chunked")
        self._channel.write(CRLF.join([*lines, CRLF]))
        self.send(text)

    def send(self, text: bytes) -> None:
        """Send a part of the stream, unless the client is too far behind."""
        self._request.body_sent += len(text)
        self._channel.write(chunk(text) if self._is_chunked else text)
        if self._channel.transport.unsent > _MAX_UNSENT_BYTES:
            self._log.warn("a client that follows events does not keep up, and is dropped")
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
