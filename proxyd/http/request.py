"""A request as resources see it.

It is a `twisted.web.server.Request`, so that any resource can serve it, but none of what makes that one expensive
exists until a resource that is not ours asks for it: `become_stock` makes it whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import IResource, getChildForRequest

from proxyd.core.admission import cookie_lines
from proxyd.core.head import CHUNKED, CRLF, RequestHead
from proxyd.core.pages import reason_phrase
from proxyd.errors import RequestError, UpstreamError
from proxyd.interfaces import IStreamingResource

if TYPE_CHECKING:
    from proxyd.core.forward import Peer
    from proxyd.core.table import Entry
    from proxyd.http.channel import HTTPChannel
    from proxyd.model.auth import Admit
    from proxyd.net.tcp import DataPathTransport

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodySink(Protocol):
    """Takes the body of a request, and the news of its end."""

    def body_received(self, data: bytes, *, complete: bool) -> None:
        """More of it came; `complete`: that was all."""

    def body_failed(self, error: RequestError) -> None:
        """There will be no more, because what came is malformed, too long or too late."""

    def client_lost(self, reason: Failure) -> None:
        """The client is gone, in whatever state the request is."""


class Use(Protocol):
    """What a request makes use of for as long as it is served."""

    def touch(self) -> None:
        """Something happened that shows that somebody is at work."""

    def end(self) -> None:
        """The exchange, or the tunnel that it has become, is over, however it ended."""


class Request(server.Request):
    """One request on `channel`.

    `path` (dot-resolved, raw) and `query` (with its `?`) are set by the route tree. `body_start` is what has
    come of the body before anybody took it. `outlet` is the transport that the body goes to as it comes, if there is
    one for which `sink` need not see it. `use` is there if something has to be let go at the end. `admission` is
    there if an authenticator changes something, `visitor_touch` if what serves it decides what counts as activity of
    the client. `kind` says what serves it, `operation` which function of the API.
    These, `status`, `body_received`, `body_sent`, and in the end `seconds`, tell the access log and the meters how it
    went.
    """

    channel: HTTPChannel  # type: ignore[assignment]  # ours in place of the stock one
    head: RequestHead
    query: bytes = b""
    body_start: bytes = b""
    body_complete = False
    sink: BodySink | None = None
    outlet: DataPathTransport | None = None
    entry: Entry | None = None
    use: Use | None = None
    admission: Admit | None = None
    visitor_touch: Callable[[], None] | None = None
    request_id = ""
    detail = ""
    kind = "none"
    operation = ""
    status = 0
    seconds = 0.0
    body_received = 0
    body_sent = 0
    is_lost = False
    found: IResource
    place: tuple[list[bytes], list[bytes]]
    sitepath: list[bytes]
    _is_stock = False

    def __init__(self, channel: HTTPChannel, head: RequestHead) -> None:
        # Not that of server.Request: see the top of the file.
        self.channel = channel
        self.head = head
        self.method = head.method
        self.started = channel.site.seconds()

    @property
    def peer(self) -> Peer:
        """The client."""
        return self.channel.peer

    @property
    def may_keep_alive(self) -> bool:
        """Whether the connection can serve another request after this one."""
        return self.head.keep_alive and self.body_complete and not self.channel.site.is_draining

    # For resources that know of streaming.

    def receive_body(self, sink: BodySink) -> None:
        """Let `sink` take the rest of the body, what came before it being in `body_start`."""
        self.sink = sink
        if not self.body_complete:
            self.channel.expect_body()

    def send_continue(self) -> None:
        """Tell a client that waits for it to send the body (RFC 9110 §10.1.1)."""
        if self.head.expects_continue and not self.body_start and not self.body_complete:
            self.channel.write(CONTINUE)

    def read_body(self, limit: int) -> Deferred[bytes]:
        """Collect the whole body.

        Fails with `RequestError` if it is longer than `limit` bytes or malformed, and with the reason of the
        connection's end.
        """
        collector = _Collector(self, limit)
        collector.start()
        return collector.result

    def answer(self, status: int, fields: list[bytes], body: bytes = b"", *, close: bool = False) -> None:
        """Send a whole response: `fields` are lines without the ones that belong to the connection.

        It ends the connection of a WebSocket's client, whose next bytes may be frames.
        """
        channel = self.channel
        if self.is_lost:
            return
        keep_alive = self.may_keep_alive and not close and self.head.upgrade != b"websocket"
        lines = [b"HTTP/1.1 %d %b" % (status, reason_phrase(status)), *fields]
        if self.admission is not None:
            lines += cookie_lines(self.admission)
        if status not in {204, 304}:
            lines.append(b"Content-Length: %d" % len(body))
        lines.append(b"Date: " + channel.site.date())
        if not keep_alive:
            lines.append(b"Connection: close")
        elif self.head.version == 0:
            lines.append(b"Connection: keep-alive")
        lines.append(CRLF)
        head = CRLF.join(lines)
        if self.method == b"HEAD":
            body = b""
        self.status = status
        self.body_sent = len(body)
        channel.write(head + body)
        self.done(keep_alive=keep_alive)

    def fail(self, error: RequestError | UpstreamError) -> None:
        """Send the page of an error."""
        self.channel.settings.error_pages.answer(self, error)

    def done(self, *, keep_alive: bool) -> None:
        """The response is complete."""
        channel = self.channel
        self.sink = None  # which has this request in turn: nothing is left to the garbage collector
        channel.site.exchange_done(self)
        channel.request_done(keep_alive=keep_alive)

    def cut(self, *, reset: bool) -> None:
        """End the connection in the middle of the response.

        `reset` it, if nothing but the end of the connection would have ended the response: the client could
        take what it got for complete.
        """
        channel = self.channel
        channel.site.exchange_done(self)
        channel.cut(reset=reset)

    # What the channel tells.

    def body_failed(self, error: RequestError) -> None:
        """The body is malformed, too long or too late."""
        if self.sink is not None:
            self.sink.body_failed(error)
        else:
            self.fail(error)

    def client_lost(self, reason: Failure) -> None:
        """The client is gone."""
        self.is_lost = True
        self.status = self.status or 499  # as nginx logs it: the client did not wait for a status
        try:
            self.channel.site.exchange_done(self)
        finally:
            if self.sink is not None:
                self.sink.client_lost(reason)
        if self._is_stock:
            super().connectionLost(reason)

    # For resources that know of nothing but twisted.web.

    def serve_stock(self, resource: IResource, path: bytes, depth: int) -> None:
        """Walk the tree below `resource`, to which the first `depth` segments of `path` lead, and render the end.

        The walk comes before the body, so that a streaming resource in the tree is found in time.
        """
        self._become_stock(path)
        segments = [unquote_to_bytes(segment) for segment in path[1:].split(b"/")]
        self.prepath, self.postpath = segments[:depth], segments[depth:]
        try:
            found = getChildForRequest(resource, self)
        except Exception:  # noqa: BLE001  # a foreign resource may raise anything
            self.processingFailed(Failure())
            return
        if IStreamingResource.providedBy(found):
            found.render_streaming(self)
        else:
            self.found = found
            self.place = self.prepath, self.postpath
            _StockBody(self).start()

    def _become_stock(self, path: bytes) -> None:
        """Make everything exist that twisted.web promises of a request."""
        head = self.head
        server.Request.__init__(self, self.channel)
        self._is_stock = True
        self.site = self.channel.site
        self.path = path
        self.uri = path + self.query
        self.clientproto = b"HTTP/1.%d" % head.version
        self.args = http.parse_qs(self.query[1:], True)
        headers = self.requestHeaders
        if head.host is not None:
            headers.addRawHeader(b"Host", head.host)
        for line in head.fields:
            name, _, value = line.partition(b":")
            headers.addRawHeader(name, value.strip(b" \t"))
        for name, value in (head.forwarded or {}).items():
            headers.addRawHeader(name, value)
        if head.has_length:
            headers.addRawHeader(b"Content-Length", b"%d" % head.body)
        elif head.body == CHUNKED:
            headers.addRawHeader(b"Transfer-Encoding", b"chunked")
        self.parseCookies()
        self.gotLength(head.body if head.body != CHUNKED else None)
        self.setHeader(b"Date", self.channel.site.date())

    @property
    def is_self_delimited(self) -> bool:
        """Whether the client can tell where the stock response ended without the connection's end."""
        return (
            bool(self.chunked)
            or self.responseHeaders.hasHeader(b"Content-Length")
            or self.method == b"HEAD"
            or self.code in http.NO_BODY_CODES
        )


class _Body:
    """Takes the body of a request that nobody forwards."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def start(self) -> None:
        """Take what has come, and ask for the rest."""
        request = self._request
        first, request.body_start = request.body_start, b""
        complete = request.body_complete
        if not first:
            request.send_continue()
        request.receive_body(self)
        if first or complete:
            self.body_received(first, complete=complete)

    def body_received(self, data: bytes, *, complete: bool) -> None:
        """More of it came."""
        raise NotImplementedError

    def body_failed(self, error: RequestError) -> None:
        """There will be no more."""
        self._request.fail(error)

    def client_lost(self, reason: Failure) -> None:
        """The client is gone."""


class _StockBody(_Body):
    """Puts the body where stock resources look for it."""

    def body_received(self, data: bytes, *, complete: bool) -> None:
        request = self._request
        request.handleContentChunk(data)
        if complete:
            request.requestReceived(request.method, request.uri, request.clientproto)


class _Collector(_Body):
    """Collects a body of at most `limit` bytes."""

    def __init__(self, request: Request, limit: int) -> None:
        super().__init__(request)
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self.result: Deferred[bytes] = Deferred()

    def body_received(self, data: bytes, *, complete: bool) -> None:
        self._size += len(data)
        if self._size > self._limit:
            self.body_failed(RequestError(413, "the body is longer than this resource takes"))
            return
        self._pieces.append(data)
        if complete and not self.result.called:
            self.result.callback(b"".join(self._pieces))

    def body_failed(self, error: RequestError) -> None:
        if not self.result.called:
            self.result.errback(Failure(error))

    def client_lost(self, reason: Failure) -> None:
        if not self.result.called:
            self.result.errback(reason)
