"""The limit of open files: raised for us, as it was for children."""

from __future__ import annotations

import resource
from contextlib import suppress

from twisted.logger import Logger

_log = Logger()


def raise_open_files_limit() -> tuple[int, int]:
    """Take as many descriptors as the system allows: an exchange needs two.

    Gives back the soft and the hard limit as they were. Children should have them again: programs that use `select`
    break with descriptors beyond 1024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    _log.debug("descriptors: {limit}, {before} for children", limit=now, before=soft)
    return soft, hard
