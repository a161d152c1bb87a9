"""Upstreams that end each exchange in a way of their own."""

from __future__ import annotations

from tests.wire import Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# Key and answer of RFC 6455 §1.3.
HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
# One text message of a server: RFC 6455 §5.2.
MESSAGE = b"\x81\x04pong"


def breaking(wire: Wire) -> None:
    """Read the head of each request, and the four bytes of its body, and end as the last segment of its path says.

    `ok` answers, `early` without the body; `tunnel` takes everything behind its 101 and says nothing, `echo` sends it
    back, `talk` sends a message for each piece of it; `silent` never answers, `endless` never ends; `garbage` is no
    HTTP; anything else breaks off, `reset` by RST.
    """
    while True:
        line = wire.head().partition(b"\r\n")[0].split(b" ")
        if len(line) < 2:
            return
        name = line[1].rpartition(b"/")[2]
        if name == b"early":
            wire.send(OK)
            return
        if name in {b"tunnel", b"echo", b"talk"}:
            wire.send(SWITCHING)
            if name == b"tunnel":
                wire.rest()
            while data := wire.buffer or wire.sock.recv(65536):
                wire.buffer = b""
                wire.send(data if name == b"echo" else MESSAGE)
            return
        if line[0] == b"POST":
            wire.exactly(4)
        if name == b"ok":
            wire.send(OK)
        elif name == b"endless":
            wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                wire.send(bytes(64 * 1024))
        elif name == b"garbage":
            wire.send(b"garbage\r\n\r\n")
            return
        elif name == b"silent":
            wire.rest()
            return
        else:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            if name == b"reset":
                wire.reset()
            return
