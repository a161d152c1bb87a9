r"""Types what a document shows into a shell, and compares what it prints with what the document shows.

What stands in a document is taken as follows:

- A block that begins with a comment that is the name of a file, as in `# proxyd.yaml`, is written to that file.
- In a `console` block a line that begins with `$ ` is a command, the lines below it are what it prints: all of it,
  on both of its outputs. `...` stands for anything: in a line for a part of it, alone in a line for any number of
  lines. A `\` at the end of a line continues the command.
- A command ends with status 0, unless the next one is `echo $?`. What `name=value` sets is there for the commands
  below it.
- A command that is known to run on (`_RUNS_ON`) is left running until the end of the document; what is shown has to
  come, and more may follow. Another proxyd takes the place of the one before.
- A `console` block without any command is something that the last one of those has printed by now.
- All blocks of a document run in the same directory, which has a copy of etc/ in it. The ports in `_PORTS` are
  replaced by free ones, and put back in what is printed. So a document names the ports that it uses, and leaves none to
  the default.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest import TestCase

import attrs

from tests.docs.markdown import Block
from tests.support import CHECKOUT, Process, script

NOT_RUN = {
    "make test": "these tests are a part of it",
    "make lint": "it is a gate of its own, and needs more than the tests have",
    "sudo ": "it changes the machine",
    "systemctl ": "there need not be a systemd",
    "journalctl ": "there need not be a systemd",
}
"""Beginnings of commands that are not run, each with the reason."""

_RUNS_ON = re.compile(
    r"(?:\w+=\S+ )*(?:proxyd (?:serve|chp|wrap)\b(?!.* --help)|twistd -n|make run|python3 (?:-m http\.server|app\.py))"
)
_PROXY = re.compile(r"(?:\w+=\S+ )*(?:proxyd|twistd|make)\b")
_ASSIGNMENT = re.compile(r"(\w+)=(?:\$\(.*\)|\S+)")
_PORTS = re.compile(r"(?<![\w.-])(?:8000|8001|8010|900[0-9])(?![\w-])")
_FIXED_PORT = re.compile(rf":({_PORTS.pattern})")
_RUN_RECIPE = re.compile(r"^run:.*\n\t\$\(BIN\)/(.*)$", re.MULTILINE)
# Variables that would lead a proxy to what is on the machine.
_EMPTY = (
    "CONFIGPROXY_AUTH_TOKEN",
    "PROXYD_AUTH_TOKEN",
    "PROXYD_CONFIG",
    "STATE_DIRECTORY",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
)
# A busy machine takes its time to start an interpreter; waiting ends as soon as there is something to see.
_PATIENCE_SECONDS = 60.0


@attrs.frozen
class Step:
    """One command and what it prints; without a command, what the last one that runs on prints."""

    place: str
    command: str
    shown: str


def steps_of(block: Block) -> Iterator[Step]:
    """The steps of a `console` block."""
    before, *parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    if before:
        yield Step(block.place, "", before)
    for part in parts:
        match = re.match(r"((?:.*\\\n)*.*)\n", part)
        assert match is not None, block.place
        yield Step(block.place, match[1], part[match.end() :])


def pattern_of(shown: str) -> re.Pattern[str]:
    """What matches the lines that are shown."""
    lines = ["^"]
    for line in shown.splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*?".join(re.escape(part) for part in line.rstrip().split("...")) + "\n")
    return re.compile("".join(lines), re.MULTILINE)


class Terminal:
    """A shell in a fresh directory that belongs to `case`."""

    def __init__(self, case: TestCase, directory: Path) -> None:
        self._case = case
        self._directory = directory
        self._ports: dict[str, str] = {}
        self._status = 0
        self._proxy: Process | None = None
        self._last: Process | None = None
        home = directory / "home"
        home.mkdir(parents=True)
        (home / ".curlrc").write_text("silent\nshow-error\n")  # as it is when there is a terminal
        shutil.copytree(CHECKOUT / "etc", directory / "etc")
        for file in (directory / "etc").rglob("*.yaml"):
            file.write_text(self._with_free_ports(file.read_text(encoding="utf-8")), encoding="utf-8")
        self._environ = {
            "PATH": f"{Path(script('proxyd')).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "CURL_HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "*",
            "no_proxy": "*",
        }
        self._environ |= dict.fromkeys(_EMPTY, "")

    def write(self, block: Block) -> None:
        """Write the file that a block shows."""
        path = self._directory / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._with_free_ports(block.text), encoding="utf-8")

    def run(self, step: Step) -> None:
        """Type a command, and compare."""
        if not step.command:
            self._await(step)
        elif match := _ASSIGNMENT.fullmatch(step.command):
            self._environ[match[1]] = self._finish(step, f'{step.command}; printf %s "${match[1]}"')
        elif _RUNS_ON.match(step.command):
            self._start(step)
        else:
            printed = self._as_documented(self._finish(step, step.command))
            if not pattern_of(step.shown).fullmatch(printed):
                self._fail(step, printed)

    def end(self) -> None:
        """Everything has been typed, and the proxy is as well as ever."""
        self._check_status("the end of the document")
        if self._proxy is not None:
            with self._proxy.log_on_failure():
                assert self._proxy.is_running, "the proxy has ended"
                assert "Traceback" not in self._proxy.log, "there was an unexpected error"

    def _finish(self, step: Step, command: str) -> str:
        if not step.command.startswith("echo $?"):
            self._check_status(step.place)
        process = self._process(f"(exit {self._status})\n{self._with_free_ports(command)}")
        self._status = process.wait(_PATIENCE_SECONDS)
        return process.log

    def _check_status(self, place: str) -> None:
        if self._status:
            raise AssertionError(f"the command before {place} ended with status {self._status}, which is not shown")

    def _start(self, step: Step) -> None:
        self._check_status(step.place)
        is_proxy = _PROXY.match(step.command) is not None
        if is_proxy and self._proxy is not None:
            self._proxy.kill()
        process = self._last = self._process(self._with_free_ports(_without_make(step.command)))
        if is_proxy:
            self._proxy = process
        self._await(step)
        if fixed := _FIXED_PORT.search(process.log):
            raise AssertionError(f"{step.place}: port {fixed[1]} is a default; a document has to name its ports")

    def _await(self, step: Step) -> None:
        process = self._last
        assert process is not None, f"{step.place}: nothing runs whose output this could be"
        pattern = pattern_of(step.shown)

        def has_come() -> bool:
            log = process.log
            printed = self._as_documented(log[: log.rfind("\n") + 1])
            return bool(pattern.match(printed) if step.command else pattern.search(printed))

        process.wait_for(has_come, f"what {step.place} shows", _PATIENCE_SECONDS)

    def _process(self, command: str) -> Process:
        return Process(self._case, "bash", "-c", command, env=self._environ, cwd=self._directory)

    def _fail(self, step: Step, printed: str) -> None:
        log = f"\n--- log of the proxy:\n{self._proxy.log}" if self._proxy is not None else ""
        raise AssertionError(f"{step.place}: $ {step.command}\n--- shown:\n{step.shown}--- printed:\n{printed}{log}")

    def _with_free_ports(self, text: str) -> str:
        return _PORTS.sub(lambda match: self._free_port(match[0]), text)

    def _free_port(self, documented: str) -> str:
        """A port that stays ours: it is bound, but not listened on, so that only who says SO_REUSEADDR may take it."""
        if documented not in self._ports:
            holder = socket.socket()
            self._case.addCleanup(holder.close)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            self._ports[documented] = str(holder.getsockname()[1])
        return self._ports[documented]

    def _as_documented(self, printed: str) -> str:
        for documented, port in self._ports.items():
            printed = re.sub(rf"(?<!\w){port}(?!\w)", documented, printed)
        return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


def _without_make(command: str) -> str:
    """`make run`, less the making of the environment, which is there."""
    if command != "make run":
        return command
    match = _RUN_RECIPE.search((CHECKOUT / "Makefile").read_text(encoding="utf-8"))
    assert match is not None, "the Makefile has another way to run"
    return f"echo {match[1]}\n{match[1]}"
