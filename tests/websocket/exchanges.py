"""Exchanges of a WebSocket client with a server that echoes, as data: what is sent, in pieces, and what comes back.

They follow the groups of the Autobahn testsuite. What comes back is what RFC 6455 and RFC 7692 ask for.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from random import Random

import attrs

from tests.websocket.frames import BINARY, CLOSE, COMPRESSED, CONTINUATION, PING, PONG, TEXT, frame

Frames = tuple[tuple[int, bytes], ...]

GROUPS = {
    1: "framing",
    2: "pings and pongs",
    3: "reserved bits",
    4: "opcodes",
    5: "fragmentation",
    6: "UTF-8",
    7: "closing",
    9: "long messages",
    10: "fragments of any size",
    12: "permessage-deflate",
    13: "parameters of permessage-deflate",
}

KIB = 1024


@attrs.frozen
class Exchange:
    """After the handshake `sent` goes out, one write for each piece, and `answered` comes back, ended by a Close.

    `close` is the payload of that Close. With `fault` it is only the code that is prescribed: the client broke a rule,
    and how much is echoed that came before is open. `offer` stands in the handshake as Sec-WebSocket-Extensions.
    """

    group: int
    name: str
    sent: tuple[bytes, ...]
    answered: Frames
    close: bytes
    fault: int = 0
    offer: bytes = b""

    @property
    def is_short(self) -> bool:
        """All that is answered fits the smallest of buffers."""
        return sum(len(payload) for _, payload in self.answered) < 4 * KIB

    @property
    def title(self) -> str:
        """Group and name."""
        return f"{self.group} {GROUPS[self.group]}: {self.name}"


_BYE = b"\x03\xe8bye"


def _masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    return frame(opcode, payload, fin=fin, rsv=rsv, mask=True)


def _good(group: int, name: str, *sent: bytes, echo: Frames, offer: bytes = b"") -> Exchange:
    """By the rules; the client closes."""
    return Exchange(group, name, (*sent, _masked(CLOSE, _BYE)), echo, _BYE, offer=offer)


def _bad(group: int, name: str, *sent: bytes, fault: int = 1002, echo: Frames = (), offer: bytes = b"") -> Exchange:
    """Against the rules; a message comes behind it that must not be answered any more."""
    late = _masked(TEXT, b"behind the fault")
    return Exchange(group, name, (*sent, late), echo, fault.to_bytes(2, "big"), fault, offer)


def _octets(data: bytes, size: int = 1) -> tuple[bytes, ...]:
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def _fragments(opcode: int, data: bytes, size: int) -> bytes:
    """A message in frames of `size`."""
    pieces = _octets(data, size)
    last = len(pieces) - 1
    return b"".join(
        _masked(CONTINUATION if number else opcode, piece, fin=number == last) for number, piece in enumerate(pieces)
    )


def _framing() -> Iterator[Exchange]:
    for word, opcode, letter in (("text", TEXT, b"*"), ("binary", BINARY, b"\xfe")):
        for size in (0, 125, 126, 127, 128, 65535, 65536):
            data = letter * size
            yield _good(1, f"{word} of {size} bytes", _masked(opcode, data), echo=((opcode, data),))
        data = letter * 65536
        yield _good(
            1, f"{word} of 65536 bytes, 997 at once", *_octets(_masked(opcode, data), 997), echo=((opcode, data),)
        )


def _pings() -> Iterator[Exchange]:
    for name, data in (
        ("a ping that says nothing", b""),
        ("a ping that says something", b"Hello, world!"),
        ("a ping of bytes", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
        ("the longest ping", b"\xfe" * 125),
    ):
        yield _good(2, name, _masked(PING, data), echo=((PONG, data),))
    yield _bad(2, "a ping that is too long", _masked(PING, b"\xfe" * 126))
    data = b"\xfe" * 125
    yield _good(2, "the longest ping, byte by byte", *_octets(_masked(PING, data)), echo=((PONG, data),))
    yield _good(2, "a pong that nobody asked for", _masked(PONG), echo=())
    yield _good(2, "a pong that says something", _masked(PONG, b"unsolicited"), echo=())
    yield _good(2, "such a pong, and a ping", _masked(PONG, b"pong"), _masked(PING, b"ping"), echo=((PONG, b"ping"),))
    pings = [_masked(PING, b"payload-%d" % number) for number in range(10)]
    pongs = tuple((PONG, b"payload-%d" % number) for number in range(10))
    yield _good(2, "ten pings", *pings, echo=pongs)
    yield _good(2, "ten pings, byte by byte", *_octets(b"".join(pings)), echo=pongs)


def _bits() -> Iterator[Exchange]:
    hello = _masked(TEXT, b"Hello, world!")
    echoed = ((TEXT, b"Hello, world!"),)
    yield _bad(3, "RSV 1 in a short text", _masked(TEXT, b"Hello, world!", rsv=1))
    yield _bad(3, "RSV 2 behind a text", hello, _masked(TEXT, b"Hello, world!", rsv=2), echo=echoed)
    yield _bad(3, "RSV 3 behind a text, in one write", hello + _masked(TEXT, b"Hello!", rsv=3), echo=echoed)
    yield _bad(3, "RSV 4 behind a text, byte by byte", *_octets(hello + _masked(TEXT, b"Hi", rsv=4)), echo=echoed)
    yield _bad(3, "RSV 5 in bytes", _masked(BINARY, bytes(8), rsv=5))
    yield _bad(3, "RSV 6 in a ping", _masked(PING, b"Hello, world!", rsv=6))
    yield _bad(3, "RSV 7 in a close", _masked(CLOSE, _BYE, rsv=7))


def _opcodes() -> Iterator[Exchange]:
    hello = _masked(TEXT, b"Hello, world!")
    echoed = ((TEXT, b"Hello, world!"),)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        data = b"" if opcode in (3, 11) else b"reserved opcode"
        yield _bad(4, f"opcode {opcode}", _masked(opcode, data))
    yield _bad(4, "opcode 5 behind a text", hello, _masked(5), echo=echoed)
    yield _bad(4, "opcode 13 behind a text, byte by byte", *_octets(hello + _masked(13)), echo=echoed)


def _fragmentation() -> Iterator[Exchange]:
    one, two = b"fragment1", b"fragment2"
    first, last = _masked(TEXT, one, fin=False), _masked(CONTINUATION, two)
    middle = _masked(CONTINUATION, two, fin=False)
    whole = ((TEXT, one + two),)
    ping, pong = _masked(PING, b"ping"), ((PONG, b"ping"),)
    yield _bad(5, "a ping in two fragments", _masked(PING, one, fin=False), last)
    yield _bad(5, "a pong in two fragments", _masked(PONG, one, fin=False), last)
    yield _bad(5, "a close in two fragments", _masked(CLOSE, _BYE, fin=False), last)
    yield _good(5, "a text in two fragments", first, last, echo=whole)
    yield _good(5, "in one write", first + last, echo=whole)
    yield _good(5, "byte by byte", *_octets(first + last), echo=whole)
    yield _good(5, "a ping in between", first, ping, last, echo=pong + whole)
    yield _good(5, "a ping in between, in one write", first + ping + last, echo=pong + whole)
    yield _good(5, "a ping in between, byte by byte", *_octets(first + ping + last), echo=pong + whole)
    yield _good(5, "fragments that say nothing", _masked(TEXT, fin=False), _masked(CONTINUATION), echo=((TEXT, b""),))
    yield _good(
        5,
        "bytes, with fragments that say nothing",
        _masked(BINARY, fin=False) + _masked(CONTINUATION, one, fin=False) + _masked(CONTINUATION),
        echo=((BINARY, one),),
    )
    lone = _masked(CONTINUATION, b"of nothing", fin=False)
    yield _bad(5, "a continuation of nothing", lone, _masked(TEXT, b"Hello"))
    yield _bad(5, "the end of nothing", _masked(CONTINUATION, b"of nothing"))
    yield _bad(5, "a continuation of nothing, in one write", lone + _masked(TEXT, b"Hello"))
    yield _bad(5, "a continuation of nothing, byte by byte", *_octets(lone + _masked(TEXT, b"Hello")))
    yield _bad(5, "a continuation behind a whole text", first + last, middle, last, echo=whole)
    yield _bad(5, "a text within a text", first, _masked(TEXT, two))
    yield _bad(5, "bytes within a text, in one write", first + _masked(BINARY, two, fin=False) + last)
    yield _good(
        5,
        "five fragments and two pings",
        *(first, middle, _masked(PING, b"1"), middle, _masked(PING, b"2"), middle, last),
        echo=((PONG, b"1"), (PONG, b"2"), (TEXT, one + 4 * two)),
    )
    yield _good(
        5,
        "five fragments and two pings, byte by byte",
        *_octets(first + middle + _masked(PING, b"1") + middle + _masked(PING, b"2") + middle + last),
        echo=((PONG, b"1"), (PONG, b"2"), (TEXT, one + 4 * two)),
    )
    yield _good(5, "a pong in between", first, _masked(PONG, b"x"), last, echo=whole)


def _utf8() -> Iterator[Exchange]:
    kosme = "κόσμε"
    emoji = "grün 🙂 ß"
    for name, text in (
        ("nothing", ""),
        ("words", emoji),
        ("Greek", kosme),
        ("the first of each length", "\x00\x80\u0800\U00010000"),
        ("the last of each length", "\x7f\u07ff\uffff\U0010ffff"),
        ("around the surrogates", "\ud7ff\ue000\ufffd"),
        ("noncharacters", "\ufffe\uffff\U0001fffe\ufdd0"),
        ("a byte order mark", "\ufeffx"),
    ):
        data = text.encode()
        yield _good(6, f"{name}", _masked(TEXT, data), echo=((TEXT, data),))
    data = emoji.encode()
    cut = data.index("🙂".encode()) + 2
    halves = _masked(TEXT, data[:cut], fin=False), _masked(CONTINUATION, data[cut:])
    yield _good(6, "cut within a character", *halves, echo=((TEXT, data),))
    yield _good(6, "a fragment for each byte", _fragments(TEXT, data, 1), echo=((TEXT, data),))
    good = kosme.encode()
    for name, bad in (
        ("a surrogate", b"\xed\xa0\x80"),
        ("both surrogates", b"\xed\xa0\x80\xed\xb0\x80"),
        ("beyond the last character", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("six bytes", b"\xfd\xbf\xbf\xbf\xbf\xbf"),
        ("a slash in two bytes", b"\xc0\xaf"),
        ("a slash in three bytes", b"\xe0\x80\xaf"),
        ("a NUL in two bytes", b"\xc0\x80"),
        ("a lone continuation byte", b"\x80"),
        ("a lone start", b"\xc3 "),
        ("an impossible byte", b"\xff"),
    ):
        yield _bad(6, f"{name}", _masked(TEXT, good + bad + b"edited"), fault=1007)
    yield _bad(6, "cut off at the end", _masked(TEXT, good[:-1]), fault=1007)
    yield _bad(
        6,
        "wrong in the second of three fragments, the third never comes",
        _masked(TEXT, good, fin=False),
        _masked(CONTINUATION, b"\xf4\x90\x80\x80", fin=False),
        fault=1007,
    )
    wrong = _masked(TEXT, good + b"\xf4\x90\x80\x80" + b"edited" * 20)
    yield _bad(6, "wrong in the middle of a frame whose end comes later", *_octets(wrong, 7), fault=1007)
    yield _bad(6, "cut off at the end of the last fragment", _fragments(TEXT, good[:-1], 3), fault=1007)
    yield _good(
        6, "bytes that are no text", _masked(BINARY, b"\xff\xfe\xed\xa0\x80"), echo=((BINARY, b"\xff\xfe\xed\xa0\x80"),)
    )


def _closing() -> Iterator[Exchange]:
    hello = _masked(TEXT, b"Hello, world!")
    echoed = ((TEXT, b"Hello, world!"),)

    def closed(name: str, payload: bytes, *before: bytes, behind: bytes = b"", echo: Frames = ()) -> Exchange:
        return Exchange(7, name, (*before, _masked(CLOSE, payload) + behind), echo, payload)

    yield closed("behind a text", b"\x03\xe8", hello, echo=echoed)
    yield closed("twice", b"\x03\xe8", behind=_masked(CLOSE, b"\x03\xe8"))
    yield closed("a ping behind it", b"\x03\xe8", behind=_masked(PING, b"late"))
    yield closed("a text behind it", b"\x03\xe8", behind=hello)
    yield closed(
        "within a text", b"\x03\xe8", _masked(TEXT, b"fragment1", fin=False), behind=_masked(CONTINUATION, b"2")
    )
    large = b"BAsd7&jh23" * 26 * KIB
    yield closed("behind a long text", b"\x03\xe8", _masked(TEXT, large), behind=_masked(PING), echo=((TEXT, large),))
    yield closed("without a code", b"")
    yield _bad(7, "of one byte", _masked(CLOSE, b"a"))
    yield closed("without a reason", b"\x03\xe8")
    yield closed("with a reason", b"\x03\xe8Hello, world!")
    yield closed("with the longest reason", b"\x03\xe8" + b"*" * 123)
    yield _bad(7, "with a reason that is too long", _masked(CLOSE, b"\x03\xe8" + b"*" * 124))
    yield _bad(7, "with a reason that is not UTF-8", _masked(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80"), fault=1007)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999):
        yield closed(f"with code {code}", code.to_bytes(2, "big") + b"why")
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield _bad(7, f"with code {code}", _masked(CLOSE, code.to_bytes(2, "big")))
    yield closed("byte by byte", b"\x03\xe8", *_octets(hello), echo=echoed)
    yield _bad(7, "a text without a mask", frame(TEXT, b"Hello"))
    yield _bad(7, "a close without a mask", frame(CLOSE, _BYE))


def _long() -> Iterator[Exchange]:
    text = b"0123456789abcdef" * 64 * KIB
    data = Random(9).randbytes(1024 * KIB)
    yield _good(9, "a text of 64 KiB", _masked(TEXT, text[: 64 * KIB]), echo=((TEXT, text[: 64 * KIB]),))
    yield _good(9, "a text of 1 MiB", _masked(TEXT, text), echo=((TEXT, text),))
    yield _good(9, "bytes of 1 MiB", _masked(BINARY, data), echo=((BINARY, data),))
    yield _good(9, "bytes of 4 MiB", _masked(BINARY, data * 4), echo=((BINARY, data * 4),))
    for size in (64, 4 * KIB, 256 * KIB):
        part = data[: 1024 * size]
        yield _good(9, f"bytes in fragments of {size}", _fragments(BINARY, part, size), echo=((BINARY, part),))
    yield _good(9, "a text of 1 MiB, 256 at once", *_octets(_masked(TEXT, text), 256), echo=((TEXT, text),))
    yield _good(9, "bytes of 1 MiB, 2048 at once", *_octets(_masked(BINARY, data), 2048), echo=((BINARY, data),))
    for size in (0, 16, 1024):
        messages = [b"*" * size for _ in range(500)]
        yield _good(
            9, f"500 texts of {size}", *(_masked(TEXT, m) for m in messages), echo=tuple((TEXT, m) for m in messages)
        )
    yield _bad(9, "a length with its highest bit set", b"\x82\xff" + b"\xff" * 8 + bytes(4))


def _any_size() -> Iterator[Exchange]:
    text = b"*" * 65536
    for size in (1300, 65535):
        yield _good(10, f"64 KiB in fragments of {size}", _fragments(TEXT, text, size), echo=((TEXT, text),))


class _Packing:
    """The client's half of permessage-deflate."""

    def __init__(self, bits: int = 15, *, keeps: bool = True) -> None:
        self._bits = bits
        self._keeps = keeps
        self._packing = zlib.compressobj(wbits=-bits)

    def __call__(self, data: bytes, how: int = zlib.Z_SYNC_FLUSH) -> bytes:
        if not self._keeps:
            self._packing = zlib.compressobj(wbits=-self._bits)
        packed = self._packing.compress(data) + self._packing.flush(how)
        return packed[:-4] if how == zlib.Z_SYNC_FLUSH else packed


_OFFER = b"permessage-deflate"


def _texts(size: int, count: int = 8) -> list[bytes]:
    """Texts that have something in common, as those of an application."""
    words = Random(size)
    lines = b"".join(b'{"id": %d, "value": "%d"}\n' % (n, words.randrange(10**9)) for n in range(size // 16 + 2))
    return [(b"%d " % number + lines)[:size] for number in range(count)]


def _deflate() -> Iterator[Exchange]:
    def packed(name: str, messages: list[tuple[int, bytes]], pack: Callable[[bytes], bytes], cut: int = 0) -> Exchange:
        sent = []
        for opcode, data in messages:
            payload = pack(data)
            if cut and len(payload) > cut:
                first, rest = payload[:cut], payload[cut:]
                sent.append(_masked(opcode, first, fin=False, rsv=COMPRESSED) + _fragments(CONTINUATION, rest, cut))
            else:
                sent.append(_masked(opcode, payload, rsv=COMPRESSED))
        return _good(12, name, *sent, echo=tuple(messages), offer=_OFFER)

    for size in (0, 16, 64, 256, KIB, 4 * KIB, 16 * KIB, 128 * KIB):
        yield packed(f"texts of {size}", [(TEXT, text) for text in _texts(size)], _Packing())
    noise = Random(12).randbytes(64 * KIB)
    yield packed("bytes that do not shrink", [(BINARY, noise)] * 2, _Packing())
    yield packed("in fragments of 100", [(TEXT, text) for text in _texts(4 * KIB)], _Packing(), cut=100)
    yield packed("a megabyte of nothing", [(BINARY, bytes(1024 * KIB))], _Packing())
    plain, text = b"not packed", _texts(KIB)[0]
    yield _good(
        12, "packed and not, in turns",
        _masked(TEXT, plain), _masked(TEXT, _Packing()(text), rsv=COMPRESSED), _masked(TEXT, plain),
        echo=((TEXT, plain), (TEXT, text), (TEXT, plain)), offer=_OFFER,
    )  # fmt: skip
    last_block = _Packing()(text, zlib.Z_FINISH) + b"\x00"
    yield _good(
        12, "a block that says it is the last one",
        _masked(TEXT, last_block, rsv=COMPRESSED), _masked(TEXT, plain),
        echo=((TEXT, text), (TEXT, plain)), offer=_OFFER,
    )  # fmt: skip
    payload = _Packing()(text)
    ping = _masked(PING, b"ping")
    yield _good(
        12, "a ping within a packed text",
        _masked(TEXT, payload[:9], fin=False, rsv=COMPRESSED) + ping + _masked(CONTINUATION, payload[9:]),
        echo=((PONG, b"ping"), (TEXT, text)), offer=_OFFER,
    )  # fmt: skip
    yield _bad(12, "garbage", _masked(BINARY, b"\xff" * 20, rsv=COMPRESSED), fault=1007, offer=_OFFER)
    yield _bad(12, "packed text that is not UTF-8", _masked(TEXT, _Packing()(b"\xff\xfe"), rsv=COMPRESSED),
               fault=1007, offer=_OFFER)  # fmt: skip
    yield _bad(12, "RSV 1 in a continuation", _masked(TEXT, payload[:9], fin=False, rsv=COMPRESSED),
               _masked(CONTINUATION, payload[9:], rsv=COMPRESSED), offer=_OFFER)  # fmt: skip
    yield _bad(12, "a packed ping", _masked(PING, b"x", rsv=COMPRESSED), offer=_OFFER)
    yield _bad(12, "RSV 2 beside RSV 1", _masked(TEXT, payload, rsv=COMPRESSED | 2), offer=_OFFER)


def _parameters() -> Iterator[Exchange]:
    none = b"; client_no_context_takeover; server_no_context_takeover"
    for parameters, pack in (
        (b"; client_no_context_takeover", _Packing(keeps=False)),
        (b"; server_no_context_takeover", _Packing()),
        (none, _Packing(keeps=False)),
        (b"; server_max_window_bits=9", _Packing()),
        (b"; server_max_window_bits=15", _Packing()),
        (b"; client_max_window_bits", _Packing(bits=9)),
        (b"; client_max_window_bits=9; server_max_window_bits=9" + none, _Packing(bits=9, keeps=False)),
    ):
        messages = _texts(8 * KIB, 5)
        yield _good(
            13,
            parameters.decode()[2:],
            *(_masked(TEXT, pack(text), rsv=COMPRESSED) for text in messages),
            echo=tuple((TEXT, text) for text in messages),
            offer=_OFFER + parameters,
        )


EXCHANGES = (
    *_framing(),
    *_pings(),
    *_bits(),
    *_opcodes(),
    *_fragmentation(),
    *_utf8(),
    *_closing(),
    *_long(),
    *_any_size(),
    *_deflate(),
    *_parameters(),
)
"""All of them, by group."""
