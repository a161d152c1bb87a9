"""Definitions of servers as packages bring them: a dict of jupyter-server-proxy -> `ServerSpec`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from proxyd.config.types import Path_, dotted, faults_in, make_converter, read_server_name
from proxyd.errors import ConfigError, OptionError, Problem
from proxyd.kinds import Kinds
from proxyd.model.ports import PortsSettings
from proxyd.model.servers import LauncherEntry, ServerSpec
from proxyd.option import Function, Seconds

IMPORTED_SECONDS = 5.0
"""How long an imported server may take to be ready when its definition does not say."""

_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x", re.ASCII: "a"}


def read_definition(name: str, definition: Mapping[str, Any], warn: Callable[[str], None]) -> ServerSpec:
    """The server `name` that `definition` describes.

    `warn` is told of keys that mean nothing; they are left out. Raises `ConfigError`, with the server and the key.
    """
    try:
        read_server_name(name)
        if not isinstance(definition, Mapping):
            raise OptionError(f"expected a dict, got a {type(definition).__name__}")
    except OptionError as error:
        raise ConfigError([Problem(str(error), dotted(("servers", name)))]) from None
    known = {field.name for field in attrs.fields(ServerSpec)}
    of_entry = {field.name for field in attrs.fields(LauncherEntry)}
    options: dict[str, Any] = {}
    for key, value in definition.items():
        if key not in known:
            warn(f"server {name}: {key} is not known and left out")
        elif key == "launcher_entry" and isinstance(value, Mapping):
            options[key] = {word: _plain(item, (key, word)) for word, item in value.items() if word in of_entry}
            for word in value.keys() - of_entry:
                warn(f"server {name}: launcher_entry.{word} is not known and left out")
        elif value is not None and not (key == "unix_socket" and value == ""):
            options[key] = _plain(value, (key,))
    ready = options.get("ready")
    if "timeout" not in options and not (isinstance(ready, Mapping) and "timeout" in ready):
        options["timeout"] = _written(IMPORTED_SECONDS)
    try:
        return make_converter(Kinds(()), Path.cwd()).structure(options, ServerSpec)
    except Exception as error:  # noqa: BLE001  # cattrs wraps whatever went wrong, each with its path
        problems = [Problem(fault.message, dotted(("servers", name, *fault.path))) for fault in faults_in(error)]
        raise ConfigError(problems) from None


def read_ports(values: Mapping[str, Any], ports: PortsSettings) -> PortsSettings:
    """`ports` with what is set on `c.ServerProxy`, where nothing else was said.

    Raises `ConfigError`.
    """
    hosts = values.get("host_allowlist", values.get("host_whitelist"))
    rewriters = values.get("non_service_rewrite_response")
    options = {}
    if hosts is not None and ports.hosts == PortsSettings().hosts:
        options["hosts"] = _plain(hosts, ("host_allowlist",))
    if rewriters and not ports.rewrite_response:
        options["rewrite_response"] = _plain(rewriters, ("non_service_rewrite_response",))
    try:
        own = make_converter(Kinds(()), Path.cwd()).structure(options, PortsSettings)
    except Exception as error:  # noqa: BLE001  # as above
        problems = [Problem(fault.message, dotted(("ports", *fault.path))) for fault in faults_in(error)]
        raise ConfigError(problems) from None
    return attrs.evolve(ports, **{name: getattr(own, name) for name in options})


def _plain(value: Any, path: Path_) -> Any:
    """A Python value as the YAML file would have it."""
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        flags = "".join(letter for flag, letter in _FLAGS.items() if value.flags & flag)
        return f"(?{flags}:{value.pattern})" if flags else value.pattern
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index)) for index, item in enumerate(value)]
    if path[-1] in ("timeout", "idle_timeout", "max_lifetime", "stop_grace") and _is_number(value):
        return _written(value)
    if callable(value):
        return Function(f"{getattr(value, '__module__', '?')}:{getattr(value, '__qualname__', value)}", value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(seconds: float) -> str:
    return f"{Seconds(seconds):.6f}s"
