"""Tests of `proxyd.workers.datapath`: what becomes of a configuration. Sockets are real, time is not."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.core.counting import Counting
from proxyd.core.shared import SharedCounting, SharedMemory, memory_bytes
from proxyd.core.table import Entry, RouteTable
from proxyd.errors import ListenError
from proxyd.http.resources import ForwardResource
from proxyd.model.routes import Route, RouteOptions, RouteTimeouts, place_of
from proxyd.model.settings import ListenerConfig
from proxyd.model.upstream import Upstream
from proxyd.option import Seconds
from proxyd.testing.harness import Lines
from proxyd.testing.transports import MemoryTransport
from proxyd.websocket.tunnel import Tunnel
from proxyd.workers.datapath import DataPath

GET = b"GET %b HTTP/1.1\r\nHost: a.test\r\n\r\n"


class DataPathCase(SynchronousTestCase):
    """Makes data paths in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.clock = MemoryReactorClock()
        self.table = RouteTable()
        self.lines = Lines()

    def make(self, settings: str = "", *, is_logged: bool = True, counting: Counting | None = None) -> DataPath:
        """The data path of a configuration in YAML, in which `{directory}` stands for the test's own."""
        config = parse(settings.replace("{directory}", str(self.directory)), KINDS)
        writer = self.lines if is_logged else None
        data_path = DataPath(config, KINDS, self.table, self.clock, access_writer=writer, counting=counting)
        self.addCleanup(data_path.close)
        return data_path

    def client(self, data_path: DataPath, site: int = 0) -> MemoryTransport:
        """A client of one of the sites."""
        transport = MemoryTransport(Clock())
        transport.connect(data_path.sites[site].buildProtocol(None))
        return transport

    def ask(self, data_path: DataPath, target: bytes = b"/none", site: int = 0) -> bytes:
        """What a client of a site gets for a GET."""
        client = self.client(data_path, site)
        client.send(GET % target)
        return client.pop()

    def status(self, data_path: DataPath, target: bytes = b"/none", site: int = 0) -> int:
        """Only the status of it."""
        return int(self.ask(data_path, target, site).split(b" ")[1])

    def resource(self, data_path: DataPath, key: str) -> ForwardResource:
        """The resource of a route, once it was asked for."""
        client = self.client(data_path)
        client.send(GET % key.encode())
        client.close()
        entry = self.table.get(key)
        assert isinstance(entry, Entry)
        assert isinstance(entry.resource, ForwardResource)
        return entry.resource


class SiteTests(DataPathCase):
    """What the connections of a listener get of the configuration."""

    def test_limits_and_timeouts_are_those_of_the_file(self) -> None:
        """For the public side and for every other site."""
        data_path = self.make("limits: {header_count: 1}\ntimeouts: {header: 7s}\n")
        other = data_path.make_site(Resource())
        self.assertEqual(data_path.sites[1:], [other])
        for site in data_path.sites:
            self.assertEqual((site.settings.limits.header_count, site.settings.timeouts.header), (1, 7))
        client = self.client(data_path)
        client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\n\r\n")
        self.assertIn(b" 431 ", client.pop())

    def test_clients_of_the_api_may_be_silent(self) -> None:
        """Whoever waits for a slow store is not dropped, as silent clients of the public side are."""
        settings = "timeouts: {client_idle: %ds}\n"
        data_path = self.make(settings % 1)
        data_path.make_site(Resource(), logs_access=False)
        self.assertEqual([site.settings.timeouts.client_idle for site in data_path.sites], [1, 0])
        data_path.prepare(parse(settings % 2, KINDS))(None, None)
        self.assertEqual([site.settings.timeouts.client_idle for site in data_path.sites], [2, 0])

    def test_a_long_line_is_told_as_the_statuses_ask(self) -> None:
        """RFC 9110 has 414; configurable-http-proxy answers 431."""
        for settings, status in (("", 414), ("errors: {statuses: chp}\n", 431)):
            data_path = self.make(f"{settings}limits: {{request_line: 100}}\n")
            self.assertEqual(self.status(data_path, b"/" + b"a" * 100), status)

    def test_trusted_proxies_are_those_of_the_file(self) -> None:
        """Nobody else is believed."""
        site = self.make("trusted_proxies: [192.0.2.0/24]\n").sites[0]
        trusted = [site.peer_at(host, secure=False).trusted for host in ("192.0.2.9", "127.0.0.1", "")]
        self.assertEqual(trusted, [True, False, False])

    def test_error_pages_come_from_the_directory(self) -> None:
        """That of the file."""
        (self.directory / "404.html").write_text("<p>mine")
        self.assertTrue(self.ask(self.make("errors: {directory: '{directory}'}\n")).endswith(b"\r\n\r\n<p>mine"))

    def test_error_pages_come_from_the_target(self) -> None:
        """It is asked first; every site asks the same one."""
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.directory / "s"))
            listening.listen()
            url = f"http+unix://{str(self.directory / 's').replace('/', '%2F')}/pages"
            data_path = self.make(f"errors: {{target: '{url}', directory: '{{directory}}'}}\n")
            client = self.client(data_path)
            client.send(GET % b"/none")
            self.assertEqual(client.pop(), b"")
            self.clock.advance(0)
            data_path.reactor.doRead()
            listening.settimeout(10)
            asked, _ = listening.accept()
            with asked:
                asked.settimeout(10)
                data_path.reactor.doRead()
                self.assertTrue(asked.recv(1000).startswith(b"GET /pages/404?url=%2Fnone HTTP/1.1\r\n"))

    def test_a_site_may_serve_something_else(self) -> None:
        """With a root of its own, the routes are not to be seen there."""
        data_path = self.make()
        data_path.make_site(Resource())
        self.assertEqual([self.status(data_path, b"/healthz", site) for site in (0, 1)], [200, 404])


class LimitTests(DataPathCase):
    """What limits count over reloads, alone and with workers."""

    countings = (None, SharedCounting(SharedMemory(memoryview(bytearray(memory_bytes(1))), 1, 0, b"k" * 32)))

    def reload(self, data_path: DataPath, settings: str) -> None:
        """Have another configuration."""
        data_path.prepare(parse(settings, KINDS))(self.lines, None)

    def is_let_in(self, client: MemoryTransport) -> bool:
        """Whether this connection is served; it stays open then."""
        client.send(GET % b"/none")
        return b" 404 " in client.pop()

    def test_connections_that_are_there_count(self) -> None:
        """Whatever a reload changes of the limits, and if it brings the first one."""
        for counting in self.countings:
            data_path = self.make("limits: {connections: 2}", counting=counting)
            clients = [self.client(data_path) for _ in range(3)]
            self.assertEqual([self.is_let_in(client) for client in clients], [True, True, False])
            for settings in ("limits: {connections: 2, header_count: 50}", "limits: {connections: 1}"):
                self.reload(data_path, settings + "\ntrusted_proxies: [10.0.0.1]\n")
                self.assertEqual([self.is_let_in(client) for client in clients[:2]], [True, True])
                self.assertIn(b" 503 ", self.client(data_path).pop())
            self.reload(data_path, "limits: {connections: 3}")
            clients[2] = self.client(data_path)
            self.assertTrue(self.is_let_in(clients[2]))
            self.assertIn(b" 503 ", self.client(data_path).pop())
            self.reload(data_path, "limits: {connections_per_client: 3}")
            self.assertIn(b" 429 ", self.client(data_path).pop())
            self.reload(data_path, "")
            clients.append(self.client(data_path))
            self.reload(data_path, "limits: {connections: 4}")
            self.assertEqual([self.is_let_in(client) for client in clients], [True] * 4)
            self.assertIn(b" 503 ", self.client(data_path).pop())
            clients[0].close()
            clients[0].protocol.connectionLost()
            self.assertTrue(self.is_let_in(self.client(data_path)))

    def passed(self, data_path: DataPath, target: bytes) -> int:
        """How many of six requests no rate refuses."""
        return sum(b" 429 " not in self.ask(data_path, target) for _ in range(6))

    def test_rates_that_are_used_up_stay_so(self) -> None:
        """Those of a route, of a pattern and of clients, as long as they are the same; another rate is a full one."""
        settings = (
            "limits: {{header_count: {count}, requests_per_client: {all}/h}}\n"
            "route_defaults: {{rate: {rate}/h}}\n"
            "patterns: [{{pattern: '/p/.*', upstream: 'http://127.0.0.1:1'}}]\n"
        )
        route = Route("/r", Upstream.parse("http://127.0.0.1:1"), ("r",))
        for counting in self.countings:
            self.table = RouteTable()
            data_path = self.make(settings.format(count=50, rate=2, all=36), counting=counting)
            self.table.set_static([route], 0)
            passed = [self.passed(data_path, target) for target in (b"/r", b"/p/x", b"/none")]
            self.reload(data_path, settings.format(count=50, rate=2, all=36))
            passed += [self.passed(data_path, target) for target in (b"/r", b"/p/x", b"/none")]
            self.reload(data_path, settings.format(count=51, rate=2, all=36))
            passed.append(self.passed(data_path, b"/none"))
            self.assertEqual(passed, [2, 2, 6, 0, 0, 6, 0])
            if counting is None:
                self.reload(data_path, settings.format(count=51, rate=3, all=50))
                self.assertEqual([self.passed(data_path, target) for target in (b"/r", b"/none")], [3, 6])


class AccessLogTests(DataPathCase):
    """Which exchanges are written down, and how."""

    def test_the_form_is_that_of_the_file(self) -> None:
        """Combined by default, JSON, or none."""
        self.ask(self.make())
        (line,) = self.lines.lines
        self.assertIn('"GET /none HTTP/1.1" 404 ', line)
        self.lines.lines.clear()
        self.ask(self.make("log: {access: json}\n"))
        (line,) = self.lines.lines
        self.assertEqual(json.loads(line)["path"], "/none")
        self.lines.lines.clear()
        self.ask(self.make("log: {access: 'off'}\n"))
        self.assertEqual(self.lines.lines, [])

    def test_without_a_writer_there_is_none(self) -> None:
        """Requests are served all the same."""
        self.assertEqual(self.status(self.make(is_logged=False)), 404)
        self.assertEqual(self.lines.lines, [])

    def test_a_site_may_keep_out_of_it(self) -> None:
        """As the API does, which has its own."""
        data_path = self.make()
        data_path.make_site(Resource(), logs_access=False)
        self.ask(data_path, site=1)
        self.assertEqual(self.lines.lines, [])


class TreeTests(DataPathCase):
    """What answers on the public side."""

    def test_health_is_where_the_file_says(self) -> None:
        """And nowhere if it says so; ready is not ready while draining."""
        data_path = self.make('health: {live: "", ready: /up}\n')
        self.assertEqual([self.status(data_path, path) for path in (b"/up", b"/healthz", b"/")], [200, 404, 404])
        data_path.sites[0].is_draining = True
        self.assertEqual(self.status(data_path, b"/up"), 503)

    def test_targets_are_as_strict_as_the_file_says(self) -> None:
        """A quote is refused, or passes."""
        self.assertEqual(self.status(self.make(), b'/a"'), 400)
        self.assertEqual(self.status(self.make("limits: {target: lenient}\n"), b'/a"'), 404)


class RouteTests(DataPathCase):
    """From an entry of the table to the resource that forwards."""

    def add(self, *routes: Route) -> None:
        """Let the table have these routes."""
        self.table.set_static(routes, 0)

    def route(self, key: str, url: str = "http://127.0.0.1:1", **options: Any) -> Route:
        """A route."""
        return Route(key, Upstream.parse(url), place_of(key)[1], options=RouteOptions(**options))

    def test_options_of_a_route_win(self) -> None:
        """Over those of the file, which win over the defaults, each by itself; waits over those of all routes."""
        data_path = self.make(
            "route_defaults: {websocket: 'off', timeouts: {connect: 2s, response: 3s}}\n"
            "timeouts: {connect: 20s, response: 30s, idle: 40s}\n"
        )
        self.add(
            self.route("/own", websocket="tunnel", timeouts=RouteTimeouts(connect=Seconds(1))),
            self.route("/inherited"),
        )
        own, inherited = (self.resource(data_path, key) for key in ("/own", "/inherited"))
        self.assertEqual((own.connect_seconds, own.response_seconds, own.idle_seconds), (1, 3, 40))
        self.assertEqual((inherited.connect_seconds, inherited.response_seconds), (2, 3))
        client = self.client(data_path)
        client.send(
            b"GET /inherited HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self.assertIn(b" 403 ", client.pop())

    def test_routes_to_one_place_share_its_connections(self) -> None:
        """Whatever their paths are; another place has others."""
        data_path = self.make()
        self.add(
            self.route("/a", "http://127.0.0.1:1/x"),
            self.route("/b", "http://127.0.0.1:1/y"),
            self.route("/c", "http://127.0.0.1:2/x"),
        )
        a, b, c = (self.resource(data_path, key) for key in ("/a", "/b", "/c"))
        self.assertIs(a.pool, b.pool)
        self.assertIsNot(a.pool, c.pool)

    def test_a_resource_is_made_once(self) -> None:
        """At the first request."""
        data_path = self.make()
        self.add(self.route("/a"))
        entry = self.table.get("/a")
        assert entry is not None
        self.assertIsNone(entry.resource)
        self.assertIs(self.resource(data_path, "/a"), self.resource(data_path, "/a"))


class ListenerTests(DataPathCase):
    """The sockets."""

    def test_each_section_is_a_listener(self) -> None:
        """In the order of the file, with what its kind is for; only those for routes serve them."""
        data_path = self.make("listeners: [{kind: demo, port: 1}, {kind: http, port: 2}, {kind: http, port: 3}]\n")
        self.assertEqual(
            [f"{listener.purpose} {listener.where}" for listener in data_path.listeners],
            ["Demonstration at http://127.0.0.1:1", "Proxying http://127.0.0.1:2", "Proxying http://127.0.0.1:3"],
        )
        self.assertEqual([self.status(data_path, b"/healthz", site) for site in range(3)], [404, 200, 200])

    def test_a_section_of_no_kind_is_refused(self) -> None:
        """Nothing is guessed."""
        config = attrs.evolve(parse("", KINDS), listeners=(ListenerConfig(),))
        self.assertRaises(LookupError, DataPath, config, KINDS, self.table, self.clock)

    def test_all_are_opened_or_none(self) -> None:
        """One that cannot be opened closes those that were, and what they left on disk."""
        (self.directory / "file").write_text("")
        data_path = self.make(
            "listeners: [{kind: http, port: 0}, {kind: http, socket: '{directory}/s'},"
            " {kind: http, socket: '{directory}/file'}]\n"
        )
        self.assertRaises(ListenError, data_path.open)
        self.clock.advance(0)
        self.assertEqual(os.listdir(self.directory), ["file"])
        self.assertEqual(data_path.reactor.getReaders(), [])
        (self.directory / "file").unlink()
        data_path.open()
        self.assertEqual(sorted(os.listdir(self.directory)), ["file", "s"])

    def test_closing_leaves_nothing(self) -> None:
        """Neither a socket on disk, nor a descriptor in the reactor, nor a call that is still to come."""
        data_path = self.make("listeners: [{kind: http, port: 0}, {kind: http, socket: '{directory}/s'}]\n")
        data_path.open()
        client = self.client(data_path)
        client.send(b"GET / HTTP")
        self.assertEqual(self.clock.getReaders(), [data_path.reactor])
        data_path.close()
        self.assertEqual(os.listdir(self.directory), [])
        self.assertEqual(self.clock.getReaders(), [])
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        data_path.close()


class DrainTests(DataPathCase):
    """The end of a data path."""

    def begin(self) -> tuple[DataPath, MemoryTransport]:
        """A data path in virtual time, with a client that has a request in flight."""
        data_path = self.make("listeners: [{kind: http, socket: '{directory}/s'}]\n")
        data_path.deadlines.seconds = self.clock.seconds
        data_path.open()
        upstream = socket.socket()
        self.addCleanup(upstream.close)
        upstream.bind(("127.0.0.1", 0))
        upstream.listen()
        self.table.set_static([Route("/", Upstream.parse(f"http://127.0.0.1:{upstream.getsockname()[1]}"), ())], 0)
        client = self.client(data_path)
        client.send(GET % b"/")
        return data_path, client

    def test_no_new_clients_are_taken(self) -> None:
        """The sockets are gone when that is said; who is there may go on."""
        data_path, client = self.begin()
        done = data_path.stop_listening()
        self.clock.advance(0)
        self.successResultOf(done)
        self.assertEqual(os.listdir(self.directory), [])
        self.assertTrue(client.connected)

    def test_without_clients_it_is_over_at_once(self) -> None:
        """Nobody waits for nothing."""
        self.successResultOf(self.make().drain(1000))

    def test_it_lasts_until_the_last_request_is_over(self) -> None:
        """Idle clients are not waited for."""
        data_path, client = self.begin()
        idle = self.client(data_path)
        done = data_path.drain(1000)
        self.clock.pump([0.1] * 30)
        self.assertNoResult(done)
        self.assertTrue(idle.disconnecting)
        self.assertFalse(client.disconnecting)
        for transport in (client, idle):
            transport.protocol.connectionLost()
        self.clock.advance(0.1)
        self.successResultOf(done)

    def test_it_lasts_no_longer_than_it_may(self) -> None:
        """What is left then is for `close` to cut."""
        data_path, _ = self.begin()
        done = data_path.drain(2)
        self.clock.advance(1.9)
        self.assertNoResult(done)
        self.clock.pump([0.1, 0.1])
        self.successResultOf(done)

    def test_load_balancers_have_time_to_notice(self) -> None:
        """Clients are served as before, but no connection is kept, and readiness says why."""
        data_path, _ = self.begin()
        idle = self.client(data_path)
        done = data_path.announce_end(5)
        self.assertEqual([self.status(data_path, path) for path in (b"/readyz", b"/healthz")], [503, 200])
        self.clock.pump([0.1] * 49)
        self.assertFalse(idle.disconnecting)
        idle.send(GET % b"/healthz")
        self.assertIn(b"\r\nConnection: close\r\n", idle.pop())
        self.assertNoResult(done)
        self.clock.pump([0.1, 0.1])
        self.successResultOf(done)
        self.successResultOf(data_path.announce_end(0))

    def test_that_time_can_be_cut_short(self) -> None:
        """By the second signal, which leaves no time for anything else either."""
        data_path, _ = self.begin()
        done = data_path.announce_end(1000)
        data_path.hurry()
        self.clock.advance(0.1)
        self.successResultOf(done)
        self.successResultOf(data_path.drain(1000))

    def open_tunnel(self, data_path: DataPath) -> tuple[MemoryTransport, MemoryTransport]:
        """A tunnel, both ends."""
        ends = MemoryTransport(self.clock), MemoryTransport(self.clock)
        for end in ends:
            end.connect(Protocol())
        site = data_path.sites[0]
        tunnel = Tunnel(data_path.deadlines, lambda: None, site.tunnel_ended)
        site.tunnel_began(tunnel)
        tunnel.join(*ends, b"")
        return ends

    def test_tunnels_last_as_long_as_exchanges(self) -> None:
        """And are then told to end; who has taken what was on its way is not waited for."""
        data_path, client = self.begin()
        ends = self.open_tunnel(data_path)
        done = data_path.drain(1000)
        self.clock.pump([0.1] * 30)
        self.assertFalse(ends[0].write_closed)
        client.protocol.connectionLost()
        self.clock.advance(0.1)
        self.assertTrue(ends[0].write_closed and ends[1].write_closed)
        self.assertNoResult(done)
        for end in ends:
            end.close()
        self.clock.pump([0, 0.1])
        self.successResultOf(done)

    def test_tunnels_cannot_hold_the_end_up(self) -> None:
        """They have two seconds, whether exchanges were over or `drain_seconds` were."""
        data_path, _ = self.begin()
        ends = self.open_tunnel(data_path)
        done = data_path.drain(2)
        self.clock.pump([0.1] * 21)
        self.assertTrue(ends[0].write_closed)
        self.clock.pump([0.1] * 18)
        self.assertNoResult(done)
        self.clock.pump([0.1] * 4)
        self.successResultOf(done)

    def test_it_can_be_hurried(self) -> None:
        """By somebody who does not want to wait."""
        data_path, _ = self.begin()
        done = data_path.drain(1000)
        self.clock.advance(1)
        self.assertNoResult(done)
        data_path.hurry()
        self.clock.advance(0.1)
        self.successResultOf(done)
