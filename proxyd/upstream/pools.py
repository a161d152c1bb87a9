"""The connections to each upstream, the idle ones above all. The policy is `core.pool`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakValueDictionary

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from proxyd.core.head import ResponseReader
from proxyd.core.pool import IdleConnections
from proxyd.errors import ConnectTimeoutError, UpstreamBusyError
from proxyd.model.settings import Limits, PoolSettings
from proxyd.model.tls import UpstreamTlsSettings
from proxyd.model.upstream import Upstream
from proxyd.net.certificates import ClientContexts, ClientTls
from proxyd.net.deadlines import NEVER, Deadlines
from proxyd.upstream.connection import UpstreamConnection

if TYPE_CHECKING:
    from collections.abc import Callable

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
        self.meter = meter  # may be replaced
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

    def reconfigure(self, settings: PoolSettings, limits: Limits, contexts: ClientContexts) -> None:
        """Take other settings. Pools of `https://` upstreams end: new ones are made, with the files as they are now."""
        self.settings = settings
        self.limits = limits
        self.contexts = contexts
        for place, pool in list(self._pools.items()):
            if pool.upstream.secure:
                del self._pools[place]
                pool.retire()
            else:
                pool.reconfigure(settings, limits)

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return sum(pool.idle for pool in list(self._pools.values()))

    def idle_by_upstream(self) -> list[tuple[str, int]]:
        """Where each pool leads, and how many of its connections are idle."""
        return sorted((str(pool.upstream), pool.idle) for pool in list(self._pools.values()))

    def close(self) -> None:
        """Close every idle connection; who waits for one waits no longer."""
        for pool in list(self._pools.values()):
            pool.close()


class UpstreamPool:
    """The connections to `upstream`, no more of them than `pool.connections_per_upstream`.

    A connection counts from its dialing to its end, and not any more once it is a tunnel: those last for hours, and
    whoever waited for one would wait in vain.
    """

    def __init__(self, pools: Pools, upstream: Upstream, tls: ClientTls | None = None) -> None:
        self.upstream = upstream
        self._tls = tls
        self.deadlines = pools.deadlines
        self.reader = pools.reader
        self._dialer = pools.dialer
        self._pools = pools
        self._idle: IdleConnections[UpstreamConnection] = IdleConnections()
        self.take = self._idle.take
        """An idle connection, None if there is none."""
        self._dialing = 0
        self._connections: set[UpstreamConnection] = set()
        self._waiting: dict[_Waiter, None] = {}  # in the order in which they came
        self._is_serving = False
        self._is_retired = False
        self._take_settings(pools.settings, pools.limits)

    def _take_settings(self, settings: PoolSettings, limits: Limits) -> None:
        self.limits = limits
        self._idle.limit = settings.idle_per_upstream
        self._idle_seconds = settings.idle_seconds
        self._limit = settings.connections_per_upstream

    def reconfigure(self, settings: PoolSettings, limits: Limits) -> None:
        """Take other settings; connections that are idle now are kept for as long as they would have been."""
        self._take_settings(settings, limits)
        self._serve_waiting()

    def retire(self) -> None:
        """Close the idle connections, and the others when they become idle."""
        self._is_retired = True
        for connection in self._idle.clear():
            connection.leave()

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return len(self._idle)

    def connect(self, seconds: float) -> Deferred[UpstreamConnection]:
        """Make a connection within `seconds`, or get one that others are done with.

        Beyond the limit of connections, waiting for its turn takes up to `seconds`, too.
        Fails with `ConnectError`, `ConnectTimeoutError` or `UpstreamBusyError`; can be cancelled.
        """
        if self._is_full and (idle := self._idle.take()) is not None:
            idle.leave()  # whoever comes here although there is one wants a fresh one
        return _Waiter(self, seconds).result if self._is_full else self._dial(seconds)

    @property
    def _is_full(self) -> bool:
        return 0 < self._limit <= len(self._connections) + self._dialing

    def _dial(self, seconds: float) -> Deferred[UpstreamConnection]:
        self._dialing += 1
        connecting = self._dialer.dial(self.upstream, seconds, partial(UpstreamConnection, self), self._tls)
        connecting.addBoth(self._dialed)
        if self._pools.meter is not None:
            connecting.addBoth(_counted, self._pools.meter)
        return connecting

    def _dialed(self, result: UpstreamConnection | Failure) -> UpstreamConnection | Failure:
        self._dialing -= 1
        if isinstance(result, Failure):
            self._serve_waiting()
        else:
            self._connections.add(result)
        return result

    def put(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose exchange is over, or let the next one have it."""
        if self._is_retired or 0 < self._limit < len(self._connections):
            connection.leave()
        elif not self._waiting:
            is_surplus = self._idle.put(connection)
            self.deadlines.set(connection, _SURPLUS_SECONDS if is_surplus else self._idle_seconds)
        elif connection.is_stale():
            connection.close()
        else:
            next(iter(self._waiting)).serve(connection)

    def ended(self, connection: UpstreamConnection) -> None:
        """A connection is no more, or serves another protocol."""
        self._idle.discard(connection)
        self._connections.discard(connection)
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        if self._is_serving:
            return  # a dial that failed at once: the loop goes on, and the stack does not grow
        self._is_serving = True
        try:
            while self._waiting and not self._is_full:
                next(iter(self._waiting)).dial(self._dial)
        finally:
            self._is_serving = False

    def enqueue(self, waiter: _Waiter) -> None:
        """Somebody waits for a connection."""
        self._waiting[waiter] = None

    def dequeue(self, waiter: _Waiter) -> None:
        """It was served, or does not wait any more."""
        self._waiting.pop(waiter, None)

    def close(self) -> None:
        """Close the idle connections; who waits for one waits no longer."""
        for waiter in list(self._waiting):
            waiter.deadline_passed()
        for connection in self._idle.clear():
            connection.leave()


class _Waiter:
    """An exchange that waits for a connection of `pool`, for up to `seconds`."""

    deadline: float | None = None
    looked_at = NEVER

    def __init__(self, pool: UpstreamPool, seconds: float) -> None:
        self._pool = pool
        self._seconds = seconds
        self._dialing: Deferred[UpstreamConnection] | None = None
        self.result: Deferred[UpstreamConnection] = Deferred(self._cancelled)
        pool.enqueue(self)
        pool.deadlines.set(self, seconds)

    def serve(self, connection: UpstreamConnection) -> None:
        """It gets `connection`."""
        self._leave()
        self.result.callback(connection)

    def dial(self, dial: Callable[[float], Deferred[UpstreamConnection]]) -> None:
        """There is room for one more: it makes its own."""
        self._leave()
        self._dialing = dial(self._seconds)
        self._dialing.addBoth(self._dialed)

    def _dialed(self, result: UpstreamConnection | Failure) -> None:
        if not isinstance(result, Failure):
            self.result.callback(result)
        elif not result.check(CancelledError):
            self.result.errback(result)

    def deadline_passed(self) -> None:
        """Nobody was done in time."""
        self._leave()
        self.result.errback(UpstreamBusyError(str(self._pool.upstream)))

    def _leave(self) -> None:
        self._pool.dequeue(self)
        self._pool.deadlines.forget(self)

    def _cancelled(self, _: object) -> None:
        self._leave()
        if self._dialing is not None:
            self._dialing.cancel()


def _counted(result: T, meter: ConnectMeter) -> T:
    """Count how an attempt ended, and pass that on."""
    if not isinstance(result, Failure):
        meter.connect_done("connected")
    elif result.check(CancelledError):
        meter.connect_done("cancelled")
    else:
        meter.connect_done("timeout" if result.check(ConnectTimeoutError) else "failed")
    return result
