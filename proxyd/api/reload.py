"""`/api/reload`: the configuration, read again."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import attrs

from proxyd.api.resource import Answer, Call, ExplainedError, Function
from proxyd.api.router import Router
from proxyd.core.reload import Report


class ReloadApi:
    """Asks `reload` for it."""

    router: Router[Function] = Router()

    def __init__(self, reload: Callable[[], Awaitable[Report]]) -> None:
        self._reload = reload

    @router.route("/api/reload", "POST")
    async def reload(self, call: Call) -> Answer:
        """Read the configuration again, and answer what came of it; 422: it is bad, and nothing has changed."""
        report = await self._reload()
        members = attrs.asdict(report)
        if report.problems:
            raise ExplainedError(422, "the configuration cannot be used, and nothing has changed", members)
        return Answer(200, json=json.dumps(members))
