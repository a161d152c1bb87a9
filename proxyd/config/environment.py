"""What sections of kinds leave to the environment has to be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from proxyd.errors import OptionError
from proxyd.model.auth import AuthConfig
from proxyd.model.settings import Config


def check_environment(config: Config, environ: Mapping[str, str]) -> None:
    """Refuse an `auth` that lacks something which is neither in its section nor in `environ`.

    Raises `OptionError`.
    """
    for section, path in _sections(config):
        try:
            section.check(environ)
        except OptionError as error:
            raise OptionError(str(error), *path, *error.path) from None


def _sections(config: Config) -> Iterator[tuple[AuthConfig, tuple[str | int, ...]]]:
    yield config.auth, ("auth",)
    if config.route_defaults.auth is not None:
        yield config.route_defaults.auth, ("route_defaults", "auth")
    for key, spec in config.routes.items():
        if spec.auth is not None:
            yield spec.auth, ("routes", key, "auth")
    for index, pattern in enumerate(config.patterns):
        if pattern.auth is not None:
            yield pattern.auth, ("patterns", index, "auth")
