"""How a route table changes: one numbered change after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from proxyd.model.routes import Route

# So many routes are compared in one step: 1 ms on a machine of 2026.
_ROUTES_A_STEP = 2000


class Change(NamedTuple):  # made in half the time of a frozen attrs class: there may be 100,000 at once
    """Route `key` is `route` from `revision` on; None: there is no such route any more.

    `last_activity` counts seconds since the epoch, for a route that is kept somewhere: as it is there; None: now.
    """

    revision: int
    key: str
    route: Route | None
    last_activity: float | None = None


def replacements(before: Mapping[str, Route], after: Mapping[str, Route]) -> Iterator[tuple[str, Route | None] | None]:
    """What has to change so that the routes of `before`, by key, become those of `after`.

    First what goes, then what comes; a route that stays as it is does not change. None comes now and then between
    them: so much has been compared that somebody else should have a turn.
    """
    for index, key in enumerate(before, 1):
        if key not in after:
            yield key, None
        if index % _ROUTES_A_STEP == 0:
            yield None
    for index, (key, route) in enumerate(after.items(), 1):
        known = before.get(key)
        # In the order of what it costs.
        if known is not route and (known is None or known.members != route.members or known != route):
            yield key, route
        if index % _ROUTES_A_STEP == 0:
            yield None
