"""What an echoed WebSocket message costs: CPU time of a relay of proxyd beside a bare Autobahn pair, and a tunnel.

They take turns, round by round; what counts is the ratio within a round. See README.md.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from statistics import median

from peers import Bench, Server, print_table, report

_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_MASK = b"\x11\x22\x33\x44"


def client_frame(payload: bytes) -> bytes:
    """A masked binary message."""
    size = len(payload)
    length = size if size < 126 else 126 if size < 65536 else 127
    extended = b"" if size < 126 else size.to_bytes(2 if size < 65536 else 8, "big")
    pad = _MASK * (size // 4 + 1)
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(pad[:size], "big")).to_bytes(size, "big")
    return bytes([0x82, 0x80 | length]) + extended + _MASK + masked


def open_websocket(server: Server) -> socket.socket:
    """A connection behind its handshake."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(_HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"{server.name} refused the handshake: {head!r}")
    return sock


def measure(server: Server, size: int, connections: int, seconds: float) -> float:
    """CPU microseconds per round trip of a message of `size` bytes; ends the program when an echo is wrong."""
    payload = os.urandom(size)
    sent = client_frame(payload)
    awaited = len(sent) - len(_MASK)
    socks = [open_websocket(server) for _ in range(connections)]
    view = memoryview(bytearray(awaited))
    trips = 0
    end = time.monotonic() + seconds
    before = server.cpu_seconds()
    while time.monotonic() < end:
        for sock in socks:
            sock.sendall(sent)
        for sock in socks:
            got = 0
            while got < awaited:
                got += sock.recv_into(view[got:])
        trips += len(socks)
    spent = server.cpu_seconds() - before
    for sock in socks:
        sock.close()
    if view[awaited - size :] != payload:
        raise SystemExit(f"{server.name} did not echo what was sent")
    return spent / trips * 1e6


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="16,1024,65536", help="bytes of a message, separated by commas")
    parser.add_argument("--connections", type=int, default=8, help="how many at once  [8]")
    parser.add_argument("--rounds", type=int, default=5, help="[5], after one that does not count")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement  [1.5]")
    options = parser.parse_args()
    with Bench() as bench:
        if bench.load_core is not None:
            os.sched_setaffinity(0, {bench.load_core})
        upstream = bench.start_autobahn("echo")
        servers = [
            bench.start_proxyd(upstream, name="relay", websocket="relay"),
            bench.start_autobahn("relay", upstream),
            bench.start_proxyd(upstream, name="tunnel"),
        ]
        title = f"WebSocket echo, CPU µs per round trip, medians of {options.rounds} rounds of {options.seconds:g} s"
        rows = [["bytes", *(server.name for server in servers), "relay/Autobahn", "relay/tunnel"]]
        for size in map(int, options.sizes.split(",")):
            costs: dict[str, list[float]] = {server.name: [] for server in servers}
            for number in range(options.rounds + 1):
                for server in servers:
                    cost = measure(server, size, options.connections, options.seconds)
                    print(f"{size} bytes, round {number} {server.name}: {cost:.1f}", file=sys.stderr)
                    if number:  # the first one warms up
                        costs[server.name].append(cost)
            own, *others = costs.values()
            ratios = [median(a / b for a, b in zip(own, other, strict=True)) for other in others]
            cells = [f"{median(cost):.1f}" for cost in costs.values()]
            rows.append([str(size), *cells, *(f"x{ratio:.2f}" for ratio in ratios)])
        with report(title, servers, [], bench):
            print_table(rows)


if __name__ == "__main__":
    main()
