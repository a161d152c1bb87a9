"""What is measured: each axis starts its programs, lets them take turns, and gives rows of figures.

`AXES` names them all. How much of everything is done is the `Plan`.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import attrs
from hub_routes import hub_routes, look_up_seconds
from load import Sample, at_rate, close_all, download, echo, open_keep_alive, open_websocket, upload, wrk
from peers import Bench, Server
from results import Figure, Row


@attrs.frozen
class Plan:
    """How much is done: rounds after one that does not count (0: it does), seconds of each measurement, and sizes."""

    rounds: int = 5
    seconds: float = 2.0
    connections: tuple[int, ...] = (32, 256)
    bulk_bytes: int = 100_000_000
    message_bytes: tuple[int, ...] = (16, 1024, 65536, 1 << 20)
    idle: int = 5000
    routes: int = 100_000
    peer_routes: int = 20_000
    rate: int = 500
    starts: int = 5


QUICK = Plan(
    rounds=1,
    seconds=1.0,
    connections=(8,),
    bulk_bytes=10_000_000,
    message_bytes=(16, 65536),
    idle=100,
    routes=1000,
    peer_routes=200,
    rate=200,
    starts=1,
)


def _present(*servers: Server | None) -> list[Server]:
    return [server for server in servers if server is not None]


def _versions(servers: list[Server]) -> dict[str, str]:
    return {server.name: server.version for server in servers}


def take_turns(
    key: str, title: str, unit: str, servers: list[Server], plan: Plan, measure: Callable[[Server], Sample]
) -> Row:
    """A row: each server in turn, round by round, so that a busy minute of the machine hits all of them."""
    samples: dict[str, list[Sample]] = {server.name: [] for server in servers}
    for number in range(plan.rounds + 1):
        for server in servers:
            sample = measure(server)
            print(f"{key}, round {number}, {server.name}: {sample.cost:.1f}", file=sys.stderr)
            if number or not plan.rounds:  # the first one warms up
                samples[server.name].append(sample)
    figures = {}
    for server in servers:
        own = samples[server.name]
        figures[server.name] = Figure(
            value=median(sample.cost for sample in own),
            per_second=_median_of(own, "per_second"),
            p50_ms=_median_of(own, "p50_ms"),
            p99_ms=_median_of(own, "p99_ms"),
            rss_mib=server.resident_bytes() / (1 << 20),
        )
    return Row(key, title, unit, figures, _ratios(samples), _versions(servers))


def _median_of(samples: list[Sample], name: str) -> float | None:
    values = [getattr(sample, name) for sample in samples]
    return median(values) if all(value is not None for value in values) else None


def _ratios(samples: dict[str, list[Sample]]) -> dict[str, float]:
    """The median of the ratios within the rounds: of the first server to each other one."""
    own, *others = samples
    return {
        other: median(a.cost / b.cost for a, b in zip(samples[own], samples[other], strict=True) if b.cost)
        for other in others
    }


def small(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Small GETs, with 13 lines of head of which some differ from request to request."""
    upstream = bench.start_small_upstream()
    proxyd = bench.start_proxyd(upstream)
    peers = (bench.start_base(upstream), bench.start_chp(upstream), bench.start_nginx(upstream))
    servers = _present(proxyd, *peers, bench.start_haproxy(upstream))
    jupyter = bench.start_jupyter(upstream)
    for connections in plan.connections:
        measure = partial(_wrk, bench, connections=connections, seconds=plan.seconds)
        # It takes fifty times as long for each, and is no faster with more connections.
        with_jupyter = _present(*servers, jupyter if connections == plan.connections[0] else None)
        title = f"small GET, {connections} connections"
        yield take_turns(f"small-{connections}", title, "µs", with_jupyter, plan, measure)


def workers(bench: Bench, plan: Plan) -> Iterator[Row]:
    """The same, with two workers and their controller, all of them on the one core of the proxies."""
    upstream = bench.start_small_upstream()
    servers = [bench.start_proxyd(upstream, name="two workers", workers=2), bench.start_proxyd(upstream)]
    connections = plan.connections[0]
    measure = partial(_wrk, bench, connections=connections, seconds=plan.seconds)
    yield take_turns("workers", f"small GET, {connections} connections, two workers", "µs", servers, plan, measure)


def _wrk(bench: Bench, server: Server, **how: object) -> Sample:
    return wrk(bench, server, **how)  # type: ignore[arg-type]


def medium(bench: Bench, plan: Plan) -> Iterator[Row]:
    """GETs of 10 KB and 1 MB."""
    upstream = bench.start_small_upstream()
    proxyd = bench.start_proxyd(upstream)
    peers = (bench.start_base(upstream), bench.start_chp(upstream), bench.start_nginx(upstream))
    more = (bench.start_nginx(upstream, large_buffers=True), bench.start_haproxy(upstream))
    servers = _present(proxyd, *peers, *more)
    for size, words in ((10_000, "10 KB"), (1_000_000, "1 MB")):
        measure = partial(_wrk, bench, connections=plan.connections[0], seconds=plan.seconds, path=f"/files/{size}")
        yield take_turns(f"get-{size}", f"GET of {words}", "µs", servers, plan, measure)


def _transfer(move: Callable[[Server, int], None], size: int, server: Server) -> Sample:
    before = server.cpu_seconds()
    began = time.monotonic()
    move(server, size)
    took = time.monotonic() - began
    return Sample((server.cpu_seconds() - before) * 1e3 / (size / 1e9), size / 1e6 / took)


def bulk(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Large bodies: CPU milliseconds for each 10^9 bytes, MB per second, and how far the memory grows."""
    upstream = bench.start_bulk_upstream()
    proxyd = bench.start_proxyd(upstream)
    peers = (bench.start_base(upstream), bench.start_chp(upstream), bench.start_nginx(upstream))
    more = (bench.start_nginx(upstream, large_buffers=True), bench.start_haproxy(upstream))
    servers = _present(proxyd, *peers, *more)
    growth: dict[str, dict[str, float]] = {"down": {}, "up": {}}
    for server in servers:  # fresh processes: the first bodies of all
        for key, move in (("down", download), ("up", upload)):
            server.forget_peak()
            before = server.resident_bytes()
            move(server, plan.bulk_bytes)
            growth[key][server.name] = (server.resident_bytes(peak=True) - before) / (1 << 20)
    words = f"{plan.bulk_bytes // 1_000_000} MB"
    for key, move in (("down", download), ("up", upload)):
        yield take_turns(
            f"bulk-{key}", f"{words} {key}", "ms/GB", servers, plan, partial(_transfer, move, plan.bulk_bytes)
        )
        figures = {name: Figure(value) for name, value in growth[key].items()}
        yield Row(f"memory-{key}", f"growth of memory, {words} {key}", "MiB", figures, {}, _versions(servers))


def websocket(bench: Bench, plan: Plan) -> Iterator[Row]:
    """WebSocket messages that come back, through a tunnel."""
    upstream = bench.start_echo()
    proxyd = bench.start_proxyd(upstream)
    peers = (bench.start_base(upstream), bench.start_chp(upstream), bench.start_nginx(upstream))
    servers = _present(proxyd, *peers, bench.start_haproxy(upstream))
    for size in plan.message_bytes:
        title = f"WebSocket echo of {_bytes(size)}"
        yield take_turns(f"websocket-{size}", title, "µs", servers, plan, partial(_echo, size, plan.seconds))


def relay(bench: Bench, plan: Plan) -> Iterator[Row]:
    """WebSocket messages that come back, through a relay, beside a server and client pair of Autobahn."""
    upstream = bench.start_echo()
    proxyd = bench.start_proxyd(upstream, websocket="relay")
    base = bench.start_base(upstream, websocket="relay")
    servers = _present(proxyd, base, bench.start_autobahn("relay", upstream))
    for size in plan.message_bytes:
        title = f"WebSocket relay, echo of {_bytes(size)}"
        yield take_turns(f"relay-{size}", title, "µs", servers, plan, partial(_echo, size, plan.seconds))


def _echo(size: int, seconds: float, server: Server) -> Sample:
    return echo(server, size, 8, seconds)


def _bytes(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"


def tls(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Clients that speak TLS: small GETs, handshakes, a large body."""
    small_upstream, bulk_upstream = bench.start_small_upstream(), bench.start_bulk_upstream()

    def start(upstream: Server) -> list[Server]:
        peers = (bench.start_base(upstream, tls=True), bench.start_chp(upstream, tls=True))
        more = (bench.start_nginx(upstream, tls=True), bench.start_haproxy(upstream, tls=True))
        return _present(bench.start_proxyd(upstream, tls=True), *peers, *more)

    servers = start(small_upstream)
    connections = plan.connections[0]
    measure = partial(_wrk, bench, connections=connections, seconds=plan.seconds)
    yield take_turns("tls-small", f"TLS, small GET, {connections} connections", "µs", servers, plan, measure)
    handshake = partial(_wrk, bench, connections=connections, seconds=plan.seconds, closing=True)
    yield take_turns("tls-handshake", "TLS, handshake and GET", "µs", servers, plan, handshake)
    servers = start(bulk_upstream)
    words = f"TLS, {plan.bulk_bytes // 1_000_000} MB down"
    yield take_turns("tls-bulk", words, "ms/GB", servers, plan, partial(_transfer, download, plan.bulk_bytes))


def idle(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Connections that nothing happens on: resident memory of each, in user space."""
    upstreams = {"websocket": bench.start_echo(), "keep-alive": bench.start_small_upstream()}
    for key, opened in (("websocket", open_websocket), ("keep-alive", open_keep_alive)):
        upstream = upstreams[key]
        peers = (bench.start_base(upstream), bench.start_chp(upstream), bench.start_nginx(upstream))
        servers = _present(bench.start_proxyd(upstream), *peers, bench.start_haproxy(upstream))
        figures = {}
        for server in servers:
            close_all([opened(server) for _ in range(20)])  # what comes with the first ones only
            time.sleep(0.5)
            before = server.resident_bytes()
            socks = []
            try:
                socks += [opened(server) for _ in range(plan.idle)]
                time.sleep(1.0)
                figures[server.name] = Figure((server.resident_bytes() - before) / plan.idle / 1024)
            finally:
                close_all(socks)
            print(f"idle {key}, {server.name}: {figures[server.name].value:.2f} KiB", file=sys.stderr)
        title = f"idle {'WebSocket' if key == 'websocket' else 'keep-alive'}, at {plan.idle}"
        yield Row(f"idle-{key}", title, "KiB", figures, _plain_ratios(figures), _versions(servers))


def _plain_ratios(figures: dict[str, Figure]) -> dict[str, float]:
    own, *others = figures
    return {other: figures[own].value / figures[other].value for other in others if figures[other].value > 0}


def rate(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Requests at a fixed rate: how long each takes, counted from when it was due."""
    upstream = bench.start_small_upstream()
    proxyd = bench.start_proxyd(upstream)
    peers = (bench.start_base(upstream), bench.start_chp(upstream), bench.start_nginx(upstream))
    servers = _present(proxyd, *peers, bench.start_haproxy(upstream))

    def measure(server: Server) -> Sample:
        return at_rate(server, rate=plan.rate, connections=32, seconds=plan.seconds)

    yield take_turns("rate", f"GET, {plan.rate} a second", "µs", servers, plan, measure)


# Routes.


class Api:
    """One connection to the API of a proxy."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.api_port, timeout=300)

    def ask(self, method: str, path: str, body: object = None, awaited: int = 200) -> bytes:
        """Call it; ends the program when it says anything else than was awaited."""
        self._connection.request(method, f"/api/routes{path}", None if body is None else json.dumps(body))
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != awaited:
            raise SystemExit(f"{method} {path}: {answer.status} {said[:200]!r}")
        return said


def routes(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Many routes: what a request costs among 10 and among all of them, what each weighs, how long a list takes."""
    few, many = look_up_seconds(10), look_up_seconds(plan.routes)
    figures = {"proxyd": Figure(many * 1e6), "10 routes": Figure(few * 1e6)}
    yield Row("look-up", f"look-up among {plan.routes} routes", "µs", figures, {"10 routes": many / few}, {})

    upstream = bench.start_small_upstream()
    crowded = bench.start_proxyd(upstream, has_route=False)
    sparse = bench.start_proxyd(upstream, name="10 routes", has_route=False)
    Api(sparse).ask("PUT", "", _hub_routes_to(upstream, 10))
    before = crowded.resident_bytes()
    Api(crowded).ask("PUT", "", _hub_routes_to(upstream, plan.routes))
    time.sleep(3.0)  # what is let go of behind the answer
    weights = {"proxyd": Figure((crowded.resident_bytes() - before) / plan.routes)}
    cpu = crowded.cpu_seconds()
    Api(crowded).ask("GET", "")
    lists = {"proxyd": Figure(crowded.cpu_seconds() - cpu)}
    chp = bench.start_chp(upstream)
    if chp is not None:
        api = Api(chp)
        before = chp.resident_bytes()
        for key, route in hub_routes(plan.peer_routes, upstream.port).items():
            api.ask("POST", key, route, 201)
        weights["CHP"] = Figure((chp.resident_bytes() - before) / plan.peer_routes)
    versions = _versions(_present(crowded, chp))
    yield Row(
        "route-memory", f"memory of one of {plan.routes} routes", "bytes", weights, _plain_ratios(weights), versions
    )
    yield Row("route-list", f"list of {plan.routes} routes, CPU", "s", lists, {}, versions)

    def measure(server: Server) -> Sample:
        # Both ask for the same ten, so that what is built at the first hit is there.
        path = "/user/u%d@example.org/lab"
        return wrk(bench, server, connections=plan.connections[0], seconds=plan.seconds, path=path, numbers=10)

    title = f"small GET among {plan.routes} routes"
    yield take_turns("routes-request", title, "µs", [crowded, sparse], plan, measure)


def _hub_routes_to(upstream: Server, count: int) -> dict[str, dict[str, Any]]:
    """Routes of a JupyterHub to servers of which only the first ten are there."""
    made = hub_routes(count, upstream.port)
    for route, _ in zip(made.values(), range(10), strict=False):
        route["target"] = f"http://127.0.0.1:{upstream.port}"
    return made


def changes(bench: Bench, plan: Plan) -> Iterator[Row]:
    """Route changes, one after the other, while small GETs are served."""
    upstream = bench.start_small_upstream()
    servers = _present(bench.start_proxyd(upstream), bench.start_base(upstream), bench.start_chp(upstream))
    route = {"target": f"http://127.0.0.1:{upstream.port}"}

    def measure(server: Server) -> Sample:
        api = Api(server)
        is_over = threading.Event()
        count = 0

        def change() -> None:
            nonlocal count
            while not is_over.is_set():
                key = f"/user/u{count % 1000}"
                api.ask("POST", key, route, 201)
                api.ask("DELETE", key, None, 204)
                count += 2

        thread = threading.Thread(target=change)
        began = time.monotonic()
        thread.start()
        try:
            under_load = wrk(bench, server, connections=8, seconds=plan.seconds)
        finally:
            is_over.set()
            thread.join()
        took = time.monotonic() - began
        return Sample(took / max(1, count) * 1e6, count / took, under_load.p50_ms, under_load.p99_ms)

    yield take_turns("changes", "a route change under load", "µs, wall", servers, plan, measure)


# Starting.


def start(bench: Bench, plan: Plan) -> Iterator[Row]:
    """How long it takes from exec until a proxy listens, and its memory then."""
    upstream = bench.start_small_upstream()
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    versions: dict[str, str] = {}
    for _ in range(plan.starts):
        candidates = (bench.start_proxyd, bench.start_base, bench.start_chp, bench.start_nginx, bench.start_haproxy)
        for candidate in candidates:
            server = candidate(upstream)
            if server is None:
                continue
            cpu.setdefault(server.name, []).append(server.cpu_seconds())
            time.sleep(0.5)
            seconds.setdefault(server.name, []).append(server.start_seconds)
            memory.setdefault(server.name, []).append(server.resident_bytes() / (1 << 20))
            versions[server.name] = server.version
            bench.end(server)
    for key, title, unit, found in (
        ("start", "from exec to listening, CPU", "s", cpu),
        ("start-wall", "from exec to listening", "s", seconds),
        ("base-memory", "memory after the start", "MiB", memory),
    ):
        figures = {name: Figure(median(values)) for name, values in found.items()}
        yield Row(key, title, unit, figures, _plain_ratios(figures), versions)


AXES: dict[str, Callable[[Bench, Plan], Iterator[Row]]] = {
    function.__name__: function
    for function in (small, workers, medium, bulk, websocket, relay, tls, idle, rate, routes, changes, start)
}
