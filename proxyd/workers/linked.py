"""The supervisor of a worker: asks that of the controller, over the link.

The other end is `proxyd.workers.leases`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.errors import LinkLostError, LinkRefusedError, ServerStartError, UnknownServerError
from proxyd.http.serverlog import MAX_LINES
from proxyd.interfaces import ILease, IServerSupervisor
from proxyd.model.servers import Place, ServerSpec, ServerState, ServerStatus
from proxyd.model.upstream import Upstream
from proxyd.option import ServerName
from proxyd.supervisor.news import News
from proxyd.system.life import Life
from proxyd.workers.leases import Generations, Granted
from proxyd.workers.link import Link

# How often the controller hears that something happens: much less than any idle time.
_TOUCH_SECONDS = 0.5
# A lease is kept for so long after its last use: who asks one thing after the other would wait for the controller each
# time. It is short beside any idle time.
_REST_SECONDS = 0.25
# What a server prints goes on being told for so long, in case that somebody comes back for it.
_FOLLOW_SECONDS = 60.0


class _Held:
    """A lease from the controller, shared by all who use the same instance in this worker."""

    def __init__(
        self, number: int, name: str, instance: int, place: Place, spec: ServerSpec, life: Life | None
    ) -> None:
        self.number = number
        self.life = life
        self.name = name
        self.instance = instance
        self.place = place
        self.spec = spec
        self.users = 0
        self.is_touched = False
        self.rests_since = 0.0
        self.rest_call: Any = None


@implementer(ILease)
class _Share:
    """The part that one exchange has of a lease."""

    def __init__(self, supervisor: LinkedSupervisor, held: _Held, *, counts: bool) -> None:
        self._supervisor: LinkedSupervisor | None = supervisor
        self._held = held
        self._counts = counts
        self.place = held.place
        self.upstream: Upstream = held.place.upstream
        self.spec = held.spec
        self.instance = held.instance
        held.users += 1
        if counts:
            self.touch()

    def touch(self) -> None:
        """Something happened that counts as activity."""
        if self._supervisor is not None:
            self._supervisor.touch(self._held)

    def release(self) -> None:
        """The exchange or tunnel has ended; a second call does nothing."""
        if self._counts:
            self.touch()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.release(self._held)


class _Output:
    """What a server has printed, as far as this worker knows."""

    def __init__(self) -> None:
        self.lines: dict[int, deque[str]] = {}
        self.listeners: list[Callable[[int, str], None]] = []
        self.end_call: Any = None


@implementer(IServerSupervisor)
class LinkedSupervisor:
    """Asks over `link`; `generations` are the servers of the configurations that this worker has had.

    `clock` has `callLater` and `seconds`. Each method whose name begins with `on_` takes the message of that name.
    """

    _log = Logger()

    def __init__(
        self, link: Link, specs: Mapping[ServerName, ServerSpec], generations: Generations, clock: Any
    ) -> None:
        self._link = link
        self._specs: dict[str, ServerSpec] = dict[str, ServerSpec](specs.items())
        self._generations = generations
        self._clock = clock
        self._statuses: dict[str, tuple[ServerStatus, ...]] = {}
        self._held: dict[str, _Held] = {}
        self._waiting: dict[str, list[tuple[Deferred[ILease], bool]]] = {}
        self._outputs: dict[str, _Output] = {}
        self._news = News()

    # Asking.

    def specs(self) -> Mapping[str, ServerSpec]:
        """What the servers are, by their names."""
        return dict(self._specs)

    def status(self, name: str) -> tuple[ServerStatus, ...]:
        """How the instances of a server are, as the controller has told last."""
        spec = self._spec(name)
        known = self._statuses.get(name)
        if known:
            return known
        state: ServerState = "stopped" if spec.is_managed else "ready"
        return tuple(ServerStatus(server=name, instance=n, state=state) for n in range(spec.instances))

    def watch(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Call `changed` with the name of each server that gets into another state."""
        return self._news.watch(changed)

    def lines(self, name: str, count: int) -> tuple[tuple[str, ...], ...]:
        """The last lines that each instance has printed, as far as this worker knows."""
        spec = self._spec(name)
        output = self._outputs.get(name)
        known = {} if output is None else output.lines
        return tuple(tuple(known.get(number, ()))[-count:] for number in range(spec.instances))

    def subscribe(self, name: str, printed: Callable[[int, str], None]) -> Callable[[], None]:
        """Call `printed` with each line, also with those that this worker is yet to hear of."""
        self._spec(name)
        output = self._follow(name)
        output.listeners.append(printed)

        def stop() -> None:
            if printed in output.listeners:
                output.listeners.remove(printed)

        return stop

    def _follow(self, name: str) -> _Output:
        output = self._outputs.get(name)
        if output is None:
            output = self._outputs[name] = _Output()
            self._link.tell("follow", name)
            output.end_call = self._clock.callLater(_FOLLOW_SECONDS, self._leave, name)
        return output

    def _leave(self, name: str) -> None:
        output = self._outputs[name]
        is_starting = name in self._specs and not all(each.state in ("ready", "stopped") for each in self.status(name))
        if output.listeners or is_starting:
            output.end_call = self._clock.callLater(_FOLLOW_SECONDS, self._leave, name)
        else:
            del self._outputs[name]
            self._link.tell("leave", name)

    def _spec(self, name: str) -> ServerSpec:
        if name not in self._specs:
            raise UnknownServerError(name)
        return self._specs[name]

    # Using.

    def lease(self, name: str, instance: int | None = None, *, counts: bool = True) -> Deferred[ILease]:
        """A lease of the server: at once if this worker has one already that can be shared."""
        spec = self._specs.get(name)
        if spec is None or not spec.is_reachable:
            return fail(UnknownServerError(name))
        held = self._held.get(name)
        if held is not None and held.life is not None and held.life.is_over():
            self._retire(held)  # the controller knows, or will know in a moment
            held = None
        if held is not None and instance is None:
            return succeed(_Share(self, held, counts=counts))
        if instance is None and spec.instances == 1:
            waiting = self._waiting.get(name)
            waiter: Deferred[ILease] = Deferred(partial(self._forget, name))
            if waiting is None:
                self._waiting[name] = [(waiter, counts)]
                self._note_start(name)
                asked = self._ask(name, None)
                asked.addCallbacks(self._share, self._refuse, (name,), errbackArgs=(name,))
                asked.addErrback(lambda failure: self._log.failure("unexpected error in a lease", failure=failure))
            else:
                waiting.append((waiter, counts))
            return waiter
        # Which of several has the least to do, only the controller knows.
        alone = self._ask(name, instance)
        result: Deferred[ILease] = Deferred()
        alone.addCallbacks(lambda found: self._give(result, found, counts=counts), result.errback)
        alone.addErrback(lambda failure: self._log.failure("unexpected error in a lease", failure=failure))
        return result

    def _note_start(self, name: str) -> None:
        """It is about to start, and the page that waits for it says so."""
        if self._specs[name].is_managed and all(each.state != "ready" for each in self.status(name)):
            self._follow(name)
            now = self._clock.seconds()
            self._statuses[name] = tuple(
                attrs.evolve(each, state="starting", since=now) if each.state in ("stopped", "failed") else each
                for each in self.status(name)
            )

    def _ask(self, name: str, instance: int | None) -> Deferred[_Held]:
        asked: Deferred[Granted] = self._link.ask("lease", [name, instance])
        return asked.addCallbacks(partial(self._granted, name), partial(_translate, name))

    def _granted(self, name: str, granted: Granted) -> _Held:
        place = Place(granted.port, granted.socket)
        spec = self._generations.spec(name, granted.generation) or self._specs.get(name)
        if spec is None:
            self._link.tell("release", granted.number)
            raise UnknownServerError(name)
        life = Life(granted.pid) if granted.pid else None
        return _Held(granted.number, name, granted.instance, place, spec, life)

    def _share(self, held: _Held, name: str) -> None:
        """Everybody who waits has a part of it, and so has who comes while it is used."""
        waiting = self._waiting.pop(name, [])
        if not waiting:
            self._give_back(held)
            return
        if self._specs.get(name) == held.spec:
            self._held[name] = held
        shares = [_Share(self, held, counts=counts) for _, counts in waiting]
        for (waiter, _), share in zip(waiting, shares, strict=True):
            waiter.callback(share) if not waiter.called else share.release()

    def _refuse(self, failure: Failure, name: str) -> None:
        for waiter, _ in self._waiting.pop(name, []):
            if not waiter.called:
                waiter.errback(failure.value)

    def _give(self, result: Deferred[ILease], held: _Held, *, counts: bool) -> None:
        share = _Share(self, held, counts=counts)
        if result.called:
            share.release()
        else:
            result.callback(share)

    def _forget(self, name: str, cancelled: Deferred[ILease]) -> None:
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting[:] = [each for each in waiting if each[0] is not cancelled]

    def touch(self, held: _Held) -> None:
        """Something happened that counts as activity of who uses an instance."""
        if not held.is_touched:
            held.is_touched = True
            self._clock.callLater(_TOUCH_SECONDS, self._tell_touch, held)

    def _tell_touch(self, held: _Held) -> None:
        if held.is_touched:
            held.is_touched = False
            self._link.tell("touch", held.number)

    def release(self, held: _Held) -> None:
        """One user less; some time after the last one it goes back."""
        held.users -= 1
        if held.users:
            return
        if self._held.get(held.name) is not held or held.spec.max_lifetime:  # which waits for such a moment
            self._give_back(held)
            return
        held.rests_since = self._clock.seconds()
        if held.rest_call is None:
            held.rest_call = self._clock.callLater(_REST_SECONDS, self._rested, held)

    def _rested(self, held: _Held) -> None:
        held.rest_call = None
        if held.users:
            return
        left = held.rests_since + _REST_SECONDS - self._clock.seconds()
        if left > 0:
            held.rest_call = self._clock.callLater(left, self._rested, held)
        else:
            self._give_back(held)

    def _give_back(self, held: _Held) -> None:
        if self._held.get(held.name) is held:
            del self._held[held.name]
        if held.rest_call is not None:
            held.rest_call.cancel()
            held.rest_call = None
        if held.life is not None:
            held.life.close()
        self._tell_touch(held)
        self._link.tell("release", held.number)

    def _retire(self, held: _Held) -> None:
        """Share it with nobody any more."""
        del self._held[held.name]
        if not held.users:
            self._give_back(held)

    # Ruling.

    def start(self, name: str) -> Deferred[None]:
        """Start all instances that do not run."""
        return self._rule("start", name)

    def stop(self, name: str) -> Deferred[None]:
        """End all instances."""
        return self._rule("stop", name)

    def restart(self, name: str) -> Deferred[None]:
        """Stop and start."""
        return self._rule("restart", name)

    def _rule(self, verb: str, name: str) -> Deferred[None]:
        self._spec(name)
        return self._link.ask("rule", [verb, name]).addErrback(partial(_translate, name))

    def replace(self, specs: Mapping[ServerName, ServerSpec], base_url: str | None = None) -> None:
        """From now on these are the servers; the controller knows already."""
        self._specs = dict[str, ServerSpec](specs.items())
        for name, held in list(self._held.items()):
            if self._specs.get(name) != held.spec:
                self._retire(held)
        for name in self._statuses.keys() - self._specs.keys():
            del self._statuses[name]

    def shutdown(self, number: int = 15) -> Deferred[None]:
        """The controller does that."""
        return succeed(None)

    # What the controller tells.

    def on_server(self, content: tuple[str, tuple[ServerStatus, ...]]) -> None:
        """How a server is now."""
        name, statuses = content
        if name not in self._specs:
            return
        self._statuses[name] = statuses
        held = self._held.get(name)
        if held is not None and not any(
            status.instance == held.instance and status.state == "ready" and status.place == held.place
            for status in statuses
        ):
            self._retire(held)
        before: Any = "stopped"
        self._news.state_changed(name, before, before)

    def on_printed(self, content: tuple[str, int, tuple[str, ...]]) -> None:
        """An instance of a server has printed lines."""
        name, instance, lines = content
        output = self._outputs.get(name)
        if output is None:
            return
        known = output.lines.setdefault(instance, deque(maxlen=MAX_LINES))
        for line in lines:
            known.append(line)
            for printed in tuple(output.listeners):
                printed(instance, line)


def _translate(name: str, failure: Failure) -> Any:
    """What the controller says, as errors of a supervisor."""
    error = failure.value
    if isinstance(error, LinkRefusedError) and isinstance(error.facts, tuple):
        sort, *facts = error.facts
        if sort == "unknown":
            raise UnknownServerError(*facts)
        raise ServerStartError(*facts)
    if isinstance(error, LinkLostError):
        raise ServerStartError(name, "cannot be asked for: the controller of this worker is gone")
    return failure
