"""Tests of `proxyd.stores.memory`."""

from __future__ import annotations

from proxyd.interfaces import IRouteStore
from proxyd.stores.memory import MemoryRouteStore
from proxyd.testing import contracts


class MemoryRouteStoreTests(contracts.RouteStoreContract):
    """The store in memory keeps the contract of stores."""

    def make_store(self) -> IRouteStore:
        """A fresh store."""
        return MemoryRouteStore()
