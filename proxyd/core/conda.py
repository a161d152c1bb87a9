"""Conda environments: which one a name means, and what runs a command in it (contract of jhsingle-native-proxy)."""

from __future__ import annotations

import json
import os.path
import shlex
from collections.abc import Iterable

import attrs

from proxyd.errors import ProxydError


class CondaError(ProxydError):
    """There is no such environment, or no conda that would know it."""


@attrs.frozen
class CondaEnvironment:
    """An environment at `path`, of the installation at `prefix`."""

    prefix: str
    path: str

    def command(self, words: Iterable[str]) -> tuple[str, ...]:
        """What runs `words` in it: bash, because activation is a matter of shells."""
        activate = shlex.join([f"{self.prefix}/bin/activate", self.path])
        return ("bash", "-c", f"source {activate} && exec {shlex.join(words)}")


def find_environment(info: str, name: str) -> CondaEnvironment:
    """The environment that is meant by `name`, which may be a path, from what `conda info --json` says.

    It may not be there: then it is where conda would make it. Raises `CondaError`.
    """
    try:
        known = json.loads(info)
        prefix, paths = known["conda_prefix"], known["envs"]
    except (ValueError, KeyError, TypeError):
        raise CondaError("conda does not say where it keeps its environments") from None
    if not isinstance(prefix, str) or not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise CondaError("conda does not say where it keeps its environments")
    named = (path for path in paths if os.path.basename(path.rstrip("/")) == name)
    return CondaEnvironment(prefix, next(named, os.path.join(prefix, "envs", name)))
