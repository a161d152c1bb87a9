"""How a route table changes: one numbered change after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from proxyd.model.routes import Route


class Change(NamedTuple):  # made in half the time of a frozen attrs class: there may be 100,000 at once
    """Route `key` is `route` from `revision` on; None: there is no such route any more.

    `last_activity` counts seconds since the epoch, for a route that comes back from where it was kept; None: now.
    """

    revision: int
    key: str
    route: Route | None
    last_activity: float | None = None


def replacements(before: Mapping[str, Route], after: Iterable[Route]) -> Iterator[tuple[str, Route | None]]:
    """What has to change so that the routes of `before`, by key, become those of `after`.

    First what goes, then what comes; a route that stays as it is does not change.
    """
    routes = {route.key: route for route in after}
    for key in before:
        if key not in routes:
            yield key, None
    for key, route in routes.items():
        known = before.get(key)
        if known is route:
            continue
        if known is None or known.members != route.members or known != route:  # in the order of what it costs
            yield key, route
