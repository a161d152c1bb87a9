"""A client's connection: requests in, responses out, one after the other.

Owns the wire of the client's side: where a head ends, how much of a body has come, what a client may make us wait
for. What heads mean is `core.head`; what becomes of a request is up to the site's resources.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from proxyd.core.admission import cookie_lines
from proxyd.core.framing import Body, FramingError
from proxyd.core.head import CRLF, END_OF_HEAD, RequestHead
from proxyd.errors import RequestError
from proxyd.http.request import Request
from proxyd.net.deadlines import NEVER
from proxyd.net.tcp import LARGE_READ, SMALL_READ, DataPathTransport, SplicingProtocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxyd.http.site import Site, SiteSettings

# After a final answer we read and drop what the client is still sending, so that the answer is not lost in a reset
# (RFC 9112 §9.6), but no longer and no more than this.
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 1024 * 1024
# So many pipelined requests are answered before the other connections get their turn.
_REQUESTS_A_TURN = 16

# What a head can never become right with, whatever follows: no need to wait for its end.
_HOPELESS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n")
_EMPTY_LINES = re.compile(rb"(?:\r\n)+")


class _State(Enum):
    IDLE = auto()  # between two requests
    HEAD = auto()  # a part of a head has come
    BODY = auto()  # the request is being served while its body is still coming
    ANSWERING = auto()  # the whole request has come and is being served
    CLOSING = auto()  # what is buffered goes out, then the connection ends
    LINGERING = auto()  # our side is closed; what still comes is dropped
    TAKEN = auto()  # a tunnel or a relay has the transport
    ENDED = auto()


# By names of their own: to look a member up in its class takes longer than a call.
_IDLE, _HEAD, _BODY, _ANSWERING, _CLOSING, _LINGERING, _TAKEN, _ENDED = _State


class HTTPChannel(SplicingProtocol):
    """One connection of a client with `site`."""

    _log = Logger()

    deadline: float | None = None
    looked_at = NEVER

    transport: Any
    request: Request | None = None
    settings: SiteSettings
    _state = _IDLE
    _buffer = b""
    _scanned = 0
    _body: Body
    _is_reading_requests = False
    _is_paused = False
    _unsent = 0
    _lingered = 0

    def __init__(self, site: Site) -> None:
        self.site = site
        self.factory = site

    def connectionMade(self) -> None:
        """A client has come."""
        site = self.site
        self.settings = site.settings
        address = self.transport.getPeer()
        host = address.host if isinstance(address, (IPv4Address, IPv6Address)) else ""
        self.peer = site.peer_at(host, secure=self.isSecure())
        site.channels.add(self)
        if site.gate is None or site.gate.enter(self):
            site.deadlines.set(self, self.settings.timeouts.header)

    def _take_settings(self) -> None:
        """Serve the next request with the settings as they are now; they stay until it is over."""
        self.settings = self.site.settings
        self.peer = self.site.peer_at(self.peer.address.decode("ascii"), secure=self.peer.secure)

    # Reading.

    def dataReceived(self, data: bytes) -> None:
        """Take what the client sent."""
        state = self._state
        if state is _IDLE:
            self._read_requests(data)
        elif state is _BODY:
            self._read_body(data)
        elif state is _HEAD:
            data = self._buffer + data
            self._buffer = b""  # from now on what comes behind this head, and nothing of the head itself
            self._read_requests(data)
        elif state is _ANSWERING:
            # The next request, before its turn: not one byte more of it is read, but the client's end is noticed.
            self._buffer += data
            self._pause()
        elif state is _LINGERING:
            self._lingered += len(data)
            if self._lingered > _LINGER_BYTES:
                self.transport.abortConnection()

    def splice_target(self) -> tuple[DataPathTransport, int] | None:
        """The upstream, for what is left of a body that goes there as it is."""
        request = self.request
        if self._state is not _BODY or request is None or request.sink is None or request.outlet is None:
            return None
        return request.outlet, self._body.passable

    def data_spliced(self, count: int, rest: bytes) -> None:
        """A piece of the body has gone to the upstream, but the `rest` of the piece."""
        self._body.skip(count)
        self._read_body(rest, spliced=count)

    def _read_requests(self, data: bytes) -> None:
        """Serve the requests in `data` as far as they are complete and their turn has come."""
        site = self.site
        transport = self.transport
        served = 0
        self._is_reading_requests = True
        try:
            while True:
                if self.settings is not site.settings:
                    self._take_settings()
                if data[:2] == CRLF and (empty := _EMPTY_LINES.match(data)):  # RFC 9112 §2.2
                    data = data[empty.end() :]
                if not data:
                    break
                if transport.unsent:
                    self._await_taker(data)
                    return
                if served == _REQUESTS_A_TURN:
                    self._yield_turn(data)
                    return
                reader = self.settings.reader
                end = data.find(END_OF_HEAD, self._scanned)
                if end < 0 or end > reader.max_head:
                    self._keep_head(data)
                    return
                self._scanned = 0
                try:
                    head = reader.read(data[:end])
                    self._start(head, data[end + 4 :])
                except RequestError as error:
                    self._refuse(error, data)
                    return
                if self._state is not _IDLE:
                    return
                served += 1
                data = self._buffer
                self._buffer = b""
        finally:
            self._is_reading_requests = False
        self._buffer = b""
        self._scanned = 0
        self._state = _IDLE
        if served:
            self._wait_for_request()

    def _keep_head(self, data: bytes) -> None:
        """Wait for the rest of a head, unless it cannot become one."""
        limits = self.settings.reader.limits
        line_end = data.find(CRLF, 0, limits.request_line + 2)
        if line_end < 0 and len(data) > limits.request_line:
            self._refuse(limits.long_line(), data)
        elif len(data) > limits.head:
            self._refuse(RequestError(431, "the head is longer than limits.headers"), data)
        elif _HOPELESS.search(data, self._scanned):
            self._refuse(RequestError(400, "there is a control character, a bare CR or a bare LF in the head"), data)
        else:
            self._buffer = data
            self._scanned = max(0, len(data) - 3)
            if self._state is not _HEAD:
                self._state = _HEAD
                self._unsent = 0
                self.site.deadlines.set(self, self.settings.timeouts.header)
            self._resume()

    def _yield_turn(self, data: bytes) -> None:
        self._buffer = data
        self._state = _ANSWERING
        self._pause()
        self.site.call_later(0, self._take_turn)

    def _await_taker(self, data: bytes) -> None:
        """The last answer is not taken yet: the next request waits until it is, or answers would pile up."""
        self._buffer = data
        self._state = _ANSWERING
        self._pause()
        self.stalled()
        self.transport.registerProducer(_Backlog(self), False)

    def answers_taken(self) -> None:
        """Everything that was sent has been taken."""
        self.transport.unregisterProducer()
        self.site.call_later(0, self._take_turn)

    def _take_turn(self) -> None:
        if self._state is _ANSWERING:
            self._state = _IDLE
            data, self._buffer = self._buffer, b""
            self._read_requests(data)

    def _wait_for_request(self) -> None:
        """The last answer is on its way; empty lines do not bring us here again."""
        self._unsent = 0
        self.site.deadlines.set(self, self.settings.timeouts.keep_alive)
        if self._is_paused:
            self._resume()

    def _start(self, head: RequestHead, rest: bytes) -> None:
        """Hand a request over."""
        client_idle = self.settings.timeouts.client_idle
        if client_idle:
            self.site.deadlines.set(self, client_idle)
        else:
            self.deadline = None
        request = Request(self, head)
        if not head.body:
            request.body_complete = True
            self._state = _ANSWERING
            if rest:
                self._buffer = rest
                self._pause()
        else:
            self._start_body(request, rest)
        self.request = request
        self.site.serve(request)
        if self._state is _BODY and request.sink is None:
            self._pause()

    def _start_body(self, request: Request, rest: bytes) -> None:
        limits = self.settings.limits
        length = request.head.body
        if limits.body and length > limits.body:
            raise RequestError(413, "the body is longer than limits.body")
        self._body = body = Body(length, limits.chunk_line, limits.trailers)
        try:
            request.body_start = body.feed(rest) if rest else b""
        except FramingError as error:
            raise RequestError(400, str(error)) from None
        if limits.body and body.received > limits.body:
            raise RequestError(413, "the body is longer than limits.body")
        request.body_received = body.received
        if body.complete:
            request.body_complete = True
            self._state = _ANSWERING
            self._buffer, body.rest = body.rest, b""
            if self._buffer:
                self._pause()
        else:
            self._state = _BODY
            self.transport.read_size = LARGE_READ

    def _read_body(self, data: bytes, *, spliced: int = 0) -> None:
        """Pass more of the body on, of which `spliced` bytes have gone already."""
        request = self.request
        assert request is not None  # noqa: S101  # for mypy; there is one in this state
        body = self._body
        limit = self.settings.limits.body
        try:
            data = body.feed(data)
            if limit and body.received > limit:
                raise RequestError(413, "the body is longer than limits.body")
        except FramingError as error:
            self._fail_body(RequestError(400, str(error)))
            return
        except RequestError as error:
            self._fail_body(error)
            return
        request.body_received = body.received
        if body.complete:
            request.body_complete = True
            self._state = _ANSWERING
            self._relax()
            self.transport.read_size = SMALL_READ
            if body.rest:
                self._buffer, body.rest = body.rest, b""
                self._pause()
        else:
            self.site.deadlines.set(self, self.settings.progress_seconds)
        if request.sink is None:
            request.body_start += data
        elif data or spliced or body.complete:
            request.sink.body_received(data, complete=body.complete)

    def _fail_body(self, error: RequestError) -> None:
        request = self.request
        if request is not None:
            request.body_failed(error)

    def _refuse(self, error: RequestError, data: bytes = b"") -> None:
        """Answer `data`, which is no request: the connection cannot be trusted after that."""
        self._state = _BODY
        request = self.request = Request(self, self.site.no_head)
        if data[:5] == b"HEAD ":
            request.method = b"HEAD"  # the answer has no body, whatever else is wrong
        self.site.refuse(request, error)

    # What requests and their resources ask for.

    def expect_body(self) -> None:
        """Somebody takes the body now: read on, within the limits of time."""
        if self._state is _BODY:
            self.site.deadlines.set(self, self.settings.progress_seconds)
            self._resume()

    def pause_body(self) -> None:
        """Nobody takes more of the body for the moment; that is not the client's fault."""
        if self._state is _BODY:
            self._relax()
            self._pause()

    def take_early(self) -> bytes:
        """What the client sent behind a handshake; the transport belongs to the caller from now on."""
        early, self._buffer = self._buffer, b""
        self._state = _TAKEN
        self.request = None
        self.site.deadlines.forget(self)
        self.site.channels.discard(self)
        return early

    def write(self, data: bytes) -> None:
        """Send a part of a response."""
        self.transport.write(data)
        client_idle = self.settings.timeouts.client_idle
        if client_idle:
            self._unsent = self.transport.unsent
            self.site.deadlines.set(self, client_idle)

    def stalled(self) -> None:
        """The client does not take what is sent: it has `progress_seconds` to take some."""
        self._unsent = self.transport.unsent
        self.site.deadlines.set(self, self.settings.progress_seconds)

    def flowing(self) -> None:
        """The client has taken everything."""
        self._unsent = 0
        self._relax()

    def _relax(self) -> None:
        """Nothing is asked of the client for the moment, but a sign of life if `timeouts.client_idle` wants one."""
        self.site.deadlines.set(self, self.settings.timeouts.client_idle)

    def request_done(self, *, keep_alive: bool) -> None:
        """The response is complete; `keep_alive`: the client was told that the connection stays."""
        self.request = None
        state = self._state
        if state is _BODY:
            self._linger()
        elif not keep_alive or self.site.is_draining:
            self._close()
        elif state is _ANSWERING:
            self._state = _IDLE
            if self._is_reading_requests:
                return
            if self._buffer:
                data, self._buffer = self._buffer, b""
                self._read_requests(data)
            else:
                self._wait_for_request()

    def cut(self, *, reset: bool) -> None:
        """End the connection in the middle of a response; `reset`: without sending what is buffered."""
        self.request = None
        if reset:
            self._state = _CLOSING
            self.transport.abortConnection()
        else:
            self._close()

    def turn_away(self, answer: bytes) -> None:
        """Say why nothing is read from this connection, and close it."""
        self.transport.write(answer)
        self._linger()

    def close_if_idle(self) -> None:
        """No more requests are served; the one that is being served is finished."""
        if self._state in {_IDLE, _HEAD}:
            self._close()

    def _close(self) -> None:
        if self._buffer:
            self._linger()
            return
        self._state = _CLOSING
        self.transport.loseConnection()
        self._unsent = self.transport.unsent
        self.site.deadlines.set(self, self.settings.progress_seconds)

    def _linger(self) -> None:
        self._state = _LINGERING
        self._buffer = b""
        self.transport.watches_peer = False
        self.transport.loseWriteConnection()
        self._resume()
        self._unsent = self.transport.unsent
        self.site.deadlines.set(self, self.settings.progress_seconds if self._unsent else _LINGER_SECONDS)

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self.transport.pauseProducing()

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self.transport.resumeProducing()

    # The end.

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        self._state = _ENDED
        self.site.deadlines.forget(self)
        self.site.channels.discard(self)
        if self.site.gate is not None:
            self.site.gate.leave(self)
        request, self.request = self.request, None
        if request is not None:
            request.client_lost(reason)

    def deadline_passed(self) -> None:
        """The client has made us wait for too long."""
        unsent = self.transport.unsent
        if unsent and unsent < self._unsent:  # slow, but not stuck
            self._unsent = unsent
            self.site.deadlines.set(self, self.settings.progress_seconds)
            return
        state = self._state
        if state is _IDLE and not unsent:
            self._close()
        elif state is _IDLE and not self._unsent:
            self.stalled()  # it has not taken the last answer yet
        elif state is _HEAD and self._scanned:
            self._refuse(RequestError(408, "the head did not come within timeouts.header"))
        elif state is _BODY and self.request is not None and not unsent and not self._must_be_alive:
            self._fail_body(RequestError(408, "the body did not come on within timeouts.body_idle"))
        else:
            self.transport.abortConnection()

    @property
    def _must_be_alive(self) -> bool:
        """Whether silence is told by `timeouts.client_idle`, and answered by the end of the connection."""
        timeouts = self.settings.timeouts
        return 0 < timeouts.client_idle <= (timeouts.body_idle or timeouts.client_idle)

    @property
    def doing(self) -> str:
        """What it is doing, in a word, for a state dump."""
        return self._state.name.lower()

    # What stock requests ask of their channel.

    def isSecure(self) -> bool:
        """Whether the client speaks TLS with us."""
        return getattr(self.transport, "is_secure", False)

    def getPeer(self) -> Any:
        """The address of the client."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """The address that the client connected to."""
        return self.transport.getHost()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Send the head of a response."""
        lines = [b"HTTP/1.1 %b %b" % (code, reason)]
        lines += [b"%b: %b" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
        request = self.request
        if request is not None:
            if request.admission is not None:
                lines += cookie_lines(request.admission)
            if not request.may_keep_alive:
                lines.append(b"Connection: close")
            elif request.head.version == 0:
                lines.append(b"Connection: keep-alive")
        lines.append(CRLF)
        self.write(CRLF.join(lines))

    def writeSequence(self, iovec: Sequence[bytes]) -> None:
        """Send a part of a response."""
        self.write(b"".join(iovec))

    def requestDone(self, request: Request) -> None:
        """The response is complete."""
        self.request_done(keep_alive=request.may_keep_alive and request.is_self_delimited)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """The body is not what its Content-Type says."""
        self._fail_body(RequestError(400, "the form in the body cannot be read"))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let `producer` be paused and resumed by the client's transport."""
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Pause and resume the producer no more."""
        self.transport.unregisterProducer()

    def loseConnection(self) -> None:
        """Close once everything has been sent."""
        self._close()

    def abortConnection(self) -> None:
        """Cut the connection."""
        self.transport.abortConnection()


class _Backlog:
    """The requests that wait in `channel` for the client to take the last answer, as its transport sees them."""

    def __init__(self, channel: HTTPChannel) -> None:
        self._channel = channel

    def resumeProducing(self) -> None:
        """The client has taken everything; the first call, when this is registered, comes before that."""
        if not self._channel.transport.unsent:
            self._channel.answers_taken()

    def stopProducing(self) -> None:
        """The client is gone; its channel is told so."""
