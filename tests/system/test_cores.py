"""Tests of `proxyd.system.cores`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.system.cores import usable_cores


class CoresTests(SynchronousTestCase):
    """How many workers `auto` means."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(dir=self.mktemp_parent()))

    def mktemp_parent(self) -> str:
        path = Path(self.mktemp())
        path.mkdir()
        return str(path)

    def cores(self, membership: str) -> int:
        file = self.directory / "cgroup"
        file.write_text(membership)
        return usable_cores(file, self.directory)

    def test_without_a_quota(self) -> None:
        """Those that the scheduler may put us on."""
        affinity = len(os.sched_getaffinity(0))
        self.assertEqual(self.cores("12:cpu:/old\n"), affinity)
        self.assertEqual(self.cores("0::/none\n"), affinity)
        self.assertEqual(self.cores("nonsense"), affinity)
        self.assertEqual(usable_cores(self.directory / "missing", self.directory), affinity)

    def test_a_quota_bounds_them(self) -> None:
        """Of the group, or of one that it is in; a part of a core is one."""
        group = self.directory / "a/b"
        group.mkdir(parents=True)
        (group / "cpu.max").write_text("max 100000\n")
        (self.directory / "a/cpu.max").write_text("50000 100000\n")
        self.assertEqual(self.cores("0::/a/b\n"), 1)
