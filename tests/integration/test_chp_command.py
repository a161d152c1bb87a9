"""`proxyd chp` as JupyterHub and operators meet it: a process in the place of configurable-http-proxy."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Process, accepts, free_ports, script, wait_for
from tests.wire import ScriptedUpstream, Wire, answering, connect, get

CHP = (script("proxyd"), "chp")
TOKEN = "d1ce" * 8

# Nothing here takes that long, on however busy a machine.
PATIENCE_SECONDS = 30.0
# The contract has two; the rest is for a busy machine.
END_SECONDS = 5.0
_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[ConfigProxy\] (debug|info|warn|error): .+")


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 address of its own."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


class Echo:
    """An upstream's script that answers each request with what it got."""

    def __call__(self, wire: Wire) -> None:
        while head := wire.head():
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))


class Silent:
    """An upstream's script that says nothing, until the proxy leaves."""

    def __call__(self, wire: Wire) -> None:
        wire.head()
        wire.sock.settimeout(PATIENCE_SECONDS)
        wire.rest()


class ChpCase(SynchronousTestCase):
    """Starts the command in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-chp-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.environ = {"HOME": str(self.directory), "CONFIGPROXY_AUTH_TOKEN": TOKEN, "PROXYD_AUTH_TOKEN": ""}

    def start(self, *words: str, command: Sequence[str | Path] = CHP) -> Proxy:
        """Start it on free ports, and wait until it serves."""
        return Proxy(self, command, words, self.environ, self.directory)

    def end(self, *words: str) -> tuple[int, str, str]:
        """Run the command to its end: its status, and what was printed on both outputs."""
        done = subprocess.run(
            [*CHP, *words],
            cwd=self.directory,
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def echo(self, *words: str, key: str = "/r", target: str = "", path: str = "/r/x?q=1", fields: str = "") -> bytes:
        """What an upstream gets of a GET for `path`, by a route `key`, when the command has these options."""
        upstream = ScriptedUpstream(self, Echo())
        proxy = self.start(*words)
        self.assertEqual(proxy.api("POST", key, {"target": upstream.url + target})[0], 201)
        self.host = f"127.0.0.1:{upstream.port}".encode()
        wire = connect(proxy.port)
        wire.send(f"GET {path} HTTP/1.1\r\nHost: public.test:81\r\n{fields}\r\n".encode())
        return wire.message()[1]


class Proxy:
    """A running `proxyd chp`."""

    def __init__(
        self,
        case: SynchronousTestCase,
        command: Sequence[str | Path],
        words: Sequence[str],
        environ: dict[str, str],
        directory: Path,
    ) -> None:
        self.port, self.api_port = free_ports(2)
        ports = ["--ip", "127.0.0.1", "--port", str(self.port)]
        self.process = Process(case, *command, *ports, *words, env=environ, cwd=directory)
        self.process.wait_for_log("Proxy API at", PATIENCE_SECONDS)

    def api(
        self, method: str = "GET", path: str = "", body: dict[str, Any] | None = None, token: str | None = TOKEN
    ) -> tuple[int, Any]:
        """Call the REST API with a client of the standard library: status, and what the JSON says if there is any."""
        client = HTTPConnection("127.0.0.1", self.api_port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(client):
            client.request(
                method,
                f"/api/routes{path}",
                body=None if body is None else json.dumps(body),
                headers={"Authorization": f"token {token}"} if token else {},
            )
            answer = client.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] == b"{" else text.decode()

    def lines(self, text: str) -> list[str]:
        """The lines of the log that have `text`."""
        return [line for line in self.process.log.splitlines() if text in line]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """End it with a signal; how many seconds it took."""
        began = time.monotonic()
        self.process.send(number)
        status = self.process.wait(PATIENCE_SECONDS)
        if status != 2:
            raise AssertionError(f"the status is {status}:\n{self.process.log}")
        return time.monotonic() - began


def status_of(message: tuple[bytes, bytes]) -> int:
    """The status of an answer."""
    return int(message[0].split(b" ", 2)[1])


class LogTests(ChpCase):
    """What tools read."""

    def test_the_log_tells_where_everything_is(self) -> None:
        """On the standard output, in the form of the original, without colours where there is no terminal."""
        port, api_port = free_ports(2)
        with subprocess.Popen(
            [*CHP, "--ip=127.0.0.1", f"--port={port}", "--default-target=http://127.0.0.1:9/d", "--log-level=DEBUG"],
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            self.addCleanup(process.kill)
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            while "Proxy API at" not in lines[-1]:
                self.assertNotEqual(lines[-1], "", lines)
                lines.append(process.stdout.readline())
            process.send_signal(signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        self.assertEqual((process.returncode, stderr), (2, ""))
        lines += stdout.splitlines(keepends=True)
        for line in lines:
            self.assertRegex(line, rf"\A{_LINE.pattern}\n\Z")
        log = "".join(lines)
        self.assertIn(f"info: Proxying http://127.0.0.1:{port} to http://127.0.0.1:9/d\n", log)
        self.assertIn(f"info: Proxy API at http://localhost:{api_port}/api/routes\n", log)
        self.assertIn("warn: Terminated\n", log)

    def test_there_are_colours_on_a_terminal(self) -> None:
        """And nowhere else: the level only."""
        port, _ = free_ports(2)
        terminal, end = pty.openpty()
        self.addCleanup(os.close, terminal)
        process = subprocess.Popen(
            [*CHP, "--ip=127.0.0.1", f"--port={port}"],
            env={**os.environ, **self.environ},
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        shown = b""
        while b"Proxy API at" not in shown:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 2)
        self.assertRegex(shown, rb"Z \[ConfigProxy\] \x1b\[32minfo\x1b\[(0|39)m: Proxying http://")

    def test_requests_that_went_well_are_not_logged(self) -> None:
        """Calls of the API and errors are, without their queries, with a level that fits."""
        upstream = ScriptedUpstream(self, answering(b"fine"))
        proxy = self.start()
        self.assertEqual(proxy.api("POST", "/a", {"target": upstream.url})[0], 201)
        self.assertEqual(get(proxy.port, "/a/good?s=hunter2")[1], b"fine")
        self.assertEqual(status_of(get(proxy.port, "/b?s=hunter2")), 404)
        self.assertEqual(proxy.api("GET", "?s=hunter2")[0], 200)
        self.assertEqual(proxy.api("GET", "/nope?s=hunter2")[0], 404)
        self.assertEqual(proxy.api("DELETE", "/a")[0], 204)
        proxy.stop()
        for text in (
            "info: Proxying http://127.0.0.1:{port} to (no default)",
            "info: Adding route /a -> {url}",
            "info: Route added /a -> {url}",
            "info: 201 POST /api/routes/a ",
            "error: 404 GET /b ",
            "info: 200 GET /api/routes ",
            "warn: 404 GET /api/routes/nope ",
            "info: Removing route /a",
            "info: 204 DELETE /api/routes/a ",
        ):
            self.assertEqual(len(proxy.lines(text.format(port=proxy.port, url=upstream.url))), 1, text)
        self.assertEqual(proxy.lines("good"), [])
        self.assertEqual(proxy.lines("hunter2"), [])


class SignalTests(ChpCase):
    """The end, which JupyterHub waits a second for."""

    def test_a_signal_ends_it_at_once(self) -> None:
        """With status 2; requests are cut, the ports are free, the pid file is gone, and the log says why."""
        self.end_by(signal.SIGTERM, "Terminated")
        self.end_by(signal.SIGINT, "Interrupted")

    def end_by(self, number: signal.Signals, word: str) -> None:
        """End a proxy that serves a request by a signal."""
        upstream = ScriptedUpstream(self, Silent())
        proxy = self.start("--default-target", upstream.url, "--pid-file", "chp.pid")
        proxy.process.wait_for_log("Writing pid")
        client = connect(proxy.port)
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        wait_for(lambda: upstream.connections, "the request is in flight")
        self.assertLess(proxy.stop(number), END_SECONDS)
        self.assertEqual(client.rest(), b"")
        for port in (proxy.port, proxy.api_port):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server does
                sock.bind(("127.0.0.1", port))
                sock.listen()
        self.assertFalse((self.directory / "chp.pid").exists())
        self.assertTrue(proxy.process.log.endswith(f"warn: {word}\n"), proxy.process.log)

    def test_a_second_signal_changes_nothing(self) -> None:
        """JupyterHub sends SIGTERM twice: the status is 2 all the same, and nothing goes wrong meanwhile."""
        proxy = self.start("--pid-file", "chp.pid")
        proxy.process.wait_for_log("Writing pid")
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            proxy.process.send(number)
        self.assertEqual(proxy.process.wait(PATIENCE_SECONDS), 2)
        self.assertNotIn("Traceback", proxy.process.log)
        self.assertFalse((self.directory / "chp.pid").exists())

    def test_the_process_is_the_one_that_was_started(self) -> None:
        """JupyterHub kills by pid: there is no wrapper and no child; the file has the number, and nothing else."""
        pid_file = self.directory / "chp.pid"
        pid_file.write_text("something long that was there before\n")
        proxy = self.start("--pid-file", str(pid_file))
        line = proxy.process.wait_for_log("Writing pid")
        self.assertTrue(line.endswith(f"info: Writing pid {proxy.process.pid} to {pid_file}"), line)
        self.assertEqual(pid_file.read_bytes(), str(proxy.process.pid).encode())
        self.assertEqual(proxy.process.family(), [proxy.process.pid])

    def test_other_names(self) -> None:
        """A link that is named like the original, `proxyd-chp`, and the module run the same program."""
        link = self.directory / "configurable-http-proxy"
        link.symlink_to(script("proxyd"))
        for command in ((link,), (script("proxyd-chp"),), (sys.executable, "-m", "proxyd", "chp")):
            proxy = self.start(command=command)
            self.assertEqual(proxy.api(), (200, {}))
            proxy.stop()


class StreamTests(ChpCase):
    """The standard streams."""

    def test_they_may_be_closed(self) -> None:
        """It serves without a place for its log, and no connection takes the number of one."""
        port, api_port = free_ports(2)
        process = Process(
            self,
            *("/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *CHP),
            *("--ip=127.0.0.1", f"--port={port}", "--api-ip=127.0.0.1", f"--api-port={api_port}"),
            env=self.environ,
            cwd=self.directory,
        )
        process.wait_for(lambda: accepts(port) and accepts(api_port), "two listeners", PATIENCE_SECONDS)
        self.assertEqual(status_of(get(port, "/none")), 404)
        streams = {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)}
        self.assertEqual(streams, {os.devnull})
        process.send(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_SECONDS), 2)


class TokenTests(ChpCase):
    """Who may change routes."""

    def test_without_a_token_the_api_is_open(self) -> None:
        """And one warning says so."""
        self.environ["CONFIGPROXY_AUTH_TOKEN"] = ""
        proxy = self.start()
        self.assertEqual(proxy.api(token=None), (200, {}))
        proxy.stop()
        (line,) = proxy.lines("not authenticated")
        self.assertIn(" warn: ", line)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_the_token_is_shown_nowhere(self) -> None:
        """Neither in the log, nor to other users, nor to upstreams; without it every call is a 403 without a word."""
        upstream = ScriptedUpstream(self, Echo())
        proxy = self.start("--log-level=debug")
        self.assertEqual(proxy.api("POST", "/a", {"target": upstream.url})[0], 201)
        for method in ("GET", "POST", "DELETE"):
            for token in (None, TOKEN[:-1], f"{TOKEN}x"):
                self.assertEqual(proxy.api(method, "/a", token=token), (403, ""))
        self.assertEqual(proxy.api("GET", f"/{TOKEN}?token={TOKEN}", token=None)[0], 403)
        self.assertNotIn(TOKEN.encode(), get(proxy.port, "/a?secret")[1])
        self.assertNotIn(TOKEN.encode(), Path(f"/proc/{proxy.process.pid}/cmdline").read_bytes())
        proxy.stop()
        log = proxy.process.log.replace(f"/api/routes/{TOKEN}", "")  # a path is logged as it was sent
        self.assertNotIn(TOKEN, log)
        self.assertNotIn("not authenticated", log)
        self.assertIn(f"] debug: PROXY WEB /a to {upstream.url}\n", log)


class RouteTests(ChpCase):
    """What the Hub does all day."""

    def test_the_default_target_is_a_route(self) -> None:
        """It is in the table from the start, under `/`, and serves."""
        upstream = ScriptedUpstream(self, answering(b"default"))
        proxy = self.start("--default-target", upstream.url)
        status, table = proxy.api()
        self.assertEqual((status, list(table), table["/"]["target"]), (200, ["/"], upstream.url))
        self.assertRegex(table["/"]["last_activity"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(get(proxy.port, "/any")[1], b"default")

    def test_routes_come_and_go(self) -> None:
        """POST, GET and DELETE; whoever got its answer finds the change in force; other members are kept as posted."""
        upstreams = {name: ScriptedUpstream(self, answering(name.encode())) for name in ("one", "two")}
        proxy = self.start()
        posted = {"target": upstreams["one"].url, "jupyterhub": True, "user": "ü", "deep": {"a": [1, None]}}
        self.assertEqual(proxy.api("POST", "/user/%C3%BC%40h", posted), (201, ""))
        status, route = proxy.api("GET", "/user/%C3%BC%40h")
        self.assertEqual((status, {name: route[name] for name in posted}), (200, posted))
        self.assertEqual(list(proxy.api()[1]), ["/user/ü@h"])
        self.assertEqual(get(proxy.port, "/user/%C3%BC@h/x")[1], b"one")
        self.assertEqual(proxy.api("POST", "/user/%C3%BC%40h", {"target": upstreams["two"].url})[0], 201)
        self.assertNotIn("user", proxy.api("GET", "/user/%C3%BC%40h")[1])
        self.assertEqual(get(proxy.port, "/user/%C3%BC@h/x")[1], b"two")
        self.assertEqual([proxy.api("DELETE", "/user/%C3%BC%40h")[0] for _ in range(2)], [204, 404])
        self.assertEqual(status_of(get(proxy.port, "/user/%C3%BC@h/x")), 404)
        self.assertEqual(proxy.api("POST", "/bad", {"target": "nowhere"})[0], 400)
        self.assertEqual(proxy.api(), (200, {}))

    def test_health(self) -> None:
        """`/_chp_healthz` answers before any route, and nothing else does."""
        proxy = self.start("--default-target=http://127.0.0.1:1")
        message = get(proxy.port, "/_chp_healthz")
        self.assertEqual((status_of(message), json.loads(message[1])), (200, {"status": "OK"}))
        self.assertEqual([status_of(get(proxy.port, path)) for path in ("/healthz", "/readyz")], [503, 503])

    def test_all_interfaces_are_the_default(self) -> None:
        """IPv4 and IPv6 for the public side, this machine only for the API."""
        proxy = self.start("--ip=", "--api-ip=127.0.0.1")
        self.assertEqual(status_of(get(proxy.port, "/_chp_healthz")), 200)
        self.assertEqual(len(proxy.lines(f"Proxying http://*:{proxy.port} to ")), 1)
        self.assertFalse(accepts(proxy.api_port, "::1"))
        self.assertEqual(accepts(proxy.port, "::1"), has_ipv6())


class ErrorPageTests(ChpCase):
    """Pages of the proxy's own errors."""

    def test_a_directory_of_pages(self) -> None:
        """STATUS.html, else error.html, else the reason; read anew each time, from the working directory."""
        pages = self.directory / "pages"
        pages.mkdir()
        proxy = self.start("--error-path", "pages", "--default-target", "http://127.0.0.1:1")
        self.assertEqual(get(proxy.port)[1], b"Service Unavailable")
        (pages / "error.html").write_text("any")
        self.assertEqual(get(proxy.port)[1], b"any")
        (pages / "503.html").write_text("<p>503</p>")
        message = get(proxy.port)
        self.assertEqual((status_of(message), message[1]), (503, b"<p>503</p>"))
        self.assertIn(b"\r\nContent-Type: text/html", message[0])

    def test_an_error_target(self) -> None:
        """It is asked for STATUS?url=..., without anything that the client sent; without it the reason is the page."""
        upstream = ScriptedUpstream(self, Echo())
        proxy = self.start("--error-target", f"{upstream.url}/hub/error", "--default-target", "http://127.0.0.1:1")
        wire = connect(proxy.port)
        wire.send(b"GET /a?b=c&d HTTP/1.1\r\nHost: public.test\r\nCookie: hunter2\r\nAuthorization: hunter2\r\n\r\n")
        message = wire.message()
        self.assertEqual(status_of(message), 503)
        self.assertTrue(message[1].startswith(b"GET /hub/error/503?url=%2Fa%3Fb%3Dc%26d HTTP/1.1\r\n"), message[1])
        self.assertIn(b"Host: 127.0.0.1:%d\r\n" % upstream.port, message[1])
        self.assertNotIn(b"hunter2", message[1])

    def test_a_dead_error_target(self) -> None:
        """The status stays, and the page is its reason."""
        proxy = self.start("--error-target", "http://127.0.0.1:1/hub/error")
        message = get(proxy.port)
        self.assertEqual((status_of(message), message[1]), (404, b"Not Found"))


class FailedStartTests(ChpCase):
    """What cannot start ends."""

    def test_a_misuse_is_status_1_and_one_line(self) -> None:
        """An unknown option, a conflict, a bad header and a word too many; nothing is on the standard output."""
        for words, says in (
            (["--nope"], "--nope"),
            (["--error-target=http://h", "--error-path=d"], "error-path"),
            (["--custom-header", "no value"], "colon"),
            (["extra"], "extra"),
        ):
            status, stdout, stderr = self.end(*words)
            self.assertEqual((status, stdout, stderr.count("\n")), (1, "", 1), stderr)
            self.assertIn(says, stderr)

    def test_a_busy_port_ends_the_process(self) -> None:
        """Either one: status 1 and one line; the process that has the port, and its pid file, stay as they are."""
        first = self.start("--pid-file", "chp.pid")
        other, _ = free_ports(2)
        for public, api in ((first.port, other), (other, first.api_port)):
            status, stdout, stderr = self.end(
                *("--ip=127.0.0.1", f"--port={public}", "--api-ip=127.0.0.1", f"--api-port={api}"),
                *("--pid-file", "chp.pid"),
            )
            busy = first.port if public == first.port else first.api_port
            expected = f"proxyd chp: cannot listen on 127.0.0.1:{busy}: address already in use\n"
            self.assertEqual((status, stderr), (1, expected), stdout)
            self.assertNotIn("Proxying", stdout)
        self.assertEqual((self.directory / "chp.pid").read_text(), str(first.process.pid))
        self.assertEqual(first.api(), (200, {}))

    def test_an_unwritable_pid_file_ends_the_process(self) -> None:
        """Status 1, and a line that names it."""
        port, _ = free_ports(2)
        status, _, stderr = self.end("--ip=127.0.0.1", f"--port={port}", "--pid-file=none/chp.pid")
        self.assertEqual((status, stderr.count("\n")), (1, 1), stderr)
        self.assertIn("none/chp.pid", stderr)


class OptionTests(ChpCase):
    """What options do to requests and answers, seen from both ends."""

    def test_without_options(self) -> None:
        """Prefix and target path are kept, the Host is the client's, and X-Forwarded-* tell of the client."""
        got = self.echo(target="/t?k=2", fields="X-Forwarded-For: 192.0.2.1\r\n")
        self.assertTrue(got.startswith(b"GET /t/r/x?k=2&q=1 HTTP/1.1\r\n"), got)
        lowered = got.lower()
        for line in (
            b"host: public.test:81",
            b"x-forwarded-for: 192.0.2.1,127.0.0.1",
            b"x-forwarded-proto: http",
            b"x-forwarded-port: 81",
            b"x-forwarded-host: public.test:81",
        ):
            self.assertIn(b"\r\n%b\r\n" % line, lowered.replace(b", ", b","))

    def test_headers(self) -> None:
        """`--custom-header` adds and replaces, `--change-origin` sends the target's Host, `--no-x-forward` nothing."""
        words = ["--custom-header", "X-One: 1:1", "--custom-header=x-two:", "--change-origin", "--no-x-forward"]
        got = self.echo(*words, fields="X-ONE: client\r\nX-Three: 3\r\n")
        fields = dict(line.split(b": ", 1) for line in got.strip().split(b"\r\n")[1:] if b": " in line)
        lowered = {name.lower(): value for name, value in fields.items()}
        self.assertEqual((lowered[b"x-one"], lowered[b"x-three"], lowered[b"host"]), (b"1:1", b"3", self.host))
        self.assertIn(b"x-two:", got.lower())
        self.assertNotIn(b"client", got)
        self.assertNotIn(b"x-forwarded", got.lower())

    def test_no_include_prefix(self) -> None:
        """The route's path is cut off in front of what is put behind the target's."""
        self.assertTrue(
            self.echo("--no-include-prefix", target="/t", path="/r/x//y?q").startswith(b"GET /t/x//y?q HTTP/1.1\r\n")
        )

    def test_no_prepend_path(self) -> None:
        """Path and query of the target are dropped; with `--no-include-prefix` something is left all the same."""
        got = self.echo("--no-prepend-path", "--no-include-prefix", target="/t?k=2", path="/r?q")
        self.assertTrue(got.startswith(b"GET /?q HTTP/1.1\r\n"), got)
        got = self.echo("--no-prepend-path", target="/t?k=2")
        self.assertTrue(got.startswith(b"GET /r/x?q=1 HTTP/1.1\r\n"), got)

    def test_timeout(self) -> None:
        """A client that is silent for so long is dropped without an answer, though its request is in flight."""
        upstream = ScriptedUpstream(self, Silent())
        proxy = self.start("--timeout=300", "--default-target", upstream.url)
        wire = connect(proxy.port)
        wire.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(upstream.connections, 1)

    def test_proxy_timeout(self) -> None:
        """A target that is silent for so long is a 503, in the middle of a body a cut."""
        upstream = ScriptedUpstream(self, Silent())

        def half(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            wire.rest()

        proxy = self.start("--proxy-timeout=300", "--default-target", upstream.url)
        self.assertEqual(status_of(get(proxy.port)), 503)
        self.assertEqual(proxy.api("POST", "/half", {"target": ScriptedUpstream(self, half).url})[0], 201)
        wire = connect(proxy.port)
        wire.send(b"GET /half HTTP/1.1\r\nHost: test\r\n\r\n")
        self.assertTrue(wire.rest().endswith(b"\r\n\r\nhalf"))

    def test_keep_alive_timeout(self) -> None:
        """An idle client's connection is closed after that time, not before the next request could come."""
        proxy = self.start("--keep-alive-timeout=500")
        wire = connect(proxy.port)
        for _ in range(2):
            wire.send(b"GET /_chp_healthz HTTP/1.1\r\nHost: test\r\n\r\n")
            self.assertEqual(status_of(wire.message()), 200)
        self.assertEqual(wire.rest(), b"")

    def test_rewritten_redirects(self) -> None:
        """`--auto-rewrite` and `--protocol-rewrite` make redirects to the target redirects to the proxy."""

        def redirect(wire: Wire) -> None:
            while head := wire.head():
                place = re.search(rb"to=(\S+)", head)
                assert place is not None
                wire.send(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % place[1])

        upstream = ScriptedUpstream(self, redirect)
        proxy = self.start("--auto-rewrite", "--protocol-rewrite=https", "--default-target", upstream.url)
        for place, expected in (
            (f"{upstream.url}/x?y", "https://public.test:81/x?y"),
            ("http://other.test/x", "http://other.test/x"),
            ("/x", "/x"),
        ):
            head, _ = get(proxy.port, f"/?to={place}", "public.test:81")
            self.assertIn(f"\r\nLocation: {expected}\r\n".encode(), head)
        self.assertEqual([len(proxy.lines(word)) for word in ("AutoRewrite", "ProtocolRewrite")], [1, 1])

    def test_host_routing(self) -> None:
        """The first segment of a route is its host, which is not sent on."""
        upstream = ScriptedUpstream(self, Echo())
        proxy = self.start("--host-routing")
        self.assertEqual(proxy.api("POST", "/h.test/a", {"target": upstream.url})[0], 201)
        self.assertEqual(proxy.api("GET", "/h.test/a")[1]["host"], "h.test")
        self.assertTrue(get(proxy.port, "/a/x", "H.test:99")[1].startswith(b"GET /a/x HTTP/1.1\r\n"))
        self.assertEqual(status_of(get(proxy.port, "/a/x", "other.test")), 404)
