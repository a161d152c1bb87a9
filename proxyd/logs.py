"""Where log lines go, and what they look like.

All lines of a process, those of the access log included, go through one `LineWriter`, which never waits: a terminal
that is stopped or a pipe that nobody reads costs lines, and never a request.
"""

from __future__ import annotations

import json
import os
import re
import select
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from proxyd.core.activity import timestamp

# Lines are handed over this often, or when so much has gathered.
_FLUSH_SECONDS = 0.1
_FLUSH_CHARS = 64 * 1024
# What may wait for a reader that does not keep up; some 30,000 lines.
_MAX_WAITING_CHARS = 4 * 1024 * 1024
# How often is looked whether there is room again, once lines were dropped.
_ROOM_SECONDS = 1.0
_NEWLINE = ord("\n")
# How often is told that a file cannot be written.
_FAILURE_SECONDS = 60.0

_LEVELS = {"debug": 0, "info": 1, "warn": 2, "error": 3, "critical": 3}
_ANSI = {"debug": "\x1b[34m", "info": "\x1b[32m", "warn": "\x1b[33m", "error": "\x1b[31m"}
# Where Twisted tells of its factories, and of those for our own questions to others.
_TALKATIVE = frozenset({"log_legacy", "twisted.web.client._HTTP11ClientFactory"})
_PLAIN_FORMAT = re.compile(r"(?:[^{}]|\{[a-z_]+\})*")
# CVE-2026-54338: nothing that somebody else said may begin a line, or be endless.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MAX_LINE = 4096
_MAX_TRACEBACK = 16384
_SECRETS = re.compile(r"(?i)\b((?:token|bearer|basic) +(?=\S{16})|(?:token|passphrase|secret|password)=)[^\s&\"']+")

# RFC 3986 §3.2.1: user and password in a URL.
_USER = re.compile(r"://[^/?#@\s]*@")
# RFC 3986 §3.4: in the query of an upstream's URL there is, more often than not, a key.
_QUERY = re.compile(r"(://[^\s?\"'<>]*\?)[^\s\"'<>]+")


class Turn(AbstractContextManager[object], Protocol):
    """What is entered for each write, where other processes write to the same place."""

    def close(self) -> None:
        """There are no more writes."""


class LineWriter:
    """Writes lines to file descriptor `fd` from a thread of its own; `clock` has `callLater`.

    `path` is that of the file, if it may be opened again. `turn` is entered for each write: where other processes write
    to the same pipe, lines would get into each other. With `close_fd`, both are closed at the end. Lines that found no
    place are counted, and `told_of_drops`, if somebody has set it, is called with their number once there is room
    again. `told_of_failure` is called with what keeps a file from being written, a full disk for example; not for each
    line.
    """

    told_of_drops: Callable[[int], object] | None = None
    told_of_failure: Callable[[OSError], object] | None = None

    def __init__(
        self,
        fd: int,
        clock: Any,
        *,
        close_fd: bool = False,
        path: str = "",
        turn: Turn | None = None,
    ) -> None:
        self.turn = turn
        self._fd = fd
        self._path = path
        self._clock = clock
        self._close_fd = close_fd
        self._lines: list[str] = []
        self._chars = 0
        self._handed_over = 0  # counted under the lock
        self._written = 0  # counted by the writing thread only
        self._unwritten = 0  # lines that the file did not take, counted by the writing thread only
        self._failure: OSError | None = None  # set by the writing thread
        self._is_torn = False  # what was written last is half a line
        self._quiet_until = 0.0
        self._dropped = 0
        self._told = 0
        self._room_call: Any = None
        self._call: Any = None
        self._queue: SimpleQueue[bytes | int | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @classmethod
    def to_file(cls, path: str, clock: Any, turn: Turn | None = None) -> LineWriter:
        """Append to the file at `path`.

        Raises `OSError`; `turn` is closed then.
        """
        try:
            fd = _open(path)
        except OSError:
            if turn is not None:
                turn.close()
            raise
        return cls(fd, clock, close_fd=True, path=path, turn=turn)

    def reopen(self) -> None:
        """Go on in the file that is at the path now; whatever was written before goes to the old one.

        Raises `OSError`, and goes on in the old one then. What is no file of a path stays as it is.
        """
        if self._path:
            fd = _open(self._path)
            self._hand_over()
            self._put(fd)

    @property
    def dropped(self) -> int:
        """How many lines found no place."""
        return self._dropped + self._unwritten

    def write(self, line: str) -> None:
        """Take a line with its line end."""
        if self._chars + self._handed_over - self._written > _MAX_WAITING_CHARS:
            self._dropped += 1
            if self._room_call is None:
                self._room_call = self._clock.callLater(_ROOM_SECONDS, self._look_for_room)
            return
        self._lines.append(line)
        self._chars += len(line)
        if self._call is None:
            self._call = self._clock.callLater(_FLUSH_SECONDS, self._flush)
        elif self._chars > _FLUSH_CHARS:
            self._hand_over()

    def write_from_thread(self, line: str) -> None:
        """Take a line in another thread than the reactor's, which may not turn any more.

        It comes ahead of those that the reactor's thread has not handed over yet.
        """
        self._put(line.encode("utf-8", "backslashreplace"))

    def _look_for_room(self) -> None:
        self._room_call = None
        if self._handed_over - self._written > _MAX_WAITING_CHARS // 2:
            self._room_call = self._clock.callLater(_ROOM_SECONDS, self._look_for_room)
            return
        dropped, self._told = self._dropped - self._told, self._dropped
        if self.told_of_drops is not None:
            self.told_of_drops(dropped)

    def _flush(self) -> None:
        self._call = None
        self._hand_over()
        failure, self._failure = self._failure, None
        if failure is not None and self.told_of_failure is not None and self._clock.seconds() >= self._quiet_until:
            self._quiet_until = self._clock.seconds() + _FAILURE_SECONDS
            self.told_of_failure(failure)

    def _hand_over(self) -> None:
        if self._lines:
            data = "".join(self._lines).encode("utf-8", "backslashreplace")
            self._lines.clear()
            self._chars = 0
            self._put(data)

    def _put(self, item: bytes | int) -> None:
        with self._lock:
            if not isinstance(item, int):
                self._handed_over += len(item)
            self._queue.put(item)
            if self._thread is None:  # not before: twistd may still fork, and a thread would stay behind
                self._thread = threading.Thread(target=self._run, name="proxyd-log", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, int):
                os.close(self._fd)
                self._fd = item
            else:
                with self.turn or nullcontext():
                    self._write_all(item)
                self._written += len(item)
        self._close_file()

    def _close_file(self) -> None:
        if self._close_fd:
            os.close(self._fd)
            if self.turn is not None:
                self.turn.close()

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(b"\n" + data if self._is_torn else data)
        while rest:
            try:
                count = os.write(self._fd, rest)
                self._is_torn = rest[count - 1] != _NEWLINE
                rest = rest[count:]
            except BlockingIOError:  # somebody who shares it has made it so
                room = select.poll()
                room.register(self._fd, select.POLLOUT)
                room.poll()
            except OSError as error:
                self._unwritten += bytes(rest[-len(data) :]).count(b"\n")
                self._failure = error  # told by the next lines that come: there may be nowhere else to say so
                return

    def close(self, seconds: float = 1.0) -> None:
        """Write what is left, but do not wait for longer than `seconds`."""
        for call in (self._call, self._room_call):
            if call is not None and call.active():
                call.cancel()
        self._hand_over()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(seconds)  # it closes what it may still be writing to
        else:
            self._close_file()


def _open(path: str) -> int:
    """Open a file to append to it; a pipe without a reader is an error, and not a wait.

    Raises `OSError`.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, 0o640)
    os.set_blocking(fd, True)
    return fd


Form = Literal["text", "json", "chp"]


@implementer(ILogObserver)
class LogObserver:
    """Writes the events of twisted.logger, from `level` on, as lines of `form`.

    What Twisted tells of factories and ports counts as debug.
    """

    def __init__(
        self, write: Callable[[str], None], form: Form, level: str, *, colors: bool = False, worker: int = 0
    ) -> None:
        self._write = write
        self._worker = worker
        self._colors = colors
        self.configure(form, level)

    def configure(self, form: Form, level: str) -> None:
        """Write the events to come like this."""
        self._format = {"text": _text_line, "json": _json_line, "chp": _chp_line}[form]
        self._least = _LEVELS[level]

    def __call__(self, event: LogEvent) -> None:
        """Write the line of an event."""
        level = event.get("log_level", LogLevel.info)
        if event.get("log_namespace") in _TALKATIVE and level == LogLevel.info:
            level = LogLevel.debug
        if _LEVELS[level.name] < self._least:
            return
        if self._worker:
            event = {"worker": self._worker, **event}
        name = "error" if level is LogLevel.critical else level.name
        self._write(self._format(event, name, self._colors))


def _formatted(event: LogEvent) -> str:
    template = event.get("log_format")
    if isinstance(template, str) and _PLAIN_FORMAT.fullmatch(template):
        # Nothing is called and no attribute is asked for: a sixth of what `formatEvent` costs.
        with suppress(Exception):  # whatever it is, `formatEvent` puts it into words
            return template.format_map(event)
    return formatEvent(event)


def _words(event: LogEvent) -> str:
    words = _formatted(event)
    failure = event.get("log_failure")
    if failure is not None:
        words = f"{words}\n{failure.getTraceback()}".strip()
    return redact(words)


def redact(words: str) -> str:
    """Take what looks like a credential out of a line, and what could forge one."""
    if "://" in words:
        words = _QUERY.sub(r"\1[redacted]", _USER.sub("://[redacted]@", words))
    return _SECRETS.sub(r"\1[redacted]", _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", words))


def _bounded(words: str) -> str:
    """At most so much of it; the lines of a traceback are set in, so that none of them looks like an event."""
    first, newline, rest = words.partition("\n")
    return first[:_MAX_LINE] + (newline + rest[:_MAX_TRACEBACK]).replace("\n", "\n    ")


def _text_line(event: LogEvent, level: str, colors: bool) -> str:
    stamp = timestamp(event["log_time"])
    shown = f"{_ANSI[level]}{level:5}\x1b[0m" if colors else f"{level:5}"
    return f"{stamp} {shown} {_bounded(_words(event))}\n"


def _chp_line(event: LogEvent, level: str, colors: bool) -> str:
    shown = f"{_ANSI[level]}{level}\x1b[0m" if colors else level
    return f"{timestamp(event['log_time'])} [ConfigProxy] {shown}: {_bounded(_words(event))}\n"


_FACTS = (
    "route",
    "upstream",
    "peer",
    "status",
    "seconds",
    "bytes",
    "revision",
    "worker",
    "request_id",
    "method",
    "path",
)


def _told(fact: object) -> object:
    """A fact for itself, which may say no more than it does in the words of its event."""
    return fact if fact is None or isinstance(fact, int | float) else _bounded(redact(str(fact)))


def _json_line(event: LogEvent, level: str, _colors: bool) -> str:
    entry = {
        "time": timestamp(event["log_time"]),
        "level": level,
        "logger": event.get("log_namespace", "-"),
        "message": _bounded(_words(event)),
    }
    entry |= {fact: _told(event[fact]) for fact in _FACTS if fact in event}
    return json.dumps(entry) + "\n"
