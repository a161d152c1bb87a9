"""Tests of `proxyd.system.pidfile`."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.system.pidfile import remove_pid, write_pid

OURS = str(os.getpid())


class PidFileTests(SynchronousTestCase):
    """It tells our number while we are there."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "proxyd.pid"

    def test_it_comes_and_goes(self) -> None:
        """Whatever was in it before."""
        for before in (None, "", "1", "123456789012"):
            if before is not None:
                self.path.write_text(before)
            write_pid(self.path)
            self.assertEqual(self.path.read_text(), OURS)
            remove_pid(self.path)
            self.assertFalse(self.path.exists())
        remove_pid(self.path)

    def test_a_link_stays_one(self) -> None:
        """What it leads to is written."""
        target = self.directory / "target"
        self.path.symlink_to(target)
        for _ in range(2):
            write_pid(self.path)
            self.assertEqual((self.path.is_symlink(), target.read_text()), (True, OURS))

    def test_that_of_another_process_stays(self) -> None:
        """Also one whose number begins as ours does."""
        for other in ("1", OURS + "0"):
            self.path.write_text(other)
            remove_pid(self.path)
            self.assertEqual(self.path.read_text(), other)
        remove_pid(Path("/dev/zero"))

    def write_with_a_full_disk(self) -> OSError:
        """What comes of it when no file can grow: for this process that is as if the disk was full."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            return self.assertRaises(OSError, write_pid, self.path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def test_a_full_disk(self) -> None:
        """No empty file stays, a file that was there is not lost, and the error names it."""
        self.assertEqual(self.write_with_a_full_disk().filename, str(self.path))
        self.assertEqual(list(self.directory.iterdir()), [])
        self.path.write_text("1")
        self.assertEqual(self.write_with_a_full_disk().filename, str(self.path))
        self.assertEqual(self.path.read_text(), "1")
        self.path = Path("/dev/full")
        error = self.assertRaises(OSError, write_pid, self.path)
        self.assertEqual(str(error), "[Errno 28] No space left on device: '/dev/full'")
