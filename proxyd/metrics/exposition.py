"""What monitoring reads: the meters as text, under proxyd's own names or those of configurable-http-proxy.

prometheus_client is loaded by the first scrape: that takes 40 ms (2026-11), which a start does not have to wait for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import attrs

from proxyd.metrics.meters import ChpMeters, Gauges, Meters, Summary

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, ProcessCollector

Certificates = Callable[[], Iterable[tuple[str, float]]]
"""Lists the certificates in use: the name of each, and when it expires in seconds since the epoch."""


class Servers(Protocol):
    """What counts the managed servers."""

    @property
    def news(self) -> ServerNews:
        """What has happened to them."""

    def states(self) -> Mapping[str, int]:
        """How many of them, each instance by itself, are in each state."""


class ServerNews(Protocol):
    """What has happened to the managed servers."""

    starts: int
    failures: int


class Crew(Protocol):
    """What is to be known of the workers of a controller."""

    @property
    def replaced(self) -> int:
        """How many had to be replaced."""

    def states(self) -> Mapping[str, int]:
        """How many of them are in each state."""

    def costs(self) -> Iterable[tuple[int, float, int]]:
        """The number of each, its CPU seconds, and its resident bytes."""


_QUANTILES = (0.01, 0.05, 0.5, 0.9, 0.95, 0.99, 0.999)
_CHP_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@attrs.frozen
class Page:
    """What a scrape gets."""

    content_type: str
    text: str


class Exposition(Protocol):
    """Writes down the meters."""

    def page(self, accept: str) -> Page:
        """The numbers as they are now, in a form that fits the Accept field."""


class NativeExposition:
    """`meters` under proxyd's own names, in the form that prometheus_client chooses.

    `gauges` tells how things are, `lag` how late the event loop was, `stalls` how often it stood still, `dropped_lines`
    how many lines of the access log found no place, `servers` the managed servers, `crew` the workers, if there can be
    any. `meters` may be replaced before a page is made.
    """

    def __init__(
        self,
        meters: Meters,
        gauges: Callable[[], Gauges],
        *,
        lag: Callable[[], float] = lambda: 0.0,
        stalls: Callable[[], int] = lambda: 0,
        dropped_lines: Callable[[], int] = lambda: 0,
        certificates: Certificates = lambda: (),
        servers: Servers | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.crew = crew
        self.meters = meters
        self.gauges = gauges
        self.lag = lag
        self.stalls = stalls
        self.dropped_lines = dropped_lines
        self.certificates = certificates
        self.servers = servers
        self._registry: CollectorRegistry | None = None

    def page(self, accept: str) -> Page:
        """The numbers as they are now."""
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415  # see the top of the file

        from proxyd.metrics.collector import make_registry  # noqa: PLC0415

        if self._registry is None:
            self._registry = make_registry(self)
        encode, content_type = choose_encoder(accept)
        return Page(content_type, encode(self._registry).decode())


class ChpExposition:
    """`meters` under the names of configurable-http-proxy (contract of configurable-http-proxy, section 9).

    Written by hand: prometheus_client would add `_total` to the names of the counters.
    """

    def __init__(self, meters: ChpMeters) -> None:
        self.meters = meters
        self._process: ProcessCollector | None = None

    def page(self, accept: str) -> Page:
        """The numbers as they are now, always as text: nothing else was ever served here."""
        return Page(_CHP_CONTENT_TYPE, "".join(f"{line}\n" for line in self._lines()))

    def _lines(self) -> Iterator[str]:
        meters = self.meters
        api = meters.api
        yield from _counter("api_route_get", "Count of API route get requests", api.listed)
        yield from _counter("api_route_add", "Count of API route add requests", api.added)
        yield from _counter("api_route_delete", "Count of API route delete requests", api.deleted)
        yield from _by_status("requests_api", "Count of API requests", api.requests)
        yield from _counter("requests_web", "Count of web requests", meters.requests_web)
        yield from _counter("requests_ws", "Count of websocket requests", meters.requests_ws)
        yield from _by_status("requests_proxy", "Count of proxy requests", meters.requests_proxy)
        yield from _summary("find_target_for_req", "Summary of find target requests", meters.look_ups)
        yield from _summary("last_activity_updating", "Summary of last activity updating requests", meters.touches)
        yield from self._process_lines()

    def _process_lines(self) -> Iterator[str]:
        from prometheus_client import ProcessCollector  # noqa: PLC0415  # see the top of the file

        times = os.times()
        yield from _counter("process_cpu_user_seconds_total", "User CPU time spent in seconds.", times.user)
        yield from _counter("process_cpu_system_seconds_total", "System CPU time spent in seconds.", times.system)
        if self._process is None:
            self._process = ProcessCollector(registry=None)
        for metric in self._process.collect():
            for sample in metric.samples:
                yield from _single(sample.name, metric.documentation, metric.type, sample.value)


def _single(name: str, text: str, kind: str, value: float) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    yield f"{name} {value}"


def _counter(name: str, text: str, value: float) -> Iterator[str]:
    return _single(name, text, "counter", value)


def _by_status(name: str, text: str, counts: dict[int, int]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} counter"
    for status, count in sorted(counts.items()):
        yield f'{name}{{status="{status}"}} {count}'


def _summary(name: str, text: str, summary: Summary) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} summary"
    for quantile, value in zip(_QUANTILES, summary.quantiles(_QUANTILES), strict=True):
        yield f'{name}{{quantile="{quantile}"}} {value}'
    yield f"{name}_sum {summary.total}"
    yield f"{name}_count {summary.count}"
