"""The file that tells the number of the process."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def write_pid(path: Path) -> None:
    """Write our number there. The file is written where it is: it may be a link, or all that we may write there.

    Raises `OSError` with the path; there is no file then that was not there before.
    """
    made = False
    try:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            made = True
        except FileExistsError:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with os.fdopen(fd, "wb", buffering=0) as file:
            number = _number()
            file.write(number)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                file.truncate(len(number))
    except OSError as error:
        if made:
            with suppress(OSError):
                path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None


def remove_pid(path: Path) -> None:
    """Remove the file if it tells our number: it may be that of a process whose port was busy when we started."""
    number = _number()
    with suppress(OSError):
        with path.open("rb") as file:
            found = file.read(len(number) + 1)
        if found == number:
            path.unlink()


def _number() -> bytes:
    return str(os.getpid()).encode()
