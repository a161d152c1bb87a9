"""Routes in a SQLite file, and real processes that end in every way."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Process, script, wait_for

# How many changes are asked for in `KillTests`, until the process is killed somewhere in between, and how often.
CHANGES = int(os.environ.get("PROXYD_TEST_CHANGES", "300"))
KILLS = int(os.environ.get("PROXYD_TEST_KILLS", "2"))
CLIENTS = 8
# Of a replacement of all of them.
REPLACED = 3000


class StoreTests(SynchronousTestCase):
    """In an empty directory."""

    store = "{kind: sqlite, path: routes.sqlite}"

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-sqlite-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = self.directory / "routes.sqlite"
        self.config = self.directory / "proxyd.yaml"
        self.config.write_text(
            "listeners: [{kind: http, port: 0}]\napi: {port: 0, open: true}\n"
            f"state_directory: .\nstore: {self.store}\n"
        )

    def serve(self) -> Process:
        """A proxy that is ready."""
        process = Process(self, script("proxyd"), "serve", "--config", self.config, cwd="/")
        self.port = self.told(process, "Proxying ")
        self.api_port = self.told(process, "Proxy API at ")
        return process

    def told(self, process: Process, words: str) -> int:
        match = re.search(words + r"http://[^/ ]+:(\d+)", process.wait_for_log(words, 60))
        assert match is not None
        return int(match[1])

    def ask(self, method: str, key: str, target: str = "") -> int:
        """The status of a change."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=30)
        with closing(connection):
            connection.request(method, f"/api/routes{key}", json.dumps({"target": target}) if target else None)
            response = connection.getresponse()
            self.answer = response.read().decode()
            return response.status

    def routes(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=30)
        with closing(connection):
            connection.request("GET", "/api/routes")
            routes: dict[str, Any] = json.loads(connection.getresponse().read())
            return routes

    def stop(self, process: Process) -> None:
        process.send(signal.SIGTERM)
        self.assertEqual(process.wait(30), 0, process.log)
        self.assertNotIn("Traceback", process.log)

    def assert_fails(self, words: str) -> None:
        """Neither command starts; each says why in one line."""
        for command in (("proxyd", "serve"), ("twistd", "-n", "--pidfile=", "proxyd")):
            process = Process(self, script(command[0]), *command[1:], "--config", self.config, cwd=self.directory)
            self.assertEqual(process.wait(30), 1, process.log)
            self.assertEqual(process.log.count(f"proxyd: store {self.path.resolve()}: {words}"), 1, process.log)
            self.assertNotIn("Traceback", process.log)
            self.assertNotIn("Proxying", process.log)

    def command(self, *words: str | Path) -> tuple[int, str]:
        """Status and output of `proxyd routes`."""
        name, *rest = words
        process = Process(self, script("proxyd"), "routes", name, "--config", self.config, *rest, cwd=self.directory)
        return process.wait(60), process.log


class KillTests(StoreTests):
    """An end without any warning; the file is in the state directory, as it is when nobody says where."""

    store = "{kind: sqlite}"

    def test_what_was_answered_survives_a_kill(self) -> None:
        """Every change that was answered is there after `kill -9`, in the last form that was answered or asked for.

        Again and again, with the same file.
        """
        known: dict[str, str] = {}
        for kill in range(KILLS):
            asked, answered = self.change_until_killed(kill, known)
            process = self.serve()
            found = {key: route["target"] for key, route in self.routes().items()}
            wrong = []
            for key, targets in asked.items():
                possible = targets[answered.get(key, 0) :]
                if found.get(key, "") not in possible:
                    wrong.append((key, possible, found.get(key)))
            self.assertEqual(wrong, [])
            untouched = {key: target for key, target in known.items() if key not in asked}
            self.assertEqual({key: found.get(key) for key in untouched}, untouched)
            self.assertLessEqual(found.keys(), asked.keys() | known.keys())
            self.assertEqual(self.ask("POST", "/after", "http://h"), 201)
            known = {**found, "/after": "http://h"}
            self.stop(process)
            if "PROXYD_TEST_KILLS" in os.environ:
                print(
                    f"kill {kill + 1}: of {CHANGES} changes {self.count} were answered, for {len(answered)} routes, "
                    f"and 0 are lost; {len(found)} routes found"
                )

    def test_a_replacement_is_there_as_a_whole_or_not_at_all(self) -> None:
        """Wherever the kill comes; and as a whole if it was answered."""
        process = self.serve()
        few = {f"/few/{number}": "http://h" for number in range(50)}
        self.assertEqual(self.replace(few), 200)
        known = few
        log = self.directory / "routes.sqlite-wal"
        for kill in range(KILLS):
            wanted = {f"/many/{kill}/{number}": "http://h" for number in range(REPLACED)}
            size = log.stat().st_size
            answers: list[int] = []

            def work(wanted: dict[str, str] = wanted, answers: list[int] = answers) -> None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    answers.append(self.replace(wanted))

            thread = threading.Thread(target=work)
            thread.start()
            # The first one while it is being read, the second one while it is written, and so on.
            wait_for(lambda: answers or kill % 2 == 0 or log.stat().st_size > size, "a beginning", 60, 0.0005)  # noqa: B023
            process.send(signal.SIGKILL)
            process.wait()
            thread.join()
            process = self.serve()
            found = {key: route["target"] for key, route in self.routes().items()}
            self.assertIn(found, [wanted] if answers else [known, wanted])
            known = found
        self.stop(process)

    def replace(self, routes: dict[str, str]) -> int:
        """The status of a PUT of all routes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=60)
        with closing(connection):
            body = json.dumps({key: {"target": target} for key, target in routes.items()})
            connection.request("PUT", "/api/routes", body)
            response = connection.getresponse()
            response.read()
            return response.status

    def change_until_killed(self, seed: int, known: dict[str, str]) -> tuple[dict[str, list[str]], dict[str, int]]:
        """Kill a process while clients change routes.

        Of each route: what it was before and what was asked for, in order, and which of these was answered last.
        """
        process = self.serve()
        asked: dict[str, list[str]] = {}
        answered: dict[str, int] = {}
        counts = [0] * CLIENTS
        chosen = random.Random(seed)
        limit = chosen.randrange(CHANGES // 4, CHANGES * 3 // 4)
        seeds = [chosen.random() for _ in range(CLIENTS)]

        def work(client: int) -> None:
            chooser = random.Random(seeds[client])
            for number in range(CHANGES // CLIENTS):
                key = f"/{client}/{chooser.randrange(CHANGES // CLIENTS // 2 or 1)}"
                target = "" if number % 5 == 4 else f"http://h{seed}:{number + 1}"
                asked.setdefault(key, [known.get(key, "")]).append(target)
                try:
                    status = self.ask("POST" if target else "DELETE", key, target)
                except (OSError, http.client.HTTPException):
                    return  # it was killed
                assert status in {201, 204, 404}, status
                answered[key] = len(asked[key]) - 1
                counts[client] += 1

        threads = [threading.Thread(target=work, args=(client,)) for client in range(CLIENTS)]
        for thread in threads:
            thread.start()
        with process.log_on_failure():
            wait_for(lambda: sum(counts) >= limit, "enough changes", 120, 0.001)
        process.send(signal.SIGKILL)
        process.wait()
        for thread in threads:
            thread.join()
        self.count = sum(counts)
        return asked, answered


class FaultTests(StoreTests):
    """What can be wrong with the file."""

    def test_routes_survive_a_restart(self) -> None:
        """With their last activity, which is written at the end."""
        process = self.serve()
        self.assertEqual(self.ask("POST", "/api", f"http://127.0.0.1:{self.api_port}"), 201)
        before = self.routes()["/api"]["last_activity"]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with closing(connection):
            connection.request("GET", "/api/routes")
            self.assertEqual(connection.getresponse().status, 200)
        # A worker tells the controller of it in a moment.
        wait_for(lambda: self.routes()["/api"]["last_activity"] > before, "the activity", 30)
        last_activity = self.routes()["/api"]["last_activity"]
        self.stop(process)
        self.assertEqual(sorted(path.name for path in self.directory.glob("routes*")), [
            "routes.sqlite", "routes.sqlite.lock"
        ])  # fmt: skip
        process = self.serve()
        self.assertEqual(self.routes()["/api"]["last_activity"], last_activity)
        self.stop(process)

    def test_a_second_process_does_not_start(self) -> None:
        """And does nothing to the first one."""
        process = self.serve()
        self.assert_fails(f"is in use by another proxyd, process {process.pid}")
        self.assertEqual(self.ask("POST", "/a", "http://h"), 201)
        self.stop(process)

    def test_a_file_that_is_no_store(self) -> None:
        """Ends the process at the start, and stays as it was."""
        self.path.write_text("no database")
        self.assert_fails("is not a SQLite database")
        self.assertEqual(self.path.read_text(), "no database")

    def test_a_full_disk(self) -> None:
        """A change is answered with 500 and nothing has changed; as soon as there is room everything works."""
        process = self.serve()
        self.assertEqual(self.ask("POST", "/a", "http://h"), 201)
        size = (self.directory / "routes.sqlite-wal").stat().st_size
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        for method, key, target in (("POST", "/b", "http://h"), ("POST", "/a", "http://x"), ("DELETE", "/a", "")):
            self.assertEqual(self.ask(method, key, target), 500)
            self.assertRegex(json.loads(self.answer)["message"], r"^the route store: .* \(SQLITE_[A-Z_]+\)$")
        self.assertEqual({key: route["target"] for key, route in self.routes().items()}, {"/a": "http://h"})
        process.wait_for_log(f"store {self.path.resolve()}: failed: ")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
        self.assertEqual(self.ask("POST", "/b", "http://h"), 201)
        self.assertEqual(self.ask("DELETE", "/a"), 204)
        process.send(signal.SIGKILL)
        process.wait()
        process = self.serve()
        self.assertEqual(self.routes().keys(), {"/b"})
        self.stop(process)

    def test_back_up_and_restore(self) -> None:
        """Made while it runs, put back while it does not; nothing that was there is lost."""
        process = self.serve()
        for number in range(3):
            self.assertEqual(self.ask("POST", f"/r{number}", "http://h"), 201)
        self.assertEqual(self.command("backup", "copy"), (0, "copy: 3 routes\n"))
        status, words = self.command("backup", "copy")
        self.assertEqual((status, words), (1, "proxyd: store copy: cannot be written: File exists\n"))
        self.assertEqual(self.ask("DELETE", "/r1"), 204)
        status, words = self.command("restore", "copy")
        self.assertEqual((status, words.count("\n")), (1, 1))
        self.assertIn(f"is in use by another proxyd, process {process.pid}", words)
        process.send(signal.SIGKILL)  # so that there is a log beside the file, which has the deletion
        process.wait()
        status, words = self.command("restore", "copy")
        self.assertEqual((status, words.splitlines()[1]), (0, f"{self.path}: 3 routes"))
        (former,) = (path for path in self.directory.glob("*.before-restore-*") if not path.name.endswith(("l", "m")))
        self.assertEqual(words.splitlines()[0], f"the former store is {former}")
        process = self.serve()
        self.assertEqual(self.routes().keys(), {"/r0", "/r1", "/r2"})
        self.stop(process)
        with closing(sqlite3.connect(former)) as connection:
            self.assertEqual(connection.execute("SELECT key FROM route").fetchall(), [("/r0",), ("/r2",)])
