"""Which idle connections are kept, and which one is used next."""

from __future__ import annotations

from typing import Generic, TypeVar

C = TypeVar("C")


class IdleConnections(Generic[C]):
    """The idle connections to one upstream: last in, first out.

    LIFO keeps few connections busy, so that the surplus of a peak ages and goes. `limit` is how many are kept for
    long; more are kept only for a moment, because a burst returns them all at once and wants them
    all back a moment later.
    """

    __slots__ = ("_connections", "limit")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._connections: dict[C, None] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def take(self) -> C | None:
        """The connection that became idle last, None if there is none."""
        return self._connections.popitem()[0] if self._connections else None

    def put(self, connection: C) -> bool:
        """Keep `connection`; whether it is one too many to be kept for long."""
        self._connections[connection] = None
        return len(self._connections) > self.limit

    def discard(self, connection: C) -> None:
        """Forget a connection, which may be none of ours."""
        self._connections.pop(connection, None)

    def clear(self) -> list[C]:
        """Give back, and forget, all of them."""
        connections = list(self._connections)
        self._connections.clear()
        return connections
