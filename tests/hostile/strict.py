"""Messages read as RFC 9112 has them, with no leniency at all, and with nothing of the proxy's own code."""

from __future__ import annotations

import re

import attrs

CRLF = b"\r\n"

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_VISIBLE = rb"[\x21-\x7e\x80-\xff]"
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:"
    + _VISIBLE
    + rb"(?:[\t\x20-\x7e\x80-\xff]*"
    + _VISIBLE
    + rb")?)?)[ \t]*"
)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")

Fields = tuple[tuple[bytes, bytes], ...]


class MalformedError(Exception):
    """The bytes are no message."""


@attrs.frozen
class Request:
    """A whole request."""

    method: bytes
    target: bytes
    version: int
    fields: Fields
    body: bytes = b""

    def values(self, name: bytes) -> list[bytes]:
        """The values of all fields called `name`, which is in lower case."""
        return [value for key, value in self.fields if key.lower() == name]


@attrs.frozen
class Response:
    """A response, or as much of one as came: `is_complete` tells."""

    status: int
    version: int
    fields: Fields
    body: bytes = b""
    is_complete: bool = True
    lasts_until_close: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """The values of all fields called `name`, which is in lower case."""
        return [value for key, value in self.fields if key.lower() == name]


def _read_fields(block: bytes) -> Fields:
    fields = []
    for line in block.split(CRLF) if block else []:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise MalformedError(f"no field: {line[:80]!r}")
        fields.append((match[1], match[2]))
    return tuple(fields)


def _length_of(fields: Fields, version: int) -> int | None:
    """The length that the fields give: a number, -1 for chunked, None for nothing."""
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked" or version == 0:
            raise MalformedError(f"framing: {lengths!r} {codings!r} in HTTP/1.{version}")
        return -1
    if not lengths:
        return None
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise MalformedError(f"Content-Length: {lengths!r}")
    return int(lengths[0])


def read_chunked(data: bytes) -> tuple[bytes, int | None]:
    """The data of a chunked body, as far as it came, and where the body ends; None if it has not come to its end."""
    body = b""
    position = 0
    while True:
        end = data.find(CRLF, position)
        line = data[position : end if end >= 0 else None]
        if end < 0:
            if line and not re.fullmatch(rb"[0-9A-Fa-f]{1,16}(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r?", line):
                raise MalformedError(f"chunk line {line[:80]!r}")
            return body, None
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise MalformedError(f"chunk line {line[:80]!r}")
        size = int(match[1], 16)
        position = end + 2
        if size == 0:
            break
        body += data[position : position + size]
        closing = data[position + size : position + size + 2]
        if closing != CRLF[: len(closing)]:
            raise MalformedError("a chunk is longer than its size")
        if len(closing) < 2:
            return body, None
        position += size + 2
    while True:
        end = data.find(CRLF, position)
        line = data[position : end if end >= 0 else None]
        if end < 0:
            return body, None
        position = end + 2
        if not line:
            return body, position
        if not _FIELD.fullmatch(line):
            raise MalformedError(f"trailer {line[:80]!r}")


def read_request(data: bytes, *, from_client: bool = False) -> tuple[Request, bytes] | None:
    """The request that `data` begins with, and what follows it; None if it has not come to its end.

    Raises `MalformedError`. `from_client`: empty lines may come before it (RFC 9112 §2.2).
    """
    if from_client:
        while data.startswith(CRLF):
            data = data[2:]
    end = data.find(CRLF + CRLF)
    if end < 0:
        if re.search(rb"(?<!\r)\n|\r(?!\n|\Z)|\0", data):
            raise MalformedError(f"bare line ends or NUL: {data[:80]!r}")
        return None
    line, _, block = data[:end].partition(CRLF)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise MalformedError(f"no request line: {line[:80]!r}")
    fields = _read_fields(block)
    version = int(match[3])
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if len(hosts) > 1 or (version == 1 and not hosts):
        raise MalformedError(f"Host: {hosts!r}")
    length = _length_of(fields, version) or 0
    rest = data[end + 4 :]
    if length >= 0:
        if len(rest) < length:
            return None
        return Request(match[1], match[2], version, fields, rest[:length]), rest[length:]
    body, stop = read_chunked(rest)
    if stop is None:
        return None
    return Request(match[1], match[2], version, fields, body), rest[stop:]


def read_requests(data: bytes, *, from_client: bool = False) -> tuple[list[Request], str]:
    """All whole requests in `data`, and what comes behind them: nothing, "incomplete" or "malformed"."""
    requests = []
    while data:
        try:
            found = read_request(data, from_client=from_client)
        except MalformedError:
            return requests, "malformed"
        if found is None:
            return requests, "incomplete"
        request, data = found
        requests.append(request)
    return requests, ""


def read_response(data: bytes, method: bytes, *, at_end: bool) -> tuple[Response, bytes] | None:
    """The response to `method` that `data` begins with, and what follows it; None if there is no whole head.

    `at_end`: nothing more will come. Raises `MalformedError`.
    """
    end = data.find(CRLF + CRLF)
    if end < 0:
        if not b"HTTP/1.1 ".startswith(data[:9]) and not data.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")):
            raise MalformedError(f"no status line: {data[:80]!r}")
        return None
    line, _, block = data[:end].partition(CRLF)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise MalformedError(f"no status line: {line[:80]!r}")
    fields = _read_fields(block)
    version, status = int(match[1]), int(match[2])
    length = _length_of(fields, version)
    rest = data[end + 4 :]
    if method == b"HEAD" or status in {204, 304} or status < 200:
        return Response(status, version, fields), rest
    if length is None:
        return Response(status, version, fields, rest, is_complete=at_end, lasts_until_close=True), b""
    if length >= 0:
        return Response(status, version, fields, rest[:length], is_complete=len(rest) >= length), rest[length:]
    body, stop = read_chunked(rest)
    if stop is None:
        return Response(status, version, fields, body, is_complete=False), b""
    return Response(status, version, fields, body), rest[stop:]
