"""What comes before the start of a wrapped application: a git checkout, and finding an environment of conda.

What git is asked to do is `core.checkout`, what conda's answers mean `core.conda`; here it is run, each program within
a time of its own, and without anything that could ask a question.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.checkout import ENVIRONMENT, Checkout, CheckoutError, Found, Free, Git, Rename, Step, aside, masked
from proxyd.core.conda import CondaEnvironment, CondaError, find_environment
from proxyd.errors import ProxydError
from proxyd.supervisor.ending import end_family
from proxyd.supervisor.output import Output
from proxyd.supervisor.process import Child, Command, Exit, child_environment
from proxyd.supervisor.waiting import Clock, Timer

State = Literal["running", "done", "failed"]

_GIT_SECONDS = 600.0  # a clone of some gigabytes over a slow line
_CONDA_SECONDS = 60.0
_OLD_LOCK_SECONDS = 600.0
_GRACE_SECONDS = 2.0  # for a program that takes too long, to remove what it has begun
_LAST_LINES = 200
_AGAIN_SECONDS = 10.0


class _ProgramError(ProxydError):
    """A program did not do what it was run for."""


class Preparation:
    """Does what has to be done first, in the background, and again after a failure.

    `conda` gets the environment of the name `conda_name`; empty: none is looked for. `ready` is called at the end.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        checkout: Checkout | None = None,
        conda_name: str = "",
        conda: list[CondaEnvironment] | None = None,
        environ: Mapping[str, str] = os.environ,
        cwd: str = "",
        ready: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock or reactor
        self._checkout = checkout
        self._conda_name = conda_name
        self._conda = [] if conda is None else conda
        self._environ = environ
        self._cwd = cwd or str(Path.cwd())
        self._ready = ready
        self._runner: _Runner | None = None
        self._work: Deferred[None] | None = None
        self._failed_at = 0.0
        self.state: State = "done"
        self.task = "Preparing the application"
        self.reason = ""
        self.lines: deque[str] = deque(maxlen=_LAST_LINES)

    def begin(self) -> None:
        """Do it now."""
        if self.state == "running":
            return
        self.state, self.reason = "running", ""
        self.lines.clear()
        self._work = Deferred.fromCoroutine(self._run())
        self._work.addCallbacks(self._done, self._failed)

    def ask(self) -> State:
        """How it is, for a request that needs it; what failed a while ago is tried again."""
        if self.state == "failed" and self._clock.seconds() - self._failed_at > _AGAIN_SECONDS:
            self.begin()
        return self.state

    def close(self) -> None:
        """End what runs, at once."""
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
        if self._runner is not None:
            self._runner.kill()

    async def _run(self) -> None:
        if self._checkout is not None:
            self.task = "Pulling content from git"
            await self._check_out(self._checkout)
        if self._conda_name:
            self.task = "Looking for the environment of conda"
            await self._find_conda()

    def _done(self, _: None) -> None:
        self._work = None
        self.state = "done"
        self._ready()

    def _failed(self, failure: Failure) -> None:
        if self._work is None:
            return  # it was closed
        self._work = None
        self.state, self._failed_at = "failed", self._clock.seconds()
        error = failure.value
        if isinstance(error, ProxydError | OSError):
            self.reason = masked(str(error))
            self._log.error("the application cannot be prepared: {reason}", reason=self.reason)
        else:
            self.reason = "unexpected error, see the log"
            self._log.failure("unexpected error while the application was prepared", failure)

    # git.

    async def _check_out(self, checkout: Checkout) -> None:
        folder = Path(self._cwd, checkout.folder)
        steps = checkout.steps(_found_in(folder))
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._take(step, folder)
                except ProxydError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration:
            return

    async def _take(self, step: Step, folder: Path) -> str | None:
        if isinstance(step, Free):
            _free_index(folder)
            return None
        if isinstance(step, Rename):
            _move_aside(folder, step.path)
            self._say(f"{step.path} is renamed: the update brings a file of that name")
            return None
        return await self._git(step, folder)

    async def _git(self, git: Git, folder: Path) -> str | None:
        self._say(str(git))
        cwd = self._cwd if git.outside else str(folder)
        try:
            return await self._program(("git", *git.words), cwd, ENVIRONMENT, _GIT_SECONDS)
        except _ProgramError:
            if git.may_fail:
                return None
            raise

    # conda.

    async def _find_conda(self) -> None:
        program = self._environ.get("CONDA_EXE") or "conda"
        info = await self._program((program, "info", "--json"), self._cwd, {}, _CONDA_SECONDS)
        found = find_environment(info, self._conda_name)
        for needed in (Path(found.path), Path(found.prefix, "bin/activate")):
            if not needed.exists():
                raise CondaError(f"there is no environment {self._conda_name} of conda: {needed} does not exist")
        self._conda[:] = [found]

    async def _program(self, argv: tuple[str, ...], cwd: str, added: Mapping[str, str], seconds: float) -> str:
        """Run a program, and return what it prints on its standard output."""
        mark = f"proxyd.{os.getpid()}.preparation"
        environment = child_environment(self._environ, added, "", mark)
        command = Command(argv=argv, environment=environment, mark=mark, cwd=cwd)
        runner = self._runner = _Runner(self._reactor, self._clock, command, seconds, self._say)
        try:
            return await runner.done
        finally:
            self._runner = None

    def _say(self, line: str) -> None:
        line = masked(line)
        self.lines.append(line)
        self._log.info("[prepare] {line}", line=line)


class _Runner(Output):
    """One program. `done` fires with its standard output; what it says on the other one is told by `said`."""

    def __init__(
        self, reactor: Any, clock: Clock, command: Command, seconds: float, said: Callable[[str], None]
    ) -> None:
        super().__init__(command.argv[0], said)
        self._clock = clock
        self._said = said
        self._name = command.argv[0]
        self._seconds = seconds
        self._printed_bytes = bytearray()
        self._words = bytearray()
        self._is_late = False
        self.done: Deferred[str] = Deferred(lambda _: self.kill())
        self._child: Child | None = None
        self._timer = Timer(clock, self._too_late)
        self._child = Child(reactor, command, self, exited=lambda _: None, ended=self._ended)
        self._timer.set(seconds)

    def feed(self, stream: int, data: bytes) -> None:
        """Bytes of one of its streams."""
        if stream == 1:
            self._printed_bytes += data
            return
        self._words += data.replace(b"\r", b"\n")
        *lines, self._words = self._words.split(b"\n")
        for line in lines:
            self._said(line.decode("utf-8", "replace"))

    def finish(self) -> None:
        """It has ended: what has no line's end is a line, too."""
        if self._words:
            self._said(self._words.decode("utf-8", "replace"))

    def kill(self) -> None:
        """End it, and all that it has started, at once."""
        self._timer.cancel()
        if self._child is not None:
            self._child.signal(9)

    def _too_late(self) -> None:
        self._is_late = True
        if self._child is not None:
            ending = Deferred.fromCoroutine(end_family(self._child, self._clock, 15, _GRACE_SECONDS))
            ending.addErrback(lambda failure: self._log.failure("unexpected error at an end", failure))

    def _ended(self, _: Child, ended: Exit) -> None:
        self._timer.cancel()
        if self.done.called:
            return
        if self._is_late:
            self.done.errback(_ProgramError(f"{self._name} took longer than {self._seconds:g} s"))
        elif ended.in_order:
            self.done.callback(self._printed_bytes.decode("utf-8", "surrogateescape"))
        else:
            self.done.errback(_ProgramError(f"{self._name} {ended.reason}"))


def _found_in(folder: Path) -> Found:
    if (folder / ".git").exists():
        return Found.REPOSITORY
    if not folder.exists():
        return Found.NOTHING
    return Found.SOMETHING if not folder.is_dir() or any(folder.iterdir()) else Found.NOTHING


def _free_index(folder: Path) -> None:
    lock = folder / ".git/index.lock"
    try:
        age = time.time() - lock.stat().st_mtime
    except FileNotFoundError:
        return
    if age <= _OLD_LOCK_SECONDS:
        raise CheckoutError("another git is at work there: .git/index.lock is there, and young")
    lock.unlink(missing_ok=True)


def _move_aside(folder: Path, path: str) -> None:
    stamp = time.strftime("%Y%m%d%H%M%S")
    kept, number = folder / aside(path, stamp), 0
    while os.path.lexists(kept):
        number += 1
        kept = folder / aside(path, f"{stamp}_{number}")
    (folder / path).rename(kept)
