"""Tests of `proxyd.system.life`: whether a process has ended."""

from __future__ import annotations

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from proxyd.system.life import Life


class LifeTests(SynchronousTestCase):
    """A process that is somebody else's."""

    def test_it_ends(self) -> None:
        """That is seen at once, also before its parent has looked after it."""
        process = subprocess.Popen(["sleep", "60"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        life = Life(process.pid)
        self.assertFalse(life.is_over())
        process.kill()
        process.wait()
        self.assertTrue(life.is_over())
        life.close()
        life.close()
        self.assertTrue(life.is_over())
        self.assertTrue(Life(process.pid).is_over())
