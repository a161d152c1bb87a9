"""`/api/reload`: the configuration, read again."""

from __future__ import annotations

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
        if not report.is_good:
            words = "the configuration cannot be used, and nothing has changed"
            raise ExplainedError(422, words, attrs.asdict(report))
        return Answer(200, json=report.as_json())
