"""What belongs to one connection: fields of the hop, upgrades, pipelining and expectations (RFC 9110 §7.6 to §7.8)."""

from __future__ import annotations

import attrs

from tests.hostile.cases import (
    CHUNKED,
    GET,
    OK,
    POST,
    SMUGGLED,
    Case,
    End,
    Seen,
    Step,
    Wait,
    bytewise,
    family,
    head,
    passed,
    refused,
)

_POSTED = Seen(method=b"POST", targets=(b"/post",), body=b"ok")
_ADDRESS = b"127.0.0.1"


def _forged(name: str, line: bytes, *more: bytes, has: tuple[bytes, bytes]) -> Case:
    """What a client says of itself, and we do not believe; other proxies may append to it."""
    return attrs.evolve(_hop(name, line, *more, has=(has,)), for_peers=False)


def _hop(
    name: str,
    *lines: bytes,
    has: tuple[tuple[bytes, bytes], ...] = (),
    lacks: tuple[bytes, ...] = (),
    closes: bool = False,
) -> Case:
    """What the upstream has, and lacks, of a request with these lines."""
    return passed(name, head(*lines), seen=Seen(has=has, lacks=lacks), closes=closes)


HOP_BY_HOP = family(
    "hop-by-hop",
    _hop("keep-alive", b"Keep-Alive: timeout=5, max=100", lacks=(b"keep-alive",)),
    _hop("proxy-connection", b"Proxy-Connection: keep-alive", lacks=(b"proxy-connection",)),
    _hop("te", b"TE: trailers, gzip", lacks=(b"te",)),
    _hop("trailer", b"Trailer: X", lacks=(b"trailer",)),
    _hop("upgrade", b"Upgrade: h2c", lacks=(b"upgrade",)),
    _hop("httpoxy", b"Proxy: http://evil/", lacks=(b"proxy",)),
    _hop("httpoxy-capitals", b"PROXY: http://evil/", lacks=(b"proxy",)),
    _hop("connection", b"Connection: keep-alive", lacks=(b"keep-alive",)),
    _hop("close", b"Connection: close", closes=True),
    _hop("close-capitals", b"Connection: CLOSE", closes=True),
    _hop("close-in-a-list", b"Connection: x, close ,y", closes=True),
    _hop("close-in-another-field", b"Connection: keep-alive", b"Connection: close", closes=True),
    _hop("close-with-tabs", b"Connection:\tclose\t", closes=True),
    _hop("token", b"Connection: X-Hop", b"X-Hop: 1", b"X-Other: 2", lacks=(b"x-hop",), has=((b"x-other", b"2"),)),
    _hop("token-other-case", b"Connection: x-HOP", b"X-Hop: 1", lacks=(b"x-hop",)),
    _hop("token-twice", b"Connection: X-Hop", b"X-Hop: 1", b"X-Hop: 2", lacks=(b"x-hop",)),
    _hop("token-before", b"X-Hop: 1", b"Connection: close, X-Hop", lacks=(b"x-hop",), closes=True),
    _hop("tokens-of-two-fields", b"Connection: X-A", b"Connection: X-B", b"X-A: 1", b"X-B: 2", lacks=(b"x-a", b"x-b")),
    _hop("token-of-nothing", b"Connection: X-None", lacks=(b"x-none",)),
    _hop("tokens-empty", b"Connection: ,, ,keep-alive,"),
    _hop("tokens-many", b"Connection: " + b",".join(b"x-%d" % n for n in range(1000))),
    _hop("tokens-quoted", b'Connection: "X-Other"', b"X-Other: 2"),
    _hop("empty", b"Connection:"),
    _hop("host-stays", b"Connection: Host", has=((b"host", b"a"),)),
    _hop("host-and-close-stays", b"Connection: close, host", has=((b"host", b"a"),), closes=True),
    _hop("forwarded-for-stays", b"Connection: X-Forwarded-For", has=((b"x-forwarded-for", _ADDRESS),)),
    _hop(
        "forwarded-all-stay",
        b"Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Forwarded-Port",
        has=((b"x-forwarded-for", _ADDRESS), (b"x-forwarded-host", b"a")),
    ),
    _forged("forwarded-for-is-replaced", b"X-Forwarded-For: 6.6.6.6", has=(b"x-forwarded-for", _ADDRESS)),
    _forged(
        "forwarded-for-twice",
        b"X-Forwarded-For: 6.6.6.6",
        b"X-Forwarded-For: 7.7.7.7",
        has=(b"x-forwarded-for", _ADDRESS),
    ),
    _forged(
        "forwarded-for-named",
        b"Connection: X-Forwarded-For",
        b"X-Forwarded-For: 6.6.6.6",
        has=(b"x-forwarded-for", _ADDRESS),
    ),
    _hop(
        "forwarded-for-underscores",
        b"X_Forwarded_For: 6.6.6.6",
        lacks=(b"x_forwarded_for",),
        has=((b"x-forwarded-for", _ADDRESS),),
    ),
    _hop(
        "forwarded-for-mixed",
        b"X-Forwarded_For: 6.6.6.6",
        lacks=(b"x-forwarded_for",),
        has=((b"x-forwarded-for", _ADDRESS),),
    ),
    _forged("forwarded-host-is-replaced", b"X-Forwarded-Host: evil", has=(b"x-forwarded-host", b"a")),
    attrs.evolve(
        _forged("forwarded-proto-is-replaced", b"X-Forwarded-Proto: gopher", has=(b"x-forwarded-proto", b"http")),
        tls=False,
    ),
    _hop("forwarded-proto-underscores", b"X_FORWARDED_PROTO: gopher", lacks=(b"x_forwarded_proto",)),
    _hop("cookie-stays", b"Cookie: a=b", has=((b"cookie", b"a=b"),)),
    _hop("authorization-stays", b"Authorization: Basic eDp5", has=((b"authorization", b"Basic eDp5"),)),
    passed("length-stays", POST + b"Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok", seen=_POSTED),
    passed(
        "coding-stays",
        POST + b"Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        seen=_POSTED,
        closes=True,
    ),
    passed(
        "trailer-field-goes",
        POST + b"Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
        seen=attrs.evolve(_POSTED, lacks=(b"x", b"trailer")),
    ),
    refused("connection-with-nul", head(b"Connection: close\x00")),
    refused("connection-folded", head(b"Connection: x,", b" close")),
    refused("connection-with-space", head(b"Connection : close")),
    passed("http-1.0-closes", b"GET /get HTTP/1.0\r\nHost: a\r\n\r\n" + SMUGGLED, closes=True),
    passed(
        "http-1.0-close-wins",
        b"GET /get HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n" + SMUGGLED,
        closes=True,
    ),
    passed("http-1.0-keeps", b"GET /get HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n"),
)

_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
_LINES = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", _KEY)
HANDSHAKE = head(*_LINES)
_ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + _ACCEPT + b"\r\n"
_FRAME = b"\x81\x85\x00\x00\x00\x00hello"
_BACK = b"\x81\x05hello"
# What looks like a request, in a place where it is none.
_HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


_NO_UPGRADE = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


def _tunnel(
    name: str, *sends: Step, script: tuple[Step, ...] = (SWITCHING,), to_upstream: bytes = b"", to_client: bytes = b""
) -> Case:
    """A handshake that is agreed to: from then on bytes pass as they are."""
    return Case(
        name=name,
        sends=sends,
        statuses=(frozenset({101}),),
        closes=None,
        forwarded=(Seen(has=((b"upgrade", b"websocket"),)),),
        script=script,
        tunnel=(to_upstream, to_client),
    )


def _no_tunnel(name: str, *script: Step, status: int = 502, request: bytes = HANDSHAKE, early: bytes = _HIDDEN) -> Case:
    """An answer that opens no tunnel: nothing that the client sends behind its handshake gets through."""
    return Case(
        name=name,
        sends=(request + early,),
        statuses=(frozenset({status}),),
        closes=True,
        forwarded=(Seen(method=request.partition(b" ")[0], host=None),),
        script=script,
        body=None,
    )


_UNCHANGED = Seen(lacks=(b"upgrade",))


def _ordinary(name: str, request: bytes, *, seen: Seen = _UNCHANGED, closes: bool = False) -> Case:
    """What asks for another protocol, and is an ordinary request."""
    return passed(name, request, seen=seen, closes=closes)


UPGRADE = family(
    "upgrade",
    _tunnel(
        "agreed",
        HANDSHAKE,
        Wait.ANSWER,
        _FRAME,
        Wait.ANSWER,
        End.CLOSE,
        script=(SWITCHING, Wait.ANSWER, _BACK),
        to_upstream=_FRAME,
        to_client=_BACK,
    ),
    _tunnel("frame-with-the-handshake", HANDSHAKE + _FRAME, Wait.ANSWER, End.CLOSE, to_upstream=_FRAME),
    _tunnel("frame-with-the-answer", HANDSHAKE, Wait.ANSWER, End.CLOSE, script=(SWITCHING + _BACK,), to_client=_BACK),
    _tunnel(
        "request-in-the-tunnel",
        HANDSHAKE,
        Wait.ANSWER,
        _HIDDEN,
        Wait.ANSWER,
        End.CLOSE,
        script=(SWITCHING, Wait.ANSWER, OK),
        to_upstream=_HIDDEN,
        to_client=OK,
    ),
    _tunnel("handshake-in-pieces", *bytewise(HANDSHAKE), Wait.ANSWER, _FRAME, End.CLOSE, to_upstream=_FRAME),
    _tunnel("list-of-connection", head(b"Connection: keep-alive, Upgrade", *_LINES[1:]), Wait.ANSWER, End.CLOSE),
    _tunnel("capitals", head(b"CONNECTION: UPGRADE", b"UPGRADE: WebSocket", *_LINES[2:]), Wait.ANSWER, End.CLOSE),
    _tunnel("protocol-with-high-bytes", head(*_LINES, b"Sec-WebSocket-Protocol: \x80\xff"), Wait.ANSWER, End.CLOSE),
    _tunnel("interim-before", HANDSHAKE, Wait.ANSWER, End.CLOSE, script=(SWITCHING,)),
    _no_tunnel("answer-200", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", status=200),
    _no_tunnel("answer-400", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno", status=400),
    _no_tunnel("answer-403", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", status=403),
    _no_tunnel(
        "answer-426",
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
        status=426,
    ),
    _no_tunnel(
        "answer-500-chunked", b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", status=500
    ),
    _no_tunnel("answer-204", b"HTTP/1.1 204 No Content\r\n\r\n", status=204),
    _no_tunnel("answer-until-close", b"HTTP/1.1 404 Not Found\r\n\r\nno", End.CLOSE, status=404),
    _no_tunnel(
        "bad-version",
        b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n",
        status=426,
        request=head(*_LINES[:2], b"Sec-WebSocket-Version: 777", _KEY),
    ),
    _no_tunnel("accept-missing", SWITCHING.replace(_ACCEPT, b"")),
    _no_tunnel("accept-wrong", SWITCHING.replace(b"s3pPLM", b"AAAAAA")),
    _no_tunnel("accept-of-no-key", SWITCHING, request=head(*_LINES[:3])),
    _no_tunnel("switch-to-h2c", SWITCHING.replace(b"websocket", b"h2c")),
    _no_tunnel("switch-to-nothing", SWITCHING.replace(b"Upgrade: websocket\r\n", b"")),
    _no_tunnel("switch-without-connection", SWITCHING.replace(b"Connection: Upgrade\r\n", b"")),
    _no_tunnel("switch-malformed", b"HTTP/1.1 101 Switching\r\nX : y\r\n\r\n"),
    Case(
        name="switch-unasked",
        sends=(head(),),
        statuses=(frozenset({502}),),
        closes=None,
        forwarded=(Seen(),),
        script=(SWITCHING + _BACK,),
    ),
    Case(
        name="switch-of-a-post",
        sends=(POST + b"Content-Length: 2\r\n\r\nok",),
        statuses=(frozenset({502}),),
        closes=None,
        forwarded=(_POSTED,),
        script=(SWITCHING + _BACK,),
    ),
    Case(
        name="early-bytes-of-a-slow-refusal",
        sends=(HANDSHAKE, Wait.REQUEST, _HIDDEN, Wait.ANSWER),
        statuses=(frozenset({403}),),
        closes=True,
        forwarded=(Seen(has=((b"upgrade", b"websocket"),)),),
        script=(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",),
    ),
    refused("bad-target", head(*_LINES, start=b"GET get HTTP/1.1")),
    refused("target-with-fragment", head(*_LINES, start=b"GET /get#x HTTP/1.1")),
    refused("connect", head(*_LINES, start=b"CONNECT /get HTTP/1.1"), status=405),
    _no_tunnel(
        "of-a-target-with-dots", _NO_UPGRADE, status=403, request=head(*_LINES, start=b"GET /x/../get HTTP/1.1")
    ),
    Case(
        name="of-another-route",
        sends=(head(*_LINES, start=b"GET /x/%2e%2e/closed HTTP/1.1") + _HIDDEN,),
        statuses=(frozenset({502}),),
        closes=True,
        for_peers=False,
    ),
    refused("with-a-length", HANDSHAKE[:-2] + b"Content-Length: 2\r\n\r\nok"),
    refused("with-chunks", HANDSHAKE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    refused("with-both", HANDSHAKE[:-2] + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"),
    refused("with-two-hosts", head(b"Host: b", *_LINES)),
    refused("without-host", head(*_LINES, host=False)),
    refused("with-nul", head(*_LINES, b"Sec-WebSocket-Protocol: \x00")),
    refused("http-2.0", head(*_LINES, start=b"GET /get HTTP/2.0"), status=(400, 505)),
    _ordinary(
        "h2c",
        head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        seen=Seen(lacks=(b"upgrade", b"http2-settings")),
    ),
    _ordinary("h2c-without-connection", head(b"Upgrade: h2c")),
    _ordinary("h2c-with-prior-knowledge-behind", head(b"Connection: Upgrade", b"Upgrade: h2c")),
    _ordinary("tls", head(b"Connection: Upgrade", b"Upgrade: TLS/1.0")),
    _ordinary("unknown", head(b"Connection: Upgrade", b"Upgrade: foo")),
    _ordinary("list", head(b"Connection: Upgrade", b"Upgrade: websocket, h2c", *_LINES[2:])),
    _ordinary("list-other-order", head(b"Connection: Upgrade", b"Upgrade: h2c, websocket", *_LINES[2:])),
    _ordinary("two-fields", head(b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c", *_LINES[2:])),
    _ordinary("without-connection", head(*_LINES[1:])),
    _ordinary("connection-without-upgrade", head(b"Connection: Upgrade", *_LINES[2:])),
    _ordinary("parameter", head(b"Connection: Upgrade", b"Upgrade: websocket;q=1", *_LINES[2:])),
    _ordinary(
        "post",
        head(*_LINES, start=b"POST /post HTTP/1.1"),
        seen=Seen(method=b"POST", targets=(b"/post",), lacks=(b"upgrade",)),
    ),
    _ordinary("head", head(*_LINES, start=b"HEAD /get HTTP/1.1"), seen=Seen(method=b"HEAD", lacks=(b"upgrade",))),
    _ordinary("http-1.0", head(*_LINES, start=b"GET /get HTTP/1.0"), closes=True),
)


def _numbered(count: int) -> tuple[bytes, tuple[Seen, ...]]:
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(count))
    return requests, tuple(Seen(targets=(b"/%d" % number,)) for number in range(count))


def _then(
    name: str, first: bytes, *seen: Seen, second: bytes, status: int | tuple[int, ...] = 400, partial: bool = False
) -> Case:
    """Good requests, and a bad one behind them: each gets its own answer."""
    case = passed(name, first, seen=seen)
    bad = refused(name, second, status=status)
    return attrs.evolve(
        case, sends=(first + second, SMUGGLED), statuses=case.statuses + bad.statuses, closes=True, partial=partial
    )


_OK_POST = POST + b"Content-Length: 2\r\n\r\nok"
_TWENTY, _SEEN_TWENTY = _numbered(20)
_HUNDRED, _SEEN_HUNDRED = _numbered(100)

PIPELINING = family(
    "pipelining",
    passed("two", GET + b"\r\n" + GET + b"\r\n", seen=(Seen(), Seen())),
    passed("twenty", _TWENTY, seen=_SEEN_TWENTY),
    passed("hundred", _HUNDRED, seen=_SEEN_HUNDRED),
    passed("in-pieces", *bytewise(_numbered(3)[0]), seen=_SEEN_TWENTY[:3]),
    passed("cut-in-the-second-head", GET + b"\r\n" + GET[:9], Wait.ANSWER, GET[9:] + b"\r\n", seen=(Seen(), Seen())),
    passed("empty-lines-between", GET + b"\r\n\r\n\r\n" + GET + b"\r\n", seen=(Seen(), Seen())),
    passed("post-then-get", _OK_POST + GET + b"\r\n", seen=(_POSTED, Seen())),
    passed("chunked-then-get", CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + GET + b"\r\n", seen=(_POSTED, Seen())),
    passed("get-then-post", GET + b"\r\n" + _OK_POST, seen=(Seen(), _POSTED)),
    passed("posts", _OK_POST * 5, seen=(_POSTED,) * 5),
    passed("head-then-get", head(start=b"HEAD /get HTTP/1.1") + GET + b"\r\n", seen=(Seen(method=b"HEAD"), Seen())),
    passed(
        "get-with-body-then-get", GET + b"Content-Length: 2\r\n\r\nok" + GET + b"\r\n", seen=(Seen(body=b"ok"), Seen())
    ),
    passed("behind-a-close", GET + b"Connection: close\r\n\r\n" + SMUGGLED, closes=True),
    passed("behind-a-1.0", b"GET /get HTTP/1.0\r\nHost: a\r\n\r\n" + SMUGGLED, closes=True),
    passed(
        "behind-a-post-that-closes",
        POST + b"Connection: close\r\nContent-Length: 2\r\n\r\nok" + SMUGGLED,
        seen=_POSTED,
        closes=True,
    ),
    _then("good-then-bad", GET + b"\r\n", Seen(), second=GET + b"Host: b\r\n\r\n"),
    _then("good-then-garbage", GET + b"\r\n", Seen(), second=b"\x00\x01\x02\r\n\r\n"),
    _then("good-then-lf", GET + b"\r\n", Seen(), second=b"\n"),
    _then("good-then-bad-length", GET + b"\r\n", Seen(), second=POST + b"Content-Length: x\r\n\r\n"),
    _then(
        "good-then-both-framings",
        GET + b"\r\n",
        Seen(),
        second=POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    _then("good-then-bad-target", GET + b"\r\n", Seen(), second=b"GET get HTTP/1.1\r\nHost: a\r\n\r\n"),
    _then("good-then-connect", GET + b"\r\n", Seen(), second=b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", status=405),
    _then(
        "good-then-too-long",
        GET + b"\r\n",
        Seen(),
        second=b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        status=414,
    ),
    _then("good-then-bad-chunks", GET + b"\r\n", Seen(), second=CHUNKED + b"x\r\n", partial=True),
    _then(
        "three-then-bad",
        GET + b"\r\n" + _OK_POST + GET + b"\r\n",
        Seen(),
        _POSTED,
        Seen(),
        second=b"GET /get HTTP/1.1\r\n\r\n",
    ),
    _then("post-longer-than-its-length", _OK_POST, _POSTED, second=b"ok\r\n\r\n"),
    _then("body-of-nothing", POST + b"\r\n", attrs.evolve(_POSTED, body=b""), second=b"a=b\r\n\r\n"),
    refused("bad-then-good", GET + b"Host: b\r\n\r\n" + GET + b"\r\n"),
    refused("garbage-then-good", b"\x00\r\n\r\n" + GET + b"\r\n"),
    refused("wrong-framing-then-good", POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok" + GET + b"\r\n"),
)


def _expecting(name: str, *sends: Step, interim: tuple[int, ...] = (), **more: object) -> Case:
    return attrs.evolve(passed(name, *sends, seen=attrs.evolve(_POSTED, lacks=())), interim=interim, **more)


_EXPECT = POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
_EXPECT_CHUNKED = POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
_NO = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"

EXPECT = family(
    "expect",
    _expecting("continue", _EXPECT, Wait.ANSWER, b"ok", interim=(100,)),
    _expecting("continue-chunked", _EXPECT_CHUNKED, Wait.ANSWER, b"2\r\nok\r\n0\r\n\r\n", interim=(100,)),
    _expecting("body-at-once", _EXPECT + b"ok"),
    _expecting("chunked-body-at-once", _EXPECT_CHUNKED + b"2\r\nok\r\n0\r\n\r\n"),
    _expecting("capitals", _EXPECT.replace(b"100-continue", b"100-CONTINUE"), Wait.ANSWER, b"ok", interim=(100,)),
    _expecting("blanks", _EXPECT.replace(b" 100-continue", b"\t100-continue\t"), Wait.ANSWER, b"ok", interim=(100,)),
    _expecting("http-1.0", _EXPECT.replace(b"1.1", b"1.0") + b"ok", closes=True),
    _expecting(
        "upstream-says-continue-too",
        _EXPECT,
        Wait.ANSWER,
        b"ok",
        interim=(100,),
        script=(b"HTTP/1.1 100 Continue\r\n\r\n" + OK,),
        body=b"ok",
    ),
    passed(
        "of-no-body", POST + b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n", seen=attrs.evolve(_POSTED, body=b"")
    ),
    passed("of-a-get", head(b"Expect: 100-continue")),
    refused("unknown", POST + b"Expect: 200-maybe\r\nContent-Length: 2\r\n\r\n", status=417),
    refused("unknown-of-a-get", head(b"Expect: tea"), status=417),
    refused("empty", head(b"Expect:"), status=417),
    refused("list", POST + b"Expect: 100-continue, 200-maybe\r\nContent-Length: 2\r\n\r\n", status=417),
    refused("parameter", POST + b"Expect: 100-continue;q=1\r\nContent-Length: 2\r\n\r\n", status=417),
    refused("second-unknown", POST + b"Expect: 100-continue\r\nExpect: x\r\nContent-Length: 2\r\n\r\n", status=417),
    refused("both-framings", POST + b"Expect: 100-continue\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"),
    refused("bad-length", POST + b"Expect: 100-continue\r\nContent-Length: +2\r\n\r\n"),
    refused("two-hosts", POST + b"Host: b\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
    Case(
        name="early-final-then-body",
        sends=(_EXPECT.replace(b"Length: 2", b"Length: 100"), Wait.REQUEST, SMUGGLED),
        statuses=(frozenset({403}),),
        interim=(100,),
        closes=True,
        partial=True,
        script=(_NO,),
        early=True,
    ),
    Case(
        name="early-final-then-chunks",
        sends=(_EXPECT_CHUNKED, Wait.REQUEST, b"%x\r\n" % (len(SMUGGLED) + 100) + SMUGGLED),
        statuses=(frozenset({403}),),
        interim=(100,),
        closes=True,
        partial=True,
        script=(_NO,),
        early=True,
        for_peers=False,
    ),
    Case(
        name="early-final-of-an-upload",
        sends=(POST + b"Content-Length: 1000000\r\n\r\n", Wait.REQUEST, Wait.ANSWER, SMUGGLED),
        statuses=(frozenset({403}),),
        closes=True,
        partial=True,
        script=(_NO,),
        early=True,
    ),
)
