"""Where bodies end, and what the chunked coding wraps."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from hypothesis import event, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.framing import LAST_CHUNK, Body, ChunkedDecoder, FramingError, chunk, response_length
from proxyd.core.head import CHUNKED, UNTIL_CLOSE, ResponseHead
from tests.core.feeding import damaged, pieces, ways_to_come
from tests.core.oracles import RefusedError, chunked_by_h11, requests_by_llhttp

HELLO = b"5\r\nhello\r\n0\r\n\r\n"


@attrs.frozen
class Outcome:
    """What came out of a body: its data, what stood behind it, whether it ended."""

    data: bytes
    rest: bytes = b""
    complete: bool = True


def outcome_of(body: ChunkedDecoder | Body, parts: Iterable[bytes]) -> Outcome | None:
    """Feed `parts` to `body` as long as it lasts; None if it breaks a rule."""
    data = behind = b""
    try:
        for part in parts:
            if body.complete:
                behind += part
            else:
                data += body.feed(part)
    except FramingError:
        return None
    return Outcome(data, body.rest + behind, body.complete)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body in the chunked coding, as any encoder might write it, and the data in it."""
    sizes = st.sampled_from([b"%x", b"%X", b"0%x", b"%016x"])
    extensions = st.sampled_from([b"", b";", b";a", b";a=b", b';a="b;c";d', b";\xe9\t", b"; a"])
    trailers = st.sampled_from([b"T: x\r\n", b"t:\r\n", b"X-Y:\tz \r\n", b"T: \xe9\r\n"])
    data = wire = b""
    for piece in draw(
        st.lists(st.sampled_from([b"a", b"\r\n", b"0\r\n\r\n", b"hello, world", b"\n" * 17]), max_size=3)
    ):
        data += piece
        wire += draw(sizes) % len(piece) + draw(extensions) + b"\r\n" + piece + b"\r\n"
    last = draw(st.sampled_from([b"0", b"000", b"0" * 16]))
    wire += last + draw(extensions) + b"\r\n" + b"".join(draw(st.lists(trailers, max_size=2))) + b"\r\n"
    return wire, data


class LengthTests(SynchronousTestCase):
    """How long the body of a response is."""

    def test_status_and_method_come_before_the_fields(self) -> None:
        """HEAD, 1xx, 204 and 304 have no body; anything else has what its fields say."""
        for method, status, body, expected in (
            (b"GET", 200, 5, 5),
            (b"GET", 200, CHUNKED, CHUNKED),
            (b"GET", 200, UNTIL_CLOSE, UNTIL_CLOSE),
            (b"POST", 205, UNTIL_CLOSE, UNTIL_CLOSE),
            (b"GET", 404, 0, 0),
            (b"head", 200, 5, 5),
            (b"HEAD", 200, 5, 0),
            (b"HEAD", 200, CHUNKED, 0),
            (b"HEAD", 404, UNTIL_CLOSE, 0),
            (b"GET", 204, UNTIL_CLOSE, 0),
            (b"GET", 204, 5, 0),
            (b"GET", 304, 5, 0),
            (b"GET", 304, CHUNKED, 0),
            (b"GET", 100, UNTIL_CLOSE, 0),
            (b"GET", 101, CHUNKED, 0),
            (b"GET", 103, 5, 0),
            (b"GET", 199, 5, 0),
        ):
            head = ResponseHead()
            head.status = status
            head.body = body
            self.assertEqual(response_length(head, method), expected, f"{method!r} {status} {body}")

    def test_chunk_wraps_its_data(self) -> None:
        """A chunk is its size in hexadecimal digits, and the data between two line ends."""
        self.assertEqual(chunk(b"hello"), b"5\r\nhello\r\n")
        self.assertEqual(chunk(b"x" * 26), b"1a\r\n" + b"x" * 26 + b"\r\n")


class ChunkedDecoderTests(SynchronousTestCase):
    """The chunked coding, read strictly."""

    def assert_decoded(self, wire: bytes, data: bytes, **limits: int) -> None:
        """`wire` is a whole body with `data` in it, however it comes, and nothing behind it is touched."""
        for behind in (b"", b"GET / HTTP/1.1\r\n", b"\r\n"):
            for parts in ways_to_come(wire + behind):
                outcome = outcome_of(ChunkedDecoder(**limits), parts)
                self.assertEqual(outcome, Outcome(data, behind), repr(parts))

    def assert_refused(self, wire: bytes, **limits: int) -> None:
        """`wire` breaks a rule, however it comes."""
        for parts in ways_to_come(wire):
            self.assertIsNone(outcome_of(ChunkedDecoder(**limits), parts), repr(parts))

    def test_data_come_out(self) -> None:
        """Sizes in any case and with leading zeros, extensions and trailers: what remains is the data."""
        for wire, data in (
            (b"0\r\n\r\n", b""),
            (HELLO, b"hello"),
            (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
            (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
            (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
            (b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", b"hello"),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
            (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
            (b'5;a;b=c;d="e f"\r\nhello\r\n0;x\r\n\r\n', b"hello"),
            (b"5;\xe9\t\r\nhello\r\n0;\r\n\r\n", b"hello"),
            (b"5\r\nhello\r\n0\r\nT: x\r\nEmpty:\r\nLatin: \xe9\t\r\n\r\n", b"hello"),
            (chunk(b"hello") + LAST_CHUNK, b"hello"),
        ):
            self.assert_decoded(wire, data)

    def test_malformed_bodies_are_refused(self) -> None:
        """Whatever is not exactly the chunked coding is refused, whole and split at every point."""
        for wire in (
            # sizes
            b"\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"g\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"0X5\r\nhello\r\n0\r\n\r\n",
            b"5h\r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"-0\r\n\r\n",
            b"5_0\r\nhello\r\n0\r\n\r\n",
            b"5.0\r\nhello\r\n0\r\n\r\n",
            b"5,5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"5\t\r\nhello\r\n0\r\n\r\n",
            b"5 ;a\r\nhello\r\n0\r\n\r\n",
            b"5 5\r\nhello\r\n0\r\n\r\n",
            b'"5"\r\nhello\r\n0\r\n\r\n',
            b"\xb2\r\nhello\r\n0\r\n\r\n",
            b";a\r\nhello\r\n0\r\n\r\n",
            b"00000000000000005\r\nhello\r\n0\r\n\r\n",
            b"00000000000000000\r\n\r\n",
            b"8000000000000000\r\nhello\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            b"10000000000000005\r\nhello\r\n0\r\n\r\n",
            # line ends
            b"5\nhello\r\n0\r\n\r\n",
            b"5\rhello\r\n0\r\n\r\n",
            b"5\r\r\nhello\r\n0\r\n\r\n",
            b"5\n\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\r0\r\n\r\n",
            b"5\r\nhello\r\r\n0\r\n\r\n",
            b"5\r\nhello\n\r0\r\n\r\n",
            b"5\r\nhello\r\n0\n\r\n",
            b"5\r\nhello\r\n0\n\n",
            b"5\r\nhello\r\n0\r\n\n",
            b"5\r\nhello\r\n0\r\r\n\r\n",
            b"5\r\nhello\r\n0\r\n\r\r\n",
            b"\n5\r\nhello\r\n0\r\n\r\n",
            # data
            b"4\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello 0\r\n\r\n",
            b"6\r\nhello\r\n0\r\n\r\n",
            b"0\r\nhello\r\n0\r\n\r\n",
            # extensions
            b"5;a\0b\r\nhello\r\n0\r\n\r\n",
            b"5;a\x0bb\r\nhello\r\n0\r\n\r\n",
            b"5;a\x7fb\r\nhello\r\n0\r\n\r\n",
            b"5;a\nb\r\nhello\r\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n0\r\n\r\n",
            b"5;a\n0\r\n\r\nhello\r\n0\r\n\r\n",
            b"0;a\n\r\n\r\n",
            b"5a=b;c!\r\nhello\r\n0\r\n\r\n",
            # trailers
            b"0\r\nT\r\n\r\n",
            b"0\r\n: x\r\n\r\n",
            b"0\r\nT : x\r\n\r\n",
            b"0\r\nT x: y\r\n\r\n",
            b"0\r\n T: x\r\n\r\n",
            b"0\r\nT: x\r\n y\r\n\r\n",
            b"0\r\n\tT: x\r\n\r\n",
            b"0\r\nT: x\n\r\n",
            b"0\r\nT: x\n\n",
            b"0\r\nT: x\ry: z\r\n\r\n",
            b"0\r\nT: \0\r\n\r\n",
            b"0\r\nT: \x0c\r\n\r\n",
            b"0\r\nT\xe9: x\r\n\r\n",
            b"0\r\n GET / HTTP/1.1\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ):
            self.assert_refused(wire)

    def test_hopeless_lines_are_refused_at_once(self) -> None:
        """A bare CR is refused before its line ends, and a chunk that is too long with its first byte too many."""
        for wire in (b"5\rh", b"5\r\nhellox", b"5\r\nhello\rx", b"0\r\n\rx", b"0\r\nT: x\ry"):
            self.assert_refused(wire)

    def test_body_that_stops_is_not_complete(self) -> None:
        """No beginning of a body is taken for the whole."""
        wire = b"5;x\r\nhello\r\n1\r\n!\r\n0\r\nT: x\r\n\r\n"
        for size in range(len(wire)):
            for parts in ways_to_come(wire[:size]):
                outcome = outcome_of(ChunkedDecoder(), parts)
                self.assertIsNotNone(outcome, repr(parts))
                self.assertFalse(outcome.complete, repr(parts))
                self.assertTrue(b"hello!".startswith(outcome.data), repr(parts))

    def test_lines_have_a_limit(self) -> None:
        """A line in front of a chunk may have `max_line` bytes with its CR, complete or not."""
        line = b"5;" + b"x" * 17
        self.assert_decoded(line + b"\r\nhello\r\n0\r\n\r\n", b"hello", max_line=20)
        self.assert_refused(line + b"x\r\nhello\r\n0\r\n\r\n", max_line=20)
        self.assert_refused(b"5;" + b"x" * 19, max_line=20)
        self.assert_refused(b"0" * 21, max_line=20)

    def test_default_limits_are_those_of_the_bar(self) -> None:
        """Without a word about limits the extensions have 1 KiB together, a chunk line 4 KiB, the trailers 8 KiB."""
        for wire, is_accepted in (
            (b"0;" + b"x" * 1023 + b"\r\n\r\n", True),
            (b"0;" + b"x" * 1024 + b"\r\n\r\n", False),
            (b"1;xxxxxxx\r\na\r\n" * 128 + b"0\r\n\r\n", True),
            (b"1;xxxxxxx\r\na\r\n" * 128 + b"0;\r\n\r\n", False),
            (b"0;" + b"x" * 4095, False),
            (b"0\r\nT: " + b"x" * 8189 + b"\r\n\r\n", True),
            (b"0\r\nT: " + b"x" * 8190 + b"\r\n\r\n", False),
            (b"0\r\n" + b"T: xxxx\r\n" * 1170 + b"\r\n", True),
            (b"0\r\n" + b"T: xxxx\r\n" * 1171 + b"\r\n", False),
            (b"0;" + b"x" * 65536, False),
            (b"0\r\nT: " + b"x" * 65536, False),
        ):
            for body in (ChunkedDecoder(), Body(CHUNKED)):
                outcome = outcome_of(body, [wire])
                self.assertEqual(outcome is not None and outcome.complete, is_accepted, f"{len(wire)} bytes")

    def test_trailers_have_a_limit_together(self) -> None:
        """All trailers share `max_trailers` bytes, however many they are."""
        self.assert_decoded(b"0\r\nA: b\r\nC: d\r\n\r\n", b"", max_trailers=8)
        self.assert_decoded(b"3\r\nabc\r\n0\r\n\r\n", b"abc", max_trailers=0)
        self.assert_refused(b"0\r\nA: b\r\nC: d\r\n\r\n", max_trailers=7)
        self.assert_refused(b"0\r\nA", max_trailers=0)
        self.assert_refused(b"0\r\nA: b\r\nC: d\r\nE: f\r\n\r\n", max_trailers=10)
        self.assert_refused(b"0\r\nA: bcdefghi\r\n\r\n", max_trailers=10)
        self.assert_refused(b"0\r\nA: bcdefghi", max_trailers=10)

    def test_large_chunk_comes_in_pieces(self) -> None:
        """Data are given back as they come, long before their chunk is whole."""
        decoder = ChunkedDecoder()
        self.assertEqual(decoder.feed(b"7fffffffffffffff\r\n"), b"")
        for piece in (b"a" * 1000, b"", b"b"):
            self.assertEqual(decoder.feed(piece), piece)
        self.assertFalse(decoder.complete)

    @given(st.data(), chunked_bodies(), st.binary(max_size=5))
    def test_decoding_undoes_encoding(self, data: st.DataObject, body: tuple[bytes, bytes], behind: bytes) -> None:
        """What an encoder wrote comes back, whatever pieces the wire makes of it."""
        wire, expected = body
        parts = data.draw(pieces(wire + behind))
        self.assertEqual(outcome_of(ChunkedDecoder(), parts), Outcome(expected, behind), repr(parts))

    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    def test_our_own_chunks_are_read_by_others(self, datas: list[bytes]) -> None:
        """What `chunk` writes is read alike by us and by h11."""
        wire = b"".join(map(chunk, datas)) + LAST_CHUNK
        self.assertEqual(outcome_of(ChunkedDecoder(), [wire]), Outcome(b"".join(datas)), repr(wire))
        self.assertEqual(chunked_by_h11(wire), (b"".join(datas), b""), repr(wire))

    @given(st.data(), chunked_bodies())
    def test_damage_is_read_alike_however_it_comes(self, data: st.DataObject, body: tuple[bytes, bytes]) -> None:
        """How the wire splits a body never decides whether it is accepted, nor what is in it."""
        wire = data.draw(damaged(body[0]))
        parts = data.draw(pieces(wire))
        whole = outcome_of(ChunkedDecoder(), [wire])
        event("refused" if whole is None else "complete" if whole.complete else "incomplete")
        for way in (parts, [wire[index : index + 1] for index in range(len(wire))]):
            outcome = outcome_of(ChunkedDecoder(), way)
            self.assertEqual(outcome, whole, f"{way!r}")

    @given(st.data(), chunked_bodies())
    def test_nothing_is_accepted_that_others_refuse(self, data: st.DataObject, body: tuple[bytes, bytes]) -> None:
        """A damaged body that is accepted all the same is accepted by h11, with the same data and the same end."""
        wire = data.draw(damaged(body[0])) + b"behind"
        outcome = outcome_of(ChunkedDecoder(), [wire])
        if outcome is None or not outcome.complete:
            event("refused")
            return
        event("accepted")
        self.assertEqual(chunked_by_h11(wire), (outcome.data, outcome.rest), repr(wire))
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        following = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
        end = len(wire) - len(outcome.rest)
        try:
            message, *others = requests_by_llhttp(head + wire[:end] + following)
        except RefusedError:
            event("llhttp refused the extension")
            return
        self.assertEqual(message.body, outcome.data, repr(wire))
        self.assertEqual([other.start for other in others], [(b"GET", b"/next")], repr(wire))


class BodyTests(SynchronousTestCase):
    """Bodies of any framing, counted down to their end."""

    def test_body_ends_where_its_framing_says(self) -> None:
        """Data come out, and the rest stays behind, whatever pieces the wire makes of them."""
        for length, wire, expected in (
            (0, b"", Outcome(b"")),
            (0, b"behind", Outcome(b"", b"behind")),
            (5, b"hello", Outcome(b"hello")),
            (5, b"hellobehind", Outcome(b"hello", b"behind")),
            (5, b"hell", Outcome(b"hell", complete=False)),
            (10**17, b"hello", Outcome(b"hello", complete=False)),
            (CHUNKED, HELLO, Outcome(b"hello")),
            (CHUNKED, HELLO + b"behind", Outcome(b"hello", b"behind")),
            (CHUNKED, HELLO[:-1], Outcome(b"hello", complete=False)),
            (CHUNKED, b"x" + HELLO, None),
            (UNTIL_CLOSE, b"hello", Outcome(b"hello", complete=False)),
            (UNTIL_CLOSE, b"", Outcome(b"", complete=False)),
        ):
            for parts in ways_to_come(wire):
                body = Body(length)
                self.assertEqual(outcome_of(body, parts), expected, f"{length}: {parts!r}")
                if expected is not None:
                    self.assertEqual(body.received, len(expected.data), f"{length}: {parts!r}")

    def test_only_the_end_of_the_connection_ends_some(self) -> None:
        """A body without any framing says so."""
        for length, expected in ((0, False), (5, False), (CHUNKED, False), (UNTIL_CLOSE, True)):
            self.assertEqual(Body(length).lasts_until_close, expected, str(length))

    def test_empty_body_is_complete_at_once(self) -> None:
        """Only a length of 0 needs nothing from the wire."""
        for length, expected in ((0, True), (1, False), (CHUNKED, False), (UNTIL_CLOSE, False)):
            self.assertEqual(Body(length).complete, expected, str(length))

    def test_data_may_pass_unseen(self) -> None:
        """What nobody has fed is counted, up to the end; nothing of a chunked coding passes."""
        body = Body(5)
        self.assertEqual(body.passable, 5)
        body.skip(3)
        self.assertEqual((body.passable, body.received, body.complete), (2, 3, False))
        self.assertEqual(body.feed(b"lobehind"), b"lo")
        self.assertEqual((body.passable, body.received, body.complete, body.rest), (0, 5, True, b"behind"))
        body = Body(5)
        body.skip(5)
        self.assertEqual((body.passable, body.received, body.complete), (0, 5, True))
        self.assertEqual((body.feed(b""), body.rest), (b"", b""))
        self.assertEqual(Body(CHUNKED).passable, 0)
        body = Body(UNTIL_CLOSE)
        body.skip(10**10)
        self.assertEqual((body.received, body.complete), (10**10, False))
        self.assertGreater(body.passable, 2**62)

    def test_limits_reach_the_decoder(self) -> None:
        """The limits of a body are those of its chunked coding."""
        for wire in (b"0;xxxxxxxxx\r\n\r\n", b"0\r\nT: xxxxxxx\r\n\r\n"):
            self.assertTrue(outcome_of(Body(CHUNKED), [wire]), repr(wire))
            self.assertIsNone(outcome_of(Body(CHUNKED, 8, 8), [wire]), repr(wire))

    @given(st.integers(0, 30), st.binary(max_size=40), st.data())
    def test_length_counts_the_data(self, length: int, wire: bytes, data: st.DataObject) -> None:
        """A body with a length is exactly so many bytes."""
        parts = data.draw(pieces(wire))
        expected = Outcome(wire[:length], wire[length:], len(wire) >= length)
        self.assertEqual(outcome_of(Body(length), parts), expected, f"{length}: {parts!r}")
