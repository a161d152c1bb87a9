"""How a connection to an upstream comes about: names, addresses, and several of them at once (RFC 8305)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError as TwistedConnectError
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from proxyd.errors import ConnectError, ConnectTimeoutError, ForbiddenAddressError, UpstreamError
from proxyd.model.upstream import Upstream
from proxyd.net.resolver import Addresses
from proxyd.net.tcp import DataPathConnector, DataPathUnixConnector
from proxyd.net.tls import DataPathTlsConnector
from proxyd.upstream.connection import UpstreamConnection

if TYPE_CHECKING:
    from proxyd.net.certificates import ClientTls
    from proxyd.net.reactor import DataPathReactor

# RFC 8305 §5: how long an attempt may take before the next address is tried beside it.
_ATTEMPT_DELAY_SECONDS = 0.25
# Connectors may have a time-out each, which would be one more delayed call; the dial's is the one that counts.
_NO_TIMEOUT: Any = None

Build = Callable[[Callable[[UpstreamConnection], None]], UpstreamConnection]
"""Makes the protocol of an attempt, which tells by the given callable that it is connected."""


class Names(Protocol):
    """Knows the addresses of names."""

    def resolve(self, host: str) -> Deferred[Addresses]:
        """The addresses of `host` in the order in which to try them.

        Fails with `OSError` if there are none, with `ForbiddenAddressError` if there are none but forbidden ones.
        """


class Dialer:
    """Makes connections on `reactor`, looking names up with `resolver`."""

    def __init__(self, reactor: DataPathReactor, resolver: Names) -> None:
        self.reactor = reactor
        self.resolver = resolver

    def dial(
        self, upstream: Upstream, seconds: float, build: Build, tls: ClientTls | None = None
    ) -> Deferred[UpstreamConnection]:
        """Connect to `upstream` within `seconds`, the handshake of `tls` included.

        `build` makes the protocol of each attempt. Fails with `ConnectError` or `ConnectTimeoutError`. Cancelling
        ends all attempts.
        """
        return _Dial(self, upstream, seconds, build, tls).start()


class _Dial:
    """One race of attempts for one connection."""

    def __init__(self, dialer: Dialer, upstream: Upstream, seconds: float, build: Build, tls: ClientTls | None) -> None:
        self._reactor = dialer.reactor
        self._resolver = dialer.resolver
        self._upstream = upstream
        self._seconds = seconds
        self.build = build
        self._tls = tls
        self._result: Deferred[UpstreamConnection] = Deferred(self._cancelled)
        self._addresses: list[str] = []
        self._attempts: dict[_Attempt, Any] = {}
        self._timer: Any = None
        self._next: Any = None
        self._failure = ""

    def start(self) -> Deferred[UpstreamConnection]:
        upstream = self._upstream
        if self._seconds:
            self._timer = self._reactor.callLater(self._seconds, self._timed_out)
        if upstream.socket:
            attempt = _Attempt(self)
            self._try(attempt, DataPathUnixConnector(upstream.socket, attempt, _NO_TIMEOUT, self._reactor, False))
        elif _is_address(upstream.host):
            self._resolved((upstream.host,))
        else:
            self._resolver.resolve(upstream.host).addCallbacks(self._resolved, self._unresolved)
        return self._result

    def _resolved(self, addresses: Addresses) -> None:
        if not self._result.called:
            self._addresses = interleave(addresses)
            self._try_next()

    def _unresolved(self, failure: Failure) -> None:
        if isinstance(failure.value, ForbiddenAddressError):
            self._fail(failure.value)
            return
        self._failure = f"the name cannot be resolved: {failure.value}"
        self._lost()

    def _try_next(self) -> None:
        address = self._addresses.pop(0)
        if self._addresses:
            self._next = self._reactor.callLater(_ATTEMPT_DELAY_SECONDS, self._try_next)
        attempt = _Attempt(self)
        port = self._upstream.port
        if self._tls is None:
            self._try(attempt, DataPathConnector(address, port, attempt, _NO_TIMEOUT, None, self._reactor))
        else:
            self._try(attempt, DataPathTlsConnector(address, port, attempt, _NO_TIMEOUT, self._tls, self._reactor))

    def _try(self, attempt: _Attempt, connector: Any) -> None:
        self._attempts[attempt] = connector
        connector.connect()

    def attempt_connected(self, attempt: _Attempt, connection: UpstreamConnection) -> None:
        del self._attempts[attempt]
        self._stop()
        self._result.callback(connection)

    def attempt_failed(self, attempt: _Attempt, reason: Failure) -> None:
        if self._attempts.pop(attempt, None) is None:
            return
        self._failure = _words(reason)
        if self._addresses:
            self._next.cancel()
            self._try_next()
        elif not self._attempts:
            self._lost()

    def _lost(self) -> None:
        self._fail(ConnectError(str(self._upstream), self._failure))

    def _fail(self, error: UpstreamError) -> None:
        if not self._result.called:
            self._stop()
            self._result.errback(error)

    def _timed_out(self) -> None:
        self._stop()
        self._result.errback(ConnectTimeoutError(str(self._upstream)))

    def _cancelled(self, _: Deferred[UpstreamConnection]) -> None:
        self._stop()

    def _stop(self) -> None:
        for call in (self._timer, self._next):
            if call is not None and call.active():
                call.cancel()
        self._addresses = []
        attempts, self._attempts = self._attempts, {}
        for connector in attempts.values():
            connector.stopConnecting()


class _Attempt(ClientFactory):
    """One address of one dial."""

    noisy = False

    def __init__(self, dial: _Dial) -> None:
        self._dial = dial

    def buildProtocol(self, addr: IAddress | None) -> UpstreamConnection:
        """The address answered."""
        return self._dial.build(self._connected)

    def _connected(self, connection: UpstreamConnection) -> None:
        dial = self._dial
        del self._dial  # this lasts for as long as the connection, with which the dial has nothing to do any more
        dial.attempt_connected(self, connection)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """The address did not answer."""
        self._dial.attempt_failed(self, reason)


def interleave(addresses: Sequence[str]) -> list[str]:
    """Alternate between the families, beginning with that of the first address (RFC 8305 §4)."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    other = [a for a in addresses if (":" in a) != (":" in addresses[0])]
    return [a for a in chain.from_iterable(zip_longest(first, other)) if a is not None]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _words(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, TwistedConnectError):
        return f"{error.args[0] if error.args else ''}".strip() or type(error).__doc__ or ""
    return reason.getErrorMessage()
