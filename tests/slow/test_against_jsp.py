"""Servers and ports against jupyter-server-proxy: the same definitions and exchanges in both, and the same results.

A Jupyter server with jupyter-server-proxy and a proxyd read the same Jupyter configuration file, and lead to the same
upstream, which records what arrives. What may differ is taken out before the comparison: the order of fields, what is
about a single connection, and the pages of the proxies' own errors. All else is equal, or it is a deliberate difference
that docs/compat-jupyter-server-proxy.md explains. A difference that is none fails just as an undeclared one.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path

import attrs
import requests
from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.integration.proxies import Proxy
from tests.support import CHECKOUT, Process, free_port, script
from tests.wire import ScriptedUpstream, Wire, connect

BASE = "/user/u1/"
SECONDS = 60.0

# Both run this; jupyter-server-proxy in the server that it is the configuration of, proxyd by `jupyter_config`.
CONFIG = """
def override(port, unix_socket, base_url):
    return {{"X-Own": "{{port}} {{base_url}} " + repr(unix_socket), "accept": ""}}

def change(response, request, host, port, path):
    response.headers["X-Seen"] = f"{{host}} {{port!r}} {{path}} {{request.path}} {{request.host}}"
    response.body = response.body + b" changed"
    response.code = 418

def hosts(handler, host):
    return host == "127.0.0.1"

c.ServerProxy.servers = {{
    "app": {{"port": {port}}},
    "grp/app": {{"port": {port}}},
    "whole": {{"port": {port}, "absolute_url": True}},
    "fields": {{"port": {port}, "request_headers_override": {{"Origin": "http://127.0.0.1:{{port}}", "X-Empty": ""}}}},
    "called": {{"port": {port}, "request_headers_override": override}},
    "mapped": {{"port": {port}, "mappath": {{"/a": "/b", "/c": "/d?e=f"}}}},
    "function": {{"port": {port}, "mappath": lambda path: path + "index.html"}},
    "mappedwhole": {{"port": {port}, "absolute_url": True, "mappath": {{"/a": "/b"}}}},
    "changed": {{"port": {port}, "rewrite_response": change}},
    "raw": {{"port": {port}, "raw_socket_proxy": True}},
    "dead": {{"port": 1}},
    "nothing": {{}},
    "sockets": {{"port": {sockets}}},
    "drawn": {{"port": 1, "launcher_entry": {{"icon_path": "/no/such/icon.svg"}}}},
    "card": {{"port": {port}, "new_browser_tab": False, "new_browser_window": True,
              "launcher_entry": {{"title": "A card", "path_info": "card/x?y=z", "category": "Console", "timeout": 3}}}},
}}
c.ServerProxy.host_allowlist = hosts
c.ServerProxy.non_service_rewrite_response = ()
"""
JUPYTER = """
c.ServerApp.base_url = "{base}"
c.ServerApp.disable_check_xsrf = True
c.ServerApp.allow_root = True
c.ServerApp.allow_remote_access = True
c.IdentityProvider.token = ""
c.ServerApp.password = ""
"""

AGENT = "User-Agent: tests"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: now\r\nServer: own\r\nEtag: own\r\n\r\nok"
# What is about one connection.
_OF_THE_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"})
# What proxyd adds, and what both add of their own.
_ADDED = frozenset({"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"})
_OF_JUPYTER = frozenset({"x-content-type-options", "content-security-policy", "access-control-allow-origin"})


def answer(status: str, *fields: str, body: bytes = b"ok") -> bytes:
    """The bytes of a response."""
    return (
        "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Date: now", "Etag: own", *fields, "", ""])
    ).encode() + body


EVENTS = answer("200 OK", "Content-Type: text/event-stream", "Set-Cookie: a=1", "Set-Cookie: b=2", body=b"data: 1\n\n")


@attrs.frozen
class Case:
    """One request, and the answer of the upstream."""

    path: str
    method: str = "GET"
    fields: tuple[str, ...] = ()
    body: bytes = b""
    answer: bytes = OK
    has_agent: bool = True


@attrs.frozen
class Result:
    """What came of it: what the upstream got, and what the client did."""

    asked: tuple[str, tuple[tuple[str, str], ...], bytes] | None
    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    body: bytes


def fields_of(head: bytes, without: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """The fields of a head, by name; those of one name in their order."""
    pairs = []
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name and name.lower() not in without:
            pairs.append((name.lower(), value.strip()))
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


SAME = (
    Case("app/"),
    Case("app/x?q=1&q=2&%20"),
    Case("app/a%20b/%C3%A9;=,@:!$&'()*+~"),
    Case("grp/app/x"),
    Case("whole/x?y"),
    Case("fields/x", fields=("Origin: http://client.test", "X-Empty: full")),
    Case("called/x", fields=("Accept: text/plain",)),
    Case("mapped/a"),
    Case("mapped/a?q"),
    Case("mapped/c"),
    Case("mapped/x"),
    Case("function/x/?q"),
    Case("mappedwhole/a"),
    Case("changed/x"),
    Case("app"),
    Case("app?q=1"),
    Case("proxy/{port}/x?y"),
    Case("proxy/{port}"),
    Case("proxy/absolute/{port}/x?y"),
    Case("proxy/127.0.0.1:{port}/x"),
    Case("proxy/absolute/127.0.0.1:{port}/x"),
    Case("proxy/localhost:{port}/x"),
    Case("proxy/evil.test:80/"),
    Case("server-proxy/icon/card"),
    Case("raw/"),
    Case("raw/", "POST", body=b"body"),
    Case("app/x", "POST", body=b"body", fields=("Content-Type: text/plain",)),
    Case("app/x", "PUT", body=b"body", fields=("Content-Type: text/plain",)),
    Case("app/x", "DELETE"),
    Case("app/x", "OPTIONS"),
    Case("app/x", "PATCH", body=b"body"),
    Case("app/x", fields=("Cookie: a=1", "Cookie: b=2", "X-Many: 1", "X-Many: 2", "Referer: http://a/b")),
    Case("app/x", fields=("X-Forwarded-Prefix: /forged", "X-ProxyContextPath: /forged")),
    Case("app/x", fields=("Proxy-Authorization: Basic eDp5", "Keep-Alive: 5", "Proxy-Connection: x")),
    Case("app/x", fields=("If-None-Match: other", "Accept-Encoding: br")),
    Case("app/x", answer=answer("302 Found", "Location: /y?z#f")),
    Case("app/x", answer=answer("303 See Other", "Location: y")),
    Case("app/x", answer=answer("302 Found", "Location: ?q")),
    Case("app/x", answer=answer("307 Temporary Redirect", "Location: http://other.test/y")),
    Case("app/x", answer=answer("302 Found", "Location: //other.test/y")),
    Case("app/x", answer=answer("201 Created", "Location: /y")),
    Case("whole/x", answer=answer("302 Found", "Location: /y")),
    Case("proxy/{port}/x", answer=answer("308 Permanent Redirect", "Location: /y")),
    Case("proxy/127.0.0.1:{port}/x", answer=answer("301 Moved Permanently", "Location: /y")),
    Case("proxy/absolute/{port}/x", answer=answer("301 Moved Permanently", "Location: /y")),
    Case("app/x", answer=answer("299 Very Own", "Set-Cookie: a=1", "Set-Cookie: b=2", "X-Many: 1", "X-Many: 2")),
    Case("app/x", answer=answer("404 Not Found", "Content-Encoding: gzip", "Content-Type: a/b", body=b"\x1f\x8b??")),
    Case("app/x", answer=answer("500 Own Error", body=b"why")),
    Case("app/x", answer=answer("200 OK", "Content-Type: text/html", "Refresh: 1; url=/y", "Content-Location: /z")),
)
"""In which nothing may differ."""

# What Jupyter itself answers where jupyter-server-proxy has nothing is not compared: its status is 0 here.
DIFFERENT = (
    (Case("nothing/"), 0, 404, None),
    (Case("appx/"), 0, 404, None),
    (Case("proxy/x/"), 0, 404, None),
    (Case("proxy/a@127.0.0.1:{port}/"), 0, 404, None),
    (Case("app/a%2Fb"), 200, 200, "GET /a%2Fb"),
    (Case("app/a%3Fb"), 200, 200, "GET /a%3Fb"),
    (Case("app/a%23b"), 200, 200, "GET /a%23b"),
    (Case("app/%c3%a9"), 200, 200, "GET /%c3%a9"),
    (Case("app/%ff"), 400, 200, "GET /%ff"),
    (Case("app//x"), 200, 200, "GET //x"),
    (Case("app/a/../b"), 200, 200, "GET /b"),
    (Case("app/x", "PATCH"), 500, 200, "PATCH /x"),
    (Case("app/x", "DELETE", body=b"body"), 500, 200, "DELETE /x"),
    (Case("app/x", body=b"body"), 500, 200, "GET /x"),
    (Case("app/x", "PROPFIND"), 405, 200, "PROPFIND /x"),
    (Case("app", "POST"), 405, 308, None),
    (Case("app/x", fields=("Connection: X-Named", "X-Named: 1")), 200, 200, "GET /x"),
    (Case("app/x", answer=answer("200 OK", "Keep-Alive: 5", "Proxy-Authenticate: x")), 200, 200, "GET /x"),
    (Case("app/x", answer=answer("302 Found", "Location: /user/u1/app/y")), 302, 302, "GET /x"),
    (Case("app/x", answer=answer("302 Found", "Location: http://localhost:{port}/y")), 302, 302, "GET /x"),
    (Case("mapped/c?q"), 200, 200, "GET /d?e=f&q"),
    (Case("app/x", answer=b"nonsense\r\n\r\n"), 599, 502, "GET /x"),
    (Case("dead/"), 500, 502, None),
    (Case("proxy/1/"), 500, 502, None),
    (Case("proxy/0/"), 500, 400, None),
    (Case("proxy/70000/"), 500, 400, None),
    (Case("server-proxy/icon/drawn"), 500, 404, None),
    (Case("app/x", "HEAD"), 200, 200, "HEAD /x"),
    (Case("app/x", has_agent=False), 200, 200, "GET /x"),
    (Case("app/x", answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), 200, 200, "GET /x"),
    (Case("app/x", fields=("Accept: text/event-stream",), answer=EVENTS), 200, 200, "GET /x"),
)
"""What is different on purpose: the status there, the status here, and what the upstream gets from us."""


class AgainstJspTests(SynchronousTestCase):
    """Both at the same time."""

    def setUp(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.answer = OK

        def script_(wire: Wire) -> None:
            message = wire.message()
            if message[0]:  # not all connections are used
                self.asked.append(message)
                wire.send(self.answer)

        self.upstream = ScriptedUpstream(self, script_)
        directory = Path(tempfile.mkdtemp(prefix="proxyd-jsp-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        config = CONFIG.format(port=self.upstream.port, sockets=self.serve_websockets())
        file = directory / "jupyter_server_config.py"
        file.write_text(config + JUPYTER.format(base=BASE))
        self.jsp_port = free_port()
        names = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        self.jupyter = Process(
            self,
            script("jupyter-server"),
            f"--ServerApp.port={self.jsp_port}",
            "--ServerApp.port_retries=0",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.root_dir={directory}",
            "--no-browser",
            env={name: str(directory) for name in names},
            cwd=directory,
        )
        settings = f"base_url: {BASE}\njupyter_config: [{file}]\nserver_packages: ['*']\n"
        settings += "ports: {enabled: true}\nstart_page: false\n"
        self.proxy = Proxy(self, settings)
        self.jupyter.wait_for(self.answers, "the Jupyter server answers", SECONDS, 0.25)

    def answers(self) -> bool:
        """True when the Jupyter server answers."""
        try:
            return requests.get(f"http://127.0.0.1:{self.jsp_port}{BASE}api", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def ask(self, port: int, case: Case) -> Result:
        """What comes of a case at one of the two."""
        self.asked.clear()
        self.answer = case.answer.replace(b"{port}", str(self.upstream.port).encode())
        path = BASE + case.path.replace("{port}", str(self.upstream.port))
        wire = connect(port)
        wire.sock.settimeout(SECONDS)
        length = [f"Content-Length: {len(case.body)}"] if case.body or case.method in ("POST", "PUT") else []
        agent = [AGENT] if case.has_agent else []
        lines = [f"{case.method} {path} HTTP/1.1", "Host: client.test", *agent, *case.fields, *length]
        wire.send("\r\n".join([*lines, "", ""]).encode("latin-1") + case.body)
        head, body = (wire.head(), b"") if case.method == "HEAD" else wire.message()
        wire.close()
        line = head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        asked = None
        if self.asked:
            got, content = self.asked[0]
            asked = (got.partition(b"\r\n")[0].decode("latin-1"), fields_of(got, _OF_THE_HOP | _ADDED), content)
        is_own = asked is None
        fields = fields_of(head, _OF_THE_HOP | _OF_JUPYTER)
        fields = tuple(pair for pair in fields if not pair[1].startswith("username-client-test="))
        location = tuple(pair for pair in fields if pair[0] == "location")
        return Result(
            asked=asked,
            status=int(line[1]),
            reason="" if is_own else line[2],
            fields=location if is_own else fields,
            body=b"" if is_own else body,
        )

    def test_the_same_comes_of_it(self) -> None:
        """To the byte, but for the order of fields."""
        for case in SAME:
            theirs, ours = self.ask(self.jsp_port, case), self.ask(self.proxy.port, case)
            self.assertEqual(theirs, ours, case)

    def test_what_is_different_is_better(self) -> None:
        """Their status is what it was said to be, and ours is, too, with what the upstream gets."""
        for case, their_status, our_status, line in DIFFERENT:
            theirs, ours = self.ask(self.jsp_port, case), self.ask(self.proxy.port, case)
            self.assertNotEqual(theirs, ours, case)
            self.assertEqual(their_status or theirs.status, theirs.status, case)
            self.assertEqual(our_status, ours.status, case)
            self.assertEqual(line and f"{line} HTTP/1.1", ours.asked and ours.asked[0], case)

    def test_the_documents_tell_how_many(self) -> None:
        """Of both kinds."""
        text = " ".join((CHECKOUT / "docs/compat-jupyter-server-proxy.md").read_text(encoding="utf-8").split())
        self.assertIn(f"{len(SAME)} exchanges are the same, {len(DIFFERENT)} and the WebSockets differ", text)

    def test_the_launcher_reads_the_same(self) -> None:
        """All servers, those included that lead nowhere and those of installed packages, in their order."""
        told = [
            requests.get(f"http://127.0.0.1:{port}{BASE}server-proxy/servers-info", timeout=SECONDS).json()
            for port in (self.jsp_port, self.proxy.port)
        ]
        self.assertEqual(*told)
        names = [server["name"] for server in told[0]["server_processes"]]
        place = names.index("nothing")
        self.assertEqual(["nothing", "sockets", "drawn", "card"], names[place : place + 4])
        self.assertIn("tensorboard", names[place + 4 :])

    def serve_websockets(self) -> int:
        """A server that takes the second subprotocol, echoes, and closes in its own way; its port."""

        def converse(websocket: ServerConnection) -> None:
            for message in websocket:
                if message == "bye":
                    websocket.close(4321, "as you wish")
                    return
                websocket.send(message)

        server = serve(converse, "127.0.0.1", 0, subprotocols=[Subprotocol("second")], max_size=None)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        return int(server.socket.getsockname()[1])

    def open(self, port: int, path: str) -> ClientConnection:
        """A WebSocket below the base URL."""
        offers = [Subprotocol("first"), Subprotocol("second")]
        url = f"ws://127.0.0.1:{port}{BASE}{path}"
        client = open_websocket(url, subprotocols=offers, proxy=None, open_timeout=SECONDS, max_size=None)
        self.addCleanup(client.close)
        return client

    def test_websockets(self) -> None:
        """Both carry messages; the verdict of the server, its subprotocol and its close are told here only."""
        told = []
        for port in (self.jsp_port, self.proxy.port):
            client = self.open(port, "sockets/x")
            for message in ("grün", b"\0\xff", "", "x" * 100_000):
                client.send(message)
                self.assertEqual(message, client.recv(SECONDS))
            client.send("bye")
            with self.assertRaises(ConnectionClosed) as caught:
                client.recv(SECONDS)
            closed = caught.exception.rcvd
            told.append((client.subprotocol, closed and closed.code, closed and closed.reason))
        self.assertEqual([("first", 1005, ""), ("second", 4321, "as you wish")], told)
        big = b"x" * (11 << 20)
        client = self.open(self.proxy.port, "sockets/x")
        client.send(big)
        self.assertEqual(big, client.recv(SECONDS))
        client = self.open(self.jsp_port, "sockets/x")
        with self.assertRaises(ConnectionClosed) as caught:
            client.send(big)
            client.recv(SECONDS)
        # It may be cut before we have read why.
        self.assertIn(caught.exception.rcvd and caught.exception.rcvd.code, (1009, None))
        for path, status in (("dead/", 502), ("proxy/evil.test:80/", 403), ("proxy/1/", 502)):
            self.open(self.jsp_port, path)  # agreed to, and then closed
            with self.assertRaises(InvalidStatus) as refused:
                self.open(self.proxy.port, path)
            self.assertEqual(status, refused.exception.response.status_code)
