"""The Resource tree of the public side: prefix dispatch over the route table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.web.resource import IResource

from proxyd.core.prefix import PrefixTree
from proxyd.core.table import Entry, RouteTable
from proxyd.core.target import decode_path, host_of, key_of, split_target
from proxyd.errors import RequestError
from proxyd.http.request import Request
from proxyd.http.streaming import StreamingResource
from proxyd.interfaces import IStreamingResource

if TYPE_CHECKING:
    from proxyd.http.site import Meters

_JSON = [b"Content-Type: application/json"]


class RouteTree(StreamingResource):
    """The root: finds the resource of the route that answers, by the raw path of the request.

    `table` is the truth; `build` makes the resource of an entry when its first request comes. `live` and `ready`
    are the exact request targets of the health checks, empty for none. `lenient` is that of `split_target`.
    Resources that are no routes are mounted beside them; of two equal prefixes the route wins.
    """

    def __init__(
        self,
        table: RouteTable,
        build: Callable[[Entry], IResource],
        *,
        live: str = "",
        ready: str = "",
        lenient: bool = False,
        meters: Meters | None = None,
    ) -> None:
        super().__init__()
        self.table = table
        self._meters = meters
        self._look_up = table.look_up if meters is None else meters.timed_look_up(table.look_up)
        self._build = build
        self.configure(live=live, ready=ready, lenient=lenient)
        self._mounted: PrefixTree[tuple[int, IResource]] = PrefixTree()

    def configure(self, *, live: str, ready: str, lenient: bool) -> None:
        """Take these settings for the requests to come."""
        self._checks = {path.encode(): answer for path, answer in ((live, self._live), (ready, self._ready)) if path}
        self._lenient = lenient

    def mount(self, segments: Iterable[str], resource: IResource) -> None:
        """Let `resource`, and what is below it, answer at a prefix that is no route."""
        place = tuple(segments)
        self._mounted.set(place, (len(place), resource))

    def render_streaming(self, request: Request) -> None:
        """Find who answers, and let it."""
        head = request.head
        target = head.target
        check = self._checks.get(target)
        if check is not None:
            request.kind = "health"
            check(request)
            return
        if self._meters is not None:
            self._meters.request_came(head)
        if target[:1] != b"/" and self._answers_itself(request):
            return
        path, request.query = split_target(target, lenient=self._lenient)
        request.path = path
        segments = key_of(decode_path(path))
        entry = self._look_up(host_of(head.host) if head.host else "", segments)
        if self._mounted:
            mounted = self._mounted.longest(segments)
            if mounted is not None and (entry is None or mounted[0] > len(entry.route.segments)):
                self._serve(request, mounted[1], mounted[0])
                return
        if entry is None:
            raise RequestError(404, "no route")
        request.entry = entry
        resource = entry.resource
        if resource is None:
            resource = entry.resource = self._build(entry)
        resource.render_streaming(request)

    def _serve(self, request: Request, resource: IResource, depth: int) -> None:
        request.kind = "resource"
        if IStreamingResource.providedBy(resource):
            resource.render_streaming(request)
        else:
            request.serve_stock(resource, request.path, depth)

    def _answers_itself(self, request: Request) -> bool:
        """CONNECT and `OPTIONS *` concern the proxy, not a route (RFC 9110 §9.3.6, §9.3.7)."""
        if request.method == b"CONNECT":
            request.head.keep_alive = False  # what follows is meant for whom the client wanted to reach
            raise RequestError(405, "CONNECT is not served")
        if request.head.target == b"*" and request.method == b"OPTIONS":
            request.answer(204, [])
            return True
        return False

    def _live(self, request: Request) -> None:
        request.answer(200, _JSON, b'{"status":"OK"}')

    def _ready(self, request: Request) -> None:
        if request.channel.site.is_draining:
            request.answer(503, _JSON, b'{"status":"draining"}')
        else:
            request.answer(200, _JSON, b'{"status":"OK"}')
