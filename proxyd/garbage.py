"""When Python looks for garbage: not through 100,000 routes, again and again, while everything else waits.

Routes are in no cycles: they go when nobody refers to them. All that the collector gets out of them is a pause, of
0.15 s for 100,000 (2026-11-24).
"""

from __future__ import annotations

import atexit
import ctypes
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

# After so many exemptions everything is looked through once: each connection that was open at one of them and has
# ended since is garbage of up to 2 KB, which nobody sees (2026-11-24).
EXEMPTIONS_A_ROUND = 10
# So many new routes are worth being exempt from the collections to come: those of fewer take some milliseconds.
MANY_ROUTES = 10_000


@contextmanager
def collecting_later() -> Iterator[None]:
    """Collect now, while there is little to look through, and not again before the end."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def start_without_looking() -> None:
    """Look for no garbage before `end_start`.

    Modules are none, and are looked through again and again while more of them come: a tenth of the start (2026-11-30).
    """
    gc.disable()


def end_start() -> None:
    """After a start without looking, look from now on, but not in what has come until now.

    That would be a pause of 30 ms, in one of the first requests; all that is garbage in it are 3,500 small objects.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def exempt_many(routes: int) -> None:
    """Exempt from all collections to come what is there now, if so many new `routes` are worth it.

    The memory that is free goes back to the system.
    """
    if routes >= MANY_ROUTES:
        gc.freeze()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # glibc keeps the room of the text that the routes were in: 200 bytes for each
            trim(0)


def end_without_looking() -> None:
    """Look for no garbage at the end of the process, where Python does so twice, of 0.2 s in all (2026-11-30)."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


class Exemptions:
    """Does the same for routes that come one by one; `count` tells how many have come in all."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._before = -MANY_ROUTES  # the first time what the process itself consists of is exempt
        self._exemptions = 0

    def begin(self) -> None:
        """Look after each full collection: there is no garbage then that would stay for ever."""
        gc.callbacks.append(self._collected)

    def end(self) -> None:
        """Exempt nothing any more."""
        if self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)
            gc.unfreeze()

    def _collected(self, phase: str, facts: Mapping[str, int]) -> None:
        count = self._count()
        if phase != "stop" or facts["generation"] != 2 or count - self._before < MANY_ROUTES:
            return
        self._exemptions += 1
        if self._exemptions % EXEMPTIONS_A_ROUND:
            self._before = count
            gc.freeze()
        else:
            gc.unfreeze()  # the next full collection sees all of it, and is the first of another round
