"""One child process: how it is made, what it may have, and how all of its family is found and ended.

A child leads a session and a process group of its own. What it starts in yet another session is known by a variable
in its environment.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import resource
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import attrs
from twisted.internet.error import ProcessDone
from twisted.internet.process import Process
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from proxyd.model.servers import ProcessLimits
from proxyd.supervisor.output import Output
from proxyd.supervisor.watcher import MARK

PRIVATE = frozenset(
    {
        "PROXYD_AUTH_TOKEN",
        "CONFIGPROXY_AUTH_TOKEN",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
    }
)
"""Variables that are for proxyd alone: the tokens of its API, and what it has with systemd."""

# What is printed is read for half of the time at most when it takes longer than this: a program that prints all the
# time must not keep the others from being served. It waits meanwhile, as for any reader that is slower than it.
_LONG_SECONDS = 0.004
_LONGEST_REST = 0.1
_STATE, _GROUP, _BORN = 0, 2, 19  # behind the name, in what the kernel tells of a process
_FAULTS = 3  # the descriptor on which a child tells why it could not become the program
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: nothing may be loaded between fork and exec


@attrs.frozen(kw_only=True)
class Command:
    """What to run. `environment` is all there is; `open_files` the soft limit that proxyd was started with."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    mark: str
    cwd: str = ""
    limits: ProcessLimits = ProcessLimits()
    user: str = ""
    open_files: int = 0


@attrs.frozen
class Exit:
    """How a process has ended; `never_ran` when the program itself could not be started.

    `status` is the one that a shell would report.
    """

    reason: str
    in_order: bool = False
    never_ran: bool = False
    status: int = 0


class Child(ProcessProtocol):
    """A process that runs `command`, from now on.

    `exited` is called when it has been reaped; `ended` when its output has been read, too, which takes until nobody of
    the family holds that open, or until `let_go`. Raises `OSError` when there can be no process at all.
    """

    def __init__(
        self,
        reactor: Any,
        command: Command,
        output: Output,
        *,
        exited: Callable[[Child], None],
        ended: Callable[[Child, Exit], None],
    ) -> None:
        self._command = command
        self._output = output
        self._exited = exited
        self._ended = ended
        self._fault = b""
        self._is_reaped = False
        self._has_begun = False
        self._held_signals: list[int] = []
        self._resting: Any = None
        self._reactor = reactor
        self.pid = 0  # until it is forked
        self.born = 0
        owner = _owner(command.user)
        words = list(command.argv)
        self._is_made = False
        self._process = _Process(reactor, words, dict(command.environment), self, command, owner)
        self._is_made = True

    @property
    def is_alive(self) -> bool:
        """Whether it has not been reaped yet."""
        return not self._is_reaped

    def signal(self, number: int) -> None:
        """Send a signal to all of the family; one that can be caught waits until there is a program to catch it."""
        if not self._has_begun and self.is_alive and number != signal.SIGKILL:
            self._held_signals.append(number)
            return
        for pid in self.family():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def family(self) -> list[int]:
        """The ids of all its processes that live, its own first."""
        return family_of(self.pid, self._command.mark, is_reaped=not self.is_alive, since=self.born)

    def let_go(self) -> None:
        """Read its output no more."""
        for number in (1, 2):
            self._process.closeChildFD(number)

    # What Twisted calls.

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803
        """It has printed something, or says why it does not run."""
        if childFD == _FAULTS:
            self._fault += data
            return
        began = time.thread_time()
        self._output.feed(childFD, data)
        spent = time.thread_time() - began
        if spent > _LONG_SECONDS and self._resting is None:
            self._process.pauseProducing()
            self._resting = self._reactor.callLater(min(spent, _LONGEST_REST), self._go_on)

    def _go_on(self) -> None:
        """Read its output again."""
        self._resting = None
        self._process.resumeProducing()

    def childConnectionLost(self, childFD: int) -> None:  # noqa: N803
        """A pipe is closed; that of the faults is when the program runs."""
        if childFD == _FAULTS:
            self._has_begun = True
            held, self._held_signals = self._held_signals, []
            for number in held:
                self.signal(number)

    def processExited(self, reason: Failure) -> None:
        """It has been reaped; its output may not have been read yet."""
        self._is_reaped = True
        if self._is_made:
            self._exited(self)
        else:  # before whoever makes us has us
            self._reactor.callLater(0, self._exited, self)

    def processEnded(self, reason: Failure) -> None:
        """It has been reaped, and everything it has printed has been read."""
        if self._resting is not None:
            self._resting.cancel()
        self._output.finish()
        if self._fault:
            text = self._fault.decode("utf-8", "replace")
            self._ended(self, Exit(f"could not be started: {text}", never_ran=True, status=127))
        else:
            self._ended(self, _exit_of(reason))


class _Process(Process):
    """A child of Twisted's, made in our own way: in a session of its own, with limits, and bound to our life."""

    def __init__(
        self,
        reactor: Any,
        argv: list[str],
        environment: dict[str, str],
        protocol: Child,
        command: Command,
        owner: pwd.struct_passwd | None,
    ) -> None:
        self._command = command
        self._owner = owner
        self._child = protocol
        self._parent = os.getpid()
        devnull = os.open(os.devnull, os.O_RDONLY)
        try:
            super().__init__(
                reactor, argv[0], argv, environment, None, protocol, childFDs={0: devnull, 1: "r", 2: "r", _FAULTS: "r"}
            )
        finally:
            os.close(devnull)

    def _fork(self, *args: Any, **kwargs: Any) -> None:
        super()._fork(*args, **kwargs)
        # Kept there: ours is None as soon as it is reaped, which may be at once.
        pid = self._child.pid = self.pid or 0
        with suppress(OSError, ValueError, IndexError):
            self._child.born = int(stat_of(str(pid))[_BORN])

    def _trySpawnInsteadOfFork(self, *_: Any) -> bool:
        return False  # posix_spawn knows nothing of what is done below

    def _execChild(
        self, path: Any, uid: Any, gid: Any, executable: str, args: list[str], environment: dict[str, str]
    ) -> NoReturn:
        """Become the program; this runs in the child, where nothing may return or raise."""
        what = ""
        try:
            os.set_inheritable(_FAULTS, False)
            os.setsid()
            command = self._command
            what = "limits: "
            _set_limits(command)
            if self._owner is not None:
                what = f"user {self._owner.pw_name}: "
                os.initgroups(self._owner.pw_name, self._owner.pw_gid)
                os.setgid(self._owner.pw_gid)
                os.setuid(self._owner.pw_uid)
            if command.cwd:
                what = f"{command.cwd}: "
                os.chdir(command.cwd)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after setuid, which would clear it
            if os.getppid() == self._parent:  # else proxyd is dead already
                what = f"{executable}: "
                os.execvpe(executable, args, environment)  # noqa: S606  # this is what it is for
        except OSError as error:
            os.write(_FAULTS, f"{what}{os.strerror(error.errno or errno.EIO)}".encode())
        except BaseException as error:  # noqa: BLE001  # two of us would run on
            os.write(_FAULTS, f"{what}{error}".encode("utf-8", "replace"))
        finally:
            os._exit(127)


def family_of(group: int, mark: str, *, is_reaped: bool = False, since: int = 0) -> list[int]:
    """The ids of all living processes of the group, or with the mark; that of its leader comes first.

    The leader counts until it `is_reaped`, although it may be too young to lead a group. Who was born before `since`,
    in ticks, is not looked at. Raises `ValueError` for what is no group of a child: 0 is that of kernel threads, and of
    processes that this machine does not show.
    """
    if group <= 1:
        raise ValueError(f"{group} is no process group of a child")
    wanted = f"{MARK}={mark}".encode()
    pids = [] if is_reaped else [group]
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            stat = stat_of(name)
            # To read an environment takes longer than all the rest, and a machine may have thousands of processes.
            if int(stat[_BORN]) < since or stat[_STATE] in b"ZX" or int(name) == group:
                continue
            if int(stat[_GROUP]) == group or wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                pids.append(int(name))
        except (OSError, ValueError, IndexError):  # it has just ended, or belongs to somebody else
            continue
    return pids


def stat_of(pid: str) -> list[bytes]:
    """What the kernel tells of a process: `_STATE`, `_GROUP`, `_BORN` and more (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        # The name of the program, in parentheses, may hold anything.
        return file.read(4096).rpartition(b")")[2].split()


def child_environment(ours: Mapping[str, str], added: Mapping[str, str], user: str, mark: str) -> dict[str, str]:
    """The environment of a child: ours without what is private, that of its `user`, and what was `added`."""
    environment = {name: value for name, value in ours.items() if name not in PRIVATE}
    owner = _owner(user)
    if owner is not None:
        environment |= {"HOME": owner.pw_dir, "USER": owner.pw_name, "LOGNAME": owner.pw_name}
    return {**environment, **added, MARK: mark}


def _owner(user: str) -> pwd.struct_passwd | None:
    """Who a process shall belong to, if that is not us.

    Raises `OSError` when there is no such user, and when it takes root.
    """
    if not user:
        return None
    try:
        owner = pwd.getpwnam(user)
    except KeyError:
        raise FileNotFoundError(errno.ENOENT, f"there is no user {user}") from None
    if owner.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise PermissionError(errno.EPERM, f"only root can start a process of {user}")
    return owner


def _set_limits(command: Command) -> None:
    limits = command.limits
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits.open_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits.open_files, limits.open_files))
    elif command.open_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (command.open_files, hard))
    if limits.memory:
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    if limits.processes:
        resource.setrlimit(resource.RLIMIT_NPROC, (limits.processes, limits.processes))


def _exit_of(reason: Failure) -> Exit:
    error: Any = reason.value
    if isinstance(error, ProcessDone):
        return Exit("ended with exit status 0", in_order=True)
    if error.signal:
        with suppress(ValueError):  # a real-time signal has a number only
            return Exit(f"was killed by {signal.Signals(error.signal).name}", status=128 + error.signal)
        return Exit(f"was killed by signal {error.signal}", status=128 + error.signal)
    return Exit(f"ended with exit status {error.exitCode}", status=error.exitCode)
