"""Who gets a connection, and who may ask: the limits of clients.

How they are counted is `core.seats` and `core.rate`, or `core.shared`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from proxyd.core.client import client_of, key_of_address
from proxyd.core.counting import Counting
from proxyd.errors import too_many

if TYPE_CHECKING:
    from proxyd.http.channel import HTTPChannel
    from proxyd.http.request import Request
    from proxyd.model.settings import Limits
    from proxyd.option import Rate

# So many that were turned away are waited for, so that they get their answer; the rest is cut at once.
_MAX_LINGERING = 128
_REPORT_SECONDS = 60.0
_ANSWERS = {
    503: b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    429: b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}


def connection_gate(
    limits: Limits, seconds: Callable[[], float], counting: Counting | None = None
) -> ConnectionGate | None:
    """A gate for connections, if there is a limit; `counting` makes what counts them."""
    return ConnectionGate(limits, seconds, counting) if limits.connections or limits.connections_per_client else None


def request_gate(limits: Limits, trusts: Callable[[str], bool], counting: Counting | None = None) -> RequestGate | None:
    """A gate for requests, if there is a limit."""
    rate = limits.requests_per_client
    return RequestGate(rate, trusts, counting) if rate.amount else None


class ConnectionGate:
    """Lets in as many connections as `limits` allow; one for all listeners. `seconds` is a clock that only goes on.

    A connection that ends as a tunnel or a relay keeps its seat until then.
    """

    _log = Logger()

    def __init__(self, limits: Limits, seconds: Callable[[], float], counting: Counting | None = None) -> None:
        self._seats = (counting or Counting()).seats(limits.connections, limits.connections_per_client)
        self._lingering: set[HTTPChannel] = set()
        self._seconds = seconds
        self._reported: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def enter(self, channel: HTTPChannel) -> bool:
        """Give a new connection a seat, or turn it away, which is False.

        Behind a trusted proxy there are many clients: its connections count only among all of them.
        """
        status = self._seats.take(channel, _client(channel))
        if not status:
            return True
        self._report(status)
        if len(self._lingering) < _MAX_LINGERING:
            self._lingering.add(channel)
            channel.turn_away(_ANSWERS[status])
        else:
            channel.abortConnection()
        return False

    def keep(self, channel: HTTPChannel) -> None:
        """Give a connection a seat that was there before any limit."""
        self._seats.keep(channel, _client(channel))

    def become(self, limits: Limits) -> None:
        """Let in as many as other `limits` allow from now on; nobody who is there has to go."""
        self._seats.become(limits.connections, limits.connections_per_client)

    def leave(self, channel: HTTPChannel) -> None:
        """A connection has ended; to say so twice does no harm."""
        self._seats.free(channel)
        self._lingering.discard(channel)

    def _report(self, status: int) -> None:
        now = self._seconds()
        if now - self._reported.get(status, -_REPORT_SECONDS) >= _REPORT_SECONDS:
            self._reported[status] = now
            limit = "limits.connections" if status == 503 else "limits.connections_per_client"
            self._log.warn("connections are turned away: {limit} is reached", limit=limit)


def _client(channel: HTTPChannel) -> bytes:
    """Whose seats a connection takes; empty for those that only count among all."""
    peer = channel.peer
    return b"" if peer.trusted else key_of_address(peer.address)


class RequestGate:
    """Lets each client ask as often as `rate` says."""

    def __init__(self, rate: Rate, trusts: Callable[[str], bool], counting: Counting | None = None) -> None:
        self._buckets = (counting or Counting()).buckets(rate, b"client:")
        self._trusts = trusts

    def enter(self, request: Request) -> None:
        """Count a request.

        Raises `RequestError` 429.
        """
        client = client_of(request.peer, request.head, self._trusts)
        wait = self._buckets.take(client, request.channel.site.seconds())
        if wait:
            raise too_many(wait, "more requests than limits.requests_per_client")
