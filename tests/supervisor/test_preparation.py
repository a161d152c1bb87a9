"""What comes before the start: real git with local repositories, and a conda that is none."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor as global_reactor  # noqa: TID251  # real children
from twisted.internet.process import ProcessReader
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from proxyd.core.checkout import Checkout
from proxyd.core.conda import CondaEnvironment
from proxyd.supervisor.preparation import Preparation, State
from tests.supervisor.support import until

ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": os.devnull}


def git(folder: Path, *words: str) -> str:
    """Run git in `folder`, and return what it prints."""
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=ENVIRON).stdout


def commit(folder: Path, **files: str | None) -> None:
    """Commit files with these contents, None for one that is deleted; `__` in a name is a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "work")


class PreparationCase(TestCase):
    timeout = 120.0

    def setUp(self) -> None:
        """There is a repository, whose branch is called neither main nor master."""
        self.directory = Path(self.mktemp()).absolute()
        self.origin = self.directory / "origin"
        self.origin.mkdir(parents=True)
        git(self.origin, "init", "-q", "-b", "trunk")
        commit(self.origin, a__txt="one", gone__txt="here")
        self.folder = self.directory / "work"

    async def run_until(self, state: State, preparation: Preparation) -> Preparation:
        self.addCleanup(preparation.close)
        preparation.begin()
        await until(lambda: preparation.state != "running", "the end of the preparation")
        self.assertEqual(state, preparation.state, (preparation.reason, list(preparation.lines)))
        return preparation

    async def check_out(self, state: State = "done", branch: str = "", url: str = "") -> Preparation:
        checkout = Checkout(url or f"file://{self.origin}", "work", branch)
        preparation = Preparation(global_reactor, checkout=checkout, environ=ENVIRON, cwd=str(self.directory))
        return await self.run_until(state, preparation)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


class CheckoutTests(PreparationCase):
    """git."""

    async def test_a_clone_has_the_remotes_branch(self) -> None:
        """With the last commit only, and `ready` is called once."""
        commit(self.origin, a__txt="two")
        called: list[int] = []
        checkout = Checkout(f"file://{self.origin}", "work")
        preparation = Preparation(
            global_reactor, checkout=checkout, environ=ENVIRON, cwd=str(self.directory), ready=lambda: called.append(1)
        )
        await self.run_until("done", preparation)
        self.assertEqual("two", self.read("a.txt"))
        self.assertEqual("1", git(self.folder, "rev-list", "--count", "HEAD").strip())
        self.assertEqual([1], called)
        self.assertIn(f"git clone --depth 1 --no-single-branch -- file://{self.origin} work", preparation.lines)

    async def test_another_branch(self) -> None:
        """At first, and later."""
        git(self.origin, "checkout", "-q", "-b", "dev")
        commit(self.origin, a__txt="dev")
        git(self.origin, "checkout", "-q", "trunk")
        await self.check_out()
        self.assertEqual("one", self.read("a.txt"))
        await self.check_out(branch="dev")
        self.assertEqual("dev", self.read("a.txt"))

    async def test_an_update_loses_nothing(self) -> None:
        """What was changed stays changed, what was deleted comes back, and what was in the way has another name."""
        await self.check_out()
        (self.folder / "a.txt").write_text("mine")
        (self.folder / "gone.txt").unlink()
        (self.folder / "new.txt").write_text("my new one")
        (self.folder / "own.txt").write_text("own")
        (self.folder / ".git/info/exclude").write_text("ignored.txt\n")
        (self.folder / "ignored.txt").write_text("my ignored one")
        commit(self.origin, a__txt="theirs", new__txt="their new one", ignored__txt="theirs, too", more__txt="more")
        await self.check_out()
        found = {path.name: path.read_text() for path in self.folder.iterdir() if path.is_file()}
        kept = {name.partition("__")[0]: text for name, text in found.items() if "__" in name}
        self.assertEqual({"new": "my new one", "ignored": "my ignored one"}, kept)
        self.assertEqual(
            ("mine", "here", "their new one", "own", "theirs, too", "more"),
            tuple(found[f"{name}.txt"] for name in ("a", "gone", "new", "own", "ignored", "more")),
        )
        self.assertEqual("", git(self.folder, "status", "--porcelain", "--untracked-files=no"))

    async def test_a_history_that_was_rewritten(self) -> None:
        """Is followed as long as nobody has worked here: with the last commit only, nothing could be merged."""
        commit(self.origin, a__txt="two")
        await self.check_out()
        for text in ("three", "four"):
            (self.origin / "a.txt").write_text(text)
            git(self.origin, "commit", "-q", "-a", "--amend", "-m", text)
            (self.folder / "own.txt").write_text("own")
            await self.check_out()
            self.assertEqual((text, "own"), (self.read("a.txt"), self.read("own.txt")))
        (self.folder / "a.txt").write_text("mine")
        commit(self.origin, gone__txt="changed")
        await self.check_out()
        self.assertEqual(("mine", "changed"), (self.read("a.txt"), self.read("gone.txt")))
        commit(self.origin, gone__txt="changed again")
        git(self.origin, "commit", "-q", "--amend", "-m", "five")
        await self.check_out()
        self.assertEqual(("mine", "changed again"), (self.read("a.txt"), self.read("gone.txt")))

    async def test_a_file_that_is_gone_everywhere(self) -> None:
        """Deleted here and there: it stays deleted."""
        await self.check_out()
        (self.folder / "gone.txt").unlink()
        commit(self.origin, gone__txt=None)
        await self.check_out()
        self.assertFalse((self.folder / "gone.txt").exists())

    async def test_locks(self) -> None:
        """An old one is taken away, a young one is somebody's."""
        await self.check_out()
        lock = self.folder / ".git/index.lock"
        lock.touch()
        preparation = await self.check_out("failed")
        self.assertIn("index.lock", preparation.reason)
        self.assertTrue(lock.exists())
        old = time.time() - 601
        os.utime(lock, (old, old))
        await self.check_out()
        self.assertFalse(lock.exists())

    async def test_a_folder_of_somebody_else(self) -> None:
        """It is not touched; an empty one is used."""
        self.folder.mkdir()
        (self.folder / "x").touch()
        self.assertIn("neither empty", (await self.check_out("failed")).reason)
        (self.folder / "x").unlink()
        await self.check_out()

    async def test_failures_are_told_without_credentials(self) -> None:
        """What git says is there, but no password is."""
        url = "http://dan:hunter2@127.0.0.1:1/app"
        preparation = await self.check_out("failed", url=url)
        self.assertIn("ended with exit status 128", preparation.reason)
        told = "\n".join([preparation.reason, *preparation.lines])
        self.assertIn("127.0.0.1:1", told)
        self.assertNotIn("hunter2", told)
        self.assertIn("fatal: ", told)

    async def test_transports_that_run_commands_are_off(self) -> None:
        """Those that a repository names itself, too."""
        await self.check_out()
        witness = self.directory / "witness"
        git(self.folder, "remote", "set-url", "origin", f"ext::touch {witness}")
        preparation = await self.check_out("failed")
        self.assertIn("transport 'ext' not allowed", "\n".join(preparation.lines))
        self.assertFalse(witness.exists())

    async def test_a_full_disk(self) -> None:
        """In a clone, in a fetch and in a merge: it is told, nothing is lost, and all is well once there is room."""
        full = self.directory / "full"
        # What a full disk does to git, a limit for files does as well: it cannot write on.
        program = self.fake(
            "git", f'case "$*" in *"$(cat {full} 2>&1)"*) trap "" XFSZ; ulimit -f 100;; esac; exec "$GIT" "$@"'
        )
        found = shutil.which("git")
        environ = {**ENVIRON, "GIT": str(found), "PATH": f"{program.parent}:{ENVIRON['PATH']}"}
        checkout = Checkout(f"file://{self.origin}", "work")

        async def check_out(state: State) -> Preparation:
            preparation = Preparation(global_reactor, checkout=checkout, environ=environ, cwd=str(self.directory))
            return await self.run_until(state, preparation)

        first, second = (os.urandom(200_000).hex() for _ in range(2))
        commit(self.origin, big__txt=first)
        for command in ("clone", "fetch", "merge"):
            full.write_text(command)
            preparation = await check_out("failed")
            self.assertRegex("\n".join(preparation.lines), "File too large|unable to write", command)
            if command == "clone":
                self.assertFalse(self.folder.exists())
            else:
                self.assertEqual((first, "mine"), (self.read("big.txt"), self.read("a.txt")))
            full.unlink()
            if command != "fetch":
                await check_out("done")
            if command == "clone":
                (self.folder / "a.txt").write_text("mine")
                commit(self.origin, big__txt=second, new__txt="new")
        self.assertEqual((second, "mine", "new"), tuple(self.read(f"{name}.txt") for name in ("big", "a", "new")))

    async def test_a_clone_that_was_killed(self) -> None:
        """With everything but the files: the next one completes it, and keeps what somebody has written there."""
        self.folder.mkdir()
        git(self.folder, "init", "-q")
        git(self.folder, "remote", "add", "origin", f"file://{self.origin}")
        (self.folder / "a.txt").write_text("mine")
        await self.check_out()
        self.assertEqual(("one", "here"), (self.read("a.txt"), self.read("gone.txt")))
        (kept,) = self.folder.glob("a__*.txt")
        self.assertEqual("mine", kept.read_text())

    async def test_a_file_that_was_changed_here_and_deleted_there(self) -> None:
        """Stays as it is here; updates go on."""
        await self.check_out()
        (self.folder / "gone.txt").write_text("mine")
        commit(self.origin, gone__txt=None, a__txt="two")
        await self.check_out()
        self.assertEqual(("two", "mine"), (self.read("a.txt"), self.read("gone.txt")))
        commit(self.origin, a__txt="three")
        await self.check_out()
        self.assertEqual(("three", "mine"), (self.read("a.txt"), self.read("gone.txt")))

    async def test_an_end_comes_at_once(self) -> None:
        """A git that is at work is killed."""
        program = self.fake("git", 'echo $$ >"$0.pid"; sleep 600')
        preparation = Preparation(
            global_reactor,
            checkout=Checkout("file:///x", "work"),
            environ={**ENVIRON, "PATH": f"{program.parent}:{ENVIRON['PATH']}"},
            cwd=str(self.directory),
        )
        preparation.begin()
        written = Path(f"{program}.pid")
        pid = await until(lambda: written.exists() and written.read_text().strip(), "git runs")
        preparation.close()
        await until(lambda: not _lives(int(str(pid))), "the end of git")
        await until(lambda: not _is_read(), "the end of what it prints")

    async def test_it_is_tried_again_after_a_while(self) -> None:
        """By the first request that comes then."""
        clock = _Clock()
        checkout = Checkout(f"file://{self.directory}/late", "work")
        preparation = Preparation(
            global_reactor, checkout=checkout, environ=ENVIRON, cwd=str(self.directory), clock=clock
        )
        await self.run_until("failed", preparation)
        self.assertEqual("failed", preparation.ask())
        self.origin.rename(self.directory / "late")
        clock.offset = 11
        self.assertEqual("running", preparation.ask())
        await until(lambda: preparation.ask() != "running", "the second attempt")
        self.assertEqual("done", preparation.ask())

    def fake(self, name: str, script: str) -> Path:
        """A program of that name that runs `script`."""
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path


class CondaTests(PreparationCase):
    """conda."""

    async def find(self, state: State, name: str, script: str) -> tuple[Preparation, list[CondaEnvironment]]:
        program = self.directory / "conda"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        found: list[CondaEnvironment] = []
        preparation = Preparation(
            global_reactor, conda_name=name, conda=found, environ={**ENVIRON, "CONDA_EXE": str(program)}
        )
        return await self.run_until(state, preparation), found

    async def test_the_environment_is_found(self) -> None:
        """Where conda says, as long as it is there."""
        prefix = self.directory / "conda's"
        (prefix / "bin").mkdir(parents=True)
        (prefix / "bin/activate").touch()
        (prefix / "envs/one").mkdir(parents=True)
        info = json.dumps({"conda_prefix": str(prefix), "envs": []})
        script = f"echo noise >&2; test \"$*\" = 'info --json' && cat <<'END'\n{info}\nEND"
        _, found = await self.find("done", "one", script)
        self.assertEqual([CondaEnvironment(str(prefix), str(prefix / "envs/one"))], found)
        preparation, _ = await self.find("failed", "two", script)
        self.assertIn(f"{prefix}/envs/two does not exist", preparation.reason)

    async def test_a_conda_that_does_not_work(self) -> None:
        """It says so, as an application that does not start."""
        preparation, _ = await self.find("failed", "one", "echo broken >&2; exit 3")
        self.assertIn("exit status 3", preparation.reason)
        self.assertIn("broken", preparation.lines)
        preparation = Preparation(global_reactor, conda_name="one", environ={**ENVIRON, "CONDA_EXE": "/no/conda"})
        await self.run_until("failed", preparation)
        self.assertIn("/no/conda", preparation.reason)


class _Clock(Clock):
    """The reactor's time, with an offset."""

    offset = 0.0

    def seconds(self) -> float:
        return float(global_reactor.seconds()) + self.offset  # type: ignore[attr-defined]

    def callLater(self, delay: float, function: Callable[..., object], *args: object, **kwargs: object) -> object:  # type: ignore[override]
        return global_reactor.callLater(delay, function, *args, **kwargs)  # type: ignore[attr-defined]


def _is_read() -> bool:
    """Whether the output of a process is still being read."""
    readers = global_reactor.getReaders()  # type: ignore[attr-defined]
    return any(isinstance(reader, ProcessReader) for reader in readers)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
