"""Managed servers in memory: the test says when one is ready, and when it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from proxyd.errors import ServerStartError, UnknownServerError
from proxyd.interfaces import ILease, IServerSupervisor
from proxyd.model.servers import Place, ServerSpec, ServerStatus
from proxyd.model.upstream import Upstream
from proxyd.option import ServerName
from proxyd.supervisor.news import News


@implementer(ILease)
@attrs.define(kw_only=True, eq=False)
class ScriptedLease:
    """A lease that remembers what was done with it."""

    place: Place
    spec: ServerSpec
    instance: int = 0
    touches: int = 0
    is_released: bool = False

    @property
    def upstream(self) -> Upstream:
        """Whom to connect to."""
        return self.place.upstream

    def touch(self) -> None:
        """Count it."""
        self.touches += 1

    def release(self) -> None:
        """Remember it."""
        self.is_released = True


@implementer(IServerSupervisor)
class ScriptedSupervisor:
    """Stands in for `proxyd.supervisor.supervisor.Supervisor` where nothing runs.

    A server that proxyd does not start is ready from the beginning. `waiting` are those who wait for each of the
    others, `leases` all leases that there were, `asked` the names of all that was asked for.
    """

    def __init__(self, specs: Mapping[ServerName, ServerSpec]) -> None:
        self._specs = dict[str, ServerSpec](specs.items())
        self._ready: dict[str, tuple[Place, ServerSpec]] = {}
        self.base_url = "/"
        self.waiting: dict[str, list[Deferred[ILease]]] = {}
        self.leases: list[ScriptedLease] = []
        self.asked: list[str] = []
        self._crashed: dict[str, str] = {}
        self._listeners: dict[str, list[Callable[[int, str], None]]] = {}
        self._printed: dict[str, list[str]] = {}
        self._news = News()

    # What the test decides.

    def become_ready(self, name: str, place: Place) -> None:
        """The server is ready, and remains so."""
        self._crashed.pop(name, None)
        self._ready[name] = place, self._spec(name)
        for waiter in self.waiting.pop(name, []):
            waiter.callback(self._lease(*self._ready[name]))
        self._news.state_changed(name, "starting", "ready")

    def become_failed(self, name: str, reason: str) -> None:
        """The start of the server has failed."""
        self._ready.pop(name, None)
        for waiter in self.waiting.pop(name, []):
            waiter.errback(ServerStartError(name, reason, self._printed.get(name, ())))
        self._news.state_changed(name, "starting", "failed")

    def become_crashed(self, name: str, exit_reason: str) -> None:
        """The server has ended by itself, and is to be started again."""
        self._ready.pop(name, None)
        self._crashed[name] = exit_reason
        self._news.state_changed(name, "ready", "backing_off")

    def print(self, name: str, line: str) -> None:
        """The server prints a line."""
        self._printed.setdefault(name, []).append(line)
        for printed in tuple(self._listeners.get(name, ())):
            printed(0, line)

    @property
    def in_use(self) -> int:
        """How many leases are not released."""
        return sum(not lease.is_released for lease in self.leases)

    # What a supervisor does.

    def lease(self, name: str, instance: int | None = None, *, counts: bool = True) -> Deferred[ILease]:
        """A lease, now or when the test says so."""
        spec = self._specs.get(name)
        if spec is None or not spec.is_reachable:
            return fail(UnknownServerError(name))
        self.asked.append(name)
        if not spec.is_managed:
            socket = spec.unix_socket if isinstance(spec.unix_socket, str) else ""
            return succeed(self._lease(Place(0 if socket else spec.port, socket), spec))
        if name in self._ready:
            return succeed(self._lease(*self._ready[name]))
        waiting = self.waiting.setdefault(name, [])
        waiter: Deferred[ILease] = Deferred(waiting.remove)
        waiting.append(waiter)
        return waiter

    def specs(self) -> Mapping[str, ServerSpec]:
        """What the servers are."""
        return dict(self._specs)

    def status(self, name: str) -> tuple[ServerStatus, ...]:
        """Ready, starting, about to start again, or stopped."""
        self._spec(name)
        if name in self._crashed:
            return (ServerStatus(server=name, instance=0, state="backing_off", exit_reason=self._crashed[name]),)
        waiting = len(self.waiting.get(name, ()))
        if name in self._ready:
            return (ServerStatus(server=name, instance=0, state="ready", place=self._ready[name][0]),)
        return (ServerStatus(server=name, instance=0, state="starting" if waiting else "stopped", waiting=waiting),)

    def start(self, name: str) -> Deferred[None]:
        """Fires when the test says that it is ready."""
        return self.lease(name).addCallback(lambda lease: lease.release())

    def stop(self, name: str) -> Deferred[None]:
        """It is gone at once."""
        self._spec(name)
        self.become_failed(name, "was stopped")
        return succeed(None)

    def restart(self, name: str) -> Deferred[None]:
        """Stop and start."""
        return self.stop(name).addCallback(lambda _: self.start(name))

    def subscribe(self, name: str, printed: Callable[[int, str], None]) -> Callable[[], None]:
        """Call `printed` for each line of `print`."""
        self._spec(name)
        listeners = self._listeners.setdefault(name, [])
        listeners.append(printed)
        return lambda: listeners.remove(printed)

    def watch(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Call `changed` for what the test decides."""
        return self._news.watch(changed)

    def lines(self, name: str, count: int) -> tuple[tuple[str, ...], ...]:
        """What was printed."""
        self._spec(name)
        return (tuple(self._printed.get(name, ())[-count:]),)

    def replace(self, specs: Mapping[ServerName, ServerSpec], base_url: str | None = None) -> None:
        """These are the servers; what has gone is not there any more, and what has changed goes on as it is."""
        self.base_url = base_url or self.base_url
        self._specs = dict[str, ServerSpec](specs.items())
        for name in self._ready.keys() - specs.keys():
            del self._ready[name]

    def shutdown(self, number: int = 15) -> Deferred[None]:
        """Nobody gets a lease any more."""
        for name in list(self.waiting):
            self.become_failed(name, "is not started any more: proxyd is stopping")
        self.replace({})
        return succeed(None)

    def _spec(self, name: str) -> ServerSpec:
        if name not in self._specs:
            raise UnknownServerError(name)
        return self._specs[name]

    def _lease(self, place: Place, spec: ServerSpec) -> ScriptedLease:
        lease = ScriptedLease(place=place, spec=spec)
        self.leases.append(lease)
        return lease
