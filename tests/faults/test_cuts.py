"""Connections that end at every single byte of a small exchange: nothing that was cut ever looks whole."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from queue import Queue

from tests.faults.relay import NO_FAULT, Fault, FaultRelay
from tests.integration.proxies import ProxyTestCase
from tests.integration.test_tls import TlsCase
from tests.wire import PATIENCE_SECONDS, ScriptedUpstream, Wire, answering, get

_HEAD = b"HTTP/1.1 200 OK\r\nX: y\r\n"
_RESPONSES = {
    "length": (_HEAD + b"Content-Length: 8\r\n\r\n", b"whole it"),
    "chunked": (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nwhole\r\n3;a=b\r\n it\r\n0\r\nT: u\r\n\r\n"),
    "close": (_HEAD + b"\r\n", b"whole it"),
}
_REQUESTS = {
    "length": (b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\n", b"whole it"),
    "chunked": (
        b"POST %b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nwhole\r\n3;a=b\r\n it\r\n0\r\nT: u\r\n\r\n",
    ),
}


def end(wire: Wire, *, resets: bool) -> None:
    """End a connection, by RST or FIN."""
    if resets:
        wire.reset()
    else:
        wire.close()


class ResponseTests(ProxyTestCase):
    """An upstream that breaks off in its response."""

    def outcome(self, key: str, place: str, version: int) -> tuple[str, bytes]:
        """What a client makes of the answer: the status, or what it gives up with, and the body."""
        client = self.client()
        client.send(f"GET {key}/{place} HTTP/1.{version}\r\nHost: test\r\n\r\n".encode())
        head = client.head()
        status = head[9:12].decode()
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        if length:
            body = client.exactly(int(length[1]))
            outcome = status if len(body) == int(length[1]) else "cut"
        elif b"\r\nTransfer-Encoding: chunked\r\n" in head:
            body, outcome = b"", status
            while outcome == status:
                line = client.until(b"\r\n")
                if not line:
                    outcome = "cut"
                elif line == b"0\r\n":
                    self.assertEqual(b"\r\n", client.until(b"\r\n"))
                    break
                else:
                    body += client.exactly(int(line, 16))
                    self.assertEqual(b"\r\n", client.exactly(2))
        else:
            body, outcome = b"", status
            with contextlib.suppress(ConnectionResetError):
                while data := client.sock.recv(65536):
                    client.buffer += data
                body = client.buffer
                client.close()
                return outcome, body
            body, outcome = client.buffer, "cut"
        client.close()
        return outcome, body

    def check(self, framing: str, version: int = 1) -> None:
        """Break off behind each byte, by FIN and by RST."""
        head, body = _RESPONSES[framing]
        response = head + body

        def script(wire: Wire) -> None:
            count, _, how = wire.head().split(b" ")[1].rpartition(b"/")[2].partition(b"-")
            wire.send(response[: int(count)])
            end(wire, resets=how == b"RST")

        key = self.route(ScriptedUpstream(self, script))
        for count in range(len(response) + 1):
            for how in ("FIN", "RST"):
                outcome, got = self.outcome(key, f"{count}-{how}", version)
                what = (framing, count, how, got)
                if count < len(head):
                    self.assertEqual("502", outcome, what)
                    continue
                self.assertTrue(b"whole it".startswith(got), what)
                if framing == "close" and how == "FIN":  # that is the end, by definition: RFC 9112 §6.3
                    self.assertEqual(("200", body[: count - len(head)]), (outcome, got), what)
                elif framing != "close" and count == len(response):
                    self.assertEqual(("200", b"whole it"), (outcome, got), what)
                else:
                    self.assertEqual("cut", outcome, what)
        self.assert_alive()

    def test_with_a_length(self) -> None:
        """In the head it is 502, in the body the client has less than was announced."""
        self.check("length")

    def test_in_chunks(self) -> None:
        """In the head it is 502, in the body the client gets no last chunk."""
        self.check("chunked")

    def test_until_the_end(self) -> None:
        """Only a FIN is the end of a body that lasts until then."""
        self.check("close")
        self.check("close", version=0)

    def test_chunks_for_an_old_client(self) -> None:
        """To whom the end means that all is there: it gets a reset in place of one."""
        self.check("chunked", version=0)


class RequestTests(ProxyTestCase):
    """Requests that break off."""

    def test_by_the_client(self) -> None:
        """No upstream hears of a request whose head was cut, or can take a cut body for whole; its connection ends."""
        heads: Queue[bytes] = Queue()
        bodies: Queue[bytes] = Queue()

        def script(wire: Wire) -> None:
            heads.put(wire.head())
            bodies.put(wire.rest())

        for framing, (start, body) in _REQUESTS.items():
            upstream = ScriptedUpstream(self, script)
            head = start % self.route(upstream).encode()
            for count in range(1, len(head + body)):
                for resets in (False, True):
                    client = self.client()
                    client.send((head + body)[:count])
                    if count < len(head):
                        end(client, resets=resets)
                        continue
                    # A RST overtakes what was sent before it.
                    self.assertTrue(heads.get(timeout=PATIENCE_SECONDS).startswith(b"POST "))
                    end(client, resets=resets)
                    self.assert_no_whole(bodies.get(timeout=PATIENCE_SECONDS), framing, count)
            self.assert_alive()
            self.assertEqual(2 * len(body), upstream.connections)

    def assert_no_whole(self, body: bytes, framing: str, count: int) -> None:
        """What came to an upstream is not all of a body."""
        if framing == "length":
            self.assertLess(len(body), 8, (framing, count, body))
        else:
            self.assertNotIn(b"0\r\n", body, (framing, count, body))

    def test_by_the_upstream(self) -> None:
        """Whatever it has taken of a POST, the client gets one answer, and nobody is asked a second time."""
        seen: list[bytes] = []

        def script(wire: Wire) -> None:
            data = b""
            while not data.endswith(b"0\r\n\r\n" if b"chunked\r\n" in data else b"\r\n\r\nwhole it"):
                more = wire.sock.recv(65536)
                if not more:
                    return
                data += more
            seen.append(data)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        relay = FaultRelay(self, ScriptedUpstream(self, script).port)
        key = self.route(relay.url).encode()
        for framing, (head, body) in _REQUESTS.items():
            relay.up = NO_FAULT
            self.assertEqual(b"200", self.status_of(head % key + body))
            whole = len(seen[-1])
            most = len(seen)
            for count in range(whole + 1):
                for resets in (False, True):
                    relay.up = Fault(after=count, resets=resets)
                    most += count == whole
                    asked = relay.connections
                    status = self.status_of(head % key + body)
                    what = (framing, count, resets)
                    # At the last byte the answer and the end are on their way at the same time.
                    self.assertIn(status, (b"200", b"502") if count == whole else (b"502",), what)
                    self.assertLessEqual(len(seen), most, what)  # one may be seen later than its client has its 502
                    self.assertEqual(asked + 1, relay.connections, what)
            self.assert_alive()

    def status_of(self, request: bytes) -> bytes:
        """What `request` is answered, on a connection of its own."""
        client = self.client()
        client.send(request.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nConnection: close\r\n", 1))
        status = client.message()[0][9:12]
        client.close()
        return status


class TlsTests(TlsCase):
    """Clients over TLS whose connections break off in the handshake, or behind it."""

    def test_nothing_is_left(self) -> None:
        """Wherever they break off, in either direction, nobody is kept, and nothing unexpected happens."""
        upstream = ScriptedUpstream(self, answering())
        process = self.serve(self.listener() + f"api: {{port: 0, open: true}}\nroutes: {{/: {upstream.url}}}\n")
        port = self.port_of(process, "Proxying https")
        api_port = self.port_of(process, "Proxy API at http")
        relay = FaultRelay(self, port)
        outcomes = Counter[bool]()
        for direction in ("up", "down"):
            for count in [*range(12), *range(12, 3000, 67)]:
                for resets in (False, True):
                    relay.up = relay.down = NO_FAULT
                    setattr(relay, direction, Fault(after=count, resets=resets))
                    outcomes[self.is_answered(relay.port)] += 1
        self.assertGreater(outcomes[True], 20)
        self.assertGreater(outcomes[False], 100)

        def is_at_rest() -> bool:
            return b"\nproxyd_open_connections 0.0\n" in get(api_port, "/metrics")[1]

        process.wait_for(is_at_rest, "the end of all connections", 60, 0.2)
        self.assertNotIn("unexpected", process.log)
        self.assertNotIn("Traceback", process.log)

    def is_answered(self, port: int) -> bool:
        """Ask over TLS; whether there is a whole answer."""
        with contextlib.suppress(OSError):
            wire = self.secure(port)
            with contextlib.closing(wire):
                wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                return wire.message()[1] == b"ok"
        return False
