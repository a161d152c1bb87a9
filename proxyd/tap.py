"""`twistd proxyd`: options, and the service that they ask for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.python import usage

from proxyd.builtins import KINDS
from proxyd.compat.jsp import Imports
from proxyd.config.startup import load_or_exit
from proxyd.model.settings import Config

if TYPE_CHECKING:
    from proxyd.service import ProxyService

_log = Logger()


class Options(usage.Options):
    """The command line of the twistd plugin."""

    synopsis = "[--config FILE]"
    longdesc = "Routes HTTP and WebSockets to applications, by a table that a REST API changes while it runs."
    optParameters = [  # noqa: RUF012  # usage.Options asks for a list
        ["config", "c", "", "The configuration, a YAML file. Default: $PROXYD_CONFIG, or the first one found."]
    ]
    config: Config
    file: Path | None
    imports: Imports

    def postOptions(self) -> None:
        """Read the file now: with a bad one nothing may start."""
        self.imports = Imports()
        complete = partial(self.imports.complete, warn=_warn)
        self.file, self.config = load_or_exit(self["config"], KINDS, complete=complete)


def _warn(words: str) -> None:
    """What is logged before the log has begun is written then."""
    _log.warn("{words}", words=words)


def makeService(options: Options) -> ProxyService:  # twistd looks for this name
    """Make the service, with the reactor that twistd has installed by now."""
    from twisted.internet import reactor  # noqa: PLC0415, TID251

    from proxyd.service import ProxyService  # noqa: PLC0415  # imports twisted.web.proxy, which takes the reactor

    return ProxyService(options.config, KINDS, reactor, file=options.file, imports=options.imports)
