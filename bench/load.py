"""What clients do to the proxies: small requests by `wrk`, large bodies, WebSocket messages, requests at a rate."""

from __future__ import annotations

import re
import selectors
import socket
import ssl
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import attrs
from peers import Bench, Server

_SCRIPT = Path(__file__).with_name("vary.lua")
_CHUNK = 1 << 20
_MASK = b"\x11\x22\x33\x44"
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


@attrs.frozen
class Sample:
    """One measurement: what a unit of work costs, and where it makes sense, how much was done and how long it took."""

    cost: float
    per_second: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


def wrk(
    bench: Bench,
    server: Server,
    *,
    connections: int,
    seconds: float,
    path: str = "",
    numbers: int = 1,
    closing: bool = False,
) -> Sample:
    """CPU microseconds per request under the load of `wrk`; ends the program when a request fails.

    `closing`: each request has a connection of its own. With a `path` all requests ask for that one; a `%d` in it
    becomes each of so many `numbers`.
    """
    whole = max(1, round(seconds))
    words = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{whole}s", "--latency"]
    words += ["--timeout", "60s"]  # a busy machine is no error
    words += ["--script", str(_SCRIPT), server.url, "--", server.prefix, path, "close" if closing else "keep-alive"]
    words.append(str(numbers))
    before = server.cpu_seconds()
    began = time.monotonic()
    ended = subprocess.run(bench.on_load_core(*words), capture_output=True, text=True, check=True)
    took = time.monotonic() - began
    spent = server.cpu_seconds() - before
    requests = re.search(r"(\d+) requests in", ended.stdout)
    trouble = re.search(r"Non-2xx.*|Socket errors.*", ended.stdout)
    if requests is None or int(requests[1]) == 0 or trouble is not None:
        raise SystemExit(f"{server.name} did not answer everything: {trouble[0] if trouble else ended.stdout}")
    count = int(requests[1])
    percentiles = {
        name: float(number) * _UNITS[unit]
        for name, number, unit in re.findall(r"^ +(50|99)% +([\d.]+)(us|ms|s|m)$", ended.stdout, re.MULTILINE)
    }
    return Sample(spent / count * 1e6, count / took, percentiles.get("50"), percentiles.get("99"))


# Large bodies.


def _connect(server: Server) -> HTTPConnection:
    """A connection to a proxy; its certificate is made for the run, and proves nothing."""
    if not server.is_tls:
        return HTTPConnection("127.0.0.1", server.port, timeout=120)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection("127.0.0.1", server.port, timeout=120, context=context)


def download(server: Server, size: int) -> None:
    """Get a body of `size` bytes; ends the program when it is not that long."""
    connection = _connect(server)
    connection.request("GET", f"{server.prefix}/{size}")
    answer = connection.getresponse()
    buffer = bytearray(_CHUNK)
    received = 0
    while count := answer.readinto(buffer):
        received += count
    connection.close()
    if answer.status != 200 or received != size:
        raise SystemExit(f"{server.name}, down: status {answer.status}, {received} bytes of {size}")


def upload(server: Server, size: int) -> None:
    """Send a body of `size` bytes; ends the program when the upstream does not get all of it."""
    connection = _connect(server)
    connection.putrequest("PUT", f"{server.prefix}/")
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
        raise SystemExit(f"{server.name}, up: status {answer.status}, {body[:100]!r} bytes of {size}")


# WebSockets and idle connections.


def _client_frame(payload: bytes) -> bytes:
    """A masked binary message."""
    size = len(payload)
    length = size if size < 126 else 126 if size < 65536 else 127
    extended = b"" if size < 126 else size.to_bytes(2 if size < 65536 else 8, "big")
    pad = _MASK * (size // 4 + 1)
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(pad[:size], "big")).to_bytes(size, "big")
    return bytes([0x82, 0x80 | length]) + extended + _MASK + masked


def _open(server: Server, head: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(head)
    return sock


def open_websocket(server: Server) -> socket.socket:
    """A connection behind its handshake."""
    head = (
        f"GET {server.prefix}/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    sock = _open(server, head.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        answer += byte
        if not byte:
            break
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"{server.name} refused the handshake: {answer!r}")
    return sock


def open_keep_alive(server: Server) -> socket.socket:
    """A connection on which one request was answered."""
    sock = _open(server, f"GET {server.prefix}/ HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    if not _read_answer(sock).startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"{server.name} did not answer")
    return sock


def _read_answer(sock: socket.socket) -> bytes:
    answer = b""
    while not _is_whole(answer):
        data = sock.recv(65536)
        if not data:
            break
        answer += data
    return answer


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def echo(server: Server, size: int, connections: int, seconds: float) -> Sample:
    """CPU microseconds per round trip of a message of `size` bytes; ends the program when an echo is wrong."""
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    sent = _client_frame(payload)
    awaited = len(sent) - len(_MASK)
    socks = [open_websocket(server) for _ in range(connections)]
    view = memoryview(bytearray(awaited))
    trips = 0
    began = time.monotonic()
    before = server.cpu_seconds()
    while time.monotonic() - began < seconds:
        for sock in socks:
            sock.sendall(sent)
        for sock in socks:
            got = 0
            while got < awaited:
                count = sock.recv_into(view[got:])
                if not count:
                    raise SystemExit(f"{server.name} closed a WebSocket")
                got += count
        trips += len(socks)
    spent = server.cpu_seconds() - before
    took = time.monotonic() - began
    for sock in socks:
        sock.close()
    if view[awaited - size :] != payload:
        raise SystemExit(f"{server.name} did not echo what was sent")
    return Sample(spent / trips * 1e6, trips / took)


# A fixed rate.


def at_rate(server: Server, *, rate: int, connections: int, seconds: float) -> Sample:
    """CPU microseconds per request, and the time from when each was due until its answer was there."""
    request = f"GET {server.prefix}/user/alice/api/1 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode()
    waits: list[float] = []
    total = round(rate * seconds)
    with _selector() as selector:
        idle = deque(open_keep_alive(server) for _ in range(connections))
        for sock in idle:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        due: dict[socket.socket, float] = {}
        answers: dict[socket.socket, bytes] = {}
        sent = 0
        before = server.cpu_seconds()
        began = time.monotonic()
        while len(waits) < total:
            now = time.monotonic()
            while idle and sent < total and began + sent / rate <= now:
                sock = idle.popleft()
                due[sock] = began + sent / rate
                answers[sock] = b""
                sock.send(request)
                sent += 1
            for key, _ in selector.select(0):  # epoll rounds up to milliseconds; this core has nothing else to do
                sock = key.fileobj  # type: ignore[assignment]
                data = sock.recv(65536)
                if not data:
                    raise SystemExit(f"{server.name} closed a connection")
                answers[sock] += data
                if _is_whole(answers[sock]):
                    waits.append(time.monotonic() - due[sock])
                    idle.append(sock)
        took = time.monotonic() - began
        spent = server.cpu_seconds() - before
        for sock in idle:
            selector.unregister(sock)
            sock.close()
    waits.sort()
    p50, p99 = (waits[min(total - 1, int(total * share))] * 1e3 for share in (0.5, 0.99))
    return Sample(spent / total * 1e6, total / took, p50, p99)


@contextmanager
def _selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector


def close_all(socks: Sequence[socket.socket]) -> None:
    """Close connections."""
    for sock in socks:
        sock.close()
