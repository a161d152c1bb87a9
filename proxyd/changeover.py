"""From one configuration to another in a proxy that runs: what a reload reads, tries, and carries out.

`proxyd.reload` asks for it. What has changed is decided by `core.reload`, and what of the routes by `core.rereading`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from proxyd.api.rest import RestApi
from proxyd.auth.reporting import is_reported_alike
from proxyd.compat.jsp import Imports
from proxyd.config.loader import load
from proxyd.config.types import read_posted_options
from proxyd.core.posted import RouteReader
from proxyd.core.reload import Report, plan_reload
from proxyd.core.rereading import Rereading
from proxyd.core.table import RouteTable
from proxyd.errors import ConfigError, OptionError, Problem
from proxyd.garbage import exempt_many
from proxyd.hub.activity import Activity, ActivityReports
from proxyd.kinds import Kinds
from proxyd.listeners.http import HttpListener
from proxyd.logs import LineWriter
from proxyd.model.routes import Route
from proxyd.model.settings import Config
from proxyd.monitoring import Monitoring
from proxyd.reload import Take
from proxyd.workers.datapath import DataPath
from proxyd.workers.replicas import ReplicatedFeed
from proxyd.workers.static import static_routes

if TYPE_CHECKING:
    from proxyd.workers.crew import Crew


class Running(Protocol):
    """What runs, and changes. What is None is not there."""

    config: Config
    static_routes: Mapping[str, Route]
    table: RouteTable
    feed: ReplicatedFeed
    reader: RouteReader
    data_path: DataPath | None
    crew: Crew | None
    api: HttpListener | None
    rest: RestApi | None
    monitoring: Monitoring | None
    activity: Activity
    reports: ActivityReports | None

    def make_reports(self, config: Config) -> ActivityReports | None:
        """What tells the Hub of activity; it does not yet."""

    def take_files(self, config: Config) -> LineWriter:
        """Have the tokens, files and logs of `config`; gives back the writer of the access log.

        Raises `OSError`; nothing has changed then.
        """


class Changeover:
    """Brings `running` to what the file at `place` says; without one, to what it says itself, files included.

    `reactor` is where things change, `imports` brings the servers that the file imports.
    """

    _log = Logger()

    def __init__(
        self,
        running: Running,
        kinds: Kinds,
        reactor: Any,
        *,
        place: Path | None,
        environ: Mapping[str, str],
        imports: Imports,
    ) -> None:
        self._running = running
        self._kinds = kinds
        self._reactor = reactor
        self._place = place
        self._environ = environ
        self._imports = imports

    def prepare(self) -> Take:
        """Read and try everything that another configuration needs; called on a thread.

        Raises `ConfigError`, `TlsError` and `OSError`.
        """
        running, data_path, api = self._running, self._running.data_path, self._running.api
        if data_path is None:
            raise ConfigError([Problem("proxyd is ending")])
        before = wanted = running.config
        if self._place is not None:
            wanted = self._imports.complete(load(self._place, self._kinds, self._environ), self._warn_from_thread)
        plan = plan_reload(before, wanted)
        config = plan.config
        directory = config.errors.directory
        if directory and directory != before.errors.directory and not Path(directory).is_dir():
            raise ConfigError([Problem("there is no such directory", "errors.directory", directory)])
        routes = static_routes(config, before, running.static_routes)
        take_data_path = data_path.prepare(config, plan.new_listeners)
        take_tls = api.prepare(config.api.tls) if api is not None and config.api is not None else None
        take_reports = self._prepare_reports(config)
        rereading = None
        reader = route_reader(config, self._kinds)
        if reads_otherwise(config, before):
            rereading = Rereading(reader)
            rereading.prepare(running.table.posted_routes)

        def take() -> Report:
            if rereading is not None:
                rereading.prepare(running.table.posted_routes)  # those that have come since
            monitoring = running.monitoring
            opened = None if monitoring is None else monitoring.open(config)
            try:
                access_writer = running.take_files(config)
            except OSError:
                if opened is not None:
                    opened.close()
                raise
            take_reports()
            self._take_monitoring(config, opened)
            take_data_path(access_writer, None if monitoring is None else monitoring.meters)
            if take_tls is not None:
                take_tls()
            running.static_routes = routes
            running.feed.set_static(routes.values())
            if rereading is not None:
                self._read_again(rereading, reader)
            exempt_many(len(routes))
            return Report(plan.applied, plan.needs_restart)

        crew = running.crew
        carry_out = take if crew is None else partial(self._take_everywhere, crew, config, crew.pack(config), take)
        return carry_out if rereading is None else partial(self._take_and_read_again, carry_out)

    async def _take_everywhere(self, crew: Crew, config: Config, packed: bytes, take: Callable[[], Report]) -> Report:
        """Carry a reload out here and in all workers, or nowhere.

        Raises `OSError` and `ConfigError`; nothing has changed then.
        """
        problems = await crew.prepare(packed)
        if self._running.crew is not crew:
            problems = (Problem("proxyd is ending"),)
        if problems:
            return Report(problems=problems)
        try:
            report = take()
        except (ConfigError, OSError):
            crew.forget()
            raise
        await crew.take(config, packed)
        return report

    async def _take_and_read_again(self, carry_out: Take) -> Report:
        """Carry a reload out while nobody changes routes of the API, and bring in what they mean from then on.

        Raises what `carry_out` raises; nothing has changed then.
        """
        running = self._running

        async def work() -> Report:
            version = running.reader.version
            try:
                taken = carry_out()
                return taken if isinstance(taken, Report) else await taken
            finally:
                if running.reader.version != version:
                    await running.feed.release()

        return await (work() if running.rest is None else running.rest.alone(work))

    def _read_again(self, rereading: Rereading, reader: RouteReader) -> None:
        """Have posted routes as `reader` reads them; they are in the table when the feed is released."""
        running, table = self._running, self._running.table
        running.reader.read_as(reader)
        if running.rest is not None:
            running.rest.become(is_chp=reader.read_options is None)
        times = {entry.route.key: entry.last_activity for entry in table}
        running.feed.hold()
        for change in rereading.changes(table.posted_routes, table.revision, times.get):
            running.feed.take(change)

    def _take_monitoring(self, config: Config, opened: HttpListener | None) -> None:
        running, monitoring = self._running, self._running.monitoring
        if monitoring is None:
            return
        monitoring.take(config, opened)
        if running.rest is not None:
            running.rest.show(monitoring.of_api, monitoring.count)
        if running.api is not None:
            running.api.site.meters = None if monitoring.meters is None else monitoring.meters.api

    def _prepare_reports(self, config: Config) -> Callable[[], None]:
        """Look at what reports of activity need; those that go on as they are keep their pace."""
        running = self._running
        if is_reported_alike(running.config, config):
            return lambda: None
        try:
            reports = running.make_reports(config)
        except OptionError as error:
            raise ConfigError([Problem(str(error), ".".join(map(str, error.path)))]) from None

        def take() -> None:
            running.activity.ignore(config.activity.ignore)
            before, running.reports = running.reports, reports
            if before is not None:
                before.stop()
            if reports is not None:
                reports.start()

        return take

    def _warn_from_thread(self, words: str) -> None:
        self._reactor.callFromThread(self._log.warn, "{words}", words=words)


def route_reader(config: Config, kinds: Kinds) -> RouteReader:
    """What reads posted routes."""
    typed = config.api is None or config.api.route_options == "typed"
    return RouteReader(config.host_routing, partial(read_posted_options, kinds=kinds) if typed else None)


def reads_otherwise(config: Config, running: Config) -> bool:
    """Whether keys and members of posted routes mean something else."""
    facts = ((each.host_routing, each.api and each.api.route_options) for each in (config, running))
    return next(facts) != next(facts)
