"""Readiness: asking a server that was started until it answers, or time is up."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet import protocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from proxyd.model.servers import Place, ServerSpec
from proxyd.supervisor.waiting import Clock, sleep

# There are no endpoints here: to import those takes the variables away by which systemd tells of its sockets.
_NEVER = 3600  # seconds; the time is up when the question is cancelled
_FIRST_PAUSE = 0.01  # seconds; doubled after each question
_LONGEST_PAUSE = 1.0
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})(?: [^\n]*)?\r?\n")
_MAX_STATUS_LINE = 8 * 1024
# The rest of the response is taken for so long, and so much of it: programs that are cut off while they send print
# pages of tracebacks, which people would see in the log of every start.
_REST_SECONDS = 0.25
_MAX_REST = 1024 * 1024


async def wait_until_ready(reactor: Any, clock: Clock, place: Place, spec: ServerSpec, seconds: float) -> bool:
    """Ask until the server at `place` answers; False when it has not within `seconds`. A cancel ends everything."""
    deadline = clock.seconds() + seconds
    pause = _FIRST_PAUSE
    while (left := deadline - clock.seconds()) > 0:
        await sleep(clock, min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)
        if await _ask_once(reactor, clock, place, spec, deadline - clock.seconds()):
            return True
    return False


async def _ask_once(reactor: Any, clock: Clock, place: Place, spec: ServerSpec, seconds: float) -> bool:
    """Whether it is ready; a single question does not outlive `seconds` either."""
    asked = Deferred.fromCoroutine(_ask(reactor, place, spec))
    limit = clock.callLater(max(0.0, seconds), asked.cancel)
    is_own_end = False

    def done(result: Any) -> Any:
        nonlocal is_own_end
        is_own_end = not limit.active()
        if limit.active():
            limit.cancel()
        return result

    asked.addBoth(done)
    try:
        return await asked
    except CancelledError:
        if is_own_end:
            return False
        raise


async def _ask(reactor: Any, place: Place, spec: ServerSpec) -> bool:
    for host in ("",) if place.socket else ("127.0.0.1", "::1"):
        question = _Question(reactor, place, spec)
        asking = _Asking(question)
        if place.socket:
            asking.connector = reactor.connectUNIX(place.socket, asking, timeout=_NEVER)
        else:
            asking.connector = reactor.connectTCP(host, place.port, asking, timeout=_NEVER)
        try:
            status = await question.status
        except CancelledError:
            asking.connector.disconnect()
            raise
        if status and (spec.raw_socket_proxy or spec.ready.statuses == "any" or status in spec.ready.statuses):
            return True
    return False


class _Question(protocol.Protocol):
    """One request; `status` fires with the status of the response, 0 for what is none, when the rest has had its time.

    To accept is an answer of a bare server, as good as any.
    """

    transport: Any

    def __init__(self, reactor: Any, place: Place, spec: ServerSpec) -> None:
        self._reactor = reactor
        self._place = place
        self._spec = spec
        self._data = b""
        self._answered = 0
        self._rest = _MAX_REST
        self._limit: Any = None
        self.status: Deferred[int] = Deferred()

    def connectionMade(self) -> None:
        """Ask, unless to be there is the answer."""
        if self._spec.raw_socket_proxy:
            self._end(200)
            return
        host = self._place.upstream.authority.decode("ascii")
        head = f"GET {self._spec.ready.path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        self.transport.write(head.encode("ascii"))

    def dataReceived(self, data: bytes) -> None:
        """Wait for a whole status line, and for the end of what is behind it."""
        if self._answered:
            self._rest -= len(data)
            if self._rest < 0:
                self._end(self._answered)
            return
        self._data += data
        match = _STATUS_LINE.match(self._data)
        if match is not None and not match[1].startswith(b"1"):
            self._answered = int(match[1])
            self._limit = self._reactor.callLater(_REST_SECONDS, self._end, self._answered)
        elif match is not None and b"\n\r\n" in self._data:  # the final response comes behind the interim one
            rest, self._data = self._data.partition(b"\n\r\n")[2], b""
            self.dataReceived(rest)
        elif len(self._data) > _MAX_STATUS_LINE:
            self._end(0)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Whatever has not come will not come."""
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._tell(self._answered)

    def fail(self) -> None:
        """There is no answer."""
        self._tell(0)

    def _end(self, status: int) -> None:
        self.transport.abortConnection()
        self._tell(status)

    def _tell(self, status: int) -> None:
        if not self.status.called:
            self.status.callback(status)


class _Asking(protocol.ClientFactory):
    """Connects for one question."""

    noisy = False
    connector: Any = None

    def __init__(self, question: _Question) -> None:
        self._question = question

    def buildProtocol(self, addr: Any) -> _Question:
        """The connection is there."""
        return self._question

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """There is nobody."""
        self._question.fail()
