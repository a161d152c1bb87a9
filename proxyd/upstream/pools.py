"""The connections to each upstream, the idle ones above all. The policy is `core.pool`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakValueDictionary

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from proxyd.core.head import ResponseReader
from proxyd.core.pool import IdleConnections
from proxyd.errors import ConnectTimeoutError
from proxyd.model.settings import Limits, PoolSettings
from proxyd.model.tls import UpstreamTlsSettings
from proxyd.model.upstream import Upstream
from proxyd.net.certificates import ClientContexts, ClientTls
from proxyd.net.deadlines import Deadlines
from proxyd.upstream.connection import UpstreamConnection

if TYPE_CHECKING:
    from proxyd.upstream.dialing import Dialer

T = TypeVar("T")

# How long a connection beyond `pool.idle_per_upstream` is kept.
_SURPLUS_SECONDS = 1.0


class ConnectMeter(Protocol):
    """Counts attempts to connect."""

    def connect_done(self, result: str) -> None:
        """One is over: `connected`, `failed`, `timeout` or `cancelled`."""


class Pools:
    """One pool for each place that upstreams are at; it lasts as long as a route or a connection uses it."""

    def __init__(
        self,
        dialer: Dialer,
        deadlines: Deadlines,
        settings: PoolSettings,
        limits: Limits,
        meter: ConnectMeter | None = None,
    ) -> None:
        self.dialer = dialer
        self.deadlines = deadlines
        self.settings = settings
        self.limits = limits
        self.meter = meter
        self.reader = ResponseReader()
        self.contexts = ClientContexts()
        self._pools: WeakValueDictionary[tuple[object, ...], UpstreamPool] = WeakValueDictionary()

    def of(self, upstream: Upstream, tls: UpstreamTlsSettings | None = None) -> UpstreamPool:
        """The pool of connections to where `upstream` is; its path does not matter.

        Connections of an `https://` upstream are as `tls` says, and never shared with those that are otherwise.
        """
        settings = (tls or UpstreamTlsSettings()) if upstream.secure else None
        place = (settings, upstream.host, upstream.port, upstream.socket)
        pool = self._pools.get(place)
        if pool is None:
            client = ClientTls(self.contexts, settings, upstream.host) if settings is not None else None
            pool = self._pools[place] = UpstreamPool(self, upstream, client)
        return pool

    def refresh_tls(self) -> None:
        """Read the files of TLS again for the connections to come."""
        self.contexts.refresh()

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return sum(pool.idle for pool in list(self._pools.values()))

    def idle_by_upstream(self) -> list[tuple[str, int]]:
        """Where each pool leads, and how many of its connections are idle."""
        return sorted((str(pool.upstream), pool.idle) for pool in list(self._pools.values()))

    def close(self) -> None:
        """Close every idle connection."""
        for pool in list(self._pools.values()):
            pool.close()


class UpstreamPool:
    """The connections to `upstream`."""

    def __init__(self, pools: Pools, upstream: Upstream, tls: ClientTls | None = None) -> None:
        self.upstream = upstream
        self._tls = tls
        self.deadlines = pools.deadlines
        self.limits = pools.limits
        self.reader = pools.reader
        self._dialer = pools.dialer
        self._meter = pools.meter
        self._idle_seconds = pools.settings.idle_seconds
        self._idle: IdleConnections[UpstreamConnection] = IdleConnections(pools.settings.idle_per_upstream)

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """An idle connection, None if there is none."""
        return self._idle.take()

    def connect(self, seconds: float) -> Deferred[UpstreamConnection]:
        """Make a connection within `seconds`.

        Fails with `ConnectError` or `ConnectTimeoutError`; can be cancelled.
        """
        connecting = self._dialer.dial(self.upstream, seconds, partial(UpstreamConnection, self), self._tls)
        if self._meter is not None:
            connecting.addBoth(_counted, self._meter)
        return connecting

    def put(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose exchange is over."""
        is_surplus = self._idle.put(connection)
        self.deadlines.set(connection, _SURPLUS_SECONDS if is_surplus else self._idle_seconds)

    def ended(self, connection: UpstreamConnection) -> None:
        """A connection is no more, or serves another protocol."""
        self._idle.discard(connection)

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle.clear():
            connection.close()


def _counted(result: T, meter: ConnectMeter) -> T:
    """Count how an attempt ended, and pass that on."""
    if not isinstance(result, Failure):
        meter.connect_done("connected")
    elif result.check(CancelledError):
        meter.connect_done("cancelled")
    else:
        meter.connect_done("timeout" if result.check(ConnectTimeoutError) else "failed")
    return result
