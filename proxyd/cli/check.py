"""`proxyd check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from proxyd.builtins import KINDS
from proxyd.compat.jsp import Imports
from proxyd.config.environment import auth_sections
from proxyd.config.startup import load_or_exit
from proxyd.errors import ConfigError, Problem, TlsError
from proxyd.hub.asking import AskerTls
from proxyd.model.settings import Config
from proxyd.model.tls import ServerTlsSettings
from proxyd.net.certificates import ClientContexts, ServerTls
from proxyd.workers.static import load_upstream_tls


def run(path: str) -> None:
    """Check the file, or the one that would be found; raises `SystemExit` 78 if it cannot be used."""

    def warn(words: str) -> None:
        click.echo(f"warning: {words}", err=True)

    def complete(config: Config) -> Config:
        config = Imports().complete(config, warn=warn)
        problems = list(_problems_of_files(config))
        if problems:
            raise ConfigError(problems)
        return config

    file, config = load_or_exit(path, KINDS, complete=complete)
    if file is None:
        click.echo("proxyd: no configuration found, and none is needed: the defaults are used")
        return
    click.echo(f"{file}: good; listeners: {len(config.listeners)}, static routes: {len(config.routes)}")


def _problems_of_files(config: Config) -> Iterator[Problem]:
    """What is wrong with the files that `config` names, with which a start would fail or errors have no pages."""
    sections = (*config.listeners, config.api and config.api.tls)
    tries: list[Callable[[], object]] = [
        ServerTls(each).load for each in sections if isinstance(each, ServerTlsSettings)
    ]
    tries.append(partial(load_upstream_tls, config, ClientContexts()))
    for section, _ in auth_sections(config):
        files = [getattr(section, name, "") for name in ("ssl_key", "ssl_certificate", "ssl_ca")]
        if any(files):
            tries.append(AskerTls(*files).policy)
    for load in tries:
        try:
            load()
        except TlsError as error:
            yield Problem(f"TLS: {error.reason}", file=error.subject)
    directory = config.errors.directory
    if directory and not Path(directory).is_dir():
        yield Problem("there is no such directory", "errors.directory", directory)
