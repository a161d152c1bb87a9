"""Ports and patterns through a running proxy: real sockets, real WebSockets."""

from __future__ import annotations

import socket
import threading

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.integration.proxies import ProxyTestCase
from tests.support import CHECKOUT, free_port
from tests.wire import ManualUpstream, ScriptedUpstream, Wire, answering

_PORTS = "base_url: /user/u1/\nports: {enabled: true}\n"


class PortsTests(ProxyTestCase):
    """Ports by number."""

    settings = _PORTS

    def websocket_server(self, host: str) -> int:
        """A server that answers texts in capitals, bytes as they are, and closes as it is told; gives its port."""

        def converse(websocket: ServerConnection) -> None:
            for message in websocket:
                if message == "bye":
                    return websocket.close(4321, "as you wish")
                websocket.send(message.upper() if isinstance(message, str) else message)
            return None

        port = 0
        if ":" in host:  # `localhost` is both: nobody else may listen on this port over IPv4
            held = socket.socket()
            self.addCleanup(held.close)
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
        sock = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        server = serve(converse, sock=sock, subprotocols=[Subprotocol("second")])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        return int(server.socket.getsockname()[1])

    def open(self, path: str) -> ClientConnection:
        """A WebSocket to `path` of the proxy, which the end of the test closes."""
        offers = [Subprotocol("first"), Subprotocol("second")]
        client = open_websocket(f"ws://127.0.0.1:{self.proxy.port}{path}", subprotocols=offers, proxy=None)
        self.addCleanup(client.close)
        return client

    def test_http(self) -> None:
        """Every form, with the path that belongs to it; an upload comes in whole."""
        upstream = ManualUpstream(self)
        for form in ("{}", "localhost:{}", "127.0.0.1:{}", "absolute/{}", "absolute/127.0.0.1:{}"):
            target = f"/user/u1/proxy/{form.format(upstream.port)}/a%2Fb?q=%20"
            client = self.client()
            client.send(f"PUT {target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 70000\r\n\r\n".encode())
            wire = upstream.accept()
            client.send(b"x" * 70000)
            head, body = wire.message()
            seen = target if "absolute" in form else "/a%2Fb?q=%20"
            self.assertTrue(head.startswith(f"PUT {seen} HTTP/1.1\r\nHost: a.test\r\n".encode()), head)
            self.assertEqual(70000, len(body))
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            self.assertEqual(b"ok", client.message()[1])

    def test_an_answer_is_passed_on_as_it_comes(self) -> None:
        """Piece by piece; one that is cut is cut for the client as well."""
        upstream = ManualUpstream(self)
        client = self.client()
        client.send(f"GET /user/u1/proxy/{upstream.port} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
        wire = upstream.accept()
        self.assertTrue(wire.head().startswith(b"GET / HTTP/1.1\r\n"))
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        client.head()
        self.assertEqual(b"one", client.chunk())
        wire.send(b"3\r\ntwo\r\n")
        self.assertEqual(b"two", client.chunk())
        wire.reset()
        self.assertEqual(b"", client.rest())

    def test_websockets_of_both_families(self) -> None:
        """The upstream's subprotocol, text and bytes in order, its close; on IPv4 and on IPv6."""
        for host in ("127.0.0.1", "::1"):
            port = self.websocket_server(host)
            for form in (f"{port}", f"localhost:{port}/x", f"absolute/{port}/x?token=1"):
                client = self.open(f"/user/u1/proxy/{form}")
                self.assertEqual("second", client.subprotocol)
                for message, answer in (
                    ("grün", "GRÜN"),
                    (b"\0\xff", b"\0\xff"),
                    ("", ""),
                    ("x" * 200000, "X" * 200000),
                ):
                    client.send(message)
                    self.assertEqual(answer, client.recv(10))
                client.send("bye")
                with self.assertRaises(ConnectionClosed) as caught:
                    client.recv(10)
                assert caught.exception.rcvd is not None
                self.assertEqual((4321, "as you wish"), (caught.exception.rcvd.code, caught.exception.rcvd.reason))

    def test_nobody_there(self) -> None:
        """502 for requests and handshakes."""
        port = free_port()
        self.assert_status(502, self.ask(f"/user/u1/proxy/{port}/"))
        self.assertEqual(502, self.refusal(f"/user/u1/proxy/{port}/"))

    def test_hosts_in_disguise_are_not_connected_to(self) -> None:
        """Although each of them means this machine, for one resolver or another."""
        upstream = ScriptedUpstream(self, answering(b"secret"))
        for host in (
            "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "0", "0.0.0.0", "127.0.0.2", "localhost.",
            "127.0.0.1.", "ip6-localhost", socket.gethostname(), "[::1]", "[::ffff:127.0.0.1]", "[::]", "x@127.0.0.1",
            "x%40127.0.0.1", "127.0.0.1%23", "127.0.0.1%00", "localhost%2eevil.test", "127%2e1", "evil.test%23@x",
        ):  # fmt: skip
            for form in ("proxy", "proxy/absolute"):
                target = f"/user/u1/{form}/{host}:{upstream.port}/"
                head, body = self.ask(target)
                self.assertIn(head[9:12], (b"400", b"403", b"404"), target)
                self.assertNotIn(b"secret", body)
                self.assertIn(self.refusal(target), (400, 403, 404), target)
        self.assertEqual(0, upstream.connections)
        self.assert_status(200, self.ask(f"/user/u1/proxy/127.0.0%2e1:{upstream.port}/"))

    def refusal(self, target: str) -> int:
        """The status that a handshake is refused with; the library would not even send some of these targets."""
        client = self.client()
        client.send(
            f"GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        return int(client.head().split(b" ")[1])


class ListedHostTests(ProxyTestCase):
    """A name that is on the list, but not this machine's."""

    # Glibc reads this as 127.0.0.1, as it does whatever else `inet_aton` understands.
    settings = "ports: {enabled: true, hosts: ['127.1', '2130706433', localhost]}\n"

    def test_the_address_is_looked_at_again(self) -> None:
        """What the name means is not allowed, although the name is."""
        upstream = ScriptedUpstream(self, answering(b"secret"))
        for host in ("127.1", "2130706433"):
            self.assert_status(403, self.ask(f"/proxy/{host}:{upstream.port}/"))
        self.assertEqual(0, upstream.connections)
        self.assert_status(200, self.ask(f"/proxy/localhost:{upstream.port}/"))


class FunctionTests(ProxyTestCase):
    """Functions of the user."""

    settings = f"""
python_path: ["{CHECKOUT}"]
ports:
  enabled: true
  hosts: !python tests.integration.rewriters:is_named
  rewrite_response: !python tests.integration.rewriters:shout
"""

    def test_they_decide_and_change(self) -> None:
        """On the host, and of the response."""
        upstream = ScriptedUpstream(self, answering(b"quiet"))
        target = f"/proxy/127.0.0.1:{upstream.port}/a?b"
        self.assert_status(403, self.ask(target))
        self.assertEqual(0, upstream.connections)
        head, body = self.ask(target, "X-Let-Me: 127.0.0.1\r\n")
        self.assert_status(200, head)
        self.assertEqual(f"QUIET {upstream.port} /a".encode(), body)


class DisabledTests(ProxyTestCase):
    """A proxy that says nothing of ports."""

    def test_off(self) -> None:
        """404, and the log tells which setting it is."""
        self.assert_status(404, self.ask("/proxy/8080/"))
        self.proxy.process.wait_for_log("ports.enabled is false", 10)
        self.assert_alive()


class PatternTests(ProxyTestCase):
    """A pattern with a real upstream."""

    settings = """
patterns:
  - pattern: /ipython/(?P<port>[0-9]+)/.*
    allow: {port: 1024-65535}
    upstream: ws://localhost:{port}
    change_origin: true
    request_headers: {set: {Origin: "http://127.0.0.1:{port}"}}
"""

    def test_request_and_websocket(self) -> None:
        """One rule for both."""

        def converse(websocket: ServerConnection) -> None:
            assert websocket.request is not None
            websocket.send(f"{websocket.request.headers['Origin']} {websocket.request.path}")

        server = serve(converse, "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        port = server.socket.getsockname()[1]
        with open_websocket(f"ws://127.0.0.1:{self.proxy.port}/ipython/{port}/x", origin=None, proxy=None) as client:
            self.assertEqual(f"http://127.0.0.1:{port} /ipython/{port}/x", client.recv(10))

        def tell(wire: Wire) -> None:
            head = wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(head), head))

        upstream = ScriptedUpstream(self, tell)
        head, body = self.ask(f"/ipython/{upstream.port}/a?b", "Origin: http://evil.test\r\n")
        self.assert_status(200, head)
        self.assertIn(
            f"GET /ipython/{upstream.port}/a?b HTTP/1.1\r\nHost: localhost:{upstream.port}\r\n".encode(), body
        )
        self.assertIn(f"\r\nOrigin: http://127.0.0.1:{upstream.port}\r\n".encode(), body)
        self.assertNotIn(b"evil", body)
        self.assert_status(403, self.ask("/ipython/1023/"))
        with self.assertRaises(InvalidStatus):
            open_websocket(f"ws://127.0.0.1:{self.proxy.port}/ipython/1023/", proxy=None)
