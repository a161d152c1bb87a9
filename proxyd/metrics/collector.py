"""proxyd's own names, for prometheus_client. Only a scrape loads this module."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxyd import __version__
from proxyd.metrics.meters import Histogram

if TYPE_CHECKING:
    from proxyd.metrics.exposition import Crew, NativeExposition, Servers
    from proxyd.metrics.meters import Gauges, Meters


def make_registry(exposition: NativeExposition) -> CollectorRegistry:
    """A registry of its own, which nothing else in the process adds to."""
    registry = CollectorRegistry()
    registry.register(ProxydCollector(exposition))
    ProcessCollector(registry=registry)
    return registry


class ProxydCollector(Collector):
    """Turns what `exposition` is made of into families of samples. Nothing is labelled by user or path."""

    def __init__(self, exposition: NativeExposition) -> None:
        self._exposition = exposition

    def collect(self) -> Iterator[Metric]:
        """All families, with their values as they are now."""
        exposition = self._exposition
        meters = exposition.meters
        gauges = exposition.gauges()
        yield InfoMetricFamily("proxyd_build", "The version that runs.", value={"version": __version__})
        yield from _requests(meters)
        yield from _traffic(meters, gauges)
        yield GaugeMetricFamily("proxyd_routes", "Routes in the table.", value=gauges.routes)
        yield _counter("proxyd_reloads", "Reloads of the configuration, by result.", meters.reloads)
        yield from _servers(exposition.servers)
        yield from _crew(exposition.crew)
        expiry = GaugeMetricFamily(
            "proxyd_certificate_expiry_timestamp_seconds", "When a certificate of ours expires.", labels=["name"]
        )
        for name, not_after in exposition.certificates():
            expiry.add_metric([name], not_after)
        yield expiry
        yield GaugeMetricFamily(
            "proxyd_event_loop_lag_seconds",
            "The most that a timer of the event loop was late during the last minute.",
            value=exposition.lag(),
        )
        yield CounterMetricFamily(
            "proxyd_event_loop_stalls",
            "How often the event loop stood still for longer than log.stall_after.",
            value=exposition.stalls(),
        )
        yield CounterMetricFamily(
            "proxyd_access_log_dropped_lines",
            "Lines of the access log that were dropped because its reader does not keep up.",
            value=exposition.dropped_lines(),
        )


def _requests(meters: Meters) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "proxyd_requests", "Requests that are over, by what served them.", labels=["kind", "status_class"]
    )
    durations = HistogramMetricFamily(
        "proxyd_request_duration_seconds",
        "From the end of a request's head to the end of its response; tunnels excepted.",
        labels=["kind"],
    )
    for kind, meter in meters.requests.items():
        for status_class, count in enumerate(meter.classes):
            if count or 1 <= status_class <= 5:
                requests.add_metric([kind, f"{status_class}xx"], count)
        histogram = meter.durations
        durations.add_metric([kind], _buckets(histogram), histogram.total)
    yield requests
    yield durations


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))


def _traffic(meters: Meters, gauges: Gauges) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "proxyd_received_bytes",
        "Content from clients: bodies of requests, and what tunnels carried to upstreams.",
        value=meters.received + gauges.received,
    )
    yield CounterMetricFamily(
        "proxyd_sent_bytes",
        "Content to clients: bodies of responses, and what tunnels carried from upstreams.",
        value=meters.sent + gauges.sent,
    )
    yield GaugeMetricFamily("proxyd_open_connections", "Connections of clients.", value=gauges.connections)
    yield GaugeMetricFamily("proxyd_open_tunnels", "Tunnels that are open.", value=gauges.tunnels)
    yield CounterMetricFamily(
        "proxyd_tunnels",
        "Tunnels that were opened.",
        value=meters.requests["websocket"].classes[1] + gauges.tunnels,
    )
    yield _counter("proxyd_upstream_connects", "Attempts to connect to upstreams, by result.", meters.connects)
    yield GaugeMetricFamily(
        "proxyd_upstream_idle_connections",
        "Connections to upstreams that wait for a request.",
        value=gauges.idle_upstream_connections,
    )


def _servers(servers: Servers | None) -> Iterator[Metric]:
    if servers is None:
        return
    states = GaugeMetricFamily("proxyd_servers", "Instances of managed servers, by state.", labels=["state"])
    for state, count in servers.states().items():
        states.add_metric([state], count)
    yield states
    yield CounterMetricFamily(
        "proxyd_server_starts", "Processes of managed servers that were started.", value=servers.news.starts
    )
    yield CounterMetricFamily(
        "proxyd_server_failures",
        "Starts of managed servers that came to nothing, and crashes.",
        value=servers.news.failures,
    )


def _crew(crew: Crew | None) -> Iterator[Metric]:
    if crew is None:
        return
    states = GaugeMetricFamily("proxyd_workers", "Workers, by state.", labels=["state"])
    for state, count in crew.states().items():
        states.add_metric([state], count)
    yield states
    yield CounterMetricFamily("proxyd_worker_replacements", "Workers that had to be replaced.", value=crew.replaced)
    cpu = CounterMetricFamily("proxyd_worker_cpu_seconds", "CPU time of the worker that runs.", labels=["worker"])
    memory = GaugeMetricFamily("proxyd_worker_resident_bytes", "Memory of the worker that runs.", labels=["worker"])
    for number, seconds, size in crew.costs():
        cpu.add_metric([str(number)], seconds)
        memory.add_metric([str(number)], size)
    yield cpu
    yield memory


def _counter(name: str, text: str, by_result: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["result"])
    for result, count in by_result.items():
        family.add_metric([result], count)
    return family
