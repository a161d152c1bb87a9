"""What limits count with: in this process alone, or, with `proxyd.core.shared`, in several together."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from proxyd.core.rate import TokenBucket, TokenBuckets
from proxyd.core.seats import Seats
from proxyd.option import Rate


class CountsSeats(Protocol):
    """Counts who is there; see `Seats`."""

    def __len__(self) -> int:
        """How many seats are taken in this process."""

    def take(self, holder: Hashable, client: bytes) -> int:
        """Give `holder` a seat, and return 0; or none, and return the status that tells why."""

    def keep(self, holder: Hashable, client: bytes) -> None:
        """Give `holder`, which was there before, a seat beyond all limits."""

    def free(self, holder: Hashable) -> None:
        """`holder` needs its seat no more."""

    def become(self, total: int, per_client: int) -> None:
        """Have other limits from now on; whoever has a seat keeps it."""


class CountsCalls(Protocol):
    """Counts how often something happens; see `TokenBuckets`."""

    def take(self, key: bytes, now: float) -> float:
        """Take a token of `key`, and return 0; or take none, and return the seconds until there is one."""

    def wait(self, key: bytes, now: float) -> float:
        """The seconds until there is a token of `key`."""


class CountsOneCall(Protocol):
    """Counts how often one thing happens; see `TokenBucket`."""

    def take(self, now: float) -> float:
        """Take a token, and return 0; or take none, and return the seconds until there is one."""


class Counting:
    """Makes what counts, for this process alone. `name` tells what is counted."""

    def seats(self, total: int, per_client: int) -> CountsSeats:
        """For connections."""
        return Seats(total, per_client)

    def buckets(self, rate: Rate, name: bytes) -> CountsCalls:
        """For what clients do."""
        return TokenBuckets(rate)

    def bucket(self, rate: Rate, name: bytes) -> CountsOneCall:
        """For what all of them do together."""
        return TokenBucket(rate)
