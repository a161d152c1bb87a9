"""A storage class of the user's own in real processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import tempfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.stores.storage import StorageClassConfig
from tests.support import CHECKOUT, Process, free_port, script

MANUAL = CHECKOUT / "docs" / "howto" / "storage-class.md"

# Beside the class of the manual. What they do later, they do when the reactor turns.
MORE_CLASSES = """
from twisted.internet import reactor
from twisted.internet.task import deferLater


class Sulking(RoutesFile):
    def write(self, routes):
        if os.path.exists("sulk"):
            raise RuntimeError("not today")
        super().write(routes)


class Async(RoutesFile):
    async def getAll(self):
        await deferLater(reactor, 0.2)
        if os.path.exists("sulk"):
            raise RuntimeError("not today")
        return RoutesFile.getAll(self)

    async def get(self, path):
        return RoutesFile.getAll(self).get(path)

    async def add(self, path, data):
        await deferLater(reactor, 0)
        self.write({**RoutesFile.getAll(self), path: data})

    async def remove(self, path):
        routes = RoutesFile.getAll(self)
        routes.pop(path, None)
        self.write(routes)


class Unmade(RoutesFile):
    def __init__(self, options):
        raise RuntimeError("not today")
"""


class Hello(BaseHTTPRequestHandler):
    """An upstream."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


class StorageTests(SynchronousTestCase):
    """In an empty directory with a module of storage classes; an upstream is there."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-storage-"))
        self.addCleanup(shutil.rmtree, self.directory)
        (code,) = re.findall(r"```python\n(.*?)```", MANUAL.read_text(), re.DOTALL)
        (self.directory / "own_storage.py").write_text(code + MORE_CLASSES)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        self.target = f"http://127.0.0.1:{server.server_port}"

    def configure(self, name: str) -> Path:
        """A configuration with that class."""
        file = self.directory / "proxyd.yaml"
        file.write_text(
            "listeners: [{kind: http, port: 0}]\napi: {port: 0, open: true}\n"
            f"state_directory: .\nstore: {{kind: class, path: 'own_storage:{name}', options: {{path: kept.json}}}}\n"
        )
        return file

    def serve(self, name: str) -> Process:
        """Run natively, with the directory's modules found because the configuration is there."""
        elsewhere = self.directory / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        process = Process(self, script("proxyd"), "serve", "--config", self.configure(name), cwd=elsewhere)
        self.public = self.told(process, "Proxying ")
        self.api = self.told(process, "Proxy API at ")
        return process

    def told(self, process: Process, words: str) -> str:
        """The URL that the log tells behind `words`."""
        match = re.search(words + r"(http://[^/ ]+)", process.wait_for_log(words))
        assert match is not None
        return match[1]

    def chp(self, name: str, *words: str) -> Process:
        """Run in place of configurable-http-proxy, in the directory."""
        port, api_port = free_port(), free_port()
        self.public, self.api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{api_port}"
        command = (script("proxyd"), "chp", f"--port={port}", "--ip=127.0.0.1", f"--api-port={api_port}")
        words = (*words, "--api-ip=127.0.0.1", f"--storage-backend={name}")
        return Process(self, *command, *words, cwd=self.directory)

    def ask(self, url: str, method: str = "GET", body: Any = None) -> tuple[int, bytes]:
        """The status and the body of an answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def routes(self) -> dict[str, Any]:
        """What the API tells."""
        status, body = self.ask(f"{self.api}/api/routes")
        self.assertEqual(status, 200)
        routes: dict[str, Any] = json.loads(body)
        return routes

    def stop(self, process: Process) -> None:
        """End it in good order."""
        process.send(signal.SIGTERM)
        process.wait()
        self.assertNotIn("Traceback", process.log)

    def test_routes_survive_a_restart(self) -> None:
        """With all their members and their time, and are served at once."""
        process = self.serve("RoutesFile")
        for key in ("/a", "/b"):
            status, _ = self.ask(f"{self.api}/api/routes{key}", "POST", {"target": self.target, "user": [key]})
            self.assertEqual(status, 201)
        self.assertEqual(self.ask(f"{self.api}/api/routes/b", "DELETE")[0], 204)
        before = self.routes()
        self.stop(process)
        process = self.serve("RoutesFile")
        self.assertEqual(self.ask(f"{self.public}/a")[1], b"hello")
        self.assertEqual(self.ask(f"{self.public}/b")[0], 404)
        (key, route), = self.routes().items()  # fmt: skip
        self.assertEqual((key, route["target"], route["user"]), ("/a", self.target, ["/a"]))
        self.assertGreaterEqual(route["last_activity"], before["/a"]["last_activity"])
        self.stop(process)

    def test_routes_survive_a_restart_of_chp(self) -> None:
        """With a class that takes its time; a client that comes early is served when the routes are there."""
        process = self.chp("own_storage:Async", f"--default-target={self.target}")
        process.wait_for_log("Proxy API at", 30)
        self.assertEqual(self.ask(f"{self.api}/api/routes/a", "POST", {"target": self.target})[0], 201)
        self.stop(process)
        self.assertEqual(json.loads((self.directory / "routes.json").read_text()).keys(), {"/", "/a"})
        process = self.chp("own_storage:Async")

        def ask_at_once() -> tuple[int, bytes] | None:
            try:
                return self.ask(f"{self.public}/a")
            except urllib.error.URLError:
                return None  # nobody listens yet

        self.assertEqual(process.wait_for(ask_at_once, "an answer", interval=0.001), (200, b"hello"))
        self.assertEqual(self.routes().keys(), {"/", "/a"})
        self.stop(process)

    def test_a_failing_storage_leaves_the_routes_alone(self) -> None:
        """The API answers 500, old routes are served, and when it works again so does the API."""
        process = self.serve("Sulking")
        elsewhere = self.directory / "elsewhere"
        self.ask(f"{self.api}/api/routes/a", "POST", {"target": self.target})
        (elsewhere / "sulk").touch()
        for method, body in (("POST", {"target": "http://127.0.0.1:1"}), ("DELETE", None)):
            status, text = self.ask(f"{self.api}/api/routes/a", method, body)
            self.assertEqual(status, 500)
            self.assertNotIn(b"today", text)
        process.wait_for_log("store own_storage:Sulking: remove failed: RuntimeError: not today")
        self.assertEqual(self.ask(f"{self.public}/a"), (200, b"hello"))
        (elsewhere / "sulk").unlink()
        self.assertEqual(self.ask(f"{self.api}/api/routes/a", "DELETE")[0], 204)
        self.assertEqual(self.ask(f"{self.public}/a")[0], 404)
        self.stop(process)

    def test_the_configuration_of_the_manual(self) -> None:
        """It names the class of the manual."""
        (text,) = re.findall(r"```yaml\n(.*?)```", MANUAL.read_text(), re.DOTALL)
        options = {"path": "/var/lib/proxyd/routes.json"}
        self.assertEqual(parse(text, KINDS).store, StorageClassConfig(path="routes_file:RoutesFile", options=options))

    def assert_fails(self, process: Process, words: str) -> None:
        """It ends with status 1 and one line."""
        self.assertEqual(process.wait(), 1, process.log)
        self.assertEqual(process.log.count(words), 1, process.log)
        self.assertNotIn("Traceback", process.log)
        self.assertNotIn("Proxying", process.log)

    def test_what_cannot_be_used_ends_chp(self) -> None:
        """A name without a module, a module that is not there, and a class that cannot be made."""
        for name, words in (
            ("redis", "proxyd chp: --storage-backend: expected package.module:Class"),
            ("nowhere:Class", "proxyd chp: store nowhere:Class: cannot be imported: ModuleNotFoundError"),
            ("own_storage:Nope", "proxyd chp: store own_storage:Nope: own_storage has no Nope"),
            ("own_storage:Unmade", "proxyd chp: store own_storage:Unmade: cannot be made: RuntimeError: not today"),
        ):
            process = self.chp(name)
            self.assert_fails(process, words)
            self.assertEqual(process.log.count("\n"), 1 + process.log.count("not authenticated"), process.log)

    def test_a_storage_that_fails_at_the_start_ends_the_process(self) -> None:
        """Under each command, also when it fails only after the reactor has begun to turn."""
        (self.directory / "sulk").touch()
        (self.directory / "routes.json").write_text("no JSON")
        (self.directory / "kept.json").write_text("no JSON")
        for name, words in (("RoutesFile", "JSONDecodeError"), ("Async", "RuntimeError: not today")):
            line = f"proxyd: store own_storage:{name}: getAll failed: {words}"
            config = self.configure(name)
            self.assert_fails(Process(self, script("proxyd"), "serve", "-c", config, cwd=self.directory), line)
            twistd = (script("twistd"), "-n", "--pidfile=", "proxyd", "--config", config)
            self.assert_fails(Process(self, *twistd, cwd=self.directory), line)
            line = line if name == "Async" else line.replace("proxyd:", "proxyd chp:")
            self.assert_fails(self.chp(f"own_storage:{name}"), line)
