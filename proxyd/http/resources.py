"""The resources that proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.web.proxy import ReverseProxyResource
from twisted.web.resource import IResource, Resource

from proxyd.core.forward import ForwardPlan
from proxyd.core.relayed import RelayHandshake
from proxyd.core.upgrade import is_handshake
from proxyd.errors import RequestError
from proxyd.http.exchange import Exchange
from proxyd.http.rewriting import Rewriting, RewritingExchange
from proxyd.http.streaming import StreamingResource
from proxyd.model.relay import RelaySettings
from proxyd.model.routes import Route, RouteOptions
from proxyd.model.settings import Timeouts
from proxyd.websocket.relay import RelayPlan

if TYPE_CHECKING:
    from proxyd.http.request import Request
    from proxyd.upstream.pools import UpstreamPool


class ForwardResource(StreamingResource, ReverseProxyResource):
    """Forwards every request to the upstream of `route`, over connections of `pool`.

    In place of a route there may be a plan for other ways to rewrite messages. With `rewriting`, functions of the user
    change the responses. With `traces`, each request is told in the log, at level debug.

    A `ReverseProxyResource` by kind; of the stock one's ways nothing is left: it opens a connection for every request,
    holds whole bodies in memory, and forwards a de-chunked body under a chunked head.
    """

    _log = Logger()

    def __init__(
        self,
        route: Route | ForwardPlan,
        options: RouteOptions,
        pool: UpstreamPool,
        timeouts: Timeouts,
        *,
        rewriting: Rewriting | None = None,
        traces: bool = False,
    ) -> None:
        Resource.__init__(self)
        self._rewriting = rewriting
        self._traces = traces
        self.plan = ForwardPlan(route, options) if isinstance(route, Route) else route
        self.pool = pool
        waits = options.timeouts
        self.connect_seconds = _first(waits.connect if waits else None, timeouts.connect)
        self.response_seconds = _first(waits.response if waits else None, timeouts.response)
        self.idle_seconds = _first(waits.idle if waits else None, timeouts.idle)
        self._takes_websockets = options.websocket != "off"
        self.relay = RelayPlan(options.websocket) if isinstance(options.websocket, RelaySettings) else None

    def render_streaming(self, request: Request) -> None:
        """Forward a request whose head has come."""
        head = request.head
        handshake = bool(head.upgrade) and is_handshake(head)
        if handshake:
            if not self._takes_websockets:
                raise RequestError(403, "the route takes no WebSockets")
            request.kind = "websocket"
        else:
            request.kind = "forward"
            if head.upgrade:
                head.upgrade = b""
        if self._traces:
            kind = "WS" if handshake else "WEB"
            path = request.path[:1024].decode("latin-1")
            self._log.debug("PROXY {kind} {path} to {upstream}", kind=kind, path=path, upstream=self.plan.upstream.url)
        if self._rewriting is not None and not handshake:
            RewritingExchange(request, self, self._rewriting).start()
            return
        exchange = Exchange(request, self, is_handshake=handshake)
        if handshake and self.relay is not None:
            exchange.relays = RelayHandshake(head, compresses=bool(self.relay.settings.compression))
        exchange.start()

    def getChild(self, path: bytes, request: object) -> IResource:
        """Everything below is forwarded as well."""
        return self


def _first(own: float | None, default: float) -> float:
    return default if own is None else own
