"""Where a message body ends (RFC 9112 §6, §7): one strict reading, for both directions.

Owns the length of a body and the chunked coding. Chunk extensions and trailer fields are checked and dropped.
"""

from __future__ import annotations

import re
import sys
from enum import Enum, auto

from proxyd.core.head import CHUNKED, CRLF, UNTIL_CLOSE, ResponseHead

LAST_CHUNK = b"0\r\n\r\n"

# One line in front of a chunk: up to 16 hex digits, then extensions without control characters (RFC 9112 §7.1).
# 16 digits and no more: what does not fit 64 bits is read differently by different recipients.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_MAX_CHUNK = 2**63 - 1
# Of a whole body (RFC 9112 §7.1.1, CVE-2024-22019): nobody needs them, and we drop them.
_MAX_EXTENSIONS = 1024
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class FramingError(Exception):
    """A body breaks the rules of its framing; the text tells which one."""


def response_length(head: ResponseHead, method: bytes) -> int:
    """The length of the body of a response to `method` (RFC 9112 §6.3): a number, `CHUNKED` or `UNTIL_CLOSE`."""
    if method == b"HEAD" or head.status in {204, 304} or head.status < 200:
        return 0
    return head.body


def chunk(data: bytes) -> bytes:
    """Wrap `data`, which must not be empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class _State(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    DONE = auto()


# By names of their own: to look a member up in its class takes longer than a call.
_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = _State


class ChunkedDecoder:
    """Takes the chunked coding off a body.

    Feed it what comes; it gives back the data in it. Once `complete`, `rest` holds the bytes behind the body.
    """

    def __init__(self, max_line: int = 4096, max_trailers: int = 8192) -> None:
        self.rest = b""
        self._state = _SIZE
        self._buffer = b""
        self._left = 0
        self._extensions = 0
        self._max_line = max_line
        self._trailers_left = max_trailers

    @property
    def complete(self) -> bool:
        """Whether the last chunk and the trailer section have been read."""
        return self._state is _DONE

    def feed(self, data: bytes) -> bytes:
        """Decode the next bytes of the body.

        Raises `FramingError`; the decoder cannot be used after that.
        """
        if self._state is _DATA and len(data) <= self._left:
            self._left -= len(data)  # the common case: the middle of a large chunk
            if not self._left:
                self._state = _DATA_END
            return data
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        pieces: list[bytes] = []
        position = 0
        size = len(data)
        while position < size or self._state is _DONE:
            if self._state is _DATA:
                end = min(size, position + self._left)
                pieces.append(data[position:end])
                self._left -= end - position
                position = end
                if not self._left:
                    self._state = _DATA_END
            elif self._state is _DATA_END:
                if size - position < 2:
                    if data[position:] != b"\r":
                        raise FramingError("a chunk is longer than its size")
                    break
                if data[position : position + 2] != CRLF:
                    raise FramingError("a chunk is longer than its size")
                position += 2
                self._state = _SIZE
            elif self._state is _DONE:
                self.rest = data[position:]
                return b"".join(pieces)
            else:
                end = data.find(b"\n", position)
                line = data[position:end] if end >= 0 else data[position:]
                self._check_line(line, complete=end >= 0)
                if end < 0:
                    break
                position = end + 1
                if self._state is _SIZE:
                    self._size_line(line[:-1])
                else:
                    self._trailer_line(line[:-1])
        self._buffer = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _check_line(self, line: bytes, *, complete: bool) -> None:
        if self._state is _SIZE:
            is_too_long = len(line) > self._max_line
        else:  # the last line of any trailer section is nothing but its end
            is_too_long = len(line) - line.endswith(b"\r") > self._trailers_left
        if is_too_long:
            raise FramingError("a chunk line or a trailer section is too long")
        if complete and not line.endswith(b"\r"):
            raise FramingError("a line of the chunked coding ends in a bare LF")
        if b"\r" in line[:-1]:
            raise FramingError("there is a bare CR in a line of the chunked coding")

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise FramingError("a chunk size is not a hexadecimal number")
        self._extensions += len(line) - match.end(1)
        if self._extensions > _MAX_EXTENSIONS:
            raise FramingError("the chunk extensions of a body are too long")
        self._left = int(match[1], 16)
        if self._left > _MAX_CHUNK:
            raise FramingError("a chunk size does not fit 63 bits")
        self._state = _DATA if self._left else _TRAILERS

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self._state = _DONE
            return
        self._trailers_left -= len(line)
        if not _TRAILER.fullmatch(line):
            raise FramingError("a trailer is not a field")


class Body:
    """Counts a body of any framing down to its end.

    Feed it what comes; it gives back the data in it. Once `complete`, `rest` holds the bytes behind the body.
    A body that lasts until the connection closes is never complete by itself.
    """

    __slots__ = ("_decoder", "_left", "complete", "received", "rest")

    def __init__(self, length: int, max_line: int = 4096, max_trailers: int = 8192) -> None:
        self.complete = length == 0
        self.rest = b""
        self.received = 0
        self._left = length
        self._decoder = ChunkedDecoder(max_line, max_trailers) if length == CHUNKED else None

    @property
    def lasts_until_close(self) -> bool:
        """Whether nothing but the end of the connection ends the body."""
        return self._left == UNTIL_CLOSE

    @property
    def passable(self) -> int:
        """How many of the next bytes are data, whatever they are; 0 if they have to be looked at."""
        if self._left == UNTIL_CLOSE:
            return sys.maxsize
        return max(0, self._left)

    def skip(self, count: int) -> None:
        """Count bytes that nobody has fed, no more than are `passable`."""
        self.received += count
        if self._left != UNTIL_CLOSE:
            self._left -= count
            self.complete = not self._left

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the wire.

        Raises `FramingError`.
        """
        if self._decoder is not None:
            data = self._decoder.feed(data)
            if self._decoder.complete:
                self.complete = True
                self.rest = self._decoder.rest
        elif self._left != UNTIL_CLOSE:
            if len(data) >= self._left:
                self.rest = data[self._left :]
                data = data[: self._left]
                self.complete = True
            self._left -= len(data)
        self.received += len(data)
        return data
