"""Kinds: the implementations of a seam, by the name that the configuration uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs


@attrs.frozen
class Kind:
    """One implementation of a seam.

    `seam` is the marker class that the configuration's sections of this seam inherit from, `config` the one of this
    kind among them; `build` makes the thing from it.
    """

    seam: type
    name: str
    config: type
    build: Callable[..., Any]


@attrs.frozen
class Kinds:
    """All kinds that are there."""

    kinds: tuple[Kind, ...]

    def of_seam(self, seam: type) -> dict[str, Kind]:
        """The kinds of one seam, by name."""
        return {kind.name: kind for kind in self.kinds if kind.seam is seam}

    def of_config(self, config: object) -> Kind:
        """The kind that a section of the configuration belongs to.

        Raises `LookupError` for an object that is no section of a kind.
        """
        for kind in self.kinds:
            if type(config) is kind.config:
                return kind
        raise LookupError(f"{type(config).__name__} belongs to no kind")
