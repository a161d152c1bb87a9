"""proxyd as a service manager and an operator meet it: signals, notifications, inherited sockets, stalls, the end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority
from tests.integration.test_serve import OPEN, PATIENCE_SECONDS, SERVE, CommandCase, Server, status_of
from tests.support import Process, accepts, wait_for
from tests.wire import ScriptedUpstream, Wire, answering, connect, get

V4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
# Version 2: a command, an address of IPv6, and an extension of one byte.
BINARY = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x28"
    + socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2
    + b"\0\x50\1\xbb\4\0\1x"
)
GET = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
# Takes the place of a service manager: descriptors from 3 on, and variables that tell of them.
_ACTIVATE = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 100) for word in sys.argv[1].split(",")]
for index, fd in enumerate(fds):
    os.dup2(fd, 3 + index)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""
# Stands still for a second and a half when it gets SIGALRM.
_STALLING = """
import signal, time
def stand_still(*_):
    time.sleep(1.5)
signal.signal(signal.SIGALRM, stand_still)
from proxyd.cli import main
main()
"""


class Manager:
    """What a service manager hears of the process that it has started."""

    def __init__(self, case: SynchronousTestCase, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        case.addCleanup(self._socket.close)
        self._socket.bind(path)
        self._socket.settimeout(PATIENCE_SECONDS)

    def hear(self) -> dict[str, str]:
        """The next message."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def hear_of(self, name: str) -> dict[str, str]:
        """The next message that has `name`."""
        while name not in (message := self.hear()):
            pass
        return message


class NotifyTests(CommandCase):
    """`Type=notify`."""

    def test_start_watchdog_and_stop(self) -> None:
        """Ready when clients are served, alive as long as the loop turns, and stopping while requests finish."""
        manager = Manager(self, str(self.directory / "notify"))
        holding, upstream = self.hold()
        path = self.write(f"{OPEN}routes: {{/: {upstream.url}}}\n")
        self.environ["NOTIFY_SOCKET"] = str(self.directory / "notify")
        self.environ["WATCHDOG_USEC"] = "200000"
        process = self.launch(*SERVE, "--config", str(path))
        ready = manager.hear()
        self.assertEqual(ready, {"READY": "1", "STATUS": "serving; listeners: 2, routes: 1"})
        server = Server(process)
        self.assertEqual(status_of(get(server.port, "/healthz")), 200)
        self.assertEqual([manager.hear() for _ in range(3)], [{"WATCHDOG": "1"}] * 3)
        process.send(signal.SIGHUP)
        self.assertIn("MONOTONIC_USEC", manager.hear_of("RELOADING"))
        self.assertEqual(manager.hear_of("READY"), ready)
        client = connect(server.port)
        client.send(GET)
        holding.wait_until_asked()
        process.send(signal.SIGTERM)
        self.assertIn("finishing", manager.hear_of("STOPPING")["STATUS"])
        manager.hear_of("WATCHDOG")
        holding.release()
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)

    def test_a_failed_start_is_not_ready(self) -> None:
        """The manager hears nothing of it."""
        manager = Manager(self, str(self.directory / "notify"))
        self.environ["NOTIFY_SOCKET"] = str(self.directory / "notify")
        path = self.write(f"listeners: [{{kind: http, port: {self.busy_port()}}}]\napi: off\n")
        self.assertEqual(self.end(*SERVE, "--config", path)[0], 1)
        manager._socket.setblocking(False)
        self.assertRaises(BlockingIOError, manager.hear)


class ActivationTests(CommandCase):
    """Sockets of the service manager."""

    def activate(self, settings: str, *sockets: socket.socket) -> Process:
        """Start a proxy that inherits the sockets, the first one as `web`."""
        path = self.write(settings)
        fds = [sock.fileno() for sock in sockets]
        words = (sys.executable, "-c", _ACTIVATE, ",".join(map(str, fds)), "web:other", *SERVE, "--config", str(path))
        return Process(self, *words, env=self.environ, cwd=self.directory, pass_fds=fds)

    def test_nobody_is_refused_during_a_restart(self) -> None:
        """Whoever comes while no proxy runs is served by the next one; the socket's file stays where it is."""
        tcp = socket.create_server(("127.0.0.1", 0))
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(self.directory / "api.sock"))
        unix.listen()
        for sock in (tcp, unix):
            self.addCleanup(sock.close)
        port = tcp.getsockname()[1]
        settings = f"listeners: [{{kind: http, port: {port}}}]\napi: {{socket: api.sock, open: true}}\n"
        process = self.activate(settings, tcp, unix)
        process.wait_for_log("Proxy API at", PATIENCE_SECONDS)
        self.assertEqual(status_of(get(port, "/healthz")), 200)
        process.send(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)
        self.assertTrue((self.directory / "api.sock").exists())
        waiting = connect(port)
        waiting.sock.settimeout(PATIENCE_SECONDS)
        waiting.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
        api = Wire(socket.socket(socket.AF_UNIX))
        api.sock.settimeout(PATIENCE_SECONDS)
        api.sock.connect(str(self.directory / "api.sock"))
        api.send(b"GET /api/routes HTTP/1.1\r\nHost: test\r\n\r\n")
        process = self.activate(settings, tcp, unix)
        self.assertEqual([status_of(wire.message()) for wire in (waiting, api)], [200, 200])
        self.assertNotIn("inherited", process.log)

    def test_one_that_no_listener_wants(self) -> None:
        """Is named."""
        sock = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(sock.close)
        process = self.activate(OPEN, sock)
        line = process.wait_for_log("inherited socket", PATIENCE_SECONDS)
        self.assertIn(f"inherited socket web at 127.0.0.1:{sock.getsockname()[1]} is that of no listener", line)
        Server(process)


class ProxyProtocolTests(CommandCase):
    """`proxy_protocol: true`."""

    def echo(self) -> str:
        """An upstream that answers with the head of the request."""

        def script(wire: Wire) -> None:
            while head := wire.head():
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)

        return ScriptedUpstream(self, script).url

    def test_the_announced_client_is_the_client(self) -> None:
        """For the upstream and in the access log, over plain TCP and in front of TLS; without a header, for nobody."""
        authority = Authority(os.path.abspath(self.mktemp()))
        issued = authority.issue("localhost")
        server = self.start(
            "listeners:\n  - {kind: http, port: 0, proxy_protocol: true}\n"
            f"  - {{kind: https, port: 0, proxy_protocol: true, certificates: [{{certificate: {issued.certificate},"
            f" key: {issued.key}}}]}}\n"
            f"api: {{port: 0, open: true}}\nroutes: {{/: {self.echo()}}}\ntimeouts: {{header: 3s}}\n"
        )
        line = server.process.wait_for_log("Proxying https")
        found = re.search(r"https://127.0.0.1:(\d+)", line)
        assert found is not None
        plain = connect(server.port)
        plain.send(V4 + GET)
        self.assertIn(b"\r\nX-Forwarded-For: 192.0.2.7\r\n", plain.message()[1])
        binary = connect(server.port)
        binary.send(BINARY + GET)
        self.assertIn(b"\r\nX-Forwarded-For: 2001:db8::7\r\n", binary.message()[1])
        sock = socket.create_connection(("127.0.0.1", int(found[1])))
        self.addCleanup(sock.close)
        sock.sendall(V4)
        secure = Wire(authority.client_context().wrap_socket(sock, server_hostname="localhost"))  # type: ignore[arg-type]
        secure.send(GET)
        body = secure.message()[1]
        self.assertIn(b"\r\nX-Forwarded-For: 192.0.2.7\r\n", body)
        self.assertIn(b"\r\nX-Forwarded-Proto: https\r\n", body)
        server.process.wait_for(lambda: len(server.lines("192.0.2.7 - - [")) == 2, "two lines of the access log")
        without = connect(server.port)
        without.send(GET)
        self.assertEqual(without.rest(), b"")
        slow = connect(server.port)
        slow.send(V4[:10])
        self.assertEqual(slow.rest(), b"")
        self.assertEqual(len(server.lines("PROXY header from")), 1)

    def test_strangers_are_turned_away(self) -> None:
        """Who is no trusted proxy may not announce anybody."""
        server = self.start(
            "listeners: [{kind: http, port: 0, proxy_protocol: true}]\napi: {port: 0, open: true}\n"
            "trusted_proxies: [192.0.2.0/24]\n"
        )
        client = connect(server.port)
        client.send(V4 + GET)
        self.assertEqual(client.rest(), b"")
        server.process.wait_for_log("not in trusted_proxies")


class DrainTests(CommandCase):
    """SIGTERM, as a load balancer sees it."""

    def test_readiness_ends_before_service(self) -> None:
        """With a delay, checks learn of the end from new connections, while those who still come are served."""
        upstream = ScriptedUpstream(self, answering(b"hello"))
        server = self.start(f"{OPEN}routes: {{/a: {upstream.url}}}\ndrain_delay_seconds: 3600\n")
        self.assertEqual(status_of(get(server.port, "/readyz")), 200)
        kept = connect(server.port)
        kept.send(GET)
        self.assertNotIn(b"Connection: close", kept.message()[0])
        server.process.send(signal.SIGTERM)
        wait_for(lambda: status_of(get(server.port, "/readyz")) == 503, "readiness has ended")
        self.assertEqual(status_of(get(server.port, "/healthz")), 200)
        self.assertEqual(get(server.port, "/a")[1], b"hello")
        kept.send(GET)
        self.assertIn(b"\r\nConnection: close\r\n", kept.message()[0])
        server.process.send(signal.SIGTERM)
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), 0)

    def test_every_request_is_finished(self) -> None:
        """20 of 20, uploads and downloads among them, and the end comes right after the last one."""
        gate = threading.Event()
        self.addCleanup(gate.set)
        asked = threading.Semaphore(0)

        def script(wire: Wire) -> None:
            head = wire.head()
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1]) if b"POST" in head else 0  # type: ignore[index]
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" if length else b"")
            asked.release()
            gate.wait(PATIENCE_SECONDS)
            body = wire.exactly(length)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000)
            if body != b"y" * length:
                raise AssertionError(len(body))

        upstream = ScriptedUpstream(self, script)
        server = self.start(f"{OPEN}routes: {{/: {upstream.url}}}\n")
        clients = [connect(server.port) for _ in range(20)]
        for index, client in enumerate(clients):
            client.sock.settimeout(PATIENCE_SECONDS)
            client.send(
                GET if index % 2 else b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n" + b"y" * 10
            )
        for _ in clients:
            self.assertTrue(asked.acquire(timeout=PATIENCE_SECONDS))
        server.process.send(signal.SIGTERM)
        wait_for(lambda: not accepts(server.port), "the listener is closed")
        gate.set()
        for index, client in enumerate(clients):
            if not index % 2:
                client.send(b"y" * 99990)
        self.assertEqual([len(client.message()[1]) for client in clients], [100000] * 20)
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), 0)

    def test_tunnels_are_ended_last(self) -> None:
        """They go on while a request is finished, then both sides see an orderly end, and nobody waits for long."""
        holding, slow = self.hold()

        def echo(wire: Wire) -> None:
            wire.head()
            wire.send(SWITCHED)
            while data := wire.sock.recv(1000):
                wire.send(data)

        upstream = ScriptedUpstream(self, echo)
        server = self.start(f"{OPEN}routes: {{/a: {slow.url}, /ws: {upstream.url}}}\ndrain_seconds: 3600\n")
        tunnel = connect(server.port)
        tunnel.sock.settimeout(PATIENCE_SECONDS)
        tunnel.send(HANDSHAKE)
        self.assertIn(b" 101 ", tunnel.head())
        self.assert_keeps_alive(server)
        client = connect(server.port)
        client.send(GET)
        holding.wait_until_asked()
        server.process.send(signal.SIGTERM)
        wait_for(lambda: not accepts(server.port), "the listener is closed")
        tunnel.send(b"still there")
        self.assertEqual(tunnel.exactly(11), b"still there")
        holding.release()
        self.assertTrue(client.rest().endswith(b"halfdone"))
        self.assertEqual(tunnel.sock.recv(100), b"")  # no reset
        tunnel.close()
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), 0)
        self.assertEqual(len(server.lines('"GET /ws HTTP/1.1" 101 11')), 1, server.process.log)

    def assert_keeps_alive(self, server: Server) -> None:
        """The kernel asks the client of the tunnel from time to time whether it is still there (proc_net_tcp.txt)."""

        def timers() -> list[str]:
            lines = [line.split() for line in Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]]
            return [line[5][:2] for line in lines if line[1].endswith(f":{server.port:04X}") and line[3] == "01"]

        server.process.wait_for(lambda: timers() == ["02"], "a keepalive timer")


class LogSignalTests(CommandCase):
    """SIGUSR1 and SIGUSR2."""

    def test_rotation_loses_no_line(self) -> None:
        """While clients come, the file is moved away again and again; every request is in one of the files, once."""
        server = self.start(OPEN + "log: {access_file: access.log}\n")
        path = self.directory / "access.log"

        def ask(client: int) -> None:
            wire = connect(server.port)
            for number in range(200):
                wire.send(b"GET /none/%d/%d HTTP/1.1\r\nHost: t\r\n\r\n" % (client, number))
                wire.message()
            wire.close()

        with ThreadPoolExecutor() as threads:
            asking = [threads.submit(ask, client) for client in range(3)]
            for number in range(10):
                path.rename(path.with_suffix(f".{number}"))
                server.process.send(signal.SIGUSR1)
                server.process.wait_for(path.exists, "the file is there again", PATIENCE_SECONDS)
            for asked in asking:
                asked.result(PATIENCE_SECONDS)

        def targets() -> list[str]:
            lines = "".join(one.read_text() for one in self.directory.glob("access.*")).splitlines()
            return [line.split()[6] for line in lines]

        server.process.wait_for(lambda: len(targets()) == 600, "a line of each request", PATIENCE_SECONDS)
        self.assertEqual(len(set(targets())), 600)
        path.unlink()
        server.process.send(signal.SIGUSR1)
        server.process.wait_for(path.exists, "a file that was deleted is there again", PATIENCE_SECONDS)
        get(server.port, "/last")
        self.assertEqual(server.stop(), 0)
        self.assertEqual(len(path.read_text().splitlines()), 1)
        self.assertIn("GET /last ", path.read_text())

    def test_a_signal_that_has_nothing_to_do(self) -> None:
        """Ends nothing, whenever it comes."""
        path = self.write(OPEN)
        process = self.launch(*SERVE, "--config", str(path))
        server = Server(process)
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2):
            process.send(number)
        process.wait_for_log("there is no log file to open again", PATIENCE_SECONDS)
        process.wait_for_log("state: thread MainThread", PATIENCE_SECONDS)
        self.assertEqual(status_of(get(server.port, "/healthz")), 200)
        self.assertEqual(server.stop(), 0)

    def test_the_state(self) -> None:
        """Tells what is waited for, and no secrets."""
        holding, upstream = self.hold()
        server = self.start(f"{OPEN}routes: {{/a: {upstream.url}}}\n")
        client = connect(server.port)
        client.send(b"GET /a?token=hunter2 HTTP/1.1\r\nHost: t\r\nCookie: hunter2\r\n\r\n")
        self.assertTrue(client.until(b"half").endswith(b"half"))
        server.process.send(signal.SIGUSR2)
        for text in ("state: thread MainThread", f"state: upstream 127.0.0.1:{upstream.port}"):  # a worker may say it
            server.process.wait_for_log(text, PATIENCE_SECONDS)
        log = server.process.log
        self.assertRegex(log, r"state: proxyd \S+, up \d+ s\n")
        self.assertRegex(log, r"state: event loop: at most \d.\d{3} s late, stalls: 0\n")
        self.assertRegex(log, r"state: exchange GET /a by /a: \d+\.\d s, answering, status 200, .* from 127\.0\.0\.1\n")
        self.assertIn(f"state: upstream 127.0.0.1:{upstream.port}: 0 idle connections", log)
        self.assertIn("in dump_state", log)
        self.assertNotIn("hunter2", log)
        holding.release()
        self.assertEqual(client.exactly(4), b"done")

    def test_dropped_lines_are_told(self) -> None:
        """Once the pipe of the log is read again, the log says how many lines are missing."""
        _, reading = self.start_unread()
        self.fill_log(3000)
        os.set_blocking(reading, False)
        log = [b""]

        def told() -> re.Match[bytes] | None:
            with contextlib.suppress(BlockingIOError):
                while data := os.read(reading, 1 << 20):
                    log[0] += data
            return re.search(rb" warn +(\d+) lines of a log were dropped", log[0])

        found = wait_for(told, "the number of lines that are missing", PATIENCE_SECONDS)
        self.assertEqual(log[0].count(b'"GET /healthz HTTP/1.1" 200') + int(found[1]), 3000)


class StallTests(CommandCase):
    """An event loop that stands still."""

    def stalling(self, settings: str) -> Server:
        """A proxy that can be made to stand still with SIGALRM."""
        path = self.write(settings)
        return Server(self.launch(sys.executable, "-c", _STALLING, "serve", "--config", str(path)))

    def test_a_stall_is_told_while_it_lasts(self) -> None:
        """With where it hangs, and later how long it took; the metrics count it."""
        server = self.stalling(OPEN + "log: {stall_after: 0.4s}\n")
        server.process.send(signal.SIGALRM)
        line = server.process.wait_for_log("the event loop has not turned for", PATIENCE_SECONDS)
        self.assertRegex(line, r" error +the event loop has not turned for \d\.\d s")
        server.process.wait_for_log("in stand_still")
        server.process.wait_for_log("the event loop turns again, after", PATIENCE_SECONDS)
        self.assertRegex(get(server.api_port, "/metrics")[1], rb"\nproxyd_event_loop_stalls_total [1-9]")
        self.assertEqual(server.stop(), 0)

    def test_an_abort_leaves_the_stacks(self) -> None:
        """As the watchdog of systemd sends it."""
        server = self.start()
        server.process.send(signal.SIGABRT)
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), -signal.SIGABRT)
        self.assertIn("Fatal Python error: Aborted", server.process.log)
        self.assertRegex(server.process.log, r'File ".*reactor.py", line \d+ in ')
