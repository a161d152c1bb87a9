"""What limits count with: in this process alone, or, with `proxyd.core.shared`, in several together."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar

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


B = TypeVar("B")

# So many names are remembered. One bucket is about 200 bytes with its name, and buckets of clients are up to 2 MiB.
_BUCKET_NAMES = 10_000
_BUCKETS_NAMES = 100


class Counting:
    """Makes what counts, for this process alone, on any thread. `name` tells what is counted.

    Whoever asks for the same name and rate again, as everybody does after a reload, gets the same bucket; of very many
    names, those that were asked for last are remembered.
    """

    def __init__(self) -> None:
        self._bucket: _Remembered[TokenBucket] = _Remembered(TokenBucket, _BUCKET_NAMES)
        self._buckets: _Remembered[TokenBuckets] = _Remembered(TokenBuckets, _BUCKETS_NAMES)

    def seats(self, total: int, per_client: int) -> CountsSeats:
        """For connections."""
        return Seats(total, per_client)

    def buckets(self, rate: Rate, name: bytes) -> CountsCalls:
        """For what clients do."""
        return self._buckets.of(rate, name)

    def bucket(self, rate: Rate, name: bytes) -> CountsOneCall:
        """For what all of them do together."""
        return self._bucket.of(rate, name)


class _Remembered(Generic[B]):
    """What was made with the rate of each of `capacity` names."""

    def __init__(self, make: Callable[[Rate], B], capacity: int) -> None:
        self._make = make
        self._capacity = capacity
        self._known: dict[bytes, tuple[Rate, B]] = {}  # in the order in which they were asked for
        self._lock = Lock()

    def of(self, rate: Rate, name: bytes) -> B:
        """What there is of this name, if it was made with the same rate, else another one."""
        known = self._known
        with self._lock:
            before = known.pop(name, None)
            if before is None and len(known) >= self._capacity:
                del known[next(iter(known))]
            counts = before[1] if before is not None and before[0] == rate else self._make(rate)
            known[name] = rate, counts
        return counts
