"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def usable_cores(membership: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> int:
    """The cores that the scheduler may put us on, and no more than the quota of our control group is good for."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        for line in membership.read_text().splitlines():
            number, _, path = line.split(":", 2)
            if number == "0":  # version 2
                return max(1, math.ceil(min(cores, _quota(groups, path))))
    return cores


def _quota(groups: Path, path: str) -> float:
    """The least quota, in cores, of a group and those that it is in."""
    least = math.inf
    group = groups / path.lstrip("/")
    for directory in (group, *group.parents):
        if groups not in (directory, *directory.parents):
            break
        with suppress(OSError, ValueError):
            limit, period = (directory / "cpu.max").read_text().split()
            least = min(least, int(limit) / int(period))
    return least
