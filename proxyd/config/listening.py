"""Where the sockets of a configuration are: no two of them at one place."""

from __future__ import annotations

import os
from collections.abc import Iterator

from proxyd.errors import OptionError
from proxyd.model.settings import Config

_EVERYWHERE = frozenset({"", "*", "::"})
_Path = tuple[str | int, ...]
_Place = tuple[str, int, str]


def double_listeners(config: Config) -> Iterator[OptionError]:
    """An error for each place that is listened on already: the system would only say that somebody does."""
    known: list[tuple[str, _Place]] = []
    for name, path, place in _places(config):
        for other, taken in known:
            if _overlap(place, taken):
                where = place[2] or f"port {place[1]}"
                yield OptionError(f"{other} listens on {where} already", *path)
                break
        known.append((name, place))


def _places(config: Config) -> Iterator[tuple[str, _Path, _Place]]:
    """Names, paths and places; those that are there by default come first, so that others are told of."""
    if config.api is not None:
        yield "the API", ("api",), (config.api.address, config.api.port, config.api.socket)
    if config.metrics.is_shown_apart:
        yield "`metrics`", ("metrics",), config.metrics.place
    for index, section in enumerate(config.listeners):
        place = (getattr(section, "address", ""), getattr(section, "port", 0), getattr(section, "socket", ""))
        yield f"listeners[{index}]", ("listeners", index), place


def _overlap(one: _Place, other: _Place) -> bool:
    if one[2] or other[2]:
        return bool(one[2] and other[2]) and os.path.normpath(one[2]) == os.path.normpath(other[2])
    if not one[1] or one[1] != other[1]:  # port 0 is another one each time
        return False
    addresses = {one[0], other[0]}
    if len(addresses) == 1 or not _EVERYWHERE.isdisjoint(addresses):
        return True
    return "0.0.0.0" in addresses and not any(":" in address for address in addresses)
