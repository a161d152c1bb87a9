"""Copies of a database: made while it is in use, and put in its place while it is not. Everything here blocks."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from proxyd.errors import StoreError
from proxyd.stores.database import check_content, connect, read_migrations, words_of
from proxyd.stores.place import FileLock, beside, check_header, check_place, create, sync_directory


def back_up(path: Path, target: Path) -> int:
    """Copy the database at `path`, as it is at this moment, to `target`, which must not be there.

    Returns how many routes it has. Raises `StoreError`.
    """
    path = Path(os.path.realpath(path))
    with _explained(target, "cannot be written"):
        os.close(create(target))  # so that two of us do not write to one
        draft = beside(target, ".partial")
        draft.unlink(missing_ok=True)  # of one that was killed
        try:
            count = _copy(path, draft)
            draft.replace(target)
            sync_directory(target.absolute().parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            target.unlink()
            raise
    return count


def restore(path: Path, source: Path) -> tuple[int, Path | None]:
    """Put a copy of `source` in the place of the database at `path`, which nobody may use meanwhile.

    Returns how many routes it has, and where the former database is now, if there was one. Raises `StoreError`.
    """
    path = Path(os.path.realpath(path))
    check_place(path)
    lock = FileLock(path)
    try:
        with _explained(path, "cannot be restored"):
            draft = beside(path, ".restored")
            draft.unlink(missing_ok=True)  # of one that was killed
            try:
                count = _copy(source, draft)
                former = _move_away(path)
                draft.rename(path)
                sync_directory(path.parent)
            except StoreError:
                draft.unlink(missing_ok=True)
                raise
    finally:
        lock.release()
    return count, former


def _copy(source: Path, target: Path) -> int:
    """Copy a database into a new file, whole, checked and durable; how many routes it has."""
    check_header(source, max(read_migrations()))
    os.close(create(target))
    with _explained(source, "cannot be copied"), closing(connect(target)) as copy:
        copy.execute("PRAGMA synchronous = FULL")
        with closing(connect(source)) as original:
            original.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
        check_content(copy, str(source))
        (count,) = copy.execute("SELECT count(*) FROM route").fetchone()
    return int(count)


def _move_away(path: Path) -> Path | None:
    """Give what is there a name of its own; the log goes with its database, and after it.

    So a process that is killed between them leaves no database that lacks its log.
    """
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    former = beside(path, f".before-restore-{moment}")
    number = 1
    while former.exists():
        number += 1
        former = beside(path, f".before-restore-{moment}-{number}")
    found = [suffix for suffix in ("", "-wal", "-shm", "-journal") if beside(path, suffix).exists()]
    for suffix in found:
        beside(path, suffix).rename(beside(former, suffix))
    return former if found else None


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    """Make a `StoreError` of everything that the system or SQLite has to say."""
    try:
        yield
    except (OSError, sqlite3.Error, UnicodeError) as error:
        raise StoreError(str(path), f"{what}: {words_of(error)}") from None
