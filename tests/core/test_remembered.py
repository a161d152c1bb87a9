"""Tests of `proxyd.core.remembered`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.remembered import Remembered


class RememberedTests(SynchronousTestCase):
    """What is over is forgotten, and of too much the oldest."""

    def test_until_its_time(self) -> None:
        """And not a moment longer; another value counts from when it came."""
        known: Remembered[str, int] = Remembered(10)
        known.put("a", 1, 5.0)
        self.assertEqual((known.get("a", 4.9), known.get("b", 0)), (1, None))
        known.put("a", 2, 6.0)
        self.assertEqual((known.get("a", 5.9), len(known)), (2, 1))
        self.assertIsNone(known.get("a", 6.0))
        self.assertEqual(len(known), 0)

    def test_memory_is_bounded(self) -> None:
        """The oldest goes first; one that is put again is new."""
        known: Remembered[int, int] = Remembered(3)
        for key in (1, 2, 3, 1, 4):
            known.put(key, key, 9.0)
        self.assertEqual([known.get(key, 0.0) for key in (1, 2, 3, 4)], [1, None, 3, 4])
