"""The workers of a controller: started, asked, replaced when they end or do not answer, and ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.respawn import Respawn
from proxyd.errors import LinkError, LinkRefusedError, WorkerError
from proxyd.workers.link import Link
from proxyd.workers.messages import Boot, controllers_end
from proxyd.workers.process import Handle, Spawn

# So often is looked whether anything was heard of a worker; a controller that stands still blames nobody for it.
_BEAT_SECONDS = 0.5
# A worker that owes an answer, one that owes nothing, and one that still imports what it needs.
_ANSWER_BEATS = 4
_SILENCE_BEATS = 20
_START_BEATS = 240
# Who owes nothing is asked for a sign of life at every fourth look only.
_QUIET_BEATS = 4
# One that lives, but does not do what it was told.
_ANSWER_SECONDS = 60.0
# Beyond its own patience, for a worker that is to end.
_GRACE_SECONDS = 5.0


class WorkerState(Enum):
    """How a worker is."""

    STARTING = "starting"
    SERVING = "serving"
    WAITING = "waiting"
    """To be started again."""
    ENDING = "ending"
    GONE = "gone"


class Desk(Protocol):
    """What a worker is given, and asks for, while it lives."""

    def joined(self, number: int, link: Link) -> None:
        """A worker can be told everything from now on."""

    def message(self, number: int, name: str, content: Any) -> Any:
        """A worker says or asks something; the answer, or a Deferred of it."""

    def left(self, number: int) -> None:
        """A worker is no more."""


class Workers:
    """`count` workers, each started by `spawn` with what `make_boot` gives it, and attended by `desk`.

    `join` sends the routes to a link, and calls back. `changed` is told when there are more or fewer that serve.
    `clock` has `callLater` and `seconds`.
    """

    _log = Logger()

    def __init__(
        self,
        count: int,
        spawn: Spawn,
        make_boot: Callable[[int], Boot],
        join: Callable[[Link, Callable[[], None]], None],
        desk: Desk,
        clock: Any,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.spawn = spawn
        self.make_boot = make_boot
        self.join = join
        self.desk = desk
        self.clock = clock
        self.changed = changed
        self.replaced = 0
        """How many workers had to be replaced."""
        self._workers = [Worker(number, self) for number in range(1, count + 1)]
        self._is_ending = False
        self._heart = LoopingCall(self._beat)
        self._heart.clock = clock
        self._started: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def serving(self) -> int:
        """How many serve."""
        return sum(worker.state is WorkerState.SERVING for worker in self._workers)

    @property
    def looping(self) -> int:
        """How many end early again and again."""
        return sum(worker.is_looping for worker in self._workers)

    @property
    def processes(self) -> list[tuple[int, int]]:
        """The number and the process id of each that runs."""
        return [(worker.number, worker.pid) for worker in self._workers if worker.pid]

    def states(self) -> dict[str, int]:
        """How many are in each state."""
        counts = {state.value: 0 for state in WorkerState}
        for worker in self._workers:
            counts[worker.state.value] += 1
        return counts

    def start(self) -> Deferred[None]:
        """Start all; fires once all serve, fails with `WorkerError` if one of them ends before that."""
        started = self._started = Deferred[None]()
        self._heart.start(_BEAT_SECONDS, now=False).addErrback(
            lambda failure: self._log.failure("unexpected error in the watch of the workers", failure=failure)
        )
        for worker in self._workers:
            worker.start()
        return started

    @property
    def is_settling(self) -> bool:
        """Whether the first start goes on."""
        return self._started is not None

    def worker_serves(self) -> None:
        """One more serves."""
        if self._started is not None and self.serving == len(self._workers):
            started, self._started = self._started, None
            started.callback(None)
        self.changed()

    def worker_ended(self, worker: Worker, reason: str) -> None:
        """One has ended."""
        if self._started is not None and not self._is_ending:
            started, self._started = self._started, None
            started.errback(WorkerError(worker.number, reason))
        self.changed()

    # Talking.

    def _members(self) -> Iterator[Worker]:
        return (worker for worker in self._workers if worker.is_member)

    def tell(self, name: str, content: Any = None) -> list[int]:
        """Send a message to everybody who has all routes, or is on the way to them; gives back their numbers."""
        members = list(self._members())
        for worker in members:
            worker.link.tell(name, content)
        return [worker.number for worker in members]

    def settled(self) -> Deferred[None]:
        """Fires when everybody has done what was told before; who does not is replaced. Does not fail."""
        return self.ask("settle").addCallback(lambda _: None)

    def ask(
        self, name: str, content: Any = None, heard: Callable[[int, Any], None] = lambda *_: None
    ) -> Deferred[dict[int, Any]]:
        """The answers of everybody, by number; who does not answer in time is replaced. Does not fail.

        `heard` is called with the number and each answer as it comes, and before its worker can leave.
        """
        answers: dict[int, Any] = {}

        def note(answer: Any, number: int) -> None:
            answers[number] = answer
            heard(number, answer)

        waiting = [
            worker.ask(name, content).addCallback(note, worker.number).addErrback(self._not_answered, worker.number)
            for worker in self._members()
        ]
        return DeferredList(waiting).addCallback(lambda _: answers)

    def _not_answered(self, failure: Failure, number: int) -> None:
        if failure.check(LinkError) is None:
            self._log.failure("unexpected error in an answer of worker {worker}", failure=failure, worker=number)

    def take(self, generation: int) -> Deferred[None]:
        """Let everybody carry out what was prepared: configuration `generation`, as `make_boot` gives it from now on.

        Who has another one afterwards is replaced, and who is still starting with another one at once. Does not fail.
        """
        for worker in self._workers:
            if not worker.is_member:
                worker.renew(generation)
        return self.ask("take").addCallback(self._taken, generation)

    def _taken(self, answers: dict[int, Any], generation: int) -> None:
        if self._is_ending:
            return  # what is still served is finished
        for worker in self._workers:
            if answers.get(worker.number):
                worker.generation = generation
            worker.renew(generation)

    def _beat(self) -> None:
        for worker in self._workers:
            worker.beat()

    # The end.

    def end(self, seconds: float) -> Deferred[None]:
        """Fires when all have ended by themselves; who has not after `seconds`, and some more, is killed."""
        self._is_ending = True
        gone = [worker.end() for worker in self._workers]
        call = self.clock.callLater(seconds + _GRACE_SECONDS, self.kill)
        together = DeferredList(gone)

        def all_gone(_: object) -> None:
            if call.active():
                call.cancel()

        return together.addCallback(all_gone)

    def kill(self) -> None:
        """End all, whatever they do."""
        self._is_ending = True
        if self._heart.running:
            self._heart.stop()
        for worker in self._workers:
            worker.kill()

    @property
    def is_ending(self) -> bool:
        """Whether nobody is replaced any more."""
        return self._is_ending


class Worker:
    """The worker `number` of `workers`: one process after the other."""

    _log = Logger()

    def __init__(self, number: int, workers: Workers) -> None:
        self.number = number
        self.state = WorkerState.GONE
        self.link: Link
        self.is_member = False
        self.generation = 0
        """The number of the configuration that its process has."""
        self._workers = workers
        self._respawn = Respawn()
        self._process: Handle | None = None
        self._served_since = math.inf
        self._heard = 0
        self._silent_beats = 0
        self._starved = 0.0
        self._owed = 0
        self._call: Any = None
        self._reason = ""
        self._is_renewed = False
        self._gone: list[Deferred[None]] = []

    @property
    def pid(self) -> int:
        """The id of its process, 0 if there is none."""
        return 0 if self._process is None else self._process.pid

    @property
    def is_looping(self) -> bool:
        """Whether one process after the other ends early."""
        return self._respawn.is_looping

    def start(self) -> None:
        """Start a process."""
        self._call = None
        self._is_renewed = False
        self.state = WorkerState.STARTING
        workers = self._workers
        self._heard = self._silent_beats = self._owed = 0
        boot = workers.make_boot(self.number)
        self.generation = boot.generation
        link = self.link = controllers_end(partial(self._message, workers.desk), lambda: None, workers.clock)
        try:
            self._process = workers.spawn(self.number, link, partial(self._ended, link))
        except OSError as error:
            link.close()
            self._ended(link, f"could not be started: {error}")
            return
        booted = link.ask("boot", boot)
        # Not before: who changes routes then waits for it, and what it imports may take a while.
        booted.addCallback(lambda _: workers.join(link, partial(self._has_routes, link)))
        booted.addErrback(self._failed, link)

    def _message(self, desk: Desk, name: str, content: Any) -> Any:
        return desk.message(self.number, name, content)

    def _has_routes(self, link: Link) -> None:
        """It was sent all routes: from now on it gets what everybody gets, and may serve."""
        if link is not self.link or link.is_lost or self._is_renewed:
            return
        self.is_member = True
        self._workers.desk.joined(self.number, link)
        link.ask("serve").addCallbacks(self._serves, self._failed, (link,), errbackArgs=(link,))

    def _serves(self, _: object, link: Link) -> None:
        if link is self.link and self.state is WorkerState.STARTING:
            self.state = WorkerState.SERVING
            self._served_since = self._workers.clock.seconds()
            self._log.info("worker {worker} serves, as process {pid}", worker=self.number, pid=self.pid)
            self._workers.worker_serves()

    def _failed(self, failure: Failure, link: Link) -> None:
        error = failure.value
        if isinstance(error, LinkRefusedError):
            self._reason = f"could not start: {error.facts}"
        elif not isinstance(error, LinkError):
            self._log.failure("unexpected error with worker {worker}", failure=failure, worker=self.number)
        if link is self.link:
            self.kill()

    def ask(self, name: str, content: Any) -> Deferred[Any]:
        """Its answer; fails with `LinkError`, also if it is replaced because of its silence."""
        link = self.link
        call = self._workers.clock.callLater(_ANSWER_SECONDS, self._give_up, f"has not done {name}")
        if not self._owed:
            self._silent_beats = 0  # nothing was asked of it before
        self._owed += 1
        answer = link.ask(name, content)

        def done(result: Any) -> Any:
            if call.active():
                call.cancel()
            if link is self.link:
                self._owed -= 1
            return result

        return answer.addBoth(done)

    def beat(self) -> None:
        """See whether it was heard of, and make it say something."""
        if self._process is None or self.state is WorkerState.WAITING:
            return
        link = self.link
        if link.heard != self._heard:
            self._heard = link.heard
            self._silent_beats = 0
        elif not self._was_starved(self._process):
            self._silent_beats += 1
        patience = _ANSWER_BEATS if self._owed else _SILENCE_BEATS
        if self._silent_beats >= (patience if self.is_member else _START_BEATS):
            self._give_up(f"has said nothing for {self._silent_beats * _BEAT_SECONDS:g} s")
        else:
            if self._owed or self._silent_beats % _QUIET_BEATS == 0:
                link.tell("ping")
            if self.is_looping and self.state is WorkerState.SERVING:
                lived = self._workers.clock.seconds() - self._served_since
                if self._respawn.is_steady(lived):
                    self._log.info("worker {worker} goes on", worker=self.number)
                    self._workers.changed()

    def _was_starved(self, process: Handle) -> bool:
        """Whether others have had the cores for most of the time since the last look: it is not to blame then."""
        before, self._starved = self._starved, process.starved_seconds()
        return self._starved - before > _BEAT_SECONDS / 2

    def _give_up(self, reason: str) -> None:
        self._log.error("worker {worker} {reason}, and is killed", worker=self.number, reason=reason)
        self.kill()

    def _ended(self, link: Link, reason: str) -> None:
        if link is not self.link:
            return
        reason, self._reason = self._reason or reason, ""
        workers = self._workers
        now = workers.clock.seconds()
        has_served = self._served_since < math.inf
        lived = now - self._served_since if has_served else 0.0
        self._process = None
        self.is_member = False
        link.close()  # who waits for an answer goes on now
        workers.desk.left(self.number)
        self._served_since = math.inf
        if workers.is_ending or workers.is_settling:
            self._log.info("worker {worker} {reason}", worker=self.number, reason=reason)
            self.state = WorkerState.GONE
            self._tell_gone()
        elif self._is_renewed:  # nobody's fault, and whoever waits for it has waited long enough
            self.state = WorkerState.WAITING
            workers.replaced += has_served
            self._call = workers.clock.callLater(0, self.start)
        else:
            pause = self._respawn.ended(lived)
            words = "is replaced" if not pause else f"ends again and again: the next one starts in {pause:g} s"
            self._log.error("worker {worker} {reason}, and {words}", worker=self.number, reason=reason, words=words)
            self.state = WorkerState.WAITING
            workers.replaced += 1
            self._call = workers.clock.callLater(pause, self.start)
        workers.worker_ended(self, reason)

    def end(self) -> Deferred[None]:
        """Fires when it has ended; nobody takes its place."""
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        if self._call is not None and self._call.active():
            self._call.cancel()
        if self._process is None:
            self.state = WorkerState.GONE
            self._tell_gone()
        elif self.state is WorkerState.STARTING:
            self.kill()
        else:
            self.state = WorkerState.ENDING
        return gone

    def _tell_gone(self) -> None:
        gone, self._gone = self._gone, []
        for each in gone:
            each.callback(None)

    def renew(self, generation: int) -> None:
        """Replace its process, which is not to blame, unless that has this configuration."""
        if self._process is None or self._is_renewed or self.generation == generation:
            return
        self._is_renewed = True
        if self.is_member:
            self._log.warn("worker {worker} has not taken the new configuration, and is replaced", worker=self.number)
        else:
            words = "worker {worker} was starting with the old configuration, and starts again with the new one"
            self._log.info(words, worker=self.number)
        self.kill()

    def kill(self) -> None:
        """End its process, whatever it does."""
        if self._call is not None and self._call.active() and self._workers.is_ending:
            self._call.cancel()
        if self._process is not None:
            self._process.kill()
