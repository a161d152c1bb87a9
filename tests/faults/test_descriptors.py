"""A process that has few descriptors, or should have given them back."""

from __future__ import annotations

import contextlib
import threading

from tests.faults.scripts import HANDSHAKE, OK, breaking
from tests.integration.proxies import Proxy, ProxyTestCase
from tests.support import free_port, wait_for
from tests.wire import ScriptedUpstream, Wire, answering, connect, cpu_seconds, now, open_descriptors

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"


class DescriptorTests(ProxyTestCase):
    """A process that has few descriptors, or should have given them back."""

    def setUp(self) -> None:
        """Each test starts a proxy of its own."""

    def test_none_left_for_clients(self) -> None:
        """Out of descriptors the process neither dies nor spins nor fills the log, and recovers at once."""
        self.use(Proxy(self, descriptors=48))
        key = self.route(ScriptedUpstream(self, answering()))
        self.assert_status(200, self.ask(key))
        logged = len(self.proxy.process.log)
        clients = [connect(self.proxy.port) for _ in range(80)]
        wait_for(lambda: open_descriptors(self.proxy.pid) >= 46, "all descriptors are in use")
        used, began = cpu_seconds(self.proxy.pid), now()
        self.assertFalse(clients[0].is_closed(1))  # a second of starvation, which those who are in do not feel
        self.assertLess((cpu_seconds(self.proxy.pid) - used) / (now() - began), 0.1)
        said = self.proxy.process.log[logged:]
        self.assertIn("clients are turned away: EMFILE", said)
        self.assertLess(said.count("\n"), 10)
        for client in clients:
            client.close()
        self.assert_recovers(key)

    def test_none_left_for_upstreams(self) -> None:
        """Requests that find no descriptor for their upstream are answered as a fault, and later ones are served."""
        self.use(Proxy(self, descriptors=48))
        gate = threading.Event()
        self.addCleanup(gate.set)

        def wait(wire: Wire) -> None:
            while wire.message()[0]:
                gate.wait(30)
                wire.send(OK)

        upstream = ScriptedUpstream(self, wait)
        key = self.route(upstream)
        at_rest = self.descriptors_at_rest()
        clients = [connect(self.proxy.port) for _ in range(25)]
        wait_for(lambda: open_descriptors(self.proxy.pid) >= at_rest + 25, "all clients are accepted")
        for client in clients:
            client.send(GET % key.encode())
        wait_for(lambda: open_descriptors(self.proxy.pid) >= 46, "all descriptors are in use")
        faults = [clients.pop().message()[0][:13] for _ in range(2)]
        gate.set()
        answers = [client.message()[0][:13] for client in clients]
        self.assertEqual([b"HTTP/1.1 502 "] * 2, faults)
        self.assertEqual({b"HTTP/1.1 200 ", b"HTTP/1.1 502 "}, set(answers) | set(faults))
        for client in clients:
            client.close()
        self.assert_recovers(key)

    def descriptors_at_rest(self) -> int:
        """How many descriptors the process has open once nothing happens any more."""
        seen = [-1]

        def is_at_rest() -> int:
            last, seen[0] = seen[0], open_descriptors(self.proxy.pid)
            return seen[0] if last == seen[0] else 0

        return wait_for(is_at_rest, "a process at rest", interval=0.5)

    def assert_recovers(self, key: str) -> None:
        """Requests are served again, soon."""

        def is_served() -> bool:
            with contextlib.suppress(OSError):
                return self.ask(key)[0].startswith(b"HTTP/1.1 200 ")
            return False

        wait_for(is_served, "requests are served again")

    def test_none_is_lost(self) -> None:
        """Hundreds of exchanges that end in every bad way leave no more descriptors open than there were."""
        self.use(Proxy(self, "pool: {idle_seconds: 0.2}"))
        upstream = ScriptedUpstream(self, breaking)
        key = self.route(upstream).encode()
        refusing = self.route(f"http://127.0.0.1:{free_port()}").encode()
        client = self.client()
        client.send(b"POST %b/ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody" % key)
        self.assert_status(200, client.message())
        at_rest = self.descriptors_at_rest()
        for number in range(20):
            for name in (b"ok", b"cut", b"reset", b"garbage", b"endless", b"silent", b"early"):
                client = connect(self.proxy.port)
                client.send(b"POST %b/%b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n" % (key, name))
                client.send(b"half" if name != b"early" else b"")
                if name == b"silent":
                    client.close()
                    continue
                self.assertTrue(client.head().startswith(b"HTTP/1.1 "))
                if number % 2:
                    client.reset()
                else:
                    client.close()
            for request in (
                GET % refusing,
                b"nonsense\r\n\r\n",
                b"GET / HT",
                HANDSHAKE % (key + b"/tunnel"),
                b"POST %b/ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha" % key,
            ):
                client = connect(self.proxy.port)
                client.send(request)
                if number % 2:
                    client.reset()
                else:
                    client.finish()
                    client.rest()
                    client.close()
        wait_for(lambda: open_descriptors(self.proxy.pid) <= at_rest, "all descriptors are given back", 20)
        self.assert_alive()
