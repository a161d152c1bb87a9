"""The watcher: a small process that cleans up after us when we are killed and cannot do it.

It is told of every process group and private directory there is. When the pipe to it closes without a word, it kills
the groups, and whatever else has the mark, and removes the directories.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

from twisted.logger import Logger

MARK = "PROXYD_MANAGED"
"""The variable by which the processes of a server are known; its value is that of `Command.mark`."""

# A shell takes a tenth of the memory of a Python, and starts at once.
_SCRIPT = r"""
groups=
directories=
newline='
'
without() {
    kept=
    IFS=$newline
    for one in $1; do [ "$one" = "$2" ] || kept="$kept$newline$one"; done
    IFS=$blanks
}
blanks=$IFS
set -f
while IFS=$blanks read -r verb word; do
    case $verb in
        +group) groups="$groups$newline$word" ;;
        -group) without "$groups" "$word"; groups=$kept ;;
        +directory) directories="$directories$newline$word" ;;
        -directory) without "$directories" "$word"; directories=$kept ;;
        done) exit 0 ;;
    esac
done
IFS=$newline
for group in $groups; do kill -s KILL -- "-$group"; done
set +f
for file in $(grep -lzsF -- "$1" /proc/[0-9]*/environ); do
    file=${file#/proc/}
    kill -s KILL "${file%/environ}"
done
set -f
for directory in $directories; do rm -rf -- "$directory"; done
"""


class Watcher:
    """Starts the process when there is something to watch. `run` is what the marks of all our children begin with."""

    _log = Logger()

    def __init__(self, run: str) -> None:
        self._run = run
        self._watched: dict[str, None] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def add_group(self, group: int) -> None:
        """Kill this process group if we are killed."""
        self._add(f"group {group}")

    def remove_group(self, group: int) -> None:
        """Nothing of the group is left."""
        self._remove(f"group {group}")

    def add_directory(self, directory: str) -> None:
        """Remove this directory if we are killed."""
        self._add(f"directory {directory}")

    def remove_directory(self, directory: str) -> None:
        """The directory is not there any more."""
        self._remove(f"directory {directory}")

    def close(self) -> None:
        """There is nothing to watch any more."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.write(b"done\n")
                process.stdin.close()
            process.wait()

    def _add(self, what: str) -> None:
        self._watched[what] = None
        self._tell(f"+{what}")
        if self._process is None:
            self._start()

    def _remove(self, what: str) -> None:
        if what in self._watched:
            del self._watched[what]
            self._tell(f"-{what}")

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603  # a constant
                ["/bin/sh", "-c", _SCRIPT, "proxyd-watcher", f"{MARK}={self._run}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._log.warn("nobody will stop the servers if proxyd is killed: {reason}", reason=error.strerror)
            return
        for what in self._watched:
            self._tell(f"+{what}")

    def _tell(self, line: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(f"{line}\n".encode())
        except OSError:  # somebody has ended it; what is watched next starts another one
            process.stdin.close()
            process.wait()
            self._process = None
