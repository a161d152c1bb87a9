"""What every command does with a configuration: find it, read it, or say what is wrong and end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from proxyd.config.loader import find, load, parse
from proxyd.errors import ConfigError
from proxyd.kinds import Kinds
from proxyd.model.settings import Config

EX_CONFIG = 78  # sysexits.h


def load_or_exit(
    path: str,
    kinds: Kinds,
    environ: Mapping[str, str] = os.environ,
    complete: Callable[[Config], Config] = lambda config: config,
) -> tuple[Path | None, Config]:
    """The configuration in the file at `path`, or in the first one found if it is empty, and which file it was.

    `complete` adds what is not in files of ours; it raises `ConfigError` for what cannot be used. Prints every
    problem and raises `SystemExit` 78 if there is one.
    """
    file = Path(path) if path else find(environ)
    try:
        config = parse("", kinds, environ) if file is None else complete(load(file, kinds, environ))
        return file, config
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EX_CONFIG) from None
