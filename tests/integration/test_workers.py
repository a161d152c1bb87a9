"""Several workers as operators meet them: what they share, and what becomes of one that dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

from tests.integration.test_serve import PATIENCE_SECONDS, CommandCase, Server
from tests.support import accepts, wait_for
from tests.wire import ScriptedUpstream, Wire, answering, connect

WORKERS = "listeners: [{kind: http, port: 0}]\napi: {port: 0, open: true}\nworkers: 2\n"
APPLICATION = Path(__file__).with_name("application.py")
GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
# Far more than the two seconds that a worker has: the machine may be busy, and the worker is replaced meanwhile.
STUCK_SECONDS = 15.0


def status_of(wire: Wire, path: str) -> int:
    """The status of an answer on a connection that is kept."""
    wire.send(GET % path.encode())
    head, _ = wire.message()
    return int(head.split(b" ", 2)[1])


class Load:
    """Asks for `path` all the time, in `count` threads, on new connections or on kept ones."""

    def __init__(self, port: int, path: str, count: int, *, stays: bool) -> None:
        self._port = port
        self._path = path
        self._stays = stays
        self.answers = 0
        self.failures: list[object] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        wire: Wire | None = None
        while not self._stop.is_set():
            try:
                if wire is None or not self._stays:
                    if wire is not None:
                        wire.close()
                    wire = connect(self._port)
                status = status_of(wire, self._path)
                if status != 200:
                    self.failures.append(status)
                self.answers += 1
            except (OSError, IndexError) as error:
                self.failures.append(error)
                wire = None
        if wire is not None:
            wire.close()

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more have been answered."""
        goal = self.answers + count
        wait_for(lambda: self.answers >= goal, "more answers", PATIENCE_SECONDS)

    def end(self) -> None:
        """Ask no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)


class WorkersCase(CommandCase):
    """Starts proxies with two workers."""

    def serve(self, settings: str = "") -> Server:
        """One with these settings."""
        self.server = self.start(WORKERS + settings)
        return self.server

    def pid_of(self, number: int) -> int:
        """The process of a worker that serves."""
        pids = re.findall(rf"worker {number} serves, as process (\d+)", self.server.process.log)
        if not pids:
            raise AssertionError(f"worker {number} does not serve:\n{self.server.process.log}")
        return int(pids[-1])

    def wait_for_another(self, number: int, pid: int) -> None:
        """Wait until a worker is another process."""
        self.server.process.wait_for(lambda: self.pid_of(number) != pid, f"another worker {number}", PATIENCE_SECONDS)

    def owner_of(self, wire: Wire) -> int:
        """The process that has accepted a connection, 0 if none has."""
        ours, theirs = (f"0100007F:{name[1]:04X}" for name in (wire.sock.getsockname(), wire.sock.getpeername()))
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[1:3] == [theirs, ours]:
                for pid in (self.pid_of(1), self.pid_of(2)):
                    with contextlib.suppress(OSError):
                        for fd in Path(f"/proc/{pid}/fd").iterdir():
                            with contextlib.suppress(OSError):
                                if os.readlink(fd) == f"socket:[{words[9]}]":
                                    return pid
        return 0

    def one_for_each(self) -> dict[int, Wire]:
        """A connection to each worker, by its number, on which something has been answered."""
        found: dict[int, Wire] = {}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < 2:
            self.assertLess(time.monotonic(), deadline, "one worker takes all clients")
            wire = connect(self.server.port)
            self.addCleanup(wire.sock.close)
            self.assertEqual(status_of(wire, "/healthz"), 200)
            pids = {self.pid_of(number): number for number in (1, 2)}
            number = pids.get(self.owner_of(wire))
            if number is not None and number not in found:
                found[number] = wire
            else:  # one more from there; it must not count any more when the next one comes
                wire.finish()
                self.assertTrue(wire.is_closed(PATIENCE_SECONDS))
        return found

    def api(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """What the API answers."""
        client = HTTPConnection("127.0.0.1", self.server.api_port, timeout=PATIENCE_SECONDS)
        try:
            client.request(method, path, None if body is None else json.dumps(body))
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def metric(self, name: str) -> float:
        """A number of the metrics."""
        text = self.api("GET", "/metrics")[1].decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        if found is None:
            raise AssertionError(f"there is no {name} in\n{text}")
        return float(found[1])


class SharingTests(WorkersCase):
    """What all workers have in common."""

    def test_nobody_is_served_before_all_routes_are_there(self) -> None:
        """However many there are: the first answer after a restart is that of a route."""
        upstream = ScriptedUpstream(self, answering(b"hello"))
        self.serve("store: {kind: sqlite}\n")
        routes = {f"/r/{number}": {"target": upstream.url} for number in range(10_000)}
        self.assertEqual(self.api("PUT", "/api/routes", routes)[0], 200)
        self.assertEqual(self.server.stop(), 0)
        self.serve("store: {kind: sqlite}\n")
        wires = [connect(self.server.port) for _ in range(8)]
        self.assertEqual([status_of(wire, "/r/7") for wire in wires], [200] * 8)

    def test_each_route_is_found_by_each_worker_once_it_was_posted(self) -> None:
        """A thousand times, and a deleted one by none; both take clients; numbers and activity are those of all."""
        upstream = ScriptedUpstream(self, answering(b"hello"))
        self.serve("log: {access: 'off'}\n")
        wires = self.one_for_each()
        api = connect(self.server.api_port)
        self.addCleanup(api.sock.close)
        body = json.dumps({"target": upstream.url}).encode()
        request = b"%b /api/routes/r/%d HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n\r\n%b"
        for number in range(1000):
            api.send(request % (b"POST", number, len(body), body))
            self.assertIn(b" 201 ", api.message()[0])
            for wire in wires.values():
                self.assertEqual(status_of(wire, f"/r/{number}"), 200)
            if not number % 20:
                api.send(request % (b"DELETE", number, 0, b""))
                self.assertIn(b" 204 ", api.head())
                for wire in wires.values():
                    self.assertEqual(status_of(wire, f"/r/{number}"), 404)
        self.assertEqual(self.metric('proxyd_requests_total{kind="forward",status_class="2xx"}'), 2000)
        self.assertEqual(self.metric("proxyd_routes"), 950)
        self.assertEqual(self.metric('proxyd_workers{state="serving"}'), 2)
        before = json.loads(self.api("GET", "/api/routes/r/999")[1])["last_activity"]
        self.assertEqual(status_of(wires[1], "/r/999"), 200)
        wait_for(
            lambda: json.loads(self.api("GET", "/api/routes/r/999")[1])["last_activity"] > before,
            "the activity that a worker has seen",
            PATIENCE_SECONDS,
        )

    def test_a_server_is_started_once(self) -> None:
        """Whoever is asked for it first; all see the same one, and it is the controller's."""
        command = json.dumps([sys.executable, str(APPLICATION), "{port}"])
        self.serve(f"servers: {{app: {{command: {command}}}}}\n")
        wires = self.one_for_each()
        for wire in wires.values():
            wire.sock.settimeout(PATIENCE_SECONDS)
            wire.send(GET % b"/app/")
        pids = {json.loads(wire.message()[1])["pid"] for wire in wires.values()}
        self.assertEqual(len(pids), 1)
        self.server.process.wait_for_log("starting server app")
        self.assertEqual(len(self.server.lines("starting server app")), 1)
        told = json.loads(self.api("GET", "/api/servers/app")[1])
        self.assertEqual([each["pid"] for each in told["instances"]], list(pids))
        os.kill(self.pid_of(1), signal.SIGKILL)
        wires[2].send(GET % b"/app/")
        self.assertEqual({json.loads(wires[2].message()[1])["pid"]}, pids)
        self.assertEqual(self.api("POST", "/api/servers/app/stop")[0], 200)
        self.assertEqual(json.loads(self.api("GET", "/api/servers/app")[1])["state"], "stopped")

    def test_clients_are_counted_together(self) -> None:
        """Connections and requests: what one worker has let in, the other knows."""
        self.serve(
            "trusted_proxies: []\nlimits: {connections_per_client: 4, requests_per_client: 5/h}\n"
            "routes: {/: 'http://127.0.0.1:1'}\n"
        )
        wires = list(self.one_for_each().values())
        statuses = [status_of(wire, "/x") for wire in wires * 3]
        self.assertEqual(sorted(statuses), [429] + [502] * 5)
        while len(wires) < 4:
            wire = connect(self.server.port)
            self.addCleanup(wire.sock.close)
            wires.append(wire)
        wait_for(lambda: all(map(self.owner_of, wires)), "four connections", PATIENCE_SECONDS)
        for _ in range(6):
            refused = connect(self.server.port)
            self.assertIn(b" 429 ", refused.rest())
            refused.close()

    def test_what_an_operator_asks_for(self) -> None:
        """Signals to the process that was started reach all; lines of all are whole, in one file."""
        self.serve("log: {access_file: access.log}\npid_file: proxyd.pid\n")
        self.assertEqual((self.directory / "proxyd.pid").read_text(), str(self.server.process.pid))
        wires = self.one_for_each()
        opened = self._open_logs()
        self.server.process.send(signal.SIGUSR2)
        for number in (1, 2):
            self.server.process.wait_for_log(f"state: worker {number} of proxyd", PATIENCE_SECONDS)
        log = self.directory / "access.log"
        log.rename(self.directory / "access.log.1")
        self.server.process.send(signal.SIGUSR1)
        self.server.process.wait_for_log("the access log is opened again", PATIENCE_SECONDS)
        wait_for(lambda: self._writes_to(log), "all workers in the new file", PATIENCE_SECONDS)
        for _ in range(2):
            self.assertEqual(self.api("POST", "/api/reload")[0], 200)
        wait_for(lambda: self._open_logs() == opened, "the end of what was open before", PATIENCE_SECONDS)
        threads = [
            threading.Thread(target=lambda wire=wire: [status_of(wire, "/healthz") for _ in range(500)])
            for wire in wires.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        self.assertEqual(self.server.stop(), 0)
        lines = log.read_text().splitlines()
        self.assertEqual(len(lines), 1000)
        for line in lines:
            self.assertRegex(line, r'^127\.0\.0\.1 - - \[[^]]+\] "GET /healthz HTTP/1\.1" 200 15 "-" "-" [\d.]+ -$')
        self.assertFalse((self.directory / "proxyd.pid").exists())

    def _open_logs(self) -> list[list[str]]:
        """What each worker has open of the log, and of the memory where turns are taken."""
        found = []
        for number in (1, 2):
            links = []
            for fd in Path(f"/proc/{self.pid_of(number)}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    links.append(os.readlink(fd))
            found.append(sorted(link for link in links if "access.log" in link or "memfd" in link))
        return found

    def _writes_to(self, log: Path) -> bool:
        return all(
            any(os.readlink(fd) == str(log) for fd in Path(f"/proc/{self.pid_of(number)}/fd").iterdir())
            for number in (1, 2)
        )


class ReplacementTests(WorkersCase):
    """Workers that do not go on."""

    def test_a_worker_that_is_killed_under_load(self) -> None:
        """Takes its own connections with it and nothing else; its place is taken, and numbers do not go back."""
        upstream = ScriptedUpstream(self, answering(b"hello"))
        settings = f"log: {{access: 'off'}}\nroutes: {{/: '{upstream.url}'}}\n"
        self.serve(settings)
        wires = self.one_for_each()
        load = Load(self.server.port, "/x", 4, stays=False)
        load.wait_for_more(50)
        counted = self.metric('proxyd_requests_total{kind="forward",status_class="2xx"}')
        pid = self.pid_of(1)
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(wires[1].rest(), b"")
        load.wait_for_more(50)
        self.wait_for_another(1, pid)
        failures = len(load.failures)
        self.assertLessEqual(failures, 4, load.failures)  # each thread has one connection at a time
        load.wait_for_more(100)
        self.assertEqual(len(load.failures), failures, load.failures)
        load.end()
        self.assertEqual(status_of(wires[2], "/x"), 200)
        self.assertGreater(self.metric('proxyd_requests_total{kind="forward",status_class="2xx"}'), counted)
        self.assertEqual(self.metric("proxyd_worker_replacements_total"), 1)
        for metrics in ("enabled: false", "enabled: true"):  # they begin anew then, also those of the one that is gone
            self.write(f"{WORKERS}{settings}metrics: {{{metrics}}}\n")
            self.assertEqual(self.api("POST", "/api/reload")[0], 200)
        self.assertEqual(status_of(wires[2], "/x"), 200)
        forwarded = 'proxyd_requests_total{kind="forward",status_class="2xx"}'
        one = f"\n{forwarded} 1.0\n".encode()
        wait_for(lambda: one in self.api("GET", "/metrics")[1], "the one request since then", PATIENCE_SECONDS)
        self.one_for_each()

    def test_a_worker_that_is_stuck_and_one_that_ends_again_and_again(self) -> None:
        """The API waits for the first no longer than it has to; the second backs off, and readiness and log say so."""
        self.serve()
        pid = self.pid_of(2)
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        self.assertEqual(self.api("POST", "/api/routes/a", {"target": "http://127.0.0.1:1"})[0], 201)
        self.assertLess(time.monotonic() - began, STUCK_SECONDS)
        self.server.process.wait_for_log("worker 2 has said nothing for", PATIENCE_SECONDS)
        self.wait_for_another(2, pid)
        for wire in self.one_for_each().values():
            self.assertEqual(status_of(wire, "/a"), 502)
        for _ in range(4):
            if self.server.lines("ends again and again"):
                break
            pid = self.pid_of(1)
            os.kill(pid, signal.SIGKILL)
            if not self.server.process.wait_for(
                lambda pid=pid: self.server.lines("ends again and again") or self.pid_of(1) != pid,
                "what becomes of worker 1",
                PATIENCE_SECONDS,
            ):
                break
        self.assertIn("the next one starts in ", self.server.process.wait_for_log("ends again and again"))
        wire = connect(self.server.port)
        wire.send(GET % b"/readyz")
        head, body = wire.message()
        self.assertIn(b" 200 ", head)
        self.assertEqual(json.loads(body)["status"], "degraded")
        wire.close()
        self.one_for_each()

    def test_workers_without_a_controller_end(self) -> None:
        """And leave nothing behind: the next start finds its port free."""
        self.serve()
        pids = [self.pid_of(number) for number in (1, 2)]
        wires = self.one_for_each()
        self.server.process.send(signal.SIGKILL)
        self.server.process.wait(PATIENCE_SECONDS)
        for wire in wires.values():
            self.assertEqual(wire.rest(), b"")
        wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), "the end", PATIENCE_SECONDS)
        self.assertFalse(accepts(self.server.port))
        self.assertIn("the controller is gone", self.server.process.log)
        self.assertNotIn("Traceback", self.server.process.log)


class LifeTests(WorkersCase):
    """Reloads and the end, with both workers at work."""

    def test_reload_and_drain_under_load(self) -> None:
        """Each reload is everywhere when it is over, a bad one changes nothing, and nothing fails up to the end."""
        upstream = ScriptedUpstream(self, answering(b"hello"))

        def settings(number: int) -> str:
            return f"log: {{access: 'off'}}\nroutes: {{/: '{upstream.url}', /own-{number}: '{upstream.url}'}}\n"

        self.serve(settings(0))
        wires = self.one_for_each()
        loads = [Load(self.server.port, "/x", 2, stays=stays) for stays in (True, False)]
        for number in range(1, 4):
            self.write(WORKERS + settings(number) + f"health: {{ready: /ready-{number}}}\n")
            status, body = self.api("POST", "/api/reload")
            self.assertEqual(status, 200, body)
            for wire in wires.values():
                self.assertEqual(status_of(wire, f"/ready-{number}"), 200)
            self.write(WORKERS + settings(number) + f"errors: {{directory: {self.directory}/none}}\n")
            self.assertEqual(self.api("POST", "/api/reload")[0], 422)
            for wire in wires.values():
                wire.send(GET % f"/ready-{number}".encode())
                self.assertEqual(wire.message()[1], b'{"status":"OK"}')
            for load in loads:
                load.wait_for_more(20)
        self.assertEqual([failure for load in loads for failure in load.failures], [])
        held = connect(self.server.port)
        held.send(b"POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nab")
        for load in loads:
            load.wait_for_more(20)
            load.end()
        self.server.process.send(signal.SIGTERM)
        self.server.process.wait_for_log("stopping, once", PATIENCE_SECONDS)
        wait_for(lambda: not accepts(self.server.port), "the end of the listener", PATIENCE_SECONDS)
        held.send(b"cd")
        self.assertIn(b" 200 ", held.message()[0])
        self.assertEqual(self.server.process.wait(PATIENCE_SECONDS), 0)
        self.assertEqual([failure for load in loads for failure in load.failures], [])
        self.assertNotIn("Traceback", self.server.process.log)

    def test_workers_that_are_replaced_before_the_end(self) -> None:
        """They say that it is near, as all others do."""
        self.serve("drain_delay_seconds: 600\ndrain_seconds: 600\n")
        self.server.process.send(signal.SIGTERM)
        self.server.process.wait_for_log("stopping", PATIENCE_SECONDS)
        for number in (1, 2):
            pid = self.pid_of(number)
            os.kill(pid, signal.SIGKILL)
            self.wait_for_another(number, pid)
        for _ in range(8):
            wire = connect(self.server.port)
            self.assertEqual(status_of(wire, "/readyz"), 503)
            self.assertTrue(wire.is_closed(PATIENCE_SECONDS))
        self.server.process.send(signal.SIGTERM)
        self.assertEqual(self.server.process.wait(PATIENCE_SECONDS), 0)

    def test_functions_that_a_reload_brings(self) -> None:
        """Each worker looks where they are; one that a worker cannot import is a problem, and nothing changes."""
        (self.directory / "lib").mkdir()
        (self.directory / "lib" / "mine.py").write_text("def allow(*_, **__):\n    return True\n")
        (self.directory / "lib" / "unlike.py").write_text(
            "import sys\nif 'proxyd.workers' in ' '.join(sys.orig_argv):\n    raise RuntimeError('not here')\n"
            "def allow(*_, **__):\n    return True\n"
        )
        settings = "log: {access: 'off'}\n"
        self.serve(settings + "ports: {enabled: true}\n")
        wires = self.one_for_each().values()
        self.assertEqual([status_of(wire, "/proxy/127.0.0.2:1/") for wire in wires], [403, 403])
        settings += "python_path: [lib]\nports: {enabled: true, hosts: !python %s:allow}\n"
        self.write(WORKERS + settings % "mine")
        status, body = self.api("POST", "/api/reload")
        self.assertEqual(status, 200, body)
        self.assertEqual([status_of(wire, "/proxy/127.0.0.2:1/") for wire in wires], [502, 502])
        self.write(WORKERS + settings % "unlike" + "health: {ready: /up}\n")
        status, body = self.api("POST", "/api/reload")
        problems = [problem["message"] for problem in json.loads(body)["problems"]]
        self.assertEqual((status, problems), (422, ["unlike:allow cannot be imported: RuntimeError: not here"]))
        self.assertEqual([status_of(wire, "/proxy/127.0.0.2:1/") for wire in wires], [502, 502])
        self.assertEqual([status_of(wire, "/up") for wire in wires], [404, 404])

    def test_a_worker_that_cannot_start_ends_the_start(self) -> None:
        """With one line and status 1, as everything that cannot be opened does."""
        (self.directory / "mine.py").write_text(
            "import sys\nif 'proxyd.workers' in ' '.join(sys.orig_argv):\n    import os\n    os._exit(3)\n"
            "def rewrite(response, request):\n    pass\n"
        )
        status, stdout, stderr = self.end(
            sys.executable,
            "-m",
            "proxyd",
            "serve",
            "--config",
            self.write(WORKERS + "python_path: [.]\nservers: {a: {port: 9, rewrite_response: !python mine:rewrite}}\n"),
        )
        self.assertEqual(status, 1, stdout)
        self.assertIn("has ended with status 3", stderr)
        self.assertEqual(stderr.count("\n"), 1)
