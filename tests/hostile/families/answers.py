"""Answers of an upstream that break the rules, and odd ones that do not (RFC 9112 §4-§7)."""

from __future__ import annotations

import attrs

from tests.hostile.cases import (
    OK,
    POST,
    Case,
    End,
    Endless,
    Seen,
    Wait,
    answered,
    bytewise,
    cut,
    family,
    fault,
    head,
)

_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_BODY = b"2\r\nok\r\n0\r\n\r\n"
# What an answer must never turn into: a second one, for the next client.
_FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
_CONTROLS = bytes(byte for byte in range(0x20) if byte not in b"\t\r\n") + b"\x7f"
_HEAD = Seen(method=b"HEAD")
_ASK_HEAD = head(start=b"HEAD /get HTTP/1.1")


def _status(name: str, line: bytes) -> Case:
    """A status line that is none."""
    return fault(name, line + b"\r\nContent-Length: 2\r\n\r\nok")


STATUS_LINE = family(
    "upstream-status-line",
    _status("status-000", b"HTTP/1.1 000 OK"),
    _status("status-099", b"HTTP/1.1 099 OK"),
    _status("status-99", b"HTTP/1.1 99 OK"),
    _status("status-600", b"HTTP/1.1 600 OK"),
    _status("status-999", b"HTTP/1.1 999 OK"),
    _status("status-1000", b"HTTP/1.1 1000 OK"),
    _status("status-2000", b"HTTP/1.1 2000 OK"),
    _status("status-20", b"HTTP/1.1 20 OK"),
    _status("status-negative", b"HTTP/1.1 -200 OK"),
    _status("status-plus", b"HTTP/1.1 +20 OK"),
    _status("status-hex", b"HTTP/1.1 0xc8 OK"),
    _status("status-letters", b"HTTP/1.1 abc OK"),
    _status("status-fullwidth", b"HTTP/1.1 \xef\xbc\x9200 OK"),
    _status("status-missing", b"HTTP/1.1 OK"),
    _status("status-empty", b"HTTP/1.1  OK"),
    _status("status-then-tab", b"HTTP/1.1 200\tOK"),
    _status("status-then-letter", b"HTTP/1.1 200OK"),
    _status("two-spaces", b"HTTP/1.1  200 OK"),
    _status("tab", b"HTTP/1.1\t200 OK"),
    _status("no-space", b"HTTP/1.1200 OK"),
    _status("leading-space", b" HTTP/1.1 200 OK"),
    _status("version-only", b"HTTP/1.1"),
    _status("version-0.9", b"HTTP/0.9 200 OK"),
    _status("version-1.2", b"HTTP/1.2 200 OK"),
    _status("version-2", b"HTTP/2 200"),
    _status("version-2.0", b"HTTP/2.0 200 OK"),
    _status("version-1", b"HTTP/1 200 OK"),
    _status("version-1.10", b"HTTP/1.10 200 OK"),
    _status("version-small-letters", b"http/1.1 200 OK"),
    _status("icy", b"ICY 200 OK"),
    _status("rtsp", b"RTSP/1.0 200 OK"),
    _status("no-version", b"200 OK"),
    _status("request", b"GET / HTTP/1.1"),
    _status("empty", b""),
    *(_status(f"reason-with-{byte:02x}", b"HTTP/1.1 200 O%cK" % byte) for byte in _CONTROLS),
    fault("reason-with-cr", b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok"),
    fault("reason-with-lf", b"HTTP/1.1 200 O\nK\r\nContent-Length: 2\r\n\r\nok"),
    fault("lf", b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok"),
    fault("lf-only", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    fault("cr-only", b"HTTP/1.1 200 OK\rContent-Length: 2\r\rok", End.CLOSE),
    fault("html", b"<html>hello</html>", End.CLOSE),
    fault("html-with-lines", b"<html>\r\n\r\nhello</html>"),
    fault("ssh", b"SSH-2.0-OpenSSH_9.2\r\n"),
    fault("smtp", b"220 mail ESMTP\r\n"),
    fault("tls-alert", b"\x15\x03\x01\x00\x02\x02\x46"),
    fault("http-2-settings", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    fault("byte-order-mark", b"\xef\xbb\xbf" + OK),
    fault("nul-first", b"\x00" + OK),
    fault("empty-line-first", b"\r\n" + OK),
    fault("lf-first", b"\n" + OK),
    fault("nothing-but-nul", bytes(10_000)),
    answered("plain", OK, body=b"ok"),
    answered("no-reason", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", body=b"ok"),
    answered("no-reason-no-space", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", body=b"ok"),
    answered("long-reason", b"HTTP/1.1 200 " + b"x" * 2000 + b"\r\nContent-Length: 2\r\n\r\nok", body=b"ok"),
    answered("high-bytes-in-reason", b"HTTP/1.1 200 \xc3\xa9\xff\r\nContent-Length: 2\r\n\r\nok", body=b"ok"),
    answered("status-599", b"HTTP/1.1 599 Odd\r\nContent-Length: 2\r\n\r\nok", body=b"ok", status=599),
    answered("status-299", b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok", body=b"ok", status=299),
    answered("in-pieces", *bytewise(OK), body=b"ok"),
    answered("http-1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", body=b"ok"),
)


def _fields(name: str, *lines: bytes) -> Case:
    """An answer with lines that are no fields."""
    return fault(name, head(*lines, b"Content-Length: 2", start=b"HTTP/1.1 200 OK", host=False) + b"ok")


FIELDS = family(
    "upstream-fields",
    _fields("field-empty-name", b": y"),
    _fields("colon-only", b":"),
    _fields("no-colon", b"word"),
    _fields("space-before-colon", b"X : y"),
    _fields("tab-before-colon", b"X\t: y"),
    _fields("folded", b"X: y", b" z"),
    _fields("folded-tab", b"X: y", b"\tz"),
    _fields("folded-first", b" X: y"),
    _fields("blank-line", b" "),
    *(_fields(f"name-with-{byte:02x}", b"X%cY: y" % byte) for byte in b'"(),/;<=>?@[\\]{} \x00\x01\x7f\x80\xff'),
    *(_fields(f"value-with-{byte:02x}", b"X: y%cz" % byte) for byte in _CONTROLS),
    _fields("bare-cr", b"X: y\rz"),
    _fields("bare-cr-and-field", b"X: y\rSet-Cookie: evil=1"),
    _fields("bare-lf", b"X: y\nz"),
    _fields("bare-lf-and-field", b"X: y\nSet-Cookie: evil=1"),
    _fields("cr-cr-lf", b"X: y\r"),
    _fields("lf-cr", b"X: y\n\rZ: z"),
    _fields("status-line-twice", b"HTTP/1.1 200 OK"),
    answered("many", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"Content-Length: 2\r\n\r\nok", body=b"ok"),
    answered(
        "cookies-stay-apart",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok",
        body=b"ok",
        has=((b"set-cookie", b"a=b"),),
    ),
    answered("empty-value", b"HTTP/1.1 200 OK\r\nX:\r\nContent-Length: 2\r\n\r\nok", body=b"ok", has=((b"x", b""),)),
    answered(
        "high-bytes",
        b"HTTP/1.1 200 OK\r\nX: \xe9\xff\r\nContent-Length: 2\r\n\r\nok",
        body=b"ok",
        has=((b"x", b"\xe9\xff"),),
    ),
    answered("tab", b"HTTP/1.1 200 OK\r\nX: y\tz\r\nContent-Length: 2\r\n\r\nok", body=b"ok", has=((b"x", b"y\tz"),)),
)


def _length(name: str, *values: bytes) -> Case:
    """An answer with these lengths, which is none."""
    fields = b"".join(b"Content-Length:%b\r\n" % value for value in values)
    return fault(name, b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nok")


def _coding(name: str, *values: bytes, body: bytes = _BODY) -> Case:
    """An answer with these transfer codings, which is none."""
    fields = b"".join(b"Transfer-Encoding:%b\r\n" % value for value in values)
    return fault(name, b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + body)


LENGTH = family(
    "upstream-length",
    _length("plus", b" +2"),
    _length("minus", b" -2"),
    _length("hex", b" 0x2"),
    _length("float", b" 2.0"),
    _length("underscore", b" 0_2"),
    _length("empty", b""),
    _length("blank", b" "),
    _length("word", b" two"),
    _length("list-same", b" 2, 2"),
    _length("list-differ", b" 2, 3"),
    _length("two-numbers", b" 2 2"),
    _length("vertical-tab", b" \x0b2"),
    _length("form-feed", b" 2\x0c"),
    _length("nul", b" 2\x00"),
    _length("superscript", b" \xb2"),
    _length("wrap-uint64", b" 18446744073709551618"),
    _length("max-int64-plus-1", b" 9223372036854775808"),
    _length("twenty-digits", b" 99999999999999999999"),
    _length("double-same", b" 2", b" 2"),
    _length("double-differ", b" 2", b" 3"),
    _length("double-zero-first", b" 0", b" 2"),
    fault("space-before-colon", b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
    fault("folded", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok"),
    answered("zero", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", closes=False),
    answered("leading-zeros", b"HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\nok", body=b"ok", closes=False),
    answered("blanks", b"HTTP/1.1 200 OK\r\nContent-Length: \t2\t \r\n\r\nok", body=b"ok", closes=False),
    answered("more-than-the-length", OK + b"more", body=b"ok", closes=False),
    answered("until-close", b"HTTP/1.1 200 OK\r\n\r\nok", End.CLOSE, body=b"ok"),
    answered("until-close-1.0", b"HTTP/1.0 200 OK\r\n\r\nok", End.CLOSE, body=b"ok"),
    answered(
        "until-close-to-1.0",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        End.CLOSE,
        body=b"ok",
        request=b"GET /get HTTP/1.0\r\nHost: a\r\n\r\n",
        closes=True,
    ),
    cut("shorter", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok", End.CLOSE),
    cut("shorter-reset", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok", Wait.ANSWER, End.RESET),
    cut("shorter-by-one", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", End.CLOSE),
    cut("nothing-of-the-body", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", Wait.ANSWER, End.CLOSE),
    cut("shorter-1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nok", End.CLOSE),
    cut("until-close-reset", b"HTTP/1.1 200 OK\r\n\r\nok", Wait.ANSWER, End.RESET),
    cut(
        "until-close-reset-to-1.0",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        Wait.ANSWER,
        End.RESET,
        request=b"GET /get HTTP/1.0\r\nHost: a\r\n\r\n",
    ),
)

CODING = family(
    "upstream-coding",
    fault("cl-te", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + _BODY),
    fault("te-cl", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n" + _BODY),
    _coding("identity", b" identity", body=b"ok"),
    _coding("gzip", b" gzip", body=b"ok"),
    _coding("gzip-chunked", b" gzip, chunked"),
    _coding("chunked-gzip", b" chunked, gzip"),
    _coding("chunked-twice", b" chunked, chunked"),
    _coding("chunked-two-fields", b" chunked", b" chunked"),
    _coding("unknown", b" cow"),
    _coding("unknown-two-fields", b" cow", b" chunked"),
    _coding("empty", b""),
    _coding("list-empty-first", b" ,chunked"),
    _coding("parameter", b" chunked;q=1"),
    _coding("quoted", b' "chunked"'),
    _coding("vertical-tab", b" \x0bchunked"),
    _coding("nul", b" chunked\x00"),
    fault("space-before-colon", b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n" + _BODY),
    fault("folded", b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" + _BODY),
    fault("hidden-by-cr", b"HTTP/1.1 200 OK\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n" + _BODY),
    fault("http-1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + _BODY),
    answered("plain", _CHUNKED + _BODY, body=b"ok", closes=False),
    answered("capitals", _CHUNKED.replace(b"chunked", b"CHUNKED") + _BODY, body=b"ok", closes=False),
    answered(
        "to-1.0",
        _CHUNKED + _BODY,
        body=b"ok",
        request=b"GET /get HTTP/1.0\r\nHost: a\r\n\r\n",
        closes=True,
        lacks=(b"transfer-encoding",),
    ),
    answered(
        "to-1.0-keep-alive",
        _CHUNKED + _BODY,
        body=b"ok",
        request=b"GET /get HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        closes=True,
        lacks=(b"transfer-encoding",),
    ),
)


def _chunks(name: str, body: bytes) -> tuple[Case, Case]:
    """A chunked body that breaks the rules from its first chunk, together with its head and behind it."""
    return fault(name, _CHUNKED + body), cut(f"{name}-later", _CHUNKED + b"1\r\no\r\n", Wait.ANSWER, body)


def _gone(name: str, body: bytes, how: End = End.CLOSE) -> Case:
    """An upstream that leaves in the middle of a chunked body."""
    return cut(name, _CHUNKED + b"1\r\no\r\n" + body, *([Wait.ANSWER] if how is End.RESET else []), how)


_END = b"\r\nok\r\n0\r\n\r\n"

CHUNKS = family(
    "upstream-chunks",
    _chunks("0x", b"0x2" + _END),
    _chunks("plus", b"+2" + _END),
    _chunks("minus", b"-2" + _END),
    _chunks("empty-size", _END),
    _chunks("space-before-size", b" 2" + _END),
    _chunks("space-behind-size", b"2 " + _END),
    _chunks("not-hex", b"xyz" + _END),
    _chunks("junk-behind-size", b"2junk" + _END),
    _chunks("underscore", b"0_2" + _END),
    _chunks("wrap-uint64", b"10000000000000002" + _END),
    _chunks("max-uint64", b"FFFFFFFFFFFFFFFF" + _END),
    _chunks("endless-size", b"0" * 100_000),
    _chunks("lf-after-size", b"2\nok\r\n0\r\n\r\n"),
    _chunks("cr-after-size", b"2\rok\r\n0\r\n\r\n"),
    _chunks("lf-after-data", b"2\r\nok\n0\r\n\r\n"),
    _chunks("nothing-after-data", b"2\r\nok0\r\n\r\n"),
    _chunks("longer-data", b"2\r\nokay\r\n0\r\n\r\n"),
    _chunks("ext-bare-lf", b"2;a\nb" + _END),
    _chunks("ext-nul", b"2;\x00" + _END),
    _chunks("ext-64k", b"2;" + b"a" * 65536 + _END),
    _chunks("trailer-no-colon", b"0\r\nno colon\r\n\r\n"),
    _chunks("trailer-folded", b"0\r\nX: y\r\n z\r\n\r\n"),
    _chunks("trailer-lf", b"0\r\nX: y\n\r\n"),
    _chunks("trailer-nul", b"0\r\nX: \x00\r\n\r\n"),
    _chunks("trailer-too-long", b"0\r\nX: " + b"y" * 9000 + b"\r\n\r\n"),
    _chunks("response-in-place-of-the-end", b"0\r\n" + _FORGED),
    _gone("eof-between-chunks", b""),
    _gone("eof-in-a-size", b"2"),
    _gone("eof-after-a-size", b"2\r\n"),
    _gone("eof-in-data", b"4\r\nok"),
    _gone("eof-after-data", b"2\r\nok"),
    _gone("eof-in-the-last", b"0"),
    _gone("eof-after-the-last", b"0\r\n"),
    _gone("eof-in-the-end", b"0\r\n\r"),
    _gone("eof-in-a-trailer", b"0\r\nX: y\r\n"),
    _gone("reset-between-chunks", b"", End.RESET),
    _gone("reset-in-data", b"4\r\nok", End.RESET),
    _gone("reset-after-the-last", b"0\r\n", End.RESET),
    answered("extension", _CHUNKED + b"2;a=b" + _END, body=b"ok", closes=False),
    answered("trailer", _CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n", body=b"ok", closes=False),
    answered("leading-zeros", _CHUNKED + b"0002" + _END, body=b"ok", closes=False),
    answered("in-pieces", *bytewise(_CHUNKED + b"2;a" + _END), body=b"ok", closes=False),
    answered("thousand", _CHUNKED + b"1\r\no\r\n" * 1000 + b"0\r\n\r\n", body=b"o" * 1000, closes=False),
    answered("more-than-the-end", _CHUNKED + _BODY + _FORGED, body=b"ok", closes=False),
)

_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

INTERIM = family(
    "upstream-interim",
    answered("early-hints", _HINTS + OK, body=b"ok", interim=(103,)),
    answered("two", _HINTS * 2 + OK, body=b"ok", interim=(103, 103)),
    answered("sixteen", _HINTS * 16 + OK, body=b"ok", interim=(103,) * 16),
    answered("continue-nobody-asked-for", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, body=b"ok"),
    answered("in-pieces", *bytewise(_HINTS + OK), body=b"ok", interim=(103,)),
    answered("to-1.0", _HINTS + OK, body=b"ok", request=b"GET /get HTTP/1.0\r\nHost: a\r\n\r\n", closes=True),
    answered(
        "with-a-length",
        b"HTTP/1.1 102 Processing\r\nContent-Length: 2\r\n\r\n" + OK,
        body=b"ok",
        interim=(102,),
        for_peers=False,
    ),
    attrs.evolve(fault("seventeen", b"HTTP/1.1 102 Processing\r\n\r\n" * 17 + OK), interim=(102,) * 16),
    attrs.evolve(fault("thousand", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000 + OK), interim=(102,) * 16),
    attrs.evolve(fault("endless", Endless(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)), interim=(102,) * 16),
    fault("endless-continue", Endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)),
    fault("then-nothing", b"HTTP/1.1 100 Continue\r\n\r\n", End.CLOSE),
    fault("then-garbage", b"HTTP/1.1 100 Continue\r\n\r\ngarbage\r\n\r\n"),
    attrs.evolve(fault("hints-then-malformed", _HINTS + b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n"), interim=(103,)),
    fault("malformed", b"HTTP/1.1 103 Early\r\nX : y\r\n\r\n" + OK),
    fault("switching", b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK),
)

SPLITTING = family(
    "upstream-splitting",
    answered("second-answer-behind", OK + _FORGED, body=b"ok", closes=False),
    answered("second-answer-behind-nothing", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + _FORGED, closes=False),
    answered("second-answer-behind-204", b"HTTP/1.1 204 No Content\r\n\r\n" + _FORGED, status=204, closes=False),
    answered("second-answer-behind-304", b"HTTP/1.1 304 Not Modified\r\n\r\n" + _FORGED, status=304, closes=False),
    answered("second-answer-behind-chunks", _CHUNKED + _BODY + _FORGED, body=b"ok", closes=False),
    answered(
        "body-of-a-204", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok" + _FORGED, status=204, closes=False
    ),
    answered("body-of-a-304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", status=304, closes=False),
    answered("body-of-a-head", OK + _FORGED, request=_ASK_HEAD, seen=_HEAD, closes=False),
    answered("chunks-of-a-head", _CHUNKED + _BODY, request=_ASK_HEAD, seen=_HEAD, closes=False),
    answered("junk-behind", OK + b"junk", body=b"ok", closes=False),
    answered("lines-behind", OK + b"\r\n\r\n", body=b"ok", closes=False),
    answered("second-answer-later", OK, Wait.ANSWER, _FORGED, body=b"ok", closes=None),
    answered("second-answer-until-close", b"HTTP/1.1 200 OK\r\n\r\nok" + _FORGED, End.CLOSE, body=b"ok" + _FORGED),
    answered(
        "head-with-length",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
        request=_ASK_HEAD,
        seen=_HEAD,
        closes=False,
        has=((b"content-length", b"999"),),
    ),
    answered(
        "not-modified-with-length",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n",
        status=304,
        closes=False,
    ),
    fault("field-with-cr-lf-cr", b"HTTP/1.1 200 OK\r\nLocation: /\r\r\n\r\n" + _FORGED),
    fault("field-with-lf-lf", b"HTTP/1.1 200 OK\r\nLocation: /\n\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
    fault("reason-with-lf", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n" + _FORGED),
)

HOP_BY_HOP = family(
    "upstream-hop-by-hop",
    *(
        answered(
            name,
            b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(lines) + b"\r\nContent-Length: 2\r\n\r\nok",
            body=b"ok",
            lacks=lacks,
            closes=None,
        )
        for name, lines, lacks in (
            ("keep-alive", (b"Keep-Alive: timeout=5",), (b"keep-alive",)),
            ("proxy-connection", (b"Proxy-Connection: close",), (b"proxy-connection",)),
            ("te", (b"TE: trailers",), (b"te",)),
            ("trailer", (b"Trailer: X",), (b"trailer",)),
            ("upgrade", (b"Upgrade: h2c",), (b"upgrade",)),
            ("upgrade-with-connection", (b"Connection: Upgrade", b"Upgrade: h2,h2c"), (b"upgrade",)),
            ("token", (b"Connection: X-Hop", b"X-Hop: 1"), (b"x-hop",)),
            ("token-and-close", (b"Connection: close, X-Hop", b"X-Hop: 1"), (b"x-hop",)),
            ("tokens-of-two-fields", (b"Connection: X-A", b"X-A: 1", b"Connection: X-B", b"X-B: 2"), (b"x-a", b"x-b")),
            ("token-other-case", (b"Connection: x-hop", b"X-HOP: 1"), (b"x-hop",)),
        )
    ),
    answered(
        "close",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        End.CLOSE,
        body=b"ok",
        closes=False,
    ),
    answered(
        "length-stays",
        b"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok",
        body=b"ok",
        closes=False,
    ),
    answered(
        "coding-stays",
        b"HTTP/1.1 200 OK\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n" + _BODY,
        body=b"ok",
        closes=False,
    ),
    answered(
        "trailers-go",
        _CHUNKED + b"2\r\nok\r\n0\r\nSet-Cookie: evil=1\r\n\r\n",
        body=b"ok",
        closes=False,
        lacks=(b"set-cookie",),
    ),
)


_POSTED = Seen(method=b"POST", targets=(b"/post",), body=b"ok")
_ASK_POST = POST + b"Content-Length: 2\r\n\r\nok"

CLOSE = family(
    "upstream-close",
    fault("at-once", End.CLOSE, request=_ASK_POST, seen=_POSTED),
    fault("reset-at-once", End.RESET, request=_ASK_POST, seen=_POSTED),
    fault("get-at-once", End.CLOSE),
    fault("get-reset-at-once", End.RESET),
    *(fault(f"after-{count}-bytes", OK[:count], End.CLOSE) for count in (1, 5, 9, 13, 15, 17, 25, 36)),
    *(
        fault(f"post-after-{count}-bytes", OK[:count], End.CLOSE, request=_ASK_POST, seen=_POSTED)
        for count in (1, 17, 36)
    ),
    attrs.evolve(fault("after-hints", _HINTS, End.CLOSE), interim=(103,)),
    answered("behind-the-answer", OK, End.CLOSE, body=b"ok", closes=False),
    answered("reset-behind-the-answer", OK, Wait.ANSWER, End.RESET, body=b"ok", closes=False),
    answered("behind-chunks", _CHUNKED + _BODY, End.CLOSE, body=b"ok", closes=False),
    answered("half-behind-the-answer", OK, End.FINISH, body=b"ok", closes=False),
)

SIZE = family(
    "upstream-size",
    fault("huge-field", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\nContent-Length: 2\r\n\r\nok"),
    fault("huge-name", b"HTTP/1.1 200 OK\r\n" + b"X" * 131_072 + b": y\r\nContent-Length: 2\r\n\r\nok"),
    fault("huge-reason", b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\nContent-Length: 2\r\n\r\nok"),
    fault("many-fields", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n"),
    fault("endless-field", b"HTTP/1.1 200 OK\r\nX: ", Endless(b"y" * 65536)),
    fault("endless-fields", b"HTTP/1.1 200 OK\r\n", Endless(b"X: y\r\n" * 10_000)),
    fault("endless-reason", b"HTTP/1.1 200 ", Endless(b"x" * 65536)),
    fault("endless-name", b"HTTP/1.1 200 OK\r\n", Endless(b"X" * 65536)),
    fault("endless-nonsense", Endless(b"x" * 65536)),
    fault("endless-empty-lines", Endless(b"\r\n" * 10_000)),
    fault("endless-nul", Endless(bytes(65536))),
    answered(
        "sixty-kilobytes",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        body=b"ok",
        for_peers=False,
    ),
    cut("endless-trailers", _CHUNKED + b"1\r\no\r\n", Wait.ANSWER, b"0\r\n", Endless(b"X: y\r\n" * 10_000)),
    cut("endless-extension", _CHUNKED + b"1\r\no\r\n", Wait.ANSWER, b"1;", Endless(b"a" * 65536)),
    cut("endless-chunk-size", _CHUNKED + b"1\r\no\r\n", Wait.ANSWER, Endless(b"0" * 65536)),
)
