"""100,000 routes: what a look-up costs, what a route weighs, and what lists and replacements do to the traffic.

    .venv/bin/python bench/routes.py

Look-ups are timed in this process, everything else is asked of a `proxyd serve` of its own. A pause is the longest
time that a health check took which a client asks for again and again meanwhile; the machine's own share of it, while
nothing else happens, is in the first line. A configurable-http-proxy, if there is one (README.md), gets the routes one
by one, and so does another `proxyd serve`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hub_routes import hub_routes, look_up_seconds
from peers import accepts, find_chp, free_port

PAGE = os.sysconf("SC_PAGE_SIZE")


class Proxy:
    """A proxy on free ports; `command` makes it, and `health` is the path of its health check."""

    def __init__(self, command: Callable[[int, int], list[str]], health: str = "/healthz") -> None:
        self._health = health
        self.port, self.api_port = free_port(), free_port()
        began = time.monotonic()
        self.process = subprocess.Popen(command(self.port, self.api_port))
        while not accepts(self.api_port):
            time.sleep(0.05)
        self.ask("GET", "/api/routes")  # not before the store has been read
        self.start_seconds = time.monotonic() - began

    def end(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait()

    @property
    def resident(self) -> int:
        """Bytes of resident memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all threads so far."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(path.read_text().split()[0]) for path in threads) / 1e9

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Call the API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=300)
        connection.request(method, path, body)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, answer

    def post(self, wanted: dict[str, dict[str, Any]]) -> None:
        """Create routes one by one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=300)
        for key, posted in wanted.items():
            connection.request("POST", f"/api/routes{key}", json.dumps(posted))
            answer = connection.getresponse()
            answer.read()
            if answer.status != 201:
                sys.exit(f"POST: {answer.status}")
        connection.close()

    @contextmanager
    def pauses(self) -> Iterator[list[float]]:
        """Health checks, one after the other; afterwards the list has how long each took, in seconds."""
        seconds: list[float] = []
        is_over = threading.Event()

        def check() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            while not is_over.is_set():
                began = time.monotonic()
                connection.request("GET", self._health)
                connection.getresponse().read()
                seconds.append(time.monotonic() - began)
                time.sleep(0.001)

        thread = threading.Thread(target=check)
        thread.start()
        try:
            yield seconds
        finally:
            is_over.set()
            thread.join()


def proxyd(directory: Path, store: str) -> Callable[[int, int], list[str]]:
    """A `proxyd serve` whose routes are in a store of this kind."""

    def command(port: int, api_port: int) -> list[str]:
        config = directory / "proxyd.yaml"
        config.write_text(
            f"listeners: [{{kind: http, port: {port}}}]\napi: {{port: {api_port}, open: true}}\n"
            f"log: {{access: 'off', level: error}}\nstore: {{kind: {store}}}\nstate_directory: {directory}\n"
        )
        return [f"{sysconfig.get_path('scripts')}/proxyd", "serve", "--config", str(config)]

    return command


def chp(program: str, node: str) -> Callable[[int, int], list[str]]:
    """The configurable-http-proxy of npm."""
    return lambda port, api_port: [
        *(node, program, "--ip", "127.0.0.1", "--port", str(port), "--api-ip", "127.0.0.1"),
        *("--api-port", str(api_port), "--log-level", "error"),
    ]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, default=100_000)
    count = parser.parse_args().routes
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}, {count} routes\n")
    few, many = look_up_seconds(10), look_up_seconds(count)
    print(f"look-up among 10            {few * 1e6:8.2f} µs")
    print(f"look-up among {count:<13} {many * 1e6:8.2f} µs, {(many - few) * 1e6:+.2f} µs")
    with tempfile.TemporaryDirectory(prefix="proxyd-bench-") as name:
        directory = Path(name)
        for store in ("memory", "sqlite"):
            replace_all(store, proxyd(directory, store), count)
        print("\none POST for each route")
        show_posts("proxyd", Proxy(proxyd(directory, "memory")), count)
        program, node = find_chp(), shutil.which("node")
        if program is not None and node is not None:
            show_posts("CHP", Proxy(chp(program, node), "/_chp_healthz"), count)


def replace_all(store: str, command: Callable[[int, int], list[str]], count: int) -> None:
    """Replace all routes in some ways, and start again with them."""
    proxy = Proxy(command)
    print(f"\nstore: {store}; start      {proxy.start_seconds:8.2f} s")
    with proxy.pauses() as waits:
        time.sleep(3)
    print(f"no work at all              longest pause {max(waits) * 1e3:6.0f} ms")
    body = json.dumps(hub_routes(count)).encode()
    other = json.dumps(hub_routes(count, 9999)).encode()
    print(f"a body of                   {len(body) / 1e6:8.1f} MB")
    resident = proxy.resident
    for name, sent in (("all are new", body), ("none is new", body), ("all are other ones", other)):
        show(proxy, f"PUT, {name}", "PUT", sent)
        if name == "all are new":
            show_memory(proxy, resident, count)
    show(proxy, "GET of all", "GET", None)
    if store != "memory":
        proxy.end()
        proxy = Proxy(command)
        print(f"{'start with all of them':27} {proxy.start_seconds:8.2f} s")
    show(proxy, "PUT of none", "PUT", b"{}")
    proxy.end()


def show_posts(name: str, proxy: Proxy, count: int) -> None:
    """Create the routes one by one, and print what it took."""
    resident, cpu = proxy.resident, proxy.cpu_seconds
    with proxy.pauses() as waits:
        proxy.post(hub_routes(count))
    longest = f", longest pause {max(waits) * 1e3:4.0f} ms"
    print(f"{name:27} {proxy.cpu_seconds - cpu - len(waits) * 50e-6:8.2f} s of CPU{longest}")
    show_memory(proxy, resident, count)
    show(proxy, f"{name}, GET of all", "GET", None)
    proxy.end()


def show_memory(proxy: Proxy, before: int, count: int) -> None:
    """Print what a route weighs, when all that can be free is."""
    time.sleep(5)
    print(f"{'memory of a route':27} {(proxy.resident - before) / count:8.0f} bytes, resident")


def show(proxy: Proxy, name: str, method: str, body: bytes | None) -> None:
    """Call the API for all routes, and print what it took."""
    cpu, began = proxy.cpu_seconds, time.monotonic()
    with proxy.pauses() as waits:
        status, answer = proxy.ask(method, "/api/routes", body)
        time.sleep(0.3)  # what goes on behind the answer
    if status != 200:
        sys.exit(f"{name}: {status} {answer[:200]!r}")
    cpu, wall = proxy.cpu_seconds - cpu, time.monotonic() - began - 0.3
    # Each health check costs the proxy 50 µs or so.
    print(
        f"{name:27} {wall:8.2f} s, {cpu - len(waits) * 50e-6:6.2f} s of CPU, longest pause {max(waits) * 1e3:4.0f} ms"
    )


if __name__ == "__main__":
    main()
