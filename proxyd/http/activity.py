"""When somebody was last at work below `base_url`: one time stamp for all servers and ports, as Jupyter has it."""

from __future__ import annotations

from collections.abc import Callable


class Activity:
    """`last` is when it was, in seconds since the epoch; 0 for never. As the use of a request, all of it counts."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self.last = 0.0
        self._wall_clock = wall_clock

    def touch(self) -> None:
        """It is now."""
        self.last = self._wall_clock()

    def end(self) -> None:
        """The end of a request counts as well."""
        self.touch()
