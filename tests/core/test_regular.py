"""Tests of `proxyd.core.regular`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.regular import regular_target

PREFIX = b"/user/dan@example.com/"


class RegularTests(SynchronousTestCase):
    """One prefix, one spelling."""

    def test_other_spellings(self) -> None:
        """The prefix becomes the regular one; all that is behind it stays as it came."""
        for target, expected in (
            (b"/user/dan%40example.com/a%2Fb?c=%40", b"/user/dan@example.com/a%2Fb?c=%40"),
            (b"/user/dan%40example.com/", b"/user/dan@example.com/"),
            (b"/%75ser/dan@example.com/x", b"/user/dan@example.com/x"),
            (b"/user/dan@example.com", b"/user/dan@example.com/"),
            (b"/user/dan@example.com?x=1", b"/user/dan@example.com/?x=1"),
            (b"/user/dan%40example.com", b"/user/dan@example.com/"),
            (b"/user/dan%40example.com//evil.test/", b"/user/dan@example.com//evil.test/"),
        ):
            self.assertEqual(regular_target(target, PREFIX), expected, target)

    def test_nothing_to_change(self) -> None:
        """It is regular, or means something else."""
        for target in (
            b"/user/dan@example.com/",
            b"/user/dan@example.com/%40",
            b"/user/dan@example.comx/",
            b"/user/dan",
            b"/user/dan%2540example.com/",
            b"/user/dan@example.com%2Fx",
            b"//user/dan@example.com/",
            b"/",
            b"http://h/user/dan@example.com/",
            b"*",
        ):
            self.assertIsNone(regular_target(target, PREFIX), target)
        for target in (b"/", b"//evil.test/", b"/%40"):
            self.assertIsNone(regular_target(target, b"/"), target)
        self.assertEqual(regular_target(b"/us%C3%A9r/x", b"/us%c3%a9r/"), b"/us%c3%a9r/x")
