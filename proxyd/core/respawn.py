"""When a process that has ended is started again. The clock is the caller's."""

from __future__ import annotations

STEADY_SECONDS = 10.0
"""A process that has lived for so long is not blamed for what was before."""

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Respawn:
    """The pauses before a process is started again: none after a long life, then longer and longer ones."""

    def __init__(self) -> None:
        self.short_lives = 0
        """How many processes in a row have ended early."""

    @property
    def is_looping(self) -> bool:
        """Whether one process after the other ends early."""
        return self.short_lives > 1

    def ended(self, lived: float) -> float:
        """A process has ended after so many seconds of service; how many to wait before the next one."""
        if lived >= STEADY_SECONDS:
            self.short_lives = 0
            return 0.0
        self.short_lives += 1
        if self.short_lives == 1:
            return 0.0
        return min(_FIRST_PAUSE * 2.0 ** (self.short_lives - 2), _LONGEST_PAUSE)

    def is_steady(self, lived: float) -> bool:
        """Whether a process that has lived for so long ends what was a loop; it is forgotten then."""
        if lived < STEADY_SECONDS:
            return False
        self.short_lives = 0
        return True
