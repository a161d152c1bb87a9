"""What `relay_echo.py` compares with: Autobahn as it comes, as an echo server or as a server and client pair.

relay_peer.py echo PORT
relay_peer.py relay PORT UPSTREAM_PORT
"""

from __future__ import annotations

import sys
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet import reactor  # noqa: TID251  # a program of its own
from twisted.internet.defer import Deferred


class Echo(WebSocketServerProtocol):
    """Sends everything back."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803  # Autobahn's
        self.sendMessage(payload, isBinary)


class ToUpstream(WebSocketClientProtocol):
    """The client of a pair."""

    def onOpen(self) -> None:
        self.factory.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803  # Autobahn's
        self.factory.server.sendMessage(payload, isBinary)


class FromClient(WebSocketServerProtocol):
    """The server of a pair."""

    def onConnect(self, request: Any) -> Deferred[None]:
        factory = WebSocketClientFactory(f"ws://127.0.0.1:{sys.argv[3]}")
        factory.protocol = ToUpstream
        factory.server = self
        factory.opened = Deferred()
        reactor.connectTCP("127.0.0.1", int(sys.argv[3]), factory)
        return factory.opened.addCallback(self._opened)

    def _opened(self, upstream: ToUpstream) -> None:
        self.upstream = upstream
        self.transport.registerProducer(upstream.transport, True)
        upstream.transport.registerProducer(self.transport, True)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803  # Autobahn's
        self.upstream.sendMessage(payload, isBinary)


def main() -> None:
    """Run."""
    factory = WebSocketServerFactory()
    factory.protocol = Echo if sys.argv[1] == "echo" else FromClient
    reactor.listenTCP(int(sys.argv[2]), factory, interface="127.0.0.1", backlog=1024)
    reactor.run()


if __name__ == "__main__":
    main()
