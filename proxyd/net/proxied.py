"""Listening ports whose clients come through a proxy that announces them: the PROXY protocol (`core.proxyline`).

The header is in the clear, in front of TLS as well, and the TLS of the data path reads from the socket itself. So the
header is looked at first and then taken from the socket to its last byte; what follows stays there for the transport
that is made then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.proxyline import ProxyLine, ProxyLineError
from proxyd.net.deadlines import NEVER, Deadlines
from proxyd.net.reactor import DataPathReactor
from proxyd.net.tcp import DataPathPort

# At least as long as a header may be.
_PEEK = 8192
# A scanner, or a load balancer that is set up otherwise, comes thousands of times.
_QUIET_SECONDS = 60.0


class ProxiedPort(DataPathPort):
    """Accepts connections that begin with a PROXY header, and hands each to `inner` with the address announced.

    `inner` is for the same socket, and never listens itself. Only peers whose address `trusts` are believed, the others
    turned away; the address is empty for a unix socket. A header has to come within `seconds`.
    """

    _log = Logger()

    def __init__(
        self,
        inner: DataPathPort,
        reactor: DataPathReactor,
        deadlines: Deadlines,
        seconds: Callable[[], float],
        trusts: Callable[[str], bool],
    ) -> None:
        self.inner = inner
        self.deadlines = deadlines
        self.seconds = seconds
        self._trusts = trusts
        self._quiet_until = 0.0
        super().__init__(inner.listening, _Clients(self), reactor)
        self.transport = _Announcement

    def believes(self, address: Any) -> bool:
        """Whether what a peer announces is believed."""
        host = getattr(address, "host", "")
        if self._trusts(host.removeprefix("::ffff:").partition("%")[0]):
            return True
        self.warn(host, "its address is not in trusted_proxies")
        return False

    def warn(self, peer: str, reason: str) -> None:
        """Say why a connection was closed; once a minute is enough."""
        now = self.deadlines.seconds()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            self._log.warn(
                "PROXY header from {peer} not taken, connection closed: {reason}", peer=peer or "unix", reason=reason
            )


class _Clients(Factory):
    """Lets in whom `port` believes."""

    noisy = False

    def __init__(self, port: ProxiedPort) -> None:
        self._port = port

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """Nothing that is of use yet, but None would turn the client away."""
        return Protocol() if self._port.believes(addr) else None


class _Announcement:
    """A connection whose header is still to come."""

    deadline: float | None = None
    looked_at = NEVER

    def __init__(
        self, sock: socket.socket, protocol: Any, client: Any, server: ProxiedPort, sessionno: int, reactor: Any
    ) -> None:
        self._socket = sock
        self._client = client
        self._server = server
        self._reactor = reactor
        self._line = ProxyLine()
        sock.setblocking(False)
        reactor.addReader(self)
        server.deadlines.set(self, server.seconds())

    def fileno(self) -> int:
        """That of the socket."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """How a reactor calls this in its log."""
        return "PROXY header"

    def doRead(self) -> ConnectionLost | None:
        """Take as much of the header as there is."""
        try:
            data = self._socket.recv(_PEEK, socket.MSG_PEEK)
            if not data:
                return CONNECTION_LOST
            self._socket.recv(self._line.feed(data))
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return CONNECTION_LOST
        except ProxyLineError as error:
            self._server.warn(str(self._client[0]) if self._client else "", str(error))
            return CONNECTION_LOST
        if self._line.is_complete:
            self._hand_over()
        return None

    def _hand_over(self) -> None:
        """From here on it is a connection like others."""
        self._reactor.removeReader(self)
        self._server.deadlines.forget(self)
        source: Any = self._line.source
        if source and ":" in source[0]:
            source = (*source, 0, 0)  # as the system has the addresses of IPv6
        self._server.inner.adopt(self._socket, self._client if source is None else source)

    def connectionLost(self, reason: Failure) -> None:
        """Let go of everything."""
        self._reactor.removeReader(self)
        self._server.deadlines.forget(self)
        self._socket.close()

    def deadline_passed(self) -> None:
        """The header did not come in time."""
        self.connectionLost(Failure(CONNECTION_LOST))
