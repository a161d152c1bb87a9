"""Managed servers that are not in our own file: those of installed packages and of Jupyter's configuration files.

The contract is that of jupyter-server-proxy: what is configured shadows what packages bring, and what packages bring
is left out with a warning if it is no server.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from proxyd.config.types import meant
from proxyd.errors import ConfigError, Problem
from proxyd.model.servers import ServerSpec
from proxyd.model.settings import Config
from proxyd.option import ServerName

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "jupyter_serverproxy_servers"
"""The group of the entry points."""

Warn = Callable[[str], None]


def _installed() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415  # only who wants packages loads it

    return entry_points(group=GROUP)


class Imports:
    """Imports servers whenever the configuration is read, and calls each package once, however often that is.

    A process has one version of a package, so nothing new could come of it but functions that look like others: after
    each reload, its servers would be started again. Jupyter's files are read each time.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        packages: Callable[[], Iterable[EntryPoint]] = _installed,
    ) -> None:
        self._environ = environ
        self._packages = packages
        self._definitions: dict[tuple[str, str], Any] = {}

    def complete(self, config: Config, warn: Warn) -> Config:
        """`config` with the servers that it asks to import; see `with_imported`."""
        return with_imported(config, warn, self._environ, self._packages, self._definition)

    def _definition(self, package: EntryPoint) -> Any:
        key = package.name, package.value
        if key not in self._definitions:
            self._definitions[key] = _call(package)
        return self._definitions[key]


def with_imported(
    config: Config,
    warn: Warn,
    environ: Mapping[str, str] = os.environ,
    packages: Callable[[], Iterable[EntryPoint]] = _installed,
    definition_of: Callable[[EntryPoint], Any] | None = None,
) -> Config:
    """`config` with the servers that it asks to import, and with what Jupyter's files say of ports, unless it does.

    `warn` is told what was left out. `definition_of` knows what a package brings; default: the package. Raises
    `ConfigError` for a package that is not installed, and for a file of Jupyter's that cannot be used.
    """
    if not config.jupyter_config and not config.server_packages:
        return config
    from proxyd.config.definitions import read_ports  # noqa: PLC0415  # see `_installed`

    problems: list[Problem] = []
    servers: dict[ServerName, ServerSpec] = dict(config.servers)
    ports = config.ports

    def add(found: Mapping[str, ServerSpec]) -> None:
        for name, spec in found.items():
            servers.setdefault(ServerName(name), spec)

    try:
        values = _values_of_files(config, warn, environ)
        ports = read_ports(values, ports)
        add(_of_files(values, warn))
    except ConfigError as error:
        problems += error.problems
    try:
        add(_of_packages(config, warn, packages, definition_of or _call))
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return attrs.evolve(config, servers=servers, ports=ports)


def _values_of_files(config: Config, warn: Warn, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """What Jupyter's files say of jupyter-server-proxy."""
    if not config.jupyter_config:
        return {}
    from proxyd.compat.jupyter_config import find_jupyter_config, read_jupyter_config  # noqa: PLC0415  # see there

    files = find_jupyter_config(environ) if config.jupyter_config == "auto" else map(Path, config.jupyter_config)
    settings = read_jupyter_config(list(files))
    if settings.ignored:
        warn(f"jupyter_config: {', '.join(settings.ignored)}: these settings are not for proxyd, and ignored")
    return settings.values


def _of_files(values: Mapping[str, Any], warn: Warn) -> dict[str, ServerSpec]:
    given = values.get("servers", {})
    if not isinstance(given, Mapping):
        raise ConfigError([Problem(f"expected a dict, got a {type(given).__name__}", "c.ServerProxy.servers")])
    from proxyd.config.definitions import read_definition  # noqa: PLC0415  # see there

    servers: dict[str, ServerSpec] = {}
    problems: list[Problem] = []
    for name, definition in given.items():
        try:
            servers[name] = read_definition(name, definition, warn)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return servers


def _of_packages(
    config: Config,
    warn: Warn,
    packages: Callable[[], Iterable[EntryPoint]],
    definition_of: Callable[[EntryPoint], Any],
) -> dict[str, ServerSpec]:
    wanted = config.server_packages
    if not wanted:
        return {}
    from proxyd.config.definitions import read_definition  # noqa: PLC0415  # see there

    installed = list(packages())
    names = {package.name for package in installed}
    missing = [name for name in wanted if name != "*" and name not in names]
    if missing:
        raise ConfigError(
            Problem(f"no installed package brings the server {name}{meant(name, names)}", "server_packages")
            for name in missing
        )
    servers: dict[str, ServerSpec] = {}
    for package in installed:
        if "*" not in wanted and package.name not in wanted:
            continue
        if package.name in servers:
            warn(f"server {package.name}: {package.value} is left out, another package brings one of that name")
            continue
        try:
            servers[package.name] = read_definition(package.name, definition_of(package), warn)
        except ConfigError as error:
            for problem in error.problems:
                warn(f"server {package.name}: {package.value} is left out: {problem}")
    return servers


def _call(package: EntryPoint) -> Any:
    """The definition that a package brings.

    Raises `ConfigError`, whatever went wrong.
    """
    try:
        return package.load()()
    except (Exception, SystemExit) as error:  # noqa: BLE001  # code of somebody's own, whatever it does
        raise ConfigError([Problem(f"{type(error).__name__}: {error}")]) from None
