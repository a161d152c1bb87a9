"""Both ends of the wire for tests of the real process: scripted upstreams, and clients that see every byte."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from unittest import TestCase

# Nothing on loopback takes that long; a test that waits longer hangs.
PATIENCE_SECONDS = 10.0
# A scripted upstream may have an idle connection for as long as its test takes.
_IDLE_SECONDS = 60.0

Script = Callable[["Wire"], None]


class Wire:
    """One end of a connection, blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        sock.settimeout(PATIENCE_SECONDS)

    def send(self, data: bytes) -> None:
        """Send everything."""
        self.sock.sendall(data)

    def until(self, end: bytes) -> bytes:
        """Read up to and including `end`; everything there was if the peer closes before."""
        while end not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                break
            self.buffer += data
        head, found, self.buffer = self.buffer.partition(end)
        return head + found

    def exactly(self, count: int) -> bytes:
        """Read so many bytes, or fewer if the peer closes before."""
        while len(self.buffer) < count:
            data = self.sock.recv(65536)
            if not data:
                break
            self.buffer += data
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def some(self, count: int) -> bytes:
        """Read at least one byte, and at most so many; nothing if the peer closes before."""
        data = self.buffer[:count] or self.sock.recv(count)
        self.buffer = self.buffer[len(data) :]
        return data

    def rest(self) -> bytes:
        """Read until the peer closes, or resets."""
        with contextlib.suppress(ConnectionResetError):
            while data := self.sock.recv(1 << 20):
                self.buffer += data
        data, self.buffer = self.buffer, b""
        return data

    def head(self) -> bytes:
        """Read a head with its empty line."""
        return self.until(b"\r\n\r\n")

    def message(self) -> tuple[bytes, bytes]:
        """Read a head and the body that its fields announce."""
        head = self.head()
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
        if length:
            return head, self.exactly(int(length[1]))
        body = b""
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked\r\n", head):
            while piece := self.chunk():
                body += piece
            self.until(b"\r\n")
        return head, body

    def chunk(self) -> bytes:
        """Read a chunk and return what is in it; the last one is empty, and its trailer section is left to be read."""
        size = int(self.until(b"\r\n").split(b";")[0], 16)
        data = self.exactly(size)
        if size:
            self.until(b"\r\n")
        return data

    def is_closed(self, seconds: float = 2.0) -> bool:
        """Whether the peer closes within `seconds`; what it sends before is dropped."""
        self.sock.settimeout(seconds)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def finish(self) -> None:
        """Close our side only: nothing more is sent, but the rest can be read."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close with a FIN."""
        self.sock.close()

    def reset(self) -> None:
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def abort(self) -> None:
        """Send a RST at once although another thread may be reading; the descriptor stays open."""
        # Linux resets a connection when its socket is connected to nothing: connect(2), AF_UNSPEC.
        ctypes.CDLL(None).connect(self.sock.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)


class ScriptedUpstream:
    """Listens on a free port, and runs `script` with each connection in a thread of its own.

    What scripts raise is raised by `case` at the end of its test.
    """

    def __init__(self, case: TestCase, script: Script, *, receive_buffer: int = 0) -> None:
        self.connections = 0
        self._script = script
        self._errors: list[BaseException] = []
        self._listening = socket.socket()
        if receive_buffer:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(128)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()
        case.addCleanup(self._check)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock: socket.socket) -> None:
        wire = Wire(sock)
        sock.settimeout(_IDLE_SECONDS)
        try:
            self._script(wire)
        except (ConnectionError, BrokenPipeError):
            pass  # the other side left; what that means is up to the test
        except BaseException as error:  # noqa: BLE001  # a thread has nobody to raise to
            self._errors.append(error)
        finally:
            sock.close()

    def _check(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        if self._errors:
            raise AssertionError("an upstream's script failed") from self._errors[0]


class ManualUpstream:
    """Listens on a free port; the test accepts the connections itself, and is the upstream on each of them."""

    def __init__(self, case: TestCase, *, receive_buffer: int = 0) -> None:
        self._listening = socket.socket()
        case.addCleanup(self._listening.close)
        if receive_buffer:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(128)
        self._listening.settimeout(PATIENCE_SECONDS)
        self._case = case
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def accept(self) -> Wire:
        """The next connection."""
        sock, _ = self._listening.accept()
        self._case.addCleanup(sock.close)
        return Wire(sock)

    def is_asked(self) -> bool:
        """Whether a connection waits to be accepted; one that was made before an answer is seen here."""
        return bool(select.select([self._listening], [], [], 0)[0])

    def is_asked_before(self, wire: Wire) -> bool:
        """Wait until something comes, and tell whether that is another connection rather than data on `wire`."""
        ready = select.select([self._listening, wire.sock], [], [], PATIENCE_SECONDS)[0]
        return wire.sock not in ready


def connect(port: int, *, receive_buffer: int = 0) -> Wire:
    """Connect to a port of this machine."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(PATIENCE_SECONDS)
    sock.connect(("127.0.0.1", port))
    return Wire(sock)


def get(port: int, path: str = "/", host: str = "test") -> tuple[bytes, bytes]:
    """One GET on a connection of its own."""
    wire = connect(port)
    wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    message = wire.message()
    wire.close()
    return message


def answering(body: bytes = b"ok") -> Script:
    """A script that answers every request with `body`."""

    def script(wire: Wire) -> None:
        while wire.message()[0]:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    return script


def resident_bytes(pid: int) -> int:
    """The memory that a process has in use."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def peak_bytes(pid: int) -> int:
    """The most memory that a process has ever had in use."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def open_descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def now() -> float:
    """A clock that does not jump."""
    return time.monotonic()
