"""Whether a file can be a database at all: where it is, what it begins with, and who else has it.

Everything is refused before SQLite has opened the file, because opening alone may change what belongs to others.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

from proxyd.errors import StoreError

# "prxd", at the place that SQLite has for it: what does not say this belongs to another program.
APPLICATION_ID = 0x70727864
_MAGIC = b"SQLite format 3\0"
# Where the header has its numbers, https://www.sqlite.org/fileformat2.html section 1.3.
_PAGE_SIZE_AT, _CHANGES_AT, _PAGES_AT, _VERSION_AT, _APPLICATION_AT, _COUNTED_AT = 16, 24, 28, 60, 68, 92

# The shared memory of WAL is not shared between machines, and locks are often not either.
_NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|davfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|smb\w+"
    r"|fuse\.(?:ceph-fuse|davfs2|gcsfuse|(?:mount\.)?glusterfs|rclone|s3fs|smbnetfs|sshfs)"
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


class FileLock:
    """Keeps other processes of proxyd away from a database, as long as this one lives; `path` is that of the database.

    The lock is on a file beside it: to close the database itself would give up the locks that SQLite has there, and
    a database that is restored is another file.
    """

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        lock = beside(path, ".lock")
        try:
            self._fd = _open_or_create(lock)
        except OSError as error:
            raise StoreError(self._name, f"{lock} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise StoreError(
                self._name, "is in use by another proxyd" + (f", process {owner}" if owner else "")
            ) from None
        with suppress(OSError):  # it is for people only
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it. The file stays: somebody may be about to lock it."""
        os.close(self._fd)


def check_place(path: Path) -> None:
    """Refuse a path at which no database can be.

    Raises `StoreError`.
    """
    try:
        if path.is_dir():
            raise StoreError(str(path), "is a directory")
        if path.exists() and not path.is_file():
            raise StoreError(str(path), "is not a file")
        if not path.parent.is_dir():
            raise StoreError(str(path), f"there is no directory {path.parent}")
    except OSError as error:
        raise StoreError(str(path), f"cannot be reached: {error.strerror}") from None
    kind = file_system_of(path.parent)
    if _NETWORK.fullmatch(kind):
        raise StoreError(str(path), f"is on a network file system ({kind}), where SQLite is not safe")


def file_system_of(directory: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that an absolute path without links is on; "" if nobody knows."""
    found, best = "", -1
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        words = before.split(" ")
        if len(words) < 5:
            continue
        point = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), words[4]))
        depth = len(point.parts)
        if directory.is_relative_to(point) and depth >= best:  # the last mount at a point hides those before
            found, best = after.split(" ")[0], depth
    return found


def check_header(path: Path, newest: int) -> None:
    """Refuse a file that is not a store of proxyd, or one of a schema newer than `newest`.

    Raises `StoreError`.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise StoreError(name, f"cannot be read: {error.strerror}") from None
    if not header:
        raise StoreError(name, "is empty, as no store ever is")
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise StoreError(name, "is not a SQLite database")

    def number(place: int, length: int = 4) -> int:
        return int.from_bytes(header[place : place + length], "big")

    if number(_APPLICATION_AT) != APPLICATION_ID:
        raise StoreError(name, "is the database of another program")
    version = number(_VERSION_AT)
    if version > newest:
        raise StoreError(name, f"was written by a newer proxyd: schema {version}, and this one knows {newest}")
    log = beside(path, "-wal")
    is_counted = number(_CHANGES_AT) == number(_COUNTED_AT) and not (log.exists() and log.stat().st_size)
    size = path.stat().st_size
    if is_counted and size < (whole := number(_PAGES_AT) * number(_PAGE_SIZE_AT, 2)):
        raise StoreError(name, f"is cut off: it has {size} of {whole} bytes")


def beside(path: Path, suffix: str) -> Path:
    """The file whose name is longer by `suffix`."""
    return path.with_name(path.name + suffix)


def _open_or_create(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        with suppress(FileExistsError):  # somebody was faster
            return create(path)
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)


def create(path: Path) -> int:
    """Make a file for its owner's eyes only, and open it; root makes it for the owner of its directory.

    Raises `OSError`, also if there is something of that name.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    if os.geteuid() == 0:  # the service that needs it often is not root
        owner = path.parent.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable.

    Raises `OSError`.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
