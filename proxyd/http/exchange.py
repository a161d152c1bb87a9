"""One request and its response through the proxy.

While nothing has to be waited for, an exchange is a few plain calls: take a connection, write the head, and when the
response comes, write that. Whatever takes longer goes on from the callbacks of either side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.activity import is_activity
from proxyd.core.admission import answered_fields
from proxyd.core.deflate import ExtensionError
from proxyd.core.framing import LAST_CHUNK, chunk
from proxyd.core.head import CHUNKED, UNTIL_CLOSE, ResponseHead
from proxyd.core.retry import is_repeatable, may_retry
from proxyd.core.upgrade import is_agreed
from proxyd.errors import ConnectionCutError, MalformedResponseError, RequestError, UpstreamError
from proxyd.http.accesslog import printable
from proxyd.websocket.relay import Relay
from proxyd.websocket.tunnel import Tunnel

if TYPE_CHECKING:
    from proxyd.core.relayed import RelayHandshake
    from proxyd.http.request import Request
    from proxyd.http.resources import ForwardResource
    from proxyd.upstream.connection import UpstreamConnection


class Exchange:
    """Carries `request` to the upstream of `resource`, and the response back.

    `relays` is the handshake of a WebSocket that is to be relayed; without it, a WebSocket is a tunnel.
    """

    _log = Logger()
    relays: RelayHandshake | None = None
    # Where each one begins, not set for each: most exchanges change two or three of them.
    _connection: UpstreamConnection | None = None
    _connecting: Deferred[UpstreamConnection] | None = None
    _attempts = 0
    _is_sending = False  # the body of the request is on its way
    _has_started = False  # the client has got some of the response
    _chunks = False  # the client gets the body of the response in chunks
    _lasts_until_close = False  # ... or without a length
    _keep_alive = False
    _download: _Download | None = None
    _keeps_body = False  # the body of the request is wanted here, too: it must not go past us

    def __init__(self, request: Request, resource: ForwardResource, *, is_handshake: bool) -> None:
        self._request = request
        self._channel = request.channel
        self._resource = resource
        self._is_handshake = is_handshake

    # Towards the upstream.

    def start(self) -> None:
        """Send the request, on an idle connection if there is one."""
        resource = self._resource
        request = self._request
        request.sink = self
        if request.body_start:
            self._touch()
        connection = resource.pool.take()
        if not is_repeatable(request.method, request.head.body):
            # What cannot be sent twice should not be sent on a connection that is about to turn out dead.
            while connection is not None and connection.is_stale():
                connection.close()
                connection = resource.pool.take()
        if connection is None:
            self._connect()
            return
        try:
            self._send(connection)
        except Exception:  # noqa: BLE001  # nobody else knows of the connection
            self.taking_failed(Failure())

    def _connect(self) -> None:
        request = self._request
        if not request.body_complete:
            self._channel.pause_body()
        connecting = self._connecting = self._resource.pool.connect(self._resource.connect_seconds)
        connecting.addCallbacks(self._connected, self._not_connected)
        connecting.addErrback(self.taking_failed)

    def _connected(self, connection: UpstreamConnection) -> None:
        self._connecting = None
        self._send(connection)

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        error = failure.value
        if isinstance(error, UpstreamError):
            self._fail(error)
        elif not isinstance(error, CancelledError):
            self.taking_failed(failure)

    def taking_failed(self, failure: Failure) -> None:
        """A mistake of ours: the client learns of it, by its page or by the end of its connection."""
        self._log.failure("unexpected error in an exchange", failure=failure)
        self._drop_upstream()
        channel = self._channel
        if channel.request is self._request:
            try:
                self._fail(RequestError(500, "unexpected error, see the log"))
            except Exception:  # noqa: BLE001  # the same mistake once more, perhaps
                self._log.failure("unexpected error at the end of an exchange")
            else:
                return
        channel.abortConnection()

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        self._attempts += 1
        request = self._request
        resource = self._resource
        head = request.head
        data = resource.plan.request_head(head, request.path, request.query, self._channel.peer)
        complete = request.body_complete
        if head.body:
            first, request.body_start = request.body_start, b""
            if head.body == CHUNKED:
                data += (chunk(first) if first else b"") + (LAST_CHUNK if complete else b"")
            else:
                data += first
            if not complete and not first:
                request.send_continue()
        connection.begin(self, head.method, data, complete, resource.response_seconds, resource.idle_seconds)
        if not complete and self._connection is connection:
            self._is_sending = True
            if head.body != CHUNKED and not self._keeps_body:
                request.outlet = connection.transport
            connection.transport.registerProducer(self, True)
            self._channel.expect_body()

    def body_received(self, data: bytes, *, complete: bool) -> None:
        """More of the request's body came."""
        request = self._request
        self._touch()
        connection = self._connection
        if connection is None or not self._is_sending:
            # Between two attempts, or not connected yet: the channel is paused, but one piece may be on its way.
            request.body_start += data
            return
        if request.head.body == CHUNKED:
            data = (chunk(data) if data else b"") + (LAST_CHUNK if complete else b"")
        if data:
            connection.write(data)
        if complete and self._is_sending:
            self._is_sending = False
            connection.transport.unregisterProducer()
            connection.request_complete()

    def body_failed(self, error: RequestError) -> None:
        """The client's body is malformed, too long or too late."""
        self._drop_upstream()
        self._fail(error)

    def client_lost(self, reason: Failure) -> None:
        """The client is gone: so is the upstream's request."""
        self._drop_upstream()

    def _drop_upstream(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self._connection = self._connection, None
        self._is_sending = False
        if connection is not None:
            connection.close()

    # As the producer of the request's body: paused and resumed by the upstream's transport.

    def pauseProducing(self) -> None:
        """The upstream does not keep up."""
        self._channel.pause_body()
        if self._connection is not None:
            self._connection.await_room()

    def resumeProducing(self) -> None:
        """The upstream takes more."""
        if self._connection is not None:
            self._connection.room_made()
        self._channel.expect_body()

    def stopProducing(self) -> None:
        """The upstream is gone; its connection tells what that means."""
        self._is_sending = False

    # Towards the client.

    def interim_received(self, head: ResponseHead) -> None:
        """Pass a 1xx response on (RFC 9110 §15.2), but a 100: the client had its own from us."""
        if head.status != 100 and self._request.head.version == 1 and not self._is_handshake:
            self._channel.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, head.block))

    def response_started(self, head: ResponseHead, length: int, data: bytes, *, complete: bool) -> None:
        """Pass the head on, and what came of the body with it, in one write."""
        request = self._request
        channel = self._channel
        site = channel.site
        asked = request.head
        if request.admission is not None:
            head.fields = answered_fields(head.fields, request.admission)
        meters = site.meters
        if meters is not None and meters.counts_answers and not self._is_handshake:
            meters.upstream_answered(head.status)
        request.status = head.status
        request.body_sent = len(data)
        keep_alive = request.may_keep_alive and not self._is_handshake
        announced = length
        if length == 0:  # a response to HEAD, and a 304, may still tell of a length (RFC 9110 §8.6)
            announced = head.body if head.body >= 0 else UNTIL_CLOSE
        elif length < 0 and asked.version == 1:
            announced = CHUNKED
            self._chunks = True
            if data:
                data = chunk(data)
            if complete:
                data += LAST_CHUNK
        elif length < 0:
            announced = UNTIL_CLOSE
            keep_alive = False
            self._lasts_until_close = True
        self._keep_alive = keep_alive
        date = b"" if head.has_date else site.date()
        plan = self._resource.plan
        data = plan.response_head(head, asked, announced, date, keep_alive) + data
        self._has_started = True  # behind what may fail: then there is an error page
        channel.write(data)
        if complete:
            self._response_complete()
        else:
            download = self._download = _Download(self, channel.transport)
            if not self._chunks and self._connection is not None:
                self._connection.outlet = download
            channel.transport.registerProducer(download, True)
            if is_activity(head.status):
                self._touch()

    def response_continued(self, data: bytes, *, complete: bool) -> None:
        """Pass more of the body on."""
        request = self._request
        request.body_sent += len(data)
        if self._chunks:
            data = chunk(data) if data else b""
            if complete:
                data += LAST_CHUNK
        if data:
            self._channel.write(data)
        if complete:
            self._response_complete()
        elif is_activity(request.status):
            self._touch()

    def response_spliced(self, count: int) -> None:
        """A piece of the body has gone to the client without us."""
        request = self._request
        channel = self._channel
        request.body_sent += count
        if channel.settings.timeouts.client_idle:
            channel.site.deadlines.set(channel, channel.settings.timeouts.client_idle)
        if is_activity(request.status):
            self._touch()

    def pause_download(self) -> None:
        """The client does not keep up."""
        if self._connection is not None:
            self._connection.pauseProducing()
            self._channel.stalled()

    def resume_download(self) -> None:
        """The client takes more."""
        if self._connection is not None:
            self._channel.flowing()
            self._connection.resumeProducing()

    def _release(self) -> None:
        """Let go of the upstream: its response is complete."""
        connection = self._connection
        self._connection = None
        if connection is None:
            return
        if self._is_sending:
            # An early answer: the rest of the body has nowhere to go.
            self._is_sending = False
            connection.close()
        elif connection.is_reusable:
            connection.pool.put(connection)
        else:
            connection.close()

    def _response_complete(self) -> None:
        if self._download is not None:
            self._channel.transport.unregisterProducer()
            self._channel.flowing()
        self._release()
        request = self._request
        if is_activity(request.status):
            self._touch()
        request.done(keep_alive=self._keep_alive)

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """Join both sides, if that is what was asked for (RFC 9110 §7.8)."""
        request = self._request
        channel = self._channel
        connection, self._connection = self._connection, None
        assert connection is not None  # noqa: S101  # for mypy; it is the one that calls
        if not self._is_handshake or not is_agreed(request.head, head):
            connection.close()
            self._fail(MalformedResponseError(str(connection.pool.upstream), "a 101 that answers no handshake"))
            return
        if self.relays is not None:
            try:
                self.relays.agree(head)
            except ExtensionError as error:
                connection.close()
                self._fail(MalformedResponseError(str(connection.pool.upstream), str(error)))
                return
        request.status = head.status
        request.head.fields = []  # which nobody asks for any more, and what follows may last for days
        if request.admission is not None:
            head.fields = answered_fields(head.fields, request.admission)
        connection.detach()
        client, upstream = channel.transport, connection.transport
        early = channel.take_early()
        opening = self._resource.plan.switching_head(head)
        label = printable(request.head.target.partition(b"?")[0])
        self._touch()
        if self.relays is None or self._resource.relay is None:
            tunnel = Tunnel(channel.site.deadlines, self._touch, self._tunnel_ended)
            tunnel.label = label
            channel.site.tunnel_began(tunnel)
            client.write(opening + data)
            request.body_sent = len(data)
            tunnel.join(client, upstream, early)
        else:
            relay = Relay(self._resource.relay, channel.site.deadlines, self._touch, self._tunnel_ended)
            relay.label = label
            channel.site.tunnel_began(relay)
            client.write(opening)
            relay.join(client, upstream, early, data, (self.relays.client, self.relays.upstream))

    def _tunnel_ended(self, tunnel: Tunnel | Relay) -> None:
        self._request.body_sent += tunnel.to_client
        self._request.body_received = tunnel.to_upstream
        self._channel.site.tunnel_ended(tunnel)
        self._channel.site.exchange_done(self._request)

    def response_failed(self, error: UpstreamError, *, answered: bool) -> None:
        """The upstream will not answer (any more)."""
        connection = self._connection
        if connection is None:
            return
        self._connection = None
        was_sending, self._is_sending = self._is_sending, False
        request = self._request
        if self._has_started:
            # Whatever the client got must not look complete.
            self._log.warn("response cut: {error}", error=error)
            request.detail = str(error)
            if self._download is not None:
                self._channel.transport.unregisterProducer()
            request.cut(reset=self._lasts_until_close)
            return
        retry = (
            isinstance(error, ConnectionCutError)
            and not was_sending
            and may_retry(
                request.method,
                request.head.body,
                reused=connection.served > 0,
                answered=answered,
                attempts=self._attempts,
            )
        )
        if retry:
            self._connect()
        else:
            self._fail(error)

    def _fail(self, error: RequestError | UpstreamError) -> None:
        if self._has_started:
            if self._download is not None:  # a transport does not close while a producer is paused
                self._channel.transport.unregisterProducer()
            self._request.cut(reset=self._lasts_until_close)
        else:
            self._request.sink = None
            self._request.fail(error)

    def _touch(self) -> None:
        request = self._request
        if request.entry is not None:
            self._channel.site.touch(request.entry)
        elif request.use is not None:
            request.use.touch()
        if request.admission is not None and request.admission.touch is not None:
            request.admission.touch()


class _Download:
    """The body of a response as the client's transport sees it: something to pause and resume."""

    def __init__(self, exchange: Exchange, transport: Any) -> None:
        self._exchange = exchange
        self.transport = transport

    def spliced(self, count: int) -> None:
        """So many bytes of it have gone to the client as they came."""
        self._exchange.response_spliced(count)

    def pauseProducing(self) -> None:
        """The client does not keep up."""
        self._exchange.pause_download()

    def resumeProducing(self) -> None:
        """The client takes more."""
        self._exchange.resume_download()

    def stopProducing(self) -> None:
        """The client is gone; its channel tells."""
