"""The managed servers of a controller, for its workers: leases, states and what the servers print.

The other end is `proxyd.workers.linked`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from proxyd.errors import LinkRefusedError, ServerStartError, UnknownServerError
from proxyd.http.serverlog import MAX_LINES
from proxyd.interfaces import ILease, IServerSupervisor
from proxyd.model.servers import ServerSpec, ServerStatus
from proxyd.option import ServerName
from proxyd.workers.link import Link

# So many configurations are remembered: a server may run for as long as what it was in them.
_GENERATIONS = 16
# What servers print is left out for a worker that is so far behind.
_MAX_BACKLOG = 5000


@attrs.frozen
class Granted:
    """A lease as a worker gets to know it: its number, the instance, its place, and of which configuration it is.

    `pid` is that of the process, 0 if it is none of proxyd's.
    """

    number: int
    pid: int
    instance: int
    port: int
    socket: str
    generation: int


class Generations:
    """The servers of the last configurations, each with its number."""

    def __init__(self) -> None:
        self._specs: deque[tuple[int, Mapping[str, ServerSpec]]] = deque(maxlen=_GENERATIONS)

    def begin(self, number: int, specs: Mapping[ServerName, ServerSpec]) -> None:
        """These are the servers from now on."""
        self._specs.append((number, dict[str, ServerSpec](specs.items())))

    def of(self, name: str, spec: ServerSpec) -> int:
        """The number of the last configuration in which a server was this; the last one of all if none is known."""
        found = (number for number, specs in reversed(self._specs) if specs.get(name) == spec)
        return next(found, self._specs[-1][0])

    def spec(self, name: str, number: int) -> ServerSpec | None:
        """What a server was in a configuration; what it is now, if that is not known any more."""
        for known, specs in self._specs:
            if known == number and name in specs:
                return specs[name]
        return self._specs[-1][1].get(name)


class ServerDesk:
    """Gives workers leases of the servers of `supervisor`, and tells them how these are.

    Each method whose name begins with `on_` answers the message of that name of the worker with a number.
    """

    def __init__(self, supervisor: IServerSupervisor, generations: Generations) -> None:
        self._supervisor = supervisor
        self._generations = generations
        self._links: dict[int, Link] = {}
        self._leases: dict[int, dict[int, ILease]] = {}
        self._asked: dict[int, set[Deferred[ILease]]] = {}
        self._followed: dict[int, dict[str, Callable[[], None]]] = {}
        self._last_number = 0
        self._stop_watching = supervisor.watch(self._changed)

    def close(self) -> None:
        """Watch no more."""
        self._stop_watching()

    def joined(self, number: int, link: Link) -> None:
        """A worker is there: tell it how all servers are."""
        self._links[number] = link
        self._leases[number] = {}
        self._asked[number] = set()
        self._followed[number] = {}
        for name in self._supervisor.specs():
            link.tell("server", (name, self._statuses(name)))

    def left(self, number: int) -> None:
        """A worker is no more: what it had is given back."""
        if self._links.pop(number, None) is None:
            return
        for stop in self._followed.pop(number).values():
            stop()
        for asked in tuple(self._asked.pop(number)):
            asked.cancel()
        for lease in self._leases.pop(number).values():
            lease.release()

    def tell_all(self) -> None:
        """There are other servers: say how they are."""
        for name in self._supervisor.specs():
            self._changed(name)

    def _changed(self, name: str) -> None:
        if self._links:
            statuses = self._statuses(name)
            for link in self._links.values():
                link.tell("server", (name, statuses))

    def _statuses(self, name: str) -> tuple[ServerStatus, ...]:
        try:
            return tuple(attrs.evolve(status, lines=()) for status in self._supervisor.status(name))
        except UnknownServerError:
            return ()

    # What workers ask for.

    def on_lease(self, worker: int, content: list[Any]) -> Deferred[Any]:
        """A lease of a server, or of one of its instances."""
        name, instance = content
        asked = self._supervisor.lease(name, instance, counts=False)
        self._asked[worker].add(asked)
        asked.addBoth(partial(self._answered, worker, asked))
        return asked.addCallbacks(partial(self._grant, worker, name), _refuse)

    def _answered(self, worker: int, asked: Deferred[ILease], result: Any) -> Any:
        self._asked.get(worker, set()).discard(asked)
        return result

    def _grant(self, worker: int, name: str, lease: ILease) -> Granted:
        leases = self._leases.get(worker)
        if leases is None:
            lease.release()
            raise LinkRefusedError(None)  # nobody hears it
        self._last_number += 1
        leases[self._last_number] = lease
        generation = self._generations.of(name, lease.spec)
        place = lease.place
        return Granted(self._last_number, self._pid(name, lease), lease.instance, place.port, place.socket, generation)

    def _pid(self, name: str, lease: ILease) -> int:
        try:
            statuses = self._supervisor.status(name)
        except UnknownServerError:  # it has just been removed, and goes on until the lease ends
            return 0
        found = (each.pid for each in statuses if each.instance == lease.instance and each.place == lease.place)
        return next(found, 0)

    def on_touch(self, worker: int, number: int) -> None:
        """Something happened that counts as activity."""
        lease = self._leases[worker].get(number)
        if lease is not None:
            lease.touch()

    def on_release(self, worker: int, number: int) -> None:
        """A worker needs a lease no more."""
        lease = self._leases[worker].pop(number, None)
        if lease is not None:
            lease.release()

    def on_rule(self, worker: int, content: list[str]) -> Deferred[Any]:
        """Start, stop or restart a server."""
        verb, name = content
        rules = {"start": self._supervisor.start, "stop": self._supervisor.stop, "restart": self._supervisor.restart}
        return maybeDeferred(rules[verb], name).addErrback(_refuse)

    def on_follow(self, worker: int, name: str) -> None:
        """A worker wants to know what a server prints, and has printed."""
        link, followed = self._links[worker], self._followed[worker]
        if name in followed:
            return
        try:
            lines = self._supervisor.lines(name, MAX_LINES)

            def printed(instance: int, line: str) -> None:
                if link.backlog < _MAX_BACKLOG:
                    link.tell("printed", (name, instance, (line,)))

            followed[name] = self._supervisor.subscribe(name, printed)
        except UnknownServerError:
            return
        for instance, some in enumerate(lines):
            link.tell("printed", (name, instance, some))

    def on_leave(self, worker: int, name: str) -> None:
        """It does not want to know any more."""
        stop = self._followed[worker].pop(name, None)
        if stop is not None:
            stop()


def _refuse(failure: Failure) -> Any:
    """What went wrong, in plain values."""
    error = failure.value
    if isinstance(error, ServerStartError):
        raise LinkRefusedError(("start", *error.facts))
    if isinstance(error, UnknownServerError):
        raise LinkRefusedError(("unknown", error.server))
    if isinstance(error, CancelledError):
        raise LinkRefusedError(None)  # nobody hears it
    return failure
