"""What is counted, and where the numbers are shown: by the API, or on a listener of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from twisted.logger import Logger

from proxyd.api.metrics import MetricsApi
from proxyd.api.resource import ApiResource
from proxyd.errors import ConfigError, ListenError, Problem
from proxyd.http.site import Site
from proxyd.listeners.http import HttpConfig, HttpListener
from proxyd.metrics.exposition import ChpExposition, NativeExposition
from proxyd.metrics.lag import EventLoopLag
from proxyd.metrics.meters import Meters
from proxyd.model.settings import Config
from proxyd.option import FilePath, Port
from proxyd.supervisor.supervisor import Supervisor
from proxyd.workers.datapath import DataPath
from proxyd.workers.reports import Ledger
from proxyd.workers.static import make_meters, renew_meters

if TYPE_CHECKING:
    from proxyd.workers.crew import Crew

Count = Callable[[], Awaitable[None]]
"""What brings the numbers of the workers into a page."""


class Monitoring:
    """Counts and shows what `config` says, with what the workers have told, which is in `ledger`.

    `stalls` and `dropped_lines` count those of this process.
    """

    _log = Logger()

    def __init__(
        self, config: Config, ledger: Ledger, *, stalls: Callable[[], int], dropped_lines: Callable[[], int]
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._stalls = stalls
        self._dropped_lines = dropped_lines
        self.meters = make_meters(config)
        self.exposition: NativeExposition | ChpExposition | None = None
        self.listener: HttpListener | None = None
        self.lag: EventLoopLag | None = None
        self._root: ApiResource | None = None
        self._site: Site | None = None

    def attach(self, data_path: DataPath, supervisor: Supervisor, crew: Crew | None) -> None:
        """Show the numbers of these; a listener of their own is among those of the data path, which opens it."""
        self._data_path, self._supervisor, self._crew = data_path, supervisor, crew
        self._make_exposition()
        if self._config.metrics.is_shown_apart and self.exposition is not None:
            self.listener = self._make_listener(self._config)
            data_path.listeners.append(self.listener)

    def start(self) -> None:
        """Look at the event loop, if anybody can see it."""
        if self.lag is not None:
            self.lag.start()

    def stop(self) -> None:
        """Look at nothing any more."""
        if self.lag is not None:
            self.lag.stop()

    @property
    def of_api(self) -> NativeExposition | ChpExposition | None:
        """What the API shows."""
        return None if self.listener is not None else self.exposition

    @property
    def count(self) -> Count | None:
        """What comes before each page; None without workers."""
        if self._crew is None or self.exposition is None or self.meters is None:
            return None
        return partial(self._crew.count_into, self.exposition, self.meters)

    def announce(self) -> None:
        """Say where the listener is; tools wait for this line."""
        listener = self.listener
        if listener is not None:
            # With the path of a socket in place of host and port, as tools expect it.
            where = listener.where if "://" in listener.where else f"http://{listener.where}"
            self._log.info("{purpose} {where}/metrics", purpose=listener.purpose, where=where)

    def reload_done(self, *, applied: bool) -> None:
        """Count a reload."""
        if isinstance(self.meters, Meters):
            self.meters.reload_done(applied=applied)

    # Reloading.

    def open(self, config: Config) -> HttpListener | None:
        """Listen where `config` wants the numbers to be, if that is another place; None if it is not.

        Raises `ConfigError`.
        """
        if not self._moves(config) or not config.metrics.is_shown_apart:
            return None
        listener = self._make_listener(config)
        try:
            listener.open()
        except ListenError as error:
            raise ConfigError([Problem(str(error), "metrics")]) from None
        return listener

    def take(self, config: Config, opened: HttpListener | None) -> None:
        """Count and show as `config` says, on the listener that `open` has made for it."""
        moves, counted = self._moves(config), self.meters
        self._config = config
        self.meters = renew_meters(config, counted)
        if self.meters is not counted:
            self._ledger.restart()
            self._make_exposition()
            self.start()
        if moves:
            before, self.listener = self.listener, opened
            listeners = self._data_path.listeners
            if before is not None:
                listeners.remove(before)
                before.close()
            if opened is not None:
                listeners.append(opened)
            self.announce()
        if self._root is not None:
            self._serve(self._root)

    def _moves(self, config: Config) -> bool:
        before, after = self._config.metrics, config.metrics
        return (before.is_shown_apart, before.place) != (after.is_shown_apart, after.place)

    def _make_exposition(self) -> None:
        self.stop()
        self.lag = None
        meters, data_path, others = self.meters, self._data_path, self._ledger
        if not isinstance(meters, Meters):
            self.exposition = None if meters is None else ChpExposition(meters)
            return
        lag = self.lag = EventLoopLag(data_path.reactor)
        self.exposition = NativeExposition(
            meters,
            lambda: others.gauges(data_path.gauges()),
            lag=lambda: max(lag.seconds, others.lag),
            stalls=lambda: others.stalls + self._stalls(),
            dropped_lines=lambda: others.dropped_lines + self._dropped_lines(),
            certificates=data_path.certificates,
            servers=self._supervisor,
            crew=self._crew,
        )

    def _make_listener(self, config: Config) -> HttpListener:
        address, port, socket = config.metrics.place
        place = HttpConfig(address=address, port=Port(port), socket=FilePath(socket))
        return HttpListener(place, self._make_site, self._data_path.reactor, "Serve metrics at")

    def _make_site(self) -> Site:
        """One for all listeners: who is connected to the one before goes on."""
        if self._site is None:
            self._root = ApiResource(MetricsApi.router, None, (), is_chp=True)
            self._serve(self._root)
            self._site = self._data_path.make_site(self._root, logs_access=False)
        return self._site

    def _serve(self, root: ApiResource) -> None:
        exposition = self.exposition if self._config.metrics.is_shown_apart else None
        shown = [(MetricsApi.router, MetricsApi(exposition, self.count))] if exposition is not None else []
        root.serve([*shown], is_chp=True)
