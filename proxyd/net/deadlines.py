"""Deadlines by the thousand, for the price of an attribute each.

A deadline that is moved (at every request of a connection) is only written down; the owner is looked at when the
old one would have struck. A delayed call of the reactor for each would cost more than parsing the request.
"""

from __future__ import annotations

import heapq
from math import inf
from typing import Any, Protocol

from twisted.logger import Logger

# Deadlines strike up to this late. None of them is shorter than a second in practice.
_TICK_SECONDS = 0.1
# Beyond that ten ticks are one, beyond ten times that a hundred.
_FAR_SECONDS = 10.0

NEVER: float = inf


class Owner(Protocol):
    """What has a deadline. Both attributes belong to `Deadlines`; initially they are None and `NEVER`."""

    deadline: float | None
    looked_at: float
    """A deadline before that would be looked at too late."""

    def deadline_passed(self) -> None:
        """The deadline has struck, and is gone."""


class Deadlines:
    """Strikes the deadlines of its owners; `clock` has `seconds` and `callLater`."""

    _log = Logger()

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.seconds = clock.seconds
        self._ticks: dict[int, set[Owner]] = {}
        self._order: list[int] = []
        self._call: Any = None
        self._next_tick = 0

    def __len__(self) -> int:
        """How many owners are being looked at."""
        return sum(map(len, self._ticks.values()))

    def set(self, owner: Owner, seconds: float) -> None:
        """Strike `owner` in `seconds` unless its deadline is moved or cleared before; 0: clear it."""
        if not seconds:
            owner.deadline = None
            return
        deadline = owner.deadline = self.seconds() + seconds
        if deadline < owner.looked_at:
            self._forget_tick(owner)
            self._look_at(owner, _first_look(int(deadline / _TICK_SECONDS) + 1, seconds))

    def clear(self, owner: Owner) -> None:
        """`owner` has no deadline now."""
        owner.deadline = None

    def forget(self, owner: Owner) -> None:
        """`owner` has ended, and is not to be kept from being collected."""
        owner.deadline = None
        self._forget_tick(owner)

    def _forget_tick(self, owner: Owner) -> None:
        if owner.looked_at != NEVER:
            owners = self._ticks.get(round(owner.looked_at / _TICK_SECONDS) + 1)
            if owners is not None:
                owners.discard(owner)
            owner.looked_at = NEVER

    def _look_at(self, owner: Owner, tick: int) -> None:
        owner.looked_at = (tick - 1) * _TICK_SECONDS
        owners = self._ticks.get(tick)
        if owners is None:
            self._ticks[tick] = {owner}
            heapq.heappush(self._order, tick)
            self._schedule()
        else:
            owners.add(owner)

    def _schedule(self) -> None:
        tick = self._order[0]
        if self._call is not None and self._call.active():
            if self._next_tick <= tick:
                return
            self._call.cancel()
        self._next_tick = tick
        self._call = self._clock.callLater(max(0.0, tick * _TICK_SECONDS - self.seconds()), self._strike)

    def _strike(self) -> None:
        now = self.seconds()
        while self._order and self._order[0] * _TICK_SECONDS <= now:
            tick = heapq.heappop(self._order)
            owners = self._ticks[tick]
            while owners:
                owner = owners.pop()
                owner.looked_at = NEVER
                if owner.deadline is None:
                    continue
                if owner.deadline > now:
                    self._look_at(owner, _first_look(int(owner.deadline / _TICK_SECONDS) + 1, owner.deadline - now))
                    continue
                owner.deadline = None
                try:
                    owner.deadline_passed()
                except Exception:  # noqa: BLE001  # one owner's fault must not keep the others waiting
                    self._log.failure("unexpected error at a deadline of {owner}", owner=owner)
            del self._ticks[tick]
        if self._order:
            self._schedule()

    @property
    def ticks(self) -> int:
        """How many moments there are at which owners are, or were to be, looked at."""
        return len(self._ticks)

    def close(self) -> None:
        """Strike no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._ticks.clear()
        self._order.clear()


def _first_look(tick: int, seconds: float) -> int:
    """When to look at an owner first whose deadline, at `tick`, is `seconds` away.

    Far ones share moments before it, and are looked at again then. A moment stays until its time has come, although
    all its owners are gone: with one for each tenth of a second, those of an hour are 36,000.
    """
    if seconds > _FAR_SECONDS * 10:
        return tick - tick % 100
    if seconds > _FAR_SECONDS:
        return tick - tick % 10
    return tick
