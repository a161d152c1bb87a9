"""What workers tell of themselves: activity and counters; and what the controller makes of it.

The other half, what a worker counts, is `Reporter`.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from proxyd.core.table import Entry, RouteTable
from proxyd.metrics.meters import ChpMeters, Gauges, Meters, Uncounted

REPORT_SECONDS = 2.0
"""How often a worker tells the controller; so much is lost with one that is killed."""


class Touches:
    """Which entries of a table were used since they were told of last."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._touched: set[Entry] = set()

    def touch(self, entry: Entry) -> None:
        """Something happened on a route."""
        entry.last_activity = self._wall_clock()
        self._touched.add(entry)

    def take(self) -> list[tuple[str, float]]:
        """The keys of the routes, and when it was; each is told once."""
        touched, self._touched = self._touched, set()
        return [(entry.route.key, entry.last_activity) for entry in touched]


def merge_touches(table: RouteTable, touches: Iterable[tuple[str, float]]) -> None:
    """Note in `table` what a worker says; a route that was put again since then has nothing to do with it."""
    for key, moment in touches:
        entry = table.get(key)
        if entry is not None and entry.last_activity < moment:
            entry.last_activity = moment


@attrs.define
class Numbers:
    """What one worker counts: its counters, its gauges, and what its process costs."""

    meters: Uncounted | None = None
    gauges: Gauges | None = None
    stalls: int = 0
    dropped_lines: int = 0
    lag: float = 0.0
    cpu_seconds: float = 0.0
    resident_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        meters = self.meters.as_json() if isinstance(self.meters, Meters | ChpMeters) else None
        others = attrs.asdict(self, filter=attrs.filters.exclude("meters"))
        return {**others, "meters": meters}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Numbers:
        """What `as_json` has made.

        Raises `KeyError`, `TypeError` or `ValueError` for anything else.
        """
        meters = values.pop("meters")
        gauges = values.pop("gauges")
        read = ChpMeters if meters is not None and "requests_web" in meters else Meters
        return cls(
            meters=None if meters is None else read.from_json(meters),
            gauges=None if gauges is None else Gauges(**gauges),
            **values,
        )


def process_costs() -> tuple[float, int]:
    """CPU seconds and resident bytes of this process."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return time.process_time(), pages * resource.getpagesize()


class Ledger:
    """The numbers of all workers: those of the ones that run, and what the ones before them have counted."""

    def __init__(self) -> None:
        self.running: dict[int, Numbers] = {}
        self._retired: Numbers | None = None

    def note(self, worker: int, numbers: Numbers) -> None:
        """A worker has told."""
        self.running[worker] = numbers

    def left(self, worker: int) -> None:
        """A worker is no more; what it has counted remains."""
        numbers = self.running.pop(worker, None)
        if numbers is None:
            return
        if self._retired is None:
            self._retired = Numbers()
        if numbers.meters is not None and type(self._retired.meters) is not type(numbers.meters):
            self._retired.meters = _empty(numbers.meters)  # a reload has changed what is counted
        _add(self._retired.meters, numbers.meters)
        self._retired.stalls += numbers.stalls
        self._retired.dropped_lines += numbers.dropped_lines
        self._retired.cpu_seconds += numbers.cpu_seconds

    def restart(self) -> None:
        """Something else is counted from now on, or nothing: what was counted before does not come back."""
        for numbers in self.all():
            numbers.meters = None

    def all(self) -> list[Numbers]:
        """Everything that was counted."""
        return [*self.running.values(), *((self._retired,) if self._retired is not None else ())]

    @property
    def stalls(self) -> int:
        """How often an event loop stood still."""
        return sum(numbers.stalls for numbers in self.all())

    @property
    def dropped_lines(self) -> int:
        """How many lines of the access log found no place."""
        return sum(numbers.dropped_lines for numbers in self.all())

    @property
    def lag(self) -> float:
        """The most that an event loop was late."""
        return max((numbers.lag for numbers in self.running.values()), default=0.0)

    def merged(self, own: Uncounted | None) -> Any:
        """Counters like those of the controller, `own`, with what all workers have counted."""
        merged = _empty(own)
        for meters in (own, *(numbers.meters for numbers in self.all())):
            _add(merged, meters)
        return merged

    def gauges(self, own: Gauges) -> Gauges:
        """How things are, in all processes; `own` knows the routes."""
        several = [own, *(numbers.gauges for numbers in self.running.values() if numbers.gauges is not None)]
        sums = {
            field.name: sum(getattr(each, field.name) for each in several)
            for field in attrs.fields(Gauges)
            if field.name != "routes"
        }
        return Gauges(routes=own.routes, **sums)


def _empty(like: Uncounted | None) -> Any:
    if isinstance(like, ChpMeters):
        return ChpMeters()
    return None if like is None else Meters()


def _add(to: Any, other: Uncounted | None) -> None:
    if (isinstance(to, Meters) and isinstance(other, Meters)) or (
        isinstance(to, ChpMeters) and isinstance(other, ChpMeters)
    ):
        to.add(other)  # type: ignore[arg-type]  # they are of the same kind
