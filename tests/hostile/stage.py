"""One case at a time between a scripted client and a scripted, recording upstream; the proxy stands in the middle.

Both ends are served by one loop, so that what was seen is whole once a case is over.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections import deque

import attrs

from tests.hostile.cases import Case, End, Endless, Step, Wait
from tests.hostile.strict import MalformedError, Request, Response, read_request, read_response

SENTINEL = b"GET /sentinel HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SENTINEL_TARGET = b"/sentinel"


def echo(request: Request) -> bytes:
    """The body with which the upstream answers."""
    return b"saw " + request.method + b" " + request.target


@attrs.define
class Outcome:
    """What was seen of one case."""

    received: bytes = b""  # by the client
    end: str = ""  # how the client's connection ended: "", "closed" or "reset"
    responses: list[Response] = attrs.Factory(list)
    rest: bytes = b""  # of what the client received, behind the last whole response
    requests: list[Request] = attrs.Factory(list)
    streams: list[bytes] = attrs.Factory(list)  # what came on each of the upstream's connections
    partial: list[bytes] = attrs.Factory(list)
    problems: list[str] = attrs.Factory(list)
    tunnelled: bytes = b""  # to the upstream, behind its 101
    sentinel: bool = False


class _End:
    """One end of a connection: a socket, the steps that are still to be done, and bytes that wait to be sent."""

    def __init__(self, stage: Stage, sock: socket.socket, steps: tuple[Step, ...] = ()) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stage = stage
        self._sock = sock
        self.steps = deque(steps)
        self._unsent = b""
        self._endless_left = 0
        self._is_waiting_to_send = False
        self.end = ""
        stage.watch(sock.fileno(), self)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to be sent."""
        return bool(self.end) or not (self.steps or self._unsent)

    def is_met(self, wait: Wait) -> bool:
        """Whether what a step waits for has happened."""
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        """Take what came."""
        raise NotImplementedError

    def ended(self) -> None:
        """The other side has ended it."""

    def wrap(self, data: bytes) -> bytes:
        """What goes over the wire for these bytes."""
        return data

    def unwrap(self, data: bytes) -> bytes:
        """What these bytes from the wire say."""
        return data

    def advance(self) -> None:
        """Do the steps that can be done."""
        while not self.end:
            if self._unsent:
                self._flush()
                if self._unsent:
                    return
            if not self.steps:
                return
            step = self.steps[0]
            if isinstance(step, Wait):
                if not self.is_met(step):
                    return
                self.steps.popleft()
            elif isinstance(step, End):
                self.steps.popleft()
                self._finish(step)
            elif isinstance(step, Endless):
                self._endless_left = (self._endless_left or step.limit) - len(step.piece)
                if self._endless_left <= 0:
                    self._endless_left = 0
                    self.steps.popleft()
                self._unsent = self.wrap(step.piece)
            else:
                self.steps.popleft()
                self._unsent = self.wrap(step)

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._unsent = b""  # the other side has left; how, reading tells
            self.steps.clear()
            return
        self._unsent = self._unsent[sent:]
        if bool(self._unsent) != self._is_waiting_to_send:
            self._is_waiting_to_send = bool(self._unsent)
            self._stage.rewatch(self._sock.fileno(), sends=self._is_waiting_to_send)

    def _finish(self, how: End) -> None:
        if how is End.FINISH:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        elif how is End.RESET:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close("ours")
        else:
            self.close("ours")

    def ready(self) -> None:
        """The socket has something to say."""
        if self.end:
            return
        try:
            data = self._sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            self.close("reset")
            self.ended()
            return
        said = self.unwrap(data)
        if said:
            self.received(said)
        if not data and not self.end:
            self.close("closed")
        if self.end:
            self.ended()

    def close(self, how: str) -> None:
        """End it; `how` says who has."""
        if not self.end:
            self.end = how
            self._stage.forget(self._sock.fileno())
            self._sock.close()


class _Client(_End):
    def __init__(self, stage: Stage, case: Case, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
            self._shake_hands(sock, self._tls)
        super().__init__(stage, sock, case.sends)
        self.data = b""
        self.news = 0

    def _shake_hands(self, sock: socket.socket, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                sock.sendall(self._outgoing.read())
                self._incoming.write(sock.recv(65536))
            else:
                sock.sendall(self._outgoing.read())
                return

    def wrap(self, data: bytes) -> bytes:
        if self._tls is None:
            return data
        self._tls.write(data)
        return self._outgoing.read()

    def unwrap(self, data: bytes) -> bytes:
        if self._tls is None:
            return data
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        said = b""
        try:
            while piece := self._tls.read(1 << 18):
                said += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._say(said, "closed")
        except ssl.SSLError:
            self._say(said, "reset")  # cut without a goodbye
        else:
            self._say(said, "closed")
        return said

    def _say(self, said: bytes, end: str) -> None:
        self.close(end)

    def is_met(self, wait: Wait) -> bool:
        if wait is Wait.REQUEST:
            return self._stage.has_request or self._stage.is_delayed
        if wait is Wait.ANSWER and len(self.data) > self.news:
            self.news = len(self.data)
            return True
        return False

    def received(self, data: bytes) -> None:
        self.data += data

    @property
    def rawness(self) -> int:
        """How much has come."""
        return len(self.data)


class _Connection(_End):
    """A connection that the proxy has made to the upstream; it may serve more than one case."""

    def __init__(self, stage: Stage, sock: socket.socket) -> None:
        super().__init__(stage, sock)
        self._buffer = b""
        self.stream = b""  # of this case
        self.is_tunnel = False
        self._has_answered_early = False
        self._news = 0

    @property
    def rest(self) -> bytes:
        """What has come of a request that is not whole."""
        return self._buffer

    def begin(self) -> None:
        """A case begins."""
        self.stream = b""

    def is_met(self, wait: Wait) -> bool:
        if wait is Wait.END:
            return bool(self._stage.client_end)
        if wait is Wait.ANSWER and self._stage.client_got > self._news:
            self._news = self._stage.client_got
            return True
        return False

    def received(self, data: bytes) -> None:
        self.stream += data
        if self.is_tunnel:
            self._stage.outcome.tunnelled += data
            return
        self._buffer += data
        while self._buffer and not self.is_tunnel and not self.end:
            try:
                found = read_request(self._buffer)
            except MalformedError as error:
                self._stage.outcome.problems.append(f"the upstream got what is no request: {error}")
                self._buffer = b""
                self.close("ours")
                return
            if b"\r\n\r\n" in self._buffer:
                self._stage.has_request = True
            script = self._stage.script
            if found is None:
                if self._stage.early and script and b"\r\n\r\n" in self._buffer and not self._has_answered_early:
                    self._has_answered_early = True
                    self._perform(script)
                return
            request, self._buffer = found
            self._stage.outcome.requests.append(request)
            if self._has_answered_early:
                self._has_answered_early = False
            elif script and request.target != SENTINEL_TARGET:
                self._perform(script)
            else:
                body = echo(request)
                fields = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                self.steps.append(fields + (b"" if request.method == b"HEAD" else body))
            self.advance()
        if self.is_tunnel and self._buffer:
            self._stage.outcome.tunnelled += self._buffer
            self._buffer = b""

    def _perform(self, script: tuple[Step, ...]) -> None:
        self._news = self._stage.client_got
        self.steps.extend(script)
        self.is_tunnel = isinstance(script[0], bytes) and script[0].startswith(b"HTTP/1.1 101")
        self.advance()

    def ended(self) -> None:
        self._stage.connection_ended(self)


class Stage:
    """A recording upstream, and clients of a proxy in front of it; a context manager.

    `patience` is how long a case may take, in seconds. `delay` is for proxies that follow other rules than ours: a
    client waits no longer than that for the upstream to get the beginning of a request (some collect requests first),
    nor for an end behind what it got; an upstream that has said everything closes then. 0: everybody waits.
    """

    def __init__(self, patience: float = 30.0, delay: float = 0.0) -> None:
        self._patience = patience
        self._delay = delay
        self._began = self._last_event = 0.0
        self._poll = select.epoll()
        self._ends: dict[int, _End] = {}
        self._connections: list[_Connection] = []
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(128)
        self._listening.setblocking(False)
        self._poll.register(self._listening.fileno(), select.EPOLLIN)
        self.upstream_port: int = self._listening.getsockname()[1]
        self.script: tuple[Step, ...] = ()
        self.early = False
        self.has_request = False
        self.outcome = Outcome()
        self._client: _Client | None = None

    def close(self) -> None:
        """End everything."""
        for end in tuple(self._ends.values()):
            end.close("ours")
        self._listening.close()
        self._poll.close()

    # What the ends ask for.

    @property
    def client_got(self) -> int:
        """How many bytes the client has received."""
        return 0 if self._client is None else len(self._client.data)

    @property
    def is_delayed(self) -> bool:
        """Whether the upstream has been waited for long enough."""
        return bool(self._delay) and time.monotonic() - self._began >= self._delay

    @property
    def client_end(self) -> str:
        """How the client's connection has ended."""
        return "" if self._client is None else self._client.end

    def watch(self, number: int, end: _End) -> None:
        """Tell `end` when something comes."""
        self._ends[number] = end
        self._poll.register(number, select.EPOLLIN)

    def rewatch(self, number: int, *, sends: bool) -> None:
        """Tell its end as well when there is room, or no more."""
        self._poll.modify(number, select.EPOLLIN | (select.EPOLLOUT if sends else 0))

    def forget(self, number: int) -> None:
        """Tell its end nothing more."""
        if self._ends.pop(number, None) is not None:
            self._poll.unregister(number)

    def connection_ended(self, connection: _Connection) -> None:
        """The proxy, or a script, has ended a connection of the upstream."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._keep(connection)

    def _keep(self, connection: _Connection) -> None:
        if connection.stream:
            self.outcome.streams.append(connection.stream)
        if connection.rest:
            self.outcome.partial.append(connection.rest)

    # Cases.

    def play(self, case: Case, port: int, context: ssl.SSLContext | None = None) -> Outcome:
        """Play a case with the proxy on `port`, over TLS if there is a `context`."""
        outcome = self.outcome = Outcome()
        self.script, self.early, self.has_request = case.script, case.early, False
        for connection in self._connections:
            connection.begin()
        sock = socket.create_connection(("127.0.0.1", port), self._patience)
        client = self._client = _Client(self, case, sock, context)
        self._began = self._last_event = time.monotonic()
        deadline = self._began + self._patience
        client.advance()
        while not self._is_over(case, client):
            if not self._turn(deadline):
                outcome.problems.append("the client waits in vain")
                break
            if self._delay and self._is_quiet(client) and not self._end_upstreams():
                self._read(case, client)
                if outcome.problems or any(each.is_complete and each.status >= 200 for each in outcome.responses):
                    break
        self._read(case, client)
        outcome.end = client.end
        client.close("ours")
        self._settle(outcome, deadline)
        for connection in self._connections:
            self._keep(connection)
        return outcome

    def _turn(self, deadline: float) -> bool:
        """Serve whoever has something; False if nobody had until `deadline`."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        ready = self._poll.poll(max(min(left, self._delay or left), 0))
        if not ready and left <= (self._delay or left):
            return False
        if ready:
            self._last_event = time.monotonic()
        for number, events in ready:
            if number == self._listening.fileno():
                self._accept()
                continue
            end = self._ends.get(number)
            if end is None:
                continue
            if events & ~select.EPOLLOUT:
                end.ready()
            if events & select.EPOLLOUT:
                end.advance()
        if self._client is not None:
            self._client.advance()
        for connection in tuple(self._connections):
            connection.advance()
            if connection.end:
                self.connection_ended(connection)
        return True

    def _is_quiet(self, client: _Client) -> bool:
        """Whether nobody has said anything for a while, though the client has said everything."""
        return client.is_idle and time.monotonic() - self._last_event >= self._delay

    def _end_upstreams(self) -> bool:
        """End the connections of an upstream that has followed its script to the end; False if there are none."""
        ended = [each for each in self._connections if self.script and each.is_idle and each.stream]
        for connection in ended:
            connection.close("ours")
            self.connection_ended(connection)
        if ended:
            self._last_event = time.monotonic()
        return bool(ended)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listening.accept()
                self._connections.append(_Connection(self, sock))

    def _is_over(self, case: Case, client: _Client) -> bool:
        if client.end:
            return True
        if not client.is_idle or case.closes or case.tunnel is not None:
            return False
        if not self.outcome.sentinel:
            self._read(case, client)
            whole = [each for each in self.outcome.responses if each.is_complete and each.status >= 200]
            if len(whole) >= len(case.statuses):
                self.outcome.sentinel = True
                client.steps.append(SENTINEL)
                client.advance()
        return False

    def _read(self, case: Case, client: _Client) -> None:
        """Read what the client has received as responses."""
        outcome = self.outcome
        outcome.received = data = client.data
        outcome.responses = []
        methods = [*case.methods]
        while data:
            method = methods[0] if methods else b"GET"
            try:
                found = read_response(data, method, at_end=client.end == "closed")
            except MalformedError as error:
                problem = f"the client got what is no response: {error}"
                if problem not in outcome.problems:
                    outcome.problems.append(problem)
                data = b""
                break
            if found is None:
                break
            response, data = found
            outcome.responses.append(response)
            if response.status == 101:
                break
            if response.status >= 200 and methods:
                del methods[0]
        outcome.rest = data

    def _settle(self, outcome: Outcome, deadline: float) -> None:
        """Wait until no request is half way to the upstream."""
        while True:
            if not any(each.rest or each.is_tunnel for each in self._connections):
                # What the proxy may have begun before the client saw the end.
                while self._poll.poll(0) and self._turn(deadline):
                    pass
                if not any(each.rest or each.is_tunnel for each in self._connections):
                    return
            if not self._turn(deadline):
                outcome.problems.append("a request stays half way to the upstream")
                for connection in tuple(self._connections):
                    if connection.rest or connection.is_tunnel:
                        connection.close("ours")
                        self.connection_ended(connection)
                return
