"""The application of the tests: HTTP, WebSockets or a bare stream, in one file that needs nothing but Python.

    application.py [OPTION...] PORT-OR-SOCKET

HTTP answers with what was asked, as JSON; WebSockets send back what they get; so do bare streams, until `end` comes.
"""

import hashlib
import json
import os
import socket
import socketserver
import sys
import time
from base64 import b64encode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "client"  # a unix socket has no address

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its own word
        print("served", self.command, self.path, flush=True)

    def serve(self) -> None:
        if self.path.startswith("/exit/"):
            os._exit(int(self.path[6:]))
        if self.path == "/kill":
            os.kill(os.getpid(), 9)
        if self.headers.get("Upgrade", "").lower() == "websocket" and self.command == "GET":
            self.converse()
        elif self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/stream":
            self.stream()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fields = [[name, value] for name, value in self.headers.items()]
            said = {"method": self.command, "path": self.path, "fields": fields, "pid": os.getpid()}
            answer = json.dumps({**said, "size": len(body), "sha": hashlib.sha1(body).hexdigest()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def stream(self) -> None:
        """Events, until the client has left."""
        self.send_response(200)
        for field in ("a=1", "b=2"):
            self.send_header("Set-Cookie", field)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: 1\n\n")
        with suppress(ConnectionResetError):
            self.connection.recv(1)
        print("the client has left", flush=True)
        self.close_connection = True

    def converse(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + GUID
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.send_header("Sec-WebSocket-Accept", b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while len(head := self.rfile.read(2)) == 2:
            size = head[1] & 127
            if size == 126:
                size = int.from_bytes(self.rfile.read(2), "big")
            mask = self.rfile.read(4)
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(size)))
            length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
            self.wfile.write(head[:1] + length + payload)
            if head[0] & 15 == 8:
                return


class Stream(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)
            if data == b"end":
                return


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 200


def main() -> None:
    *options, place = sys.argv[1:]
    handler: type[socketserver.BaseRequestHandler] = Application
    for option in options:
        name, _, value = option.partition("=")
        if name == "--count":  # one line for each start
            with open(value, "a") as file:
                file.write("x\n")
        elif name == "--once":  # ends at once, but the first time
            if os.path.exists(value):
                sys.exit(4)
            open(value, "w").close()
        elif name == "--sleep":
            time.sleep(float(value))
        elif name == "--print":
            line = "x" * 999 + "\n"
            for _ in range(int(value) // len(line)):
                sys.stdout.write(line)
            sys.stdout.flush()
        elif name == "--exit":
            print("about to end", flush=True)
            sys.exit(int(value))
        elif name == "--hang":
            time.sleep(600)
        elif name == "--raw":
            handler = Stream
    if "/" in place:
        Server.address_family = socket.AF_UNIX
        Server(place, handler).serve_forever()  # type: ignore[arg-type]
    else:
        Server(("127.0.0.1", int(place)), handler).serve_forever()


main()
