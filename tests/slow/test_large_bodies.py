"""Bodies of a gigabyte through a running proxy: they cost time, but no memory."""

from __future__ import annotations

import tempfile

from tests.integration.proxies import Proxy, ProxyTestCase
from tests.wire import ScriptedUpstream, Wire, answering, peak_bytes, resident_bytes

MIB = 1024 * 1024
_BODY_BYTES = 1024 * MIB
# A chunk as servers send them; a gigabyte holds a whole number of them.
_CHUNK_BYTES = 64 * 1024
# What the issue allows.
_ALLOWED_GROWTH = 16 * MIB
_FRAMINGS = {
    "length": b"Content-Length: %d\r\n" % _BODY_BYTES,
    "chunked": b"Transfer-Encoding: chunked\r\n",
}


def send_body(wire: Wire, framing: str) -> None:
    """Send a gigabyte of zeros; with a length, the kernel does it from a file that is a hole."""
    if framing == "length":
        with tempfile.TemporaryFile() as hole:
            hole.truncate(_BODY_BYTES)
            wire.sock.sendfile(hole)
        return
    batch = (b"%x\r\n" % _CHUNK_BYTES + bytes(_CHUNK_BYTES) + b"\r\n") * 16
    for _ in range(_BODY_BYTES // _CHUNK_BYTES // 16):
        wire.send(batch)
    wire.send(b"0\r\n\r\n")


def take_body(wire: Wire, framing: str) -> int:
    """Read a body of either framing to its end, and return its length."""
    if framing == "length":
        room = bytearray(MIB)
        taken = len(wire.buffer)
        while taken < _BODY_BYTES and (count := wire.sock.recv_into(room, min(MIB, _BODY_BYTES - taken))):
            taken += count
        return taken
    taken = 0
    while piece := wire.chunk():
        taken += len(piece)
    wire.until(b"\r\n")
    return taken


class LargeBodyTests(ProxyTestCase):
    """One gigabyte in each direction and framing."""

    def setUp(self) -> None:
        """Start a proxy whose memory no other test has used, and let it load what it loads at the first exchange."""
        self.use(Proxy(self))
        self.assert_status(200, self.ask(self.route(ScriptedUpstream(self, answering()))))
        self.before = resident_bytes(self.proxy.pid)

    def assert_bounded(self, taken: int) -> None:
        """The whole body was taken, and at no time was more memory in use than is allowed."""
        self.assertEqual(_BODY_BYTES, taken)
        self.assertLess(peak_bytes(self.proxy.pid) - self.before, _ALLOWED_GROWTH)
        self.assert_alive()

    def check_download(self, framing: str) -> None:
        """The upstream sends, the client takes."""

        def send(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\n" + _FRAMINGS[framing] + b"\r\n")
            send_body(wire, framing)

        key = self.route(ScriptedUpstream(self, send))
        client = self.client()
        client.send(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % key.encode())
        self.assert_status(200, client.head())
        self.assert_bounded(take_body(client, framing))

    def check_upload(self, framing: str) -> None:
        """The client sends, the upstream takes, and answers how much it was."""

        def take(wire: Wire) -> None:
            wire.head()
            body = b"%d" % take_body(wire, framing)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        key = self.route(ScriptedUpstream(self, take))
        client = self.client()
        client.send(b"PUT %b HTTP/1.1\r\nHost: test\r\n%b\r\n" % (key.encode(), _FRAMINGS[framing]))
        send_body(client, framing)
        head, body = client.message()
        self.assert_status(200, head)
        self.assert_bounded(int(body))

    def test_download_with_a_length(self) -> None:
        """A gigabyte whose length was announced comes down."""
        self.check_download("length")

    def test_download_in_chunks(self) -> None:
        """A gigabyte in chunks comes down."""
        self.check_download("chunked")

    def test_upload_with_a_length(self) -> None:
        """A gigabyte whose length was announced goes up."""
        self.check_upload("length")

    def test_upload_in_chunks(self) -> None:
        """A gigabyte in chunks goes up."""
        self.check_upload("chunked")
