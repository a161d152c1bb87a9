"""Tests of `proxyd.garbage`."""

from __future__ import annotations

import gc
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from proxyd.garbage import (
    EXEMPTIONS_A_ROUND,
    MANY_ROUTES,
    Exemptions,
    collecting_later,
    end_start,
    exempt_many,
    start_without_looking,
)


class GarbageTests(SynchronousTestCase):
    """The garbage collector of this process."""

    def setUp(self) -> None:
        gc.unfreeze()
        self.addCleanup(gc.unfreeze)

    def test_none_is_collected_meanwhile(self) -> None:
        """It is afterwards, whatever happens, unless it was not before."""
        with self.assertRaises(ZeroDivisionError), collecting_later():
            self.assertFalse(gc.isenabled())
            with collecting_later():
                pass
            self.assertFalse(gc.isenabled())
            raise ZeroDivisionError
        self.assertTrue(gc.isenabled())

    def test_a_start_without_looking(self) -> None:
        """What has come until its end is exempt; without such a start nothing is."""
        end_start()
        self.assertEqual((True, 0), (gc.isenabled(), gc.get_freeze_count()))
        start_without_looking()
        self.addCleanup(gc.enable)
        self.assertFalse(gc.isenabled())
        end_start()
        self.assertTrue(gc.isenabled())
        self.assertGreater(gc.get_freeze_count(), 1000)

    def test_nobody_looks_at_the_end(self) -> None:
        """Everything is exempt by then; it does not matter how often that was asked for."""
        lines = (
            "import atexit, gc",
            "from proxyd.garbage import end_without_looking as end",
            "atexit.register(lambda: print(gc.get_freeze_count() > 1000, len(gc.get_objects()) < 1000))",
            "end()",
            "end()",
            "print(gc.get_freeze_count())",
        )
        done = subprocess.run((sys.executable, "-c", "\n".join(lines)), capture_output=True, text=True, check=True)
        self.assertEqual("0\nTrue True\n", done.stdout)

    def test_many_routes_are_exempt(self) -> None:
        """And few are not."""
        exempt_many(MANY_ROUTES - 1)
        self.assertEqual(0, gc.get_freeze_count())
        exempt_many(MANY_ROUTES)
        self.assertGreater(gc.get_freeze_count(), 0)

    def test_routes_that_come_one_by_one(self) -> None:
        """Are exempt after the full collection that found many new ones, as the process itself is after the first."""
        count = 0
        exemptions = Exemptions(lambda: count)
        exemptions.begin()
        self.addCleanup(exemptions.end)
        gc.collect(1)
        self.assertEqual(0, gc.get_freeze_count())
        gc.collect()
        self.assertGreater(gc.get_freeze_count(), 0)
        gc.unfreeze()
        for count, is_exempt in ((MANY_ROUTES - 1, False), (MANY_ROUTES, True), (2 * MANY_ROUTES - 1, False)):
            gc.collect()
            self.assertEqual(is_exempt, gc.get_freeze_count() > 0, count)
            gc.unfreeze()

    def test_now_and_then_all_is_looked_through(self) -> None:
        """What became garbage after it was exempt does not stay for ever."""
        count = 0
        exemptions = Exemptions(lambda: count)
        exemptions.begin()
        self.addCleanup(exemptions.end)
        are_exempt = []
        for _ in range(EXEMPTIONS_A_ROUND + 1):
            gc.collect()
            are_exempt.append(gc.get_freeze_count() > 0)
            count += MANY_ROUTES
        self.assertEqual([*[True] * (EXEMPTIONS_A_ROUND - 1), False, True], are_exempt)

    def test_the_end_of_it(self) -> None:
        """Nothing is exempt, and nobody looks after collections; a second end does nothing."""
        before = list(gc.callbacks)
        exemptions = Exemptions(lambda: 0)
        exemptions.end()
        exemptions.begin()
        gc.collect()
        exemptions.end()
        exemptions.end()
        self.assertEqual((before, 0), (gc.callbacks, gc.get_freeze_count()))
