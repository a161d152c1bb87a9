"""Upstreams that are killed, come back, swallow connections, or are slow about everything."""

from __future__ import annotations

import re
import signal
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from tests.faults.blackhole import blackhole
from tests.faults.relay import Fault, FaultRelay
from tests.integration.proxies import ProxyTestCase
from tests.support import Process, accepts, free_port, wait_for
from tests.wire import ScriptedUpstream, Wire, answering, connect, now

GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# An upstream that writes the path of each request down before it does anything else; `/slow` paths never end.
_RECORDING = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Recording(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with open(sys.argv[2], "a") as file:
            file.write(self.command + " " + self.path + "\\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        if "slow" in self.path:
            self.wfile.write(b"o")
            time.sleep(60)
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, *_):
        pass

class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

Server(("127.0.0.1", int(sys.argv[1])), Recording).serve_forever()
"""


class RealUpstream:
    """A process that answers on `port`, can be killed and started again, and remembers all requests of its lives."""

    def __init__(self, case: ProxyTestCase) -> None:
        self._case = case
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._record = Path(tempfile.mkdtemp(prefix="proxyd-upstream-")) / "record"
        self._record.touch()
        case.addCleanup(self._record.parent.rmdir)
        case.addCleanup(self._record.unlink)
        self.start()

    def start(self) -> None:
        """Live, until `kill`."""
        words = (sys.executable, "-c", _RECORDING, str(self.port), self._record)
        self._process = Process(self._case, *words)
        self._process.wait_for(lambda: accepts(self.port), "an upstream", 30)

    def kill(self) -> None:
        """Die at once; the kernel closes its connections."""
        self._process.send(signal.SIGKILL)
        self._process.wait()

    def requests(self) -> Counter[str]:
        """How often each request has come."""
        return Counter(self._record.read_text().splitlines())


class KilledTests(ProxyTestCase):
    """Upstreams that die."""

    def test_killed_and_started_again(self) -> None:
        """Who was served learns of it, who comes is told 502, and all is well once the upstream is back."""
        upstream = RealUpstream(self)
        key = self.route(upstream)
        kept = self.client()
        self.assertEqual(b"ok", self.ask(f"{key}/warm", client=kept)[1])
        served = [self.client() for _ in range(10)]
        for number, client in enumerate(served):
            client.send(GET % f"{key}/slow/{number}".encode())
            self.assertIn(b"Content-Length: 2\r\n", client.head())
            self.assertEqual(b"o", client.exactly(1))
        upstream.kill()
        for client in served:
            self.assertEqual(b"", client.rest())
        for _ in range(3):
            self.assert_status(502, self.ask(key, client=kept))
        upstream.start()
        self.assertEqual(b"ok", self.ask(f"{key}/again", client=kept)[1])
        self.assertEqual({1}, set(upstream.requests().values()))

    def test_a_post_is_delivered_once(self) -> None:
        """Whatever happens to the upstream meanwhile, none arrives twice, and what was answered has arrived."""
        upstream = RealUpstream(self)
        key = self.route(upstream)
        answered: list[str] = []
        numbers = iter(range(100_000))
        ends = threading.Event()

        def post() -> None:
            while not ends.is_set():
                number = next(numbers)
                method = "POST" if number % 2 else "GET"
                wire = connect(self.proxy.port)
                wire.send(
                    f"{method} {key}/{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                    f"Content-Length: {4 if number % 2 else 0}\r\n\r\n{'body' if number % 2 else ''}".encode()
                )
                if wire.rest().startswith(b"HTTP/1.1 200 "):
                    answered.append(f"{method} {key}/{number}")
                wire.close()

        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                before = len(answered)
                wait_for(lambda before=before: len(answered) > before + 20, "answers", 30)
                upstream.kill()
                upstream.start()
            before = len(answered)
            wait_for(lambda: len(answered) > before + 20, "answers", 30)
        finally:
            ends.set()
            for thread in threads:
                thread.join()
        arrived = upstream.requests()
        self.assertEqual({}, {line: count for line, count in arrived.items() if count > (2 if "GET" in line else 1)})
        self.assertEqual([], [line for line in answered if line not in arrived])

    def test_closed_behind_each_answer(self) -> None:
        """An upstream that closes without saying so costs no request, however many come at once, and no POST twice."""
        seen: list[bytes] = []

        def script(wire: Wire) -> None:
            head, _ = wire.message()
            if head:
                seen.append(head.split(b" ")[1])
                wire.send(OK)

        key = self.route(ScriptedUpstream(self, script))
        client = self.client()
        for number in range(100):
            client.send(
                f"POST {key}/{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody".encode()
                if number % 2
                else GET % f"{key}/{number}".encode()
            )
            status = client.message()[0][9:12]
            # A POST may meet the end at the very moment: then it has not arrived, and its client knows.
            self.assertIn(status, (b"200", b"502") if number % 2 else (b"200",))
        posts = [path for path in seen if int(re.findall(rb"\d+\Z", path)[0]) % 2]
        self.assertEqual(len(posts), len(set(posts)))


class SlowTests(ProxyTestCase):
    """Upstreams that take their time."""

    settings = "timeouts: {connect: 1s}"

    def test_swallowed_connections(self) -> None:
        """504 for each of many clients, while others are served, and no attempt goes on after that."""
        with blackhole() as port:
            key = self.route(f"http://127.0.0.1:{port}")
            began = now()
            clients = [self.client() for _ in range(30)]
            for client in clients:
                client.send(GET % key.encode())
            self.assert_alive()
            for client in clients:
                self.assert_status(504, client.message())
            self.assertGreater(now() - began, 0.9)
        self.assert_alive()

    def test_connections_that_are_never_accepted(self) -> None:
        """The kernel takes them, and the response is what does not come: 504."""
        with blackhole(accepts=True) as port:
            key = self.route(f"http://127.0.0.1:{port}", timeouts={"response": "300ms"})
            self.assert_status(504, self.ask(key))

    def test_refused_at_once(self) -> None:
        """Nobody waits for an upstream that refuses."""
        key = self.route(f"http://127.0.0.1:{free_port()}")
        seconds = []
        client = self.client()
        for _ in range(20):
            began = now()
            self.assert_status(502, self.ask(key, client=client))
            seconds.append(now() - began)
        self.assertLess(min(seconds), 0.05)

    def test_byte_by_byte(self) -> None:
        """Messages that trickle in both directions arrive whole."""
        relay = FaultRelay(self, ScriptedUpstream(self, answering(b"whole")).port)
        relay.up = relay.down = Fault(piece=1)
        client = self.client()
        client.send(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" % self.route(relay.url).encode())
        client.send(bytes(1000))
        self.assertEqual(b"whole", client.message()[1])

    def test_late(self) -> None:
        """An upstream that is late, but not too late, is waited for."""
        relay = FaultRelay(self, ScriptedUpstream(self, answering(b"late")).port)
        relay.up = relay.down = Fault(delay_seconds=0.3)
        key = self.route(relay.url, timeouts={"response": "20s"})
        self.assertEqual(b"late", self.ask(key)[1])
        self.assert_status(504, self.ask(self.route(relay.url, timeouts={"response": "100ms"})))
