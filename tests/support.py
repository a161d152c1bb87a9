"""Real processes and ports for the tests that run the real thing.

Everything here blocks: the reactor does not turn meanwhile.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, TypeVar
from unittest import TestCase
from uuid import uuid4

CHECKOUT = Path(__file__).resolve().parent.parent

_T = TypeVar("_T")
# The environment variable by which descendants are known.
MARK = "PROXYD_TEST_PROCESS"
# How many workers each proxy that is started with a file has, if the file and the test do not say; see CONTRIBUTING.md.
WORKERS_VARIABLE = "PROXYD_TEST_WORKERS"
WORKERS_FILE = "zz-test-workers.yaml"

_FIRST_PORT = 10_000
_given_ports: set[int] = set()


def script(name: str) -> str:
    """The path of a command that is installed in the environment of the tests."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    return free_ports(1)[0]


def free_ports(count: int) -> range:
    """Ports in a row that nobody listens on, and that nobody gets meanwhile who does not ask for one of them.

    A Hub, for one, takes seconds before it listens. So they are not those of outgoing connections, as far as the
    system leaves others, and no test is given one twice.
    """
    taken_by_system = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    end = taken_by_system if taken_by_system > _FIRST_PORT + 10_000 else 65_536
    while True:
        first = _FIRST_PORT + secrets.randbelow(end - _FIRST_PORT - count)
        ports = range(first, first + count)
        with ExitStack() as probes, suppress(OSError):
            for port in ports:
                probes.enter_context(socket.socket()).bind(("", port))
            if _given_ports.isdisjoint(ports):
                _given_ports.update(ports)
                return ports


def accepts(port: int, address: str = "127.0.0.1") -> bool:
    """True when somebody listens on the port."""
    with suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def wait_for(condition: Callable[[], _T], what: str, seconds: float = 10.0, interval: float = 0.02) -> _T:
    """Ask until `condition` returns something true, and return it; an `AssertionError` names `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(interval)
    return value


def wait_for_rest(counts: list[int], what: str) -> None:
    """Wait until `counts[0]`, which a thread counts up, has begun to grow and does so no more for half a second."""
    seen = [-1]

    def rests() -> bool:
        last, seen[0] = seen[0], counts[0]
        return last == counts[0] > 0

    wait_for(rests, what, 30, 0.5)


def add_workers(argv: Sequence[str | Path], cwd: str | Path | None) -> None:
    """Let a proxy have as many workers as `PROXYD_TEST_WORKERS` says, by a file in `conf.d` beside its own."""
    count = os.environ.get(WORKERS_VARIABLE)
    words = [str(word) for word in argv]
    if not count or not {"serve", "proxyd"} & set(words):
        return
    for option, name in pairwise(words):
        file = Path(cwd or ".", name)
        if option not in ("-c", "--config") or "\n" in name or not file.is_file():
            continue
        if not re.search(r"^workers:", file.read_text(errors="replace"), re.MULTILINE):
            pieces = file.parent / "conf.d"
            pieces.mkdir(exist_ok=True)
            (pieces / WORKERS_FILE).write_text(f"workers: {count}\n")


def is_worker(pid: int) -> bool:
    """Whether a process is a worker of proxyd."""
    with suppress(OSError):
        return b"proxyd.workers" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


class Process:
    """A running command. What it prints is its `log`; nothing of it, nor of its descendants, outlives `case`.

    `env` is added to the environment of the tests; the descriptors in `pass_fds` have the same numbers there.
    """

    def __init__(
        self,
        case: TestCase,
        *argv: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        add_workers(argv, cwd)
        self._mark = f"{MARK}={uuid4().hex}"
        name, _, value = self._mark.partition("=")
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by the cleanup
        case.addCleanup(self._log.close)
        self._popen = subprocess.Popen(
            [str(word) for word in argv],
            env={**os.environ, **(env or {}), name: value},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        case.addCleanup(self.kill)

    @property
    def pid(self) -> int:
        """The process id of the command."""
        return self._popen.pid

    @property
    def log(self) -> str:
        """What was printed so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    @property
    def is_running(self) -> bool:
        """True until the command itself has ended."""
        return self._popen.poll() is None

    def family(self, *, workers: bool = True) -> list[int]:
        """The process ids of the command and of everything that inherited its environment, wherever they went."""
        pids = []
        for path in Path("/proc").iterdir():
            with suppress(OSError):
                if path.name.isdigit() and self._mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    pids.append(int(path.name))
        return pids if workers else [pid for pid in pids if not is_worker(pid)]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command."""
        self._popen.send_signal(number)

    def wait(self, seconds: float = 10.0) -> int:
        """Wait until the command has ended, and return its status; that of a signal is negative."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._popen.args!r} did not end within {seconds:g} s:\n{self.log}") from None

    def wait_for(self, condition: Callable[[], _T], what: str, seconds: float = 10.0, interval: float = 0.02) -> _T:
        """Wait as the function does, but not beyond the end of the command; print the log if it is in vain."""

        def ask() -> _T:
            is_running = self.is_running
            if not (value := condition()) and not is_running:
                raise AssertionError(f"{self._popen.args!r} ended with status {self._popen.returncode} before {what}")
            return value

        with self.log_on_failure():
            return wait_for(ask, what, seconds, interval)

    def wait_for_log(self, text: str, seconds: float = 10.0) -> str:
        """Wait until `text` was printed, and return the line that has it."""

        def find() -> str:
            return next((line for line in self.log.splitlines() if text in line), "")

        return self.wait_for(find, f"{text!r} in the log", seconds)

    @contextmanager
    def log_on_failure(self) -> Iterator[None]:
        """Print the log when the block raises."""
        try:
            yield
        except BaseException:
            sys.stderr.write(f"\n--- log of {self._popen.args!r}\n{self.log}\n--- end of the log\n")
            raise

    def kill(self) -> None:
        """End the command and all its descendants at once; does nothing when all of them have ended."""

        def nothing_is_left() -> bool:
            pids = self.family()
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids and not self.is_running

        wait_for(nothing_is_left, f"end of {self._popen.args!r}")
