"""What single functions of the data path cost, in microseconds: the best of some rounds, in this process only.

Heads vary from call to call, as they do from request to request.
"""

from __future__ import annotations

import argparse
import itertools
import timeit
from collections.abc import Callable
from types import SimpleNamespace

from hub_routes import look_up_seconds
from whole_exchange import WholeExchanges

from proxyd.core.forward import ForwardPlan, Peer
from proxyd.core.framing import ChunkedDecoder
from proxyd.core.head import HeadLimits, RequestReader, ResponseReader
from proxyd.core.target import decode_path, host_of, key_of, plain_target, split_target
from proxyd.http.accesslog import CombinedLog
from proxyd.model.routes import DEFAULT_OPTIONS, Route
from proxyd.model.upstream import Upstream

_ROUNDS = 15
_CALLS = 2000

_REQUEST = (
    b"GET /user/alice/api/%d HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="156", "Not A Brand";v="24"\r\nsec-ch-ua-mobile: ?0\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
    b"Referer: http://127.0.0.1/user/alice/lab/tree/%d\r\nAccept-Language: en-US,en;q=0.9\r\n"
    b'Cookie: session=%d; theme=dark; id=abcdefghij%d\r\nIf-None-Match: "%d"'
)
_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 30 Nov 2026 07:00:00 GMT\r\nContent-Type: text/html\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\nETag: W/%d"
)
_END = b"\r\n\r\n"
_CONTENT = bytes(200)
_CHUNKS = (b"400\r\n" + bytes(1024) + b"\r\n") * 60


def _requests(count: int) -> list[bytes]:
    return [_REQUEST % (n, n * 7 % 9973, n * 7919 % 1000003, n, n * 31 % 65537) for n in range(count)]


def _best(function: Callable[[], object]) -> float:
    """Microseconds of a call."""
    return min(timeit.repeat(function, number=_CALLS, repeat=_ROUNDS)) / _CALLS * 1e6


def measurements() -> dict[str, Callable[[], object]]:
    """What is called, by name."""
    requests = itertools.cycle(_requests(4000)).__next__
    responses = itertools.cycle([_RESPONSE % (n, n) for n in range(4000)]).__next__
    reader, response_reader = RequestReader(HeadLimits()), ResponseReader()
    route = Route("/", Upstream.parse("http://127.0.0.1:9000"), ())
    plan = ForwardPlan(route, DEFAULT_OPTIONS)
    peer = Peer(b"127.0.0.1", secure=False, trusted=True)
    head = reader.read(requests())
    answer = response_reader.read(responses())
    lines: list[str] = []
    log = CombinedLog(SimpleNamespace(write=lines.append))
    done = SimpleNamespace(
        head=head,
        channel=SimpleNamespace(peer=peer),
        admission=None,
        status=200,
        body_sent=200,
        seconds=0.5,
        request_id="",
        entry=None,
    )
    date = b"Mon, 30 Nov 2026 07:00:00 GMT"

    def find() -> object:
        return plain_target(head.target), host_of(head.host or b"")

    def find_in_python() -> object:
        path, _ = split_target(head.target)
        return key_of(decode_path(path)), host_of(head.host or b"")

    def write_log() -> None:
        log.write(done)  # type: ignore[arg-type]
        lines.clear()

    return {
        "next varying head": requests,
        "request head, 13 lines: read": lambda: reader.read(requests()),
        "request head, 13 lines: rewrite": lambda: plan.request_head(head, b"/user/alice/api/1", b"", peer),
        "request target: path, segments, host": find,
        "the same in Python": find_in_python,
        "response head, 6 lines: read": lambda: response_reader.read(responses()),
        "response head, 6 lines: rewrite": lambda: plan.response_head(answer, head, 200, date, keep_alive=True),
        "a line of the access log": write_log,
        "60 chunks of 1 KiB: decode": lambda: ChunkedDecoder().feed(_CHUNKS),
    }


def whole_exchange() -> float:
    """Microseconds of a small GET, without sockets."""
    requests = itertools.cycle([request + _END for request in _requests(4000)]).__next__
    responses = itertools.cycle([_RESPONSE % (200, n) + _END + _CONTENT for n in range(4000)]).__next__
    exchanges = WholeExchanges(requests, responses)
    return min(timeit.repeat(exchanges, number=100, repeat=60)) / 100 / exchanges.a_call * 1e6


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names that have this in them")
    wanted = parser.parse_args().only
    for name, function in measurements().items():
        if wanted in name:
            print(f"{name:40} {_best(function):8.2f} µs")
    if wanted in (name := "a whole exchange, without sockets"):
        print(f"{name:40} {whole_exchange():8.2f} µs")
    for count in (10, 1000, 100_000):
        name = f"look-up among {count} routes"
        if wanted in name:
            print(f"{name:40} {look_up_seconds(count) * 1e6:8.2f} µs")


if __name__ == "__main__":
    main()
