"""All managed servers: who gets a lease of which instance, and how they change and end together."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, get_args
from uuid import uuid4

import attrs
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.errors import ServerStartError, UnknownServerError
from proxyd.interfaces import ILease, IServerSupervisor
from proxyd.model.servers import ServerSpec, ServerState, ServerStatus
from proxyd.option import ServerName
from proxyd.supervisor.news import News
from proxyd.supervisor.places import Places
from proxyd.supervisor.surroundings import Surroundings
from proxyd.supervisor.watcher import Watcher

if TYPE_CHECKING:
    from proxyd.supervisor.instance import Instance
    from proxyd.supervisor.orphans import Orphans


@implementer(IServerSupervisor)
class Supervisor:
    """Rules the servers of `specs`; nothing is started before `begin`, or the first lease.

    `open_files` is the soft limit of descriptors that proxyd was started with, 0 to leave it. `stderr_is_error` tells
    whether what servers say on their standard error is logged as errors, `tells_command` whether their command is put
    in front of what they print; `secrets` are left out of all that.
    """

    _log = Logger()

    def __init__(
        self,
        specs: Mapping[ServerName, ServerSpec],
        reactor: Any,
        *,
        clock: Any = None,
        base_url: str = "/",
        environ: Mapping[str, str] = os.environ,
        open_files: int = 0,
        stderr_is_error: bool = False,
        tells_command: bool = False,
        secrets: tuple[str, ...] = (),
    ) -> None:
        run = uuid4().hex
        self._watcher = Watcher(run)
        self._places = Places(self._watcher)
        self.news = News()
        self._around = Surroundings(
            reactor=reactor,
            clock=reactor if clock is None else clock,
            base_url=base_url,
            environ=environ,
            open_files=open_files,
            run=run,
            places=self._places,
            watcher=self._watcher,
            news=self.news,
            stderr_is_error=stderr_is_error,
            tells_command=tells_command,
            secrets=secrets,
        )
        self._orphans: Orphans | None = None
        self._servers: dict[str, _Server] = {}
        self._leaving: set[_Server] = set()
        self._listeners: dict[str, list[Callable[[int, str], None]]] = {}
        self._has_begun = False
        self._is_closing = False
        self.replace(specs)

    def begin(self) -> None:
        """Start what is to run without being asked; what comes later by `replace` is started then."""
        self._has_begun = True
        for server in self._servers.values():
            server.begin()

    # Asking.

    def specs(self) -> Mapping[str, ServerSpec]:
        """What the servers are, by their names."""
        return {name: server.spec for name, server in self._servers.items()}

    def status(self, name: str) -> tuple[ServerStatus, ...]:
        """How the instances of a server are."""
        return tuple(instance.status() for instance in self._server(name).instances)

    def subscribe(self, name: str, printed: Callable[[int, str], None]) -> Callable[[], None]:
        """Call `printed` with the instance and each line; what is returned stops that."""
        listeners = self._server(name).listeners
        listeners.append(printed)

        def stop() -> None:
            if printed in listeners:
                listeners.remove(printed)

        return stop

    def states(self) -> Mapping[str, int]:
        """How many instances of what proxyd starts are in each state."""
        counts = dict.fromkeys(get_args(ServerState), 0)
        for server in self._servers.values():
            for instance in server.instances if server.spec.is_managed else ():
                counts[instance.status().state] += 1
        return counts

    def watch(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Call `changed` with the name of each server that gets into another state."""
        return self.news.watch(changed)

    def lines(self, name: str, count: int) -> tuple[tuple[str, ...], ...]:
        """The last lines that each instance of a server has printed, the oldest first."""
        return tuple(instance.lines(count) for instance in self._server(name).instances)

    # Using.

    def lease(self, name: str, instance: int | None = None, *, counts: bool = True) -> Deferred[ILease]:
        """A lease of the server, as soon as it is ready."""
        if self._is_closing:
            words = "is not started any more: proxyd is stopping"
            return fail(ServerStartError(name, words, summary=words))
        server = self._servers.get(name)
        if server is None or not server.spec.is_reachable:
            return fail(UnknownServerError(name))
        if instance is None:
            return server.choose().lease(counts=counts)
        if not 0 <= instance < len(server.instances):
            return fail(UnknownServerError(f"{name}#{instance}"))
        return server.instances[instance].lease(counts=counts)

    # Ruling.

    def start(self, name: str) -> Deferred[None]:
        """Start all instances that do not run; fires once they are ready, fails with `ServerStartError`."""
        count = len(self._server(name).instances)
        return _all([self.lease(name, number).addCallback(_release) for number in range(count)])

    def stop(self, name: str) -> Deferred[None]:
        """End all instances, whatever they do; fires once they are gone."""
        return _all([instance.stop() for instance in self._server(name).instances])

    def restart(self, name: str) -> Deferred[None]:
        """Stop and start."""
        stopped = self.stop(name)
        return stopped.addCallback(lambda _: self.start(name))

    def replace(self, specs: Mapping[ServerName, ServerSpec], base_url: str | None = None) -> None:
        """From now on these are the servers; what has changed or left ends with its last lease.

        Another `base_url` changes all of them.
        """
        if base_url is not None:
            self._around = attrs.evolve(self._around, base_url=base_url)
        for name in self._servers.keys() - specs.keys():
            server = self._servers.pop(name)
            self._log.info("server {server} is removed", server=name)
            self._leaving.add(server)
            server.leave(partial(self._leaving.discard, server))
        if self._orphans is None and any(spec.is_managed for spec in specs.values()):
            from proxyd.supervisor.orphans import Orphans  # noqa: PLC0415  # see `_Server._make_instances`

            self._orphans = Orphans(self._around.clock)
        servers, self._servers = self._servers, {}
        for name, spec in specs.items():  # in their order
            listeners = self._listeners.setdefault(name, [])  # who listens goes on when a server comes back
            server = servers.get(name) or _Server(name, spec, self._around, listeners)
            self._servers[name] = server
            server.change(spec, self._around)
            if self._has_begun:
                server.begin()
            if not spec.is_reachable:
                self._log.warn("server {server} has neither command, port nor socket", server=name)

    def shutdown(self, number: int = signal.SIGTERM) -> Deferred[None]:
        """Stop everything; fires once nothing is left.

        A server with another `stop_signal` than the default gets that one.
        """
        self._is_closing = True
        ends = []
        for instance in self._instances():
            is_default = instance.spec.stop_signal == "SIGTERM"
            ends.append(instance.retire(number if is_default else None))
        done = _all(ends)
        done.addErrback(lambda failure: self._log.failure("unexpected error at the end of the servers", failure))
        done.addCallback(lambda _: self.close())
        return done

    def close(self) -> None:
        """Kill what is left, and remove what lies on disk, without waiting."""
        self._is_closing = True
        for instance in self._instances():
            instance.close()
        self._places.close()
        self._watcher.close()
        if self._orphans is not None:
            self._orphans.close()

    def _server(self, name: str) -> _Server:
        if name not in self._servers:
            raise UnknownServerError(name)
        return self._servers[name]

    def _instances(self) -> list[Instance]:
        return [instance for server in (*self._servers.values(), *self._leaving) for instance in server.all_instances]


class _Server:
    """A server of that name: what it is now, what it will be, and its instances."""

    def __init__(
        self, name: str, spec: ServerSpec, around: Surroundings, listeners: list[Callable[[int, str], None]]
    ) -> None:
        self._name = name
        self._around = around
        self._left: Callable[[], None] | None = None
        self.listeners = listeners
        self.spec = spec
        self._running = spec
        self._base_url = around.base_url  # in which it runs
        self._former: list[Instance] = []
        self._has_begun = False
        self.instances = self._make_instances([])

    @property
    def all_instances(self) -> list[Instance]:
        """Those that are on their way out, too."""
        return [*self.instances, *self._former]

    def choose(self) -> Instance:
        """The instance with the least to do. One that does not run is started, but nobody waits who need not."""
        least = min(self.instances, key=lambda instance: (instance.load, not instance.is_ready))
        ready = [instance for instance in self.instances if instance.is_ready]
        if least.is_ready or not ready:
            return least
        least.want()
        return min(ready, key=lambda instance: instance.load)

    def begin(self) -> None:
        """Start it if it is to run without being asked, now and after each change; a second call does nothing."""
        if not self._has_begun:
            self._has_begun = True
            self._start_eager()

    def change(self, spec: ServerSpec, around: Surroundings) -> None:
        """Become `spec` in these surroundings, once nobody uses what runs."""
        self.spec = spec
        self._around = around
        self._settle()

    def leave(self, left: Callable[[], None]) -> None:
        """End, once nobody uses it; `left` is called when nothing is left."""
        self._left = left
        self._settle()

    def _settle(self) -> None:
        """Do what had to wait for the last lease."""
        if any(instance.is_used for instance in self.instances):
            return
        if self._left is not None:
            left, self._left = self._left, None
            instances = self.instances
            ends = [instance.retire() for instance in instances]
            _all(ends).addBoth(lambda _: left())
        elif (self.spec, self._around.base_url) != (self._running, self._base_url):
            self._running, self._base_url = self.spec, self._around.base_url
            former, self.instances = self.instances, []
            self._former += former
            for instance in former:
                instance.retire().addBoth(self._forget, instance)
            self.instances = self._make_instances(former)
            if self._has_begun:
                self._start_eager()

    def _start_eager(self) -> None:
        if self._running.start == "eager":
            for instance in self.instances:
                instance.want()

    def _forget(self, _: object, instance: Instance) -> None:
        self._former.remove(instance)

    def _make_instances(self, former: list[Instance]) -> list[Instance]:
        # What runs a process is loaded with the first server: most proxies have none, and start the sooner.
        from proxyd.supervisor.instance import Instance  # noqa: PLC0415

        around, spec = self._around, self.spec
        return [
            Instance(self._name, number, spec, around, self._printed, self._settle, former)
            for number in range(spec.instances)
        ]

    def _printed(self, instance: int, line: str) -> None:
        for printed in tuple(self.listeners):
            printed(instance, line)


def _release(lease: ILease) -> None:
    lease.release()


def _all(deferreds: list[Deferred[Any]]) -> Deferred[None]:
    """Fires when all have fired; fails with the first failure, once all have fired."""
    together = DeferredList(deferreds, consumeErrors=True)

    def conclude(results: list[tuple[bool, Any]]) -> Failure | None:
        return next((result for is_good, result in results if not is_good), None)

    done: Deferred[None] = together.addCallback(conclude)
    return done
