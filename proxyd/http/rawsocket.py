"""Managed servers that speak no HTTP: a WebSocket becomes a connection of its own, whatever its path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxyd.core.admission import answered_fields
from proxyd.core.head import CRLF
from proxyd.core.relayed import RelayHandshake
from proxyd.core.upgrade import accept_value, is_handshake
from proxyd.errors import RequestError
from proxyd.http.accesslog import printable
from proxyd.http.exchange import Exchange
from proxyd.http.resources import ForwardResource
from proxyd.websocket.relay import Relay

if TYPE_CHECKING:
    from proxyd.http.request import Request
    from proxyd.upstream.connection import UpstreamConnection
    from proxyd.websocket.rawsocket import RawPlan


class RawSocketResource(ForwardResource):
    """Joins WebSockets with streams to the upstream, as `raw` says."""

    raw: RawPlan

    def render_streaming(self, request: Request) -> None:
        """Connect, and then accept the handshake."""
        refuse_all_but_handshakes(request)
        if not self._takes_websockets:
            raise RequestError(403, "the route takes no WebSockets")
        request.kind = "websocket"
        _RawExchange(request, self, self.raw).start()


def refuse_all_but_handshakes(request: Request) -> None:
    """Raises `RequestError` 405 for a request that wants something else."""
    if not is_handshake(request.head):
        raise RequestError(405, "there is nothing but WebSockets here", (b"Allow: GET",))


class _RawExchange(Exchange):
    """Connects for a handshake, and answers it."""

    def __init__(self, request: Request, resource: RawSocketResource, plan: RawPlan) -> None:
        super().__init__(request, resource, is_handshake=True)
        RelayHandshake(request.head, compresses=False)  # refuses what is none
        self._plan = plan

    def start(self) -> None:
        """A connection of its own, in any case."""
        self._request.sink = self
        self._connect()

    def _send(self, connection: UpstreamConnection) -> None:
        request, channel = self._request, self._channel
        connection.detach()
        head = request.head
        request.status = 101
        fields = [b"Sec-WebSocket-Accept: " + accept_value(head.get(b"sec-websocket-key") or b"")]
        offers = b",".join(head.get_all(b"sec-websocket-protocol")).partition(b",")[0].strip(b" \t")
        if offers:
            fields.append(b"Sec-WebSocket-Protocol: " + offers)
        if request.admission is not None:
            fields = answered_fields(fields, request.admission)
        early = channel.take_early()
        opening = [b"HTTP/1.1 101 Switching Protocols", *fields, b"Connection: Upgrade", b"Upgrade: websocket", CRLF]
        relay = Relay(self._plan, channel.site.deadlines, self._touch, self._tunnel_ended)
        relay.label = printable(head.target.partition(b"?")[0])
        channel.site.tunnel_began(relay)
        self._touch()
        channel.transport.write(CRLF.join(opening))
        relay.join(channel.transport, connection.transport, early, b"", (None, None))
