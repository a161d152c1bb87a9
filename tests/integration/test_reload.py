"""Reloads as operators meet them: a real process under load, SIGHUP, and `proxyd reload`."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from threading import Event, Thread

from tests.integration.test_tls import HANDSHAKE, Application, TlsCase
from tests.support import Process, accepts, free_port, script, wait_for
from tests.wire import ScriptedUpstream, Wire, connect, get

PATIENCE_SECONDS = 30.0
# Each client has asked so often between two reloads.
_REQUESTS = 10


class Client:
    """Asks for `path` all the time, on one connection or on a new one each time."""

    def __init__(self, case: ReloadTests, port: int, *, secure: bool, stays: bool, path: str = "/") -> None:
        self._case = case
        self._port = port
        self._secure = secure
        self._stays = stays
        self._path = path
        self.answers = 0
        self.failures: list[object] = []
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _connect(self) -> Wire:
        return self._case.secure(self._port) if self._secure else connect(self._port)

    def _run(self) -> None:
        try:
            wire = self._connect()
            while not self._stop.is_set():
                if not self._stays:
                    wire.close()
                    wire = self._connect()
                answer = self._case.ask(wire, self._path)
                if answer != (200, b"ok"):
                    self.failures.append(answer)
                self.answers += 1
            wire.close()
        except (OSError, IndexError) as error:  # IndexError: the connection ended where an answer should have been
            self.failures.append(error)

    def end(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)


class ReloadTests(TlsCase):
    """A process whose file changes."""

    def setUp(self) -> None:
        super().setUp()
        self.file = self.directory / "proxyd.yaml"

    def count(self, process: Process) -> int:
        """How many reloads are over."""
        ends = ("applied: ", "needs a restart: ", "the configuration stays as it was", "says the same as before")
        return sum(process.log.count(end) for end in ends)

    def reload(self, process: Process, settings: str) -> str:
        """Change the file, and reload by a signal; gives back what the log tells of it."""
        before = len(process.log)
        done = self.count(process)
        replacement = self.directory / "proxyd.yaml.new"
        replacement.write_text(settings)
        replacement.rename(self.file)
        process.send(signal.SIGHUP)
        process.wait_for(lambda: self.count(process) > done, "the end of a reload", PATIENCE_SECONDS)
        return process.log[before:]

    def test_under_load(self) -> None:
        """Routes, certificates and timeouts change, and a broken file comes in between: nothing fails."""
        upstreams = [ScriptedUpstream(self, Application()) for _ in range(2)]

        def settings(number: int) -> str:
            tls = "certificates: [{certificate: certificates/%s.pem, key: certificates/%s.key}]"
            name = f"own-{number}"
            self.authority.issue("localhost", "127.0.0.1", f"own-{number}.test", file=name)
            return (
                f"listeners: [{{kind: http, port: 0}}, {{kind: https, port: 0, {tls % (name, name)}}}]\n"
                f"api: off\nlog: {{access: off}}\ntimeouts: {{keep_alive: {60 + number}s, response: {30 + number}s}}\n"
                f"routes: {{/: '{upstreams[number % 2].url}', /extra-{number}: '{upstreams[0].url}'}}\n"
                f"route_defaults: {{request_headers: {{set: {{X-Number: '{number}'}}}}}}\n"
            )

        process = self.serve(settings(0))
        plain, secure = self.port_of(process, "Proxying http:"), self.port_of(process, "Proxying https:")
        tunnels = [connect(plain) for _ in range(5)] + [self.secure(secure) for _ in range(5)]
        for tunnel in tunnels:
            tunnel.send(HANDSHAKE)
            self.assertIn(b" 101 ", tunnel.head())
        clients = [
            Client(self, port, secure=is_secure, stays=stays)
            for port, is_secure in ((plain, False), (secure, True))
            for stays in (True, False)
        ]

        def wait_for_more() -> None:
            goals = [client.answers + _REQUESTS for client in clients]
            wait_for(
                lambda: (
                    any(client.failures for client in clients)
                    or all(client.answers >= goal for client, goal in zip(clients, goals, strict=True))
                ),
                "more answers",
                PATIENCE_SECONDS,
            )

        for number in range(1, 7):
            wait_for_more()
            told = self.reload(process, settings(number))
            self.assertIn(f"routes./, routes./extra-{number - 1}, routes./extra-{number}, timeouts.keep_alive", told)
            broken = settings(number) + "drain_seconds: soon\n"
            told = self.reload(process, broken)
            self.assertIn("drain_seconds: expected a number", told)
            self.assertNotIn("applied", told)
            for tunnel in tunnels:
                tunnel.send(b"still there")
                self.assertEqual(b"still there", tunnel.exactly(11))
        wait_for_more()
        for client in clients:
            client.end()
        self.assertEqual([], [failure for client in clients for failure in client.failures])
        self.assertGreaterEqual(sum(client.answers for client in clients), 4 * 7 * _REQUESTS)
        for tunnel in tunnels:
            tunnel.close()
        fresh = self.secure(secure)
        self.assertIn(("DNS", "own-6.test"), (fresh.sock.getpeercert() or {})["subjectAltName"])  # type: ignore[attr-defined]
        fresh.close()
        self.assertNotIn("Traceback", process.log)

    def test_listeners_change_their_ways(self) -> None:
        """PROXY headers, TLS of the API, and how many may wait: nobody is refused, and who is there goes on."""
        self.assert_listeners_change(workers=1)

    def test_listeners_of_workers_change_their_ways(self) -> None:
        """Those of all of them."""
        self.assert_listeners_change(workers=2)

    def assert_listeners_change(self, workers: int) -> None:
        upstream = ScriptedUpstream(self, Application())
        tls = f"{{certificates: [{{certificate: {self.issued.certificate}, key: {self.issued.key}}}]}}"

        def settings(proxied: str, api_tls: str, backlog: int) -> str:
            return (
                f"listeners: [{{kind: http, port: 0, proxy_protocol: {proxied}, backlog: {backlog}}}]\n"
                f"api: {{port: 0, open: true{api_tls}}}\nroutes: {{/: '{upstream.url}'}}\nworkers: {workers}\n"
            )

        process = self.serve(settings("false", "", 512))
        port, api_port = self.port_of(process, "Proxying http:"), self.port_of(process, "Proxy API at http:")
        kept, is_over = connect(port), Event()
        refused: list[OSError] = []

        def keep_coming() -> None:
            while not is_over.wait(0.005):  # or the client runs out of ports
                for each in (port, api_port):
                    try:
                        connect(each).close()
                    except OSError as error:
                        refused.append(error)

        coming = Thread(target=keep_coming)
        coming.start()
        try:
            self.assertEqual(self.ask(kept), (200, b"ok"))
            told = self.reload(process, settings("true", f", tls: {tls}", 512))
            self.assertIn("applied: listeners[0].proxy_protocol, api.tls", told)
            self.assertEqual(self.ask(kept), (200, b"ok"))
            announced = connect(port)
            announced.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
            self.assertEqual(self.ask(announced), (200, b"ok"))
            plain = connect(port)
            plain.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            self.assertEqual(plain.rest(), b"")
            secure = self.secure(api_port)
            secure.send(b"GET /api/routes HTTP/1.1\r\nHost: test\r\n\r\n")
            self.assertIn(b" 200 ", secure.message()[0])
            told = self.reload(process, settings("false", "", 7))
            self.assertIn("applied: listeners[0].backlog, listeners[0].proxy_protocol, api.tls", told)
            self.assertEqual([self.ask(wire) for wire in (kept, announced, connect(port))], [(200, b"ok")] * 3)
            secure.send(b"GET /api/routes HTTP/1.1\r\nHost: test\r\n\r\n")
            self.assertIn(b" 200 ", secure.message()[0])
            self.assertIn(b" 200 ", get(api_port, "/api/routes")[0])
        finally:
            is_over.set()
            coming.join(PATIENCE_SECONDS)
        self.assertEqual(refused, [])
        process.send(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)
        self.assertNotIn("Traceback", process.log)

    def test_what_routes_mean_and_where_numbers_are(self) -> None:
        """Hosts in keys, options of posted routes, and the numbers: all of it changes while requests are served."""
        self.assert_meanings_change(workers=1)

    def test_what_routes_mean_and_where_numbers_are_with_workers(self) -> None:
        """For all of them at once; nobody is asked twice, and what each has counted is on the page."""
        self.assert_meanings_change(workers=2)

    def assert_meanings_change(self, workers: int) -> None:
        upstream = ScriptedUpstream(self, Application())

        def settings(route_options: str = "typed", more: str = "") -> str:
            return (
                "listeners: [{kind: http, port: 0}]\n"
                f"api: {{port: 0, open: true, route_options: {route_options}}}\nroutes: {{/static: '{upstream.url}'}}\n"
                f"workers: {workers}\nlog: {{access: off}}\n{more}"
            )

        process = self.serve(settings())
        port, api_port = self.port_of(process, "Proxying http:"), self.port_of(process, "Proxy API at http:")

        def statuses(host: str, path: str) -> set[int]:
            """What many clients get: each of the workers takes some of them."""
            found = set()
            for _ in range(8):
                wire = connect(port)
                wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                found.add(int(wire.message()[0].split(b" ")[1]))
                wire.close()
            return found

        def post(key: str, **options: object) -> int:
            body = json.dumps({"target": upstream.url, **options}).encode()
            wire = connect(api_port)
            wire.send(
                f"POST /api/routes{key} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
            status = int(wire.message()[0].split(b" ")[1])
            wire.close()
            return status

        self.assertEqual([post("/a.test/x"), post("/y", strip_prefix="maybe")], [201, 400])
        self.assertEqual((statuses("a.test", "/x"), statuses("b.test", "/a.test/x")), ({404}, {200}))
        static = Client(self, port, secure=False, stays=True, path="/static")
        told = self.reload(process, settings(more="host_routing: true\n"))
        self.assertIn("applied: host_routing", told)
        self.assertEqual((statuses("a.test", "/x"), statuses("b.test", "/a.test/x")), ({200}, {404}))
        self.assertEqual(post("/b.test/x"), 201)
        self.assertEqual(statuses("b.test", "/x"), {200})
        told = self.reload(process, settings("verbatim"))
        self.assertIn("applied: api.route_options, host_routing", told)
        self.assertEqual((statuses("a.test", "/x"), statuses("b.test", "/a.test/x")), ({404}, {200}))
        self.assertEqual(post("/y", strip_prefix="maybe"), 201)
        self.assertEqual(statuses("any.test", "/y"), {200})
        told = self.reload(process, settings())
        self.assertIn("the route /y of the API cannot stay: strip_prefix: expected true or false", told)
        self.assertIn("the configuration stays as it was", told)
        for names, counted in (
            ("native", 'proxyd_requests_total{kind="forward",status_class="2xx"}'),
            ("chp", "requests_web"),
        ):
            metrics_port = free_port()
            more = f"metrics: {{port: {metrics_port}, names: {names}}}\n"
            told = self.reload(process, settings("verbatim", more))
            self.assertIn(f"Serve metrics at http://127.0.0.1:{metrics_port}/metrics", told)
            before = self.number(metrics_port, counted)
            self.assertEqual(statuses("any.test", "/static"), {200})
            self.assertGreaterEqual(self.number(metrics_port, counted), before + 8)
            self.assertIn(b" 404 ", get(api_port, "/metrics")[0])
        told = self.reload(process, settings("verbatim"))
        self.assertFalse(accepts(metrics_port))
        self.assertIn(b" 200 ", get(api_port, "/metrics")[0])
        static.end()
        self.assertEqual(static.failures, [])
        process.send(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)
        self.assertNotIn("Traceback", process.log)

    def number(self, port: int, name: str) -> float:
        """A number of the page of metrics."""
        page = get(port, "/metrics")[1].decode()
        return float(next(line for line in page.splitlines() if line.startswith(f"{name} ")).rpartition(" ")[2])

    def test_signals_in_a_row(self) -> None:
        """Each one is served, one after the other; one that comes at the end harms nobody."""
        process = self.serve("listeners: [{kind: http, port: 0}]\napi: off\n")
        for _ in range(5):
            process.send(signal.SIGHUP)
        process.wait_for(lambda: self.count(process), "the end of a reload", PATIENCE_SECONDS)
        process.send(signal.SIGTERM)
        process.send(signal.SIGHUP)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)
        self.assertNotIn("Traceback", process.log)

    def reload_command(self) -> subprocess.CompletedProcess[str]:
        """Run `proxyd reload`."""
        return subprocess.run(
            [script("proxyd"), "reload", "--config", self.file],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def test_the_command_without_an_api(self) -> None:
        """It finds the process by its pid file, and the log has the answer."""
        process = self.serve("listeners: [{kind: http, port: 0}]\napi: off\npid_file: pid\n")
        process.wait_for(Path(self.directory / "pid").exists, "the pid file", PATIENCE_SECONDS)
        self.file.write_text("listeners: [{kind: http, port: 0}]\napi: off\npid_file: pid\ndrain_seconds: 7\n")
        done = self.reload_command()
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertEqual(
            f"the API is off; SIGHUP was sent to process {process.pid}, and its log tells what came of it\n",
            done.stdout,
        )
        process.wait_for_log("applied: drain_seconds", PATIENCE_SECONDS)

    def test_the_command_and_the_api(self) -> None:
        """What the proxy has applied is printed, and what only the proxy could find out: 78, and nothing changes."""
        listener = "listeners: [{kind: http, port: 0}]\n"
        api = f"api: {{port: {free_port()}, token: {'t' * 32}}}\n"
        process = self.serve(listener + api)
        process.wait_for_log("Proxy API at", PATIENCE_SECONDS)
        self.file.write_text(listener + api + "drain_seconds: 7\nstore: {kind: sqlite}\n")
        done = self.reload_command()
        self.assertEqual(
            (0, "applied: drain_seconds\nchanged, but needs a restart: store\n", ""),
            (done.returncode, done.stdout, done.stderr),
        )
        self.file.write_text(listener + api + "drain_seconds: 8\nroute_defaults: {upstream_tls: {ca: none.pem}}\n")
        done = self.reload_command()
        problem = f"{self.directory}/none.pem: TLS: no such file or directory\n"
        self.assertEqual((78, "", problem), (done.returncode, done.stdout, done.stderr))
        process.wait_for_log("the configuration stays as it was", PATIENCE_SECONDS)

    def test_the_command_and_a_bad_file(self) -> None:
        """The problems are printed, and the process is not even asked."""
        process = self.serve("listeners: [{kind: http, port: 0}]\napi: off\npid_file: pid\n")
        self.file.write_text("listenrs: []\n")
        done = self.reload_command()
        self.assertEqual(
            (78, f"{self.file}:1:1: listenrs: unknown option (did you mean listeners?)\n"),
            (done.returncode, done.stderr),
        )
        self.assertEqual(0, self.count(process))

    def test_the_command_when_nothing_runs(self) -> None:
        """Status 1, and what was tried."""
        self.file.write_text(f"api: {{port: {free_port()}}}\n")
        done = self.reload_command()
        self.assertEqual((1, ""), (done.returncode, done.stdout))
        self.assertRegex(done.stderr, r"\Aproxyd: nothing was reloaded: the API cannot be reached: .*; there is no pid")
