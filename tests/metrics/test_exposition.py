"""Tests of `proxyd.metrics.exposition` and `proxyd.metrics.collector`."""

from __future__ import annotations

import subprocess
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from proxyd import __version__
from proxyd.metrics.exposition import ChpExposition, NativeExposition
from proxyd.metrics.meters import ChpMeters, Gauges, Meters

GAUGES = Gauges(routes=3, connections=4, tunnels=1, idle_upstream_connections=2, received=10, sent=20)
PROCESS = {
    "process_cpu_seconds_total": "counter",
    "process_start_time_seconds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_virtual_memory_bytes": "gauge",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
}


def samples(text: str) -> dict[str, float]:
    """The lines of a text, each with its value."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def types(text: str) -> dict[str, str]:
    """What the text says of the type of each name."""
    lines = [line.split() for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len({line[2] for line in lines}) == len(lines), "a name has two types"
    return {line[2]: line[3] for line in lines}


class ChpTests(SynchronousTestCase):
    """The text of configurable-http-proxy (section 9)."""

    def setUp(self) -> None:
        self.meters = ChpMeters()
        self.page = ChpExposition(self.meters).page("application/openmetrics-text; version=1.0.0")

    def test_names_and_types_are_those_of_the_contract(self) -> None:
        """All of them, and no others; counters have no suffix."""
        expected = {
            "api_route_get": "counter",
            "api_route_add": "counter",
            "api_route_delete": "counter",
            "requests_api": "counter",
            "requests_web": "counter",
            "requests_ws": "counter",
            "requests_proxy": "counter",
            "find_target_for_req": "summary",
            "last_activity_updating": "summary",
            "process_cpu_user_seconds_total": "counter",
            "process_cpu_system_seconds_total": "counter",
        }
        self.assertEqual(expected | PROCESS, types(self.page.text))
        self.assertEqual("text/plain; version=0.0.4; charset=utf-8", self.page.content_type)

    def test_counters_are_there_from_the_start(self) -> None:
        """With 0, unless they have a label; so are the quantiles."""
        found = samples(self.page.text)
        for name in ("api_route_get", "api_route_add", "api_route_delete", "requests_web", "requests_ws"):
            self.assertIn(f"\n{name} 0\n", self.page.text)
        for name in ("find_target_for_req", "last_activity_updating"):
            for quantile in ("0.01", "0.05", "0.5", "0.9", "0.95", "0.99", "0.999"):
                self.assertEqual(0, found[f'{name}{{quantile="{quantile}"}}'])
            self.assertEqual((0, 0), (found[f"{name}_sum"], found[f"{name}_count"]))
        self.assertFalse([name for name in found if name.startswith(("requests_api", "requests_proxy"))])

    def test_numbers_arrive(self) -> None:
        """Each under its name and label."""
        meters = self.meters
        meters.requests_web, meters.requests_ws = 5, 2
        meters.upstream_answered(200)
        meters.request_failed(503)
        meters.api.requests[201] = 4
        meters.api.listed, meters.api.added, meters.api.deleted = 6, 7, 8
        for seconds in (0.25, 0.75):
            meters.look_ups.observe(seconds)
        found = samples(ChpExposition(meters).page("").text)
        expected = {
            "requests_web": 5,
            "requests_ws": 2,
            'requests_proxy{status="200"}': 1,
            'requests_proxy{status="503"}': 1,
            'requests_api{status="201"}': 4,
            "api_route_get": 6,
            "api_route_add": 7,
            "api_route_delete": 8,
            'find_target_for_req{quantile="0.5"}': 0.25,
            'find_target_for_req{quantile="0.999"}': 0.75,
            "find_target_for_req_sum": 1.0,
            "find_target_for_req_count": 2,
        }
        self.assertEqual(expected, {name: found[name] for name in expected})

    def test_the_process_tells_of_itself(self) -> None:
        """Real numbers."""
        found = samples(self.page.text)
        for name in PROCESS:
            self.assertGreater(found[name], 0, name)
        self.assertGreater(found["process_max_fds"], found["process_open_fds"])

    def test_prometheus_can_read_it(self) -> None:
        """The text is well-formed."""
        self.assertTrue(list(text_string_to_metric_families(self.page.text)))


class NativeTests(SynchronousTestCase):
    """proxyd's own names."""

    def setUp(self) -> None:
        self.meters = Meters()
        self.exposition = NativeExposition(
            self.meters,
            lambda: GAUGES,
            lag=lambda: 0.5,
            dropped_lines=lambda: 7,
            certificates=lambda: [("a.test", 1e9), ("b.test", 2e9)],
        )

    def found(self) -> dict[str, float]:
        return samples(self.exposition.page("").text)

    def test_names_and_types(self) -> None:
        """Counters end in `_total`, units are in the names, nothing is there twice."""
        expected = {
            "proxyd_build_info": "gauge",
            "proxyd_requests_total": "counter",
            "proxyd_request_duration_seconds": "histogram",
            "proxyd_received_bytes_total": "counter",
            "proxyd_sent_bytes_total": "counter",
            "proxyd_open_connections": "gauge",
            "proxyd_open_tunnels": "gauge",
            "proxyd_tunnels_total": "counter",
            "proxyd_upstream_connects_total": "counter",
            "proxyd_upstream_idle_connections": "gauge",
            "proxyd_routes": "gauge",
            "proxyd_reloads_total": "counter",
            "proxyd_certificate_expiry_timestamp_seconds": "gauge",
            "proxyd_event_loop_lag_seconds": "gauge",
            "proxyd_event_loop_stalls_total": "counter",
            "proxyd_access_log_dropped_lines_total": "counter",
        }
        self.assertEqual(expected | PROCESS, types(self.exposition.page("").text))

    def test_gauges(self) -> None:
        """How things are, and what other parts tell."""
        found = self.found()
        expected = {
            f'proxyd_build_info{{version="{__version__}"}}': 1,
            "proxyd_routes": 3,
            "proxyd_open_connections": 4,
            "proxyd_open_tunnels": 1,
            "proxyd_upstream_idle_connections": 2,
            "proxyd_event_loop_lag_seconds": 0.5,
            "proxyd_access_log_dropped_lines_total": 7,
            'proxyd_certificate_expiry_timestamp_seconds{name="a.test"}': 1e9,
            'proxyd_certificate_expiry_timestamp_seconds{name="b.test"}': 2e9,
        }
        self.assertEqual(expected, {name: found[name] for name in expected})

    def test_what_is_not_over_counts_already(self) -> None:
        """A download or a tunnel of hours shows while it goes on."""
        self.meters.received, self.meters.sent = 100, 200
        self.meters.requests["websocket"].classes[1] = 2
        found = self.found()
        self.assertEqual((110, 220), (found["proxyd_received_bytes_total"], found["proxyd_sent_bytes_total"]))
        self.assertEqual(3, found["proxyd_tunnels_total"])

    def test_requests(self) -> None:
        """Series are there from the start, so that the first request is a change; odd classes come when they do."""
        requests = self.meters.requests["forward"]
        name = 'proxyd_requests_total{kind="forward",status_class="%s"}'
        self.assertEqual([0.0] * 5, [self.found()[name % f"{index}xx"] for index in range(1, 6)])
        self.assertNotIn(name % "0xx", self.found())
        requests.classes[2] = 3
        requests.classes[0] = 1
        self.assertEqual((3, 1), (self.found()[name % "2xx"], self.found()[name % "0xx"]))

    def test_durations(self) -> None:
        """Buckets add up."""
        for seconds in (0.001, 0.02, 0.02, 3600.0):
            self.meters.requests["api"].durations.observe(seconds)
        found = self.found()
        name = 'proxyd_request_duration_seconds_%s{kind="api"%s}'
        expected = {"0.005": 1, "0.01": 1, "0.025": 3, "60.0": 3, "+Inf": 4}
        self.assertEqual(expected, {le: found[name % ("bucket", f',le="{le}"')] for le in expected})
        self.assertAlmostEqual(3600.041, found[name % ("sum", "")])
        self.assertEqual(4, found[name % ("count", "")])

    def test_results(self) -> None:
        """By label, from the start."""
        self.meters.connect_done("timeout")
        found = self.found()
        self.assertEqual(1, found['proxyd_upstream_connects_total{result="timeout"}'])
        self.assertEqual(0, found['proxyd_upstream_connects_total{result="failed"}'])
        self.assertEqual(0, found['proxyd_reloads_total{result="refused"}'])

    def test_the_form_is_what_was_asked_for(self) -> None:
        """Text, unless OpenMetrics is accepted; both are well-formed."""
        text = self.exposition.page("*/*")
        self.assertTrue(text.content_type.startswith("text/plain; version=0.0.4"), text.content_type)
        self.assertTrue(list(text_string_to_metric_families(text.text)))
        page = self.exposition.page("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
        self.assertTrue(page.content_type.startswith("application/openmetrics-text; version=1.0.0"), page.content_type)
        names = [family.name for family in openmetrics_families(page.text)]
        self.assertEqual(len(names), len(set(names)))

    def test_nothing_is_shared(self) -> None:
        """Two proxies in a process have numbers of their own, and neither adds to the library's global registry."""
        other = NativeExposition(Meters(), lambda: GAUGES)
        self.meters.connect_done("failed")
        name = 'proxyd_upstream_connects_total{result="failed"}'
        self.assertEqual((1, 0), (self.found()[name], samples(other.page("").text)[name]))
        from prometheus_client import REGISTRY  # noqa: PLC0415  # the test is about it

        self.assertFalse([metric.name for metric in REGISTRY.collect() if metric.name.startswith("proxyd")])


class StartTests(SynchronousTestCase):
    """The price of a start."""

    def test_the_library_is_loaded_by_the_first_scrape(self) -> None:
        """And not by a proxy that nobody scrapes."""
        code = "import sys, proxyd.service; print('prometheus_client' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        self.assertEqual("False\n", done.stdout)
