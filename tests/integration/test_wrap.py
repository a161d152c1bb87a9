"""`proxyd wrap` with real processes: the command lines of the manual, and what becomes of the application."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from tests.support import Process, accepts, free_port, script, wait_for
from tests.wire import connect, get

APP = str(Path(__file__).with_name("wrapped.py"))
PREFIX = "/user/dan/"
HUB: Mapping[str, str] = {
    "JUPYTERHUB_API_TOKEN": "5ecre7",
    "JPY_API_TOKEN": "5ecre7",
    "JUPYTERHUB_API_URL": "http://127.0.0.1:1/hub/api",
    "JUPYTERHUB_ACTIVITY_URL": "http://127.0.0.1:1/hub/api/users/dan/activity",
    "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-dan",
    "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=dan/"]',
    "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{PREFIX}oauth_callback",
    "JUPYTERHUB_BASE_URL": "/",
    "JUPYTERHUB_USER": "dan",
    "JUPYTERHUB_SERVER_NAME": "",
    "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
}
PATIENCE = 30.0


class WrapCase(SynchronousTestCase):
    """Runs wrapped applications in a directory of their own."""

    options: ClassVar[tuple[str, ...]] = ("--authtype=none", "--ready-timeout=30")

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-wrap-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.port = free_port()
        self.environ = {**HUB, "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{self.port}{PREFIX}"}
        self.environ["HOME"] = str(self.directory)

    def start(self, *words: str, program: tuple[str, ...] = ("proxyd", "wrap")) -> Process:
        """Start the proxy, and wait until it listens."""
        command = (script(program[0]), *program[1:])
        self.process = Process(self, *command, *words, env=self.environ, cwd=self.directory)
        self.process.wait_for(lambda: accepts(self.port), "the proxy listens", PATIENCE)
        return self.process

    def wrap(self, *words: str) -> Process:
        """Wrap the application of the tests."""
        return self.start(*self.options, "--", sys.executable, APP, *words)

    def ask(self, path: str = "", fields: str = "") -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        wire = connect(self.port)
        wire.sock.settimeout(PATIENCE)
        wire.send(f"GET {PREFIX}{path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n".encode())
        head, body = wire.message()
        wire.close()
        return int(head.split()[1]), head, body

    def told(self, path: str = "", fields: str = "") -> dict[str, Any]:
        """What the application tells, once it does."""
        status, head, body = self.ask(path, fields)
        self.assertEqual(200, status, head + body + self.process.log.encode())
        return dict(json.loads(body))

    def assert_ends(self, number: signal.Signals, seconds: float = 8.0) -> None:
        """The signal ends everything, with status 0, in time."""
        began = time.monotonic()
        self.process.send(number)
        self.assertEqual(0, self.process.wait(PATIENCE), self.process.log)
        self.assertLess(time.monotonic() - began, seconds)
        wait_for(lambda: not self.process.family(), "the end of all processes", 5)


class ManualTests(WrapCase):
    """The command lines in the manual of jhsingle-native-proxy, with stand-ins for what they run."""

    def setUp(self) -> None:
        super().setUp()
        programs = self.directory / "bin"
        programs.mkdir()
        for name in ("streamlit", "voila"):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {APP} "$@"\n')
            program.chmod(0o755)
        # Under the name that is in everybody's configuration.
        (programs / "jhsingle-native-proxy").symlink_to(script("proxyd"))
        self.programs = programs
        self.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
        self.destport = free_port()

    def run_line(self, line: str, options: str = "--authtype=none --ready-timeout=30") -> None:
        """Start what a line says, with our ports in place of its own, and other `options` in front of its words."""
        del self.environ["JUPYTERHUB_SERVICE_URL"]
        line = line.replace("8000", str(self.port)).replace("8505", str(self.destport))
        line = line.replace("8888", str(self.port))
        program, *words = shlex.split(line)
        if program == "python":
            self.assertEqual(["-m", "jhsingle_native_proxy.main"], words[:2])
            command = [sys.executable, "-m", "proxyd", "wrap", *words[2:]]
        else:
            command = [str(self.programs / program), *words]
        command[4 if program == "python" else 1 : 4 if program == "python" else 1] = shlex.split(options)
        self.process = Process(self, *command, env=self.environ, cwd=self.directory)
        self.process.wait_for(lambda: accepts(self.port), "the proxy listens", PATIENCE)

    def test_a_port_of_our_own_and_of_the_command(self) -> None:
        """Behind `--`, everything is the command's."""
        self.run_line(
            "jhsingle-native-proxy --port 8000 --destport 8505 -- streamlit hello --server.port {port} "
            "--server.headless True --server.enableCORS False"
        )
        words = ["hello", "--server.port", str(self.destport), "--server.headless", "True"]
        self.assertEqual([*words, "--server.enableCORS", "False"], self.told()["argv"])

    def test_dashes_in_braces(self) -> None:
        """Options of ours may come behind the command then."""
        self.run_line(
            "jhsingle-native-proxy --port 8000 --destport 8505 streamlit hello {--}server.port {port} "
            "{--}server.headless True {--}server.enableCORS False --ip 0.0.0.0"
        )
        self.assertIn("--server.port", self.told()["argv"])
        self.process.wait_for_log("Proxying http://*:", PATIENCE)

    def test_a_module_of_python(self) -> None:
        """`{-}m` is -m for the command."""
        shutil.copy(APP, self.directory / "wrapped_application.py")
        self.run_line(
            f"jhsingle-native-proxy --port 8000 {sys.executable} {{-}}m wrapped_application {{--}}port={{port}}"
        )
        self.assertEqual(1, len(self.told()["argv"]))

    def test_voila_at_the_prefix(self) -> None:
        """A free port, and the prefix without its slash; both lines of the manual."""
        voila = "{--}port={port} {--}no-browser {--}Voila.server_url=/ {--}Voila.base_url={base_url}/ {--}debug"
        for presentation in (
            "./Presentation.ipynb %s",
            "{presentation_path} %s --presentation_path=./Presentation.ipynb",
        ):
            self.port = free_port()
            self.run_line(
                f"python -m jhsingle_native_proxy.main --destport 0 voila {presentation % voila} --port {self.port}"
            )
            argv = self.told()["argv"]
            self.assertIn(f"--Voila.base_url={PREFIX}", argv)
            self.assertIn("--debug", argv)
            self.assertEqual("Presentation.ipynb", os.path.basename(argv[0]))
            self.assertEqual("absolute" in presentation or presentation.startswith("{"), os.path.isabs(argv[0]))
            self.environ["JUPYTERHUB_SERVICE_URL"] = ""

    def test_a_repository(self) -> None:
        """The last line of the manual, with a local repository: the command runs in its folder."""
        origin = self.directory / "binder-sincos"
        origin.mkdir()
        for words in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "x")):
            subprocess.run(
                ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words],
                cwd=origin,
                check=True,
                capture_output=True,
            )
        self.run_line(
            "python -m jhsingle_native_proxy.main --authtype=none --destport=0 --port=8888 voila "
            "./sincosfolder/Presentation.ipynb {--}port={port} {--}no-browser {--}Voila.server_url=/ "
            f"{{--}}Voila.base_url={{base_url}}/ --repo=file://{origin} --repofolder=sincosfolder"
        )
        self.process.wait_for(lambda: self.ask()[0] != 503, "the checkout", PATIENCE)
        self.assertEqual(str(self.directory / "sincosfolder"), self.told()["cwd"])

    def test_a_login_by_default(self) -> None:
        """Both spellings of the option, and none; the Hub's probe is answered although the Hub is not there."""
        for line in ("--authtype=oauth ", ""):
            self.port = free_port()
            self.run_line(f"jhsingle-native-proxy {line}streamlit hello {{port}} --port {self.port}", options="")
            status, head, _ = self.ask("page?a=1", "Accept: text/html\r\n")
            self.assertEqual(302, status)
            self.assertIn(b"/hub/api/oauth2/authorize?client_id=jupyterhub-user-dan", head)
            status, head, _ = self.ask("api")
            self.assertLess(status, 500)
            self.assertIn(b"\r\nX-JupyterHub-Version: ", head)
            self.environ["JUPYTERHUB_SERVICE_URL"] = ""


class ServingTests(WrapCase):
    """What the application gets, and what it is spared."""

    def test_paths_and_fields(self) -> None:
        """The prefix is stripped and told, the rest comes as it was written, and the client's Host stays."""
        self.wrap("{port}")
        forwarded = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https,http", "X-Forwarded-Host": "hub.test"}
        fields = "".join(f"{name}: {value}\r\n" for name, value in forwarded.items())
        fields += "X-CDSDASHBOARDS_JH-User: forged\r\n"
        told = self.told("a%2Fb/%3F?a=1&b=2&a=3&flag&x=%20", fields)
        self.assertEqual("/a%2Fb/%3F?a=1&b=2&a=3&flag&x=%20", told["path"])
        headers = dict(told["headers"])
        self.assertEqual("/user/dan", headers["X-Forwarded-Prefix"])
        self.assertEqual("/user/dan", headers["X-ProxyContextPath"])
        self.assertNotIn("forged", headers.values())
        self.assertEqual("test", headers["Host"])
        self.assertEqual(forwarded, {name: headers.get(name) for name in forwarded})  # as the Hub's proxy has set them

    def test_as_jupyter_calls_it(self) -> None:
        """`jupyter standaloneproxy` runs a program of that name, which finds its file, and has other defaults."""
        link = self.directory / "jupyter-standaloneproxy"
        link.symlink_to(script("proxyd"))
        text = "c.StandaloneProxyServer.environment = lambda port: {'A': str(port)}\nc.ServerProcess.timeout = 30\n"
        (self.directory / "jupyter").mkdir()
        (self.directory / "jupyter/jupyter_standalone_proxy_config.py").write_text(text)
        self.environ["JUPYTER_CONFIG_DIR"] = str(self.directory / "jupyter")
        self.process = Process(
            self, link, "--no-authentication", "--", sys.executable, APP, "{port}", env=self.environ, cwd=self.directory
        )
        self.process.wait_for(lambda: accepts(self.port), "the proxy listens", PATIENCE)
        told = self.told()
        self.assertEqual(told["argv"][-1], told["environ"]["A"])
        self.assertIn(b"Location: /user/dan/elsewhere\r\n", self.ask("go")[1])

    def test_fields_that_are_dropped_or_added(self) -> None:
        """Those that proxyd makes itself may go, too."""
        self.options = (*self.options, "--drop-header=X-Forwarded-For", "--drop-header=x-own", "--frame-ancestors=none")
        self.wrap("{port}")
        status, head, body = self.ask("", "X-Own: 1\r\nX-Forwarded-For: 192.0.2.1\r\nX-Other: 2\r\n")
        self.assertEqual(200, status)
        self.assertIn(b"\r\nX-Frame-Options: DENY\r\n", head)
        headers = {name.lower(): value for name, value in json.loads(body)["headers"]}
        self.assertEqual((None, None, "2"), tuple(map(headers.get, ("x-own", "x-forwarded-for", "x-other"))))

    def test_spellings_of_the_prefix(self) -> None:
        """Without its slash, with escapes, and what is outside."""
        self.environ["JUPYTERHUB_SERVICE_PREFIX"] = "/user/dan@example.com"
        self.wrap("{port}")
        for path, status, location in (
            ("/user/dan@example.com?a=1", 302, b"Location: /user/dan@example.com/?a=1\r\n"),
            ("/user/dan%40example.com/x%20y?a=%40", 301, b"Location: /user/dan@example.com/x%20y?a=%40\r\n"),
            ("/user/dan@example.com/", 200, b""),
            ("/user/dan@example.community/", 404, b""),
            ("/user/dan", 404, b""),
            ("/", 404, b""),
            ("/healthz", 404, b""),
        ):
            head, _ = get(self.port, path)
            self.assertIn(b"HTTP/1.1 %d " % status, head, path)
            self.assertIn(location, head)

    def test_the_environment(self) -> None:
        """Everything but the tokens; those only on request. Variables may be added."""
        self.options = (*self.options, "--environment=A={port}")
        self.wrap("{port}")
        told = self.told()
        self.assertEqual(str(told["argv"][-1]), told["environ"]["A"])
        self.assertEqual("dan", told["environ"]["JUPYTERHUB_USER"])
        self.assertEqual(str(self.directory), told["cwd"])
        self.assertNotIn("5ecre7", told["environ"].values())
        self.assertNotIn("5ecre7", self.process.log)

    def test_a_token_that_was_asked_for(self) -> None:
        """`--pass-hub-token` leaves it where it was; what the application says of it is shown nowhere."""
        self.options = (*self.options, "--pass-hub-token")
        self.wrap("--tell-token", "{port}")
        self.assertEqual("5ecre7", self.told()["environ"]["JUPYTERHUB_API_TOKEN"])
        self.process.wait_for_log("the token is ***")
        self.assertNotIn("5ecre7", self.process.log)
        self.assertEqual([], list(self.directory.rglob("cookie-key")))

    def test_the_output(self) -> None:
        """In the log, line by line, the error output as errors, which show without the rest as well."""
        self.wrap("{port}")
        self.told()
        self.assertIn("info  [", self.process.wait_for_log("said on the output"))
        self.assertIn("error [", self.process.wait_for_log("said on the error output"))

    def test_without_logs(self) -> None:
        """Errors are left."""
        self.options = (*self.options, "--no-logs")
        self.wrap("{port}")
        self.told()
        self.process.wait_for_log("said on the error output")
        self.assertNotIn("said on the output", self.process.log)
        self.assertNotIn("GET ", self.process.log)

    def test_the_first_request_waits(self) -> None:
        """The application starts by itself, and who comes too early waits; the Hub's probe does not."""
        self.wrap("--slow", "{port}")
        began = time.monotonic()
        self.assertEqual(200, self.ask("api")[0])
        self.assertLess(time.monotonic() - began, 1.0)
        self.assertEqual("/", self.told()["path"])
        self.assertEqual("/api", self.told("api")["path"])  # it is the application's from now on

    def test_websockets(self) -> None:
        """With the application's choice of a subprotocol; the first request of all may be one."""
        self.wrap("{port}")
        url = f"ws://127.0.0.1:{self.port}{PREFIX}chat?x=%20"
        with connect_websocket(url, subprotocols=["a", "b"], open_timeout=PATIENCE) as websocket:  # type: ignore[list-item]
            self.assertEqual("/chat?x=%20", json.loads(websocket.recv(PATIENCE))["path"])
            self.assertEqual("b", websocket.subprotocol)
            websocket.send(b"\0\1")
            self.assertEqual(b"\0\1", websocket.recv(PATIENCE))

    def test_a_unix_socket(self) -> None:
        """In a directory that is nobody else's, and is gone afterwards."""
        self.wrap("--socket={unix_socket}")
        path = Path(self.told()["argv"][0].partition("=")[2])
        self.assertEqual(0o700, path.parent.stat().st_mode & 0o777)
        self.assert_ends(signal.SIGTERM)
        self.assertFalse(path.parent.exists())

    def test_redirects_stay_as_they_are(self) -> None:
        """Unless somebody asks for the prefix."""
        self.wrap("{port}")
        self.told()
        self.assertIn(b"Location: /elsewhere\r\n", self.ask("go")[1])
        self.assert_ends(signal.SIGTERM)
        self.port = free_port()
        self.environ["JUPYTERHUB_SERVICE_URL"] = f"http://127.0.0.1:{self.port}{PREFIX}"
        self.options = (*self.options, "--rewrite-location")
        self.wrap("{port}")
        self.told()
        self.assertIn(b"Location: /user/dan/elsewhere\r\n", self.ask("go")[1])

    def test_the_public_host_of_the_first_request(self) -> None:
        """The start waits for it; a Host that is none starts nothing."""
        self.wrap("--origin={origin_host}", "{port}")
        self.process.wait_for_log("Proxying", PATIENCE)
        self.assertNotIn("starting server", self.process.log)
        self.assertIn("--origin=test", self.told()["argv"])

    def test_the_landing_page(self) -> None:
        """Only if somebody asks for it."""
        self.environ["JUPYTERHUB_DEFAULT_URL"] = "/lab"
        self.options = (*self.options, "--use-default-url")
        self.wrap("{port}")
        self.assertIn(b"Location: /user/dan/lab\r\n", self.ask()[1])
        self.assertEqual("/lab", self.told("lab")["path"])


class FaultTests(WrapCase):
    """An application that dies, hangs, or floods its output: it harms nobody but who asks for it."""

    def test_it_dies(self) -> None:
        """Who has asked is told, HTTP and WebSocket; who asks next waits for the next one."""
        self.wrap("{port}")
        self.told()
        with connect_websocket(f"ws://127.0.0.1:{self.port}{PREFIX}chat", open_timeout=PATIENCE) as websocket:
            websocket.recv(PATIENCE)
            self.assertEqual(502, self.ask("end?status=3")[0])
            with self.assertRaises(ConnectionClosed):
                websocket.recv(PATIENCE)
        self.assertEqual(200, self.ask("x")[0])

    def test_it_hangs(self) -> None:
        """504 after `--request-timeout`; others are served meanwhile, and a stop does not wait for it."""
        self.options = (*self.options, "--request-timeout=2")
        self.wrap("{port}")
        pid = self.told()["pid"]
        wire = connect(self.port)
        wire.sock.settimeout(PATIENCE)
        wire.send(f"GET {PREFIX}hang HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        self.assertEqual(200, self.ask("x")[0])
        self.assertIn(b"HTTP/1.1 504 ", wire.message()[0])
        wire.close()
        os.kill(pid, signal.SIGSTOP)
        self.assertEqual(504, self.ask("x")[0])
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(200, self.ask("x")[0])
        os.kill(pid, signal.SIGSTOP)
        self.assert_ends(signal.SIGTERM)

    def test_it_floods(self) -> None:
        """Before it is ready, and later: it is read, a bounded part is kept, and requests do not wait."""
        self.options = (*self.options, "--no-logs")
        self.wrap("--talkative", "{port}")
        self.told()
        before = self.resident_bytes()
        self.assertEqual(200, self.ask("flood?lines=100000")[0])
        while self.process.log.count("the flood is over") < 2:
            self.assertEqual(200, self.ask("x")[0])
        self.assertLess(self.resident_bytes() - before, 20_000_000)
        self.assertNotIn("xxx", self.process.log)

    def resident_bytes(self) -> int:
        """The memory of the proxy."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class LifeTests(WrapCase):
    """How it ends, and what comes before the start."""

    def test_signals_end_it(self) -> None:
        """Both, with status 0, and nothing is left."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.port = free_port()
            self.environ["JUPYTERHUB_SERVICE_URL"] = f"http://127.0.0.1:{self.port}{PREFIX}"
            self.wrap("{port}")
            pid = self.told()["pid"]
            self.assertIn(pid, self.process.family())
            self.assert_ends(number)

    def test_an_application_that_does_not_want_to_end(self) -> None:
        """It is killed, before the Hub loses its patience."""
        self.wrap("--stubborn", "{port}")
        self.told()
        self.assert_ends(signal.SIGTERM)

    def test_a_signal_before_the_application_is_ready(self) -> None:
        """Nothing is left either."""
        self.wrap("--slow", "{port}")
        self.process.wait_for_log("starting server", PATIENCE)
        self.assert_ends(signal.SIGTERM)

    def test_an_application_that_crashes_is_started_again(self) -> None:
        """After a pause; the proxy goes on."""
        self.wrap("{port}")
        pid = self.told()["pid"]
        self.ask("end?status=3")
        self.process.wait_for_log("it is started again in 1 s", PATIENCE)
        wait_for(lambda: self.ask()[0] == 200, "another one", PATIENCE)
        self.assertNotEqual(pid, self.told()["pid"])

    def test_an_application_that_ended_in_order_is_started_on_demand(self) -> None:
        """By the next request."""
        self.wrap("{port}")
        pid = self.told()["pid"]
        self.ask("end?status=0")
        self.process.wait_for_log("ended with exit status 0", PATIENCE)
        self.assertNotEqual(pid, self.told()["pid"])

    def test_the_proxy_ends_with_the_application(self) -> None:
        """With its status, if that is asked for."""
        self.options = (*self.options, "--exit-with-app")
        self.wrap("{port}")
        self.told()
        self.ask("end?status=7")
        self.assertEqual(7, self.process.wait(PATIENCE))

    def test_an_application_that_does_not_start(self) -> None:
        """People see why, escaped, and the next request tries again."""
        self.options = (*self.options, "--ready-timeout=3")
        self.wrap("--broken", "https://dan:hunter2@x.example/", "{port}")
        status, _, body = self.ask("", "Accept: application/json\r\n")
        self.assertEqual(503, status, body)
        self.assertIn(b"was not ready in time (3 s)", body)
        self.assertIn(b"it is broken", body)
        self.assertRegex(body.decode(), r"\$ \S+ \S+/wrapped.py --broken https://\*\*\*@x.example/ \d+")
        self.assertNotIn("hunter2", body.decode() + self.process.log)

    def test_a_port_that_is_taken(self) -> None:
        """One line, and status 1, before the Hub waits in vain."""
        self.wrap("{port}")
        second = Process(self, script("proxyd-wrap"), *self.options, "--", "true", env=self.environ, cwd=self.directory)
        self.assertEqual(1, second.wait(PATIENCE))
        self.assertIn(str(self.port), second.log)

    def test_a_checkout_in_the_background(self) -> None:
        """Meanwhile there is a page that asks again; when it fails, one that says why, without any password."""
        program = self.directory / "bin/git"
        program.parent.mkdir()
        release = self.directory / "release"
        program.write_text(f'#!/bin/sh\nwhile [ ! -e {release} ]; do sleep 0.05; done\necho "no <way>" >&2; exit 9\n')
        program.chmod(0o755)
        self.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        self.options = (*self.options, "--repo=https://dan:hunter2@example.org/app")
        self.wrap("{port}")
        status, head, body = self.ask("x", "Accept: text/html\r\n")
        self.assertEqual(503, status)
        self.assertIn(b"\r\nRetry-After: 2\r\n", head)
        self.assertIn(b'http-equiv="refresh" content="2"', body)
        release.touch()
        status, _, body = wait_for(lambda: (a := self.ask("x"))[0] != 503 and a, "the failure", PATIENCE) or (
            0,
            b"",
            b"",
        )
        self.assertEqual(500, status)
        self.assertIn(b"no &lt;way&gt;", body)
        self.assertIn(b"exit status 9", body)
        self.assertNotIn(b"hunter2", body)
        self.assertNotIn("hunter2", self.process.log)
        self.assert_ends(signal.SIGTERM)

    def test_an_environment_of_conda(self) -> None:
        """The command runs in it; what it prints and its signals are as ever."""
        prefix = self.directory / "conda"
        (prefix / "bin").mkdir(parents=True)
        (prefix / "envs/one").mkdir(parents=True)
        (prefix / "bin/activate").write_text('export ACTIVATED="$1"\n')
        conda = prefix / "bin/conda"
        conda.write_text(f"#!/bin/sh\necho '{json.dumps({'conda_prefix': str(prefix), 'envs': []})}'\n")
        conda.chmod(0o755)
        self.environ["CONDA_EXE"] = str(conda)
        self.options = (*self.options, "--conda-env=one")
        self.wrap("it's; a $(word)", "{port}")
        wait_for(lambda: self.ask()[0] != 503, "conda", PATIENCE)
        told = self.told()
        self.assertEqual(str(prefix / "envs/one"), told["environ"]["ACTIVATED"])
        self.assertEqual("it's; a $(word)", told["argv"][0])
        self.assert_ends(signal.SIGTERM)
