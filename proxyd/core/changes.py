"""How a route table changes: one numbered change after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs

from proxyd.model.routes import Route


@attrs.frozen
class Change:
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
        if before.get(key) != route:
            yield key, route
