"""How many connections there may be, in all and for each client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class Seats:
    """At most `total` seats are taken, and at most `per_client` of them by one client; 0 is any number."""

    def __init__(self, total: int, per_client: int) -> None:
        self._total = total
        self._per_client = per_client
        self._holders: dict[Hashable, bytes] = {}
        self._counts: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._holders)

    def take(self, holder: Hashable, client: bytes) -> int:
        """Give `holder` a seat, and return 0; or none, and return the status that tells why.

        An empty `client` has as many seats as there are.
        """
        if self._total and len(self._holders) >= self._total:
            return 503
        if client and self._per_client and self._counts[client] >= self._per_client:
            return 429
        self.keep(holder, client)
        return 0

    def keep(self, holder: Hashable, client: bytes) -> None:
        """Give `holder`, which was there before and has none, a seat beyond all limits."""
        if client:
            self._counts[client] += 1
        self._holders[holder] = client

    def free(self, holder: Hashable) -> None:
        """`holder` needs its seat no more; nothing happens if it has none."""
        client = self._holders.pop(holder, b"")
        if client:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

    def become(self, total: int, per_client: int) -> None:
        """Have other limits from now on; whoever has a seat keeps it."""
        self._total, self._per_client = total, per_client
