"""`proxyd serve`: twistd, in the foreground, ending with status 0 when it was told to end."""

from __future__ import annotations

from twisted.application.app import ServerOptions as _BaseOptions
from twisted.scripts import _twistd_unix

from proxyd.builtins import KINDS
from proxyd.config.startup import load_or_exit
from proxyd.system.signals import ignore_requests


def run(config: str) -> None:
    """Run the twistd plugin in this process, until a signal ends it."""
    ignore_requests()
    load_or_exit(
        config, KINDS
    )  # twistd would print its whole help in front of the problems; servers are imported there
    options: _BaseOptions = _twistd_unix.ServerOptions()
    options.parseOptions(["-n", "--pidfile=", "proxyd", *(["--config", config] if config else [])])
    # `twistd` itself would end by the signal that asked for the end, and be reported as killed.
    _twistd_unix.UnixApplicationRunner(options).run()
