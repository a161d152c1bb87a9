"""Storage classes as users write them: plain, with Deferreds, and with coroutines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

Data = dict[str, Any]


class PlainStorage:
    """Answers at once; `calls` are what it was asked, and an exception in `fault` is what it answers."""

    def __init__(self, options: dict[str, str]) -> None:
        self.options = options
        self.routes: dict[str, Data] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.fault: Exception | None = None

    def called(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fault is not None:
            raise self.fault

    def get(self, path: str) -> Data | None:
        self.called("get", path)
        return self.routes.get(path)

    def getAll(self) -> dict[str, Data]:
        self.called("getAll")
        return self.routes

    def add(self, path: str, data: Data) -> None:
        self.called("add", path, data)
        self.routes[path] = data

    def update(self, path: str, data: Data) -> None:
        self.called("update", path, data)
        self.routes[path].update(data)

    def remove(self, path: str) -> None:
        self.called("remove", path)
        del self.routes[path]

    def getTarget(self, path: str) -> None:
        raise AssertionError("requests are routed by the table in memory")

    def cleanPath(self, path: str) -> str:
        raise AssertionError("keys are clean already")


class DeferredStorage(PlainStorage):
    """Answers a second later by `clock`, with Deferreds; calls that come before that are an error."""

    clock: Clock

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__(options)
        self.is_busy = False

    def later(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        assert not self.is_busy, "two calls at once"
        self.is_busy = True

        def done(result: Any) -> Any:
            self.is_busy = False
            return result

        return deferLater(self.clock, 1, function, *arguments).addBoth(done)

    def get(self, path: str) -> Deferred[Data | None]:  # type: ignore[override]
        return self.later(super().get, path)

    def getAll(self) -> Deferred[dict[str, Data]]:  # type: ignore[override]
        return self.later(super().getAll)

    def add(self, path: str, data: Data) -> Deferred[None]:  # type: ignore[override]
        return self.later(super().add, path, data)

    def update(self, path: str, data: Data) -> Deferred[None]:  # type: ignore[override]
        return self.later(super().update, path, data)

    def remove(self, path: str) -> Deferred[None]:  # type: ignore[override]
        return self.later(super().remove, path)


class CoroutineStorage:
    """Answers with coroutines, under names with underscores."""

    clock: Clock

    def __init__(self, options: dict[str, str]) -> None:
        self._plain = PlainStorage(options)

    async def get(self, path: str) -> Data | None:
        await deferLater(self.clock, 0.5)
        return self._plain.get(path)

    async def get_all(self) -> dict[str, Data]:
        await deferLater(self.clock, 0.5)
        return self._plain.getAll()

    async def add(self, path: str, data: Data) -> None:
        await deferLater(self.clock, 0.5)
        self._plain.add(path, data)

    async def update(self, path: str, data: Data) -> None:
        self._plain.update(path, data)

    async def remove(self, path: str) -> None:
        await deferLater(self.clock, 0.5)
        self._plain.remove(path)
