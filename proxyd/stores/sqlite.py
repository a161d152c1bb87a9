"""Kind `sqlite`: routes in a file, which outlive the process however it ends.

Requests are served by the table in memory. The database has a thread of its own (`proxyd/stores/writer.py`), which a
change waits for, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.core.changes import Change
from proxyd.errors import RequestError, StoreError
from proxyd.garbage import collecting_later, exempt_many
from proxyd.interfaces import IRouteStore
from proxyd.kinds import Kind
from proxyd.model.routes import Route
from proxyd.model.settings import StoreConfig
from proxyd.option import FilePath, option
from proxyd.stores.database import Row, Work
from proxyd.stores.environment import StoreEnvironment
from proxyd.stores.writer import Writer

# A client of the API waits for it; JupyterHub tries again for up to 30 seconds.
DEADLINE_SECONDS = 10
# The whole file is read, perhaps from a slow disk, before anything is served.
OPEN_SECONDS = 60
# How often the last activity of the routes is written, at most: what a crash loses of it.
ACTIVITY_SECONDS = 10
# So many routes are read or compared before the exchanges get their turn.
_ROUTES_A_TURN = 500
# So many times are written in one transaction: a change waits for it.
_TIMES_A_COMMIT = 5000
# Beyond this the process ends all the same.
_CLOSE_SECONDS = 5


@attrs.frozen(kw_only=True)
class SqliteStoreConfig(StoreConfig):
    """A SQLite file keeps the routes of the API; one process of proxyd has it at a time."""

    path: FilePath = option(
        FilePath(""),
        help="The file, on a local file system; made if it is not there. Empty: `routes.sqlite` in `state_directory`.",
    )


@attrs.define(weakref_slot=False)
class _Kept:
    """A route that is in the file, and the times there.

    It is known by when it came. Its revision would be 130 bytes more: a number for itself, and between these numbers
    the room of whatever made them, which nobody can use.
    """

    route: Route
    created: float
    last_activity: float


@implementer(IRouteStore)
class SqliteRouteStore:
    """Keeps routes in the file at `path`; the clock of `environment` has `callFromThread` as well."""

    _log = Logger()

    def __init__(self, path: Path, environment: StoreEnvironment) -> None:
        self._name = str(path)
        self._clock = environment.clock
        self._reader = environment.reader
        self._entry_of = environment.entry_of
        self._writer = Writer(path, environment.clock, self._tell)
        self._kept: dict[str, _Kept] = {}
        self._revision = 0
        self._watchers: list[Callable[[Change], None]] = []
        self._activity_loop: LoopingCall | None = None
        self._is_open = False
        self._is_closed = False
        self._is_failing = False

    def open(self) -> Deferred[None]:
        """Read the file, or make it, and tell the watchers of the routes there, turn by turn."""
        opened = self._writer.open()
        opened.addTimeout(OPEN_SECONDS, self._clock, lambda _, seconds: self._not_within(seconds))
        return opened.addCallback(lambda found: Deferred.fromCoroutine(self._begin(*found)))

    def close(self) -> None:
        """Write the last activity, and give the file up; blocks for that, but not for ever."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._activity_loop is not None and self._activity_loop.running:
            self._activity_loop.stop()
        if self._is_open:
            self._is_open = False
            times = self._times(list(self._kept.items()))
            self._writer.ask(lambda database: database.touch(times)).addErrback(self._unexpected)
        if not self._writer.close(_CLOSE_SECONDS):
            self._log.error("store {store}: does not end within {seconds} s", store=self._name, seconds=_CLOSE_SECONDS)

    def snapshot(self) -> Deferred[tuple[int, list[Route]]]:
        """All routes, as the watchers have been told."""
        return succeed((self._revision, [kept.route for kept in self._kept.values()]))

    def watch(self, revision: int, changed: Callable[[Change], None]) -> Callable[[], None]:
        """Call `changed` for every change from now on, those that bring the stored routes included."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def put(self, route: Route) -> Deferred[Change]:
        """Create or replace a route."""
        now = self._clock.seconds()
        return self._ask(lambda database: database.put(route, now)).addCallback(lambda changes: changes[0])

    def delete(self, key: str) -> Deferred[Change | None]:
        """Delete a route."""
        return self._ask(lambda database: database.delete(key)).addCallback(
            lambda changes: changes[0] if changes else None
        )

    def replace(self, routes: Iterable[Route]) -> Deferred[list[Change]]:
        """Have exactly these routes; they are compared with the stored ones on the thread of the database."""
        routes, now = list(routes), self._clock.seconds()
        return self._ask(lambda database: database.replace(routes, now))

    def _ask(self, work: Work) -> Deferred[list[Change]]:
        """Have it done; after the deadline it is given up, and if it is done later, the watchers are told then."""
        if not self._is_open:
            return fail(StoreError(self._name, "is not open"))
        return self._writer.ask(work).addTimeout(DEADLINE_SECONDS, self._clock)

    def _not_within(self, seconds: float) -> None:
        raise StoreError(self._name, f"cannot be opened within {seconds:g} seconds")

    async def _tell(self, changes: list[Change]) -> None:
        """Follow what was committed, turn by turn."""
        for start in range(0, len(changes), _ROUTES_A_TURN):
            if start:
                await deferLater(self._clock, 0)
            self._follow(changes[start : start + _ROUTES_A_TURN])

    def _follow(self, changes: Iterable[Change]) -> None:
        now = self._clock.seconds()
        for change in changes:
            if change.route is None:
                self._kept.pop(change.key, None)
            else:
                created = now if change.last_activity is None else change.last_activity
                self._kept[change.key] = _Kept(change.route, created, created)
            self._pass_on(change)

    def _pass_on(self, change: Change) -> None:
        self._revision = change.revision
        for changed in self._watchers:
            changed(change)

    # The beginning.

    async def _begin(self, revision: int, rows: list[Row]) -> None:
        with collecting_later():
            await self._fill(rows)
            exempt_many(len(self._kept))
        self._revision = revision
        self._is_open = True
        loop = self._activity_loop = LoopingCall(lambda: Deferred.fromCoroutine(self._write_activity()))
        loop.clock = self._clock
        loop.start(ACTIVITY_SECONDS, now=False).addErrback(self._unexpected)

    async def _fill(self, rows: list[Row]) -> None:
        for start in range(0, len(rows), _ROUTES_A_TURN):
            if start:
                await deferLater(self._clock, 0)
            if self._is_closed:
                raise StoreError(self._name, "was closed while it was opened")
            for row in rows[start : start + _ROUTES_A_TURN]:
                self._bring_back(row)

    def _bring_back(self, row: Row) -> None:
        """Have a stored route again; one that cannot be read any more stays where it is."""
        key, members, revision, created, last_activity = row
        try:
            if not isinstance(key, str) or self._reader.key_of(key) != key:
                raise ValueError("its key does not begin with one slash, or ends with one")
            if not isinstance(members, str) or not isinstance(posted := json.loads(members), dict):
                raise TypeError("it is not a JSON object")
            if not isinstance(revision, int) or not isinstance(created, float) or not isinstance(last_activity, float):
                raise TypeError("its numbers are none")
            route = self._reader.read(key, posted)
        except (RequestError, RecursionError, TypeError, ValueError) as error:
            self._log.warn(
                "store {store}: the route {prefix} is skipped: {reason}",
                store=self._name,
                prefix=repr(key)[:200],
                reason=str(error),
            )
        else:
            self._kept[key] = _Kept(route, created, last_activity)
            self._pass_on(Change(revision, key, route, last_activity))

    # Last activity.

    async def _write_activity(self) -> None:
        """Write when something last happened; of failures in a row the first one is told, and the end of them."""
        kept = list(self._kept.items())
        times: list[tuple[float, str, float]] = []
        try:
            for start in range(0, len(kept), _ROUTES_A_TURN):
                times += self._times(kept[start : start + _ROUTES_A_TURN])
                await deferLater(self._clock, 0)
            for start in range(0, len(times), _TIMES_A_COMMIT):
                await self._write_times(times[start : start + _TIMES_A_COMMIT])
        except StoreError as error:
            if not self._is_failing and not self._is_closed:
                self._log.warn("{error}; the last activity is not kept", error=str(error))
            self._is_failing = True
        else:
            if self._is_failing and times:
                self._is_failing = False
                self._log.info("store {store}: works again", store=self._name)

    def _times(self, routes: list[tuple[str, _Kept]]) -> list[tuple[float, str, float]]:
        """What of it is not in the file."""
        return [
            (entry.last_activity, key, kept.created)
            for key, kept in routes
            if (entry := self._entry_of(key)) is not None and entry.last_activity > kept.last_activity
        ]

    async def _write_times(self, times: list[tuple[float, str, float]]) -> None:
        await self._ask(lambda database: database.touch(times))
        for seconds, key, created in times:
            kept = self._kept.get(key)
            if kept is not None and kept.created == created:
                kept.last_activity = seconds

    def _unexpected(self, failure: Failure) -> None:
        self._log.failure("unexpected error in a route store", failure=failure)


def path_of(config: SqliteStoreConfig, state_directory: Path) -> Path:
    """Where the file is."""
    return Path(config.path) if config.path else state_directory / "routes.sqlite"


def build(config: SqliteStoreConfig, environment: StoreEnvironment) -> SqliteRouteStore:
    """Make the store; the state directory is made, too, if the file is to be there.

    Raises `StoreError`.
    """
    path = path_of(config, environment.state_directory)
    if not config.path:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreError(str(path), f"its directory cannot be made: {error.strerror}") from None
    return SqliteRouteStore(path, environment)


KIND = Kind(StoreConfig, "sqlite", SqliteStoreConfig, build)
