"""One line for each exchange, formatted directly: an event of twisted.logger costs fifty times as much.

Query strings, cookies and credentials are never written: tokens travel in them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from proxyd.core import scan
from proxyd.core.activity import timestamp

if TYPE_CHECKING:
    from proxyd.http.request import Request
    from proxyd.model.auth import Admit

# CVE-2026-54338: what clients send is bounded in the log, too. Escapes make it longer: then less of it is told.
_MAX_VALUE = 1024
_MAX_LINE = 4096
_MAX_ESCAPED_VALUE = 80
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\]')


FormatLine = Callable[[bytes, str, str, bytes, bytes, int, int, int, bytes, bytes, float, str], str | None]


class Writer(Protocol):
    """Takes whole lines, and never waits."""

    def write(self, line: str) -> None:
        """Take a line with its line end."""


class AccessLog:
    """Writes the lines to `writer`."""

    def __init__(self, writer: Writer, wall_clock: Callable[[], float] = time.time) -> None:
        self._write = writer.write
        self._wall_clock = wall_clock
        self._second = -1
        self._stamp = ""

    def write(self, request: Request) -> None:
        """Write the line of an exchange that is over."""
        raise NotImplementedError


class CombinedLog(AccessLog):
    """The Combined Log Format, with the duration in seconds and the request id of an error behind it.

    It is formatted by `format_line`, if that is there and takes the values, else here.
    """

    def __init__(
        self,
        writer: Writer,
        wall_clock: Callable[[], float] = time.time,
        *,
        format_line: FormatLine | None = scan.combined_line,
    ) -> None:
        super().__init__(writer, wall_clock)
        self._format = format_line

    def write(self, request: Request) -> None:
        """Write the line of an exchange that is over."""
        now = int(self._wall_clock())
        if now != self._second:
            self._second = now
            self._stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(now))
        head = request.head
        line = None
        if self._format is not None:
            line = self._format(
                request.channel.peer.address,
                "-" if request.admission is None else _user(request.admission),
                self._stamp,
                head.method,
                head.target,
                head.version,
                request.status,
                request.body_sent,
                head.referer,
                head.user_agent,
                request.seconds,
                request.request_id,
            )
        if line is None:
            line = self._line(request, _MAX_VALUE)
        if len(line) > _MAX_LINE:
            line = self._line(request, _MAX_ESCAPED_VALUE)
        self._write(line)

    def _line(self, request: Request, most: int) -> str:
        """The line, with at most so many bytes of each value of the client."""
        head = request.head
        user = "-" if request.admission is None else _user(request.admission, most)
        return (
            f"{request.channel.peer.address.decode() or 'unix'} - {user} [{self._stamp}] "
            f'"{printable(head.method, most)} {printable(head.target.partition(b"?")[0], most)} HTTP/1.{head.version}" '
            f"{request.status or '-'} {request.body_sent} "
            f'"{printable(head.referer.partition(b"?")[0], most) or "-"}" "{printable(head.user_agent, most) or "-"}" '
            f"{request.seconds:.4f} {request.request_id or '-'}\n"
        )


class JsonLog(AccessLog):
    """One JSON object a line."""

    def write(self, request: Request) -> None:
        """Write the line of an exchange that is over."""
        line = self._line(request, _MAX_VALUE)
        if len(line) > _MAX_LINE:
            line = self._line(request, _MAX_ESCAPED_VALUE)
        self._write(line)

    def _line(self, request: Request, most: int) -> str:
        """The line, with at most so many characters of each value of the client."""
        head = request.head
        entry = {
            "time": timestamp(self._wall_clock()),
            "peer": request.peer.address.decode() or "unix",
            "method": head.method[:most].decode("latin-1"),
            "host": (head.host or b"")[:most].decode("latin-1"),
            "path": head.target.partition(b"?")[0][:most].decode("utf-8", "replace"),
            "status": request.status,
            "bytes": request.body_sent,
            "seconds": round(request.seconds, 6),
            "referer": head.referer.partition(b"?")[0][:most].decode("utf-8", "replace"),
            "user_agent": head.user_agent[:most].decode("utf-8", "replace"),
        }
        if request.admission is not None and request.admission.identity.name:
            entry["user"] = request.admission.identity.name[:most]
        if request.entry is not None:
            entry["route"] = request.entry.route.key[:most]
        if request.request_id:
            entry["request_id"] = request.request_id
            entry["detail"] = request.detail[:most]
        return json.dumps(entry) + "\n"


def _user(admission: Admit, most: int = _MAX_VALUE) -> str:
    """Who it is, as one word; `-` if nobody was asked."""
    if not admission.identity.name:
        return "-"
    return printable(admission.identity.name.encode(), most).replace(" ", "\\x20")


def printable(value: bytes, most: int = _MAX_VALUE) -> str:
    """What a client sent, as it may stand in a line of a log: bounded, without control characters and quotes."""
    text = value[:most].decode("latin-1")
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text) if _UNSAFE.search(text) else text
