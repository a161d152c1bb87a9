"""`!python module:attribute`: callables of the user's own, by name."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from operator import attrgetter

from proxyd.errors import OptionError
from proxyd.option import Function

PYTHON_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*:[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*")


def find_function(name: str, directories: Iterable[str] = ()) -> Function:
    """Import the callable that `module:attribute` names; a module may lie in one of `directories`, too.

    Raises `OptionError`. The directories stay on `sys.path`: what is imported may import from there later.
    """
    if not PYTHON_NAME.fullmatch(name):
        raise OptionError(f"expected !python module:attribute, got {name!r}")
    sys.path += [directory for directory in dict.fromkeys(directories) if directory not in sys.path]
    importlib.invalidate_caches()
    module, _, attribute = name.partition(":")
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # code of the user's own, whatever it does
        raise OptionError(f"{name} cannot be imported: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise OptionError(f"{name} cannot be called: it is of the type {type(found).__name__}")
    return Function(name, found)
