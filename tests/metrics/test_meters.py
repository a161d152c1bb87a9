"""Tests of `proxyd.metrics.meters`: the numbers alone, and what exchanges make of them."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from proxyd.api.metrics import MetricsApi
from proxyd.api.resource import ApiResource
from proxyd.api.routes import RoutesApi
from proxyd.core.posted import RouteReader
from proxyd.errors import ConnectError, ConnectTimeoutError
from proxyd.metrics.exposition import ChpExposition
from proxyd.metrics.meters import ChpMeters, Histogram, Meters, RequestMeter, Summary, Uncounted
from proxyd.model.routes import RouteOptions
from proxyd.model.settings import Config, ErrorSettings
from proxyd.stores.memory import MemoryRouteStore
from proxyd.testing.harness import Harness
from proxyd.testing.transports import MemoryTransport
from tests.http.support import GET, OK
from tests.websocket.test_tunnel import AGREED, HANDSHAKE

REFUSED = b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"


class HistogramTests(SynchronousTestCase):
    """`Histogram`."""

    def test_a_bound_belongs_to_its_bucket(self) -> None:
        """As `le` says: less or equal; what is beyond all bounds is counted as well."""
        histogram = Histogram((0.1, 1.0))
        for seconds in (0.0, 0.1, 0.1001, 1.0, 1.5, 100.0):
            histogram.observe(seconds)
        self.assertEqual([2, 2, 2], histogram.counts)
        self.assertAlmostEqual(102.7001, histogram.total)


class SummaryTests(SynchronousTestCase):
    """`Summary`."""

    def test_quantiles_are_observed_values(self) -> None:
        """The least one that so many are not above."""
        summary = Summary()
        for value in (4.0, 2.0, 1.0, 3.0):
            summary.observe(value)
        self.assertEqual([1.0, 1.0, 2.0, 3.0, 4.0, 4.0], summary.quantiles((0.0, 0.25, 0.5, 0.75, 0.76, 1.0)))
        self.assertEqual((4, 10.0), (summary.count, summary.total))

    def test_nothing_is_zero(self) -> None:
        """Before anything was observed."""
        self.assertEqual([0.0, 0.0], Summary().quantiles((0.5, 0.99)))

    def test_the_window_is_bounded(self) -> None:
        """Quantiles are those of the last values; count and sum are those of all."""
        summary = Summary(window=10)
        for value in [100.0] * 50 + [1.0] * 10:
            summary.observe(value)
        self.assertEqual([1.0], summary.quantiles((0.999,)))
        self.assertEqual((60, 5010.0), (summary.count, summary.total))

    def test_calls_are_timed(self) -> None:
        """A timed function does what it did; each call that returns is observed."""
        summary = Summary()
        divided = summary.timed(lambda a, b: a // b)
        self.assertEqual(3, divided(7, 2))
        self.assertRaises(ZeroDivisionError, divided, 1, 0)
        self.assertEqual(1, summary.count)
        self.assertGreater(summary.total, 0)


class MeterCase(SynchronousTestCase):
    """A proxy in memory whose exchanges are counted."""

    def make(self, meters: Uncounted, config: Config | None = None, options: RouteOptions | None = None) -> None:
        self.proxy = Harness({"/x": "http://up.test:81", "/ws": "http://up.test:81"}, config, options, meters=meters)

    def send(self, request: bytes = GET, response: bytes | None = None) -> tuple[MemoryTransport, MemoryTransport]:
        """A client sends a request, over a new connection to the upstream, which answers."""
        self.proxy.pools.close()
        client = self.proxy.client()
        client.send(request)
        upstream = self.proxy.accept()
        if response is not None:
            upstream.send(response)
        return client, upstream

    def send_only(self, request: bytes) -> bytes:
        """A client sends a request that no upstream sees; gives back the answer."""
        client = self.proxy.client()
        client.send(request)
        return client.pop()


class NativeTests(MeterCase):
    """`Meters`."""

    def setUp(self) -> None:
        self.meters = Meters()
        self.make(self.meters)

    def classes(self, kind: str) -> dict[int, int]:
        """How many requests of a kind there were, by class of status."""
        return {index: count for index, count in enumerate(self.meters.requests[kind].classes) if count}

    def test_kinds_and_classes(self) -> None:
        """A request is counted once, under what served it and the class of its status."""
        self.send(GET, OK)
        self.send(GET, REFUSED)
        self.send_only(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        self.send_only(b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
        self.send_only(b"GET / HTTP/3.0\r\n\r\n")
        self.send(HANDSHAKE, REFUSED)
        self.assertEqual({2: 1, 4: 1}, self.classes("forward"))
        self.assertEqual({2: 1}, self.classes("health"))
        self.assertEqual({4: 2}, self.classes("none"))
        self.assertEqual({4: 1}, self.classes("websocket"))
        self.assertEqual({}, self.classes("api"))

    def test_errors_of_upstreams_are_counted(self) -> None:
        """Under the status that the client got, and the one of nginx for a client that did not wait."""
        self.proxy.client().send(GET)
        self.proxy.dialer.dials[-1].fail(ConnectError("up", "refused"))
        self.assertEqual({5: 1}, self.classes("forward"))
        client, _ = self.send()
        client.close()
        self.proxy.advance()
        self.assertEqual({4: 1, 5: 1}, self.classes("forward"))

    def test_durations(self) -> None:
        """From the head of the request to the end of the response."""
        _, upstream = self.send()
        self.proxy.advance(0.3)
        upstream.send(OK[:-1])
        self.proxy.advance(2)
        upstream.send(OK[-1:])
        durations = self.meters.requests["forward"].durations
        self.assertAlmostEqual(2.3, durations.total)
        self.assertEqual(1, durations.counts[durations.bounds.index(2.5)])

    def test_bytes(self) -> None:
        """The content both ways, whatever its framing; heads do not count."""
        self.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345", OK)
        self.assertEqual((5, 2), (self.meters.received, self.meters.sent))
        chunked = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n"
        client, upstream = self.send(chunked)
        client.send(b"abc\r\n0\r\n\r\n")
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n")
        self.assertEqual((8, 6), (self.meters.received, self.meters.sent))

    def test_tunnels(self) -> None:
        """A tunnel is counted at its end, with its bytes, but has no duration: it may last for days."""
        client, upstream = self.send(HANDSHAKE, AGREED + b"hi")
        client.send(b"hello")
        upstream.send(b"there")
        self.assertEqual({}, self.classes("websocket"))
        (tunnel,) = self.proxy.site.tunnels
        self.assertEqual((5, 5), (tunnel.to_upstream, tunnel.to_client))
        client.close()
        self.proxy.advance()
        self.assertEqual(set(), self.proxy.site.tunnels)
        self.assertEqual({1: 1}, self.classes("websocket"))
        self.assertEqual(0, sum(self.meters.requests["websocket"].durations.counts))
        self.assertEqual((5, 7), (self.meters.received, self.meters.sent))

    def test_connects(self) -> None:
        """How attempts to connect end; a connection that is used again is none."""
        client, upstream = self.send(GET, OK)
        client.send(GET)
        upstream.send(OK)
        for error in (ConnectError("up", "refused"), ConnectTimeoutError("up")):
            self.proxy.pools.close()
            self.proxy.client().send(GET)
            self.proxy.dialer.dials[-1].fail(error)
        self.proxy.pools.close()
        leaving = self.proxy.client()
        leaving.send(GET)
        leaving.close()
        self.proxy.advance()
        self.assertEqual({"connected": 1, "failed": 1, "timeout": 1, "cancelled": 1}, self.meters.connects)

    def test_connecting_goes_on_as_before(self) -> None:
        """Whoever asked for the connection gets the result."""
        pool = self.proxy.pools.of(next(iter(self.proxy.table)).route.upstream)
        connecting = pool.connect(1)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        connecting = pool.connect(1)
        self.proxy.dialer.dials[-1].result.errback(Failure(ConnectError("up", "refused")))
        self.failureResultOf(connecting, ConnectError)

    def test_reloads(self) -> None:
        """Both results are there from the start."""
        self.assertEqual({"applied": 0, "refused": 0}, self.meters.reloads)
        self.meters.reload_done(applied=True)
        self.meters.reload_done(applied=False)
        self.assertEqual({"applied": 1, "refused": 1}, self.meters.reloads)

    def test_the_api_has_a_kind_of_its_own(self) -> None:
        """What it says and hears is nobody's traffic."""
        exposition = MetricsApi(ChpExposition(ChpMeters()))
        self.proxy = Harness(root=ApiResource(MetricsApi.router, exposition, ()), meters=self.meters.api)
        self.send_only(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
        self.send_only(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual({2: 1, 4: 1}, self.classes("api"))
        self.assertEqual((0, 0), (self.meters.received, self.meters.sent))

    def test_a_new_kind_is_counted(self) -> None:
        """A resource that nobody foresaw does no harm."""
        self.assertIsInstance(self.meters.requests["unforeseen"], RequestMeter)


class ChpTests(MeterCase):
    """`ChpMeters`: the table of section 9."""

    def setUp(self) -> None:
        self.meters = ChpMeters()
        self.make(self.meters, Config(errors=ErrorSettings(statuses="chp")))

    def assert_counts(self, web: int, ws: int, **proxied: int) -> None:
        meters = self.meters
        expected = {int(status.removeprefix("s")): count for status, count in proxied.items()}
        self.assertEqual((web, ws, expected), (meters.requests_web, meters.requests_ws, dict(meters.requests_proxy)))

    def test_a_request_counts_at_its_arrival(self) -> None:
        """And its answer when its head comes, however long the body takes."""
        self.assert_counts(0, 0)
        _, upstream = self.send()
        self.assert_counts(1, 0)
        upstream.send(OK[:-1])
        self.assert_counts(1, 0, s200=1)
        upstream.send(OK[-1:])
        self.assert_counts(1, 0, s200=1)

    def test_health_checks_do_not_count(self) -> None:
        """A load balancer's questions are not traffic, and no route is looked up for them."""
        self.assertIn(b" 200 ", self.send_only(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"))
        self.assert_counts(0, 0)
        self.assertEqual(0, self.meters.look_ups.count)

    def test_errors_of_the_proxy_count(self) -> None:
        """For web requests and for handshakes, as what the client is told."""
        self.send_only(GET.replace(b"/x", b"/nothing"))
        self.assert_counts(1, 0, s404=1)
        self.proxy.client().send(GET)
        self.proxy.dialer.dials[-1].fail(ConnectError("up", "refused"))
        self.assert_counts(2, 0, s404=1, s503=1)
        self.proxy.client().send(HANDSHAKE)
        self.proxy.dialer.dials[-1].fail(ConnectError("up", "refused"))
        self.assert_counts(2, 1, s404=1, s503=2)
        self.send_only(HANDSHAKE.replace(b"/ws", b"/nothing"))
        self.assert_counts(2, 2, s404=2, s503=2)

    def test_a_handshake_counts_at_its_arrival(self) -> None:
        """Neither a 101 nor a refusal of the upstream is an answer here."""
        client, upstream = self.send(HANDSHAKE)
        self.assert_counts(0, 1)
        upstream.send(AGREED)
        client.close()
        self.proxy.advance()
        self.assert_counts(0, 1)
        self.send(HANDSHAKE, REFUSED)
        self.assert_counts(0, 2)

    def test_other_upgrades_are_web_requests(self) -> None:
        """They are served as such."""
        self.send(HANDSHAKE.replace(b"WebSocket\r\n", b"h2c\r\n", 1), OK)
        self.assert_counts(1, 0, s200=1)

    def test_a_bad_handshake_is_one(self) -> None:
        """One with a body gets an error, and was a handshake all the same."""
        self.send_only(HANDSHAKE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"))
        self.assert_counts(0, 1, s400=1)

    def test_a_client_that_leaves_has_no_answer(self) -> None:
        """Before the head of one."""
        client, _ = self.send()
        client.close()
        self.proxy.advance()
        self.assert_counts(1, 0)

    def test_look_ups_are_observed(self) -> None:
        """One for each request, whether there is a route or not."""
        self.send(GET, OK)
        self.send_only(GET.replace(b"/x", b"/nothing"))
        self.assertEqual(2, self.meters.look_ups.count)
        self.assertGreater(self.meters.look_ups.total, 0)

    def test_activity_is_observed(self) -> None:
        """Each update, and nothing that is none."""
        self.send(GET, REFUSED)
        self.assertEqual(0, self.meters.touches.count)
        self.proxy.advance(5)
        self.send(GET, OK)
        self.assertEqual(1, self.meters.touches.count)
        self.assertAlmostEqual(5, max(entry.last_activity for entry in self.proxy.table))


class ChpApiTests(SynchronousTestCase):
    """`ChpApiMeter`."""

    def setUp(self) -> None:
        self.meter = ChpMeters().api
        self.proxy = Harness()
        api = RoutesApi(
            self.proxy.table,
            MemoryRouteStore(self.proxy.clock),
            self.proxy.clock,
            reader=RouteReader(host_routing=False, read_options=None),
            max_body=1000,
            max_path=100,
        )
        self.proxy = Harness(root=ApiResource(RoutesApi.router, api, ("secret",)), meters=self.meter)

    def call(self, line: bytes, body: bytes = b"", token: bytes = b"secret") -> None:
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        client = self.proxy.client()
        client.send(line + b" HTTP/1.1\r\nHost: h\r\nAuthorization: token " + token + b"\r\n" + length + b"\r\n" + body)
        self.assertTrue(client.pop())

    def counts(self) -> tuple[int, int, int]:
        return self.meter.listed, self.meter.added, self.meter.deleted

    def test_the_table_counts_and_a_route_does_not(self) -> None:
        """Of GETs, those of the whole table that were answered."""
        for line in (b"GET /api/routes", b"GET /api/routes/", b"GET /api/routes?inactive_since=2020-01-01"):
            self.call(line)
        self.assertEqual((3, 0, 0), self.counts())
        for line in (b"GET /api/routes/a", b"GET /api/routes?inactive_since=x", b"GET /nothing"):
            self.call(line)
        self.call(b"GET /api/routes", token=b"wrong")
        self.assertEqual((3, 0, 0), self.counts())
        self.assertEqual({200: 3, 404: 2, 400: 1, 403: 1}, dict(self.meter.requests))

    def test_successful_posts_count(self) -> None:
        """And no others."""
        self.call(b"POST /api/routes/a", b'{"target": "http://h"}')
        self.call(b"POST /api/routes/a", b"{}")
        self.call(b"POST /api/routes/a", b'{"target": "http://h"}', token=b"wrong")
        self.assertEqual((0, 1, 0), self.counts())

    def test_deletes_count_for_unknown_routes_too(self) -> None:
        """But not without the token, nor where there are no routes."""
        self.call(b"POST /api/routes/a", b'{"target": "http://h"}')
        self.call(b"DELETE /api/routes/a")
        self.call(b"DELETE /api/routes/a")
        self.call(b"DELETE /api/routes/a", token=b"wrong")
        self.call(b"DELETE /nothing")
        self.assertEqual((0, 1, 2), self.counts())

    def test_nobody_is_answered_who_has_left(self) -> None:
        """A client that goes before its answer got none."""
        client = self.proxy.client()
        client.send(
            b"POST /api/routes/a HTTP/1.1\r\nHost: h\r\nAuthorization: token secret\r\nContent-Length: 9\r\n\r\n"
        )
        client.close()
        self.proxy.advance()
        self.assertEqual({}, dict(self.meter.requests))
