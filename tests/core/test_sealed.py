"""Tests of `proxyd.core.sealed`."""

from __future__ import annotations

import string
from base64 import urlsafe_b64decode, urlsafe_b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.sealed import Sealer

SECRET = b"k" * 32


class SealerTests(SynchronousTestCase):
    """What is sealed comes out whole, or not at all."""

    def setUp(self) -> None:
        self.sealer = Sealer(SECRET, b"test")

    def test_what_goes_in_comes_out(self) -> None:
        """Until its time is over, and in characters that need no quotes anywhere."""
        for content in (b"", b"a", b"\0\xff" * 100):
            sealed = self.sealer.seal(content, 1000)
            self.assertLessEqual(set(sealed), set((string.ascii_letters + string.digits + "-_").encode()))
            self.assertEqual(self.sealer.unseal(sealed, 999), content)
            self.assertIsNone(self.sealer.unseal(sealed, 1000))

    def test_nobody_can_read_it(self) -> None:
        """Neither what it is, nor whether two are the same."""
        first, second = (self.sealer.seal(b"secret word", 1000) for _ in range(2))
        self.assertNotEqual(first, second)
        self.assertNotIn(b"secret", urlsafe_b64decode(first + b"=="))

    def test_no_bit_can_be_changed(self) -> None:
        """Each one of them makes it worthless."""
        sealed = self.sealer.seal(b"ab", 1000)
        raw = urlsafe_b64decode(sealed + b"=" * (-len(sealed) % 4))
        for position in range(len(raw) * 8):
            forged = bytearray(raw)
            forged[position // 8] ^= 1 << position % 8
            self.assertIsNone(self.sealer.unseal(urlsafe_b64encode(forged), 0))
        for length in range(len(raw)):
            self.assertIsNone(self.sealer.unseal(urlsafe_b64encode(raw[:length]), 0))

    def test_another_key_or_purpose_opens_nothing(self) -> None:
        """However the words of the purpose are put together."""
        sealed = Sealer(SECRET, b"a", b"bc").seal(b"x", 1000)
        others = [Sealer(SECRET, *words) for words in ((b"ab", b"c"), (b"a",), (b"a", b"bc", b""), (), (b"a2:bc",))]
        for other in (*others, Sealer(b"K" * 32, b"a", b"bc")):
            self.assertIsNone(other.unseal(sealed, 0))
        self.assertEqual(Sealer(SECRET, b"a", b"bc").unseal(sealed, 0), b"x")

    def test_what_is_too_long_is_not_tried(self) -> None:
        """A browser would not have kept it."""
        sealed = self.sealer.seal(b"x" * 4096, 1000)
        self.assertIsNone(self.sealer.unseal(sealed, 0))

    def test_numbers_used_once_are_those_it_was_given(self) -> None:
        """Twelve bytes for each."""
        asked = []

        def random(count: int) -> bytes:
            asked.append(count)
            return b"n" * count

        sealed = Sealer(SECRET, random=random).seal(b"", 1000)
        self.assertEqual(asked, [12])
        self.assertTrue(urlsafe_b64decode(sealed + b"=" * (-len(sealed) % 4)).startswith(b"n" * 12))

    @given(st.binary(max_size=300))
    def test_junk_is_no_seal(self, junk: bytes) -> None:
        """And harmless, whatever it is."""
        self.assertIsNone(self.sealer.unseal(junk, 0))
