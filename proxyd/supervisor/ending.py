"""The end of a process and of everything that it has started."""

from __future__ import annotations

import signal

from proxyd.supervisor.process import Child
from proxyd.supervisor.waiting import Clock, sleep

SETTLE_SECONDS = 2.0
"""After SIGKILL: the kernel takes its time, and the output is read to its end."""

_FIRST_LOOK = 0.01  # seconds between two looks whether processes have ended, doubled each time
_LONGEST_LOOK = 0.2


async def end_family(child: Child, clock: Clock, number: int, grace: float) -> bool:
    """Send the signal `number`, wait for `grace` seconds, and kill what is left; False if that cannot be killed."""
    if number != signal.SIGKILL:
        child.signal(number)
        await wait_for_end(child, clock, grace)
    child.signal(signal.SIGKILL)
    has_ended = await wait_for_end(child, clock, SETTLE_SECONDS)
    child.let_go()
    return has_ended


async def wait_for_end(child: Child, clock: Clock, seconds: float) -> bool:
    """Wait until nothing of the family lives; False when there is still something after so long."""
    deadline = clock.seconds() + seconds
    pause = _FIRST_LOOK
    while child.is_alive or child.family():
        left = deadline - clock.seconds()
        if left <= 0:
            return False
        await sleep(clock, min(pause, left))
        pause = min(2 * pause, _LONGEST_LOOK)
    return True
