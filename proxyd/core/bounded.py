"""A mapping that forgets what has not been used for the longest time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """Remembers at most `capacity` values."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of `key`; `make` makes one that is not there, and may raise."""
        value = self._values.pop(key, None)
        if value is None:
            value = make()
            if len(self._values) >= self._capacity:
                del self._values[next(iter(self._values))]
        self._values[key] = value
        return value
