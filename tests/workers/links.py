"""Both ends of a link in memory, for the tests of what talks over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from proxyd.workers.link import Link
from proxyd.workers.messages import controllers_end, workers_end


class _Wire:
    """One direction of a connection; `sizes` are those of all writes."""

    def __init__(self) -> None:
        self.data = b""
        self.is_cut = False
        self.sizes: list[int] = []

    def write(self, data: bytes) -> None:
        self.data += data
        self.sizes.append(len(data))

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def abortConnection(self) -> None:
        self.is_cut = True

    loseConnection = abortConnection

    def getPeer(self) -> None:
        return None

    getHost = getPeer


class Links:
    """The ends of the controller and of a worker, with what they were told: `controller_heard` and `worker_heard`.

    `answers` are what each end answers, by the name of the message: a value, or a function of the content.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.controller_heard: list[tuple[str, Any]] = []
        self.worker_heard: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.lost: list[str] = []
        self.controller = controllers_end(
            self._take(self.controller_heard), lambda: self.lost.append("controller"), self.clock
        )
        self.worker = workers_end(self._take(self.worker_heard), lambda: self.lost.append("worker"), self.clock)
        self.to_worker, self.to_controller = _Wire(), _Wire()

    def _take(self, heard: list[tuple[str, Any]]) -> Callable[[str, Any], Any]:
        def take(name: str, content: Any) -> Any:
            heard.append((name, content))
            answer = self.answers.get(name)
            return answer(content) if callable(answer) else answer

        return take

    def connect(self) -> Links:
        """Join the ends."""
        self.controller.makeConnection(self.to_worker)
        self.worker.makeConnection(self.to_controller)
        return self

    def pump(self) -> None:
        """Let everything arrive, and turn the reactor, until nothing happens any more."""
        while True:
            self.clock.advance(0)
            moved = self.carry(self.to_worker, self.worker) + self.carry(self.to_controller, self.controller)
            if not moved and not any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                return

    def carry(self, wire: _Wire, end: Link) -> int:
        """Let what is on a wire arrive at an end; how much it was."""
        data, wire.data = wire.data, b""
        if data and not end.is_lost:
            end.dataReceived(data)
        return len(data)

    def cut(self) -> None:
        """The connection is lost."""
        for end in (self.controller, self.worker):
            end.connectionLost(Failure(ConnectionLost()))
