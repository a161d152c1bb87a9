"""Five readers of requests, each lenient in a way of its own, as servers behind a proxy are.

What all of them read alike is read alike by whoever is behind the proxy; where two of them differ, a second request
can be hidden from one and shown to another. None of them refuses anything that it can make some sense of.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

Fields = list[tuple[bytes, bytes]]


@attrs.frozen
class Reading:
    """A request as a witness reads it."""

    method: bytes
    target: bytes
    host: bytes
    body: bytes


def _first(values: list[bytes]) -> bytes:
    return values[0] if values else b""


def _last(values: list[bytes]) -> bytes:
    return values[-1] if values else b""


def _digits(value: bytes) -> int:
    """As `atoi` reads it."""
    match = re.match(rb"[ \t\x0b\x0c]*\+?([0-9]+)", value)
    return int(match[1]) if match else 0


def _as_float(value: bytes) -> int:
    """As a language reads it that knows one kind of number only."""
    match = re.fullmatch(rb"\s*([0-9]+)(?:\.[0-9]*)?(?:e([0-9]{1,2}))?\s*", value)
    return int(match[1]) * 10 ** int(match[2] or b"0") if match else 0


def _in_32_bits(value: bytes) -> int:
    return _digits(value) & 0xFFFFFFFF


def _hex(line: bytes) -> int:
    """As `strtol` reads it."""
    match = re.match(rb"[ \t\x0b\x0c]*\+?(?:0[xX])?([0-9A-Fa-f]+)", line)
    return int(match[1], 16) if match else 0


def _hex_in_32_bits(line: bytes) -> int:
    return _hex(line) & 0xFFFFFFFF


@attrs.frozen(kw_only=True)
class Witness:
    """One way to read; see `WITNESSES`."""

    name: str
    line_end: re.Pattern[bytes]
    folds: bool = False
    ends_at_nul: bool = False
    clean_name: Callable[[bytes], bytes] = bytes.lower
    pick: Callable[[list[bytes]], bytes] = _first
    number: Callable[[bytes], int] = _digits
    size: Callable[[bytes], int] = _hex
    is_chunked: Callable[[list[bytes]], bool]
    length_wins: bool = False

    def read(self, stream: bytes) -> tuple[list[Reading], bytes]:
        """All requests in `stream`, and what is left of one that is not whole."""
        readings = []
        while stream:
            found = self._read_one(stream)
            if found is None:
                break
            reading, stream = found
            readings.append(reading)
        return readings, stream

    def _line(self, data: bytes) -> tuple[bytes, bytes] | None:
        match = self.line_end.search(data)
        return None if match is None else (data[: match.start()], data[match.end() :])

    def _read_one(self, data: bytes) -> tuple[Reading, bytes] | None:
        lines: list[bytes] = []
        while (found := self._line(data)) is not None:
            line, data = found
            if self.ends_at_nul:
                line = line.partition(b"\0")[0]
            if not line:
                if lines:
                    break
                continue
            if self.folds and lines and line[:1] in b" \t":
                lines[-1] += b" " + line.strip()
            else:
                lines.append(line)
        else:
            return None
        words = [*lines[0].split(), b"", b""]
        fields = [self._field(line) for line in lines[1:]]
        lengths = [value for name, value in fields if name == b"content-length"]
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        host = self.pick([value for name, value in fields if name == b"host"])
        if self.is_chunked(codings) and not (self.length_wins and lengths):
            chunks = self._chunks(data)
            if chunks is None:
                return None
            body, data = chunks
        else:
            length = self.number(self.pick(lengths))
            if len(data) < length:
                return None
            body, data = data[:length], data[length:]
        return Reading(words[0], words[1], host, body), data

    def _field(self, line: bytes) -> tuple[bytes, bytes]:
        name, _, value = line.partition(b":")
        return self.clean_name(name), value.strip()

    def _chunks(self, data: bytes) -> tuple[bytes, bytes] | None:
        body = b""
        while (found := self._line(data)) is not None:
            line, data = found
            size = self.size(line)
            if not size:
                break
            if len(data) < size:
                return None
            body += data[:size]
            data = data[size:]
            end = self.line_end.match(data)
            data = data[end.end() :] if end else data
        else:
            return None
        while (found := self._line(data)) is not None:
            line, data = found
            if not line:
                return body, data
        return None


def _names_chunked(codings: list[bytes]) -> bool:
    return any(b"chunked" in coding.lower() for coding in codings)


def _ends_in_chunked(codings: list[bytes]) -> bool:
    return b",".join(codings).lower().rpartition(b",")[2].strip() == b"chunked"


def _is_just_chunked(codings: list[bytes]) -> bool:
    return _first(codings) == b"chunked"


WITNESSES = (
    Witness(name="bare-lf", line_end=re.compile(rb"\r*\n"), is_chunked=_ends_in_chunked),
    Witness(
        name="length-first",
        line_end=re.compile(rb"\r\n"),
        pick=_last,
        number=_as_float,
        is_chunked=_is_just_chunked,
        length_wins=True,
    ),
    Witness(
        name="coding-first",
        line_end=re.compile(rb"\r\n"),
        clean_name=lambda name: re.sub(rb"[\x00-\x20\x7f-\xff]", b"", name.lower().replace(b"_", b"-")),
        is_chunked=_names_chunked,
    ),
    Witness(
        name="folding",
        line_end=re.compile(rb"\r?\n"),
        folds=True,
        clean_name=lambda name: name.strip().lower(),
        pick=lambda values: b"".join(values[:1]).partition(b",")[0],
        is_chunked=_ends_in_chunked,
    ),
    Witness(
        name="bare-cr",
        line_end=re.compile(rb"\r\n|\r|\n"),
        ends_at_nul=True,
        clean_name=lambda name: name.strip().lower(),
        pick=_last,
        number=_in_32_bits,
        size=_hex_in_32_bits,
        is_chunked=_names_chunked,
    ),
)


def disagreements(stream: bytes) -> list[str]:
    """How the witnesses differ about `stream`; nothing if all of them read the same whole requests."""
    readings = [witness.read(stream) for witness in WITNESSES]
    if all(reading == readings[0] for reading in readings):
        return []
    return [
        f"{witness.name}: {requests!r:.300}, left: {rest!r:.80}"
        for witness, (requests, rest) in zip(WITNESSES, readings, strict=True)
    ]
