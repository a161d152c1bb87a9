"""The link between the controller and a worker: messages of any size, in their order, over AMP.

An AMP value ends at 65,535 bytes: what is sent in one turn of the reactor travels together, in pieces. Each piece is
answered, so that only so much is on its way, and whoever sends too fast waits here and not in the kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from proxyd.errors import LinkLostError, LinkRefusedError

# Below the limit of AMP, and a few pages of memory.
PIECE_BYTES = 60_000
# So many pieces may be on their way: 1 MB.
WINDOW = 16
# So many messages travel together: a batch of routes takes some milliseconds at either end.
_MESSAGES_A_BATCH = 250

_ASK, _TELL, _ANSWER, _REFUSE = range(4)

Answerer = Callable[[str, Any], Any]
"""Takes the name and the content of a message; what it returns, or its Deferred fires with, is the answer."""


class Piece(amp.Command):
    """A piece of a batch of messages; `is_last` ends the batch."""

    arguments = [(b"data", amp.String()), (b"is_last", amp.Boolean())]  # noqa: RUF012  # amp.Command asks for a list


class Link(amp.AMP):
    """One end of the link. `encode` and `decode` are for lists of messages; `take` gets each message that comes.

    `lost` is called once, when there will be no more. `clock` has `callLater`.
    """

    _log = Logger()
    noisy = False

    def __init__(
        self,
        take: Answerer,
        lost: Callable[[], None],
        clock: Any,
        *,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
    ) -> None:
        super().__init__()
        self._take_message = take
        self._lost = lost
        self._clock = clock
        self._encode = encode
        self._decode = decode
        self._waiting: deque[tuple[int, int, str, Any]] = deque()
        self._pieces: deque[tuple[bytes, bool]] = deque()
        self._under_way = 0
        self._flush_call: Any = None
        self._received: list[bytes] = []
        self._asked: dict[int, Deferred[Any]] = {}
        self._last_number = 0
        self.is_lost = False
        self.heard = 0
        """How often something has come from the other end."""

    @property
    def backlog(self) -> int:
        """How many messages have not been sent yet."""
        return len(self._waiting)

    # Sending.

    def tell(self, name: str, content: Any = None) -> None:
        """Send a message that nobody answers; what cannot be sent any more is dropped."""
        self._send(_TELL, 0, name, content)

    def ask(self, name: str, content: Any = None) -> Deferred[Any]:
        """Send a message, and wait for the answer. Fails with `LinkLostError`, or `LinkRefusedError` with its words."""
        if self.is_lost:
            return fail(LinkLostError())
        self._last_number += 1
        answer: Deferred[Any] = Deferred()
        self._asked[self._last_number] = answer
        self._send(_ASK, self._last_number, name, content)
        return answer

    def _send(self, sort: int, number: int, name: str, content: Any) -> None:
        if self.is_lost:
            return
        self._waiting.append((sort, number, name, content))
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        self._send_pieces()

    def _send_pieces(self) -> None:
        while self._under_way < WINDOW and not self.is_lost:
            if not self._pieces:
                if not self._waiting or self.transport is None:
                    return
                self._cut()
            data, is_last = self._pieces.popleft()
            self._under_way += 1
            self.callRemote(Piece, data=data, is_last=is_last).addCallbacks(self._arrived, self._not_arrived)

    def _cut(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MESSAGES_A_BATCH))]
        data = self._encode(batch)
        ends = range(0, len(data), PIECE_BYTES)
        self._pieces.extend((data[start : start + PIECE_BYTES], start == ends[-1]) for start in ends)

    def _arrived(self, _: object) -> None:
        self._under_way -= 1
        self._send_pieces()

    def _not_arrived(self, failure: Failure) -> None:
        self._under_way -= 1
        if not self.is_lost and not failure.check(ConnectionDone):
            self._log.failure("unexpected error on a link", failure=failure)
            self.close()

    # Receiving.

    def makeConnection(self, transport: Any) -> None:
        """Send what has been waiting for the other end."""
        amp.BinaryBoxProtocol.makeConnection(self, transport)  # the one between us and it tells the log
        self._send_pieces()

    def dataReceived(self, data: bytes) -> None:
        """Note that the other end lives."""
        self.heard += 1
        super().dataReceived(data)

    @Piece.responder
    def piece_received(self, data: bytes, is_last: bool) -> dict[str, Any]:  # AMP names it
        """Take the messages, once they are whole."""
        self._received.append(data)
        if is_last:
            received, self._received = b"".join(self._received), []
            for sort, number, name, content in self._decode(received):
                self._message_received(sort, number, name, content)
        return {}

    def _message_received(self, sort: int, number: int, name: str, content: Any) -> None:
        if sort in (_ANSWER, _REFUSE):
            asked = self._asked.pop(number, None)
            if asked is not None and not asked.called:
                asked.callback(content) if sort == _ANSWER else asked.errback(LinkRefusedError(content))
            return
        answer: Deferred[Any] = Deferred()
        answer.addCallback(lambda _: self._take_message(name, content))
        if sort == _ASK:
            answer.addCallback(lambda result: self._send(_ANSWER, number, "", result))
            answer.addErrback(self._refuse, number)
        answer.addErrback(lambda failure: self._log.failure("unexpected error in a message", failure=failure))
        answer.callback(None)

    def _refuse(self, failure: Failure, number: int) -> None:
        error = failure.value
        if isinstance(error, LinkRefusedError):
            self._send(_REFUSE, number, "", error.facts)
        else:
            self._log.failure("unexpected error in an answer", failure=failure)
            self._send(_REFUSE, number, "", None)

    # The end.

    def close(self) -> None:
        """Say no more."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
        self._end()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # always with a reason
        """The other end is gone."""
        self._end()
        amp.BinaryBoxProtocol.connectionLost(self, reason)  # the one between us and it tells the log
        self.transport = None

    def _end(self) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        self._waiting.clear()
        self._pieces.clear()
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            if not answer.called:
                answer.errback(LinkLostError())
        self._lost()
