"""A connection to an upstream: sends one request at a time and reads its response.

Owns the wire of the upstream's side. What a response means for the client is up to the receiver.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from proxyd.core.framing import Body, FramingError, response_length
from proxyd.core.head import END_OF_HEAD, UNTIL_CLOSE, MalformedHeadError, ResponseHead
from proxyd.errors import ConnectionCutError, MalformedResponseError, ResponseTimeoutError, UpstreamError
from proxyd.net.deadlines import NEVER
from proxyd.net.tcp import LARGE_READ, SMALL_READ, DataPathTransport, SplicingProtocol

if TYPE_CHECKING:
    from proxyd.model.settings import Limits
    from proxyd.upstream.pools import UpstreamPool


# With such a line the end of a head would be waited for in vain.
_BARE_LF = re.compile(rb"(?<!\r)\n")


class ResponseReceiver(Protocol):
    """Takes the response to one request, in this order; nothing comes after the end or a failure.

    What a method raises is a mistake of ours: it comes back as `taking_failed`, so that nobody waits for ever.
    """

    def interim_received(self, head: ResponseHead) -> None:
        """A 1xx response came; the real one is still to come."""

    def response_started(self, head: ResponseHead, length: int, data: bytes, *, complete: bool) -> None:
        """The head came, with the first `data` of a body of `length`; `complete`: that was all."""

    def response_continued(self, data: bytes, *, complete: bool) -> None:
        """More of the body came; `complete`: that was all."""

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """A 101 came, and `data` behind it. The connection is the receiver's from now on."""

    def response_failed(self, error: UpstreamError, *, answered: bool) -> None:
        """There will be no (more) response; `answered`: some of it had come. The connection is gone."""

    def taking_failed(self, failure: Failure) -> None:
        """One of the others has raised; the connection is gone, whoever had it by then."""


class Outlet(Protocol):
    """Where the body of a response goes as it is."""

    @property
    def transport(self) -> DataPathTransport:
        """The client's."""

    def spliced(self, count: int) -> None:
        """So many bytes of it have gone there, past the receiver."""


class _State(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ENDED = auto()


# By names of their own: to look a member up in its class takes longer than a call.
_IDLE, _HEAD, _BODY, _ENDED = _State


class UpstreamConnection(SplicingProtocol):
    """One connection of `pool`. As a producer it is paused by the client's transport.

    A receiver that sends a body on as it is says so by an `outlet`, until the response is over.
    """

    deadline: float | None = None
    looked_at = NEVER
    served = 0  # requests answered so far; 0: the connection is fresh

    transport: Any
    outlet: Outlet | None = None
    _state = _IDLE
    _receiver: ResponseReceiver
    _limits: Limits
    _method = b""
    _buffer = b""
    _body: Body
    _interim = 0
    _keep_alive = False
    _is_in_one_piece = False  # the request, so that it has either left or not
    is_reusable = False  # whether another request may be sent now: the response is complete, and more may follow
    _is_paused = False
    _response_seconds = 0.0
    _idle_seconds = 0.0

    def __init__(self, pool: UpstreamPool, when_made: Callable[[UpstreamConnection], None]) -> None:
        self.pool = pool
        self._when_made = when_made

    # Requests.

    def begin(
        self,
        receiver: ResponseReceiver,
        method: bytes,
        data: bytes,
        complete: bool,
        response_seconds: float,
        idle_seconds: float,
    ) -> None:
        """Send a request whose head, and first piece of the body, is `data`.

        `complete`: there is no more of it, so the upstream has `response_seconds` to begin its response; after
        that it may be silent for `idle_seconds` (0: for ever). Otherwise the time runs from `request_complete`.
        """
        pool = self.pool
        self._state = _HEAD
        self.is_reusable = False
        self._is_in_one_piece = complete
        self._receiver = receiver
        self._limits = pool.limits
        self._method = method
        if self._interim:
            self._interim = 0
        self._response_seconds = response_seconds
        self._idle_seconds = idle_seconds
        if complete:
            pool.deadlines.set(self, response_seconds)
        else:
            self.deadline = None
        self.transport.write(data)

    def write(self, data: bytes) -> None:
        """Send more of the request's body."""
        self.transport.write(data)

    def request_complete(self) -> None:
        """The body has been sent: it is the upstream's turn."""
        if self._state is _HEAD:
            self.pool.deadlines.set(self, self._response_seconds)

    def await_room(self) -> None:
        """The upstream does not take the body: its time runs until it does."""
        if self._state is _HEAD:
            self.pool.deadlines.set(self, self._response_seconds)

    def room_made(self) -> None:
        """The upstream takes the body again."""
        if self._state is _HEAD:
            self.pool.deadlines.clear(self)

    def is_stale(self) -> bool:
        """Whether the upstream has closed the idle connection, or sent something, and we have not read that yet."""
        return not self.transport.is_quiet()

    def close(self) -> None:
        """End the connection without a word to the receiver."""
        if self._state is not _ENDED:
            self._end()
            self.transport.abortConnection()

    def leave(self) -> None:
        """End a connection on which nothing is under way; programs complain of one that is cut."""
        if self._state is not _ENDED:
            self._end()
            self.transport.loseConnection()

    def detach(self) -> None:
        """Hand the transport over to another protocol."""
        self._end()

    def _end(self) -> None:
        self._state = _ENDED
        self.is_reusable = False
        self.pool.deadlines.forget(self)
        self.pool.ended(self)

    # The wire.

    def connectionMade(self) -> None:
        """The upstream accepted."""
        self._when_made(self)
        del self._when_made

    def dataReceived(self, data: bytes) -> None:
        """Read on."""
        state = self._state
        try:
            if state is _BODY:
                self._read_body(data)
            elif state is _HEAD:
                if self._is_in_one_piece and self.transport.held_back and self.served:
                    self._refuse_request()
                else:
                    self._read_head(self._buffer + data if self._buffer else data)
            elif state is _IDLE:
                self.close()  # nobody asked: a late answer to something else, or a farewell such as 408
            if self._state is _IDLE:
                del self._receiver  # or it and its request would be kept until somebody needs the connection
        except Exception:  # noqa: BLE001  # a client waits for what comes of it
            self._give_up()

    def _refuse_request(self) -> None:
        """Something has come before the request has left: nobody asked for that, and it answers nothing."""
        self.transport.held_back = b""
        receiver = self._receiver
        self.close()
        receiver.response_failed(ConnectionCutError(self._name), answered=False)

    def splice_target(self) -> tuple[DataPathTransport, int] | None:
        """The client, for what is left of the body, if it has an outlet."""
        if self.outlet is None or self._state is not _BODY:
            return None
        return self.outlet.transport, self._body.passable

    def data_spliced(self, count: int, rest: bytes) -> None:
        """A piece of the body has gone to the client, but the `rest` of the piece."""
        try:
            if self.outlet is not None:
                self.outlet.spliced(count)
            self._body.skip(count)
            self._read_body(rest, spliced=count)
            if self._state is _IDLE:
                del self._receiver
        except Exception:  # noqa: BLE001  # a client waits for what comes of it
            self._give_up()

    def _give_up(self) -> None:
        """The receiver has raised."""
        failure = Failure()
        receiver = self._receiver
        self.close()
        self.transport.abortConnection()  # also if it was the receiver's by then
        receiver.taking_failed(failure)

    def _read_head(self, data: bytes) -> None:
        while True:
            end = data.find(END_OF_HEAD)
            limits = self._limits
            if end < 0 or end > limits.headers:
                if len(data) > limits.headers:
                    self._fail(MalformedResponseError(self._name, "the head is longer than limits.headers"))
                elif data[:4] != b"HTTP"[: len(data)]:
                    self._fail(MalformedResponseError(self._name, "this is not HTTP/1.x"))
                elif _BARE_LF.search(data):
                    self._fail(MalformedResponseError(self._name, "a line of the head ends in a bare LF"))
                else:
                    self._buffer = data
                    self._is_heard()
                return
            if self._buffer:
                self._buffer = b""
            try:
                head = self.pool.reader.read(data[:end])
            except MalformedHeadError as error:
                self._fail(MalformedResponseError(self._name, str(error)))
                return
            data = data[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101:
                receiver = self._receiver
                self.pool.deadlines.clear(self)
                receiver.switched(head, data)
                return
            self._interim += 1
            if self._interim > limits.interim_responses:
                self._fail(MalformedResponseError(self._name, "more 1xx responses than limits.interim_responses"))
                return
            self._is_heard()
            self._receiver.interim_received(head)
            if self._state is not _HEAD or not data:
                return

        length = response_length(head, self._method)
        self._keep_alive = head.keep_alive and length != UNTIL_CLOSE
        receiver = self._receiver
        if length == len(data):  # all of it, and nothing behind it
            self._response_ended()
            receiver.response_started(head, length, data, complete=True)
            return
        self._body = body = Body(length, limits.chunk_line, limits.trailers)
        try:
            data = body.feed(data)
        except FramingError as error:
            self._fail(MalformedResponseError(self._name, str(error)))
            return
        if body.complete:
            self._response_ended(body.rest)
            receiver.response_started(head, length, data, complete=True)
            return
        self._state = _BODY
        self.pool.deadlines.set(self, self._idle_seconds)
        self.transport.read_size = LARGE_READ
        receiver.response_started(head, length, data, complete=False)

    def _is_heard(self) -> None:
        """The upstream is not silent before its response: its time runs anew, if it runs."""
        if self.deadline is not None:
            self.pool.deadlines.set(self, self._response_seconds)

    def _read_body(self, data: bytes, *, spliced: int = 0) -> None:
        """Pass more of the body on, of which `spliced` bytes have gone already."""
        body = self._body
        try:
            data = body.feed(data)
        except FramingError as error:
            self._fail(MalformedResponseError(self._name, str(error)))
            return
        if body.complete:
            self._response_ended(body.rest)
            self._receiver.response_continued(data, complete=True)
        elif data or spliced:
            if self._idle_seconds and not self._is_paused:
                self.pool.deadlines.set(self, self._idle_seconds)
            if data:
                self._receiver.response_continued(data, complete=False)

    def _response_ended(self, rest: bytes = b"") -> None:
        if self._state is _BODY:
            self.transport.read_size = SMALL_READ
            self.outlet = None
        self._state = _IDLE
        self.served += 1
        self.deadline = None
        self.is_reusable = self._keep_alive and not rest

    def _fail(self, error: UpstreamError) -> None:
        answered = self._state is _BODY or self._has_answered
        receiver = self._receiver
        self.close()
        receiver.response_failed(error, answered=answered)

    @property
    def _has_answered(self) -> bool:
        """Whether anything of a response has come, an interim one included: the request has been taken."""
        return bool(self._buffer) or self._interim > 0

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The upstream ended the connection."""
        state = self._state
        if state is _ENDED:
            return
        self._end()
        try:
            if state is _HEAD:
                self._receiver.response_failed(ConnectionCutError(self._name), answered=self._has_answered)
            elif state is _BODY:
                if self._body.lasts_until_close and reason.check(ConnectionDone):
                    self._receiver.response_continued(b"", complete=True)
                else:
                    self._receiver.response_failed(ConnectionCutError(self._name), answered=True)
        except Exception:  # noqa: BLE001  # a client waits for what comes of it
            self._give_up()

    def deadline_passed(self) -> None:
        """The upstream has been silent for too long, or idle for long enough."""
        if self._state is _IDLE:
            self.leave()
            return
        try:
            self._fail(ResponseTimeoutError(self._name))
        except Exception:  # noqa: BLE001  # a client waits for what comes of it
            self._give_up()

    @property
    def _name(self) -> str:
        return str(self.pool.upstream)

    # Paused and resumed by the client's transport.

    def pauseProducing(self) -> None:
        """The client does not keep up: its slowness is not the upstream's.

        It has nothing to do any more with a connection whose response has been read to its end.
        """
        if self._state is _IDLE:
            return
        self._is_paused = True
        self.pool.deadlines.clear(self)
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The client takes more."""
        self._is_paused = False
        if self._state is _BODY:
            self.pool.deadlines.set(self, self._idle_seconds)
        if self._state is not _ENDED:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The client is gone; whoever registered this producer is told so by its channel."""
