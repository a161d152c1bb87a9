"""What broken upstreams, slow clients and empty machines cost each proxy: the figures of docs/security.md.

    .venv/bin/python bench/faults.py                     # all of them, ten minutes
    .venv/bin/python bench/faults.py --only drain,memory # those whose name has one of these words

Each figure is that of one run, of fresh processes where memory is concerned.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from unittest import TestCase

import attrs

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fault_rig import CONNECT_SECONDS, NAMES, Places, Running, running, version_of
from peers import free_port
from results import machine

from tests.faults.blackhole import blackhole
from tests.faults.scripts import HANDSHAKE, SWITCHING
from tests.faults.sockets import in_kernel
from tests.wire import ScriptedUpstream, Wire, connect

MIB = 1024 * 1024
GIB = 1024 * MIB
_GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# Whoever says nothing for so long has hung.
_HANGS_SECONDS = 2.0


class Upstream:
    """Ends each exchange as its path says; `released` is what those under `/held` wait for."""

    def __init__(self, owner: TestCase) -> None:
        self.released = threading.Event()
        self.asked = 0
        self.posts: list[bytes] = []
        self._lock = threading.Lock()
        self.port = ScriptedUpstream(owner, self._run).port

    def _run(self, wire: Wire) -> None:
        wire.sock.settimeout(600)
        served = 0
        while head := wire.head():
            method, path, _ = head.split(b" ", 2)
            with self._lock:
                self.asked += 1
            what, _, rest = path[1:].partition(b"/")
            if what == b"cut":
                _cut(wire, rest)
                return
            if what == b"stale":  # serves one request of each connection, and ends when the second one has come
                if method == b"POST":
                    self.posts.append(rest)
                    wire.exactly(4)
                served += 1
                if served == 2:
                    return
                wire.send(_OK)
            elif what == b"held":
                self._hold(wire, rest)
            elif what == b"websocket":
                wire.send(SWITCHING)
                wire.rest()
                return
            elif what == b"down":
                _pour(wire, rest)
                return
            elif what == b"up":
                _take(wire, chunked=b"chunked" in rest)
            elif what == b"never":
                self.released.wait(600)
                return
            elif what == b"interim":
                while True:
                    wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 100)
            elif what == b"head":
                wire.send(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    wire.send(bytes(65536).replace(b"\0", b"a"))
            elif what == b"large":
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + bytes(10_000))
            else:
                wire.send(_OK)

    def _hold(self, wire: Wire, how: bytes) -> None:
        if how == b"body":
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        elif how == b"stream":
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        self.released.wait(60)
        if how == b"body":
            wire.send(b"done")
        elif how == b"stream":
            wire.send(b"4\r\ndone\r\n0\r\n\r\n")
        else:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalfdone")


_CUT = {
    b"length": b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nwhole it",
    b"chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n3\r\n it\r\n0\r\n\r\n",
}
_ENDS = {b"length": b"\r\n\r\nwhole it", b"chunked": b"0\r\n\r\n"}


def _cut(wire: Wire, how: bytes) -> None:
    framing, count, end = how.split(b"/")
    wire.send(_CUT[framing][: int(count)])
    if end == b"RST":
        wire.reset()


def _pour(wire: Wire, how: bytes) -> None:
    framing, _, size = how.partition(b"/")
    left = int(size)
    piece = bytes(65536)
    if framing == b"chunked":
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + piece + b"\r\n"
    else:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
    while left > 0:
        wire.send(piece * 16)
        left -= MIB
    if framing == b"chunked":
        wire.send(b"0\r\n\r\n")


def _take(wire: Wire, *, chunked: bool) -> None:
    if chunked:
        while wire.chunk():
            pass
        wire.until(b"\r\n")
    else:
        room = bytearray(MIB)
        left = GIB - len(wire.buffer)
        while left > 0 and (count := wire.sock.recv_into(room, min(MIB, left))):
            left -= count
        wire.buffer = b""
    wire.send(_OK)


@attrs.frozen
class Rig:
    """What a measurement may use: the proxy's `name`, an upstream, and where routes lead."""

    name: str
    upstream: Upstream
    places: Places

    def start(self, *, descriptors: int = 0, waits_briefly: bool = False) -> contextlib.AbstractContextManager[Running]:
        """A fresh process."""
        return running(self.name, self.places, descriptors=descriptors, waits_briefly=waits_briefly)


@contextlib.contextmanager
def _warm(rig: Rig) -> Iterator[Running]:
    """A fresh process that has served a few requests."""
    with rig.start() as proxy:
        for _ in range(5):
            _ask(proxy, b"/ok")
        yield proxy


def _ask(proxy: Running, path: bytes, wire: Wire | None = None) -> tuple[bytes, bytes]:
    own = connect(proxy.port) if wire is None else wire
    own.send(_GET % path)
    message = own.message()
    if wire is None:
        own.close()
    return message


def _status(message: tuple[bytes, bytes]) -> str:
    return message[0][9:12].decode() or "no answer"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


# Item 3: faults of upstreams.


def refused(rig: Rig) -> str:
    """How long a client waits for the answer when nobody listens."""
    with _warm(rig) as proxy:
        wire = connect(proxy.port)
        seconds = []
        for _ in range(50):
            began = time.monotonic()
            status = _status(_ask(proxy, b"/refused", wire))
            seconds.append(time.monotonic() - began)
        return f"{status} after {_milliseconds(median(seconds))}"


def swallowed(rig: Rig) -> str:
    """How long a client waits when the SYN is swallowed, beyond the limit."""
    with rig.start(waits_briefly=True) as proxy:
        wire = connect(proxy.port)
        wire.sock.settimeout(10)
        began = time.monotonic()
        try:
            status = _status(_ask(proxy, b"/hole", wire))
        except TimeoutError:
            return "no answer within 10 s"
        return f"{status}, {time.monotonic() - began - CONNECT_SECONDS:+.2f} s"


def cuts(rig: Rig) -> str:
    """Answers that an upstream cuts behind each byte of the body, by FIN and RST: those that a client knows of."""
    told = whole = hung = 0
    with _warm(rig) as proxy:
        for framing, response in _CUT.items():
            for count in range(response.index(b"\r\n\r\n") + 4, len(response)):
                for end in (b"FIN", b"RST"):
                    wire = connect(proxy.port)
                    wire.sock.settimeout(_HANGS_SECONDS)
                    wire.send(_GET % (b"/cut/%b/%d/%b" % (framing, count, end)))
                    try:
                        answer = wire.rest()
                    except TimeoutError:
                        hung += 1
                    else:
                        if answer.endswith(_ENDS[framing]):
                            whole += 1
                        else:
                            told += 1
                    wire.sock.close()
    rest = [f"{number} {word}" for number, word in ((whole, "look whole"), (hung, "hang")) if number]
    return f"{told} of {told + whole + hung}" + (f" ({', '.join(rest)})" if rest else "")


def posts(rig: Rig) -> str:
    """POSTs on connections that end when they have come: how many arrive a second time."""
    rig.upstream.posts.clear()
    with _warm(rig) as proxy:
        for number in range(50):
            wire = connect(proxy.port)
            _ask(proxy, b"/stale/%d" % number, wire)
            wire.send(b"POST /stale/%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" % number)
            with contextlib.suppress(OSError):
                wire.message()
            wire.close()
    return f"{len(rig.upstream.posts) - len(set(rig.upstream.posts))} of {len(set(rig.upstream.posts))}"


# Item 4: the end.


def _drain(rig: Rig) -> dict[str, str]:
    upstream = rig.upstream
    upstream.released.clear()
    with _warm(rig) as proxy:
        upstream.asked = 0
        idle = connect(proxy.port)
        _ask(proxy, b"/ok", idle)
        clients = []
        for number in range(25):
            wire = connect(proxy.port)
            wire.send(_GET % (b"/held/" + (b"stream" if number >= 20 else (b"body", b"late")[number % 2])))
            clients.append(wire)
        deadline = time.monotonic() + 20
        while upstream.asked < 26 and time.monotonic() < deadline:
            time.sleep(0.01)
        for wire in clients[20:]:
            wire.until(b"half\r\n")
        proxy.process.send_signal(getattr(signal, proxy.stop_signal))
        began = time.monotonic()
        closed = _milliseconds(time.monotonic() - began) if idle.is_closed(1.0) else "not within 1 s"
        time.sleep(max(0.0, began + 1.0 - time.monotonic()))
        upstream.released.set()
        released = time.monotonic()
        ends = []
        for wire in clients:
            wire.sock.settimeout(_HANGS_SECONDS)
            with contextlib.suppress(TimeoutError):
                ends.append(wire.rest())
        finished = sum(end.endswith(b"halfdone") for end in ends[:20])
        streams = sum(end.endswith(b"done\r\n0\r\n\r\n") for end in ends[20:])
        ended = "not within 10 s"
        with contextlib.suppress(Exception):
            proxy.process.wait(10)
            ended = f"{max(0.0, time.monotonic() - released):.2f} s"
    return {"finished": f"{finished} of 20", "streams": f"{streams} of 5", "idle": closed, "ended": ended}


def second_signal(rig: Rig) -> str:
    """How long a proxy with a request under way lives after a second SIGTERM."""
    rig.upstream.released.clear()
    with _warm(rig) as proxy:
        wire = connect(proxy.port)
        rig.upstream.asked = 0
        wire.send(_GET % b"/held/late")
        while not rig.upstream.asked:
            time.sleep(0.01)
        proxy.process.send_signal(getattr(signal, proxy.stop_signal))
        time.sleep(1)
        if proxy.process.poll() is not None:
            return "the first one is enough"
        proxy.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        with contextlib.suppress(Exception):
            proxy.process.wait(10)
            return f"{time.monotonic() - began:.2f} s"
        return "not within 10 s"


# Item 5: memory.


@contextlib.contextmanager
def _growth(rig: Rig, grown: list[float]) -> Iterator[Running]:
    """Adds to `grown` by how many bytes the memory of a fresh process grows at most."""
    with _warm(rig) as proxy:
        proxy.server.forget_peak()
        before = proxy.server.resident_bytes()
        yield proxy
        grown.append(proxy.server.resident_bytes(peak=True) - before)


def _mebibytes(grown: list[float]) -> str:
    return f"{max(0.0, grown[-1] / MIB):.1f} MiB"


def _large_body(direction: str, framing: bytes) -> Callable[[Rig], str]:
    def measure(rig: Rig) -> str:
        grown: list[float] = []
        with _growth(rig, grown) as proxy:
            wire = connect(proxy.port)
            wire.sock.settimeout(120)
            if direction == "down":
                wire.send(_GET % (b"/down/%b/%d" % (framing, GIB)))
                head = wire.head()
                taken = len(wire.buffer)
                room = bytearray(MIB)
                end = b""
                chunked = b"chunked" in head
                while (chunked or taken < GIB) and (count := wire.sock.recv_into(room)):
                    taken += count
                    end = (end + bytes(room[max(0, count - 5) : count]))[-5:]
                    if chunked and taken > GIB and end == b"0\r\n\r\n":
                        break
            else:
                field = b"Transfer-Encoding: chunked" if framing == b"chunked" else b"Content-Length: %d" % GIB
                wire.send(b"PUT /up/%b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (framing, field))
                piece = bytes(65536)
                if framing == b"chunked":
                    piece = b"10000\r\n" + piece + b"\r\n"
                for _ in range(1024):
                    wire.send(piece * 16)
                if framing == b"chunked":
                    wire.send(b"0\r\n\r\n")
                if _status(wire.message()) != "200":
                    return "failed"
            wire.close()
        return _mebibytes(grown)

    return measure


def stalled_readers(rig: Rig) -> str:
    """20 clients that take nothing of 50 MB."""
    grown: list[float] = []
    with _growth(rig, grown) as proxy:
        clients = [connect(proxy.port, receive_buffer=8192) for _ in range(20)]
        for wire in clients:
            wire.send(_GET % (b"/down/length/%d" % (50 * MIB)))
        time.sleep(5)
        for wire in clients:
            wire.close()
    return _mebibytes(grown)


def held_of_an_upload(rig: Rig) -> str:
    """What a proxy has taken of an upload, and the kernel does not have, while the upstream takes nothing."""
    rig.upstream.released.clear()
    with _warm(rig) as proxy:
        wire = connect(proxy.port)
        ours = wire.sock.getsockname()[1]
        wire.send(b"PUT /never HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000\r\n\r\n")
        wire.sock.setblocking(False)
        sent = 0
        while select.select([], [wire.sock], [], 2.0)[1] and sent < GIB:
            with contextlib.suppress(BlockingIOError):
                sent += wire.sock.send(bytes(65536))
        held = sent - in_kernel(ours) - in_kernel(rig.places.upstream)
        wire.close()
        rig.upstream.released.set()
    return f"{max(0, held) / MIB:.2f} MiB"


def idle_connections(rig: Rig) -> str:
    """The memory of each of 2,000 connections that have served a request."""
    grown: list[float] = []
    clients = []
    with _growth(rig, grown) as proxy:
        for _ in range(2000):
            wire = connect(proxy.port)
            _ask(proxy, b"/ok", wire)
            clients.append(wire)
    for wire in clients:
        wire.close()
    return f"{max(0.0, grown[-1] / 2000 / 1024):.1f} KiB"


def endless_head(rig: Rig) -> str:
    """4 clients whose heads do not end, and 4 upstreams."""
    grown: list[float] = []
    with _growth(rig, grown) as proxy:
        for start in (b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nHost: a\r\n", b""):
            wire = connect(proxy.port)
            with contextlib.suppress(OSError):
                wire.send(start)
                for number in range(1000):
                    wire.send(b"X%d: a\r\n" % number * 2000 if start.endswith(b"a\r\n") else b"a" * 20_000)
            wire.close()
        clients = [connect(proxy.port) for _ in range(4)]
        for wire in clients:
            wire.send(_GET % b"/head")
        time.sleep(2)
        for wire in clients:
            wire.close()
    return _mebibytes(grown)


def interim_storm(rig: Rig) -> str:
    """20 upstreams that send 1xx without end, for 3 seconds."""
    grown: list[float] = []
    with _growth(rig, grown) as proxy:
        clients = [connect(proxy.port, receive_buffer=8192) for _ in range(20)]
        for wire in clients:
            wire.send(_GET % b"/interim")
        time.sleep(3)
        for wire in clients:
            wire.close()
    return _mebibytes(grown)


def _flood(rig: Rig) -> dict[str, str]:
    grown: list[float] = []
    waits = []
    with _growth(rig, grown) as proxy:
        wire = connect(proxy.port, receive_buffer=8192)

        def send() -> None:
            with contextlib.suppress(OSError):
                wire.sock.settimeout(20)
                wire.send(_GET % b"/large" * 20_000)

        thread = threading.Thread(target=send)
        thread.start()
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            began = time.monotonic()
            with contextlib.suppress(TimeoutError):
                _ask(proxy, b"/ok")
            waits.append(time.monotonic() - began)
            time.sleep(0.1)
        wire.reset()
        thread.join()
    return {"grown": _mebibytes(grown), "waits": _milliseconds(max(waits))}


# Item 7: the machine.


def _starve(rig: Rig) -> dict[str, str]:
    with rig.start(descriptors=64) as proxy:
        _ask(proxy, b"/ok")
        clients = []
        ends = time.monotonic() + 5
        used, began = 0.0, 0.0
        while time.monotonic() < ends:
            if not began and len(clients) >= 80:
                used, began = proxy.server.cpu_seconds(), time.monotonic()
            clients.append(connect(proxy.port))
            if len(clients) > 80:
                time.sleep(0.05)
        share = (proxy.server.cpu_seconds() - used) / (time.monotonic() - began)
        for wire in clients:
            wire.close()
        began = time.monotonic()
        recovered = "not within 10 s"
        while time.monotonic() < began + 10:
            with contextlib.suppress(OSError):
                if _status(_ask(proxy, b"/ok")) == "200":
                    recovered = f"{time.monotonic() - began:.2f} s"
                    break
        alive = proxy.process.poll() is None
    return {"alive": "yes" if alive else "no", "cpu": f"{share * 100:.1f} %", "recovered": recovered}


def beside_many(rig: Rig) -> str:
    """A new request beside 2,000 idle connections and 500 WebSockets: the median of 50."""
    with rig.start() as proxy:
        clients = []
        for number in range(2500):
            wire = connect(proxy.port)
            if number >= 2000:
                wire.send(HANDSHAKE % b"/websocket")
                wire.head()
            else:
                _ask(proxy, b"/ok", wire)
            clients.append(wire)
        seconds = []
        for _ in range(50):
            began = time.monotonic()
            _ask(proxy, b"/ok")
            seconds.append(time.monotonic() - began)
        for wire in clients:
            wire.close()
    return _milliseconds(median(seconds))


# Item 8: many routes.


def _routes(rig: Rig) -> dict[str, str]:
    if rig.name == "nginx":
        return dict.fromkeys(("posts", "bytes", "list", "look-up"), "-")
    count = 100_000
    with _warm(rig) as proxy:

        def look_up() -> float:
            wire = connect(proxy.port)
            seconds = []
            for number in range(1000):
                began = time.monotonic()
                _ask(proxy, b"/user/%d/x" % (number * 97), wire)
                seconds.append(time.monotonic() - began)
            wire.close()
            return median(seconds)

        empty = look_up()
        before = proxy.server.resident_bytes()
        client = connect(proxy.server.api_port)
        body = b'{"target": "http://127.0.0.1:%d"}' % rig.places.upstream
        rest = b"Host: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        client = connect(proxy.server.api_port)
        used = proxy.server.cpu_seconds()
        for number in range(count):
            client.send(b"POST /api/routes/user/%d HTTP/1.1\r\n%b" % (number, rest))
            client.message()
        posted = proxy.server.cpu_seconds() - used
        size = (proxy.server.resident_bytes() - before) / count
        full = look_up()
        used = proxy.server.cpu_seconds()
        api = HTTPConnection("127.0.0.1", proxy.server.api_port, timeout=60)
        api.request("GET", "/api/routes")
        api.getresponse().read()
        listed = proxy.server.cpu_seconds() - used
    return {
        "posts": f"{posted:.0f} s",
        "bytes": f"{size:.0f} bytes",
        "list": f"{listed:.2f} s",
        "look-up": f"{(full - empty) * 1000:+.2f} ms",
    }


@attrs.frozen
class Figure:
    """A row of the table, or several that come from one measurement: their titles and bars by its keys."""

    name: str
    measure: Callable[[Rig], str | dict[str, str]]
    rows: dict[str, tuple[str, str]]


def _one(name: str, measure: Callable[[Rig], str], title: str, bar: str) -> Figure:
    return Figure(name, measure, {"": (title, bar)})


FIGURES = [
    _one("refused", refused, "upstream refuses: answer, median of 50", "502 within 50 ms"),
    _one("swallowed", swallowed, "upstream swallows the SYN: answer, beyond the limit of 1 s", "504 within 0.5 s"),
    _one("cuts", cuts, "answers cut behind each byte of the body: the client knows", "all"),
    _one("posts", posts, "POSTs that arrive twice, on connections that end with them", "0"),
    Figure(
        "drain",
        _drain,
        {
            "finished": ("requests under way that are finished at the end", "20 of 20"),
            "streams": ("streams that end whole", "5 of 5"),
            "idle": ("idle connections are closed after", "at once"),
            "ended": ("exit after the last exchange", "1 s"),
        },
    ),
    _one("second", second_signal, "exit after a second SIGTERM", "forced"),
    _one("memory: 1 GiB down", _large_body("down", b"length"), "1 GiB down, with a length: memory", "16 MiB"),
    _one("memory: chunks down", _large_body("down", b"chunked"), "1 GiB down, in chunks", "16 MiB"),
    _one("memory: 1 GiB up", _large_body("up", b"length"), "1 GiB up, with a length", "16 MiB"),
    _one("memory: chunks up", _large_body("up", b"chunked"), "1 GiB up, in chunks", "16 MiB"),
    _one("memory: readers", stalled_readers, "20 clients that take nothing of 50 MB", "32 MiB"),
    _one("memory: upload", held_of_an_upload, "taken of an upload that nobody takes, beyond the kernel", "1 MiB"),
    _one("memory: idle", idle_connections, "idle connection, each of 2,000", "16 KiB"),
    _one("memory: head", endless_head, "heads without end, of clients and upstreams", "8 MiB"),
    _one("memory: interim", interim_storm, "1xx without end, 20 upstreams", "8 MiB"),
    Figure(
        "memory: flood",
        _flood,
        {
            "grown": ("20,000 pipelined requests, nothing read", "8 MiB"),
            "waits": ("... longest wait of others meanwhile", "-"),
        },
    ),
    Figure(
        "starve",
        _starve,
        {
            "alive": ("out of descriptors: it lives", "yes"),
            "cpu": ("... CPU meanwhile", "10 %"),
            "recovered": ("... 200 again after", "2 s"),
        },
    ),
    _one("beside", beside_many, "new request beside 2,000 idle connections and 500 WebSockets", "40 ms"),
    Figure(
        "routes",
        _routes,
        {
            "posts": ("100,000 routes, one POST after the other: CPU", "60 s"),
            "bytes": ("... memory of each", "1 KiB"),
            "list": ("... list of all: CPU", "0.3 s"),
            "look-up": ("... median of a request, beside that without routes", "+0.2 ms"),
        },
    ),
]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of figures, or parts of them")
    words = [word for word in parser.parse_args().only.split(",") if word]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    versions = {name: version for name in NAMES if (version := version_of(name))}
    print(f"{date.today():%Y-%m-%d}; {machine()}; load {os.getloadavg()[0]:.1f}")
    print("; ".join(f"{name} {version}" for name, version in versions.items()))
    print("\n| figure | bar | " + " | ".join(versions) + " |\n|---|---|" + "---|" * len(versions))
    owner = TestCase()
    with blackhole() as hole:
        upstream = Upstream(owner)
        places = Places(upstream.port, free_port(), hole)
        for figure in FIGURES:
            if words and not any(word in figure.name for word in words):
                continue
            measured = {}
            for name in versions:
                result = figure.measure(Rig(name, upstream, places))
                measured[name] = result if isinstance(result, dict) else {"": result}
            for key, (title, bar) in figure.rows.items():
                cells = " | ".join(measured[name][key] for name in versions)
                print(f"| {title} | {bar} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
