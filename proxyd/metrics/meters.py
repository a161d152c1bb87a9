"""Counters of the data path: plain numbers, changed by the reactor's thread only.

A request passes here several times, so nothing is locked, looked up by name, or made that was not there before. Each
set of names has a meter of its own, and pays for nothing that the other one shows. What they become for
Prometheus is `proxyd.metrics.exposition`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from time import perf_counter
from typing import Any, Protocol, TypeVar, TypeVarTuple

import attrs

from proxyd.core.head import RequestHead
from proxyd.core.upgrade import is_handshake
from proxyd.errors import RequestError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# The client libraries' default bounds, and two more for applications that think for long: seconds.
DURATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# Enough for four values beyond the highest quantile that is shown, 0.999.
_WINDOW = 4096
# What serves a request; "none": no route, or it could not be read.
KINDS = ("forward", "websocket", "resource", "health", "api", "auth", "none")
CONNECT_RESULTS = ("connected", "failed", "timeout", "cancelled")
# The client was gone before there was a status: nobody got an answer.
_CLIENT_LOST = 499


class Done(Protocol):
    """What is to be known of a request that is over."""

    @property
    def kind(self) -> str:
        """What served it, one of `KINDS`."""

    @property
    def operation(self) -> str:
        """The function of the API that answered it."""

    @property
    def seconds(self) -> float:
        """How long it took from when its head had come."""

    @property
    def status(self) -> int:
        """The status of its answer."""

    @property
    def body_received(self) -> int:
        """Bytes of content that came from the client."""

    @property
    def body_sent(self) -> int:
        """Bytes of content that went to the client."""


class Histogram:
    """Counts durations in buckets; `counts[i]` are those up to `bounds[i]`, the last one counts what is beyond."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = DURATION_BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def add(self, other: Histogram) -> None:
        """Count what another one with the same bounds has counted."""
        self.counts = [own + its for own, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Summary:
    """Counts and adds up all durations, and keeps the last `window` of them for quantiles."""

    __slots__ = ("_recent", "count", "total")

    def __init__(self, window: int = _WINDOW) -> None:
        self.count = 0
        self.total = 0.0
        self._recent: deque[float] = deque(maxlen=window)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.count += 1
        self.total += seconds
        self._recent.append(seconds)

    def timed(self, function: Callable[[*Ts], T]) -> Callable[[*Ts], T]:
        """`function`, with the time of each call that returns observed."""
        append = self._recent.append

        def measured(*args: *Ts) -> T:
            began = perf_counter()
            result = function(*args)
            seconds = perf_counter() - began
            # `observe`, without the call: this is most of what a request costs here.
            self.count += 1
            self.total += seconds
            append(seconds)
            return result

        return measured

    def add(self, other: Summary) -> None:
        """Count what another one has counted; the last ones of both are what quantiles are made of."""
        self.count += other.count
        self.total += other.total
        self._recent = deque((*self._recent, *other._recent), maxlen=(self._recent.maxlen or 0) + len(other._recent))

    def as_json(self) -> list[Any]:
        """Plain values."""
        return [self.count, self.total, list(self._recent)]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Summary:
        """What `as_json` has made."""
        summary = cls()
        summary.count, summary.total, recent = values
        summary._recent.extend(recent)
        return summary

    def quantiles(self, fractions: Sequence[float]) -> list[float]:
        """For each fraction, the least recent duration that so many are not above; 0 if there is none."""
        recent = sorted(self._recent)
        if not recent:
            return [0.0] * len(fractions)
        return [recent[max(0, ceil(fraction * len(recent)) - 1)] for fraction in fractions]


class Uncounted:
    """Counts nothing: what a meter below does not speak of."""

    counts_answers = False
    """Whether it is told of requests that come, and of answers of upstreams."""

    def request_came(self, head: RequestHead) -> None:
        """A request, other than a health check, has come."""

    def timed_look_up(self, look_up: Callable[[*Ts], T]) -> Callable[[*Ts], T]:
        """`look_up`, observed if that is wanted."""
        return look_up

    def timed_touch(self, touch: Callable[[*Ts], T]) -> Callable[[*Ts], T]:
        """`touch`, which notes the activity of a route, observed if that is wanted."""
        return touch

    def upstream_answered(self, status: int) -> None:
        """The head of a response came from an upstream, and answers no handshake."""

    def request_failed(self, status: int) -> None:
        """The proxy itself answers a request, because there is no route or no usable upstream."""

    def connect_done(self, result: str) -> None:
        """An attempt to connect to an upstream is over, with one of `CONNECT_RESULTS`."""

    def exchange_done(self, request: Done) -> None:
        """A response is complete, or has been cut."""


class RequestMeter:
    """The requests of one kind: how many by status class, and how long they took, tunnels excepted."""

    __slots__ = ("classes", "durations")

    def __init__(self) -> None:
        self.classes = [0] * 10
        self.durations = Histogram()


class Meters(Uncounted):
    """The counters of proxyd's own names."""

    def __init__(self) -> None:
        self.requests: dict[str, RequestMeter] = defaultdict(RequestMeter, ((kind, RequestMeter()) for kind in KINDS))
        self.received = 0
        self.sent = 0
        self.connects = dict.fromkeys(CONNECT_RESULTS, 0)
        self.reloads = {"applied": 0, "refused": 0}
        self.api = NativeApiMeter(self)

    def exchange_done(self, request: Done) -> None:
        """Count a request of a client."""
        self.count(request)
        self.received += request.body_received
        self.sent += request.body_sent

    def count(self, request: Done) -> None:
        """Count a request by kind and status, and observe its duration unless it became a tunnel."""
        meter = self.requests[request.kind]
        status = request.status
        meter.classes[status // 100] += 1
        if status != 101:
            meter.durations.observe(request.seconds)

    def connect_done(self, result: str) -> None:
        """Count an attempt to connect to an upstream."""
        self.connects[result] += 1

    def add(self, other: Meters) -> None:
        """Count what another process has counted; only one of them reloads."""
        for kind, meter in other.requests.items():
            own = self.requests[kind]
            own.classes = [mine + its for mine, its in zip(own.classes, meter.classes, strict=True)]
            own.durations.add(meter.durations)
        self.received += other.received
        self.sent += other.sent
        for counts, more in ((self.connects, other.connects), (self.reloads, other.reloads)):
            for result, count in more.items():
                counts[result] += count

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "requests": {
                kind: [meter.classes, meter.durations.counts, meter.durations.total]
                for kind, meter in self.requests.items()
            },
            "received": self.received,
            "sent": self.sent,
            "connects": self.connects,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Meters:
        """What `as_json` has made."""
        meters = cls()
        for kind, (classes, counts, total) in values["requests"].items():
            meter = meters.requests[kind]
            meter.classes, meter.durations.counts, meter.durations.total = classes, counts, total
        meters.received, meters.sent = values["received"], values["sent"]
        meters.connects = values["connects"]
        return meters

    def reload_done(self, *, applied: bool) -> None:
        """Count a reload of the configuration; a bad one is refused, and changes nothing."""
        self.reloads["applied" if applied else "refused"] += 1


class NativeApiMeter(Uncounted):
    """Counts the requests of the API among those of `meters`, but not their bytes, which are no client's."""

    def __init__(self, meters: Meters) -> None:
        self._count = meters.count

    def exchange_done(self, request: Done) -> None:
        """Count a request of the API."""
        self._count(request)


class ChpMeters(Uncounted):
    """The counters of configurable-http-proxy (contract of configurable-http-proxy, section 9)."""

    counts_answers = True

    def __init__(self) -> None:
        self.requests_web = 0
        self.requests_ws = 0
        self.requests_proxy: dict[int, int] = defaultdict(int)
        self.look_ups = Summary()
        self.touches = Summary()
        self.api = ChpApiMeter()

    def add(self, other: ChpMeters) -> None:
        """Count what another process has counted; only one of them has the API."""
        self.requests_web += other.requests_web
        self.requests_ws += other.requests_ws
        for status, count in other.requests_proxy.items():
            self.requests_proxy[status] += count
        self.look_ups.add(other.look_ups)
        self.touches.add(other.touches)
        for status, count in other.api.requests.items():
            self.api.requests[status] += count
        self.api.listed += other.api.listed
        self.api.added += other.api.added
        self.api.deleted += other.api.deleted

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "requests_web": self.requests_web,
            "requests_ws": self.requests_ws,
            "requests_proxy": list(self.requests_proxy.items()),
            "look_ups": self.look_ups.as_json(),
            "touches": self.touches.as_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ChpMeters:
        """What `as_json` has made."""
        meters = cls()
        meters.requests_web, meters.requests_ws = values["requests_web"], values["requests_ws"]
        meters.requests_proxy.update((int(status), count) for status, count in values["requests_proxy"])
        meters.look_ups = Summary.from_json(values["look_ups"])
        meters.touches = Summary.from_json(values["touches"])
        return meters

    def request_came(self, head: RequestHead) -> None:
        """Count a request by what it asks for; what looks like a handshake, but is a bad one, is one here."""
        if head.upgrade and _asks_for_websocket(head):
            self.requests_ws += 1
        else:
            self.requests_web += 1

    def timed_look_up(self, look_up: Callable[[*Ts], T]) -> Callable[[*Ts], T]:
        """Observe look-ups of routes."""
        return self.look_ups.timed(look_up)

    def timed_touch(self, touch: Callable[[*Ts], T]) -> Callable[[*Ts], T]:
        """Observe updates of the last activity."""
        return self.touches.timed(touch)

    def upstream_answered(self, status: int) -> None:
        """Count an answer of an upstream."""
        self.requests_proxy[status] += 1

    def request_failed(self, status: int) -> None:
        """Count an error of the proxy."""
        self.requests_proxy[status] += 1


class ChpApiMeter(Uncounted):
    """The counters of its API."""

    def __init__(self) -> None:
        self.requests: dict[int, int] = defaultdict(int)
        self.listed = 0
        self.added = 0
        self.deleted = 0

    def exchange_done(self, request: Done) -> None:
        """Count an answer, and what was done; a DELETE counts for an unknown route as well."""
        status = request.status
        if status == _CLIENT_LOST:
            return
        self.requests[status] += 1
        operation = request.operation
        if operation == "list_routes":
            self.listed += status == 200
        elif operation == "add_route":
            self.added += status == 201
        elif operation == "delete_route":
            self.deleted += status in (204, 404)


@attrs.frozen
class Gauges:
    """How things are at the moment.

    `received` and `sent` are the bytes of content so far of exchanges and tunnels that are not over yet.
    """

    routes: int
    connections: int
    tunnels: int
    idle_upstream_connections: int
    received: int
    sent: int


def _asks_for_websocket(head: RequestHead) -> bool:
    try:
        return is_handshake(head)
    except RequestError:
        return True
