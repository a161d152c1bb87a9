"""Good requests, damaged at random: the same ones for the same seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from tests.hostile.cases import GET, POST, head
from tests.hostile.families.connections import HANDSHAKE

_GET = GET + b"\r\n"
SEEDS = (
    _GET,
    _GET + _GET,
    POST + b"Content-Length: 11\r\n\r\nhello world",
    POST + b"Content-Length: 11\r\n\r\nhello world" + _GET,
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n" + _GET,
    POST
    + b"Transfer-Encoding: chunked\r\n\r\n26\r\n"
    + b"GET /inner HTTP/1.1\r\nHost: inside.it\r\n\r\n"[:38]
    + b"\r\n0\r\n\r\n",
    POST + b"Content-Length: 40\r\n\r\nGET /inner HTTP/1.1\r\nHost: inside.it\r\n\r\n",
    POST + b"Content-Length: 0\r\n\r\n" + _GET,
    POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    head(start=b"HEAD /get HTTP/1.1") + _GET,
    head(b"X: y", b"Cookie: a=b; c=d", b"Accept: */*", b"User-Agent: x"),
    head(b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"Keep-Alive: timeout=5"),
    head(b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: https"),
    head(start=b"GET http://a/get?x=y HTTP/1.1"),
    head(start=b"OPTIONS * HTTP/1.1") + _GET,
    head(start=b"DELETE /a/../b/./c%2fd HTTP/1.1"),
    b"GET /get HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" + _GET,
    b"POST /post HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
    HANDSHAKE,
)

# Bytes that readers differ about.
_BYTES = b"\r\n\t \x00\x0b\x0c\x08\x1f\x7f\x80\xa0\xff:;,=+-_.\"'/\\@#%?0129aAfFxX"
_WORDS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\r\n ", b"\r\n\t", b"\n ", b" \r\n", b"\x00", b" :",
    b"\t:", b": ", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 40\r\n",
    b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length:\r\n 5\r\n", b"content-length:5\r\n",
    b"Content-Length : 5\r\n", b"Content_Length: 5\r\n", b"\nContent-Length: 5\r\n", b"\rContent-Length: 5\r\n",
    b"X: y\nContent-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n", b"Transfer_Encoding: chunked\r\n", b"\nTransfer-Encoding: chunked\r\n",
    b"\rTransfer-Encoding: chunked\r\n", b"TRANSFER-ENCODING: CHUNKED\r\n", b"Host: b\r\n", b"Host: a, b\r\n",
    b"Host: a@b\r\n", b" Host: b\r\n", b"Connection: close\r\n", b"Connection: Content-Length\r\n",
    b"Connection: Transfer-Encoding, Host\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n",
    b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"Trailer: Content-Length\r\n", b"TE: chunked\r\n",
    b"0\r\n\r\n", b"0\n\n", b"0x5\r\n", b"5;\n", b"5 \r\n", b"+5\r\n", b"-1\r\n", b"00000000000000005\r\n",
    b"FFFFFFFFFFFFFFFF\r\n", b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9",
    b"http://b/", b"//", b"/../", b"%2e%2e/", b"%00",
)  # fmt: skip
_HUGE = (
    b"4294967301",
    b"18446744073709551621",
    b"9223372036854775807",
    b"2147483648",
    b"00000005",
    b"5e0",
    b"0x5",
    b"5.0",
    b"1_1",
)


def _insert_byte(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + bytes([chance.choice(_BYTES)]) + data[at:]


def _replace_byte(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([chance.choice(_BYTES)]) + data[at + 1 :]


def _any_byte(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def _delete_bytes(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.choice((1, 1, 1, 2, 4, 8)) :]


def _insert_word(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(_WORDS) + data[at:]


def _places_of_lines(data: bytes) -> list[int]:
    return [match.end() for match in re.finditer(rb"\n", data)]


def _insert_line(data: bytes, chance: random.Random) -> bytes:
    at = chance.choice(_places_of_lines(data) or [0])
    return data[:at] + chance.choice(_WORDS) + data[at:]


def _change_line_end(data: bytes, chance: random.Random) -> bytes:
    places = [match.start() for match in re.finditer(rb"\r\n", data)]
    if not places:
        return data
    at = chance.choice(places)
    return (
        data[:at]
        + chance.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b" \r\n", b"\x00\r\n", b""))
        + data[at + 2 :]
    )


def _repeat_line(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"\r\n".join(lines)


def _swap_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\r\n".join(lines)


def _change_number(data: bytes, chance: random.Random) -> bytes:
    numbers = list(re.finditer(rb"[0-9]+", data))
    if not numbers:
        return data
    match = chance.choice(numbers)
    number = chance.choice((b"%d" % (int(match[0]) + chance.choice((-1, 1, 5, 10))), chance.choice(_HUGE), b"0", b""))
    return data[: match.start()] + number + data[match.end() :]


def _change_case(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at : at + 8].swapcase() + data[at + 8 :]


def _splice(data: bytes, chance: random.Random) -> bytes:
    other = chance.choice(SEEDS)
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other)) :]


def _truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(1, len(data) + 1)]


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _insert_byte,
    _insert_byte,
    _replace_byte,
    _any_byte,
    _delete_bytes,
    _insert_word,
    _insert_line,
    _insert_line,
    _insert_line,
    _change_line_end,
    _repeat_line,
    _swap_lines,
    _change_number,
    _change_case,
    _splice,
    _truncate,
)


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """So many damaged streams of requests."""
    chance = random.Random(seed)
    for _ in range(count):
        data = chance.choice(SEEDS)
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3))):
            data = chance.choice(_MUTATIONS)(data, chance) or b"\r\n"
        yield data
