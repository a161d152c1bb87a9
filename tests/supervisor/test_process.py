"""Tests of children, what they print, and who watches over them."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.errors import ServerStartError
from proxyd.model.servers import Readiness, ServerSpec
from proxyd.option import Seconds
from proxyd.supervisor.output import Output
from proxyd.supervisor.process import Child, Command, Exit, child_environment, family_of
from proxyd.supervisor.watcher import MARK, Watcher
from tests.supervisor.support import SupervisorCase, global_reactor, is_alive
from tests.support import wait_for


class Late:
    """A reactor that does not go on before a child has ended."""

    def __getattr__(self, name: str) -> Any:
        return getattr(global_reactor, name)

    def addReader(self, reader: Any) -> None:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        global_reactor.addReader(reader)


class ChildTests(TestCase):
    """`Child`."""

    async def test_a_child_that_ends_at_once_is_not_lost(self) -> None:
        """Even when it is reaped while it is made: its id is known, and its end is told afterwards."""
        told: list[tuple[str, int]] = []
        ended: Deferred[Exit] = Deferred()
        child = Child(
            Late(),
            Command(argv=("sh", "-c", "exit 3"), environment=os.environ, mark="x"),
            Output("x", print),
            exited=lambda child: told.append(("exited", child.pid)),
            ended=lambda _, end: ended.callback(end),
        )
        self.assertFalse(child.is_alive)
        self.assertEqual(told, [])
        self.assertEqual(await ended, Exit("ended with exit status 3", status=3))
        self.assertEqual(told, [("exited", child.pid)])
        self.assertEqual(child.family(), [])

    def test_no_family_is_that_of_the_kernel(self) -> None:
        """Nor ours: a signal to it would hit everybody."""
        for group in (-5, 0, 1):
            self.assertRaises(ValueError, family_of, group, "x")

    def test_a_family_does_not_depend_on_names(self) -> None:
        """A program may be called whatever it likes."""
        program = Path(self.mktemp()).absolute() / ") Z 1 1"
        program.parent.mkdir()
        program.symlink_to("/bin/sleep")
        child = subprocess.Popen([program, "600"], start_new_session=True)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        wait_for(lambda: family_of(child.pid, "nobody") == [child.pid], "the child")

    def test_the_environment_of_a_user_is_its_own(self) -> None:
        """But for what is given."""
        nobody = pwd.getpwnam("nobody")
        environment = child_environment({"HOME": "/root", "A": "1"}, {"USER": "x"}, "nobody", "m")
        self.assertEqual(environment, {"HOME": nobody.pw_dir, "USER": "x", "LOGNAME": "nobody", "A": "1", MARK: "m"})


class UserTests(SupervisorCase):
    """`user`, which takes root."""

    async def test_a_server_runs_as_its_user(self) -> None:
        """With its groups, and in a private directory that is its own."""
        nobody = pwd.getpwnam("nobody")
        supervisor = self.supervise(
            app=ServerSpec(
                command=("sh", "-c", "id -u; id -g; id -G; touch $(dirname {unix_socket})/mine && echo yes; exit 0"),
                user="nobody",
                unix_socket=True,
                ready=Readiness(timeout=Seconds(30)),
            )
        )
        error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        groups = " ".join(map(str, os.getgrouplist("nobody", nobody.pw_gid)))
        self.assertEqual(error.lines, (str(nobody.pw_uid), str(nobody.pw_gid), groups, "yes"))


class OutputTests(SynchronousTestCase):
    """`Output`."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        self.output = Output("app", self.lines.append)

    def test_lines_are_put_together(self) -> None:
        """Each stream for itself, whatever pieces they come in, and what is no text is replaced."""
        for stream, data in ((1, b"on"), (2, b"er"), (1, b"e\r\ntw"), (2, b"r\n"), (1, b"o\n\n\xff"), (1, b"x\nrest")):
            self.output.feed(stream, data)
        self.assertEqual(self.lines, ["one", "err", "two", "", "\ufffdx"])
        self.output.finish()
        self.output.finish()
        self.assertEqual(self.lines[5:], ["rest"])
        self.assertEqual(self.output.last(2), ("\ufffdx", "rest"))

    def test_a_line_without_an_end_is_cut(self) -> None:
        """In pieces of 64 KiB, whether it comes at once or not."""
        self.output.feed(1, b"x" * 200_000 + b"\n")
        for _ in range(200):
            self.output.feed(2, b"y" * 1000)
        self.output.finish()
        self.assertEqual(max(map(len, self.lines)), 64 * 1024)
        self.assertEqual("".join(self.lines), "x" * 200_000 + "y" * 200_000)

    def test_memory_is_bounded(self) -> None:
        """The oldest lines go first."""
        for number in range(10_000):
            self.output.feed(1, b"%d %s\n" % (number, b"x" * 100))
        kept = self.output.last(10_000)
        self.assertLessEqual(sum(map(len, kept)), 256 * 1024)
        self.assertGreater(len(kept), 2000)
        self.assertTrue(kept[-1].startswith("9999 "))


_WATCHED = """
import os, sys
from proxyd.supervisor.watcher import MARK, Watcher
watcher = Watcher(sys.argv[1])
for group in sys.argv[3].split(","):
    watcher.add_group(int(group))
watcher.add_directory(sys.argv[2])
if sys.argv[4] == "restart":
    watcher._process.kill()
    watcher._process.wait()
    watcher.remove_group(1)
    watcher.add_directory(sys.argv[2] + "2")
if sys.argv[4] == "done":
    watcher.close()
print("ready", flush=True)
sys.stdin.read()
"""


class WatcherTests(SynchronousTestCase):
    """`Watcher`."""

    def sleeper(self, **environment: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True, env={**os.environ, **environment})
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def watch_and_die(self, how: str) -> tuple[bool, bool, bool, bool]:
        """Kill a process that has a watcher; what is left of group, marked process, stranger and directory."""
        run = f"run{os.getpid()}{how}"
        group, other = self.sleeper(), self.sleeper(**{MARK: "another"})
        marked = self.sleeper(**{MARK: f"{run}.app"})
        directory = tempfile.mkdtemp(prefix="proxyd test *")
        self.addCleanup(subprocess.run, ["rm", "-rf", directory])
        watched = subprocess.Popen(
            [sys.executable, "-c", _WATCHED, run, directory, str(group.pid), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with watched:
            assert watched.stdout is not None
            self.assertEqual(watched.stdout.readline(), b"ready\n")
            watched.send_signal(signal.SIGKILL)
        if how != "done":
            wait_for(lambda: not is_alive(group.pid), "the end of the group", 30)
            wait_for(lambda: not is_alive(marked.pid), "the end of the marked process", 30)
            wait_for(lambda: not Path(directory).exists(), "the end of the directory", 30)
        return is_alive(group.pid), is_alive(marked.pid), is_alive(other.pid), Path(directory).exists()

    def test_what_is_watched_ends(self) -> None:
        """Groups, marked processes and directories; nobody else."""
        self.assertEqual(self.watch_and_die("plain"), (False, False, True, False))

    def test_a_watcher_that_was_killed_is_started_again(self) -> None:
        """And told everything."""
        self.assertEqual(self.watch_and_die("restart"), (False, False, True, False))

    def test_nothing_happens_once_it_is_closed(self) -> None:
        """The end was in order."""
        self.assertEqual(self.watch_and_die("done"), (True, True, True, True))

    def test_what_is_not_watched_any_more_is_left_alone(self) -> None:
        """A group id may be that of somebody else by then."""
        watcher = Watcher("nobody")
        group = self.sleeper()
        watcher.add_group(group.pid)
        watcher.remove_group(group.pid)
        process = watcher._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        self.assertTrue(is_alive(group.pid))
