"""What a managed server prints: into the log, into a bounded memory, and to whoever listens."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Sequence

from twisted.logger import Logger, LogLevel

from proxyd.core.checkout import masked

_MAX_LINE = 64 * 1024  # bytes; what prints more without a line's end would fill the memory
# Lines of one piece that are logged; a piece is 8 KiB, so those of whoever prints more are shorter than any that says
# something, and each costs 15 microseconds.
_MAX_LOGGED = 200
_MAX_KEPT = 256 * 1024  # characters; some thousand lines, for a page that shows them


class Output:
    """The lines of one server. `label` is what the log calls it; `printed` is called with each line.

    `stderr_is_error` tells whether what it says on its standard error is logged as errors. `secrets` are shown nowhere.
    """

    _log = Logger()

    def __init__(
        self,
        label: str,
        printed: Callable[[str], None],
        *,
        stderr_is_error: bool = False,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self._secrets = secrets
        self._stderr_level = LogLevel.error if stderr_is_error else LogLevel.info
        self._label = label
        self._printed = printed
        self._partial: dict[int, bytearray] = {}
        self._lines: deque[str] = deque()
        self._kept = 0

    def feed(self, stream: int, data: bytes) -> None:
        """A piece of one of its streams; a line that is too long is cut into several."""
        partial = self._partial.setdefault(stream, bytearray())
        partial += data
        *lines, rest = partial.split(b"\n")
        while len(rest) > _MAX_LINE:
            lines.append(rest[:_MAX_LINE])
            rest = rest[_MAX_LINE:]
        self._partial[stream] = rest
        for number, line in enumerate(lines):
            for start in range(0, len(line) or 1, _MAX_LINE):
                self._add(stream, line[start : start + _MAX_LINE], is_logged=number < _MAX_LOGGED)
        if len(lines) > _MAX_LOGGED:
            self._log.warn(
                "[{server}] prints too much: {count} lines are left out here",
                server=self._label,
                count=len(lines) - _MAX_LOGGED,
            )

    def finish(self) -> None:
        """The process has ended: what has no line's end is a line, too."""
        partial, self._partial = self._partial, {}
        for stream, rest in partial.items():
            if rest:
                self._add(stream, rest)

    def tell_command(self, argv: Sequence[str]) -> None:
        """Put the command that begins to print in front of what it prints, without passwords in its URLs."""
        for line in masked(f"$ {shlex.join(argv)}").split("\n"):
            self._add(1, line.encode("utf-8", "replace"))

    def last(self, count: int) -> tuple[str, ...]:
        """The last lines, the oldest first."""
        return tuple(self._lines)[-count:]

    def _add(self, stream: int, line: bytes | bytearray, *, is_logged: bool = True) -> None:
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self._lines.append(text)
        self._kept += len(text) + 1
        while self._kept > _MAX_KEPT:
            self._kept -= len(self._lines.popleft()) + 1
        if is_logged:
            level = self._stderr_level if stream == 2 else LogLevel.info
            self._log.emit(level, "[{server}] {line}", server=self._label, line=text)
        self._printed(text)
