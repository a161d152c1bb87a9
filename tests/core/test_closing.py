"""Tests of `proxyd.core.closing`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.closing import GOING_AWAY, Close, Side, after_fault, after_loss, fault, fault_of


class CloseTests(SynchronousTestCase):
    """RFC 6455 §7.4."""

    def test_codes(self) -> None:
        """Those that are registered for frames, and those for everybody's own use, pass."""
        good = {None, 1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999}
        for code in (None, *range(0, 70_000, 1000), *range(995, 1020), 2999, 3999, 4999, 5000, 65535):
            found = fault_of(Close(code))
            self.assertEqual(code in good, found is None, code)
            if found is not None:
                self.assertEqual(1002, found.code)

    def test_reasons(self) -> None:
        """They are UTF-8, to the last byte."""
        self.assertIsNone(fault_of(Close(1000, "schön".encode())))
        for reason in (b"\xff", "ö".encode()[:1], b"\xed\xa0\x80"):
            found = fault_of(Close(1000, reason))
            assert found is not None
            self.assertEqual(1007, found.code)

    def test_reasons_of_our_own_fit(self) -> None:
        """They are cut between two characters (§5.5)."""
        self.assertEqual(b"x" * 123, fault(1002, "x" * 200).reason)
        self.assertEqual("ö".encode() * 61, fault(1002, "ö" * 100).reason)
        self.assertEqual(Close(1009, b"too long"), fault(1009, "too long"))


class FarewellTests(SynchronousTestCase):
    """What the other side hears."""

    def test_after_a_loss(self) -> None:
        """A client is told with 1011; an upstream sees the bare end."""
        told = after_loss(Side.UPSTREAM)
        assert told is not None
        self.assertEqual(1011, told.code)
        self.assertIsNone(after_loss(Side.CLIENT))

    def test_after_a_fault(self) -> None:
        """Nobody is blamed for what the other one did."""
        self.assertEqual(1011, after_fault(Side.UPSTREAM).code)
        self.assertEqual(1001, after_fault(Side.CLIENT).code)

    def test_everything_that_is_said_is_valid(self) -> None:
        """Our own Closes keep the rules."""
        for close in (GOING_AWAY, after_loss(Side.UPSTREAM), after_fault(Side.CLIENT), after_fault(Side.UPSTREAM)):
            assert close is not None
            self.assertIsNone(fault_of(close))
            self.assertLessEqual(len(close.reason), 123)
