"""A mapping that forgets: what is over, and of too much the oldest. The clock is the caller's."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Remembers at most `capacity` values, each until its own time."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: dict[K, tuple[float, V]] = {}  # in the order in which they were put there

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: K, value: V, expires: float) -> None:
        """Remember `value` until the time `expires`, in place of what was there."""
        self._values.pop(key, None)
        if len(self._values) >= self._capacity:
            del self._values[next(iter(self._values))]
        self._values[key] = expires, value

    def get(self, key: K, now: float) -> V | None:
        """The value of `key`; None if there is none, or none any more."""
        found = self._values.get(key)
        if found is None:
            return None
        expires, value = found
        if expires <= now:
            del self._values[key]
            return None
        return value
