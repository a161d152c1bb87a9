"""Composition root: from the configuration to a running proxy."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from proxyd import __version__
from proxyd.api.resource import ApiLog
from proxyd.api.rest import RestApi
from proxyd.api.tokens import api_tokens, state_directory
from proxyd.auth.reporting import activity_reports
from proxyd.changeover import Changeover, route_reader
from proxyd.compat.jsp import Imports
from proxyd.config.startup import EX_CONFIG
from proxyd.core.reload import Report
from proxyd.core.table import RouteTable
from proxyd.errors import ListenError, OptionError, Problem, StoreError, TlsError
from proxyd.garbage import Exemptions, end_start, end_without_looking
from proxyd.http.site import Site
from proxyd.hub.activity import Activity, ActivityReports
from proxyd.interfaces import IListener, IRouteStore
from proxyd.kinds import Kinds
from proxyd.listeners.http import HttpConfig, HttpListener
from proxyd.logs import LineWriter, LogObserver
from proxyd.model.routes import Route
from proxyd.model.settings import ApiSettings, Config
from proxyd.monitoring import Monitoring
from proxyd.reload import Reloads
from proxyd.stores.environment import StoreEnvironment
from proxyd.supervisor.supervisor import Supervisor
from proxyd.system.activation import InheritedSockets
from proxyd.system.clock import WallClock, keep_steady
from proxyd.system.limits import raise_open_files_limit
from proxyd.system.notify import Notifier
from proxyd.system.pidfile import remove_pid, write_pid
from proxyd.system.signals import answer_requests, leave_last_words
from proxyd.system.stalls import StallWatch
from proxyd.workers.datapath import DataPath
from proxyd.workers.dump import dump_state
from proxyd.workers.replicas import ReplicatedFeed, ReplicatedStore
from proxyd.workers.reports import Ledger
from proxyd.workers.servers import Front
from proxyd.workers.static import static_routes, worker_count

if TYPE_CHECKING:
    from proxyd.workers.crew import Crew

# Of more static routes than these the start tells only how many there are.
_MAX_ANNOUNCED = 50


class ProxyService(Service):
    """Runs what `config` describes, on `reactor`.

    `file` is where it came from, None for the defaults; `imports` brings the servers that it imports when it is
    read again. `initial_routes` are routes of the API that are there from the start, `front` is for the server at
    `base_url` itself, and with a `cookie_key` none is kept on disk. Opening happens in `privilegedStartService`, while
    the process may still bind low ports; what cannot be opened ends the process with one line and status 1, an option
    that is wrong with status 78.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        kinds: Kinds,
        reactor: Any,
        *,
        file: Path | None = None,
        initial_routes: Iterable[Route] = (),
        environ: MutableMapping[str, str] = os.environ,
        imports: Imports | None = None,
        front: Front | None = None,
        cookie_key: bytes = b"",
    ) -> None:
        self._front = front
        self._cookie_key = cookie_key
        self.config = config
        self._kinds = kinds
        self._reactor = reactor
        self._environ = environ
        self._file = file
        self._initial_routes = initial_routes
        self.writer = LineWriter(sys.stdout.fileno(), reactor)
        self._observer: LogObserver | None = None
        self._access_writer: LineWriter | None = None
        self._dropped_before = 0
        self.table = RouteTable()
        self.static_routes: Mapping[str, Route] = {}
        self.feed = ReplicatedFeed(self.table, reactor, WallClock(reactor).seconds)
        self._exemptions = Exemptions(lambda: self.table.version)
        self.reader = route_reader(config, kinds)
        self.store: IRouteStore | None = None
        self._store_error: StoreError | None = None
        self.api: HttpListener | None = None
        self.monitoring: Monitoring | None = None
        self._stalls: StallWatch | None = None
        self._stall_observer: LogObserver | None = None
        self._opened = 0.0
        self.notifier = Notifier(environ, reactor)
        # The limits of descriptors that were there before we raised ours: children get them again.
        self.open_files_limit: tuple[int, int] | None = None
        self.data_path: DataPath | None = None
        self.crew: Crew | None = None
        self._ledger = Ledger()
        self.supervisor: Supervisor | None = None
        self.activity = Activity(time.time, config.activity.ignore)
        self.reports: ActivityReports | None = None
        self.rest: RestApi | None = None
        changeover = Changeover(
            self,
            kinds,
            reactor,
            place=None if file is None else file.absolute(),  # twistd may change the directory
            environ=environ,
            imports=imports or Imports(environ),
        )
        self._reloads = Reloads(changeover.prepare, reactor, self._reload_began, self._reload_done)

    def observer(self) -> LogObserver:
        """What writes the events of this process."""
        if self._observer is None:
            log = self.config.log
            colors = os.isatty(sys.stdout.fileno())
            self._observer = LogObserver(self.writer.write, log.format, log.level, colors=colors)
        return self._observer

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application, and give it our form of log."""
        parent.setComponent(ILogObserver, self.observer())
        super().setServiceParent(parent)

    # Starting.

    def privilegedStartService(self) -> None:
        """Open everything."""
        try:
            self.open()
        except OptionError as error:
            self.close()
            complain(Problem(str(error), ".".join(map(str, error.path))))
            raise SystemExit(EX_CONFIG) from None
        except (ListenError, StoreError, TlsError, OSError) as error:
            self.close()
            complain(error)
            raise SystemExit(1) from None

    def open(self) -> None:
        """Build everything and open all listeners.

        Nothing is served until the store has brought its routes. Raises `ListenError`, `StoreError`, `TlsError`,
        `OptionError` for what should be in the environment, and `OSError` for a file that cannot be read or written; a
        store that fails later, when the reactor runs, ends the process.
        """
        config = self.config
        leave_last_words()
        keep_steady(self._reactor)
        end_without_looking()
        self.open_files_limit = raise_open_files_limit()
        self._opened = time.monotonic()
        self.writer.told_of_drops = self._tell_of_drops
        self.supervisor = self._make_supervisor(config)
        self.static_routes = static_routes(config)
        self.feed.set_static(self.static_routes.values())
        store = self.store = self._make_store()
        self._access_writer = self._open_access_file(config)
        stalls = self._stalls = StallWatch(self._reactor, config.log.stall_after, self._make_stall_log())
        access_writer = self._access_writer or self.writer
        monitoring = self.monitoring = Monitoring(
            config, self._ledger, stalls=lambda: stalls.count, dropped_lines=self._dropped_lines
        )
        self.reports = self.make_reports(config)
        state = state_directory(config.state_directory, self._environ)
        count = worker_count(config)
        if count > 1:
            from proxyd.workers.crew import Crew  # noqa: PLC0415  # loads AMP, and what starts processes

            self.crew = Crew(
                count,
                config,
                self._reactor,
                self.feed,
                self.supervisor,
                self.activity,
                self._ledger,
                state=state,
                environ=self._environ,
            )
            self.writer.turn = self.crew.turn()
        data_path = self.data_path = DataPath(
            config,
            self._kinds,
            self.table,
            self._reactor,
            access_writer=access_writer,
            meters=monitoring.meters,
            state=state,
            supervisor=self.supervisor,
            front=self._front,
            cookie_key=self._cookie_key,
            environ=self._environ,
            touch_of=self.activity.touch_of,
        )
        monitoring.attach(data_path, self.supervisor, self.crew)
        if config.api is not None:
            self.api = self._make_api(data_path, config.api, store, monitoring)
            data_path.listeners.append(self.api)
        data_path.open(InheritedSockets.of(self._environ), accepts=self.crew is None)
        data_path.reactor.pause()
        answer_requests(
            self._reactor,
            {signal.SIGHUP: self.reload, signal.SIGUSR1: self.reopen_logs, signal.SIGUSR2: self.dump_state},
        )
        monitoring.start()
        stalls.start()
        filling = Deferred.fromCoroutine(self._fill_table(store))
        filling.addCallback(lambda _: self._begin(data_path)).addErrback(self._end_without_routes)
        if self._store_error is not None:
            raise self._store_error
        self._write_pid_file(config.pid_file)
        end_start()

    def _make_supervisor(self, config: Config) -> Supervisor:
        """What runs the managed servers; `wrap` has its own ways."""
        return Supervisor(
            config.servers,
            self._reactor,
            base_url=config.base_url,
            environ=self._environ,
            open_files=self.open_files_limit[0] if self.open_files_limit else 0,
        )

    def _open_access_file(self, config: Config) -> LineWriter | None:
        if not config.log.access_file:
            return None
        writer = LineWriter.to_file(config.log.access_file, self._reactor)
        writer.told_of_drops = self._tell_of_drops
        writer.told_of_failure = self._tell_of_failure
        return writer

    def _write_pid_file(self, path: str) -> None:
        if path:
            write_pid(Path(path))
            self._log.info("Writing pid {pid} to {path}", pid=os.getpid(), path=path)

    def reopen_logs(self) -> None:
        """Go on in the files that are at the paths of the logs now: somebody has moved the old ones away."""
        if self.crew is not None:
            self.crew.reopen_logs()
        writer = self._access_writer
        if writer is None:
            self._log.info("there is no log file to open again")
            return
        try:
            writer.reopen()
        except OSError as error:
            self._log.error("the access log cannot be opened again, and stays where it is: {error}", error=error)
        else:
            self._log.info("the access log is opened again")

    def dump_state(self) -> None:
        """Log how things are."""
        if self.data_path is None:
            return
        facts = [f"proxyd {__version__}, up {time.monotonic() - self._opened:.0f} s"]
        lag = None if self.monitoring is None else self.monitoring.lag
        if lag is not None and self._stalls is not None:
            facts.append(f"event loop: at most {lag.seconds:.3f} s late, stalls: {self._stalls.count}")
        dropped = self.writer.dropped + (self._access_writer.dropped if self._access_writer is not None else 0)
        facts.append(f"lines of the logs dropped: {dropped}")
        dump_state(self.data_path, facts, self.config.log.level)
        if self.crew is not None:
            self.crew.dump_state()

    def _tell_of_drops(self, count: int) -> None:
        self._log.warn("{count} lines of a log were dropped, because its reader did not keep up", count=count)

    def _dropped_lines(self) -> int:
        """How many lines of the access log found no place."""
        return self._dropped_before + (self._access_writer or self.writer).dropped

    def _tell_of_failure(self, error: OSError) -> None:
        self._log.error("a log cannot be written, and lines are lost: {error}", error=error)

    def _make_stall_log(self) -> Logger:
        log = self.config.log
        observer = self._stall_observer = LogObserver(self.writer.write_from_thread, log.format, log.level)
        return Logger(namespace="proxyd.system.stalls", observer=observer)

    def _make_store(self) -> IRouteStore:
        directory = Path() if self._file is None else self._file.parent
        state = state_directory(self.config.state_directory, self._environ)
        environment = StoreEnvironment(WallClock(self._reactor), directory, self.reader, self.table.get, state)
        section = self.config.store
        store: IRouteStore = self._kinds.of_config(section).build(section, environment)
        return store

    async def _fill_table(self, store: IRouteStore) -> None:
        store.watch(0, self.feed.take)
        await store.open()
        for route in self._initial_routes:
            await store.put(route)

    def _begin(self, data_path: DataPath) -> None:
        if self.data_path is data_path:  # or the end has come meanwhile
            data_path.reactor.resume()
            self._exemptions.begin()
            if self.crew is None:
                self._serve(data_path)
            else:
                # Not before twistd has given up the rights that the start needed.
                self._reactor.callWhenRunning(self._start_workers, data_path, self.crew)

    def _start_workers(self, data_path: DataPath, crew: Crew) -> None:
        if self.crew is crew:
            crew.start(data_path).addCallbacks(lambda _: self._serve(data_path), self._end_at_start)

    def _serve(self, data_path: DataPath) -> None:
        """Somebody serves from now on."""
        if self.data_path is data_path:
            self._announce(data_path)
            self._reloads.begin()
            self._reactor.callWhenRunning(self._begin_servers)
            if self.reports is not None:
                self.reports.start()
            # Not before the reactor turns, and the rest of the start has gone well.
            self._reactor.callLater(0, self._notify_ready)

    def _notify_ready(self) -> None:
        if self.data_path is not None:
            self.notifier.ready(f"serving; listeners: {len(self.data_path.listeners)}, routes: {len(self.table)}")

    def _begin_servers(self) -> None:
        if self.supervisor is not None:
            self.supervisor.begin()

    def _end_without_routes(self, failure: Failure) -> None:
        """End with one line and status 1; before the reactor runs, whoever starts us does that."""
        error = failure.value
        if not isinstance(error, StoreError):
            self._log.failure("unexpected error at the start", failure=failure)
            error = StoreError(type(self.store).__name__, "unexpected error, see the log")
        self._store_error = error
        if self._reactor.running:
            self._end_at_start(Failure(error))

    def _end_at_start(self, failure: Failure) -> None:
        """End with one line and status 1, while the reactor runs."""
        if self.data_path is not None:
            self.close()
            complain(failure.value)
            atexit.register(os._exit, 1)  # neither twistd nor the reactor has a status to end with
            self._reactor.stop()

    def _announce(self, data_path: DataPath) -> None:
        """Say where everything is; tools wait for these lines."""
        if self._file is not None:
            self._log.info("configuration: {path}", path=str(self._file))
        default = self.table.get("/")
        target = default.route.upstream.url if default is not None else "(no default)"
        public = ""
        for listener in data_path.listeners:
            if listener is self.api:
                self._log.info("{purpose} {where}/api/routes", purpose=listener.purpose, where=self._told(listener))
            elif self.monitoring is not None and listener is self.monitoring.listener:
                self.monitoring.announce()
            elif listener.purpose == "Proxying":
                public = public or listener.where
                self._log.info("Proxying {where} to {target}", where=self._told(listener), target=target)
            else:
                self._log.info("{purpose} {where}", purpose=listener.purpose, where=listener.where)
        routes = self.config.routes
        for key, spec in islice(routes.items(), _MAX_ANNOUNCED):
            url = public.replace("*", "localhost") + key if key.startswith("/") else f"http://{key}"
            self._log.info("{url} leads to {upstream}", url=url.rstrip("/") + "/", upstream=spec.upstream)
        if len(routes) > _MAX_ANNOUNCED:
            self._log.info("... and {count} more static routes", count=len(routes) - _MAX_ANNOUNCED)
        pages = self.config.errors.directory
        if pages and not Path(pages).is_dir():
            self._log.warn("there is no directory {path}: errors have no pages", path=pages)

    def _told(self, listener: IListener) -> str:
        """Where a listener is, as readers of the log expect it; those of CHP want a scheme in front of a path, too."""
        where: str = listener.where
        if self.config.log.format != "chp" or "://" in where or not isinstance(listener, HttpListener):
            return where
        return f"{listener.scheme}://{where}"

    def _make_api(
        self,
        data_path: DataPath,
        api: ApiSettings,
        store: IRouteStore,
        monitoring: Monitoring,
    ) -> HttpListener:
        config = self.config
        rest = self.rest = RestApi(
            config,
            api_tokens(api, state_directory(config.state_directory, self._environ), self._environ),
            self._kinds,
            self._reactor,
            is_chp=api.route_options == "verbatim",
            feed=self.feed,
            store=store if self.crew is None else ReplicatedStore(store, self.crew.workers),
            reader=self.reader,
            reload=self.reload,
            supervisor=self.supervisor,
            exposition=monitoring.of_api,
            count=monitoring.count,
        )

        def make_site() -> Site:
            site = data_path.make_site(rest.root, logs_access=False)
            site.access_log = ApiLog()
            site.meters = None if monitoring.meters is None else monitoring.meters.api
            return site

        place = HttpConfig(address=api.address, port=api.port, socket=api.socket)
        return HttpListener(place, make_site, data_path.reactor, "Proxy API at", api.tls)

    # Reloading.

    def reload(self) -> Deferred[Report]:
        """Read the configuration, and all files that it names, again, and apply what has changed.

        The Deferred does not fail: the report has the problems because of which nothing changed.
        """
        return self._reloads.run()

    def _reload_began(self) -> None:
        """A reload begins."""
        self.notifier.reloading()

    def _reload_done(self, report: Report) -> None:
        """It is over, however it ended."""
        self._notify_ready()
        if self.monitoring is not None:
            self.monitoring.reload_done(applied=report.is_good)

    def make_reports(self, config: Config) -> ActivityReports | None:
        """What tells the Hub of activity; it does not yet."""
        return activity_reports(config, self._environ, self._reactor, lambda: self.activity.last)

    def take_files(self, config: Config) -> LineWriter:
        """Have the tokens, files and logs of `config`; gives back the writer of the access log.

        Raises `OSError`; nothing has changed then.
        """
        running = self.config
        tokens = None
        if config.api is not None and (config.api, config.state_directory) != (running.api, running.state_directory):
            tokens = api_tokens(config.api, state_directory(config.state_directory, self._environ), self._environ)
        access_writer = self._open_access_file(config)
        try:
            if config.pid_file != running.pid_file:
                self._write_pid_file(config.pid_file)
        except OSError:
            if access_writer is not None:
                access_writer.close()
            raise
        if config.pid_file != running.pid_file:
            self._remove_pid_file()
        self.config = config
        for observer in (self.observer(), self._stall_observer):
            if observer is not None:
                observer.configure(config.log.format, config.log.level)
        if self._stalls is not None and config.log.stall_after != running.log.stall_after:
            self._stalls.restart(config.log.stall_after)
        before, self._access_writer = self._access_writer, access_writer
        if before is not None:
            self._dropped_before += before.dropped
            before.close(0)  # what it has goes on being written, without us
        if self.rest is not None:
            self.rest.take(config, tokens)
        return access_writer or self.writer

    # Stopping.

    def stopService(self) -> Deferred[None] | None:
        """Take no new clients, after `drain_delay_seconds`, finish what is served within `drain_seconds`, and end.

        A second signal hurries.
        """
        super().stopService()
        self._reloads.end()
        data_path = self.data_path
        if data_path is None:
            return None
        self._log.info("stopping, once what is being served is finished")
        self.notifier.stopping("finishing what is being served")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._hurry, data_path))
        if self.crew is not None:
            self.crew.announce_end()
        done = data_path.announce_end(self.config.drain_delay_seconds)
        done.addCallback(self._stop_listening)
        done.addCallback(lambda _: self._drain(data_path))
        done.addCallback(lambda _: self._stop_servers())
        done.addCallback(lambda _: self.close())
        return done

    def _stop_listening(self, _: object) -> Deferred[None] | None:
        if self.rest is not None:
            self.rest.end_streams()
        return None if self.data_path is None else self.data_path.stop_listening()

    def _drain(self, data_path: DataPath) -> Deferred[None]:
        """Finish what is being served, here and elsewhere."""
        seconds = self.config.drain_seconds
        if self.crew is None:
            return data_path.drain(seconds)
        return gatherResults([data_path.drain(seconds), self.crew.drain(seconds)]).addCallback(lambda _: None)

    def _hurry(self, data_path: DataPath) -> None:
        data_path.hurry()
        if self.crew is not None:
            self.crew.hurry()

    def _stop_servers(self) -> Deferred[None] | None:
        """Once nobody needs them any more, with the signal that ends us."""
        number = getattr(self._reactor, "_exitSignal", None) or signal.SIGTERM
        return None if self.supervisor is None else self.supervisor.shutdown(number)

    def close(self) -> None:
        """Cut what is left, and leave nothing behind."""
        self._reloads.end()
        self._exemptions.end()
        data_path, self.data_path = self.data_path, None
        crew, self.crew = self.crew, None
        if crew is not None:
            crew.close()
        if self.rest is not None:
            self.rest.end_streams()
        if self.reports is not None:
            self.reports.stop()
        supervisor, self.supervisor = self.supervisor, None
        if supervisor is not None:
            supervisor.close()
        for watch in (self.monitoring, self._stalls):
            if watch is not None:
                watch.stop()
        self.notifier.close()
        if self.store is not None:
            self.store.close()
        try:
            if data_path is not None:
                data_path.close()
        except Exception:  # noqa: BLE001  # the end of everything; the rest has to be done all the same
            self._log.failure("unexpected error while closing")
        self._remove_pid_file()
        if self._access_writer is not None:
            self._access_writer.close()
        self.writer.close()

    def _remove_pid_file(self) -> None:
        if self.config.pid_file:
            remove_pid(Path(self.config.pid_file))


def complain(error: BaseException | Problem | None) -> None:
    """Print why the process ends; twistd has made `sys.stderr` a part of the log, which is not written any more."""
    with suppress(OSError):
        print(f"proxyd: {error}", file=sys.__stderr__, flush=True)
