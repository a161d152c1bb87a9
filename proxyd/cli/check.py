"""`proxyd check`."""

from __future__ import annotations

from functools import partial

import click

from proxyd.builtins import KINDS
from proxyd.compat.jsp import Imports
from proxyd.config.startup import load_or_exit


def run(path: str) -> None:
    """Check the file, or the one that would be found; raises `SystemExit` 78 if it cannot be used."""

    def warn(words: str) -> None:
        click.echo(f"warning: {words}", err=True)

    file, config = load_or_exit(path, KINDS, complete=partial(Imports().complete, warn=warn))
    if file is None:
        click.echo("proxyd: no configuration found, and none is needed: the defaults are used")
        return
    click.echo(f"{file}: good; listeners: {len(config.listeners)}, static routes: {len(config.routes)}")
