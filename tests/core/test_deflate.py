"""Tests of `proxyd.core.deflate`."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.deflate import OFFER, OUR_WINDOW_BITS, Deflate, ExtensionError, accept, read_answer, read_extensions

PMD = b"permessage-deflate"


class ReadTests(SynchronousTestCase):
    """RFC 6455 §9.1."""

    def test_what_can_be_read(self) -> None:
        """Several fields are one list; names have no case; values may be quoted; empty elements do not count."""
        for values, expected in (
            ([], []),
            ([b""], []),
            ([b" , ,"], []),
            ([b"foo"], [(b"foo", ())]),
            ([b"Foo , bar"], [(b"foo", ()), (b"bar", ())]),
            ([b"foo", b"bar"], [(b"foo", ()), (b"bar", ())]),
            ([b'foo; A ; b=1;c = "x"'], [(b"foo", ((b"a", None), (b"b", b"1"), (b"c", b"x")))]),
            ([b"foo;a;a"], [(b"foo", ((b"a", None), (b"a", None)))]),
        ):
            self.assertEqual(expected, read_extensions(values), values)

    def test_what_cannot(self) -> None:
        """It is nothing that could be acted on."""
        for value in (b";", b"foo bar", b"foo;", b"foo;=1", b"foo;a=", b'foo;a="', b'foo;a="b c"', b"f\xff", b"a=b"):
            self.assertIsNone(read_extensions([b"x", value]), value)

    @given(st.lists(st.binary(max_size=40)))
    def test_nothing_is_too_strange(self, values: list[bytes]) -> None:
        """Whatever comes is read, or is not."""
        read_extensions(values)
        accept(values)


class AcceptTests(SynchronousTestCase):
    """RFC 7692 §7.1: what a client offers."""

    def test_offers_that_are_accepted(self) -> None:
        """What is asked for is granted and said; our own window is never larger than we want it."""
        for offer, answer, deflate in (
            (PMD, b"server_max_window_bits=12", Deflate(False, False, 12, 15)),
            (
                PMD + b"; client_max_window_bits",
                b"server_max_window_bits=12; client_max_window_bits=12",
                Deflate(False, False, 12, 12),
            ),
            (
                PMD + b"; client_max_window_bits=10; server_max_window_bits=9",
                b"server_max_window_bits=9; client_max_window_bits=10",
                Deflate(False, False, 9, 10),
            ),
            (
                PMD + b"; client_max_window_bits=8",  # zlib unpacks that with its own least window
                b"server_max_window_bits=12; client_max_window_bits=8",
                Deflate(False, False, 12, 9),
            ),
            (PMD + b"; server_max_window_bits=15", b"server_max_window_bits=12", Deflate(False, False, 12, 15)),
            (
                PMD + b"; server_no_context_takeover",
                b"server_no_context_takeover; server_max_window_bits=12",
                Deflate(True, False, 12, 15),
            ),
            (
                PMD + b"; client_no_context_takeover; server_no_context_takeover",
                b"server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
                Deflate(True, True, 12, 15),
            ),
        ):
            self.assertEqual((deflate, PMD + b"; " + answer), accept([offer]), offer)

    def test_offers_that_are_declined(self) -> None:
        """What cannot be met to the letter, what makes no sense, and what nobody knows."""
        for parameters in (
            b"server_max_window_bits=8",  # zlib cannot
            b"server_max_window_bits",
            b"server_max_window_bits=16",
            b"server_max_window_bits=012",
            b"client_max_window_bits=7",
            b"client_max_window_bits=x",
            b"server_no_context_takeover=1",
            b"client_no_context_takeover=true",
            b"server_no_context_takeover; server_no_context_takeover",
            b"foo",
        ):
            self.assertIsNone(accept([PMD + b"; " + parameters]), parameters)
        for offers in ([], [b"permessage-bzip2"], [b"x y", PMD], [b"", PMD + b";"]):
            self.assertIsNone(accept(offers), offers)

    def test_the_first_that_can_be_met(self) -> None:
        """A client offers what it likes best first, and other things behind."""
        accepted = accept(
            [b"foo, " + PMD + b"; server_max_window_bits=8", PMD + b"; server_max_window_bits=10, " + PMD]
        )
        assert accepted is not None
        self.assertEqual(10, accepted[0].server_max_window_bits)


class AnswerTests(SynchronousTestCase):
    """What an upstream answers to `OFFER`."""

    def test_agreements(self) -> None:
        """Nothing, or our offer with what a server may add."""
        for values, expected in (
            ([], None),
            ([b""], None),
            ([PMD], Deflate(False, False, 15, OUR_WINDOW_BITS)),
            ([PMD + b"; server_no_context_takeover"], Deflate(True, False, 15, OUR_WINDOW_BITS)),
            (
                [PMD + b'; client_no_context_takeover; server_max_window_bits="10"'],
                Deflate(False, True, 10, OUR_WINDOW_BITS),
            ),
            ([PMD + b"; server_max_window_bits=8"], Deflate(False, False, 9, OUR_WINDOW_BITS)),
        ):
            self.assertEqual(expected, read_answer(values, offered=True), values)
        self.assertIsNone(read_answer([], offered=False))

    def test_what_was_not_offered(self) -> None:
        """The connection cannot be used: what follows would be read wrongly (RFC 6455 §4.1)."""
        self.assertRaises(ExtensionError, read_answer, [OFFER], offered=False)
        for value in (
            b"foo",
            PMD + b", " + PMD,
            PMD + b", foo",
            PMD + b"; client_max_window_bits=10",
            PMD + b"; server_max_window_bits",
            PMD + b"; server_max_window_bits=7",
            PMD + b"; server_no_context_takeover=1",
            PMD + b"; server_max_window_bits=9; server_max_window_bits=9",
            PMD + b"; foo",
            b"x y",
        ):
            self.assertRaises(ExtensionError, read_answer, [value], offered=True)

    def test_zlib_can(self) -> None:
        """Every window that is agreed on is one that zlib packs and unpacks with."""
        for bits in range(8, 16):
            accepted = accept([PMD + b"; server_max_window_bits=%d; client_max_window_bits=%d" % (bits, bits)])
            deflates = [read_answer([PMD + b"; server_max_window_bits=%d" % bits], offered=True)]
            deflates += [accepted[0]] if accepted else []
            for deflate in deflates:
                assert deflate is not None
                for window in (deflate.server_max_window_bits, deflate.client_max_window_bits):
                    zlib.compressobj(wbits=-window)
                    zlib.decompressobj(-window)
