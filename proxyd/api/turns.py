"""Who may write when: writes that depend on what is there run alone, all others together."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Turns:
    """Lets work begin in the order in which it is asked for."""

    def __init__(self) -> None:
        self._running = 0
        self._is_alone = False
        self._waiting: deque[tuple[bool, Deferred[None]]] = deque()
        self._is_letting_begin = False

    async def run(self, work: Callable[[], Awaitable[T]], *, alone: bool) -> T:
        """Do `work` in its turn, with nothing beside it if it has to be `alone`."""
        if self._waiting or not self._is_free(alone=alone):
            turn: Deferred[None] = Deferred()
            self._waiting.append((alone, turn))
            await turn
        else:
            self._begin(alone=alone)
        try:
            return await work()
        finally:
            self._running -= 1
            self._is_alone = False
            self._let_begin()

    def _is_free(self, *, alone: bool) -> bool:
        return not self._running if alone else not self._is_alone

    def _begin(self, *, alone: bool) -> None:
        self._running += 1
        self._is_alone = alone

    def _let_begin(self) -> None:
        if self._is_letting_begin:  # what has begun is over already: a long queue would be one deep recursion
            return
        self._is_letting_begin = True
        while self._waiting and self._is_free(alone=self._waiting[0][0]):
            alone, turn = self._waiting.popleft()
            self._begin(alone=alone)
            turn.callback(None)
        self._is_letting_begin = False
