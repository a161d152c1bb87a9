"""How a route table changes: one numbered change after another."""

from __future__ import annotations

import attrs

from proxyd.model.routes import Route


@attrs.frozen
class Change:
    """Route `key` is `route` from `revision` on; None: there is no such route any more."""

    revision: int
    key: str
    route: Route | None
