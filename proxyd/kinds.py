"""Kinds: the implementations of a seam, by the name that the configuration uses."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import attrs

from proxyd.errors import OptionError


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
class NamedKind:
    """A kind that is imported when a configuration has it: `module` has it as its `KIND`, or among its `KINDS`."""

    seam: type
    name: str
    module: str


@attrs.frozen
class Kinds:
    """All kinds that are there; each is imported once it is asked for."""

    _listed: tuple[Kind | NamedKind, ...]
    _loaded: dict[NamedKind, Kind] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of all seams."""
        return tuple(map(self._load, self._listed))

    @property
    def seams(self) -> frozenset[type]:
        """The seams that have kinds."""
        return frozenset(listed.seam for listed in self._listed)

    def names(self, seam: type) -> tuple[str, ...]:
        """The names of the kinds of one seam."""
        return tuple(listed.name for listed in self._listed if listed.seam is seam)

    def of_name(self, seam: type, name: str) -> Kind:
        """The kind of that name, one of `names`.

        Raises `OptionError` if what it is made of cannot be imported here.
        """
        return next(self._load(listed) for listed in self._listed if (listed.seam, listed.name) == (seam, name))

    def of_seam(self, seam: type) -> dict[str, Kind]:
        """The kinds of one seam, by name."""
        return {name: self.of_name(seam, name) for name in self.names(seam)}

    def of_config(self, config: object) -> Kind:
        """The kind that a section of the configuration belongs to.

        Raises `LookupError` for an object that is no section of a kind.
        """
        for listed in self._listed:
            if isinstance(config, listed.seam):
                kind = self._load(listed)
                if type(config) is kind.config:
                    return kind
        raise LookupError(f"{type(config).__name__} belongs to no kind")

    def _load(self, listed: Kind | NamedKind) -> Kind:
        if isinstance(listed, Kind):
            return listed
        if listed not in self._loaded:
            try:
                module = import_module(listed.module)
            except ImportError as error:
                raise OptionError(f"{listed.name} cannot be used here: {error}") from error
            kinds = getattr(module, "KINDS", None) or (module.KIND,)
            self._loaded[listed] = next(kind for kind in kinds if (kind.seam, kind.name) == (listed.seam, listed.name))
        return self._loaded[listed]
