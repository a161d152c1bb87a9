"""Tests of reloads: `proxyd.reload`, and what `proxyd.service` does with another configuration."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import load
from proxyd.core.reload import Report
from proxyd.errors import ConfigError, Problem, TlsError
from proxyd.http.resources import ForwardResource
from proxyd.metrics.meters import Meters
from proxyd.reload import Reloads, Take
from proxyd.service import ProxyService
from proxyd.testing.transports import MemoryTransport
from tests.certificates import Authority
from tests.support import free_port
from tests.test_service import ServiceCase

PATIENCE_SECONDS = 30.0


class ThreadedClock(MemoryReactorClock):
    """What threads have for the reactor is done when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: SimpleQueue[Any] = SimpleQueue()

    def callFromThread(self, function: Any, *args: Any) -> None:
        """Keep a call."""
        self.from_threads.put((function, args))

    def take_call(self) -> None:
        """Wait for a call, and make it."""
        function, args = self.from_threads.get(timeout=PATIENCE_SECONDS)
        function(*args)


class ReloadsTests(SynchronousTestCase):
    """One after the other."""

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.done: list[object] = []
        self.outcome: Report | BaseException = Report(("a",))
        self.reloads = Reloads(self.prepare, self.clock, lambda: self.done.append("began"), self.done.append)

    def prepare(self) -> Take:
        """Read nothing."""
        outcome = self.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return lambda: outcome

    def test_one_waits_for_the_other(self) -> None:
        """The second one begins when the first one is over."""
        self.reloads.begin()
        first, second = self.reloads.run(), self.reloads.run()
        self.assertEqual(self.done, ["began"])
        self.clock.take_call()
        self.assertEqual(self.successResultOf(first), Report(("a",)))
        self.assertNoResult(second)
        self.clock.take_call()
        self.assertEqual(self.done, ["began", Report(("a",))] * 2)
        self.successResultOf(second)

    def test_one_that_comes_too_early_waits(self) -> None:
        """Until there is something that can be reloaded."""
        early = self.reloads.run()
        self.assertEqual(self.done, [])
        self.reloads.begin()
        self.clock.take_call()
        self.assertTrue(self.successResultOf(early).is_good)

    def test_after_the_end_it_is_refused(self) -> None:
        """Nobody waits for ever, whenever it was asked for."""
        early = self.reloads.run()
        self.reloads.end()
        late = self.reloads.run()
        for asked in (early, late):
            self.assertEqual(self.successResultOf(asked).problems, (Problem("proxyd is ending"),))
        self.assertEqual(self.done, [])

    def test_the_end_in_between(self) -> None:
        """What was read is not used any more."""
        self.reloads.begin()
        running = self.reloads.run()
        self.reloads.end()
        self.clock.take_call()
        self.assertEqual(self.successResultOf(running).problems, (Problem("proxyd is ending"),))

    def test_problems(self) -> None:
        """Each kind has its words; what nobody expected is in the log, and the next reload is served."""
        self.reloads.begin()
        bad = Problem("wrong", "a", "f", 1, 2)
        cases = [
            (ConfigError([bad]), "f:1:2: a: wrong"),
            (TlsError("x.key", "no such file"), "x.key: TLS: no such file"),
            (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
            (RuntimeError("x"), "unexpected error, see the log"),
            (SystemExit(3), "unexpected error, see the log"),
        ]
        for error, words in cases:
            self.outcome = error
            with capturedLogs() as events:
                asked = self.reloads.run()
                self.clock.take_call()
            report = self.successResultOf(asked)
            self.assertEqual([str(problem) for problem in report.problems], [words])
            self.assertEqual(self.done.pop(), report)
            lines = [formatEvent(event) for event in events]
            self.assertEqual(lines[-2:], [words, "the configuration stays as it was"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_who_does_not_wait_any_more(self) -> None:
        """The reload goes on, and so do those behind it."""
        self.reloads.begin()
        first, second = self.reloads.run(), self.reloads.run()
        first.addErrback(lambda failure: failure.trap(CancelledError))
        first.cancel()
        for _ in range(2):
            self.clock.take_call()
        self.assertTrue(self.successResultOf(second).is_good)
        self.assertEqual(self.done.count("began"), 2)

    def test_garbage_is_collected_again(self) -> None:
        """Only the reading goes without."""
        self.reloads.begin()
        for outcome in (Report(), RuntimeError("x")):
            self.outcome = outcome
            self.reloads.run()
            self.clock.take_call()
            self.assertTrue(gc.isenabled())
        self.flushLoggedErrors(RuntimeError)


class ReloadCase(ServiceCase):
    """Services with a file that changes."""

    def setUp(self) -> None:
        super().setUp()
        self.clock: ThreadedClock = ThreadedClock()
        self.file = self.directory / "proxyd.yaml"

    def serve(self, settings: str, **options: Any) -> ProxyService:
        """A service whose configuration is in a file; it is open."""
        self.write(settings)
        config = load(self.file, KINDS, self.environ)
        service = ProxyService(config, KINDS, self.clock, environ=self.environ, file=self.file, **options)
        self.addCleanup(service.close)
        service.open()
        return service

    def write(self, settings: str) -> None:
        """Put something else into the file; there is one listener, a unix socket, and no API unless they say so."""
        if "listeners:" not in settings:
            settings += "\nlisteners: [{kind: http, socket: http.sock}]\n"
        if "api:" not in settings:
            settings += "\napi: {socket: api.sock, open: true}\n"
        self.file.write_text(settings)

    def reload(self, service: ProxyService, settings: str | None = None) -> Report:
        """Reload, with another configuration if there is one."""
        if settings is not None:
            self.write(settings)
        asked: Deferred[Report] = service.reload()
        self.clock.take_call()
        return self.successResultOf(asked)

    def applied(self, service: ProxyService, settings: str) -> tuple[str, ...]:
        """What is applied of another configuration; there is nothing else to tell."""
        report = self.reload(service, settings)
        self.assertEqual((report.needs_restart, report.problems), ((), ()))
        return report.applied

    def resource(self, service: ProxyService, key: str) -> ForwardResource:
        """The resource of a route, as the next request meets it."""
        assert service.data_path is not None
        entry = service.table.get(key)
        assert entry is not None
        resource = service.data_path.tree._build(entry) if entry.resource is None else entry.resource
        assert isinstance(resource, ForwardResource)
        return resource


class ApplicationTests(ReloadCase):
    """Everything that can be applied is, at once."""

    def test_nothing_has_changed(self) -> None:
        """It is said, and counted."""
        service = self.serve("")
        with capturedLogs() as events:
            self.assertEqual(self.reload(service), Report())
        self.assertIn("the configuration says the same as before", [formatEvent(event) for event in events])
        assert service.monitoring is not None
        assert isinstance(service.monitoring.meters, Meters)
        self.assertEqual(service.monitoring.meters.reloads, {"applied": 1, "refused": 0})

    def test_routes(self) -> None:
        """They come, change and go; those of the API stay on top, and one that stays keeps its activity."""
        service = self.serve("routes: {/gone: http://a.test, /same: http://a.test, /over: http://a.test}")
        self.assertEqual(self.ask(service, 1, "POST /api/routes/over", {"target": "http://api.test"})[0], 201)
        same = service.table.get("/same")
        applied = self.applied(service, "routes: {/new: http://b.test, /same: http://a.test, /over: http://b.test}")
        self.assertEqual(applied, ("routes./gone", "routes./over", "routes./new"))
        self.assertEqual(self.keys(service), ["/new", "/over", "/same"])
        over = service.table.get("/over")
        assert over is not None
        self.assertEqual(over.route.upstream.url, "http://api.test")
        self.assertIs(service.table.get("/same"), same)

    def test_options_that_routes_inherit(self) -> None:
        """The resources are made again, those of the API's routes, too."""
        service = self.serve("routes: {/a: http://a.test}")
        self.ask(service, 1, "POST /api/routes/b", {"target": "http://b.test"})
        before = [self.resource(service, key) for key in ("/a", "/b")]
        for key, resource in zip(("/a", "/b"), before, strict=True):
            entry = service.table.get(key)
            assert entry is not None
            entry.resource = resource
        self.applied(service, "routes: {/a: http://a.test}\ntimeouts: {connect: 7s}\nroute_defaults: {websocket: off}")
        for key, resource in zip(("/a", "/b"), before, strict=True):
            after = self.resource(service, key)
            self.assertIsNot(after, resource)
            self.assertIs(after.pool, resource.pool)
            self.assertEqual((after.connect_seconds, after._takes_websockets), (7, False))

    def test_sites(self) -> None:
        """Limits, timeouts, trusted proxies, health checks and pages."""
        (self.directory / "pages").mkdir()
        (self.directory / "pages/404.html").write_text("mine")
        service = self.serve("")
        self.assertEqual(
            self.applied(
                service,
                "limits: {header_count: 3}\ntimeouts: {header: 7s}\ntrusted_proxies: [192.0.2.0/24]\n"
                "health: {live: /l}\nerrors: {directory: pages}\n",
            ),
            ("trusted_proxies", "errors.directory", "health.live", "timeouts.header", "limits.header_count"),
        )
        assert service.data_path is not None
        for site in service.data_path.sites:
            self.assertEqual((site.settings.limits.header_count, site.settings.timeouts.header), (3, 7))
            self.assertTrue(site.peer_at("192.0.2.1", secure=False).trusted)
        self.assertEqual(self.ask(service, 0, "GET /l")[0], 200)
        self.assertEqual(self.ask(service, 0, "GET /x"), (404, b"mine"))
        self.assertEqual(self.ask(service, 0, "GET /x", fields="A: b\r\nC: d\r\n")[0], 431)

    def test_the_pool(self) -> None:
        """Its numbers hold for the pools that are there."""
        service = self.serve("routes: {/a: http://a.test}")
        pool = self.resource(service, "/a").pool
        self.applied(service, "routes: {/a: http://a.test}\npool: {idle_seconds: 7, connections_per_upstream: 2}")
        self.assertEqual((pool._idle_seconds, pool._limit), (7, 2))

    def test_the_log(self) -> None:
        """Level and form of the lines, and of the access log."""
        service = self.serve("")
        observer = service.observer()
        self.assertIs(observer, service.observer())
        applied = self.applied(service, "log: {level: error, format: json, access: json, access_file: access}")
        self.assertEqual(applied, ("log.format", "log.level", "log.access", "log.access_file"))
        self.assertEqual(observer._least, 3)
        self.ask(service, 0, "GET /x")
        self.clock.advance(1)
        service.close()
        self.assertTrue((self.directory / "access").read_text().startswith('{"time"'))

    def test_a_log_that_was_moved_is_opened_again(self) -> None:
        """As those who rotate logs want it; what came before is in the old one."""
        service = self.serve("log: {access_file: access}")
        self.ask(service, 0, "GET /one")
        (self.directory / "access").rename(self.directory / "old")
        self.reload(service)
        self.ask(service, 0, "GET /two")
        self.clock.advance(1)
        service.close()
        for name, path in (("old", "/one"), ("access", "/two")):
            (line,) = (self.directory / name).read_text().splitlines()
            self.assertIn(path, line)

    def test_the_token_of_the_api(self) -> None:
        """The new one is asked for at once; so are other limits."""
        service = self.serve("api: {socket: api.sock, token: one}")
        applied = self.applied(
            service,
            "api: {socket: api.sock, token: two}\nlimits: {api_body: 60, route_path: 9}\n",
        )
        self.assertEqual(applied, ("api.token", "limits.api_body", "limits.route_path"))
        posted = {"target": "http://x"}
        for token, path, body, status in (
            ("one", "a", posted, 403),
            ("two", "a", posted, 201),
            ("two", "a" * 10, posted, 414),
            ("two", "a", {"target": "http://x/" + "x" * 60}, 413),
        ):
            fields = f"Authorization: token {token}\r\n"
            self.assertEqual(self.ask(service, 1, f"POST /api/routes/{path}", body, fields)[0], status, path)

    def test_the_pid_file(self) -> None:
        """It moves."""
        service = self.serve("pid_file: one")
        self.assertEqual(self.applied(service, "pid_file: two"), ("pid_file",))
        self.assertEqual((self.directory / "two").read_text(), str(os.getpid()))
        self.assertFalse((self.directory / "one").exists())
        service.close()
        self.assertFalse((self.directory / "two").exists())

    def test_the_drain(self) -> None:
        """The next end takes as long as the file says now."""
        service = self.serve("")
        self.applied(service, "drain_seconds: 7")
        self.assertEqual(service.config.drain_seconds, 7)

    def test_the_watch_for_stalls(self) -> None:
        """It goes by another time, and writes in another form; what it has counted stays."""
        service = self.serve("")
        assert service._stalls is not None
        assert service._stall_observer is not None
        service._stalls.count = 3
        self.applied(service, "log: {stall_after: 7s, format: json}")
        self.assertEqual((service._stalls._seconds, service._stalls.count), (7, 3))
        self.assertIs(service._stall_observer._format, service.observer()._format)
        first = service._stalls._thread
        self.assertTrue(first is not None and first.is_alive())
        self.applied(service, "log: {stall_after: 0s}")
        self.assertIsNone(service._stalls._thread)
        self.applied(service, "log: {stall_after: 5s}")
        second = service._stalls._thread
        self.assertTrue(second is not None and second.is_alive())
        self.assertIsNot(first, second)

    def test_reports_of_activity(self) -> None:
        """They begin, change and end; without a change of theirs, they keep their pace."""
        settings = "activity: {url: http://127.0.0.1:1/a, token: secret, interval: %s, ignore: [%s]}"
        service = self.serve("")
        self.assertIsNone(service.reports)
        self.applied(service, settings % ("60s", "/quiet"))
        reports = service.reports
        assert reports is not None
        self.assertEqual(reports._interval, 60)
        self.assertIsNone(service.activity.touch_of(b"/quiet"))
        self.applied(service, settings % ("60s", "/quiet") + "\ndrain_seconds: 7")
        self.assertIs(service.reports, reports)
        self.applied(service, settings % ("90s", "/other") + "\ndrain_seconds: 7")
        self.assertEqual((reports._call is not None and reports._call.active(), reports._interval), (False, 0))
        assert service.reports is not None
        self.assertEqual(service.reports._interval, 90)
        self.assertIsNotNone(service.activity.touch_of(b"/quiet"))
        report = self.reload(service, "activity: {url: http://127.0.0.1:1/a}\ndrain_seconds: 7")
        self.assertIn("activity.token: is needed", str(report.problems[0]))
        self.assertIsNotNone(service.reports)
        self.applied(service, "drain_seconds: 7")
        self.assertIsNone(service.reports)

    def test_the_mode_of_a_socket(self) -> None:
        """Is that of the file, or what the umask leaves; a socket that somebody has removed harms nobody."""
        path = self.directory / "http.sock"
        listener = "listeners: [{kind: http, socket: http.sock%s}]\n"
        service = self.serve(listener % "")
        made = path.stat().st_mode & 0o777
        self.applied(service, listener % ", mode: 0600, backlog: 7")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.applied(service, listener % "")
        self.assertEqual(path.stat().st_mode & 0o777, made)
        path.unlink()
        self.assertEqual(self.applied(service, listener % ", mode: 0600"), ("listeners[0].mode",))

    def test_redirects(self) -> None:
        """They lead to where the file says now."""
        service = self.serve("listeners: [{kind: redirect, port: 0, to_port: 1}]")
        self.applied(service, "listeners: [{kind: redirect, port: 0, to_port: 2}]")
        assert service.data_path is not None
        listener = service.data_path.listeners[0]
        self.assertEqual(listener.purpose, "Redirecting to HTTPS on port 2 from")
        self.assertEqual(self.ask(service, 0, "GET /x")[0], 301)

    def test_certificates(self) -> None:
        """Other ones, and the same ones with something else in them; of the API, too."""
        authority = Authority(self.directory)
        for name in ("one", "two", "three"):
            authority.issue(f"{name}.test", file=name)
        listener = "listeners: [{kind: https, socket: http.sock, certificates: [{certificate: %s.pem, key: %s.key}]}]\n"
        api = "api: {socket: api.sock, open: true, tls: {certificates: [{certificate: %s.pem, key: %s.key}]}}\n"
        service = self.serve(listener % ("one", "one") + api % ("one", "one"))

        def names() -> list[str]:
            assert service.data_path is not None
            return [name for name, _ in service.data_path.certificates()]

        applied = self.applied(service, listener % ("two", "two") + api % ("one", "one"))
        self.assertEqual((applied, names()), (("listeners[0].certificates",), ["two.test", "one.test"]))
        authority.issue("renewed.test", file="two")
        applied = self.applied(service, listener % ("two", "two") + api % ("three", "three"))
        self.assertEqual((applied, names()), (("api.tls.certificates",), ["renewed.test", "three.test"]))

    def test_where_the_numbers_are_shown(self) -> None:
        """By the API, on a listener of their own, at another place, and by nobody; what was counted stays."""
        service = self.serve("")
        data_path = service.data_path
        assert data_path is not None
        self.ask(service, 0, "GET /x")
        counted = b'proxyd_requests_total{kind="none",status_class="4xx"} 1.0'
        self.assertIn(counted, self.ask(service, 1, "GET /metrics")[1])
        for name in ("one.sock", "two.sock"):
            self.assertEqual(self.applied(service, f"metrics: {{socket: {name}}}"), ("metrics.socket",))
            self.assertEqual([listener.purpose for listener in data_path.listeners][2:], ["Serve metrics at"])
            self.assertEqual([path.name for path in self.directory.glob("*o*.sock") if path.is_socket()], [name])
            self.assertEqual(self.ask(service, 1, "GET /metrics")[0], 404)
            self.assertIn(counted, self.ask(service, 2, "GET /metrics")[1])
        self.assertEqual(len(data_path.sites), 3)
        self.assertEqual(self.applied(service, "metrics: {enabled: false}"), ("metrics.enabled", "metrics.socket"))
        self.assertEqual([self.ask(service, site, "GET /metrics")[0] for site in (1, 2)], [404, 404])
        self.assertEqual(list(self.directory.glob("two.sock")), [])
        self.assertEqual(self.applied(service, ""), ("metrics.enabled",))
        self.ask(service, 0, "GET /x")
        self.assertIn(counted, self.ask(service, 1, "GET /metrics")[1])

    def test_the_names_of_the_numbers(self) -> None:
        """Those of configurable-http-proxy count from nothing, as after a restart; so do look-ups and connections."""
        service = self.serve("metrics: {socket: m.sock}")
        self.ask(service, 0, "GET /a")
        self.assertIn(b"proxyd_requests_total", self.ask(service, 1, "GET /metrics")[1])
        applied = self.applied(service, "metrics: {socket: m.sock, names: chp}")
        self.assertEqual(applied, ("metrics.names",))
        page = self.ask(service, 1, "GET /metrics")[1]
        self.assertIn(b"\nrequests_web 0", page)
        self.ask(service, 0, "GET /a")
        self.ask(service, 2, "GET /api/routes/a")
        page = self.ask(service, 1, "GET /metrics")[1]
        for line in (b"requests_web 1", b"find_target_for_req_count 1", b'requests_api{status="404"} 1'):
            self.assertIn(b"\n" + line, page)

    def test_numbers_that_find_no_place(self) -> None:
        """Nothing has changed; another place is taken at the next reload."""
        service = self.serve("")
        (self.directory / "taken").mkdir()
        report = self.reload(service, "metrics: {socket: taken}\ndrain_seconds: 7")
        self.assertEqual((report.applied, len(report.problems), report.problems[0].path), ((), 1, "metrics"))
        self.assertEqual(service.config.drain_seconds, 30)
        self.assertEqual(self.ask(service, 1, "GET /metrics")[0], 200)
        report = self.reload(service, "metrics: {socket: free.sock}\nlog: {access_file: none/access.log}")
        self.assertEqual(len(report.problems), 1)
        self.assertEqual(list(self.directory.glob("free.sock")), [])
        self.assertEqual(self.applied(service, "metrics: {socket: free.sock}"), ("metrics.socket",))

    def test_hosts_in_the_keys_of_the_api(self) -> None:
        """Routes that are there answer for the host in their key from then on, and keep their activity."""
        service = self.serve("routes: {a.test/static: http://s.test}")
        for key in ("a.test/x", "x", "x/a.test"):
            self.ask(service, 1, f"POST /api/routes/{key}", {"target": f"http://{key.replace('/', '-')}.test"})
        moments = {}
        for number, entry in enumerate(service.table, 1):
            moments[entry.route.key] = entry.last_activity = -float(number)

        def upstream_of(host: str, *segments: str) -> str:
            entry = service.table.look_up(host, segments)
            return "" if entry is None else entry.route.upstream.url

        routes = "routes: {a.test/static: http://s.test}\n"
        self.assertEqual(upstream_of("a.test", "x"), "http://x.test")
        self.assertEqual(self.applied(service, f"{routes}host_routing: true"), ("host_routing",))
        self.assertEqual(upstream_of("a.test", "x"), "http://a.test-x.test")
        self.assertEqual(upstream_of("x", "y"), "http://x.test")
        self.assertEqual(upstream_of("x", "a.test"), "http://x-a.test.test")
        self.assertEqual(upstream_of("b.test", "x"), "")
        self.assertEqual({entry.route.key: entry.last_activity for entry in service.table}, moments)
        self.ask(service, 1, "POST /api/routes/B.test/z", {"target": "http://z.test"})
        self.assertEqual(upstream_of("b.test", "z"), "http://z.test")
        self.ask(service, 1, "DELETE /api/routes/B.test/z")
        self.assertEqual(self.keys(service), ["/a.test/x", "/x", "/x/a.test", "a.test/static"])

    def begin(self, service: ProxyService, line: str, text: bytes = b"") -> MemoryTransport:
        """A client of the API that has sent all but the last byte of a body."""
        assert service.data_path is not None
        client = MemoryTransport(self.clock)
        client.connect(service.data_path.sites[1].buildProtocol(None))
        client.send(b"%b HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % (line.encode(), len(text)))
        client.send(text[:-1])
        return client

    def test_keys_of_writes_that_had_begun(self) -> None:
        """They mean what keys mean when the write is carried out: a route under a key that nobody has is never made."""
        text = b'{"target": "http://x.test"}'
        for options in ("typed", "verbatim"):
            api = f"api: {{socket: api.sock, open: true, route_options: {options}}}\n"
            service = self.serve(api)
            post = self.begin(service, "POST /api/routes/A.test/x", text)
            patch = self.begin(service, "PATCH /api/routes/A.test/x", b'{"strip_prefix": true}')
            self.applied(service, f"{api}host_routing: true")
            post.send(text[-1:])
            self.assertIn(b" 201 ", post.pop())
            self.assertEqual(self.keys(service), ["/a.test/x"])
            if options == "typed":
                patch.send(b"}")
                self.assertIn(b" 200 ", patch.pop())
            self.assertEqual(self.ask(service, 1, "DELETE /api/routes/A.test/x")[0], 204)
            service.close()

    def test_writes_wait_for_a_reload(self) -> None:
        """While it changes what keys mean; they are answered when they have been carried out."""
        for options in ("typed", "verbatim"):
            service = self.serve(f"api: {{socket: api.sock, open: true, route_options: {options}}}")
            self.ask(service, 1, "POST /api/routes/a", {"target": "http://a.test"})
            over: Deferred[None] = Deferred()

            async def reload(over: Deferred[None] = over) -> None:
                await over

            assert service.rest is not None
            reloading = Deferred.fromCoroutine(service.rest.alone(reload))
            clients = [self.begin(service, "DELETE /api/routes/a"), self.begin(service, "POST /api/routes/b", b"{}")]
            clients[1].send(b"}")
            self.assertEqual([client.pop() for client in clients], [b"", b""])
            self.assertEqual(self.ask(service, 1, "GET /api/routes/a")[0], 200)
            over.callback(None)
            self.successResultOf(reloading)
            self.assertEqual([client.pop().split(b" ")[1] for client in clients], [b"204", b"400"])
            self.assertEqual(self.ask(service, 1, "GET /api/routes/a")[0], 404)
            service.close()

    def test_the_options_of_posted_routes(self) -> None:
        """They have an effect, or none any more; the API becomes the one of configurable-http-proxy, and back."""
        service = self.serve("")
        self.ask(service, 1, "POST /api/routes/a", {"target": "http://a.test", "change_origin": True})

        def changes_origin() -> bool | None:
            entry = service.table.get("/a")
            return None if entry is None else entry.route.options.change_origin

        self.assertIs(changes_origin(), True)
        verbatim = "api: {socket: api.sock, open: true, route_options: verbatim}"
        for _ in range(2):
            self.assertEqual(self.applied(service, verbatim), ("api.route_options",))
            self.assertIs(changes_origin(), None)
            answer = json.loads(self.ask(service, 1, "GET /api/routes/a")[1])
            self.assertIs(answer["change_origin"], True)
            self.assertEqual(self.ask(service, 1, "GET /api/servers")[0], 404)
            self.assertEqual(self.ask(service, 1, "OPTIONS /api/routes")[0], 405)
            self.assertEqual(self.applied(service, ""), ("api.route_options",))
            self.assertIs(changes_origin(), True)
            self.assertEqual(self.ask(service, 1, "GET /api/servers")[0], 200)
            self.assertEqual(self.ask(service, 1, "OPTIONS /api/routes")[0], 204)

    def test_routes_that_cannot_stay(self) -> None:
        """A posted route whose options are none keeps the API as it is, until it is gone."""
        verbatim = "api: {socket: api.sock, open: true, route_options: verbatim}"
        service = self.serve(verbatim)
        self.ask(service, 1, "POST /api/routes/a", {"target": "http://a.test", "strip_prefix": "maybe"})
        report = self.reload(service, "drain_seconds: 7")
        words = "the route /a of the API cannot stay: strip_prefix: expected true or false, got 'maybe'"
        self.assertEqual([str(problem) for problem in report.problems], [words])
        self.assertEqual(service.config.drain_seconds, 30)
        self.ask(service, 1, "DELETE /api/routes/a")
        self.assertEqual(self.applied(service, "drain_seconds: 7"), ("api.route_options", "drain_seconds"))

    def test_a_route_that_comes_while_the_file_is_read(self) -> None:
        """It is read again as those before it; one that cannot stay is a problem then, too."""
        service = self.serve("")
        self.write("host_routing: true")
        asked = service.reload()
        call = self.clock.from_threads.get(timeout=PATIENCE_SECONDS)
        self.ask(service, 1, "POST /api/routes/a.test/x", {"target": "http://x.test"})
        call[0](*call[1])
        self.assertTrue(self.successResultOf(asked).is_good)
        entry = service.table.look_up("a.test", ("x",))
        assert entry is not None
        self.assertEqual(entry.route.key, "/a.test/x")
        self.applied(service, "host_routing: false")
        self.write("host_routing: true")
        asked = service.reload()
        call = self.clock.from_threads.get(timeout=PATIENCE_SECONDS)
        self.ask(service, 1, "POST /api/routes/B.test", {"target": "http://x.test"})
        call[0](*call[1])
        words = "the route /B.test of the API cannot stay: its key would be /b.test"
        self.assertEqual([str(problem) for problem in self.successResultOf(asked).problems], [words])
        self.assertIsNone(service.table.look_up("b.test", ()))

    def test_the_paths_of_servers_in_the_api(self) -> None:
        """They are below another `base_url` then."""
        servers = "servers: {app: {port: 9}}\n"
        service = self.serve(servers)
        self.applied(service, f"{servers}base_url: /b/")
        self.assertEqual(json.loads(self.ask(service, 1, "GET /api/servers")[1])["app"]["path"], "/b/app/")

    def test_without_a_file(self) -> None:
        """Of a command line, what it names is read again."""
        service = self.open("listeners: [{kind: http, socket: '{directory}/s'}]\napi: off\n")
        self.assertEqual(self.reload(service), Report())

    def test_the_directory_does_not_matter(self) -> None:
        """The file is found from elsewhere, and says the same there."""
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        self.file = Path("proxyd.yaml")
        service = self.serve("pid_file: pid")
        os.chdir("/")
        self.assertEqual(self.reload(service), Report())


class RestartTests(ReloadCase):
    """What cannot be applied."""

    def test_it_is_said_every_time(self) -> None:
        """As long as it is in the file; the rest is applied."""
        service = self.serve("")
        wanted = "listeners: [{kind: http, socket: other.sock}]\ndrain_seconds: 7\n"
        for applied in (("drain_seconds",), ()):
            with capturedLogs() as events:
                self.assertEqual(self.reload(service, wanted), Report(applied, ("listeners[0].socket",)))
            lines = [formatEvent(event) for event in events]
            self.assertIn("changed, but needs a restart: listeners[0].socket", lines)
        self.assertEqual(self.reload(service, "drain_seconds: 7"), Report())

    def test_the_api(self) -> None:
        """It stays where it is, or off."""
        service = self.serve("")
        self.assertEqual(self.reload(service, "api: off").needs_restart, ("api",))
        self.assertEqual(self.ask(service, 1, "GET /api/routes")[0], 200)

    def test_numbers_at_another_address_of_the_same_port(self) -> None:
        """Nobody can listen there while we do."""
        place = f"port: {free_port()}"
        service = self.serve(f"metrics: {{{place}}}")
        wanted = f"metrics: {{{place}, address: 127.0.0.2}}\ndrain_seconds: 7"
        self.assertEqual(self.reload(service, wanted), Report(("drain_seconds",), ("metrics.address",)))
        same = f"metrics: {{{place}, address: 127.0.0.1}}\ndrain_seconds: 7"
        self.assertEqual(self.applied(service, same), ("metrics.address",))
        self.assertEqual(self.ask(service, 1, "GET /metrics")[0], 200)


class RefusalTests(ReloadCase):
    """A file that cannot be used changes nothing."""

    def assert_refused(self, settings: str, *words: str, before: str = "") -> None:
        """It is refused with these problems, and everything is as it was."""
        service = self.serve(before + "\nroutes: {/a: http://a.test}")
        held = self.resource(service, "/a")
        entry = service.table.get("/a")
        assert entry is not None
        entry.resource = held
        config = service.config
        names = sorted(path.name for path in self.directory.iterdir())
        report = self.reload(service, settings + "\nroutes: {/b: http://b.test}\ndrain_seconds: 7\n")
        problems = [str(problem).replace(f"{self.directory}/", "") for problem in report.problems]
        self.assertEqual((report.applied, report.needs_restart, problems), ((), (), list(words)))
        self.assertIs(service.config, config)
        self.assertEqual((self.keys(service), entry.resource), (["/a"], held))
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), names)
        assert service.monitoring is not None
        assert isinstance(service.monitoring.meters, Meters)
        self.assertEqual(service.monitoring.meters.reloads, {"applied": 0, "refused": 1})
        service.close()

    def test_every_problem_is_told(self) -> None:
        """With its place."""
        self.assert_refused(
            "timeouts: {header: soon}\nlog: {level: '${LEVEL}'}",
            "proxyd.yaml:1:20: timeouts.header: expected a duration such as 5s, 100ms, 2m or 1h, got 'soon'",
            "proxyd.yaml:2:14: log.level: ${LEVEL} is not set",
        )

    def test_no_yaml(self) -> None:
        """One problem, with its place."""
        service = self.serve("")
        self.file.write_text("a: [")
        asked = service.reload()
        self.clock.take_call()
        self.assertEqual(len(self.successResultOf(asked).problems), 1)

    def test_no_file(self) -> None:
        """It was there at the start."""
        service = self.serve("")
        self.file.unlink()
        (problem,) = self.reload(service).problems
        self.assertEqual(problem, Problem("cannot be read: No such file or directory", file=str(self.file)))

    def test_tls_towards_upstreams(self) -> None:
        """A bundle that is not there, of a route that is new."""
        self.assert_refused(
            "route_defaults: {upstream_tls: {ca: none.pem}}", "none.pem: TLS: no such file or directory"
        )

    def test_certificates(self) -> None:
        """Of a listener that is there, of one that only a restart would open, and of the API."""
        authority = Authority(self.directory)
        authority.issue("localhost", file="good")
        one = "{kind: https, socket: tls.sock, certificates: [{certificate: %s.pem}]}"
        certificates = "certificates: [{certificate: good.pem, key: good.key}]"
        missing = "none.pem: TLS: no such file or directory"
        before = f"listeners: [{{kind: https, socket: tls.sock, {certificates}}}]"
        self.assert_refused(f"listeners: [{one % 'none'}]", missing, before=before)
        self.assert_refused(f"listeners: [{{kind: http, socket: http.sock}}, {one % 'none'}]", missing)
        api = "api: {socket: api.sock, open: true, tls: {%s}}"
        self.assert_refused(api % "certificates: [{certificate: none.pem}]", missing, before=api % certificates)

    def test_files_that_cannot_be_written(self) -> None:
        """The access log, the pid file, the token."""
        (self.directory / "file").write_text("")
        self.assert_refused("log: {access_file: file/x}", "file/x: Not a directory")
        self.assert_refused("log: {access_file: file}\npid_file: file/x", "file/x: Not a directory")
        self.assert_refused("pid_file: /dev/full", "/dev/full: No space left on device")
        self.assert_refused("api: {socket: api.sock}\nstate_directory: file/x", "file/x/token: Not a directory")

    def test_the_directory_of_pages(self) -> None:
        """It has to be one."""
        self.assert_refused("errors: {directory: none}", "none: errors.directory: there is no such directory")
