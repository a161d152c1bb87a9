"""Tests of `proxyd.core.respawn`: when a process that has ended is started again."""

from __future__ import annotations

from unittest import TestCase

from proxyd.core.respawn import STEADY_SECONDS, Respawn


class RespawnTests(TestCase):
    """Pauses grow while processes end early."""

    def test_after_a_long_life_there_is_no_pause(self) -> None:
        """However often that happens."""
        respawn = Respawn()
        self.assertEqual([respawn.ended(STEADY_SECONDS) for _ in range(5)], [0.0] * 5)
        self.assertFalse(respawn.is_looping)

    def test_a_loop_backs_off(self) -> None:
        """The first early end may be an accident; then each pause is twice the last one, up to half a minute."""
        respawn = Respawn()
        self.assertEqual([respawn.ended(0.1) for _ in range(9)], [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0])
        self.assertTrue(respawn.is_looping)

    def test_one_early_end_is_no_loop(self) -> None:
        """Two are."""
        respawn = Respawn()
        respawn.ended(1.0)
        self.assertFalse(respawn.is_looping)
        respawn.ended(1.0)
        self.assertTrue(respawn.is_looping)

    def test_a_long_life_ends_the_loop(self) -> None:
        """While it lasts, and when it is over."""
        respawn = Respawn()
        for _ in range(3):
            respawn.ended(0.0)
        self.assertFalse(respawn.is_steady(STEADY_SECONDS - 1))
        self.assertTrue(respawn.is_looping)
        self.assertTrue(respawn.is_steady(STEADY_SECONDS))
        self.assertFalse(respawn.is_looping)
        for _ in range(3):
            respawn.ended(0.0)
        self.assertEqual(respawn.ended(STEADY_SECONDS + 1), 0.0)
        self.assertFalse(respawn.is_looping)
