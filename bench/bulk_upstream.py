"""An upstream for `bulk.py`: `GET /N` sends N bytes, anything with a body takes it and says how long it was."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_CHUNK = 1 << 20


class Bulk(BaseHTTPRequestHandler):
    """Sends and takes zeros, as fast as the other side can."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send as many bytes as the path says."""
        size = int(self.path.strip("/") or 0)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        chunk = bytes(_CHUNK)
        while size > 0:
            self.connection.sendall(memoryview(chunk)[:size])
            size -= _CHUNK

    def do_PUT(self) -> None:
        """Take the body."""
        size = left = int(self.headers["Content-Length"])
        buffer = bytearray(_CHUNK)
        while left and (count := self.rfile.readinto(memoryview(buffer)[: min(left, _CHUNK)])):
            left -= count
        answer = str(size - left).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Keep still."""


class Server(ThreadingHTTPServer):
    """Does not wait for threads at the end."""

    daemon_threads = True


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Bulk).serve_forever()
