"""`proxyd chp` against the program that it replaces: the same exchanges through both, and the same results.

Both get the same options and lead to the same upstream, which records what arrives. What may differ is taken out before
the comparison: the case and the order of fields, `Date`, what is about a single connection, the pages of the proxies'
own errors, and timestamps. All else is equal, or it is a deliberate difference, which docs/compat-chp.md explains under
the number that the exchange names here. A difference that is none fails just as an undeclared one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from bench.peers import find_chp
from tests.certificates import Authority
from tests.integration.test_chp_command import CHP
from tests.support import CHECKOUT, Process, free_port, free_ports
from tests.wire import ScriptedUpstream, Wire

TOKEN = "d1ce" * 8
# On however busy a machine.
PATIENCE_SECONDS = 20.0
# After so long a time CHP is taken to stay silent where it is known to.
SILENCE_SECONDS = 1.0
# Ports to listen on are taken from below; nobody listens on this one.
DEAD = "http://127.0.0.1:1"

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# What is about one connection, or what only says when.
_OF_THE_HOP = {"connection", "keep-alive", "date", "transfer-encoding"}
_BODILESS = {204, 304}


def request(
    method: str, path: str, *fields: str, body: bytes | None = None, host: str | None = "public.test:81", minor: int = 1
) -> bytes:
    """The bytes of a request; the `body` has a length unless it is None."""
    lines = [f"{method} {path} HTTP/1.{minor}"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += fields
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def get(path: str, *fields: str, **more: Any) -> bytes:
    """The bytes of a GET."""
    return request("GET", path, *fields, **more)


def call(method: str, path: str, body: Any = None, token: str | None = f"token {TOKEN}") -> bytes:
    """The bytes of a call of the REST API; a body of bytes is sent as it is."""
    fields = [f"Authorization: {token}"] if token else []
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(method, f"/api/routes{path}", *fields, body=data)


def handshake(path: str, *fields: str) -> bytes:
    """The bytes of a handshake of a WebSocket."""
    return get(
        path,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *fields,
    )


def answer(status: str, *fields: str, body: bytes | None = b"") -> bytes:
    """The bytes of a response; without a body it has no length either."""
    lines = [f"HTTP/1.1 {status}", *fields]
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


AGREED = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
SWITCHED = answer("101 Switching Protocols", *AGREED, body=None)


def _in_order(requests: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (requests,) if isinstance(requests, bytes) else requests


@attrs.frozen
class Exchange:
    """What is sent, and what comes of it.

    The requests of `sends` follow one another on one connection. `answer` is the upstream's, which closes afterwards if
    it `closes`; without any it just closes. `early` follows the last request in the same packet, and `then` is sent
    when the protocol was switched. `to` is the listener. `is_silent`: CHP does not come to an end. `page`: the body is
    of the proxy's own making. `difference`: the number of the deliberate difference, and why; empty means equal.
    """

    name: str
    sends: tuple[bytes, ...] = attrs.field(converter=_in_order)
    answer: bytes = OK
    closes: bool = False
    then: bytes = b""
    early: bytes = b""
    to: str = "public"
    is_silent: bool = False
    page: bool = False
    difference: str = ""


@attrs.frozen
class Misuse:
    """Words of a command line, and whether the two programs end with different statuses."""

    words: str
    difference: str = ""


class Recorder:
    """An upstream's script that keeps what it gets, and answers what it is told."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.got: list[Any] = []
        self.answer = OK
        self.closes = False
        self._context = context

    def __call__(self, wire: Wire) -> None:
        if self._context is not None:
            wire = Wire(self._context.wrap_socket(wire.sock, server_side=True))
            wire.sock.settimeout(60)
        with contextlib.closing(wire.sock):
            self._serve(wire)

    def _serve(self, wire: Wire) -> None:
        while True:
            head, body = wire.message()
            if not head:
                return
            line, fields = parsed(head)
            answer, closes = self.answer, self.closes  # the next exchange may set others once this one is answered
            self.got.append((line, fields, body))
            wire.send(answer)
            if not answer or closes:
                return
            while answer.startswith(b"HTTP/1.1 101") and (data := wire.sock.recv(65536)):
                wire.send(data)


def parsed(head: bytes) -> tuple[str, dict[str, str]]:
    """The first line of a head, and its fields but for what may differ; repeated ones are joined."""
    line, *rows = head.decode("latin-1").split("\r\n")
    fields: dict[str, str] = {}
    for row in filter(None, rows):
        name, _, value = row.partition(":")
        name, value = name.lower(), value.strip()
        if name in _OF_THE_HOP:
            continue
        glue = {"cookie": "; ", "set-cookie": "\n"}.get(name, ", ")
        fields[name] = f"{fields[name]}{glue}{value}" if name in fields else value
    return line, dict(sorted(fields.items()))


def without_times(text: bytes) -> Any:
    """The value of a JSON text without the times in it; other bytes are returned as they are."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    for route in [value, *value.values()] if isinstance(value, dict) else []:
        if isinstance(route, dict):
            route.pop("last_activity", None)
    return dict(sorted(value.items())) if isinstance(value, dict) else value


class Side:
    """One of the two programs, running."""

    def __init__(
        self, case: SynchronousTestCase, name: str, command: list[str], words: list[str], *, sockets: bool, secure: str
    ) -> None:
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-against-"))
        case.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        port, api_port = free_ports(2)
        self.addresses: dict[str, int | str] = {"public": port, "api": api_port}
        if sockets:
            self.addresses = {part: str(self.directory / part) for part in ("public", "api")}
            where = ["--socket", str(self.addresses["public"]), "--api-socket", str(self.addresses["api"])]
        else:
            where = ["--ip", "127.0.0.1", "--port", str(port), "--api-ip", "127.0.0.1"]
        for part in ("metrics", "redirect"):
            if f"--{part}-port" in words:
                self.addresses[part] = free_port()
                words = [str(self.addresses[part]) if word == part.upper() else word for word in words]
        self._context = ssl.create_default_context(cafile=secure) if secure else None
        environ = {"HOME": str(self.directory), "CONFIGPROXY_AUTH_TOKEN": TOKEN, "PROXYD_AUTH_TOKEN": ""}
        self.process = Process(case, *command, *where, *words, env=environ, cwd=self.directory)

    def wait(self) -> None:
        """Wait until all listeners accept."""
        for part in self.addresses:
            self.process.wait_for(partial(self._accepts, part), f"listener {part}", PATIENCE_SECONDS)

    def _accepts(self, part: str) -> bool:
        with contextlib.suppress(OSError):
            self._open(part).close()
            return True
        return False

    def _open(self, part: str) -> socket.socket:
        address = self.addresses[part]
        if isinstance(address, int):
            return socket.create_connection(("127.0.0.1", address), PATIENCE_SECONDS)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
        return sock

    def run(self, exchange: Exchange, recorder: Recorder) -> Any:
        """What came of an exchange: all answers, what followed them, and what the upstream got."""
        recorder.got, recorder.answer, recorder.closes = [], exchange.answer, exchange.closes
        results: list[Any] = []
        with self.process.log_on_failure():
            sock = self._open(exchange.to)
            if self._context is not None and exchange.to == "public":
                sock = self._context.wrap_socket(sock, server_hostname="localhost")
            wire = Wire(sock)
            silence = SILENCE_SECONDS if exchange.is_silent and self.name == "CHP" else PATIENCE_SECONDS
            sock.settimeout(silence)
            with contextlib.closing(sock):
                try:
                    for data in exchange.sends:
                        last = data is exchange.sends[-1]
                        wire.send(data + exchange.early if last else data)
                        results.append(self._result(wire, data.startswith(b"HEAD "), exchange))
                    if results[-1][0].startswith("HTTP/1.1 101"):
                        wire.send(exchange.then)
                        results.append(wire.exactly(len(exchange.early + exchange.then)))
                except TimeoutError:
                    if not exchange.is_silent:
                        raise
                    results.append("silence")
                except ConnectionError:
                    results.append("reset")
        return results, recorder.got

    def _result(self, wire: Wire, is_head: bool, exchange: Exchange) -> Any:
        """An answer: its line, fields and body. The interim response 100 is passed over."""
        while (head := wire.head()).startswith(b"HTTP/1.1 100"):
            pass
        line, fields = parsed(head)
        if not head:
            return "closed", {}, b""
        status = int(line.split()[1])
        body = b""
        if is_head or status in _BODILESS or status == 101:
            pass
        elif b"chunked" in head.lower():
            while piece := wire.chunk():
                body += piece
            wire.until(b"\r\n")
        elif "content-length" in fields:
            body = wire.exactly(int(fields["content-length"]))
        else:
            body = wire.rest()
        if exchange.page:
            return (line,)
        if exchange.to == "metrics":
            # Values are the machine's, and node's own metrics are nobody else's.
            names = re.findall(rb"^# (TYPE (?!nodejs_|process_heap_)(?:\w+) \w+)$", body, re.MULTILINE)
            return line, fields.get("content-type"), sorted(set(names))
        # What proxyd adds to answers of its own (D-37).
        if "x-request-id" in fields or exchange.to == "api":
            fields.pop("x-content-type-options", None)
        if "x-request-id" in fields or (exchange.to == "api" and status >= 400):
            for name in ("x-request-id", "cache-control", "allow"):
                fields.pop(name, None)
            if exchange.to == "api":
                fields.pop("content-type", None)
            if "content-type" in fields:
                fields["content-type"] = fields["content-type"].removesuffix("; charset=utf-8")
            if fields.get("content-type") == "text/plain":
                del fields["content-type"]
        if status >= 400 or not (is_head or status in _BODILESS):
            # The body itself is compared; one program may announce its length, and the other send chunks.
            fields.pop("content-length", None)
        if exchange.to == "api":
            return line, fields, without_times(body)
        if exchange.to == "redirect":
            fields = {name: re.sub(r":\d{4,5}/", ":PORT/", value) for name, value in fields.items()}
        return line, fields, body


ROUTES = {
    "/a": "/",
    "/a/b": "/nested",
    "/bar": "/foo?k=1",
    "/sp%20ace": "/sp",
    "/%C3%BC": "/u",
    "/at%40at": "/at",
    "/Case": "/case",
    "/dead": None,
}

ROUTING = (
    Exchange("a prefix", get("/a")),
    Exchange("a prefix with a slash", get("/a/")),
    Exchange("a prefix with a query", get("/a?x=1")),
    Exchange("what is below", get("/a/x/y?q=1&r=%20+")),
    Exchange("the longest prefix", get("/a/b/c")),
    Exchange("whole segments only", get("/ab"), page=True),
    Exchange("parameters are of the segment", get("/a;x"), page=True),
    Exchange("other case", get("/A"), page=True),
    Exchange("same case", get("/Case/x")),
    Exchange("unknown", get("/nothing/here"), page=True),
    Exchange("no default", get("/"), page=True),
    Exchange("path and query of the target", get("/bar/x?q=2")),
    Exchange("an escaped blank", get("/sp%20ace/x")),
    Exchange("unicode", get("/%C3%BC/x")),
    Exchange("unicode in lower case", get("/%c3%bc/x")),
    Exchange("an escaped at", get("/at%40at/x")),
    Exchange("a plain at", get("/at@at/x")),
    Exchange("an escaped slash separates", get("/a%2Fb/x")),
    Exchange("an escaped letter", get("/%61/x")),
    Exchange("dot segments", get("/nothing/../a/x")),
    Exchange("a dot", get("/a/./x")),
    Exchange("escaped dot segments", get("/a/%2e%2e/bar/x")),
    Exchange("dots that lead out", get("/../../a")),
    Exchange("dots at the end", get("/a/b/..")),
    Exchange("empty segments inside", get("/a//b")),
    Exchange("empty segments at the end", get("/a/b//")),
    Exchange("the absolute form", get("http://other.test/a/x")),
    Exchange("escapes stay", get("/a/%7Euser/%2F;v=1/@+?%zz&a=b")),
    Exchange("no resolution in the query", get("/a?x=/../y")),
    Exchange("HTTP/1.0", get("/a/x", minor=0)),
    Exchange("two slashes", get("//a/x"), page=True, difference="D-13"),
    Exchange("two slashes and a host", get("//host/a/x"), page=True, difference="D-13"),
    Exchange("names of JavaScript", get("/constructor/x"), page=True, difference="D-14"),
    Exchange("the prototype of JavaScript", get("/__proto__"), page=True, difference="D-14"),
    Exchange("a malformed escape", get("/a/%zz"), page=True, difference="D-36"),
    Exchange("no UTF-8", get("/%e9"), page=True, difference="D-36"),
    Exchange("the health check", get("/_chp_healthz")),
    Exchange("the health check with POST", request("POST", "/_chp_healthz", body=b"")),
    Exchange("the health check with a query", get("/_chp_healthz?x"), page=True),
    Exchange("the health check with a slash", get("/_chp_healthz/"), page=True),
)

HEADERS = (
    Exchange("nothing is invented", get("/a")),
    Exchange("unknown fields", get("/a", "X-One: 1", "Accept: a/b;q=1", "User-Agent: me")),
    Exchange("repeated fields", get("/a", "X-One: 1", "X-One: 2")),
    Exchange("cookies", get("/a", "Cookie: a=1", "Cookie: b=2")),
    Exchange("latin-1", get("/a", "X-Name: J\xfcrgen")),
    Exchange("credentials", get("/a", "Authorization: Basic eDp5")),
    Exchange("a host without a port", get("/a", host="public.test")),
    Exchange("a host with port 443", get("/a", host="public.test:443")),
    Exchange("no host", get("/a", host=None, minor=0), difference="D-19"),
    Exchange("a proxy before", get("/a", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https")),
    Exchange("a host that was forwarded", get("/a", "X-Forwarded-Host: first.test")),
    Exchange("a port that was forwarded", get("/a", "X-Forwarded-Port: 443")),
    Exchange("a chain", get("/a", "X-Forwarded-For: 10.0.0.1, 10.0.0.2", "X-Forwarded-For: 10.0.0.3")),
    Exchange("a method of WebDAV", request("PROPFIND", "/a", "Depth: 1"), difference="D-39"),
    Exchange("a method of WebDAV with a body", request("PROPFIND", "/a", "Depth: 1", body=b"<x/>")),
    Exchange("Connection: close", get("/a", "Connection: close")),
    Exchange("an IPv6 literal", get("/a", host="[::1]:8000"), difference="D-19"),
    Exchange("Proxy-Connection", get("/a", "Proxy-Connection: keep-alive"), difference="D-18"),
    Exchange("TE", get("/a", "TE: trailers"), difference="D-18"),
    Exchange("a field of the connection", get("/a", "Connection: X-Hop", "X-Hop: 1"), difference="D-18"),
    Exchange("two hosts", get("/a", "Host: other.test"), page=True, difference="D-35"),
)

BODIES = (
    Exchange("a length", request("POST", "/a", body=b"hello")),
    Exchange("an empty body", request("POST", "/a", body=b"")),
    Exchange("a POST without a body", request("POST", "/a")),
    Exchange("a PUT without a body", request("PUT", "/a")),
    Exchange("a GET with a body", request("GET", "/a", body=b"hello")),
    Exchange("a DELETE with a length", request("DELETE", "/a", body=b"hello")),
    Exchange("64 KiB", request("PUT", "/a", body=b"0123456789abcdef" * 4096)),
    Exchange(
        "chunks", request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
    ),
    Exchange(
        "trailers of a request", request("POST", "/a", "Transfer-Encoding: chunked") + b"2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n"
    ),
    Exchange("100-continue", request("POST", "/a", "Expect: 100-continue", body=b"hello"), difference="D-38"),
    Exchange("another expectation", request("POST", "/a", "Expect: wonders", "Connection: close", body=b""), page=True),
    Exchange(
        "a DELETE in chunks",
        request("DELETE", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        difference="D-17",
    ),
)

RESPONSES = (
    Exchange("a reason of its own", get("/a"), answer("299 Fine Indeed", "X-A: 1", body=b"x")),
    Exchange("no reason", get("/a"), answer("200 ", body=b"x"), difference="D-40"),
    Exchange("404 of the upstream", get("/a"), answer("404 Not Found", "Content-Type: text/plain", body=b"mine")),
    Exchange("500 of the upstream", get("/a"), answer("500 Oh No", body=b"mine")),
    Exchange("503 of the upstream", get("/a"), answer("503 Service Unavailable", "Retry-After: 1", body=b"mine")),
    Exchange("cookies", get("/a"), answer("200 OK", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2", body=b"x")),
    Exchange("repeated fields", get("/a"), answer("200 OK", "Vary: A", "Vary: B", body=b"x")),
    Exchange("a location stays", get("/a"), answer("302 Found", "Location: http://elsewhere.test:1/x?y#z")),
    Exchange("a server", get("/a"), answer("200 OK", "Server: mine", "Via: 1.1 me", body=b"x")),
    Exchange("a Date", get("/a"), answer("200 OK", "Date: Thu, 01 Jan 1970 00:00:00 GMT", body=b"x")),
    Exchange(
        "chunks", get("/a"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    ),
    Exchange("until the end", get("/a"), answer("200 OK", body=None) + b"to the end", closes=True),
    Exchange("an upstream of HTTP/1.0", get("/a"), b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nold", closes=True),
    Exchange("a client of HTTP/1.0", get("/a", minor=0), answer("200 OK", body=b"old")),
    Exchange(
        "chunks for HTTP/1.0",
        get("/a", minor=0),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    Exchange("HEAD", (request("HEAD", "/a"),) * 2, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
    Exchange("204", (get("/a"),) * 2, b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
    Exchange("304", (get("/a"),) * 2, b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    Exchange("304 with a length", (get("/a"),) * 2, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    Exchange("one after the other", (get("/a/1"), request("POST", "/a/2", body=b"x"), get("/a/3"))),
    Exchange("an interim response", get("/a"), b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
    Exchange(
        "the upstream's connection is not the client's",
        (get("/a/1"), get("/a/2")),
        answer("200 OK", "Connection: close", body=b"x"),
        closes=True,
        difference="D-24",
    ),
    Exchange(
        "a field of the upstream's connection",
        get("/a"),
        answer("200 OK", "Proxy-Connection: x", "Connection: X-Hop", "X-Hop: 1", body=b"x"),
        difference="D-24",
    ),
    Exchange(
        "trailers",
        get("/a"),
        b"HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-T: 1\r\n\r\n",
        difference="D-25",
    ),
    Exchange(
        "an end in the middle",
        get("/a"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        closes=True,
        is_silent=True,
        difference="D-9",
    ),
)

ERRORS = (
    Exchange("no route", (get("/nothing"), get("/a")), page=True),
    Exchange("no route for HEAD", (request("HEAD", "/nothing"), get("/a")), page=True),
    Exchange("no route for POST", request("POST", "/nothing", body=b"x"), page=True),
    Exchange("refused", get("/dead"), page=True),
    Exchange("refused for HEAD", request("HEAD", "/dead"), page=True),
    Exchange("closed without an answer", get("/a"), b"", page=True, difference="D-21"),
    Exchange("garbage", get("/a"), b"garbage\r\n\r\n", closes=True, page=True),
    Exchange("half a head", get("/a"), b"HTTP/1.1 200 OK\r\nX-A:", closes=True, page=True),
)

ERROR_PATH = (
    Exchange("a page of the status", get("/nothing")),
    Exchange("a page for all else", get("/dead")),
    Exchange("no page for an upstream's own", get("/a"), answer("404 Not Found", body=b"mine")),
)

ERROR_TARGET = (
    Exchange("a page of the target", get("/nothing/x?a=b&c=%20", "Cookie: a=1", "Authorization: token x")),
    Exchange(
        "the status is the error's", get("/dead/y"), answer("200 OK", "Content-Type: text/x", "X-A: 1", body=b"page")
    ),
    Exchange("a redirect is no page", get("/nothing"), answer("302 Found", "Location: /x", body=b"moved")),
    Exchange("HEAD", request("HEAD", "/nothing")),
    Exchange("an error target that closes", get("/nothing"), b""),
    Exchange("no page for an upstream's own", get("/a"), answer("404 Not Found", body=b"mine")),
)

# UP stands for the URL of the upstream.
API = (
    Exchange("all", call("GET", "")),
    Exchange("all with a slash", call("GET", "/")),
    Exchange("no token", call("GET", "", token=None), to="api"),
    Exchange("add", call("POST", "/api/x", {"target": DEAD, "jupyterhub": True, "data": {"a": [1, None]}})),
    Exchange("get one", call("GET", "/api/x")),
    Exchange("get one with a slash", call("GET", "/api/x/")),
    Exchange("get a parent", call("GET", "/api")),
    Exchange("replace", call("POST", "/api/x", {"target": DEAD + "/other", "last_activity": "1999"})),
    Exchange("it is replaced", call("GET", "/api/x")),
    Exchange("add the default", call("POST", "/", {"target": DEAD})),
    Exchange("add the default without a slash", call("POST", "", {"target": DEAD + "/2"})),
    Exchange("escapes are decoded", call("POST", "/user/foo%40bar%20%C3%BC/", {"target": DEAD})),
    Exchange("an escaped slash", call("POST", "/one%2Ftwo", {"target": DEAD})),
    Exchange("an escaped question mark", call("POST", "/one%3Ftwo", {"target": DEAD})),
    Exchange("a plus", call("POST", "/one+two", {"target": DEAD})),
    Exchange("dots", call("POST", "/one/../three", {"target": DEAD})),
    Exchange("all of them", call("GET", "")),
    Exchange("inactive since long ago", call("GET", "?inactive_since=2000-01-01")),
    Exchange("inactive since later", call("GET", "?inactiveSince=2999-01-01T00:00:00.000Z")),
    Exchange("inactive since nothing", call("GET", "?inactive_since=")),
    Exchange("another parameter", call("GET", "?other=1")),
    Exchange("delete", call("DELETE", "/api/x")),
    Exchange("delete again", call("DELETE", "/api/x")),
    Exchange("get none", call("GET", "/api/x")),
    Exchange("delete a parent", call("DELETE", "/user")),
    Exchange("another method", call("PUT", "/x", {"target": DEAD})),
    Exchange("HEAD", call("HEAD", "")),
    Exchange("another resource", request("GET", "/api/other", f"Authorization: token {TOKEN}")),
    Exchange("the root", request("GET", "/")),
    Exchange("a wrong token", call("POST", "/x", {"target": DEAD}, token="token x")),
    Exchange("a bearer", call("GET", "", token=f"Bearer {TOKEN}")),
    Exchange("another case", call("GET", "", token=f"Token {TOKEN}")),
    Exchange("more blanks", call("GET", "/x", token=f"token   {TOKEN}")),
    Exchange("the token alone", call("DELETE", "/x", token=TOKEN)),
    Exchange("an unparsable time", call("GET", "?inactive_since=nonsense"), page=True),
    Exchange("an empty body", call("POST", "/x", b""), page=True),
    Exchange("no JSON", call("POST", "/x", b"{"), page=True),
    Exchange("null", call("POST", "/x", b"null"), page=True),
    Exchange("an array", call("POST", "/x", b"[]"), page=True),
    Exchange("no target", call("POST", "/x", {"a": 1}), page=True),
    Exchange("a target that is no string", call("POST", "/x", {"target": 1}), page=True),
    Exchange("an unusable target", call("POST", "/x", {"target": "nonsense"}), page=True, difference="D-12"),
    Exchange("no JSON and no token", call("POST", "/x", b"{", token=None), page=True, difference="D-8"),
    Exchange("a malformed escape", call("GET", "/%zz"), page=True, is_silent=True, difference="D-10"),
    Exchange("delete the collection", call("DELETE", ""), page=True, is_silent=True, difference="D-10"),
)

WEBSOCKETS = (
    Exchange("bytes both ways", handshake("/a/ws?x=1", "Cookie: a=1", "X-Forwarded-Host: h"), SWITCHED, then=b"\0hi"),
    Exchange(
        "more bytes, and cookies",
        handshake("/a", "X-Forwarded-Host: h"),
        answer("101 Switching Protocols", *AGREED, "Set-Cookie: a=1", "Set-Cookie: b=2", body=None),
        then=b"x" * 100000,
    ),
    Exchange(
        "refused by the upstream", handshake("/a", "X-Forwarded-Host: h"), answer("403 Forbidden", "X-A: 1", body=b"no")
    ),
    Exchange(
        "refused in chunks",
        handshake("/a", "X-Forwarded-Host: h"),
        b"HTTP/1.1 401 Who\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ),
    Exchange(
        "an upstream that does not agree",
        handshake("/a", "X-Forwarded-Host: h"),
        answer("101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", body=None),
        difference="D-41",
    ),
    Exchange("the host is forwarded", handshake("/a"), SWITCHED, then=b"x", difference="D-19"),
    Exchange("no route", handshake("/nothing"), page=True, is_silent=True, difference="D-31"),
    Exchange("refused", handshake("/dead"), page=True, is_silent=True, difference="D-31"),
    Exchange(
        "bytes before the answer",
        handshake("/a", "X-Forwarded-Host: h"),
        SWITCHED,
        early=b"early",
        is_silent=True,
        difference="D-28",
    ),
    Exchange(
        "another protocol",
        get("/a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        difference="D-32",
    ),
)

AUTO = "http://127.0.0.1:UP"
REWRITING = (
    Exchange("the target's own", get("/a"), answer("302 Found", f"Location: {AUTO}/x?y=1")),
    Exchange("201", get("/a"), answer("201 Created", f"Location: {AUTO}/x")),
    Exchange("301", get("/a"), answer("301 Moved", f"Location: {AUTO}/x")),
    Exchange("303", get("/a"), answer("303 See Other", f"Location: {AUTO}/x")),
    Exchange("307", get("/a"), answer("307 Temporary", f"Location: {AUTO}/x")),
    Exchange("308", get("/a"), answer("308 Permanent", f"Location: {AUTO}/x")),
    Exchange("200", get("/a"), answer("200 OK", f"Location: {AUTO}/x")),
    Exchange("somebody else's", get("/a"), answer("302 Found", "Location: http://other.test/x")),
    Exchange("relative", get("/a"), answer("302 Found", "Location: /x")),
    Exchange("another field", get("/a"), answer("302 Found", f"Content-Location: {AUTO}/x")),
    Exchange(
        "a host without a port",
        get("/a", host="public.test"),
        answer("302 Found", f"Location: {AUTO}/x"),
        difference="D-26",
    ),
)

PLAIN = (
    Exchange("path and query", get("/bar/x?q=2")),
    Exchange("the prefix alone", get("/bar")),
    Exchange("the prefix with a slash", get("/bar/")),
    Exchange("the prefix and a query", get("/bar?x=1")),
    Exchange("below", get("/a/b/c/")),
    Exchange("forwarded", get("/a/x", "X-Forwarded-For: 10.0.0.1")),
    Exchange("a field of that name", get("/a/x", "X-Custom: client")),
)
STRIPPED = (
    *PLAIN,
    Exchange("an escaped prefix", get("/sp%20ace/x"), difference="D-15"),
)

HOSTS = (
    Exchange("a host", get("/x", host="one.test:81")),
    Exchange("a path of a host", get("/deep/x", host="one.test")),
    Exchange("another host", get("/deep/x", host="two.test"), page=True),
    Exchange("below a host", get("/x", host="sub.one.test"), page=True),
    Exchange("no host", get("/x", host=None, minor=0), page=True),
    Exchange("the table", call("GET", ""), to="api"),
    Exchange("case", get("/x", host="ONE.test"), page=True, difference="D-16"),
)

TLS = (
    Exchange("forwarded as https", get("/a")),
    Exchange("a host without a port", get("/a", host="public.test")),
    Exchange("forwarded as wss", handshake("/a", "X-Forwarded-Host: h"), SWITCHED, then=b"hi"),
    Exchange("a body", request("POST", "/a", body=b"x" * 100000)),
    Exchange("an error", get("/nothing"), page=True),
)

REDIRECTS = (
    Exchange("to https", get("/a/x?y=1", host="public.test:8080"), to="redirect"),
    Exchange("without a port", get("/a", host="public.test"), to="redirect"),
    Exchange("POST", request("POST", "/a", body=b"x"), to="redirect"),
    Exchange("no host", get("/a", host=None, minor=0), to="redirect", page=True),
    Exchange("an IPv6 literal", get("/a", host="[::1]:80"), to="redirect", difference="D-33"),
)

UNIX = (
    Exchange("the table", call("GET", ""), to="api"),
    Exchange("an error", get("/nothing"), page=True),
    Exchange("a request without what the peer is", get("/a"), difference="D-19"),
)

BACKENDS = (
    Exchange("over TLS", get("/a/x?y=1")),
    Exchange("a body", request("POST", "/a/x", body=b"x" * 100000)),
    Exchange("a WebSocket", handshake("/a", "X-Forwarded-Host: h"), SWITCHED, then=b"hi"),
)

METRICS = (
    Exchange("names and types", get("/metrics"), to="metrics"),
    Exchange("another path", get("/"), to="metrics", page=True),
)

MISUSES = (
    Misuse("--no-such-option"),
    Misuse("--host-rout"),
    Misuse("positional"),
    Misuse("--port"),
    Misuse("--socket s --port 1"),
    Misuse("--error-target http://x --error-path ."),
    Misuse("--custom-header nothing"),
    Misuse("--redirect-port 12345"),
    Misuse("--version"),
    Misuse("--help"),
    Misuse("--api-socket s --api-port 1 --port PORT", "D-3"),
    Misuse("--log-level loud --port PORT", "D-5"),
)

# One for each test.
GROUPS: tuple[tuple[Exchange | Misuse, ...], ...] = (
    ROUTING, HEADERS, BODIES, RESPONSES, ERRORS, ERROR_PATH, ERROR_TARGET, API, WEBSOCKETS, REWRITING, STRIPPED,
    *(PLAIN,) * 4, HOSTS, TLS, REDIRECTS, UNIX, BACKENDS, METRICS, MISUSES,
)  # fmt: skip
# What docs/compat-chp.md says in a sentence.
TOTAL = sum(len(group) for group in GROUPS)
DIFFERING = sum(bool(each.difference) for group in GROUPS for each in group)


def chp() -> str:
    """The path of CHP; without it nothing is shown."""
    found = find_chp()
    if found is None:
        raise AssertionError("configurable-http-proxy is not installed: npm install configurable-http-proxy@5")
    return found


class AgainstChpTests(SynchronousTestCase):
    """The same exchanges through both."""

    def compare(
        self,
        exchanges: tuple[Exchange, ...],
        *words: str,
        routes: dict[str, str | None] = ROUTES,
        sockets: bool = False,
        secure: str = "",
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Start both with these options and routes, and run the exchanges; report all that is not as it says."""
        recorder = Recorder(context)
        upstream = ScriptedUpstream(self, recorder)
        url = upstream.url.replace("http://127.0.0.1", "https://localhost") if context else upstream.url
        options = [word.replace("UP", url) for word in words]
        sides = [
            Side(self, name, command, options, sockets=sockets, secure=secure)
            for name, command in (("CHP", [chp()]), ("proxyd", list(CHP)))
        ]
        for side in sides:
            side.wait()
            for key, path in routes.items():
                added = Exchange(key, call("POST", key, {"target": DEAD if path is None else url + path}), to="api")
                self.assertIn("201", side.run(added, recorder)[0][0][0])
        wrong = []
        for each in exchanges:
            exchange = attrs.evolve(each, answer=each.answer.replace(b":UP", b":%d" % upstream.port))
            theirs, ours = (without_port(side.run(exchange, recorder), side) for side in sides)
            if (theirs != ours) != bool(exchange.difference) or "'silence'" in ours or "'reset'" in ours:
                wrong.append(f"{exchange.name} {exchange.difference}:\n  CHP    {theirs}\n  proxyd {ours}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_routing(self) -> None:
        """The same routes are found, and the same paths get to the upstream."""
        self.compare(ROUTING)

    def test_fields_of_requests(self) -> None:
        """The upstream gets the same fields."""
        self.compare(HEADERS)

    def test_bodies_of_requests(self) -> None:
        """The upstream gets the same bodies."""
        self.compare(BODIES)

    def test_responses(self) -> None:
        """The client gets the same responses."""
        self.compare(RESPONSES)

    def test_errors(self) -> None:
        """The same errors have the same statuses."""
        self.compare(ERRORS)

    def test_error_path(self) -> None:
        """Pages of a directory."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "404.html").write_text("<p>nothing")
        (directory / "error.html").write_text("<p>something")
        self.compare(ERROR_PATH, "--error-path", str(directory))

    def test_error_target(self) -> None:
        """Pages of an application, which is asked in the same way."""
        self.compare(ERROR_TARGET, "--error-target", "UP/err")

    def test_rest_api(self) -> None:
        """All calls have the same statuses and values."""
        self.compare(tuple(attrs.evolve(exchange, to="api") for exchange in API), routes={})

    def test_websockets(self) -> None:
        """Handshakes, and bytes afterwards."""
        self.compare(WEBSOCKETS)

    def test_auto_rewrite(self) -> None:
        """The same redirects are rewritten."""
        self.compare(REWRITING, "--auto-rewrite", "--protocol-rewrite", "https")

    def test_no_include_prefix(self) -> None:
        """The prefix is cut off."""
        self.compare(STRIPPED, "--no-include-prefix")

    def test_no_prepend_path(self) -> None:
        """The path of the target is left out."""
        self.compare(PLAIN, "--no-prepend-path")

    def test_neither_prefix_nor_path(self) -> None:
        """Both together."""
        self.compare(PLAIN, "--no-prepend-path", "--no-include-prefix")

    def test_no_x_forward(self) -> None:
        """What is forwarded is left alone, and so are all fields but the host, which is the target's."""
        self.compare(PLAIN, "--no-x-forward", "--change-origin")

    def test_custom_headers(self) -> None:
        """They replace those of clients."""
        headers = ("--custom-header", "X-Custom: one: two", "--custom-header", "X-Forwarded-Proto: https")
        self.compare(PLAIN, *headers, "--custom-header=X-Empty:")

    def test_host_routing(self) -> None:
        """The host is the first part of a route."""
        self.compare(HOSTS, "--host-routing", routes={"/one.test": "/1", "/one.test/deep": "/2"})

    def test_tls(self) -> None:
        """Clients over TLS."""
        authority = Authority(self.mktemp())
        issued = authority.issue("localhost")
        self.compare(
            TLS, "--ssl-key", str(issued.key.absolute()), "--ssl-cert", str(issued.certificate.absolute()),
            secure=str(authority.file),
        )  # fmt: skip

    def test_redirect_port(self) -> None:
        """Clients are sent from http to https."""
        authority = Authority(self.mktemp())
        issued = authority.issue("localhost")
        self.compare(
            REDIRECTS, "--ssl-key", str(issued.key.absolute()), "--ssl-cert", str(issued.certificate.absolute()),
            "--redirect-port", "REDIRECT", secure=str(authority.file),
        )  # fmt: skip

    def test_unix_sockets(self) -> None:
        """Both listeners on sockets."""
        self.compare(UNIX, sockets=True)

    def test_targets_over_tls(self) -> None:
        """They are verified by the authority that is given."""
        authority = Authority(self.mktemp())
        context = authority.server_context(authority.issue("localhost"))
        # CHP verifies the name in the client's field `Host` (D-22), which has to be that of the certificate here.
        exchanges = tuple(
            attrs.evolve(
                exchange, sends=tuple(data.replace(b"public.test:81", b"localhost:81") for data in exchange.sends)
            )
            for exchange in BACKENDS
        )
        self.compare(exchanges, "--client-ssl-ca", str(authority.file.absolute()), context=context)

    def test_metrics(self) -> None:
        """Names and types."""
        self.compare(METRICS, "--metrics-ip", "127.0.0.1", "--metrics-port", "METRICS")

    def test_misuse(self) -> None:
        """Both end with the same status."""
        directory = Path(tempfile.mkdtemp(prefix="proxyd-against-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)

        def status(command: list[str], misuse: Misuse, is_endless: bool) -> int | str:
            words = misuse.words.replace("PORT", str(free_ports(2)[0])).split()
            try:
                return subprocess.run(
                    [*command, *words],
                    cwd=directory,
                    env={**os.environ, "HOME": str(directory)},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=3 * SILENCE_SECONDS if is_endless else PATIENCE_SECONDS,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return "runs"

        with ThreadPoolExecutor(2) as pool:
            theirs = [pool.submit(status, [chp()], misuse, bool(misuse.difference)) for misuse in MISUSES]
            ours = [pool.submit(status, list(CHP), misuse, False) for misuse in MISUSES]
        for misuse, one, other in zip(MISUSES, theirs, ours, strict=True):
            self.assertEqual(
                one.result() != other.result(), bool(misuse.difference), f"{misuse}: {one.result()}, {other.result()}"
            )


def without_port(result: Any, side: Side) -> Any:
    """A result in which the ports that the program listens on are called by their names."""
    text = repr(result)
    for part, address in side.addresses.items():
        text = text.replace(str(address), part.upper())
    return text


class TotalsTests(SynchronousTestCase):
    """The document says what is compared."""

    def setUp(self) -> None:
        self.document = (CHECKOUT / "docs" / "compat-chp.md").read_text(encoding="utf-8")

    def test_totals_are_those_of_the_document(self) -> None:
        """How many exchanges there are, and how many of them differ."""
        self.assertGreaterEqual(TOTAL, 60)
        self.assertIn(f"{TOTAL} exchanges, {DIFFERING} of which differ", " ".join(self.document.split()))

    def test_every_difference_is_explained(self) -> None:
        """Under the number that an exchange names."""
        for group in GROUPS:
            for each in group:
                if each.difference:
                    self.assertIn(f"| {each.difference} |", self.document)

    def test_every_test_has_its_group(self) -> None:
        """So that the totals are complete."""
        tests = [name for name in dir(AgainstChpTests) if name.startswith("test_")]
        self.assertEqual(len(tests), len(GROUPS))
