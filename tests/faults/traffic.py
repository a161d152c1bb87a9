"""Traffic of every kind, well and badly behaved, for as long as somebody wants it; and what a process has in memory."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults.scripts import HANDSHAKE, MESSAGE
from tests.support import Process
from tests.wire import PATIENCE_SECONDS, Wire, connect

# A proxyd that writes how many objects of each type it has into the file that TYPES names, when it gets SIGALRM.
COUNTING = """
import gc, json, os, signal
from collections import Counter

def count(*_):
    gc.unfreeze()
    gc.collect()
    types = Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())
    path = os.environ["TYPES"]
    with open(path + ".new", "w") as file:
        json.dump(types, file)
    os.replace(path + ".new", path)

signal.signal(signal.SIGALRM, count)
from proxyd.cli import main
main()
"""

_GET = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n"
_MASK = b"\x01\x02\x03\x04"
# One text message of a client, "ping": RFC 6455 §5.2.
_PING = b"\x81\x84" + _MASK + bytes(byte ^ mask for byte, mask in zip(b"ping", _MASK, strict=True))


def count_types(process: Process, path: Path) -> Counter[str]:
    """How many objects of each type a process has that was started with `COUNTING`, after a collection."""
    path.unlink(missing_ok=True)
    process.send(signal.SIGALRM)
    process.wait_for(path.exists, "the types", 60)
    return Counter(json.loads(path.read_text()))


class Traffic:
    """Threads that do one thing after the other, `rate` of each kind a second, until `stop`.

    `/` leads to an upstream that runs `scripts.breaking`, `/relay` as well, with a relay, and `/refused` to nobody.
    `reload` is called now and then. What goes wrong that should not is in `errors`; `done` counts what was done.
    """

    def __init__(self, port: int, tls_port: int, api_port: int, upstream: str, reload: Callable[[], object]) -> None:
        self.errors: list[str] = []
        self.done: Counter[str] = Counter()
        self._port = port
        self._tls_port = tls_port
        self._api_port = api_port
        self._upstream = upstream
        self._reload = reload
        self._random = random.Random(7)
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    def run(self, seconds: float, rate: float) -> None:
        """Make traffic for a while, and wait until all of it has ended."""
        kinds = (
            (self._get, 5.0),
            (self._get_anew, 1.0),
            (self._pipeline, 0.5),
            (self._post, 1.0),
            (self._cut_upload, 1.0),
            (self._be_cut, 2.0),
            (self._leave_download, 1.0),
            (self._leave_silence, 1.0),
            (self._talk_nonsense, 1.0),
            (self._abort_handshake, 1.0),
            (self._abort_tls, 1.0),
            (self._get_over_tls, 0.5),
            (self._websocket, 1.0),
            (self._change_routes, 1.0),
            (self._reload_now, 0.1),
        )
        self._is_over.clear()
        kept = Kept(self._port)
        self._kept = kept
        self._threads = [threading.Thread(target=self._repeat, args=(what, share * rate)) for what, share in kinds]
        for thread in self._threads:
            thread.start()
        self._is_over.wait(seconds)
        self.stop()
        kept.close()

    def stop(self) -> None:
        """End all of it."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, what: Callable[[], None], rate: float) -> None:
        name = what.__name__.strip("_")
        while not self._is_over.wait(self._random.uniform(0, 2) / rate):
            try:
                what()
            except Exception as error:  # noqa: BLE001  # the test tells of it
                self.errors.append(f"{name}: {error!r}")
            self.done[name] += 1

    def _ask(self, request: bytes, port: int = 0) -> Wire:
        wire = connect(port or self._port)
        wire.send(request)
        return wire

    def _expect(self, status: bytes, message: tuple[bytes, bytes], body: bytes = b"") -> None:
        if message[0][9:12] != status or (body and message[1] != body):
            raise AssertionError(f"{message!r} in place of {status!r}")

    def _get(self) -> None:
        self._expect(b"200", self._kept.get("/ok"), b"ok")

    def _get_anew(self) -> None:
        with contextlib.closing(self._ask(_GET % b"/ok")) as wire:
            self._expect(b"200", wire.message(), b"ok")

    def _pipeline(self) -> None:
        with contextlib.closing(self._ask(_GET % b"/ok" * 20)) as wire:
            for _ in range(self._random.choice((5, 20))):  # some are not waited for
                self._expect(b"200", wire.message(), b"ok")

    def _post(self) -> None:
        request = b"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
        if self._random.random() < 0.5:
            request = b"POST /ok HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        with contextlib.closing(self._ask(request)) as wire:
            if b"Expect" in request:
                self._expect(b"100", (wire.head(), b""))
                wire.send(b"body")
            self._expect(b"200", wire.message(), b"ok")

    def _cut_upload(self) -> None:
        length = self._random.choice((b"Content-Length: 100000", b"Transfer-Encoding: chunked"))
        wire = self._ask(b"PUT /silent HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % length)
        wire.send(b"1000\r\n" + bytes(self._random.randrange(0x1000)))
        self._leave(wire)

    def _leave(self, wire: Wire) -> None:
        if self._random.random() < 0.5:
            wire.reset()
        else:
            wire.close()

    def _be_cut(self) -> None:
        name, status = self._random.choice(
            ((b"/cut", b"200"), (b"/reset", b"200"), (b"/garbage", b"502"), (b"/refused", b"502"))
        )
        with contextlib.closing(self._ask(_GET % name)) as wire:
            head, body = wire.message()
            self._expect(status, (head, body))
            if status == b"200" and len(body) == 100:
                raise AssertionError("a cut answer looks whole")

    def _leave_download(self) -> None:
        wire = self._ask(_GET % b"/endless")
        wire.head()
        if self._random.random() < 0.5:
            wire.chunk()
        self._leave(wire)

    def _leave_silence(self) -> None:
        wire = self._ask(_GET % b"/silent")
        self._is_over.wait(0.05)
        self._leave(wire)

    def _talk_nonsense(self) -> None:
        wire = self._ask(self._random.choice((b"\r\n", b"GET", b"\0\0\0\0", b"GET / HTTP/1.1\r\nX y\r\n\r\n", b"")))
        self._leave(wire)

    def _abort_handshake(self) -> None:
        path = self._random.choice((b"/ok", b"/silent", b"/cut", b"/refused", b"/relay/silent", b"/relay/talk"))
        handshake = HANDSHAKE % path
        wire = self._ask(handshake[: self._random.choice((30, len(handshake)))])
        self._is_over.wait(0.02)
        self._leave(wire)

    def _abort_tls(self) -> None:
        hello = bytes.fromhex("16030100310100002d0303") + bytes(32) + bytes.fromhex("000002c02b0100")
        wire = self._ask(hello[: self._random.choice((0, 5, 20, len(hello)))], self._tls_port)
        self._is_over.wait(0.02)
        self._leave(wire)

    def _get_over_tls(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self._tls_port), PATIENCE_SECONDS)
        with contextlib.closing(Wire(context.wrap_socket(plain))) as wire:
            wire.send(_GET % b"/ok")
            self._expect(b"200", wire.message(), b"ok")

    def _websocket(self) -> None:
        path = self._random.choice((b"/talk", b"/relay/talk", b"/echo", b"/tunnel"))
        wire = self._ask(HANDSHAKE % path)
        self._expect(b"101", (wire.head(), b""))
        for _ in range(3 if path != b"/tunnel" else 0):
            wire.send(_PING)
            expected = _PING if path == b"/echo" else MESSAGE
            if (got := wire.exactly(len(expected))) != expected:
                raise AssertionError(f"{got!r} in place of {expected!r}")
        self._leave(wire)

    def _change_routes(self) -> None:
        key = f"/churn/{self._random.randrange(1000)}"
        body = json.dumps({"target": self._upstream}).encode()
        call = (
            f"%b /api/routes{key} HTTP/1.1\r\nHost: api\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b".encode()
        )
        for status, request, port in (
            (b"201", call % (b"POST", len(body), body), self._api_port),
            (b"200", _GET % f"{key}/ok".encode(), self._port),
            (b"204", call % (b"DELETE", 0, b""), self._api_port),
        ):
            with contextlib.closing(self._ask(request, port)) as wire:
                self._expect(status, (wire.head(), b""))

    def _reload_now(self) -> None:
        self._reload()


class Kept:
    """A client that keeps its connection, and makes another when the proxy has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wire: Wire | None = None

    def get(self, path: str) -> tuple[bytes, bytes]:
        """GET `path`."""
        for _ in range(2):
            wire = self._wire = self._wire or connect(self._port)
            with contextlib.suppress(ConnectionError):
                wire.send(_GET % path.encode())
                message = wire.message()
                if message[0]:
                    return message
            self.close()
        raise AssertionError(f"two connections ended before {path} was answered")

    def close(self) -> None:
        """End the connection."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
