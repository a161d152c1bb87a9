"""Message heads: the start line with its fields (RFC 9112 §2.1), read strictly and kept as they came.

Owns what a head means. A head is cut out at its empty line by the caller; here one pass over its lines sorts
each field into the few kinds that a proxy has to look at, and keeps the lines of all the others untouched, so
that forwarding them is passing a block of bytes on. Nothing that RFC 9112 leaves to the leniency of a recipient
is accepted: one interpretation, or 400.

Heads that are plainly valid are read by `_scan.c`, if it is there, at a tenth of the price. What it leaves, and that
is everything rare or wrong, is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

import attrs

from proxyd.core import scan
from proxyd.errors import RequestError

CRLF = b"\r\n"
END_OF_HEAD = b"\r\n\r\n"

# How long a message body is (RFC 9112 §6.3): a number of bytes, or one of these.
CHUNKED = -1
UNTIL_CLOSE = -2

# Lengths beyond this would not survive the signed 64-bit integers of other implementations.
_MAX_LENGTH_DIGITS = 18

_TOKEN = bytes(
    sorted(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
)  # RFC 9110 §5.6.2
# All that may stand in a line, HTAB included; deleting it must leave nothing but the line ends (RFC 9110 §5.5).
_NOT_CONTROL = bytes(byte for byte in range(256) if (byte >= 0x20 and byte != 0x7F) or byte == 0x09)
# RFC 3986 has less, but browsers leave these in a query, and none of them is read in two ways there. Raw UTF-8
# passes, as it always has.
_TARGET = bytes(byte for byte in range(0x21, 256) if byte != 0x7F)
_BLANKS = b" \t"

METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE PROPFIND PROPPATCH MKCOL MKCALENDAR COPY MOVE LOCK UNLOCK "
    b"REPORT SEARCH ACL BIND UNBIND REBIND MERGE CHECKOUT CHECKIN UPDATE LABEL LINK UNLINK "
    b"PURGE SUBSCRIBE UNSUBSCRIBE NOTIFY QUERY".split()
)

# Kinds of fields. Anything without a kind of its own is ORDINARY: passed on as it came.
(
    ORDINARY,
    HOST,
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    DROPPED,
    UPGRADE,
    EXPECT,
    FORWARDED,
    NOTED,
    NO_FIELD,
) = range(1, 12)

_REQUEST_KINDS = {
    b"host": HOST,
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    # Hop by hop (RFC 9110 §7.6.1), and Proxy, which CGI turns into HTTP_PROXY (httpoxy).
    b"keep-alive": DROPPED,
    b"proxy-connection": DROPPED,
    b"te": DROPPED,
    b"trailer": DROPPED,
    b"proxy": DROPPED,
    b"x-forwarded-for": FORWARDED,
    b"x-forwarded-host": FORWARDED,
    b"x-forwarded-port": FORWARDED,
    b"x-forwarded-proto": FORWARDED,
    b"user-agent": NOTED,
    b"referer": NOTED,
}
# WSGI and CGI applications fold `_` and `-`: a field that reads there as one of ours, or as framing, is a forgery.
_FOLDED = frozenset(
    name for name, kind in _REQUEST_KINDS.items() if kind in {FORWARDED, CONTENT_LENGTH, TRANSFER_ENCODING}
)

_RESPONSE_KINDS = {
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
    b"keep-alive": DROPPED,
    b"proxy-connection": DROPPED,
    b"te": DROPPED,
    b"trailer": DROPPED,
    b"date": NOTED,
    b"location": NOTED,
}

_PERSISTENCE = {b"close": False, b"keep-alive": True}


class KindOf(dict[bytes, int]):
    """Field name, as it came -> kind. Learns names, within a bound, so that most are looked up only once."""

    _CAPACITY = 4096

    def __init__(self, kinds: dict[bytes, int], folded: frozenset[bytes] = frozenset()) -> None:
        self._kinds = kinds
        self._folded = folded
        super().__init__(kinds)

    def learn(self, name: bytes) -> int:
        """The kind of a name that has not been met yet; `NO_FIELD` if it cannot be the name of a field."""
        if not name or name.translate(None, _TOKEN):
            return NO_FIELD
        lower = name.lower()
        kind = self._kinds.get(lower, ORDINARY)
        if kind == ORDINARY and lower.replace(b"_", b"-") in self._folded:
            kind = DROPPED
        if len(name) <= 64:
            if len(self) >= self._CAPACITY:
                self.clear()
                self.update(self._kinds)
            self[name] = kind
        return kind


@attrs.frozen(kw_only=True)
class HeadLimits:
    """How large a head may be, in bytes, and how many fields it may have; which status a long request line gets."""

    request_line: int = 8 * 1024
    header_line: int = 16 * 1024
    headers: int = 64 * 1024
    header_count: int = 200
    long_line_status: int = 414

    @property
    def head(self) -> int:
        """The largest head, start line and line ends included."""
        return self.request_line + self.headers

    def long_line(self) -> RequestError:
        """The error of a request line that is too long."""
        return RequestError(self.long_line_status, "the request line is longer than limits.request_line")


class _Head:
    """What goes on of a head: `block` is its lines, in order and as they came, each with its CRLF."""

    block = b""

    @property
    def fields(self) -> list[bytes]:
        """The lines by themselves, without their ends: another list each time."""
        return lines_of(self.block)

    @fields.setter
    def fields(self, lines: Iterable[bytes]) -> None:
        self.block = block_of(lines)

    def get(self, name: bytes) -> bytes | None:
        """The value of the first forwarded field called `name` (lower-case), None if there is none."""
        for line in self.fields:
            key, _, value = line.partition(b":")
            if key.lower() == name:
                return value.strip(_BLANKS)
        return None

    def get_all(self, name: bytes) -> list[bytes]:
        """The values of all forwarded fields called `name` (lower-case)."""
        pairs = (line.partition(b":") for line in self.fields)
        return [value.strip(_BLANKS) for key, _, value in pairs if key.lower() == name]


class RequestHead(_Head):
    """The head of a request. `block` and `fields` are what goes on to the upstream.

    `body` is the length of the body: a number, or `CHUNKED`. `host` is the value of Host, None when there is
    none. `forwarded` holds the X-Forwarded-* fields that came, by lower-case name. `upgrade` is the lower-case
    value of Upgrade if Connection names it. `version` is the minor version of HTTP/1.
    """

    method: bytes
    target: bytes
    version = 1
    host: bytes | None = None
    body = 0
    has_length = False
    keep_alive = True
    upgrade: bytes = b""
    expects_continue = False
    forwarded: dict[bytes, bytes] | None = None
    user_agent: bytes = b""
    referer: bytes = b""


class ResponseHead(_Head):
    """The head of a response. `block` and `fields` are what goes on to the client.

    `body` is what the fields say of the length, before the method and the status have their say: a number,
    `CHUNKED` or `UNTIL_CLOSE`. `upgrade` is the lower-case value of Upgrade if Connection names it.
    """

    status: int
    reason: bytes
    version = 1
    body = UNTIL_CLOSE
    keep_alive = True
    upgrade: bytes = b""
    has_date = False
    location: bytes | None = None


class MalformedHeadError(Exception):
    """A response head that is not what RFC 9112 says; the text tells which rule it breaks."""


class RequestReader:
    """Reads the heads of requests, within `limits`; `compiled`: with what is compiled, if it is there."""

    def __init__(self, limits: HeadLimits, *, compiled: bool = True) -> None:
        self.limits = limits
        self.max_head = limits.head
        self._kinds = KindOf(_REQUEST_KINDS, _FOLDED)
        self._scan = scan.read_request if compiled else None
        self._bounds = (limits.request_line, limits.headers, limits.header_line, limits.header_count)

    def read(self, block: bytes) -> RequestHead:
        """Read a head, given without its final empty line.

        Raises `RequestError` with the status that RFC 9110 and RFC 9112 §3, §5, §6 ask for.
        """
        if self._scan is not None:
            scanned = self._scan(RequestHead, block, self._bounds)
            if scanned is not None:
                return scanned
        limits = self.limits
        lines = block.split(CRLF)
        line = lines[0]
        if len(line) > limits.request_line:
            raise limits.long_line()
        if len(block) - len(line) > limits.headers:
            raise RequestError(431, "the head is longer than limits.headers")
        if len(lines) > limits.header_count + 1:
            raise RequestError(431, "there are more fields than limits.header_count")
        if len(block) > limits.header_line and max(map(len, lines[1:]), default=0) > limits.header_line:
            raise RequestError(431, "a field is longer than limits.header_line")
        if block.translate(None, _NOT_CONTROL) != CRLF * (len(lines) - 1):
            raise RequestError(400, "there is a control character, a bare CR or a bare LF in the head")

        head = RequestHead()
        try:
            method, target, version = line.split(b" ")
        except ValueError:
            raise RequestError(400, "the request line is not a method, a target and a version") from None
        if version != b"HTTP/1.1":
            if version != b"HTTP/1.0":
                raise RequestError(400, "the version is neither HTTP/1.1 nor HTTP/1.0")
            head.version = 0
            head.keep_alive = False
        if method not in METHODS and (not method or len(method) > 64 or method.translate(None, _TOKEN)):
            raise RequestError(400, "the method is not a token")
        if not target or target.translate(None, _TARGET):
            raise RequestError(400, "there is a character in the target that has no place there")
        head.method = method
        head.target = target

        fields: list[bytes] = []
        keep = fields.append
        kinds = self._kinds
        kind_of = kinds.get
        connection = None
        coding = None
        upgrade = b""
        for line in islice(lines, 1, None):
            name, colon, value = line.partition(b":")
            kind = kind_of(name)
            if kind is None:
                kind = kinds.learn(name)
            if not colon or kind == NO_FIELD:
                raise RequestError(400, "a line of the head is not a field")
            if kind == ORDINARY:
                keep(line)
            elif kind == NOTED:
                keep(line)
                if name[0] in b"uU":
                    head.user_agent = value.strip(_BLANKS)
                else:
                    head.referer = value.strip(_BLANKS)
            elif kind == HOST:
                if head.host is not None:
                    raise RequestError(400, "there are two Host fields")
                head.host = value.strip(_BLANKS)
            elif kind == CONNECTION:
                value = value.strip(_BLANKS)
                connection = value if connection is None else connection + b"," + value
            elif kind == CONTENT_LENGTH:
                if head.has_length:
                    raise RequestError(400, "there are two Content-Length fields")
                length = parse_length(value)
                if length is None:
                    raise RequestError(400, "Content-Length is not a number")
                head.body = length
                head.has_length = True
            elif kind == TRANSFER_ENCODING:
                if coding is not None:
                    raise RequestError(400, "there are two Transfer-Encoding fields")
                coding = value.strip(_BLANKS).lower()
            elif kind == UPGRADE:
                upgrade = upgrade + b"," + value if upgrade else value
            elif kind == EXPECT:
                if value.strip(_BLANKS).lower() != b"100-continue":
                    raise RequestError(417, "the only expectation that can be met is 100-continue")
                head.expects_continue = head.version == 1  # RFC 9110 §10.1.1: ignored in HTTP/1.0
            elif kind == FORWARDED:
                if head.forwarded is None:
                    head.forwarded = {}
                name = name.lower()
                value = value.strip(_BLANKS)
                before = head.forwarded.get(name)
                head.forwarded[name] = value if before is None else before + b", " + value

        if head.host is None and head.version == 1:
            raise RequestError(400, "there is no Host field")
        if head.host and not is_authority(head.host):
            raise RequestError(400, "Host is not a host with an optional port")
        if coding is not None:
            if head.has_length:
                raise RequestError(400, "there are both Transfer-Encoding and Content-Length")
            if head.version == 0:
                raise RequestError(400, "there is a Transfer-Encoding in HTTP/1.0")
            if coding != b"chunked":
                raise RequestError(400, "the transfer coding is not chunked")
            head.body = CHUNKED
        if connection is not None:
            keep_alive = _PERSISTENCE.get(connection)
            if keep_alive is None:
                options = connection_options(connection)
                keep_alive = b"close" not in options and (head.version == 1 or b"keep-alive" in options)
                if b"upgrade" in options and head.version == 1:
                    head.upgrade = upgrade.strip(_BLANKS).lower()
                fields = without_names(fields, options)
                if head.forwarded:
                    head.forwarded = {n: v for n, v in head.forwarded.items() if n not in options}
            head.keep_alive = keep_alive
        head.fields = fields
        return head


_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")
_AFTER_STATUS = (b" ", b"")  # RFC 9112 §4 wants the space; many leave it out together with the reason
# RFC 9110 §15: the first digit is 1 to 5.
_STATUSES = {b"%d" % status: status for status in range(100, 600)}


class ResponseReader:
    """Reads the heads of responses; how long they may be is a matter of the buffer they are collected in.

    `compiled`: with what is compiled, if it is there.
    """

    def __init__(self, *, compiled: bool = True) -> None:
        self._kinds = KindOf(_RESPONSE_KINDS)
        self._scan = scan.read_response if compiled else None

    def read(self, block: bytes) -> ResponseHead:
        """Read a head, given without its final empty line.

        Raises `MalformedHeadError`.
        """
        if self._scan is not None:
            scanned = self._scan(ResponseHead, block)
            if scanned is not None:
                return scanned
        lines = block.split(CRLF)
        if block.translate(None, _NOT_CONTROL) != CRLF * (len(lines) - 1):
            raise MalformedHeadError("a control character, a bare CR or a bare LF in the head")
        line = lines[0]
        status = _STATUSES.get(line[9:12])
        if status is None or line[12:13] not in _AFTER_STATUS or line[:8] not in _VERSIONS or line[8:9] != b" ":
            raise MalformedHeadError("no status line")
        head = ResponseHead()
        head.status = status
        head.reason = line[13:]
        if line[7:8] == b"0":
            head.version = 0
            head.keep_alive = False

        fields: list[bytes] = []
        keep = fields.append
        kinds = self._kinds
        kind_of = kinds.get
        connection = None
        coding = None
        upgrade = b""
        for line in islice(lines, 1, None):
            name, colon, value = line.partition(b":")
            kind = kind_of(name)
            if kind is None:
                kind = kinds.learn(name)
            if not colon or kind == NO_FIELD:
                raise MalformedHeadError("a line of the head is not a field")
            if kind == ORDINARY:
                keep(line)
            elif kind == NOTED:
                keep(line)
                if name[0] in b"dD":
                    head.has_date = True
                else:
                    head.location = value.strip(_BLANKS)
            elif kind == CONTENT_LENGTH:
                length = parse_length(value)
                if length is None or head.body != UNTIL_CLOSE:
                    raise MalformedHeadError("Content-Length is not one number")
                head.body = length
            elif kind == TRANSFER_ENCODING:
                if coding is not None:
                    raise MalformedHeadError("two Transfer-Encoding fields")
                coding = value.strip(_BLANKS).lower()
            elif kind == CONNECTION:
                value = value.strip(_BLANKS).lower()
                connection = value if connection is None else connection + b"," + value
            elif kind == UPGRADE:
                upgrade = upgrade + b"," + value if upgrade else value

        if coding is not None:
            if head.body != UNTIL_CLOSE:
                raise MalformedHeadError("both Transfer-Encoding and Content-Length")
            if coding != b"chunked" or head.version == 0:
                raise MalformedHeadError("a transfer coding other than chunked, or one in HTTP/1.0")
            head.body = CHUNKED
        if connection is not None:
            keep_alive = _PERSISTENCE.get(connection)
            if keep_alive is None:
                options = connection_options(connection)
                keep_alive = b"close" not in options and (head.version == 1 or b"keep-alive" in options)
                if b"upgrade" in options:
                    head.upgrade = upgrade.strip(_BLANKS).lower()
                fields = without_names(fields, options)
            head.keep_alive = keep_alive
        head.fields = fields
        return head


def parse_length(value: bytes) -> int | None:
    """Read the value of a Content-Length field (RFC 9110 §8.6); None if it is not one decimal number."""
    value = value.strip(_BLANKS)
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        return None
    return int(value)


def connection_options(value: bytes) -> frozenset[bytes]:
    """The lower-case connection options of a Connection field (RFC 9110 §7.6.1)."""
    return frozenset(option.strip(_BLANKS) for option in value.lower().split(b","))


def lines_of(block: bytes) -> list[bytes]:
    """The lines of `block`, without their ends."""
    return block.split(CRLF)[:-1]


def block_of(lines: Iterable[bytes]) -> bytes:
    """Lines as one, each with its CRLF."""
    return b"".join([line + CRLF for line in lines])


def without_names(fields: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    """The lines of `fields` less those that are called one of `names` (lower-case)."""
    return [line for line in fields if line.partition(b":")[0].lower() not in names]


def folded(name: bytes) -> bytes:
    """The name of a field as applications may read it that have no other characters for it than `-`, or than `_`."""
    return name.lower().replace(b"_", b"-")


_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{0,5})?")


def is_authority(value: bytes) -> bool:
    """Whether `value` is one host with an optional port (RFC 9110 §7.2), without user information."""
    return len(value) <= 262 and _is_authority(value)  # 255 for the longest name, 6 for a port, 1 for a dot


@lru_cache(maxsize=1024)
def _is_authority(value: bytes) -> bool:
    return _AUTHORITY.fullmatch(value) is not None
