"""Token buckets: how often something may happen. The clock is the caller's."""

from __future__ import annotations

from proxyd.option import Rate

# One entry is about 200 bytes with its key: 2 MiB in all.
_CAPACITY = 10_000
# What floats lose on the way, in seconds; whoever waited for as long as they were told must get their token.
ROUNDING = 1e-6


class TokenBucket:
    """As many at once as the `amount` of `rate`, and from then on as many as come back in its seconds.

    It is kept as one number, the time at which the bucket will be full again.
    """

    __slots__ = ("_burst", "_interval", "full_at")

    def __init__(self, rate: Rate) -> None:
        self._interval = rate.seconds / rate.amount
        self._burst = rate.seconds
        self.full_at = 0.0

    def take(self, now: float) -> float:
        """Take a token, and return 0; or take none, and return the seconds until there is one."""
        wait = self.wait(now)
        if not wait:
            self.full_at = max(self.full_at, now) + self._interval
        return wait

    def wait(self, now: float) -> float:
        """The seconds until there is a token."""
        missing = self.full_at + self._interval - now - self._burst
        return missing if missing > ROUNDING else 0.0


class TokenBuckets:
    """A token bucket for each key, in bounded memory.

    Of more than `capacity` keys, the one that has been silent for longest is forgotten: its bucket is full again.
    """

    def __init__(self, rate: Rate, capacity: int = _CAPACITY) -> None:
        self._rate = rate
        self._capacity = capacity
        self._buckets: dict[bytes, TokenBucket] = {}  # in the order of their last use

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: bytes, now: float) -> float:
        """Take a token of `key`, as `TokenBucket.take` does."""
        buckets = self._buckets
        bucket = buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(self._rate)
            if len(buckets) >= self._capacity:
                del buckets[next(iter(buckets))]
        buckets[key] = bucket
        return bucket.take(now)

    def wait(self, key: bytes, now: float) -> float:
        """The seconds until there is a token of `key`."""
        bucket = self._buckets.get(key)
        return 0.0 if bucket is None else bucket.wait(now)
