"""One instance of a managed server: its process, those who wait for it, and those who use it.

What comes after what is `proxyd.core.lifecycle`; here it is done.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

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
from proxyd.errors import ServerStartError, TemplateError
from proxyd.interfaces import ILease
from proxyd.model.servers import Place, ServerSpec, ServerState, ServerStatus
from proxyd.supervisor.calls import in_thread
from proxyd.supervisor.commands import make_command
from proxyd.supervisor.ending import SETTLE_SECONDS, end_family, wait_for_end
from proxyd.supervisor.leases import Lease, WaitingRoom
from proxyd.supervisor.output import Output
from proxyd.supervisor.places import PlaceError
from proxyd.supervisor.probes import wait_until_ready
from proxyd.supervisor.process import Child, Command, Exit
from proxyd.supervisor.rest import Rest
from proxyd.supervisor.surroundings import Surroundings
from proxyd.supervisor.waiting import Timer, sleep

_LAST_LINES = 20  # in a status and beside an error


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
        # A server that a reload brings back may run beside what it was before.
        self._mark = f"{surroundings.run}.{self._label}.{token_hex(4)}"
        self._output = Output(
            self._label,
            partial(printed, number),
            stderr_is_error=surroundings.stderr_is_error,
            secrets=surroundings.secrets,
        )
        self._life = begin_life(self)
        self._room = WaitingRoom(self._consider_rest)
        self._happen = self._room.happen
        self._rest = Rest(spec, self._label, self._clock, lambda: self.is_used, self._stop_by_itself)
        self.state: ServerState = INITIAL
        self._since = self._clock.seconds()
        self._settling: list[Deferred[None]] = []
        self.leases = 0
        self._place: Place | None = None
        self._command: Command | None = None
        self._child: Child | None = None
        self._remains: Child | None = None
        self._try: Deferred[None] | None = None
        self._exit_reason = ""
        self._refusal = ""
        self._summary = ""
        self._starts: deque[float] = deque(maxlen=WINDOW_STARTS)
        self._start_count = 0
        self._failures = 0
        self._was_ready = False
        self._stop_number: int = signal.SIGTERM
        self._is_closed = False
        self._pause = Timer(self._clock, partial(self._happen, self._life.pause_over))
        self._deadline = Timer(self._clock, self._too_late)
        self._patience = Timer(self._clock, self._let_go)
        if spec.is_reachable and not spec.is_managed:
            self._place = surroundings.places.choose(spec)

    # Leases.

    @property
    def is_ready(self) -> bool:
        """Whether a lease would be granted at once."""
        is_dying = self._child is not None and not self._child.is_alive
        return (self.state == "ready" and not is_dying) or not self.spec.is_managed

    @property
    def is_used(self) -> bool:
        """Whether somebody has a lease of it, or waits for one."""
        return self.load > 0

    @property
    def load(self) -> int:
        """How many use it or wait for it."""
        return self.leases + len(self._room)

    def lease(self, *, counts: bool) -> Deferred[ILease]:
        """A lease, as soon as it is ready."""
        granted = self._room.enter(counts=counts)
        if self.is_ready:
            self._happen(self._grant)
        else:
            self.want()
        return granted

    def want(self) -> None:
        """Start it, unless it is on its way."""
        if self.spec.is_managed:
            self._happen(self._life.want)
            if not self._deadline.is_set and not self.is_ready and self._room:
                self._set_deadline()

    def touch(self) -> None:
        """Something happened that counts as activity."""
        self._rest.touch()

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
        self._refusal = self._summary = "was stopped"
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
            waiting=len(self._room),
            last_activity=self._rest.last_activity,
        )

    def lines(self, count: int) -> tuple[str, ...]:
        """The last lines that it printed, the oldest first."""
        return self._output.last(count)

    def _grant(self) -> None:
        if self._place is not None:  # as it is for whoever is ready
            self._room.admit(partial(self._make_lease, self._place))

    def _make_lease(self, place: Place, counts: bool) -> Lease:
        self.leases += 1
        return Lease(self, place, counts=counts)

    # What the machine asks for.

    def entered(self, state: ServerState) -> None:
        """The state is this one now."""
        if state == self.state:
            return
        self._log.debug("server {server}: {before} -> {state}", server=self._label, before=self.state, state=state)
        before, self.state = self.state, state
        self._since = self._clock.seconds()
        self._around.news.state_changed(self.name, before, state)
        self._pause.cancel()
        if state != "starting":
            self._cancel_try()
        if state != "ready":
            self._rest.cancel()
        if state == "stopped":
            settling, self._settling = self._settling, []
            for gone in settling:
                self._room.answer(partial(gone.callback, None))

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
        self._rest.begin()
        self._grant()
        self._consider_rest()

    def refuse(self) -> None:
        """Send away who waits."""
        self._deadline.cancel()
        lines = self._output.last(_LAST_LINES)
        self._room.refuse(ServerStartError(self.name, self._refusal, lines, summary=self._summary))
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
        if self._remains is not None:  # it was killed, but may still have the port
            await wait_for_end(self._remains, self._clock, SETTLE_SECONDS)
            self._remains = None
        hold = hold_seconds(self._starts, self._clock.seconds())
        if hold:
            await sleep(self._clock, hold)
        places = self._around.places
        if self._place is not None and not (self.spec.port or isinstance(self.spec.unix_socket, str)):
            try:
                places.check(self._place)
            except PlaceError:  # somebody else has our port by now, or has taken our directory away
                self._free_place()
        if self._place is None:
            self._place = places.choose(self.spec)
            self._command = None
        if self._command is None:
            make = partial(make_command, self.spec, self._mark, self._place, self._around)
            self._command = await in_thread(self._around.reactor, make)
        if self._command.argv:
            await self._await_tenant(self._place)
            places.check(self._place)
            self._child = self._make_child(self._command)
            if not await wait_until_ready(
                self._around.reactor, self._clock, self._place, self.spec, self.spec.ready_seconds
            ):
                return  # the deadline of the start comes now, if it has not come yet
        self._try = None
        self._happen(self._life.answered)

    async def _await_tenant(self, place: Place) -> None:
        """Wait until another of our servers that is ending has left `place`; after a reload it may have been its own.

        Raises `PlaceError` if it stays.
        """
        while (tenant := self._around.places.tenants.get(str(place))) is not None:
            if tenant.state != "stopping":
                raise PlaceError(f"{place} is taken by server {tenant.name}")
            await tenant.stop()

    def _make_child(self, command: Command) -> Child:
        self._start_count += 1
        self._around.news.starts += 1
        self._starts.append(self._clock.seconds())
        self._log.info("starting server {server} at {place}", server=self._label, place=str(self._place))
        if self._around.tells_command:
            self._output.tell_command(command.argv)
        child = Child(self._around.reactor, command, self._output, exited=self._child_exited, ended=self._child_ended)
        self._around.watcher.add_group(child.pid)
        self._around.places.tenants[str(self._place)] = self
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
        self._refusal, self._summary = self._exit_reason, "did not start"
        self._log.error("server {server} {reason}", server=self._label, reason=self._exit_reason)
        self._happen(self._life.give_up)

    def _set_deadline(self) -> None:
        self._deadline.set(self.spec.ready_seconds)

    def _too_late(self) -> None:
        self._refusal = self._summary = f"was not ready in time ({self.spec.ready_seconds:g} s)"
        if self.state == "starting":
            self._exit_reason = self._refusal
            self._log.error("server {server} {reason}", server=self._label, reason=self._refusal)
            if self._child is None:
                self._happen(self._life.give_up)
            else:
                self._happen(self._life.too_late)
        elif self.state == "backing_off" and not self._was_ready:
            self._refusal += f": it {self._exit_reason}"
            self._log.error("server {server} {reason}", server=self._label, reason=self._refusal)
            self._happen(self._life.give_up)
        else:
            self._happen(self.refuse)

    # Ending.

    def _child_exited(self, child: Child) -> None:
        """The process itself has ended: those that it left behind hold its port, and its output."""
        if child is self._child and not self._is_closed and self.state in ("starting", "ready"):
            self._cancel_try()
            child.signal(signal.SIGKILL)
            self._patience.set(SETTLE_SECONDS)

    def _child_ended(self, child: Child, ended: Exit) -> None:
        """Its output has been read as well. Nobody asked for its end, or `_clear` waits for it."""
        if child is not self._child or self._is_closed:
            return
        self._exit_reason = ended.reason
        if self.state not in ("starting", "ready"):
            return
        self._around.news.exited(self.name, ended)
        self._remains = child
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
            if self._room:
                self.want()
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
            self._around.places.tenants.pop(str(self._place), None)

    async def _clear(self, number: int, grace: float) -> None:
        """End everything that belongs to the child, and tell the machine."""
        child = self._child
        if child is not None:
            if not await end_family(child, self._clock, number, grace):
                self._log.warn("server {server} has processes that cannot be killed", server=self._label)
            self._forget_child()
        if self._is_closed:
            return
        if self.state == "aborting" and self._was_ready:
            self._failures += 1
            restart = self.spec.restart
            if after_exit(in_order=False, was_ready=True, failures=self._failures, restart=restart) is Verdict.AGAIN:
                self._happen(self._life.crashed)
                return
        self._happen(self._life.gone)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(
            lambda failure: self._log.failure("unexpected error with server {server}", failure, server=self._label)
        )

    # Rest.

    def _consider_rest(self) -> None:
        """Somebody has left: it may be that nobody needs it."""
        if not self.is_used:
            self._unused()
        if self.state == "ready":
            self._rest.consider()

    def _stop_by_itself(self) -> None:
        self._stop_number = getattr(signal, self.spec.stop_signal)
        self._refusal = self._summary = "was stopped"
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
        self._rest.cancel()
        self._patience.cancel()
