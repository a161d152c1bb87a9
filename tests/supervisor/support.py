"""A supervisor with real children, none of which outlives its test."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as global_reactor  # noqa: TID251  # the real one, with real children
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from proxyd.model.servers import Place, ServerSpec
from proxyd.supervisor.supervisor import Supervisor
from proxyd.supervisor.watcher import MARK

T = TypeVar("T")

PROGRAM = (sys.executable, "-S", "-E", str(Path(__file__).with_name("program.py")))
SECONDS = 30.0  # within which everything happens on a slow machine


def program(*options: str, place: str = "{port}") -> tuple[str, ...]:
    """The command line of the test program."""
    return (*PROGRAM, *options, place)


async def until(condition: Callable[[], T], what: str) -> T:
    """Let the reactor turn until `condition` returns something true, and return it."""
    for _ in range(int(SECONDS / 0.01)):
        if value := condition():
            return value
        await deferLater(global_reactor, 0.01)
    raise AssertionError(f"waited in vain: {what}")


def fetch(place: Place, path: str = "/") -> str:
    """What the server at `place` answers; the status line, the fields and the body."""
    family = socket.AF_UNIX if place.socket else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(SECONDS)
        client.connect(place.socket or ("127.0.0.1", place.port))
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
        return answer.decode()


def marked(run: str = "") -> list[int]:
    """The ids of the living processes that any supervisor, or the one of this run, has started."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={run}".encode() in path.read_bytes():
                pids.append(int(path.parent.name))
        except OSError:
            continue
    return pids


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class SupervisorCase(TestCase):
    """Makes supervisors, and makes sure that nothing is left of them."""

    timeout = 120.0

    def supervise(self, *, clock: Any = None, **servers: ServerSpec) -> Supervisor:
        supervisor = Supervisor(
            servers, global_reactor, clock=clock, base_url="/user/a/", environ={"PATH": os.environ["PATH"]}
        )
        self.addCleanup(self._shut_down, supervisor)
        return supervisor

    async def assert_fails(self, lease: Deferred[Any], error: type[Exception]) -> Any:
        try:
            await lease
        except error as caught:
            return caught
        raise AssertionError("it was granted")

    def _shut_down(self, supervisor: Supervisor) -> Deferred[None]:
        run = supervisor._around.run

        def check(_: object) -> None:
            left = marked(run)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            self.assertEqual(left, [], "processes that were left behind")

        return supervisor.shutdown().addCallback(check)
