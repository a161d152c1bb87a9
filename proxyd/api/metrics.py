"""`/metrics`: what monitoring reads, on the port of the API or on one of its own."""

from __future__ import annotations

from proxyd.api.resource import Answer, Call, Function
from proxyd.api.router import Router
from proxyd.metrics.exposition import Exposition


class MetricsApi:
    """Shows `exposition`."""

    router: Router[Function] = Router()

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition

    @router.route("/metrics", "GET", "HEAD")
    def show(self, call: Call) -> Answer:
        """Answer with all numbers."""
        page = self._exposition.page((call.request.head.get(b"accept") or b"").decode("latin-1"))
        return Answer(200, page.text, content_type=page.content_type)
