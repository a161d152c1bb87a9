"""A configuration on its way to a worker: as it is, with the functions by their names, and where to look for them.

Pickles are made by the controller and read by workers, never the other way round.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from proxyd.config.functions import find_function
from proxyd.errors import OptionError
from proxyd.model.settings import Config
from proxyd.option import Function

Place = tuple[str | int, ...]
"""Where in a configuration something is."""


@attrs.frozen
class Reference:
    """A function by its name, and by its place if another one, or none, has that name in its module."""

    name: str
    place: Place | None


def pack(config: Config) -> bytes:
    """`config` as a worker unpacks it."""
    known: dict[int, Reference] = {}
    for place, function in _functions(config, ()):
        known.setdefault(id(function), Reference(function.name, None if _has_its_name(function) else place))
    buffer = io.BytesIO()
    pickle.dump(sys.path, buffer, pickle.HIGHEST_PROTOCOL)  # `python_path` is a part of it
    pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.persistent_id = lambda found: known.get(id(found))  # type: ignore[method-assign]  # meant to be set
    pickler.dump(config)
    return buffer.getvalue()


def unpack(packed: bytes, imported: Callable[[Config], Config], warn: Callable[[str], None]) -> Config:
    """What was packed. `imported` completes a configuration with what is imported; `warn` is told what was not found.

    A function that is not found raises when it is called. From now on `sys.path` has everything that is on that of
    the controller.
    """
    buffer = io.BytesIO(packed)
    sys.path += [directory for directory in pickle.load(buffer) if directory and directory not in sys.path]  # noqa: S301  # as below
    start = buffer.tell()
    by_place: dict[Place, Function] | None = None
    is_incomplete = False

    def find(reference: Reference) -> Function:
        nonlocal is_incomplete
        if reference.place is None:
            try:
                return find_function(reference.name)
            except OptionError as error:
                warn(str(error))
        elif by_place is None:
            is_incomplete = True
        else:
            found = by_place.get(reference.place)
            if found is not None and found.name == reference.name:
                return found
            warn(f"{reference.name} is not what it was when the configuration was read, and is not called")
        return _lost(reference.name)

    config = _load(buffer, find)
    if is_incomplete:
        by_place = dict(_functions(imported(attrs.evolve(config, servers={})), ()))
        buffer.seek(start)
        config = _load(buffer, find)
    return config


def _load(buffer: io.BytesIO, find: Callable[[Reference], Function]) -> Config:
    unpickler = pickle.Unpickler(buffer)  # noqa: S301  # the controller has made it
    unpickler.persistent_load = find  # type: ignore[method-assign]  # meant to be set
    config: Config = unpickler.load()
    return config


def _lost(name: str) -> Function:
    def call(*_: object, **__: object) -> Any:
        raise RuntimeError(f"{name} could not be imported by this worker")

    return Function(name, call)


def _has_its_name(function: Function) -> bool:
    try:
        return find_function(function.name).call == function.call  # bound methods are equal, and not the same
    except OptionError:
        return False


def _functions(value: Any, place: Place) -> Iterator[tuple[Place, Function]]:
    """All functions in a part of a configuration, with their places."""
    if isinstance(value, Function):
        yield place, value
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from _functions(getattr(value, field.name), (*place, field.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _functions(item, (*place, key))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _functions(item, (*place, index))
