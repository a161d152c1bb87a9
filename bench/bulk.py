"""What large bodies cost: CPU time for 100 MB down and up, and memory for 1 GiB, of proxyd and its peers.

See README.md.
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from statistics import median

from peers import CHP_VARIABLE, Bench, Server, print_table, report

_CHUNK = 1 << 20

Transfer = Callable[[int, int, str], None]


def connect(port: int, scheme: str) -> HTTPConnection:
    """A connection to a proxy; its certificate is made for the run, and proves nothing."""
    if scheme == "http":
        return HTTPConnection("127.0.0.1", port, timeout=120)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection("127.0.0.1", port, timeout=120, context=context)


def download(port: int, size: int, scheme: str) -> None:
    """Get a body of `size` bytes; ends the program when it is not that long."""
    connection = connect(port, scheme)
    connection.request("GET", f"/{size}")
    answer = connection.getresponse()
    buffer = bytearray(_CHUNK)
    received = 0
    while count := answer.readinto(buffer):
        received += count
    connection.close()
    if answer.status != 200 or received != size:
        raise SystemExit(f"down: status {answer.status}, {received} bytes of {size}")


def upload(port: int, size: int, scheme: str) -> None:
    """Send a body of `size` bytes; ends the program when the upstream does not get all of it."""
    connection = connect(port, scheme)
    connection.putrequest("PUT", "/")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    chunk = bytes(_CHUNK)
    left = size
    while left > 0:
        connection.send(memoryview(chunk)[:left])
        left -= _CHUNK
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200 or body != str(size).encode():
        raise SystemExit(f"up: status {answer.status}, {body[:100]!r} bytes of {size}")


def milliseconds_per_gb(server: Server, transfer: Transfer, size: int, scheme: str) -> float:
    """CPU milliseconds of the proxy for each 10^9 bytes of a body."""
    before = server.cpu_seconds()
    transfer(server.port, size, scheme)
    return (server.cpu_seconds() - before) * 1e3 / (size / 1e9)


def growth_in_mib(server: Server, transfer: Transfer, size: int, scheme: str) -> float:
    """By how much the resident memory of the proxy grows at most while a body passes."""
    server.forget_peak()
    before = server.resident_bytes()
    transfer(server.port, size, scheme)
    return (server.resident_bytes(peak=True) - before) / (1 << 20)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="[5]")
    parser.add_argument("--megabytes", type=int, default=100, help="of a body whose CPU time is measured  [100]")
    parser.add_argument("--tls", action="store_true", help="clients speak TLS with the proxies")
    options = parser.parse_args()
    size = options.megabytes * 1_000_000
    with Bench(tls=options.tls) as bench:
        upstream = bench.start_bulk_upstream()
        proxyd = bench.start_proxyd(upstream)
        candidates = {
            f"configurable-http-proxy (node_modules/.bin, PATH or ${CHP_VARIABLE})": bench.start_chp(upstream),
            "nginx": bench.start_nginx(upstream),
            "nginx with 64 KB buffers": bench.start_nginx(upstream, large_buffers=True),
        }
        servers = [proxyd, *(server for server in candidates.values() if server is not None)]
        missing = [name for name, server in candidates.items() if server is None]
        if bench.load_core is not None:
            os.sched_setaffinity(0, {bench.load_core})  # this process is the client
        down: dict[str, list[float]] = {server.name: [] for server in servers}
        up: dict[str, list[float]] = {server.name: [] for server in servers}
        # The first bodies of all, so that the growth is that of a fresh process; then everything is warm.
        growth = {
            server.name: [growth_in_mib(server, transfer, 1 << 30, bench.scheme) for transfer in (download, upload)]
            for server in servers
        }
        for number in range(options.rounds):
            for server in servers:
                costs = [milliseconds_per_gb(server, transfer, size, bench.scheme) for transfer in (download, upload)]
                print(f"round {number} {server.name}: down {costs[0]:.0f}, up {costs[1]:.0f}", file=sys.stderr)
                down[server.name].append(costs[0])
                up[server.name].append(costs[1])
        rows = [["", "down", "proxyd is", "up", "proxyd is", "1 GiB down", "then 1 GiB up"]]
        for server in servers:
            row = [server.name]
            for costs_by_name in (down, up):
                pairs = zip(costs_by_name[proxyd.name], costs_by_name[server.name], strict=True)
                row += [f"{median(costs_by_name[server.name]):.0f}", f"x{median(a / b for a, b in pairs):.2f}"]
            row += [f"+{mebibytes:.1f} MiB" for mebibytes in growth[server.name]]
            rows.append(row)
        spoken = " over TLS" if options.tls else ""
        title = f"bodies of {options.megabytes} MB{spoken}, CPU ms per GB, medians of {options.rounds} rounds"
        with report(f"{title}; growth of the resident memory", servers, missing, bench):
            print_table(rows)


if __name__ == "__main__":
    main()
