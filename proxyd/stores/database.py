"""Routes in a SQLite file: how it is opened, changed, and brought to the newest schema.

Everything here blocks, and belongs to the thread that opened it; `proxyd/stores/writer.py` is that thread.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from proxyd.core.changes import Change
from proxyd.errors import StoreError
from proxyd.model.routes import Route
from proxyd.stores.place import (
    APPLICATION_ID,
    FileLock,
    beside,
    check_header,
    check_place,
    create,
    sync_directory,
)

# How long somebody else, a person with `sqlite3` for one, may hold the file before a change fails.
_BUSY_SECONDS = 5
# What a large change leaves of the write-ahead log; it would never shrink otherwise.
_LOG_BYTES = 16 * 1024 * 1024

Row = tuple[object, object, object, object, object]
"""What is stored of a route: key, members, revision, when it came, last activity. In a damaged file it is anything."""

Work = Callable[["Database"], list[Change]]
"""A part of a transaction, and the changes that it makes."""


def read_migrations() -> dict[int, str]:
    """What leads to each version of the schema from the one before: `schema/NNN.sql`."""
    found = (file for file in files("proxyd.stores").joinpath("schema").iterdir() if file.name.endswith(".sql"))
    return {int(file.name[:-4]): file.read_text("utf-8") for file in sorted(found, key=lambda file: file.name)}


class Database:
    """The database at `path`, made if it is not there, locked, checked and migrated.

    Raises `StoreError`, as all its methods do.
    """

    def __init__(self, path: Path, migrations: Mapping[int, str] | None = None) -> None:
        self._path = path = Path(os.path.realpath(path))
        self._name = str(path)
        migrations = migrations or read_migrations()
        check_place(path)
        self._lock = FileLock(path)
        try:
            if not path.exists():
                _make(path, migrations)
            check_header(path, max(migrations))
            self._connection = connect(path)
            try:
                self._prepare(migrations)
            except BaseException:
                self._connection.close()
                raise
        except (OSError, sqlite3.Error, UnicodeError) as error:  # the last: damage in a name
            self._lock.release()
            raise StoreError(self._name, f"cannot be opened: {words_of(error)}") from None
        except BaseException:
            self._lock.release()
            raise

    def _prepare(self, migrations: Mapping[int, str]) -> None:
        check_content(self._connection, self._name)
        execute = self._connection.execute
        (mode,) = execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(self._name, "its file system has no shared memory, which SQLite's write-ahead log needs")
        execute("PRAGMA synchronous = FULL")  # each commit is on the disk before it is one
        execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        (version,) = execute("PRAGMA user_version").fetchone()
        for number, sql in migrations.items():
            if number > version:
                self._connection.executescript(_transaction(number, sql))
        execute("BEGIN IMMEDIATE")
        execute("UPDATE state SET revision = revision")  # fails if the file cannot be written
        execute("ROLLBACK")
        (self.revision,) = execute("SELECT max(revision) FROM state").fetchone()
        if not isinstance(self.revision, int):
            raise StoreError(self._name, "is damaged: it has no revision")
        self._identities = [(path, _identity_of(path)) for path in (self._path, beside(self._path, "-wal"))]

    def close(self) -> None:
        """Give it up; what was committed is in the file itself then."""
        try:
            self._connection.close()
        finally:
            self._lock.release()

    def rows(self) -> list[Row]:
        """All stored routes, by the revision that they came with."""
        try:
            query = "SELECT key, members, revision, created, last_activity FROM route ORDER BY revision"
            return self._connection.execute(query).fetchall()
        except sqlite3.Error as error:
            raise StoreError(self._name, f"cannot be read: {words_of(error)}") from None

    # Changes.

    def commit(self, works: Sequence[Work]) -> list[list[Change] | StoreError]:
        """Do all of it in one transaction, which is durable then; what comes of each, in order.

        If one of them fails, or all are too much, each gets a transaction of its own. What fails has changed nothing.
        """
        try:
            self._check_identity()
            self._roll_back()
            self._connection.execute("BEGIN IMMEDIATE")
        except (OSError, sqlite3.Error, StoreError) as error:
            return [self._failure(error)] * len(works)
        try:
            return list(self._finish(works))
        except (sqlite3.Error, StoreError, UnicodeError) as error:  # the last: half of a character in a key
            if len(works) == 1:
                return [self._failure(error)]
        return [self.commit([work])[0] for work in works]

    def _finish(self, works: Sequence[Work]) -> list[list[Change]]:
        revision = self.revision
        try:
            changes = [work(self) for work in works]
            if self.revision != revision:
                self._connection.execute("UPDATE state SET revision = ?", (self.revision,))
            self._connection.execute("COMMIT")
        except BaseException:
            self.revision = revision
            self._roll_back()
            raise
        return changes

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # a full disk may have ended it
            self._connection.execute("ROLLBACK")

    def put(self, route: Route, now: float) -> list[Change]:
        """Create or replace a route; part of a transaction, as those below."""
        self._connection.execute(
            "INSERT OR REPLACE INTO route VALUES (?, ?, ?, ?, ?)",
            (route.key, _members_of(route), self.revision + 1, now, now),
        )
        return [self._change(route.key, route, now)]

    def delete(self, key: str) -> list[Change]:
        """Delete a route; no change if there is none."""
        deleted = self._connection.execute("DELETE FROM route WHERE key = ?", (key,)).rowcount
        return [self._change(key, None)] if deleted else []

    def replace(self, routes: Iterable[Route], now: float) -> list[Change]:
        """Have exactly these routes; what is stored as it should be stays as it is."""
        wanted = {route.key: route for route in routes}
        stored: dict[object, object] = {}
        changes: list[Change] = []
        for number, key, members in self._connection.execute("SELECT rowid, key, members FROM route").fetchall():
            stored[key] = members
            if key not in wanted:
                self._connection.execute("DELETE FROM route WHERE rowid = ?", (number,))
                if isinstance(key, str):
                    changes.append(self._change(key, None))
        for key, route in wanted.items():
            if stored.get(key) != _members_of(route):
                changes += self.put(route, now)
        return changes

    def touch(self, activity: Sequence[tuple[float, str, float]]) -> list[Change]:
        """Remember when something last happened: seconds, key, and when it came; it might be another route by now."""
        self._connection.executemany("UPDATE route SET last_activity = ? WHERE key = ? AND created = ?", activity)
        return []

    def _change(self, key: str, route: Route | None, now: float | None = None) -> Change:
        self.revision += 1
        return Change(self.revision, key, route, now)

    def _check_identity(self) -> None:
        """What is written to a file that has no name any more is lost."""
        for path, identity in self._identities:
            if _identity_of(path) != identity:
                words = f"{path.name} was moved or replaced; proxyd has to be restarted"
                raise StoreError(self._name, words, words)

    def _failure(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        words = words_of(error)
        return StoreError(self._name, f"failed: {words}", words)


def connect(path: Path) -> sqlite3.Connection:
    """A connection without transactions of its own making; never makes a file."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", _BUSY_SECONDS, 0, None, uri=True)
    connection.text_factory = _text
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def check_content(connection: sqlite3.Connection, name: str) -> None:
    """Look for damage in the whole file.

    Raises `StoreError`, and `sqlite3.Error` if it is too bad.
    """
    problems = [str(problem) for (problem,) in connection.execute("PRAGMA quick_check(3)")]
    if problems != ["ok"]:
        raise StoreError(name, f"is damaged: {'; '.join(problems)}")


def words_of(error: Exception) -> str:
    """What SQLite or the system says; its name for the error is what can be searched for."""
    code = getattr(error, "sqlite_errorname", "")
    words = error.strerror if isinstance(error, OSError) else str(error)
    return f"{words} ({code})" if code else str(words)


def _make(path: Path, migrations: Mapping[int, str]) -> None:
    """Make an empty database, whole from the moment when it has its name."""
    for suffix in ("-wal", "-journal", ".restored"):
        if beside(path, suffix).exists():
            raise StoreError(str(path), f"is missing, but its {path.name}{suffix} is there")
    draft = beside(path, ".new")
    draft.unlink(missing_ok=True)
    os.close(create(draft))
    connection = connect(draft)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for number, sql in migrations.items():
            connection.executescript(_transaction(number, sql))
    finally:
        connection.close()
    draft.rename(path)
    sync_directory(path.parent)


def _text(raw: bytes) -> str | bytes:
    """What is text; damage in one route must not hide the others."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _transaction(number: int, sql: str) -> str:
    return f"BEGIN IMMEDIATE; {sql}; PRAGMA user_version = {number}; COMMIT;"


def _members_of(route: Route) -> str:
    return route.members or json.dumps({"target": route.upstream.url})


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
