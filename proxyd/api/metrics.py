"""`/metrics`: what monitoring reads, on the port of the API or on one of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxyd.api.resource import Answer, Call, Function
from proxyd.api.router import Router
from proxyd.metrics.exposition import Exposition


class MetricsApi:
    """Shows `exposition`; `count` comes before each page, and brings it the numbers of other processes."""

    router: Router[Function] = Router()

    def __init__(self, exposition: Exposition, count: Callable[[], Awaitable[None]] | None = None) -> None:
        self._exposition = exposition
        self._count = count

    @router.route("/metrics", "GET", "HEAD")
    def show(self, call: Call) -> Answer | Awaitable[Answer]:
        """Answer with all numbers."""
        return self._page(call) if self._count is None else self._counted(call, self._count)

    async def _counted(self, call: Call, count: Callable[[], Awaitable[None]]) -> Answer:
        await count()
        return self._page(call)

    def _page(self, call: Call) -> Answer:
        page = self._exposition.page((call.request.head.get(b"accept") or b"").decode("latin-1"))
        return Answer(200, page.text, content_type=page.content_type)
