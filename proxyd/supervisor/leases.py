"""Leases of an instance, and the room in which one waits for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from proxyd.errors import ServerStartError
from proxyd.interfaces import ILease
from proxyd.model.servers import Place, ServerSpec


class Owner(Protocol):
    """What leases are of."""

    number: int
    spec: ServerSpec

    def touch(self) -> None:
        """Something happened that counts as activity."""

    def lease_ended(self) -> None:
        """There is one lease less."""


@implementer(ILease)
class Lease:
    """The right to use an instance that is ready, at `place`; `counts` makes its beginning and end activity."""

    def __init__(self, owner: Owner, place: Place, *, counts: bool) -> None:
        self._owner: Owner | None = owner
        self._counts = counts
        self.place = place
        self.upstream = place.upstream
        self.spec = owner.spec
        self.instance = owner.number
        if counts:
            owner.touch()

    def touch(self) -> None:
        """Something happened that counts as activity."""
        if self._owner is not None:
            self._owner.touch()

    def release(self) -> None:
        """The exchange or tunnel has ended; a second call does nothing."""
        if self._counts:
            self.touch()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lease_ended()


class WaitingRoom:
    """Those who wait, in their order; `left` is called when one of them has gone away.

    Nobody is answered while something `happen`s, but afterwards: who is answered may make more happen at once.
    """

    def __init__(self, left: Callable[[], None]) -> None:
        self._left = left
        self._waiting: list[tuple[Deferred[ILease], bool]] = []
        self._answers: list[Callable[[], None]] = []
        self._is_busy = False

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, *, counts: bool) -> Deferred[ILease]:
        """Wait for a lease."""
        waiter: Deferred[ILease] = Deferred(self._leave)
        self._waiting.append((waiter, counts))
        return waiter

    def happen(self, event: Callable[[], None]) -> None:
        """Let `event` happen, and then answer everyone who has got an answer by it."""
        is_first = not self._is_busy
        self._is_busy = True
        try:
            event()
        finally:
            if is_first:
                self._is_busy = False
        if is_first:
            answers, self._answers = self._answers, []
            for answer in answers:
                answer()

    def answer(self, answer: Callable[[], None]) -> None:
        """Call `answer` when nothing happens any more."""
        self._answers.append(answer)

    def admit(self, make_lease: Callable[[bool], Lease]) -> None:
        """Everyone gets a lease; `make_lease` is told whether it counts as activity."""
        waiting, self._waiting = self._waiting, []
        for waiter, counts in waiting:
            self.answer(partial(_hand_over, waiter, make_lease(counts)))

    def refuse(self, error: ServerStartError) -> None:
        """Everyone gets the error."""
        waiting, self._waiting = self._waiting, []
        for waiter, _ in waiting:
            self.answer(partial(_send_away, waiter, error))

    def _leave(self, cancelled: Deferred[ILease]) -> None:
        self._waiting = [(waiter, counts) for waiter, counts in self._waiting if waiter is not cancelled]
        self._left()


def _hand_over(waiter: Deferred[ILease], lease: Lease) -> None:
    if waiter.called:  # it was cancelled by one that was answered before
        lease.release()
    else:
        waiter.callback(lease)


def _send_away(waiter: Deferred[ILease], error: ServerStartError) -> None:
    if not waiter.called:
        waiter.errback(error)
