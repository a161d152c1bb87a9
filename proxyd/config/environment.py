"""What sections of kinds leave to the environment has to be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from proxyd.errors import OptionError
from proxyd.model.auth import AuthConfig
from proxyd.model.settings import Config


def lacks(config: Config, environ: Mapping[str, str]) -> Iterator[OptionError]:
    """An error for each `auth` that lacks something which is neither in its section nor in `environ`."""
    for section, path in auth_sections(config):
        try:
            section.check(environ)
        except OptionError as error:
            yield OptionError(str(error), *path, *error.path)


def auth_sections(config: Config) -> Iterator[tuple[AuthConfig, tuple[str | int, ...]]]:
    """Every `auth` of the configuration, with its path."""
    for key, spec in config.routes.items():
        if spec.auth is not None:
            yield spec.auth, ("routes", key, "auth")
    for index, pattern in enumerate(config.patterns):
        if pattern.auth is not None:
            yield pattern.auth, ("patterns", index, "auth")
    # Last: under a Hub it is there although the file has none, and lacks what those of the file lack.
    if config.route_defaults.auth is not None:
        yield config.route_defaults.auth, ("route_defaults", "auth")
    yield config.auth, ("auth",)
