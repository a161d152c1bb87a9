"""Tests of `proxyd.core.bounded`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.bounded import Bounded


class BoundedTests(SynchronousTestCase):
    """What is remembered, and what is not."""

    def test_the_longest_unused_is_forgotten(self) -> None:
        """A value is made once while there is room; what was asked for last stays."""
        made: list[str] = []

        def ask(key: str) -> str:
            return values.get(key, lambda: made.append(key) or key.upper())  # type: ignore[func-returns-value]

        values: Bounded[str, str] = Bounded(2)
        for key in ("a", "b", "a", "c", "a"):
            self.assertEqual(key.upper(), ask(key))
        self.assertEqual(["a", "b", "c"], made)
        ask("b")
        self.assertEqual(["a", "b", "c", "b"], made)
        self.assertEqual(2, len(values))

    def test_what_cannot_be_made_is_not_remembered(self) -> None:
        """The error passes, and the next one who asks tries again."""
        values: Bounded[str, str] = Bounded(1)
        self.assertRaises(ZeroDivisionError, values.get, "a", lambda: str(1 / 0))
        self.assertEqual("x", values.get("a", lambda: "x"))
