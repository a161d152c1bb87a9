"""Managed servers of a real proxyd: they end with it, however it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import sys
from pathlib import Path

from tests.integration.test_serve import OPEN, SERVE, CommandCase
from tests.supervisor.support import is_alive, marked, program
from tests.support import CHECKOUT, Process, wait_for
from tests.wire import connect

SECONDS = 60.0


class ServersCase(CommandCase):
    """`proxyd serve` with `servers`."""

    workers = 1

    def serve(self, **servers: object) -> Process:
        config = self.write(f"{OPEN}workers: {self.workers}\nservers: {json.dumps(servers)}\n")
        return Process(self, *SERVE, "--config", config, env={**self.environ, "TMPDIR": str(self.directory)})

    def children(self, proxyd: Process) -> list[int]:
        """The processes of servers; not proxyd itself, what watches it, and its workers."""
        ours = set(marked())
        return [pid for pid in proxyd.family() if pid in ours]


class ServersTests(ServersCase):
    """What runs, and with what."""

    def test_only_eager_servers_run(self) -> None:
        """The others wait for who needs them; what a server prints is in the log, with its name."""
        proxyd = self.serve(eager={"command": program(), "start": "eager"}, lazy={"command": program("--print=never")})
        proxyd.wait_for_log("[eager] listening", SECONDS)
        self.assertEqual(len(self.children(proxyd)), 1)
        self.assertNotIn("never", proxyd.log)

    def test_a_signal_is_passed_on(self) -> None:
        """The same one; the exit status is 0, and nothing is left behind."""
        for number in (signal.SIGTERM, signal.SIGINT):
            note = self.directory / number.name
            proxyd = self.serve(
                noting={"command": program(f"--note-signals={note}"), "start": "eager"},
                private={"command": program(place="{unix_socket}"), "unix_socket": True, "start": "eager"},
            )
            proxyd.wait_for_log("server noting is ready", SECONDS)
            proxyd.wait_for_log("server private is ready", SECONDS)
            (socket,) = self.directory.glob("proxyd-*/socket")
            self.assertTrue(stat.S_ISSOCK(socket.stat().st_mode))
            proxyd.send(number)
            self.assertEqual(proxyd.wait(SECONDS), 0)
            self.assertEqual(note.read_text(), f"{number.name}\n")
            self.assertEqual(proxyd.family(), [])
            self.assertFalse(socket.parent.exists())

    def test_a_signal_during_a_start_orphans_nobody(self) -> None:
        """Whenever it comes."""
        for text in ("Proxy API at", "starting server app"):
            proxyd = self.serve(app={"command": ["sh", "-c", "sleep 600; true"], "start": "eager"})
            proxyd.wait_for_log(text, SECONDS)
            proxyd.send(signal.SIGTERM)
            self.assertEqual(proxyd.wait(SECONDS), 0)
            self.assertEqual(proxyd.family(), [])

    def test_children_have_the_limits_that_we_were_started_with(self) -> None:
        """We raise ours; a program that closes all descriptors would take for ever."""
        proxyd = self.serve(app={"command": ["sh", "-c", "ulimit -n; exit 1"], "start": "eager"})
        line = proxyd.wait_for_log("[app] ", SECONDS)
        self.assertEqual(line.rpartition(" ")[2], os.popen("ulimit -n").read().strip())

    def test_a_problem_in_the_servers_names_server_and_key(self) -> None:
        """With its line, and nothing starts."""
        config = self.write("servers:\n  app:\n    command: notebook\n    instances: 0\n")
        proxyd = Process(self, *SERVE, "--config", config, env=self.environ)
        self.assertEqual(proxyd.wait(SECONDS), 78)
        self.assertIn(":3:14: servers.app.command: expected a list or !python module:attribute", proxyd.log)

    def test_orphans_are_reaped(self) -> None:
        """By who is their parent then, as the first process of a container is."""
        command = ["sh", "-c", f"(sleep 1 & echo orphan $!); exec {shlex.join(program())}"]
        config = self.write(f"{OPEN}servers: {json.dumps({'app': {'command': command, 'start': 'eager'}})}\n")
        adopt = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])"
        proxyd = Process(self, sys.executable, "-c", adopt, *SERVE, "--config", config, env=self.environ)
        pid = int(proxyd.wait_for_log("[app] orphan ", SECONDS).rpartition(" ")[2])
        proxyd.wait_for_log("server app is ready", SECONDS)
        proxyd.wait_for(lambda: not Path("/proc", str(pid)).exists(), "the end of the orphan", SECONDS)
        proxyd.send(signal.SIGTERM)
        self.assertEqual(proxyd.wait(SECONDS), 0)

    def test_a_function_that_never_returns_keeps_nothing(self) -> None:
        """Neither the client that leaves, nor the end."""
        proxyd = self.start(
            f"{OPEN}workers: {self.workers}\npython_path: ['{CHECKOUT}']\nservers:\n"
            "  app: {port: 9, update_last_activity: !python 'tests.integration.rewriters:stall'}\n"
        )
        client = connect(proxyd.port)
        client.send(b"GET /app/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
        wait_for((self.directory / "stalled").exists, "the call", SECONDS)
        client.close()
        proxyd.process.send(signal.SIGTERM)
        self.assertEqual(proxyd.process.wait(SECONDS), 0)


class EndTests(ServersCase):
    """Nothing is left."""

    def test_nothing_outlives_a_signal(self) -> None:
        """Neither a command that ignores it, nor what a shell has started, nor what has left its session."""
        for number in (signal.SIGTERM, signal.SIGINT):
            stays, escapes = (shlex.join(program(f"--grandchild={way}")) for way in ("stay", "escape"))
            proxyd = self.serve(
                ignores={"command": program("--ignore-signals"), "start": "eager", "stop_grace": "1s"},
                shell={"command": ["sh", "-c", f"{stays}; true"], "start": "eager", "stop_grace": "1s"},
                leaves={"command": ["sh", "-c", f"{escapes}; true"], "start": "eager", "stop_grace": "1s"},
                loud={"command": ["sh", "-c", "trap '' TERM INT; while :; do echo x; done"], "start": "eager",
                      "stop_grace": "1s"},
            )  # fmt: skip
            for name in ("ignores", "shell", "leaves"):
                proxyd.wait_for_log(f"[{name}] listening", SECONDS)
            proxyd.wait_for_log("[loud] x", SECONDS)
            self.assertGreaterEqual(len(self.children(proxyd)), 8)
            proxyd.send(number)
            self.assertEqual(proxyd.wait(SECONDS), 0)
            self.assertEqual(proxyd.family(), [])

    def test_nothing_outlives_a_killed_proxyd(self) -> None:
        """Neither groups, nor what left them, nor private directories."""
        proxyd = self.serve(
            stays={"command": program("--ignore-signals", "--grandchild=stay"), "start": "eager"},
            escapes={
                "command": program("--grandchild=escape", place="{unix_socket}"),
                "unix_socket": True,
                "start": "eager",
            },
        )
        proxyd.wait_for_log("server stays is ready", SECONDS)
        proxyd.wait_for_log("server escapes is ready", SECONDS)
        children = self.children(proxyd)
        self.assertEqual(len(children), 4)
        proxyd.send(signal.SIGKILL)
        proxyd.wait(SECONDS)
        wait_for(lambda: not any(map(is_alive, children)), "the end of all children", SECONDS)
        wait_for(lambda: not list(self.directory.glob("proxyd-*")), "the end of the directory", SECONDS)


class WorkersEndTests(EndTests):
    """The same with several workers, none of which has a server of its own."""

    workers = 2
