"""Counts that several processes keep together, in memory that all of them have mapped: how many, and how often.

Nobody waits for anybody. A cell of `SharedSeats` is written by one process only, and read by all; those of
`SharedBuckets` are written by all, and of two writes at the same moment one is lost. Keys are known by keyed hashes, so
that nobody can choose one that meets another.
"""

from __future__ import annotations

from collections.abc import Hashable
from hashlib import blake2b

from proxyd.core.counting import Counting, CountsCalls, CountsOneCall, CountsSeats
from proxyd.core.rate import ROUNDING
from proxyd.option import Rate

# A client is in one cell of each row; where others are, too, they are counted in, so the least of the sums is taken.
# With 10,000 clients at once, one in 2500 shares all of its cells.
_ROWS = 4
_CELLS_A_ROW = 1 << 16
_CELLS = 1 + _ROWS * _CELLS_A_ROW
# Keys with the same set share its four places: beyond that, the bucket that is full again first is forgotten.
_SETS = 1 << 14
_WAYS = 4

HASH_KEY_BYTES = 32


def memory_bytes(processes: int) -> int:
    """How much memory that takes; what nobody has written to takes none."""
    return 8 * (2 * _SETS * _WAYS) + 4 * _CELLS * processes


class SharedMemory:
    """`memory`, of `memory_bytes(processes)`, all zero at first, as the process number `column`, from 0, has it.

    `key` is the secret of the hashes, the same for all.
    """

    def __init__(self, memory: memoryview, processes: int, column: int, key: bytes) -> None:
        end = 8 * (2 * _SETS * _WAYS)
        self.tags = memory[: end // 2].cast("Q")
        self.times = memory[end // 2 : end].cast("d")
        self.columns = [
            memory[end + 4 * _CELLS * number : end + 4 * _CELLS * (number + 1)].cast("I") for number in range(processes)
        ]
        self.column = column
        self._key = key

    def clear(self, column: int) -> None:
        """Nobody has a seat of this process any more."""
        for start in range(0, _CELLS, _CELLS_A_ROW):
            size = min(_CELLS_A_ROW, _CELLS - start)
            self.columns[column][start : start + size] = memoryview(bytes(4 * size)).cast("I")

    def digest(self, key: bytes, person: bytes) -> int:
        """64 bits of a key."""
        return int.from_bytes(blake2b(key, digest_size=8, key=self._key, person=person).digest(), "little")

    def release(self) -> None:
        """Let go of the memory."""
        self.tags.release()
        self.times.release()
        for column in self.columns:
            column.release()


class SharedSeats:
    """What `Seats` is, for all processes together: `total` seats, at most `per_client` of them for one client.

    Processes that give a seat away at the same moment do not know of each other: there may be one too many for each
    but the first. Making it frees whatever this process had taken.
    """

    def __init__(self, total: int, per_client: int, shared: SharedMemory) -> None:
        self._total = total
        self._per_client = per_client
        self._shared = shared
        self._holders: dict[Hashable, tuple[int, ...]] = {}
        shared.clear(shared.column)

    def __len__(self) -> int:
        return len(self._holders)

    def take(self, holder: Hashable, client: bytes) -> int:
        """Give `holder` a seat, and return 0; or none, and return the status that tells why."""
        columns = self._shared.columns
        if self._total and sum(column[0] for column in columns) >= self._total:
            return 503
        cells = self._cells(client)
        taken = min((sum(column[cell] for column in columns) for cell in cells[1:]), default=0)
        if self._per_client and taken >= self._per_client:
            return 429
        self._seat(holder, cells)
        return 0

    def keep(self, holder: Hashable, client: bytes) -> None:
        """Give `holder`, which was there before and has none, a seat beyond all limits."""
        self._seat(holder, self._cells(client))

    def _cells(self, client: bytes) -> tuple[int, ...]:
        """Where a connection of `client` is counted."""
        if not client:
            return (0,)
        digest = self._shared.digest(client, b"seats")
        return 0, *(1 + row * _CELLS_A_ROW + (digest >> (16 * row)) % _CELLS_A_ROW for row in range(_ROWS))

    def _seat(self, holder: Hashable, cells: tuple[int, ...]) -> None:
        own = self._shared.columns[self._shared.column]
        for cell in cells:
            own[cell] += 1
        self._holders[holder] = cells

    def free(self, holder: Hashable) -> None:
        """`holder` needs its seat no more; nothing happens if it has none."""
        own = self._shared.columns[self._shared.column]
        for cell in self._holders.pop(holder, ()):
            own[cell] -= 1

    def become(self, total: int, per_client: int) -> None:
        """Have other limits from now on; whoever has a seat keeps it."""
        self._total, self._per_client = total, per_client


class SharedBuckets:
    """What `TokenBuckets` is, for all processes together; `name` tells its keys from those of other limits.

    `now` has to be a clock that all processes share. A request may not be counted if another process counts one of
    the same client at the same moment.
    """

    def __init__(self, rate: Rate, shared: SharedMemory, name: bytes) -> None:
        self._interval = rate.seconds / rate.amount
        self._burst = rate.seconds
        self._shared = shared
        self._name = name

    def take(self, key: bytes, now: float) -> float:
        """Take a token of `key`, and return 0; or take none, and return the seconds until there is one."""
        place = self._place(key)
        times = self._shared.times
        full_at = times[place]
        wait = self._missing(full_at, now)
        if not wait:
            times[place] = max(full_at, now) + self._interval
        return wait

    def wait(self, key: bytes, now: float) -> float:
        """The seconds until there is a token of `key`."""
        return self._missing(self._shared.times[self._place(key)], now)

    def _missing(self, full_at: float, now: float) -> float:
        missing = full_at + self._interval - now - self._burst
        return missing if missing > ROUNDING else 0.0

    def _place(self, key: bytes) -> int:
        """Where the bucket of `key` is, from now on at least."""
        tags, times = self._shared.tags, self._shared.times
        tag = self._shared.digest(self._name + key, b"buckets") or 1  # 0 is a place that nobody has
        first = tag % _SETS * _WAYS
        places = range(first, first + _WAYS)
        for place in places:
            if tags[place] == tag:
                return place
        place = min(places, key=times.__getitem__)
        tags[place], times[place] = tag, 0.0
        return place


class SharedBucket:
    """What `TokenBucket` is, for all processes together: the one that is called `name`."""

    def __init__(self, rate: Rate, shared: SharedMemory, name: bytes) -> None:
        self._buckets = SharedBuckets(rate, shared, name)

    def take(self, now: float) -> float:
        """Take a token, and return 0; or take none, and return the seconds until there is one."""
        return self._buckets.take(b"", now)


class SharedCounting(Counting):
    """Makes what counts, for all processes that have mapped `shared`."""

    def __init__(self, shared: SharedMemory) -> None:
        super().__init__()
        self._shared = shared

    def seats(self, total: int, per_client: int) -> CountsSeats:
        """For connections; there is one of it in each process."""
        return SharedSeats(total, per_client, self._shared)

    def buckets(self, rate: Rate, name: bytes) -> CountsCalls:
        """For what clients do."""
        return SharedBuckets(rate, self._shared, name)

    def bucket(self, rate: Rate, name: bytes) -> CountsOneCall:
        """For what all of them do together."""
        return SharedBucket(rate, self._shared, name)
