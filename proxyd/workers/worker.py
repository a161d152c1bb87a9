"""Composition root of a worker: from what the controller tells it to a data path that serves, and its end."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from proxyd import __version__
from proxyd.builtins import KINDS
from proxyd.compat.jsp import Imports
from proxyd.core.shared import SharedCounting, SharedMemory, memory_bytes
from proxyd.core.table import RouteTable
from proxyd.errors import ConfigError, LinkRefusedError, OptionError, Problem, ServerStartError, TlsError
from proxyd.garbage import Exemptions, end_start, end_without_looking, exempt_many
from proxyd.hub.activity import Activity
from proxyd.kinds import Kinds
from proxyd.logs import LineWriter, LogObserver
from proxyd.metrics.lag import EventLoopLag
from proxyd.model.settings import Config
from proxyd.reload import in_thread
from proxyd.system.clock import keep_steady
from proxyd.system.signals import leave_last_words
from proxyd.system.stalls import StallWatch
from proxyd.system.turns import FileTurn
from proxyd.workers.datapath import DataPath
from proxyd.workers.dump import dump_state
from proxyd.workers.leases import Generations
from proxyd.workers.link import Link
from proxyd.workers.linked import LinkedSupervisor
from proxyd.workers.messages import FIRST_SOCKET_FD, LINK_FD, MEMORY_FD, Boot, workers_end
from proxyd.workers.parcel import unpack
from proxyd.workers.replicas import RouteReplica
from proxyd.workers.reports import REPORT_SECONDS, Numbers, Touches, process_costs
from proxyd.workers.static import make_meters, renew_meters, static_routes


class WorkerService:
    """Serves as its controller says, over `link`, once there is one. `end` ends the process.

    Each method whose name begins with `on_` answers the message of that name.
    """

    _log = Logger()

    def __init__(self, kinds: Kinds, reactor: Any, environ: Mapping[str, str], end: Callable[[], None]) -> None:
        self._kinds = kinds
        self._reactor = reactor
        self._environ = environ
        self._end = end
        self._imports = Imports(environ)
        self.link: Link = workers_end(self._take, self._link_lost, reactor)
        self.data_path: DataPath | None = None
        self._began = time.monotonic()
        self._is_ending = self._is_quiet = self._may_end = False
        self._take_prepared: Callable[[], None] | None = None
        self._prepared_writer: LineWriter | None = None

    def _take(self, name: str, content: Any) -> Any:
        answer = getattr(self, f"on_{name}")
        contents = () if content is None else (content,)
        if name not in ("boot", "serve"):
            return answer(*contents)
        return maybeDeferred(answer, *contents).addErrback(self._cannot_start)

    def _cannot_start(self, failure: Failure) -> None:
        """The controller has to say it: we may not be able to."""
        error = failure.value
        known = isinstance(error, OptionError | TlsError | OSError)
        raise LinkRefusedError(str(error) if known else failure.getTraceback()) from None

    # The start.

    def on_boot(self, boot: Boot) -> None:
        """Build everything, and serve nothing yet."""
        self._number, self._count = boot.number, boot.count
        config, self._lost = self._unpack(boot.config)
        self._config = config
        self.writer = LineWriter(1, self._reactor, turn=FileTurn(MEMORY_FD, 0))
        self.writer.told_of_drops = self._tell_of_drops
        self.observer = LogObserver(
            self.writer.write, config.log.format, config.log.level, colors=os.isatty(1), worker=boot.number
        )
        globalLogBeginner.beginLoggingTo([self.observer], redirectStandardIO=False)
        self._warn_of(self._lost)
        self._access_writer = self._open_access_file(config)
        self.replica = RouteReplica(table := RouteTable(), self._reactor)
        self._static_routes = static_routes(config)
        self.replica.feed.set_static(self._static_routes.values())
        observer = self._stall_observer = LogObserver(
            self.writer.write_from_thread, config.log.format, config.log.level, worker=boot.number
        )
        self._stalls = StallWatch(
            self._reactor, config.log.stall_after, Logger(namespace="proxyd.system.stalls", observer=observer)
        )
        self._exemptions = Exemptions(lambda: table.version)
        self._generations = Generations()
        self._generations.begin(boot.generation, config.servers)
        self.supervisor = LinkedSupervisor(self.link, config.servers, self._generations, self._reactor)
        self.activity = Activity(time.time, config.activity.ignore)
        self.touches = Touches()
        memory = memoryview(mmap.mmap(MEMORY_FD, memory_bytes(boot.count)))
        shared = SharedMemory(memory, boot.count, boot.number - 1, boot.hash_key)
        self.meters = make_meters(config)
        self._dropped_before = 0
        self.data_path = DataPath(
            config,
            self._kinds,
            table,
            self._reactor,
            access_writer=self._access_writer or self.writer,
            meters=self.meters,
            state=Path(boot.state),
            cookie_key=boot.cookie_key,
            environ=self._environ,
            supervisor=self.supervisor,
            touch_of=self.activity.touch_of,
            touch=self.touches.touch,
            counting=SharedCounting(shared),
        )
        if self.data_path.launcher is not None:
            self.data_path.launcher.pages.told_failure = self._tell_failure
        self._told: Any = None
        self._lag = EventLoopLag(self.data_path.reactor)
        self._reports = LoopingCall(self._report)
        self._reports.clock = self._reactor
        fd = FIRST_SOCKET_FD
        for listener, count in zip(self.data_path.listeners, boot.sockets, strict=True):
            listener.adopt([_socket_of(number) for number in range(fd, fd + count)])
            fd += count

    def _unpack(self, packed: bytes) -> tuple[Config, tuple[str, ...]]:
        """The configuration for one of so many workers, and what is to be said of functions that were not found."""
        lost: list[str] = []
        config = unpack(packed, lambda config: self._imports.complete(config, lambda _: None), lost.append)
        limit = config.pool.connections_per_upstream
        if limit:
            share = max(1, limit // self._count)
            config = attrs.evolve(config, pool=attrs.evolve(config.pool, connections_per_upstream=share))
        return config, tuple(lost)

    def _warn_of(self, lost: tuple[str, ...]) -> None:
        for words in lost:
            self._log.warn("{words}", words=words)

    def _open_access_file(self, config: Config) -> LineWriter | None:
        if not config.log.access_file:
            return None
        writer = LineWriter.to_file(config.log.access_file, self._reactor, FileTurn(MEMORY_FD, 1))
        writer.told_of_drops, writer.told_of_failure = self._tell_of_drops, self._tell_of_failure
        return writer

    def _tell_of_drops(self, count: int) -> None:
        words = "worker {worker}: {count} lines of a log were dropped, because its reader did not keep up"
        self._log.warn(words, worker=self._number, count=count)

    def _tell_of_failure(self, error: OSError) -> None:
        words = "worker {worker}: a log cannot be written, and lines are lost: {error}"
        self._log.error(words, worker=self._number, error=error)

    def on_serve(self) -> Deferred[None]:
        """Take clients, as soon as all routes that were told are in the table."""
        return self.replica.settled().addCallback(lambda _: self._serve())

    def _serve(self) -> None:
        if self.data_path is not None and not self._is_ending:
            self.data_path.open()
            end_start()
            self._exemptions.begin()
            self._stalls.start()
            self._lag.start()
            self._reports.start(REPORT_SECONDS, now=False).addErrback(
                lambda failure: self._log.failure("unexpected error in a report", failure=failure)
            )

    # Routes.

    def on_change(self, change: Any) -> None:
        """A route is another one."""
        self.replica.change(change)

    def on_hold(self) -> None:
        """Many changes follow."""
        self.replica.hold()

    def on_release(self) -> None:
        """All of them were told."""
        self.replica.release()

    def on_settle(self) -> Deferred[None]:
        """Answer when everything is done."""
        return self.replica.settled()

    def on_ping(self) -> None:
        """Nothing but a sign of life is wanted."""

    # Reloading.

    def on_prepare(self, content: tuple[bytes, int]) -> Deferred[list[str]]:
        """Read and try everything that another configuration needs; the answer has the problems."""
        packed, generation = content
        data_path = self.data_path
        if data_path is None:
            return succeed(["a worker is ending"])

        def prepare() -> Callable[[], None]:
            config, lost = self._unpack(packed)
            # What is not found now either is no reason to keep everything else as it is.
            news = [Problem(words) for words in lost if words not in self._lost]
            if news:
                raise ConfigError(news)
            routes = static_routes(config, self._config, self._static_routes)
            take_data_path = data_path.prepare(config)
            access_writer = self._open_access_file(config)  # last: nothing is left open when something fails

            def take() -> None:
                self._take_config(config, generation, access_writer)
                self._lost = lost
                self._warn_of(lost)
                take_data_path(access_writer or self.writer, self.meters)
                self._static_routes = routes
                self.replica.feed.set_static(routes.values())
                exempt_many(len(routes))

            self._prepared_writer = access_writer
            return take

        done = in_thread(self._reactor, prepare)
        return done.addCallbacks(self._prepared, self._not_prepared)

    def _prepared(self, take: Callable[[], None]) -> list[str]:
        self._take_prepared = take
        return []

    def _not_prepared(self, failure: Failure) -> list[str]:
        error = failure.value
        if isinstance(error, ConfigError):
            return [str(problem) for problem in error.problems]
        if not isinstance(error, OptionError | TlsError | OSError):
            self._log.failure("unexpected error in a reload", failure=failure)
        return [str(error)]

    def on_take(self) -> bool:
        """Carry out what was prepared; False if nothing was."""
        take, self._take_prepared, self._prepared_writer = self._take_prepared, None, None
        if take is None:
            return False
        take()
        return True

    def on_forget(self) -> None:
        """What was prepared is not wanted."""
        writer, self._take_prepared, self._prepared_writer = self._prepared_writer, None, None
        if writer is not None:
            writer.close()

    def _take_config(self, config: Config, generation: int, access_writer: LineWriter | None) -> None:
        self._generations.begin(generation, config.servers)
        running, self._config = self._config, config
        for observer in (self.observer, self._stall_observer):
            observer.configure(config.log.format, config.log.level)
        if config.log.stall_after != running.log.stall_after:
            self._stalls.restart(config.log.stall_after)
        self.meters = renew_meters(config, self.meters)
        self.activity.ignore(config.activity.ignore)
        before, self._access_writer = self._access_writer, access_writer
        if before is not None:
            self._dropped_before += before.dropped
            before.close(0)  # what it has goes on being written, without us

    # Managed servers.

    def on_server(self, content: Any) -> None:
        """How a server is now."""
        self.supervisor.on_server(content)

    def on_printed(self, content: Any) -> None:
        """A server has printed something."""
        self.supervisor.on_printed(content)

    def on_failure(self, facts: list[Any]) -> None:
        """Another worker tells of a start that has failed."""
        if self.data_path is not None and self.data_path.launcher is not None:
            self.data_path.launcher.pages.note_failure(ServerStartError(*facts))

    def _tell_failure(self, error: ServerStartError) -> None:
        self.link.tell("failure", list(error.facts))

    # Reports.

    def _report(self) -> None:
        """Tell what is new, if anything is."""
        routes, activity, numbers = self.touches.take(), self.activity.last, self._numbers(None).as_json()
        news = routes, activity, numbers["meters"]
        if news != self._told:
            self._told = news
            self.link.tell("report", {"routes": routes, "activity": activity, "numbers": numbers})

    def on_numbers(self) -> dict[str, Any] | None:
        """What there is to be counted, now."""
        return None if self.data_path is None else self._numbers(self.data_path).as_json()

    def _numbers(self, data_path: DataPath | None) -> Numbers:
        """What is counted; with the gauges, which take a moment for each connection, if `data_path` is given."""
        cpu_seconds, resident_bytes = process_costs()
        return Numbers(
            meters=self.meters,
            gauges=None if data_path is None else data_path.gauges(),
            stalls=self._stalls.count,
            dropped_lines=self._dropped_before + (self._access_writer or self.writer).dropped,
            lag=self._lag.seconds,
            cpu_seconds=cpu_seconds,
            resident_bytes=resident_bytes,
        )

    # What an operator asks for.

    def on_reopen(self) -> None:
        """Go on in the file that is at the path of the access log now."""
        if self._access_writer is not None:
            try:
                self._access_writer.reopen()
            except OSError as error:
                words = "worker {worker}: the access log cannot be opened again, and stays where it is: {error}"
                self._log.error(words, worker=self._number, error=error)

    def on_dump(self) -> None:
        """Log how things are."""
        if self.data_path is not None:
            facts = [
                f"worker {self._number} of proxyd {__version__}, up {time.monotonic() - self._began:.0f} s",
                f"event loop: stalls: {self._stalls.count}",
            ]
            dump_state(self.data_path, facts, self._config.log.level)

    def on_readiness(self, words: bytes) -> None:
        """What readiness says from now on."""
        if self.data_path is not None:
            self.data_path.tree.readiness = words

    # The end.

    def on_announce(self) -> None:
        """The end is near: keep no connection, and say so to load balancers."""
        if self.data_path is not None:
            self.data_path.announce_end(0)

    def on_drain(self, seconds: float) -> None:
        """Take no new clients, finish what is served within `seconds`, and end."""
        self._is_ending = True
        if self.data_path is None:
            self._end()
            return
        drained = self.data_path.stop_listening()
        drained.addCallback(lambda _: self._drain(seconds))
        drained.addErrback(lambda failure: self._log.failure("unexpected error at the end", failure=failure))
        drained.addCallback(lambda _: self.close())

    def _drain(self, seconds: float) -> Deferred[None] | None:
        return None if self.data_path is None else self.data_path.drain(seconds, self._are_others_busy)

    def _are_others_busy(self) -> bool:
        """Whether other workers have exchanges, when there are none here any more."""
        if not self._is_quiet:
            self._is_quiet = True
            self.link.tell("quiet")
        return not self._may_end and not self.link.is_lost

    def on_goodbye(self) -> None:
        """Nobody has exchanges any more: tunnels may end."""
        self._may_end = True

    def on_hurry(self) -> None:
        """Wait for nothing any more."""
        if self.data_path is not None:
            self.data_path.hurry()

    def _link_lost(self) -> None:
        if not self._is_ending:
            self._log.error("the controller is gone: finishing what is being served, and ending")
            self.on_drain(self._config.drain_seconds if self.data_path is not None else 0.0)

    def close(self) -> None:
        """Cut what is left, and end the process."""
        data_path = self.data_path
        if data_path is not None:
            self._report()
            if self._reports.running:
                self._reports.stop()
            self._lag.stop()
            self._stalls.stop()
            self._exemptions.end()
            data_path.close()
            if self._access_writer is not None:
                self._access_writer.close()
            self.writer.close()
        self.data_path = None
        self._reactor.callLater(0.1, self._end)  # the link takes a turn or two for the last report


def _socket_of(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    return sock


def run() -> None:
    """Run as the worker of the process that has started this one, until that, or its end, says so."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they are the controller's, though a terminal sends them to all
    leave_last_words()
    from twisted.internet import reactor  # noqa: PLC0415, TID251

    loop: Any = reactor
    keep_steady(loop)
    end_without_looking()
    service = WorkerService(KINDS, loop, os.environ, loop.stop)
    link = socket.socket(fileno=LINK_FD)
    link.setblocking(False)
    loop.adoptStreamConnection(link.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: service.link))
    link.close()
    loop.run(installSignalHandlers=False)
    sys.exit(0)
