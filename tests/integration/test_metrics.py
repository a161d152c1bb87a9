"""What monitoring sees of a real process, under both sets of names."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.upgrade import accept_value
from tests.support import Process, free_port, script
from tests.wire import PATIENCE_SECONDS, ScriptedUpstream, Wire, connect, get

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
    + accept_value(KEY)
    + b"\r\n\r\n"
)


def upstream_script(wire: Wire) -> None:
    """Answers requests; after a handshake, says what it hears."""
    while head := wire.message()[0]:
        if b"Upgrade: websocket" in head:
            wire.send(AGREED)
            while data := wire.sock.recv(65536):
                wire.send(data)
            return
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def samples(body: bytes) -> dict[str, float]:
    """The lines of a scrape, each with its value."""
    lines = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


class MetricsCase(SynchronousTestCase):
    """A process, and an upstream behind it."""

    def setUp(self) -> None:
        self.upstream = ScriptedUpstream(self, upstream_script)
        # Short, because the path of a socket is.
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def assert_answer(self, status: int, head: bytes) -> None:
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), head)

    def open_tunnel(self, port: int) -> Wire:
        """A client that has said `hello` through a tunnel, and has heard it again."""
        wire = connect(port)
        self.addCleanup(wire.close)
        wire.send(HANDSHAKE)
        self.assert_answer(101, wire.head())
        wire.send(b"hello")
        self.assertEqual(b"hello", wire.exactly(5))
        return wire


class ChpTests(MetricsCase):
    """`proxyd chp`."""

    def start(self, *words: str) -> tuple[Process, int, int]:
        """The process, its public port and the one of its API."""
        port, api_port = free_port(), free_port()
        ports = [f"--port={port}", f"--api-port={api_port}", "--ip=127.0.0.1", "--api-ip=127.0.0.1"]
        process = Process(
            self,
            *(script("proxyd"), "chp", *ports, f"--default-target={self.upstream.url}", *words),
            env={"CONFIGPROXY_AUTH_TOKEN": ""},
        )
        process.wait_for_log("Proxy API at", 30)
        return process, port, api_port

    def test_a_port(self) -> None:
        """Traffic shows under the names of the contract, on the port of the metrics and nowhere else."""
        metrics_port = free_port()
        process, port, api_port = self.start("--metrics-ip=127.0.0.1", f"--metrics-port={metrics_port}")
        process.wait_for_log(f"Serve metrics at http://127.0.0.1:{metrics_port}/metrics")
        self.assert_answer(200, get(port, "/_chp_healthz")[0])
        for _ in range(3):
            self.assert_answer(200, get(port)[0])
        self.open_tunnel(port)
        self.assert_answer(200, get(api_port, "/api/routes")[0])
        head, body = get(metrics_port, "/metrics")
        self.assert_answer(200, head)
        self.assertIn(b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n", head)
        found = samples(body)
        expected = {
            "requests_web": 3,
            "requests_ws": 1,
            'requests_proxy{status="200"}': 3,
            'requests_api{status="200"}': 1,
            "api_route_get": 1,
            "api_route_add": 0,
            "api_route_delete": 0,
            "find_target_for_req_count": 4,
        }
        self.assertEqual(expected, {name: found[name] for name in expected})
        self.assertGreaterEqual(found["last_activity_updating_count"], 4)
        self.assertGreater(found["process_start_time_seconds"], 1e9)
        self.assertFalse([name for name in found if "_total" in name and not name.startswith("process_cpu_")])
        self.assert_answer(404, get(metrics_port)[0])
        self.assert_answer(404, get(metrics_port, "/api/routes")[0])
        self.assert_answer(404, get(api_port, "/metrics")[0])
        wire = connect(metrics_port)
        self.addCleanup(wire.close)
        wire.send(b"POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        self.assert_answer(405, wire.message()[0])

    def test_a_socket(self) -> None:
        """It is where the log says, and gone with the process."""
        path = self.directory / "m"
        process, _, _ = self.start(f"--metrics-socket={path}")
        process.wait_for_log(f"Serve metrics at http://{path}/metrics")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            wire = Wire(sock)
            wire.send(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
            head, body = wire.message()
        self.assert_answer(200, head)
        self.assertEqual(0, samples(body)["requests_web"])
        process.send(signal.SIGTERM)
        self.assertEqual(2, process.wait())
        self.assertFalse(path.exists())

    def test_none(self) -> None:
        """Unless they are asked for."""
        process, _, api_port = self.start("--metrics-ip=127.0.0.1")
        self.assertNotIn("metrics", process.log)
        self.assert_answer(404, get(api_port, "/metrics")[0])


class NativeTests(MetricsCase):
    """`proxyd serve`."""

    def start(self, metrics: str) -> tuple[Process, int, int]:
        """The process, its public port and the one of its API."""
        file = self.directory / "proxyd.yaml"
        file.write_text(
            "listeners: [{kind: http, port: 0}]\n"
            "api: {port: 0, token: secret}\n"
            f"metrics: {metrics}\n"
            f"routes: {{/: {self.upstream.url}}}\n"
        )
        process = Process(self, script("proxyd"), "serve", "--config", file, cwd=self.directory)
        api = process.wait_for_log("Proxy API at", 30)
        return process, self.port(process.wait_for_log("Proxying ")), self.port(api)

    def port(self, line: str) -> int:
        """The port in a line of the log."""
        match = re.search(r"http://[^ ]*?:(\d+)", line)
        assert match is not None, line
        return int(match[1])

    def scrape(self, port: int, token: bytes = b"secret") -> tuple[bytes, bytes]:
        wire = connect(port)
        self.addCleanup(wire.close)
        wire.send(b"GET /metrics HTTP/1.1\r\nHost: h\r\nAuthorization: token " + token + b"\r\n\r\n")
        return wire.message()

    def test_on_the_port_of_the_api(self) -> None:
        """Behind its token; what goes on counts while it does."""
        _, port, api_port = self.start("{}")
        for _ in range(3):
            self.assert_answer(200, get(port)[0])
        self.assert_answer(200, get(port, "/healthz")[0])
        self.open_tunnel(port)
        self.assert_answer(403, self.scrape(api_port, b"wrong")[0])
        head, body = self.scrape(api_port)
        self.assert_answer(200, head)
        self.assertIn(b"\r\nContent-Type: text/plain; version=0.0.4", head)
        found = samples(body)
        expected = {
            'proxyd_requests_total{kind="forward",status_class="2xx"}': 3,
            'proxyd_requests_total{kind="health",status_class="2xx"}': 1,
            'proxyd_requests_total{kind="api",status_class="4xx"}': 1,
            'proxyd_request_duration_seconds_count{kind="forward"}': 3,
            'proxyd_upstream_connects_total{result="failed"}': 0,
            "proxyd_open_tunnels": 1,
            "proxyd_tunnels_total": 1,
            "proxyd_received_bytes_total": 5,
            "proxyd_routes": 1,
            "proxyd_access_log_dropped_lines_total": 0,
        }
        self.assertEqual(expected, {name: found[name] for name in expected})
        self.assertGreaterEqual(found["proxyd_open_connections"], 1)
        # Whether one of the three found the connection of the one before is up to the machine.
        self.assertGreaterEqual(found['proxyd_upstream_connects_total{result="connected"}'], 1)
        self.assertGreater(found["proxyd_sent_bytes_total"], 3 * 2 + 5)  # with the page of the health check
        self.assertLess(found["proxyd_event_loop_lag_seconds"], PATIENCE_SECONDS)
        self.assertGreater(found["process_resident_memory_bytes"], 1e6)

    def test_every_byte_of_large_bodies_counts(self) -> None:
        """Those that are never read by the process as well, both ways, and through a tunnel."""
        body = bytes(5_000_000)

        def answer(wire: Wire) -> None:
            while head := wire.message()[0]:
                if b"Upgrade: websocket" not in head:
                    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    continue
                wire.send(AGREED)
                wire.exactly(3_000_000)
                wire.send(body)

        self.upstream = ScriptedUpstream(self, answer)
        process, port, api_port = self.start("{}")
        before = samples(self.scrape(api_port)[1])
        wire = connect(port)
        self.addCleanup(wire.close)
        wire.send(b"PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000))
        head, came = wire.message()
        self.assert_answer(200, head)
        self.assertEqual(body, came)
        wire.send(HANDSHAKE)
        self.assert_answer(101, wire.head())
        wire.send(bytes(3_000_000))
        wire.exactly(len(body))
        found = samples(self.scrape(api_port)[1])
        self.assertEqual(7_000_000, found["proxyd_received_bytes_total"] - before["proxyd_received_bytes_total"])
        self.assertEqual(10_000_000, found["proxyd_sent_bytes_total"] - before["proxyd_sent_bytes_total"])
        process.wait_for_log('"PUT /x HTTP/1.1" 200 5000000 ')

    def test_on_a_port_of_their_own(self) -> None:
        """Without a token, and then not on the one of the API."""
        process, _, api_port = self.start("{port: 0}")
        own = self.port(process.wait_for_log("Serve metrics at http://127.0.0.1:"))
        self.assertIn("proxyd_routes", samples(get(own, "/metrics")[1]))
        self.assert_answer(404, self.scrape(api_port)[0])

    def test_switched_off(self) -> None:
        """There is nothing to see."""
        _, port, api_port = self.start("{enabled: false}")
        self.assert_answer(200, get(port)[0])
        self.assert_answer(404, self.scrape(api_port)[0])
