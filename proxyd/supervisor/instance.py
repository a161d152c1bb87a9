"""One instance of a managed server: its process, those who wait for it, and those who use it.

What comes after what is `proxyd.core.lifecycle`; here it is done.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.core.lifecycle import (
    INITIAL,
    WINDOW_STARTS,
    Verdict,
    after_exit,
    begin_life,
    count_failure,
    hold_seconds,
    pause_seconds,
)
from proxyd.core.templates import names_at, render_pairs, render_words
from proxyd.errors import ServerStartError, TemplateError
from proxyd.interfaces import ILease
from proxyd.model.servers import Place, ServerSpec, ServerState, ServerStatus
from proxyd.model.upstream import Upstream
from proxyd.supervisor.calls import in_thread
from proxyd.supervisor.output import Output
from proxyd.supervisor.places import PlaceError, Places
from proxyd.supervisor.probes import wait_until_ready
from proxyd.supervisor.process import Child, Command, Exit, child_environment
from proxyd.supervisor.waiting import Timer, sleep
from proxyd.supervisor.watcher import Watcher

_LAST_LINES = 20  # in a status and beside an error
_SETTLE_SECONDS = 2.0  # after SIGKILL: the kernel takes its time, and the output is read to its end
_FIRST_LOOK = 0.01  # seconds between two looks whether processes have ended, doubled each time
_LONGEST_LOOK = 0.2


@attrs.frozen(kw_only=True)
class Surroundings:
    """What all servers share.

    `environ` is our own environment, `open_files` our soft limit before we raised it, `run` what our marks begin with.
    """

    reactor: Any
    clock: Any
    base_url: str
    environ: Mapping[str, str]
    open_files: int
    run: str
    places: Places
    watcher: Watcher


@implementer(ILease)
class Lease:
    """The right to use an instance that is ready."""

    def __init__(self, owner: Instance, place: Place, *, counts: bool) -> None:
        self._owner: Instance | None = owner
        self._counts = counts
        self.place = place
        self.spec = owner.spec
        self.instance = owner.number
        self.upstream: Upstream = owner.upstream_at(place)
        if counts:
            owner.touch()

    def touch(self) -> None:
        """Something happened that counts as activity."""
        if self._owner is not None:
            self._owner.touch()

    def release(self) -> None:
        """The exchange or tunnel has ended; a second call does nothing."""
        if self._counts:
            self.touch()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lease_ended()


class Instance:
    """The instance `number` of the server `name`.

    `printed` is called with each line of its output, `unused` whenever nobody uses it or waits for it any more.
    `predecessors` have to be gone before it starts.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        number: int,
        spec: ServerSpec,
        surroundings: Surroundings,
        printed: Callable[[int, str], None],
        unused: Callable[[], None],
        predecessors: Sequence[Instance] = (),
    ) -> None:
        self.name = name
        self.number = number
        self.spec = spec
        self._around = surroundings
        self._clock = surroundings.clock
        self._predecessors = predecessors
        self._unused = unused
        self._label = name if spec.instances == 1 else f"{name}#{number}"
        self._output = Output(self._label, partial(printed, number))
        self._life = begin_life(self)
        self._is_changing = False
        self._answers: list[Callable[[], None]] = []
        self.state: ServerState = INITIAL
        self._since = self._clock.seconds()
        self._waiting: list[tuple[Deferred[ILease], bool]] = []
        self._settling: list[Deferred[None]] = []
        self.leases = 0
        self._place: Place | None = None
        self._command: Command | None = None
        self._child: Child | None = None
        self._try: Deferred[None] | None = None
        self._exit_reason = ""
        self._refusal = ""
        self._starts: deque[float] = deque(maxlen=WINDOW_STARTS)
        self._start_count = 0
        self._failures = 0
        self._was_ready = False
        self._stop_number: int = signal.SIGTERM
        self._last_activity = 0.0
        self._is_over_age = False
        self._is_closed = False
        self._pause = Timer(self._clock, partial(self._happen, self._life.pause_over))
        self._deadline = Timer(self._clock, self._too_late)
        self._idle = Timer(self._clock, self._look_for_activity)
        self._age = Timer(self._clock, self._grow_old)
        self._patience = Timer(self._clock, self._let_go)
        if not spec.is_managed:
            self._place = surroundings.places.choose(spec)
        self._upstream: Upstream | None = None

    # Leases.

    @property
    def is_ready(self) -> bool:
        """Whether a lease would be granted at once."""
        return self.state == "ready" or not self.spec.is_managed

    @property
    def is_used(self) -> bool:
        """Whether somebody has a lease of it, or waits for one."""
        return bool(self.leases or self._waiting)

    @property
    def load(self) -> int:
        """How many use it or wait for it."""
        return self.leases + len(self._waiting)

    def lease(self, *, counts: bool) -> Deferred[ILease]:
        """A lease, as soon as it is ready."""
        granted: Deferred[ILease] = Deferred(self._forget)
        self._waiting.append((granted, counts))
        if self.is_ready:
            self._happen(self._grant)
        else:
            self.want()
        return granted

    def want(self) -> None:
        """Start it, unless it is on its way."""
        if self.spec.is_managed:
            self._happen(self._life.want)
            if not self._deadline.is_set and not self.is_ready and self._waiting:
                self._set_deadline()

    def touch(self) -> None:
        """Something happened that counts as activity."""
        self._last_activity = self._clock.seconds()

    def upstream_at(self, place: Place) -> Upstream:
        """The same object for the same place: connections to it are kept by it."""
        upstream = place.upstream
        if self._upstream != upstream:
            self._upstream = upstream
        return self._upstream or upstream

    def lease_ended(self) -> None:
        """One lease less; the last one may have been what kept the server."""
        self.leases -= 1
        self._consider_rest()

    def retire(self, number: int | None = None) -> Deferred[None]:
        """Stop it, and give its place back; fires once it is gone."""
        gone = self.stop(number)
        gone.addCallback(lambda _: self._free_place())
        return gone

    def stop(self, number: int | None = None) -> Deferred[None]:
        """End it, whatever it does, with the signal `number`; fires once it is gone."""
        if self._is_closed:
            return succeed(None)
        self._stop_number = getattr(signal, self.spec.stop_signal) if number is None else number
        self._refusal = "was stopped"
        self._happen(self._life.stop)
        gone: Deferred[None] = Deferred()
        if self.state == "stopped":
            gone.callback(None)
        else:
            self._settling.append(gone)
        return gone

    def close(self) -> None:
        """End it at once, without waiting for anything: nothing can be waited for any more."""
        self._is_closed = True
        self._cancel_all()
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
        self._free_place()

    def status(self) -> ServerStatus:
        """How it is."""
        child = self._child
        return ServerStatus(
            server=self.name,
            instance=self.number,
            state="ready" if self.is_ready else self.state,
            pid=child.pid if child is not None and child.is_alive else 0,
            place=self._place,
            since=self._since,
            starts=self._start_count,
            exit_reason=self._exit_reason,
            lines=self._output.last(_LAST_LINES),
            leases=self.leases,
            waiting=len(self._waiting),
            last_activity=self._last_activity,
        )

    def _grant(self) -> None:
        """Give everyone who waits a lease."""
        waiting, self._waiting = self._waiting, []
        for waiter, counts in waiting:
            if self._place is not None:
                self.leases += 1
                self._answers.append(partial(_hand_over, waiter, Lease(self, self._place, counts=counts)))

    def _forget(self, cancelled: Deferred[ILease]) -> None:
        self._waiting = [(waiter, counts) for waiter, counts in self._waiting if waiter is not cancelled]
        self._consider_rest()

    def _happen(self, event: Callable[[], None]) -> None:
        """Let something happen; those who wait are answered afterwards, because they may make more happen at once."""
        is_first = not self._is_changing
        self._is_changing = True
        try:
            event()
        finally:
            if is_first:
                self._is_changing = False
        if is_first:
            answers, self._answers = self._answers, []
            for answer in answers:
                answer()

    # What the machine asks for.

    def entered(self, state: ServerState) -> None:
        """The state is this one now."""
        if state == self.state:
            return
        self._log.debug("server {server}: {before} -> {state}", server=self._label, before=self.state, state=state)
        self.state = state
        self._since = self._clock.seconds()
        self._pause.cancel()
        if state != "starting":
            self._cancel_try()
        if state != "ready":
            self._idle.cancel()
            self._age.cancel()
        if state == "stopped":
            settling, self._settling = self._settling, []
            self._answers += [partial(gone.callback, None) for gone in settling]

    def begin(self) -> None:
        """Start it, as if it had never run."""
        self._failures = 0
        self._was_ready = False
        self._command = None
        self._set_deadline()
        self._attempt()

    def again(self) -> None:
        """Start it once more; a first start has one deadline for all of its attempts."""
        if self._was_ready or not self._deadline.is_set:
            self._set_deadline()
        self._attempt()

    def admit(self) -> None:
        """Let in who waits."""
        self._log.info("server {server} is ready at {place}", server=self._label, place=str(self._place))
        self._deadline.cancel()
        self._was_ready = True
        self.touch()  # to be ready is what the idle time counts from
        self._is_over_age = False
        if self.spec.max_lifetime:
            self._age.set(self.spec.max_lifetime)
        self._grant()
        self._consider_rest()

    def refuse(self) -> None:
        """Send away who waits."""
        self._deadline.cancel()
        waiting, self._waiting = self._waiting, []
        error = ServerStartError(self.name, self._refusal, self._output.last(_LAST_LINES), 1.0)
        self._answers += [partial(_send_away, waiter, error) for waiter, _ in waiting]
        self._consider_rest()

    def pause(self) -> None:
        """Start it again after a while."""
        seconds = pause_seconds(self._failures, self.spec.restart)
        self._log.warn(
            "server {server} {reason}; it is started again in {seconds:g} s",
            server=self._label,
            reason=self._exit_reason,
            seconds=seconds,
        )
        self._pause.set(seconds)

    def end(self) -> None:
        """Ask all its processes to end, and make them end."""
        self._spawn(self._clear(self._stop_number, self.spec.stop_grace))

    def kill(self) -> None:
        """Make all its processes end at once."""
        self._spawn(self._clear(signal.SIGKILL, 0.0))

    # Starting.

    def _attempt(self) -> None:
        self._try = Deferred.fromCoroutine(self._start())
        self._try.addErrback(self._attempt_failed)

    async def _start(self) -> None:
        for predecessor in self._predecessors:
            await predecessor.retire()
        self._predecessors = ()
        hold = hold_seconds(self._starts, self._clock.seconds())
        if hold:
            await sleep(self._clock, hold)
        places = self._around.places
        if self._place is not None and not (self.spec.port or self.spec.unix_socket):
            try:
                places.check(self._place)
            except PlaceError:  # somebody else has our port by now
                self._free_place()
        if self._place is None:
            self._place = places.choose(self.spec)
            self._command = None
        if self._command is None:
            self._command = await in_thread(self._around.reactor, partial(self._make_command, self._place))
        if self._command.argv:
            places.check(self._place)
            self._child = self._make_child(self._command)
            if not await wait_until_ready(
                self._around.reactor, self._clock, self._place, self.spec, self.spec.ready_seconds
            ):
                return  # the deadline of the start comes now, if it has not come yet
        self._try = None
        self._happen(self._life.answered)

    def _make_command(self, place: Place) -> Command:
        """Put the place into the templates, and call the callables: in a thread."""
        names = names_at(place, self._around.base_url)
        mark = f"{self._around.run}.{self._label}"
        argv = render_words(self.spec.command, names, "command")
        added = render_pairs(self.spec.environment, names, "environment")
        return Command(
            argv=argv,
            environment=child_environment(self._around.environ, added, self.spec.user, mark),
            mark=mark,
            cwd=self.spec.cwd,
            limits=self.spec.limits,
            user=self.spec.user,
            open_files=self._around.open_files,
        )

    def _make_child(self, command: Command) -> Child:
        self._start_count += 1
        self._starts.append(self._clock.seconds())
        self._log.info("starting server {server} at {place}", server=self._label, place=str(self._place))
        child = Child(self._around.reactor, command, self._output, exited=self._child_exited, ended=self._child_ended)
        self._around.watcher.add_group(child.pid)
        return child

    def _attempt_failed(self, failure: Failure) -> None:
        if self._try is None:
            return  # it was cancelled
        self._try = None
        error = failure.value
        if isinstance(error, TemplateError | PlaceError | OSError):
            words = error.strerror if isinstance(error, OSError) else str(error)
            self._exit_reason = f"could not be started: {words}"
        else:
            self._log.failure("unexpected error in the start of server {server}", failure, server=self._label)
            self._exit_reason = "could not be started: unexpected error, see the log"
        self._give_up()

    def _give_up(self) -> None:
        self._refusal = self._exit_reason
        self._log.error("server {server} {reason}", server=self._label, reason=self._exit_reason)
        self._happen(self._life.give_up)

    def _set_deadline(self) -> None:
        self._deadline.set(self.spec.ready_seconds)

    def _too_late(self) -> None:
        self._refusal = f"was not ready in time ({self.spec.ready_seconds:g} s)"
        if self.state == "starting":
            self._exit_reason = self._refusal
            self._log.error("server {server} {reason}", server=self._label, reason=self._refusal)
            if self._child is None:
                self._happen(self._life.give_up)
            else:
                self._happen(self._life.too_late)
        elif self.state == "backing_off" and not self._was_ready:
            self._refusal += f": it {self._exit_reason}"
            self._happen(self._life.give_up)
        else:
            self._happen(self.refuse)

    # Ending.

    def _child_exited(self, child: Child) -> None:
        """The process itself has ended: those that it left behind hold its port, and its output."""
        if child is self._child and not self._is_closed and self.state in ("starting", "ready"):
            self._cancel_try()
            child.signal(signal.SIGKILL)
            self._patience.set(_SETTLE_SECONDS)

    def _child_ended(self, child: Child, ended: Exit) -> None:
        """Its output has been read as well. Nobody asked for its end, or `_clear` waits for it."""
        if child is not self._child or self._is_closed:
            return
        self._exit_reason = ended.reason
        if self.state not in ("starting", "ready"):
            return
        self._forget_child()
        if ended.never_ran:
            self._give_up()
            return
        lived = self._clock.seconds() - self._starts[-1]
        self._failures = count_failure(self._failures, lived)
        was_ready = self.state == "ready"
        verdict = after_exit(
            in_order=ended.in_order,
            was_ready=was_ready,
            failures=self._failures,
            restart=self.spec.restart,
        )
        if not was_ready and not (self.spec.port or self.spec.unix_socket):
            self._free_place()  # the port may be why
        if verdict is Verdict.AGAIN:
            self._happen(self._life.crashed)
        elif verdict is Verdict.REST:
            self._log.info("server {server} {reason}", server=self._label, reason=ended.reason)
            self._happen(self._life.ended)
        else:
            if not was_ready:
                self._exit_reason = f"{ended.reason} before it was ready"
            self._give_up()

    def _let_go(self) -> None:
        """Somebody holds its output open, and cannot be found."""
        if self._child is not None:
            self._child.let_go()

    def _forget_child(self) -> None:
        self._patience.cancel()
        child, self._child = self._child, None
        if child is not None:
            self._around.watcher.remove_group(child.pid)

    async def _clear(self, number: int, grace: float) -> None:
        """End everything that belongs to the child, and tell the machine."""
        child = self._child
        if child is not None:
            if number != signal.SIGKILL:
                child.signal(number)
                await self._wait_for_end(child, grace)
            child.signal(signal.SIGKILL)
            if not await self._wait_for_end(child, _SETTLE_SECONDS):
                self._log.warn("server {server} has processes that cannot be killed", server=self._label)
            child.let_go()
            self._forget_child()
        if self._is_closed:
            return
        if self.state == "aborting" and self._was_ready:
            self._failures += 1
            if after_exit(in_order=False, was_ready=True, failures=self._failures, restart=self.spec.restart) is (
                Verdict.AGAIN
            ):
                self._happen(self._life.crashed)
                return
        self._happen(self._life.gone)

    async def _wait_for_end(self, child: Child, seconds: float) -> bool:
        """Wait until nothing of the family lives; False when there is still something after so long."""
        deadline = self._clock.seconds() + seconds
        pause = _FIRST_LOOK
        while child.is_alive or child.family():
            left = deadline - self._clock.seconds()
            if left <= 0:
                return False
            await sleep(self._clock, min(pause, left))
            pause = min(2 * pause, _LONGEST_LOOK)
        return True

    def _spawn(self, work: Any) -> None:
        Deferred.fromCoroutine(work).addErrback(
            lambda failure: self._log.failure("unexpected error with server {server}", failure, server=self._label)
        )

    # Rest.

    def _consider_rest(self) -> None:
        """Stop it if nobody uses it and it is old, or watch for it to be idle."""
        if self.is_used:
            return
        self._unused()
        if self.state != "ready":
            return
        if self._is_over_age:
            self._log.info("server {server} has lived for long enough", server=self._label)
            self._rest()
        elif self.spec.idle_timeout and not self._idle.is_set:
            self._idle.set(self._last_activity + self.spec.idle_timeout - self._clock.seconds())

    def _look_for_activity(self) -> None:
        if self.is_used:
            return
        if self._clock.seconds() - self._last_activity >= self.spec.idle_timeout:
            self._log.info(
                "server {server} was idle for {seconds:g} s", server=self._label, seconds=self.spec.idle_timeout
            )
            self._rest()
        else:
            self._consider_rest()

    def _grow_old(self) -> None:
        self._is_over_age = True
        self._consider_rest()

    def _rest(self) -> None:
        self._stop_number = getattr(signal, self.spec.stop_signal)
        self._refusal = "was stopped"
        self._happen(self._life.stop)

    def _free_place(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            self._around.places.release(place)

    def _cancel_try(self) -> None:
        attempt, self._try = self._try, None
        if attempt is not None:
            attempt.cancel()

    def _cancel_all(self) -> None:
        self._cancel_try()
        self._pause.cancel()
        self._deadline.cancel()
        self._idle.cancel()
        self._age.cancel()


def _hand_over(waiter: Deferred[ILease], lease: Lease) -> None:
    if waiter.called:  # it was cancelled by one that was answered before
        lease.release()
    else:
        waiter.callback(lease)


def _send_away(waiter: Deferred[ILease], error: ServerStartError) -> None:
    if not waiter.called:
        waiter.errback(error)
