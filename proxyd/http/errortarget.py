"""The error target: an application that is asked for the pages of errors.

It gets a GET for URL/STATUS?url=REQUEST-TARGET, and nothing that the client sent: no cookie, no credential. Its body
goes to the client under the status of the error, whatever its own status is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.admission import cookie_lines
from proxyd.core.framing import LAST_CHUNK, chunk
from proxyd.core.head import CRLF, ResponseHead
from proxyd.core.pages import Fault, reason_phrase
from proxyd.errors import ConnectionCutError, RequestError, UpstreamError
from proxyd.model.settings import Timeouts
from proxyd.model.upstream import Upstream

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from proxyd.http.errorpages import ErrorPages
    from proxyd.http.request import Request
    from proxyd.upstream.connection import UpstreamConnection
    from proxyd.upstream.pools import UpstreamPool

# The page of an error must not take longer than the error was worth.
_MAX_SECONDS = 10.0

_PASSED = (b"content-type", b"content-encoding")


class ErrorTarget:
    """Asks `upstream`, over connections of `pool`, for the pages of errors; `pages` has them if it fails."""

    def __init__(self, upstream: Upstream, pool: UpstreamPool, timeouts: Timeouts, pages: ErrorPages) -> None:
        self.pool = pool
        self.pages = pages
        self._upstream = upstream
        self.connect_seconds = min(timeouts.connect or _MAX_SECONDS, _MAX_SECONDS)
        self.response_seconds = min(timeouts.response or _MAX_SECONDS, _MAX_SECONDS)

    def answer(self, request: Request, fault: Fault, fields: list[bytes]) -> None:
        """Answer `request` with the status of `fault` and the page of the target; `fields` go with it."""
        _Fetch(self, request, fault, fields).start()

    def request_head(self, status: int, target: bytes) -> bytes:
        """The head of the request for the page of `status`, which befell a request for `target`."""
        upstream = self._upstream
        query = upstream.query + b"&" if upstream.query else b""
        escaped = quote_plus(target).encode("ascii")
        path = b"%b/%d?%burl=%b" % (upstream.path.rstrip(b"/"), status, query, escaped)
        return b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, upstream.authority)


class _Fetch:
    """One page for one request."""

    _log = Logger()

    def __init__(self, target: ErrorTarget, request: Request, fault: Fault, fields: list[bytes]) -> None:
        self._target = target
        self._request = request
        self._fault = fault
        self._fields = fields
        self._connecting: Deferred[UpstreamConnection] | None = None
        self._connection: UpstreamConnection | None = None
        self._has_started = False
        self._chunks = False
        self._keep_alive = False
        self._reused = False

    def start(self) -> None:
        self._request.sink = self
        if not self._request.body_complete:
            self._request.channel.pause_body()
        connection = self._target.pool.take()
        if connection is not None:
            self._reused = True
            self._send(connection)
        else:
            self._connect()

    def _connect(self) -> None:
        self._reused = False
        connecting = self._connecting = self._target.pool.connect(self._target.connect_seconds)
        connecting.addCallbacks(self._send, self._not_connected)
        connecting.addErrback(self.taking_failed)

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        if not failure.check(CancelledError):
            self._fall_back(failure.value)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connecting = None
        self._connection = connection
        seconds = self._target.response_seconds
        data = self._target.request_head(self._fault.status, self._request.head.target)
        connection.begin(self, b"GET", data, complete=True, response_seconds=seconds, idle_seconds=seconds)

    # The target's answer.

    def interim_received(self, head: ResponseHead) -> None:
        """Nothing to do."""

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """Nobody asked for that."""
        self._drop()
        self._fall_back("a 101 that answers no handshake")

    def response_started(self, head: ResponseHead, length: int, data: bytes, *, complete: bool) -> None:
        """Send the head, and what came of the page."""
        request = self._request
        status = self._fault.status
        self._has_started = True
        request.status = status
        self._keep_alive = request.may_keep_alive
        lines = [b"HTTP/1.1 %d %b" % (status, reason_phrase(status))]
        lines += [b"%b: %b" % (name.title(), value) for name in _PASSED if (value := head.get(name)) is not None]
        lines += self._fields
        if request.admission is not None:
            lines += cookie_lines(request.admission)
        lines.append(b"Date: " + request.channel.site.date())
        if length >= 0:
            lines.append(b"Content-Length: %d" % length)
        elif request.head.version == 1:
            self._chunks = True
            lines.append(b"Transfer-Encoding: chunked")
        else:
            self._keep_alive = False
        if not self._keep_alive:
            lines.append(b"Connection: close")
        elif request.head.version == 0:
            lines.append(b"Connection: keep-alive")
        lines.append(CRLF)
        request.channel.write(CRLF.join(lines))
        if request.method == b"HEAD":
            self._drop()
            request.done(keep_alive=self._keep_alive)
            return
        if not complete and self._connection is not None:
            request.channel.transport.registerProducer(self, True)
        self.response_continued(data, complete=complete)

    def response_continued(self, data: bytes, *, complete: bool) -> None:
        """Send more of the page."""
        request = self._request
        request.body_sent += len(data)
        if self._chunks:
            data = (chunk(data) if data else b"") + (LAST_CHUNK if complete else b"")
        if data:
            request.channel.write(data)
        if complete:
            request.channel.transport.unregisterProducer()
            request.channel.flowing()
            connection, self._connection = self._connection, None
            if connection is not None and connection.is_reusable:
                connection.pool.put(connection)
            elif connection is not None:
                connection.close()
            request.done(keep_alive=self._keep_alive)

    def response_failed(self, error: UpstreamError, *, answered: bool) -> None:
        """The target is as broken as what it should explain."""
        self._connection = None
        if self._has_started:
            self._request.channel.transport.unregisterProducer()
            self._request.cut(reset=not self._chunks)
        elif self._reused and not answered and isinstance(error, ConnectionCutError):
            self._connect()
        else:
            self._fall_back(error)

    def taking_failed(self, failure: Failure) -> None:
        """A mistake of ours; there is no third page to try."""
        self._log.failure("unexpected error in a page of the error target", failure=failure)
        self._drop()
        self._request.channel.abortConnection()

    def _fall_back(self, reason: object) -> None:
        self._log.warn("the error target failed: {reason}", reason=reason)
        self._target.pages.answer_without_target(self._request, self._fault)

    # As the producer of the page: paused and resumed by the client's transport.

    def pauseProducing(self) -> None:
        """The client does not keep up."""
        if self._connection is not None:
            self._connection.pauseProducing()
            self._request.channel.stalled()

    def resumeProducing(self) -> None:
        """The client takes more."""
        if self._connection is not None:
            self._request.channel.flowing()
            self._connection.resumeProducing()

    def stopProducing(self) -> None:
        """The client is gone; its channel tells."""

    # The client.

    def body_received(self, data: bytes, *, complete: bool) -> None:
        """What is left of the client's body has nowhere to go."""

    def body_failed(self, error: RequestError) -> None:
        """The request has failed already."""

    def client_lost(self, reason: Failure) -> None:
        """Nobody waits for the page any more."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
