"""What the tests of the data path share."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.model.settings import Config
from proxyd.testing.harness import Harness
from proxyd.testing.transports import MemoryTransport

GET = b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: now\r\n\r\nok"


class DataPathTestCase(SynchronousTestCase):
    """Exchanges through a proxy in memory, with one route `/` unless the test says otherwise."""

    config = Config()

    def setUp(self) -> None:
        self.proxy = Harness(config=self.config)

    def begin(self, request: bytes = GET) -> tuple[MemoryTransport, MemoryTransport]:
        """A client sends a request, on a new connection to the upstream; gives back the ends of both."""
        self.proxy.pools.close()
        client = self.proxy.client()
        client.send(request)
        return client, self.proxy.accept()

    def assert_status(self, status: int, client: MemoryTransport) -> bytes:
        """The client got one answer with this status; gives it back."""
        answer = client.pop()
        self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer[:200])
        return answer

    def assert_ended(self, transport: MemoryTransport) -> None:
        """The proxy ended this connection."""
        self.proxy.advance()
        self.assertFalse(transport.connected and not transport.write_closed, "the connection is still open")
