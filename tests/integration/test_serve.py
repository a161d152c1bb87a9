"""`proxyd serve`, `twistd proxyd` and `python -m proxyd` as operators meet them: processes, files, signals and logs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import WORKERS_FILE, Process, accepts, script, wait_for
from tests.wire import ScriptedUpstream, Wire, answering, connect, get

SERVE = (script("proxyd"), "serve")
TWISTD = (script("twistd"), "-n", "--pidfile=", "proxyd")
MODULE = (sys.executable, "-m", "proxyd", "serve")
COMMANDS = (SERVE, TWISTD, MODULE)

# Nothing here takes that long, on however busy a machine.
PATIENCE_SECONDS = 30.0
TOKEN = "d1ce" * 8
OPEN = "listeners: [{kind: http, port: 0}]\napi: {port: 0, open: true}\n"
MANY_LINES = "GET {path} HTTP/1.1\r\nHost: test\r\nUser-Agent: {agent}\r\nReferer: http://test/{agent}\r\n\r\n"


class Holding:
    """An upstream's script that keeps each request waiting until `release`, and then answers in two pieces."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._released = threading.Event()

    def __call__(self, wire: Wire) -> None:
        wire.head()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        self._asked.set()
        if not self._released.wait(PATIENCE_SECONDS):
            raise AssertionError("nobody released the answer")
        wire.send(b"done")
        wire.rest()

    def wait_until_asked(self) -> None:
        """Wait until a request has come."""
        if not self._asked.wait(PATIENCE_SECONDS):
            raise AssertionError("no request has come")

    def release(self) -> None:
        """Finish the answers."""
        self._released.set()


class CommandCase(SynchronousTestCase):
    """Runs commands in a directory of its own, with an environment in which nothing is configured."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-serve-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.environ = {
            "HOME": str(self.directory),
            **dict.fromkeys(("PROXYD_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"), ""),
            **dict.fromkeys(("PROXYD_AUTH_TOKEN", "CONFIGPROXY_AUTH_TOKEN"), ""),
        }

    def write(self, text: str, name: str = "proxyd.yaml") -> Path:
        """Write a file, and the directories that it is in."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def end(self, *words: str | Path) -> tuple[int, str, str]:
        """Run a command to its end: its status, and what was printed on both outputs."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=self.directory,
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def end_all(self, *commands: Sequence[str | Path]) -> list[tuple[int, str, str]]:
        """Run several commands at the same time."""
        with ThreadPoolExecutor() as threads:
            return list(threads.map(lambda words: self.end(*words), commands))

    def start(
        self,
        settings: str = OPEN,
        *,
        command: Sequence[str] = SERVE,
        words: Sequence[str] | None = None,
        name: str = "proxyd.yaml",
    ) -> Server:
        """Start a proxy with `settings` in a file, and wait until it serves; `words` None: the file is named."""
        path = self.write(settings, name)
        words = ["--config", str(path)] if words is None else words
        return Server(self.launch(*command, *words))

    def names(self) -> list[str]:
        """The names of all that is in the directory, but for what asks for workers (`tests.support.add_workers`)."""
        ours = {"conf.d", WORKERS_FILE}
        return sorted(path.name for path in self.directory.rglob("*") if path.name not in ours)

    def launch(self, *words: str) -> Process:
        """Start a command, and do not wait."""
        return Process(self, *words, env=self.environ, cwd=self.directory)

    def start_unread(self) -> tuple[subprocess.Popen[bytes], int]:
        """Start a proxy on the socket `s` whose log goes to a small pipe; the end of it that nobody reads."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        path = self.write("listeners: [{kind: http, socket: s}]\napi: off\n")
        process = subprocess.Popen(
            [*SERVE, "--config", str(path)],
            cwd=self.directory,
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            stdout=writing,
            start_new_session=True,
        )
        os.close(writing)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_for(lambda: b"Proxying" in os.read(reading, 4096), "the first lines", PATIENCE_SECONDS)
        return process, reading

    def fill_log(self, count: int) -> None:
        """Make `count` long lines in the log of `start_unread`, and demand every answer."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.directory / "s"))
        wire = Wire(sock)
        request = MANY_LINES.format(path="/healthz", agent="a" * 1000).encode()
        batch = 50
        for _ in range(count // batch):
            wire.send(request * batch)
            for _ in range(batch):
                message = wire.message()
                self.assertEqual(message[1], b'{"status":"OK"}', message)
        wire.close()

    def busy_port(self) -> int:
        """A port that somebody else listens on until the test is over."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        return int(sock.getsockname()[1])

    def hold(self) -> tuple[Holding, ScriptedUpstream]:
        """An upstream that answers slowly."""
        holding = Holding()
        upstream = ScriptedUpstream(self, holding)
        self.addCleanup(holding.release)
        return holding, upstream


class Server:
    """A proxy that serves. Its log is `process.log`; `port` and `api_port` are where it listens."""

    def __init__(self, process: Process) -> None:
        self.process = process
        line = process.wait_for_log("Proxy API at http", PATIENCE_SECONDS)
        self.api_port = _port_in(line, "Proxy API at ")
        self.port = _port_in(process.wait_for_log("Proxying http"), "Proxying ")

    def lines(self, text: str) -> list[str]:
        """The lines of the log that have `text`."""
        return [line for line in self.process.log.splitlines() if text in line]

    def ask_api(self, token: str = "", method: str = "GET", path: str = "/api/routes") -> int:
        """Call the API; the status of the answer."""
        client = HTTPConnection("127.0.0.1", self.api_port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(client):
            client.request(method, path, headers={"Authorization": f"token {token}"} if token else {})
            return client.getresponse().status

    def stop(self) -> int:
        """Ask it to end; the status that it ends with."""
        self.process.send(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


def _port_in(line: str, words: str) -> int:
    found = re.search(re.escape(words) + r"http://[^/ ]*:(\d+)", line)
    if found is None:
        raise AssertionError(f"there is no port in {line!r}")
    return int(found[1])


def status_of(message: tuple[bytes, bytes]) -> int:
    """The status of an answer."""
    return int(message[0].split(b" ", 2)[1])


def field(message: tuple[bytes, bytes], name: str) -> str:
    """The value of a field of an answer."""
    found = re.search(rf"(?im)^{re.escape(name)}: *(.*?)\r?$", message[0].decode("latin-1"))
    if found is None:
        raise AssertionError(f"there is no {name} in {message[0]!r}")
    return found[1]


class BadConfigurationTests(CommandCase):
    """What is wrong is said at once, all of it, and nothing starts."""

    def test_every_problem_is_named_with_its_place(self) -> None:
        """However proxyd is started: status 78, and each problem of each file is a line with file, line and column."""
        main = self.write(
            "listeners:\n  - {kind: http, prot: 80}\napi: {port: 70000}\nlog: {level: loud}\nroutes: {/a: ftp://h}\n"
        )
        piece = self.write("timeouts: {header: soon}\n", "conf.d/a.yaml")
        for status, stdout, stderr in self.end_all(*((*command, "--config", main) for command in COMMANDS)):
            self.assertEqual((status, stdout), (78, ""), stderr)
            places = [re.match(r"(.*?:\d+:\d+): (\S+):? ", line) for line in stderr.splitlines()]
            self.assertEqual(
                [(found[1], found[2].rstrip(":")) if found else None for found in places],
                [
                    (f"{piece}:1:20", "timeouts.header"),
                    (f"{main}:2:18", "listeners[0].prot"),
                    (f"{main}:3:13", "api.port"),
                    (f"{main}:4:14", "log.level"),
                    (f"{main}:5:14", "routes./a.upstream"),
                ],
                stderr,
            )

    def test_a_missing_file_is_named(self) -> None:
        """Status 78 and one line; `--config` never falls back to another file."""
        self.write(OPEN)
        for ended in self.end_all((*SERVE, "--config", "none.yaml"), (*TWISTD, "--config", "none.yaml")):
            self.assertEqual(ended, (78, "", "none.yaml: cannot be read: No such file or directory\n"))
        self.environ["PROXYD_CONFIG"] = "gone.yaml"
        self.assertEqual(self.end(*SERVE), (78, "", "gone.yaml: cannot be read: No such file or directory\n"))

    def test_an_unknown_option_starts_nothing(self) -> None:
        """It is named, and the status is not 0."""
        self.write(OPEN)
        ended = self.end_all((*SERVE, "--confg", "proxyd.yaml"), (*TWISTD, "--confg", "proxyd.yaml"))
        self.assertEqual([status for status, _, _ in ended], [2, 1])
        for _, stdout, stderr in ended:
            self.assertIn("confg", stdout + stderr)
            self.assertNotIn("Proxying", stdout + stderr)
        self.assertNotIn("token", [path.name for path in self.directory.rglob("*")])

    def test_check_says_what_serve_would(self) -> None:
        """`proxyd check` ends with 0 and a summary, or with 78 and the same lines as `proxyd serve`."""
        good = self.write(OPEN, "good.yaml")
        bad = self.write("api: {prt: 1}\nworkerz: 2\n", "bad.yaml")
        check = (script("proxyd"), "check")
        of_good, of_bad, of_serve = self.end_all((*check, good), (*check, bad), (*SERVE, "--config", bad))
        self.assertEqual(of_good, (0, f"{good}: good; listeners: 1, static routes: 0\n", ""))
        self.assertEqual(of_bad[:2], (78, ""))
        self.assertEqual(len(of_bad[2].splitlines()), 2)
        self.assertEqual(of_serve, of_bad)


class FailedStartTests(CommandCase):
    """What cannot be opened ends the process, with one line."""

    def assert_fails(self, settings: str, says: str, command: Sequence[str] = SERVE) -> None:
        """Status 1, one line on the standard error output that says what it was, and no traceback anywhere."""
        status, stdout, stderr = self.end(*command, "--config", self.write(settings))
        self.assertEqual((status, stderr.count("\n")), (1, 1), stdout + stderr)
        self.assertTrue(stderr.startswith("proxyd: "), stderr)
        self.assertIn(says, stderr)
        self.assertNotIn("Traceback", stdout)

    def test_a_busy_port_ends_the_process(self) -> None:
        """A listener that cannot be opened leaves no other one open, however proxyd was started, and no pid file."""
        busy = self.busy_port()
        settings = (
            f"listeners: [{{kind: http, socket: first.sock}}, {{kind: http, port: {busy}}}]\n"
            "api: {port: 0, open: true}\npid_file: proxyd.pid\n"
        )
        for command in (SERVE, TWISTD):
            self.assert_fails(settings, f"cannot listen on 127.0.0.1:{busy}: address already in use", command)
            self.assertEqual([path.name for path in self.directory.iterdir()], ["proxyd.yaml"])

    def test_a_busy_port_of_the_api_ends_the_process(self) -> None:
        """A proxy that nobody can change is not started."""
        busy = self.busy_port()
        self.assert_fails(f"listeners: [{{kind: http, port: 0}}]\napi: {{port: {busy}, open: true}}\n", f":{busy}: ")

    def test_a_second_start_leaves_the_pid_file_of_the_first(self) -> None:
        """The one that runs is the one that the file names."""
        server = self.start(OPEN + "pid_file: proxyd.pid\n", name="first.yaml")
        self.assert_fails(
            f"listeners: [{{kind: http, port: {server.port}}}]\napi: off\npid_file: proxyd.pid\n", "already in use"
        )
        self.assertEqual((self.directory / "proxyd.pid").read_text(), str(server.process.pid))

    def test_a_file_that_cannot_be_written_ends_the_process(self) -> None:
        """The access log, the token and the pid file: one line names it, and no socket is left."""
        self.write("", "file")
        listeners = "listeners: [{kind: http, socket: http.sock}]\n"
        for settings in (
            "api: off\nlog: {access_file: file/x}\n",
            "api: off\npid_file: file/x\n",
            "api: {port: 0}\nstate_directory: file/x\n",
        ):
            self.assert_fails(listeners + settings, "file/x")
            self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["file", "proxyd.yaml"])


class LifeTests(CommandCase):
    """From the start to the end."""

    def test_twistd_and_serve_behave_the_same(self) -> None:
        """The same lines, the same service; only the status after SIGTERM is twistd's own, that of the signal."""
        upstream = ScriptedUpstream(self, answering(b"hello"))
        path = str(self.write(f"{OPEN}routes: {{/a: {upstream.url}}}\n"))
        said = []
        servers = [Server(process) for process in [self.launch(*command, "--config", path) for command in COMMANDS]]
        for server, expected in zip(servers, (0, -signal.SIGTERM, 0), strict=True):
            self.assertEqual(get(server.port, "/a")[1], b"hello")
            server.process.wait_for_log('"GET /a ')
            self.assertEqual(server.stop(), expected)
            words = re.sub(r"\S*Z (info|warn) |\d+\.\d{4}|\[.*?\]|127\.0\.0\.1:\d+|/python\S*", "", server.process.log)
            words = re.sub("worker .*\n", "", words)  # in any order
            said.append(words.replace(str(server.process.pid), "PID"))
            self.assertEqual(self.names(), ["proxyd.yaml"])
        self.assertEqual(said[1:], said[:1] * 2)
        self.assertIn("/a/ leads to ", said[0])

    def test_the_log_tells_where_everything_is(self) -> None:
        """The file, every listener, the API and every static route, in URLs that work."""
        server = self.start(OPEN + "routes: {/a: http://127.0.0.1:9, h.test/b: http://127.0.0.1:9/x}\n")
        server.process.wait_for_log("h.test/b/")
        for text in (
            f"configuration: {self.directory / 'proxyd.yaml'}",
            f"Proxying http://127.0.0.1:{server.port} to (no default)",
            f"Proxy API at http://127.0.0.1:{server.api_port}/api/routes",
            f"http://127.0.0.1:{server.port}/a/ leads to http://127.0.0.1:9",
            "http://h.test/b/ leads to http://127.0.0.1:9/x",
        ):
            self.assertEqual(len(server.lines(text)), 1, text)

    def test_sigterm_drains(self) -> None:
        """What is being served is finished, idle connections and new clients are not, and the status is 0."""
        holding, upstream = self.hold()
        server = self.start(f"{OPEN}routes: {{/: {upstream.url}}}\npid_file: proxyd.pid\n")
        idle = connect(server.port)
        idle.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
        self.assertEqual(status_of(idle.message()), 200)
        busy = connect(server.port)
        busy.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        holding.wait_until_asked()
        self.assertIn(b"200 OK", busy.head())
        server.process.send(signal.SIGTERM)
        self.assertEqual(idle.rest(), b"")
        for port in (server.port, server.api_port):
            wait_for(lambda port=port: not accepts(port), "the listener is closed")
        self.assertTrue(server.process.is_running)
        self.assertTrue((self.directory / "proxyd.pid").exists())
        holding.release()
        self.assertEqual(busy.rest(), b"halfdone")
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), 0)
        self.assertFalse((self.directory / "proxyd.pid").exists())
        self.assertEqual(len(server.lines('"GET / HTTP/1.1" 200 8')), 1, server.process.log)
        self.assertNotIn("Traceback", server.process.log)

    def test_sigint_drains_as_well(self) -> None:
        """Ctrl-C in a terminal loses no request."""
        holding, upstream = self.hold()
        server = self.start(f"{OPEN}routes: {{/: {upstream.url}}}\n")
        client = connect(server.port)
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        holding.wait_until_asked()
        server.process.send(signal.SIGINT)
        wait_for(lambda: not accepts(server.port), "the listener is closed")
        holding.release()
        self.assertTrue(client.rest().endswith(b"halfdone"))
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), 0)

    def test_a_drain_ends(self) -> None:
        """After `drain_seconds` what is left is cut, and does not look complete."""
        holding, upstream = self.hold()
        server = self.start(f"{OPEN}routes: {{/: {upstream.url}}}\ndrain_seconds: 0.2\n")
        client = connect(server.port)
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        holding.wait_until_asked()
        self.assertEqual(server.stop(), 0)
        self.assertTrue(client.rest().endswith(b"\r\n\r\nhalf"))

    def test_a_second_signal_hurries(self) -> None:
        """Whoever asks twice does not want to wait for `drain_seconds`; either signal will do."""
        self.hurry(signal.SIGTERM, signal.SIGINT)
        self.hurry(signal.SIGINT, signal.SIGTERM)

    def hurry(self, first: signal.Signals, second: signal.Signals) -> None:
        """End a proxy that serves a request by two signals."""
        holding, upstream = self.hold()
        server = self.start(f"{OPEN}routes: {{/: {upstream.url}}}\ndrain_seconds: 3600\n")
        client = connect(server.port)
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        holding.wait_until_asked()
        server.process.send(first)
        server.process.wait_for_log("stopping")
        wait_for(lambda: not accepts(server.port), "the listener is closed")
        self.assertTrue(server.process.is_running)
        server.process.send(second)
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), 0)
        self.assertTrue(client.rest().endswith(b"half"))
        holding.release()

    def test_the_pid_file_names_the_process(self) -> None:
        """It counts from the configuration's directory, replaces what was there, and is gone at the end."""
        pid_file = self.write("an old one\n", "conf/run.pid")
        server = self.start(OPEN + "pid_file: run.pid\n", name="conf/proxyd.yaml")
        server.process.wait_for_log("Writing pid")
        self.assertEqual(pid_file.read_text(), str(server.process.pid))
        self.assertEqual(server.process.family(workers=False), [server.process.pid])
        self.assertEqual(server.stop(), 0)
        self.assertFalse(pid_file.exists())

    def test_the_pid_file_of_another_process_stays(self) -> None:
        """A successor that has put its own there is still found after the end."""
        server = self.start(OPEN + "pid_file: run.pid\n")
        server.process.wait_for_log("Writing pid")
        self.write("1", "run.pid")
        self.assertEqual(server.stop(), 0)
        self.assertEqual((self.directory / "run.pid").read_text(), "1")


class TokenTests(CommandCase):
    """Who may change routes."""

    def test_a_token_is_made_and_kept(self) -> None:
        """For its owner's eyes only, the same after a restart; the log says where it is, and never what."""
        settings = "listeners: [{kind: http, port: 0}]\napi: {port: 0}\nstate_directory: state\nlog: {level: debug}\n"
        path = self.directory / "state" / "token"
        tokens = set()
        for _ in range(2):
            server = self.start(settings)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            token = path.read_text().strip()
            tokens.add(token)
            self.assertEqual([server.ask_api(word) for word in (token, token[:-1], "")], [200, 403, 403])
            self.assertEqual(server.stop(), 0)
            self.assertEqual(len(server.lines(str(path))), 1)
            self.assertNotIn(token, server.process.log)
        self.assertEqual(len(tokens), 1)
        self.assertGreaterEqual(len(token), 32)

    def test_a_token_of_the_environment_is_written_nowhere(self) -> None:
        """It opens the API, and is neither in a file, nor in the log, nor to be seen by other users."""
        self.environ["PROXYD_AUTH_TOKEN"] = TOKEN
        server = self.start("listeners: [{kind: http, port: 0}]\napi: {port: 0}\nlog: {level: debug}\n")
        self.assertEqual([server.ask_api(word) for word in (TOKEN, "other")], [200, 403])
        self.assertEqual(server.ask_api(TOKEN, path=f"/api/routes?token={TOKEN}"), 200)
        self.assertNotIn(TOKEN.encode(), Path(f"/proc/{server.process.pid}/cmdline").read_bytes())
        self.assertEqual(server.stop(), 0)
        self.assertNotIn(TOKEN, server.process.log)
        self.assertEqual(self.names(), ["proxyd.yaml"])


class LogTests(CommandCase):
    """What is written, where, and what it looks like."""

    def test_the_combined_line_of_an_error_leads_to_its_cause(self) -> None:
        """The page, the access log and the event of an error have the same request id; no query is in the log."""
        server = self.start()
        client = connect(server.port)
        client.send(b'GET /a%22?token=hunter2 HTTP/1.1\r\nHost: t\r\nUser-Agent: x"y\r\nReferer: http://r/?s=3\r\n\r\n')
        message = client.message()
        self.assertEqual(status_of(message), 404)
        request_id = field(message, "X-Request-Id")
        self.assertIn(request_id.encode(), message[1])
        (event,) = server.process.wait_for(lambda: server.lines(f"(request {request_id})"), "the event")
        self.assertRegex(event, r"^\S+Z info +404 GET /a%22 no route \(request ")
        (line,) = server.process.wait_for(lambda: server.lines('"GET /a'), "the line of the access log")
        self.assertRegex(
            line,
            r'^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /a%22 HTTP/1\.1" 404 '
            rf'{len(message[1])} "http://r/" "x\\x22y" \d+\.\d{{4}} {request_id}$',
        )
        self.assertNotIn("hunter2", server.process.log)

    def test_a_json_log_is_json_throughout(self) -> None:
        """Every line is an object; an exchange with an error has the request id and the cause."""
        upstream = ScriptedUpstream(self, answering(b"hello"))
        server = self.start(
            OPEN + f"log: {{format: json, access: json}}\nroutes: {{/a: {upstream.url}, /b: http://127.0.0.1:1}}\n"
        )
        self.assertEqual(status_of(get(server.port, "/a/x?q=1")), 200)
        failed = get(server.port, "/b")
        self.assertEqual(status_of(failed), 502)
        self.assertEqual(server.stop(), 0)
        entries = [json.loads(line) for line in server.process.log.splitlines()]
        self.assertTrue(all({"time"} <= set(entry) and entry["time"].endswith("Z") for entry in entries))
        # By status: the lines of several workers may come in another order.
        good, bad = sorted((entry for entry in entries if "user_agent" in entry), key=lambda entry: entry["status"])
        self.assertEqual(
            {name: good[name] for name in ("method", "host", "path", "status", "bytes", "route")},
            {"method": "GET", "host": "test", "path": "/a/x", "status": 200, "bytes": 5, "route": "/a"},
        )
        self.assertNotIn("request_id", good)
        self.assertEqual((bad["status"], bad["request_id"]), (502, field(failed, "X-Request-Id")))
        self.assertIn("127.0.0.1:1 cannot be reached", bad["detail"])
        (event,) = (entry for entry in entries if entry.get("request_id") == bad["request_id"] and "level" in entry)
        self.assertEqual((event["level"], event["status"]), ("error", 502))

    def test_the_access_log_may_have_a_file(self) -> None:
        """It is appended to, and the standard output has the events only."""
        path = self.write("before\n", "access.log")
        server = self.start(OPEN + "log: {access_file: access.log}\n")
        get(server.port, "/healthz")
        self.assertEqual(server.stop(), 0)
        before, line = path.read_text().splitlines()
        self.assertEqual(before, "before")
        self.assertIn('"GET /healthz HTTP/1.1" 200 15 ', line)
        self.assertNotIn("/healthz", server.process.log)

    def test_the_level_is_the_least_that_is_logged(self) -> None:
        """At `warn` a good start says nothing, and what somebody should look at is still there; the API is counted."""
        port = self.busy_port()
        path = self.write(
            f"listeners: [{{kind: http, socket: s}}]\napi: {{port: 0, open: true}}\n"
            f"routes: {{/: 'http://127.0.0.1:{port}'}}\nlog: {{level: warn, access: 'off'}}\n"
            "timeouts: {response: 0.05s}\n"
        )
        process = self.launch(*SERVE, "--config", str(path))
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)

        def connects() -> bool:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                sock.connect(str(self.directory / "s"))
                return True
            return False

        process.wait_for(connects, "the socket accepts", PATIENCE_SECONDS)
        wire = Wire(sock)
        wire.send(b"GET /x HTTP/1.1\r\nHost: test\r\n\r\n")
        self.assertEqual(status_of(wire.message()), 504)
        process.wait_for_log("504 GET /x")
        process.send(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)
        levels = [line.split()[1] for line in process.log.splitlines()]
        self.assertEqual(levels, ["warn", "error"], process.log)

    def test_a_log_that_nobody_reads_stops_nothing(self) -> None:
        """Lines are lost, not requests: with the pipe full and megabytes behind it everything is served, to the end."""
        process, _ = self.start_unread()
        self.fill_log(2500)  # more than what may wait for a reader: 4 MiB
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)


class HealthTests(CommandCase):
    """What load balancers ask."""

    def test_health_is_told_on_the_public_side(self) -> None:
        """Both checks answer 200 at their exact paths, without a token, before any route."""
        server = self.start(OPEN + "routes: {/: http://127.0.0.1:1}\n")
        for path in ("/healthz", "/readyz"):
            message = get(server.port, path)
            self.assertEqual((status_of(message), json.loads(message[1])), (200, {"status": "OK"}))
            self.assertEqual(field(message, "Content-Type"), "application/json")
            self.assertEqual(status_of(get(server.port, f"{path}/")), 502)
        self.assertEqual(server.ask_api(path="/healthz"), 404)

    def test_the_paths_are_options(self) -> None:
        """Another path, or none."""
        server = self.start(OPEN + 'health: {live: /alive, ready: ""}\n')
        self.assertEqual(
            [status_of(get(server.port, path)) for path in ("/alive", "/healthz", "/readyz")], [200, 404, 404]
        )


class SearchTests(CommandCase):
    """Which configuration is used when several are there; the log says which."""

    def assert_uses(self, expected: str, *words: str) -> None:
        """Start in the directory, and see which file it was."""
        process = self.launch(*SERVE, *words)
        line = process.wait_for_log("configuration: ", PATIENCE_SECONDS)
        self.assertEqual(line.partition("configuration: ")[2], expected)
        process.send(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)

    def test_the_order_of_the_search(self) -> None:
        """`--config`, `$PROXYD_CONFIG`, `./etc/proxyd.yaml`, `./proxyd.yaml`, that of the user."""
        user = self.write(OPEN, ".config/proxyd/proxyd.yaml")
        self.assert_uses(str(user))
        self.write(OPEN, "proxyd.yaml")
        self.assert_uses("proxyd.yaml")
        self.write(OPEN, "etc/proxyd.yaml")
        self.assert_uses("etc/proxyd.yaml")
        self.environ["PROXYD_CONFIG"] = str(self.write(OPEN, "own.yaml"))
        self.assert_uses(str(self.directory / "own.yaml"))
        self.assert_uses("proxyd.yaml", "--config", "proxyd.yaml")

    def test_twistd_searches_too(self) -> None:
        """In the same way."""
        self.environ["PROXYD_CONFIG"] = str(self.write(OPEN, "own.yaml"))
        server = self.start(name="unused.yaml", command=TWISTD, words=[])
        self.assertEqual(len(server.lines(f"configuration: {self.directory / 'own.yaml'}")), 1)
