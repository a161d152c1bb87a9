"""Managed servers through a real proxyd, with real children: what clients see of them."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket
from websockets.typing import Subprotocol

from tests.integration.test_serve import MODULE, OPEN, CommandCase
from tests.support import wait_for
from tests.wire import ScriptedUpstream, Wire, connect

SECONDS = 60.0
APPLICATION = (sys.executable, "-E", str(Path(__file__).with_name("application.py")))

DIST = "packages/jupyter_openrefine_server-1.dist-info"


def application(*options: str, place: str = "{port}") -> list[str]:
    """The command line of the test application."""
    return [*APPLICATION, *options, place]


class Answer:
    """A response."""

    def __init__(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body

    def field(self, name: str) -> str:
        """The value of the only field of that name."""
        (value,) = (value for key, value in self.fields if key.lower() == name)
        return value

    @property
    def told(self) -> dict[str, Any]:
        """What the application was asked."""
        told: dict[str, Any] = json.loads(self.body)
        return told


class ManagedCase(CommandCase):
    """`proxyd serve` with `servers`."""

    base_url = "/"

    def serve(self, more: str = "", **servers: object) -> None:
        """Start a proxyd with these servers."""
        self.text = f"{OPEN}base_url: {self.base_url}\n{more}\n"
        self.proxyd = self.start(f"{self.text}servers: {json.dumps(servers)}\n")
        self.process = self.proxyd.process

    def reload(self, **servers: object) -> None:
        """Change the servers of the proxyd that runs."""
        done = self.process.log.count("applied: ")
        self.write(f"{self.text}servers: {json.dumps(servers)}\n")
        self.process.send(signal.SIGHUP)
        self.process.wait_for(lambda: self.process.log.count("applied: ") > done, "the reload", SECONDS)

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, fields: dict[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.proxyd.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, fields or {})
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def open(self, path: str, **options: Any) -> ClientConnection:
        """A WebSocket, which the end of the test closes."""
        url = f"ws://127.0.0.1:{self.proxyd.port}{path}"
        client = open_websocket(url, proxy=None, open_timeout=SECONDS, **options)
        self.addCleanup(client.close)
        return client

    def count(self, name: str = "starts") -> int:
        """How often the application was started that counts there."""
        path = self.directory / name
        return len(path.read_text().splitlines()) if path.exists() else 0


class StartTests(ManagedCase):
    """The first requests."""

    workers = 1

    def test_a_hundred_first_requests_start_one_process(self) -> None:
        """HTTP and WebSockets alike wait for it, and all of them are served."""
        more = f"workers: {self.workers}"
        self.serve(more, app={"command": application(f"--count={self.directory}/starts", "--sleep=1")})

        def ask(number: int) -> str:
            if number % 2:
                return str(self.ask(f"/app/{number}").told["path"])
            websocket = self.open(f"/app/{number}")
            websocket.send(f"/{number}")
            return str(websocket.recv(SECONDS))

        with ThreadPoolExecutor(100) as threads:
            answers = list(threads.map(ask, range(100)))
        self.assertEqual([f"/{number}" for number in range(100)], answers)
        self.assertEqual(1, self.count())

    def test_an_upload_that_comes_while_it_starts(self) -> None:
        """Reaches it whole and once; proxyd does not read it all before."""
        self.serve(app={"command": application("--sleep=1", f"--count={self.directory}/starts")})
        body = bytes(range(256)) * 40_000
        told = self.ask("/app/upload", "POST", body).told
        self.assertEqual((len(body), hashlib.sha1(body).hexdigest()), (told["size"], told["sha"]))
        self.process.wait_for_log("served POST /upload", SECONDS)
        self.assertEqual(1, self.process.log.count("served POST /upload"))
        self.assertEqual(1, self.count())

    def test_much_output_before_it_listens(self) -> None:
        """Ten megabytes that nobody asked for do not stop the start."""
        self.serve(app={"command": application("--print=10000000")})
        self.assertEqual(200, self.ask("/app/").status)

    def test_failures_name_the_server(self) -> None:
        """503 with Retry-After at once or in time, for whatever reason; others are not held up meanwhile."""
        self.serve(
            dies={"command": application("--exit=3"), "timeout": "2s"},
            ends={"command": application("--exit=0")},
            hangs={"command": application("--hang"), "timeout": "2s"},
            absent={"command": ["/nonexistent/program"]},
            template={"command": [*application(), "{nope}"]},
            good={"command": application()},
        )
        names = ("dies", "ends", "hangs", "absent", "template", "good")
        with ThreadPoolExecutor(10) as threads:
            answers = dict(zip(names, threads.map(lambda name: self.ask(f"/{name}/"), names), strict=True))
        self.assertEqual(200, answers.pop("good").status)
        for name, answer in answers.items():
            self.assertEqual(503, answer.status, name)
            self.assertGreaterEqual(int(answer.field("retry-after")), 1)
            self.process.wait_for_log(f"503 GET /{name}/ server {name} ", SECONDS)
        with self.assertRaises(InvalidStatus) as caught:
            self.open("/ends/")
        self.assertEqual(503, caught.exception.response.status_code)

    def test_waiting_for_a_failing_start_is_one_wait(self) -> None:
        """All of them fail together, after one start."""
        self.serve(app={"command": application(f"--count={self.directory}/starts", "--hang"), "timeout": "2s"})
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: self.ask("/app/").status, range(8)))
        self.assertEqual([503] * 8, answers)
        self.assertEqual(1, self.count())

    def test_a_websocket_starts_it(self) -> None:
        """As a request does, also over a unix socket."""
        self.serve(app={"command": application(place="{unix_socket}"), "unix_socket": True})
        websocket = self.open("/app/ws")
        websocket.send("hello")
        self.assertEqual("hello", websocket.recv(SECONDS))
        fields = dict(self.ask("/app/x", fields={"Host": "client.test"}).told["fields"])
        self.assertEqual(("client.test", "/app"), (fields["Host"], fields["X-Forwarded-Prefix"]))


class WorkersStartTests(StartTests):
    """The same with several workers, none of which has a server of its own."""

    workers = 2


class LifeTests(ManagedCase):
    """What comes after the start."""

    def test_requests_wait_for_a_restart(self) -> None:
        """Of a server that was killed, or has ended well; nobody gets an error."""
        self.serve(app={"command": application()})
        first = self.ask("/app/").told["pid"]
        for path in ("/app/kill", "/app/exit/0"):
            self.assertEqual(502, self.ask(path).status)
            second = self.ask("/app/").told["pid"]
            self.assertNotEqual(first, second)
            first = second

    def test_a_client_that_leaves(self) -> None:
        """Ends the request of the server at once; until then cookies and events come as they come."""
        self.serve(app={"command": application()})
        self.ask("/app/")
        wire = connect(self.proxyd.port)
        wire.send(b"GET /app/stream HTTP/1.1\r\nHost: a\r\nAccept: text/html, text/event-stream\r\n\r\n")
        head = wire.head()
        self.assertIn(b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n", head)
        wire.until(b"data: 1\n\n")
        wire.close()
        self.process.wait_for_log("the client has left", SECONDS)

    def test_a_client_that_leaves_while_it_starts(self) -> None:
        """Ends its own wait, and not the start."""
        self.serve(app={"command": application("--sleep=2")})
        wire = connect(self.proxyd.port)
        wire.send(b"GET /app/first HTTP/1.1\r\nHost: a\r\n\r\n")
        self.process.wait_for_log("starting server app", SECONDS)
        wire.close()
        self.assertEqual("/second", self.ask("/app/second").told["path"])
        self.assertNotIn("served GET /first", self.process.log)

    def test_idle_servers_are_stopped(self) -> None:
        """But not while a WebSocket is open."""
        self.serve(app={"command": application(), "idle_timeout": "1s"})
        websocket = self.open("/app/")
        self.assertEqual(200, self.ask("/app/").status)
        with self.assertRaises(TimeoutError):
            websocket.recv(3)
        websocket.send("still here")
        self.assertEqual("still here", websocket.recv(SECONDS))
        websocket.close()
        self.process.wait_for(lambda: len(self.process.family(workers=False)) == 2, "the end of the server", SECONDS)
        self.assertEqual(200, self.ask("/app/").status)

    def test_a_reload(self) -> None:
        """What is new is there, what is gone is not, and what has changed is replaced when its last lease ends."""
        self.serve(same={"command": application()}, old={"command": application()}, app={"command": application()})
        pids = {name: self.ask(f"/{name}/").told["pid"] for name in ("same", "old", "app")}
        websocket = self.open("/app/")
        leaving = self.open("/old/")
        self.reload(
            same={"command": application()},
            app={"command": application(), "absolute_url": True},
            new={"command": application(), "start": "eager"},
        )
        self.assertEqual(404, self.ask("/old/").status)
        self.assertEqual(pids["same"], self.ask("/same/").told["pid"])
        self.process.wait_for_log("server new is ready", SECONDS)
        self.assertEqual("/", self.ask("/app/").told["path"])
        for client in (websocket, leaving):
            client.send("x")
            self.assertEqual("x", client.recv(SECONDS))
            client.close()
        wait_for(lambda: self.ask("/app/").told["path"] == "/app/", "the new definition", SECONDS)
        self.assertNotEqual(pids["app"], self.ask("/app/").told["pid"])
        self.process.wait_for(lambda: pids["old"] not in self.process.family(), "the end of the old", SECONDS)


class ActivityTests(ManagedCase):
    """What is told to a Hub that has started us."""

    def test_only_what_counts_is_reported(self) -> None:
        """With our token, to where the Hub says; what does not count moves nothing, although it was served."""
        reports: list[tuple[bytes, Any]] = []

        def hub(wire: Wire) -> None:
            while (message := wire.message())[0]:
                reports.append((message[0], json.loads(message[1])))
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        url = f"{ScriptedUpstream(self, hub).url}/hub/api/users/ann/activity"
        self.environ |= {
            "JUPYTERHUB_SERVICE_PREFIX": "/",
            "JUPYTERHUB_API_TOKEN": "hub-token",
            "JUPYTERHUB_ACTIVITY_URL": url,
            "JUPYTERHUB_ACTIVITY_INTERVAL": "0.2",
        }
        self.serve(
            "auth: {kind: anonymous}",
            app={"command": application(), "exclude_last_activity_patterns": [".*/poll$"]},
            never={"command": application(), "update_last_activity": False},
        )

        def ask(path: str) -> None:
            self.assertEqual(200, self.ask(path).status)

        def stamps() -> list[datetime]:
            return [datetime.fromisoformat(report["last_activity"]) for _, report in reports]

        ask("/app/x")
        ask("/never/x")
        before = datetime.now(UTC)
        for _ in range(20):  # long enough for several reports
            ask("/app/poll")
            ask("/never/x")
            time.sleep(0.05)
        after = datetime.now(UTC)
        ask("/app/y")
        wait_for(lambda: any(stamp >= after for stamp in stamps()), "a report of the last request", SECONDS)
        near = timedelta(milliseconds=1)  # stamps are rounded
        self.assertEqual([], [stamp for stamp in stamps() if before + near < stamp < after - near])
        head, report = reports[-1]
        self.assertTrue(head.startswith(b"POST /hub/api/users/ann/activity HTTP/1.1\r\n"), head)
        self.assertRegex(head, rb"(?i)\r\nauthorization: token hub-token\r\n")
        self.assertEqual(report["last_activity"], report["servers"][""]["last_activity"])


class RawTests(ManagedCase):
    """Servers that speak no HTTP."""

    def test_streams(self) -> None:
        """TCP and unix sockets, started by proxyd or not: bytes both ways, the end, and nothing else is served."""
        path = str(self.directory / "own.sock")
        own = subprocess.Popen(application("--raw", place=path))
        self.addCleanup(own.wait)
        self.addCleanup(own.kill)
        wait_for(lambda: Path(path).exists(), "the socket", SECONDS)
        self.serve(
            tcp={"command": application("--raw"), "raw_socket_proxy": True},
            unix={
                "command": application("--raw", place="{unix_socket}"),
                "unix_socket": True,
                "raw_socket_proxy": True,
            },
            own={"unix_socket": path, "raw_socket_proxy": True},
        )
        for name in ("tcp", "unix", "own"):
            self.assertEqual(405, self.ask(f"/{name}/x", "POST", b"").status)
        self.assertNotIn("starting server", self.process.log)
        for name in ("tcp", "unix", "own"):
            websocket = self.open(f"/{name}/any/path", subprotocols=[Subprotocol("binary"), Subprotocol("x")])
            self.assertEqual("binary", websocket.subprotocol)
            websocket.send("grün")
            self.assertEqual("grün".encode(), websocket.recv(SECONDS))
            sent = bytes(range(256)) * 8000
            sender = threading.Thread(target=websocket.send, args=(sent,))
            sender.start()
            got = b""
            while len(got) < len(sent):
                message = websocket.recv(SECONDS)
                assert isinstance(message, bytes)
                got += message
            sender.join(SECONDS)
            self.assertEqual(sent, got)
            websocket.send("end")
            self.assertEqual(b"end", websocket.recv(SECONDS))
            with self.assertRaises(ConnectionClosed) as caught:
                websocket.recv(SECONDS)
            assert caught.exception.rcvd is not None
            self.assertEqual(1000, caught.exception.rcvd.code)


class ManualTests(ManagedCase):
    """The examples of jupyter-server-proxy's manual, below a base URL as a Hub gives it."""

    base_url = "/user/u1/"

    def test_http_server(self) -> None:
        """With and without `absolute_url`: the server sees the stripped path, or the whole one."""
        (self.directory / "file.txt").write_text("stripped")
        whole = self.directory / "user/u1/absolute"
        whole.mkdir(parents=True)
        (whole / "file.txt").write_text("whole")
        command = ["python3", "-m", "http.server", "{port}", "--bind", "127.0.0.1"]
        self.serve(stripped={"command": command}, absolute={"command": command, "absolute_url": True})
        for name, expected in (("stripped", b"stripped"), ("absolute", b"whole")):
            self.assertEqual(expected, self.ask(f"/user/u1/{name}/file.txt").body)
        # What the server redirects to comes back below its prefix.
        (self.directory / "user").mkdir(exist_ok=True)
        self.assertEqual("/user/u1/stripped/user/", self.ask("/user/u1/stripped/user").field("location"))

    def test_callables_and_templates(self) -> None:
        """`_cmd_callback()` and `_cmd_callback(port)`, whose results are templates; `{base_url}proxy/{port}`."""
        self.write(
            "import sys\n"
            f"APPLICATION = {list(APPLICATION)!r}\n"
            "def _cmd_callback():\n    return [*APPLICATION, '{port}']\n"
            "def _cmd_callback_port(port):\n    return [*APPLICATION, str(port)]\n"
            "def headers(base_url, port):\n    return {'X-Own': '{base_url}proxy/{port}'}\n",
            "manual.py",
        )
        self.text = (
            f"{OPEN}base_url: {self.base_url}\npython_path: [.]\nservers:\n"
            "  none: {command: !python manual:_cmd_callback, request_headers_override: !python manual:headers}\n"
            "  port: {command: !python manual:_cmd_callback_port,\n"
            "         request_headers_override: {X-Own: '{base_url}proxy/{port}'}}\n"
        )
        self.proxyd = self.start(self.text)
        self.process = self.proxyd.process
        for name in ("none", "port"):
            fields = dict(self.ask(f"/user/u1/{name}/").told["fields"])
            self.assertRegex(fields["X-Own"], r"^/user/u1/proxy/[0-9]+$")
            self.assertEqual(f"/user/u1/{name}", fields["X-Forwarded-Context"])

    def test_a_package(self) -> None:
        """One module that an entry point names, as the manual makes it; it is called once, and told of once."""
        self.write(
            "import sys\n"
            "print('openrefine is asked', file=sys.stderr, flush=True)\n"
            "def setup_openrefine():\n"
            "    print('openrefine is called', file=sys.stderr, flush=True)\n"
            f"    return {{'command': [*{list(APPLICATION)!r}, '{{port}}'], 'timeout': 30, 'new_browser_window': 1}}\n",
            "packages/openrefine.py",
        )
        self.write(
            "[jupyter_serverproxy_servers]\nopenrefine = openrefine:setup_openrefine\n", f"{DIST}/entry_points.txt"
        )
        self.write("Metadata-Version: 2.1\nName: jupyter-openrefine-server\nVersion: 1\n", f"{DIST}/METADATA")
        self.environ["PYTHONPATH"] = str(self.directory / "packages")
        self.serve("server_packages: [openrefine]")
        self.assertEqual("/x", self.ask("/user/u1/openrefine/x").told["path"])
        self.assertEqual(1, self.process.log.count("openrefine is called"))
        self.assertEqual(1, self.process.log.count("openrefine: new_browser_window is not known and left out"))
        pid = self.ask("/user/u1/openrefine/").told["pid"]
        self.reload(more={"command": application()})
        self.assertEqual(pid, self.ask("/user/u1/openrefine/").told["pid"])
        self.assertEqual(1, self.process.log.count("openrefine is called"))

    def test_problems_of_imports_end_the_start(self) -> None:
        """With status 78 and one line, in every command."""
        file = str(self.write(f"{OPEN}server_packages: [absent]\n"))
        for words in (("serve", "--config", file), ("check", file)):
            status, _, errors = self.end(*MODULE[:-1], *words)
            self.assertEqual(78, status)
            self.assertEqual("server_packages: no installed package brings the server absent", errors.strip())
