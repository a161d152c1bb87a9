"""Heads that are good, lines that are doubtful, and how a test reads them: with what is compiled, and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from proxyd.core.head import (
    HeadLimits,
    MalformedHeadError,
    RequestHead,
    RequestReader,
    ResponseHead,
    ResponseReader,
)
from proxyd.errors import RequestError

Head = TypeVar("Head", RequestHead, ResponseHead)

GET = b"GET /a HTTP/1.1\r\nHost: example.org"
POST = b"POST /a HTTP/1.1\r\nHost: example.org"
OK = b"HTTP/1.1 200 OK"

# What is neither a token nor blank: no name, no method may have one of these.
SEPARATORS = b'"(),/:;<=>?@[\\]{}'
CONTROLS = bytes(byte for byte in range(0x20) if byte not in b"\t\r\n") + b"\x7f"

GOOD_REQUESTS = [
    GET,
    b"GET / HTTP/1.0",
    b"GET / HTTP/1.0\r\nConnection: keep-alive",
    b"GET /a/b?c=d&e HTTP/1.1\r\nhost: [::1]:8000\r\nConnection: keep-alive\r\nUser-Agent: x\r\nReferer: y",
    b"GET http://example.org/a HTTP/1.1\r\nHost: example.org\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https",
    b"GET /ws HTTP/1.1\r\nHost: h:80\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc",
    POST + b"\r\nContent-Length: 5",
    POST + b"\r\nContent-Length: \t7 \r\nExpect: 100-continue\r\nCookie: a=b; c=d",
    POST + b"\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\nTE: trailers",
    b"PUT /%c3%a9/;p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\nConnection: close, TE, X-Hop\r\nX-Hop: 1",
    b"PROPFIND /d/ HTTP/1.1\r\nHost: h\r\nDepth: 1\r\nContent-Length: 0\r\nKeep-Alive: timeout=5",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\nX-Latin: \xe9\r\nX-Empty:\r\nProxy: http://evil/",
    b"UPDATE /x HTTP/1.1\r\nHost: \r\nX:\ta\tb\t",
]
REQUEST_LINES = [
    b"Host: other",
    b"Host: a, b",
    b"Content-Length: 5",
    b"Content-Length: 6",
    b"Content-Length: 5, 5",
    b"Content-Length: +5",
    b"Content-Length: 0x5",
    b"Content-Length:",
    b"Content_Length: 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer_Encoding: chunked",
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"Connection: keep-alive, X-Forwarded-For",
    b"Connection: host, content-length, transfer-encoding",
    b"Connection: upgrade",
    b"Upgrade: h2c",
    b"X-Forwarded-For: 6.6.6.6",
    b"X_Forwarded_For: 6.6.6.6",
    b"X: y",
    b"X :y",
    b" folded",
    b"\tfolded",
    b": no name",
    b"no colon",
    b"",
    b"Expect: 100-Continue",
    b"Trailer: X",
]
GOOD_RESPONSES = [
    OK,
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 ",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5",
    b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5",
    OK + b"\r\nContent-Length: 5\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d",
    OK + b"\r\nTransfer-Encoding: chunked\r\nTrailer: T",
    OK + b"\r\nTransfer-Encoding: Chunked\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x",
    b"HTTP/1.1 302 Found\r\nLocation: http://h/\r\nContent-Length: 0",
    b"HTTP/1.1 418 I'm a \xe9 teapot\r\nX-Latin: \xe9\r\nX-Empty:",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>",
]
RESPONSE_LINES = [
    b"Content-Length: 5",
    b"Content-Length: 6",
    b"Content-Length: 5, 5",
    b"Content-Length: -5",
    b"Content-Length: 5 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, gzip",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade",
    b"Upgrade: websocket",
    b"Date: x",
    b"X: y",
    b"X :y",
    b" folded",
    b"no colon",
    b": no name",
]


def read_request(block: bytes, limits: HeadLimits | None = None) -> RequestHead:
    """Read a request head with readers that have read nothing before, and see to it that they agree."""
    limits = limits or HeadLimits()
    return _agreed(block, RequestReader(limits).read, RequestReader(limits, compiled=False).read)


def read_response(block: bytes) -> ResponseHead:
    """Read a response head with readers that have read nothing before, and see to it that they agree."""
    return _agreed(block, ResponseReader().read, ResponseReader(compiled=False).read)


def _agreed(block: bytes, read: Callable[[bytes], Head], read_in_python: Callable[[bytes], Head]) -> Head:
    """What both make of `block`; raises `AssertionError` if that is not the same, and what both raise."""
    try:
        expected = read_in_python(block)
    except (RequestError, MalformedHeadError) as error:
        try:
            read(block)
        except type(error) as other:
            if str(other) != str(error):
                raise AssertionError(f"{block!r}: {other}, {error}") from None
            raise
        raise AssertionError(f"{block!r} is taken by what is compiled only: {error}") from None
    head = read(block)
    if attributes(head) != attributes(expected):
        raise AssertionError(f"{block!r}: {attributes(head)}, {attributes(expected)}")
    return head


def attributes(head: RequestHead | ResponseHead) -> dict[str, object]:
    """All that is to be known of a head."""
    names = {name for name in {**vars(type(head)), **vars(head)} if not name.startswith("_") and name[:3] != "get"}
    return {name: getattr(head, name) for name in names}


def request_status(block: bytes, limits: HeadLimits | None = None) -> int:
    """The status that a request head earns; 0 if it is accepted."""
    try:
        read_request(block, limits)
    except RequestError as error:
        return error.status
    return 0
