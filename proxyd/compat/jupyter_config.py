"""Configuration files of Jupyter servers: what they say of jupyter-server-proxy, and of nothing else.

They are Python, run with a `c` that takes whatever is set on it, or JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from proxyd.errors import ConfigError, Problem

_SECTION = "ServerProxy"
_NAMES = frozenset({"servers", "host_allowlist", "host_whitelist", "non_service_rewrite_response"})
_DICTS = frozenset({"servers", "environment", "mappath", "request_headers_override"})
_LISTS = dict.fromkeys(("host_allowlist", "host_whitelist"), ("localhost", "127.0.0.1"))  # what is added to
_BASE_NAMES = ("jupyter_config", "jupyter_notebook_config", "jupyter_server_config")  # what comes later wins


@attrs.frozen
class JupyterSettings:
    """What the files set on `c.ServerProxy`, by name, and the names of everything else that they set."""

    values: Mapping[str, Any]
    ignored: tuple[str, ...]


def read_jupyter_config(files: list[Path]) -> JupyterSettings:
    """Read the files in order: what comes later wins, and of servers it is one after the other that does.

    Raises `ConfigError` for a file that cannot be read, or fails.
    """
    found: dict[str, Any] = {}
    ignored: dict[str, None] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            sections = read_sections(file)
        except ConfigError as error:
            problems += error.problems
            continue
        for section, values in sections.items():
            for name, value in values.items():
                if section != _SECTION or name not in _NAMES:
                    ignored[f"{section}.{name}"] = None
                elif name == "servers" and isinstance(value, Mapping) and isinstance(found.get(name), Mapping):
                    found[name] = {**found[name], **value}
                else:
                    found[name] = value
    if problems:
        raise ConfigError(problems)
    return JupyterSettings(found, tuple(ignored))


def read_sections(file: Path) -> dict[str, dict[str, Any]]:
    """Everything that a file sets, by section and name.

    Raises `ConfigError` for a file that cannot be read, or fails.
    """
    return _read_json(file) if file.suffix == ".json" else _run_python(file)


def own_directory(environ: Mapping[str, str]) -> Path:
    """Where Jupyter's configuration files of the user are."""
    return Path(environ.get("JUPYTER_CONFIG_DIR") or Path(environ.get("HOME", "/"), ".jupyter"))


def find_jupyter_config(environ: Mapping[str, str]) -> list[Path]:
    """The files in Jupyter's configuration directories, the ones that win last."""
    return [file for directory in config_directories(environ) for file in _files_in(directory)]


def config_directories(environ: Mapping[str, str]) -> list[Path]:
    """Where Jupyter has its configuration files, what wins last; the working directory is none of them."""
    home = own_directory(environ)
    more = [Path(item) for item in environ.get("JUPYTER_CONFIG_PATH", "").split(":") if item]
    system = [Path(sys.prefix, "etc/jupyter"), Path("/usr/local/etc/jupyter"), Path("/etc/jupyter")]
    return list(reversed(dict.fromkeys([*more, home, *system])))


def _files_in(directory: Path) -> Iterator[Path]:
    for name in _BASE_NAMES:
        yield from sorted((directory / f"{name}.d").glob("*.json"))
        yield from files_called(name, directory)


def files_called(name: str, directory: Path) -> Iterator[Path]:
    """The files in both languages, as far as they are there; JSON wins."""
    return (file for file in (directory / f"{name}.py", directory / f"{name}.json") if file.is_file())


def _read_json(file: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([Problem(f"cannot be read: {error}", file=str(file))]) from None
    if not isinstance(found, dict):
        raise ConfigError([Problem("expected a JSON object", file=str(file))])
    return {section: values for section, values in found.items() if isinstance(values, dict)}


def _run_python(file: Path) -> dict[str, dict[str, Any]]:
    sections = _Sections()

    def load_subconfig(name: str, path: str | None = None) -> None:
        _run(Path(path or file.parent, name), names)

    names: dict[str, Any] = {"c": sections, "get_config": lambda: sections, "load_subconfig": load_subconfig}
    _run(file, names)
    return {name: section.values for name, section in sections.found.items()}


def _run(file: Path, names: dict[str, Any]) -> None:
    try:
        code = compile(file.read_bytes(), str(file), "exec")
        exec(code, {**names, "__file__": str(file), "__name__": "__main__"})  # noqa: S102  # what these files are for
    except OSError as error:
        raise ConfigError([Problem(f"cannot be read: {error.strerror}", file=str(file))]) from None
    except SyntaxError as error:
        problem = Problem(f"is not Python: {error.msg}", "", str(file), error.lineno or 0, error.offset or 0)
        raise ConfigError([problem]) from None
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  # code of the user's own, whatever it does
        raise ConfigError(
            [Problem(f"{type(error).__name__}: {error}", "", str(file), _line_in(file, error), 1)]
        ) from None


def _line_in(file: Path, error: BaseException) -> int:
    """The line of `file` that led to the error."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


class _Sections:
    """`c`: every attribute is a section."""

    def __init__(self) -> None:
        self.found: dict[str, _Section] = {}

    def __getattr__(self, name: str) -> _Section:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.found.setdefault(name, _Section())

    __getitem__ = __getattr__


class _Section:
    """`c.ServerProxy`: takes every attribute; one that is read before it is set can be added to."""

    values: dict[str, Any]

    def __init__(self) -> None:
        object.__setattr__(self, "values", {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.values.setdefault(name, {} if name in _DICTS else _Addable(_LISTS.get(name, ())))

    def __setattr__(self, name: str, value: object) -> None:
        self.values[name] = value


class _Addable(list[Any]):
    """What nobody has set yet: may be treated as a list or as a dict."""

    def prepend(self, items: Iterable[Any]) -> None:
        """Put `items` in front, as Jupyter has it."""
        super().__setitem__(slice(0), items)

    def update(self, *_: object, **__: object) -> None:
        """Take more of a dict; as no setting that matters is one, it is forgotten."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set an item, of which there is none in a list that nobody has filled."""
