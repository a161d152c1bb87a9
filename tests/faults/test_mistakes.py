"""Mistakes of ours: one exchange fails because of each, its client learns of it, and nothing else happens."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from proxyd.core.forward import ForwardPlan
from proxyd.http.accesslog import CombinedLog
from proxyd.http.errortarget import ErrorTarget
from proxyd.http.request import Request
from proxyd.http.site import Site
from proxyd.model.settings import Config, ErrorSettings
from proxyd.upstream.pools import UpstreamPool
from proxyd.websocket.tunnel import Tunnel
from tests.faults.scripts import HANDSHAKE, OK, SWITCHING, breaking
from tests.http.support import GET, DataPathTestCase
from tests.integration.test_serve import OPEN, CommandCase, Server
from tests.support import wait_for
from tests.wire import ScriptedUpstream, connect, get, open_descriptors

POST = b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\nhalf"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"

# A proxyd in which functions of the data path raise for paths that name them.
_MISTAKEN = """
from functools import wraps
from proxyd.core.forward import ForwardPlan
from proxyd.http.accesslog import CombinedLog
from proxyd.http.exchange import Exchange
from proxyd.upstream.pools import UpstreamPool
from proxyd.websocket.tunnel import Tunnel

def mistaken(owner, name):
    real = getattr(owner, name)

    @wraps(real)
    def perhaps(self, *words, **named):
        request = getattr(self, "_request", words[0] if words else None)
        head = getattr(request, "head", request)
        if name.encode() in getattr(head, "target", getattr(self, "label", "").encode()):
            raise ValueError(name)
        return real(self, *words, **named)

    setattr(owner, name, perhaps)

mistaken(ForwardPlan, "request_head")
mistaken(Exchange, "response_started")
mistaken(Exchange, "response_continued")
mistaken(Exchange, "body_received")
mistaken(CombinedLog, "write")
mistaken(Tunnel, "join")
from proxyd.cli import main
main()
"""


class _MistakeError(Exception):
    """What the code under test raises."""


def _raise(*_: object, **__: object) -> Any:
    raise _MistakeError


class ExchangeTests(DataPathTestCase):
    """A function of the data path that raises, in memory."""

    @contextlib.contextmanager
    def mistaken(self, owner: type, name: str, *, logged: bool = True) -> Iterator[None]:
        """A function that raises; the log tells of it, unless it is up to a real transport to do so."""
        patch = self.patch(owner, name, _raise)
        yield
        patch.restore()
        self.assertEqual(logged, bool(self.flushLoggedErrors(_MistakeError)))

    def test_while_the_request_is_made(self) -> None:
        """500, on an idle connection as on a new one, and the connection to the upstream does not stay behind."""
        client, upstream = self.begin()
        upstream.send(OK)
        self.assert_status(200, client)
        for number in (1, 2):
            with self.mistaken(ForwardPlan, "request_head"):
                client.send(GET)
                if number == 2:
                    upstream = self.proxy.accept()
                self.assert_status(500, client)
            self.assert_ended(upstream)

    def test_while_the_answer_is_made(self) -> None:
        """500, whether it came in one piece or not."""
        for answer in (OK, ANSWER):
            client, upstream = self.begin()
            with self.mistaken(ForwardPlan, "response_head"):
                upstream.send(answer)
                self.assert_status(500, client)
            self.assert_ended(upstream)

    def test_in_the_middle_of_an_answer(self) -> None:
        """The client gets what was sent, and the end; the upstream is let go."""
        client, upstream = self.begin()
        upstream.send(ANSWER)
        self.assertTrue(client.pop().endswith(b"half"))
        with self.mistaken(type(client), "write"):
            upstream.send(b"done")
        self.assertEqual(b"", client.pop())
        self.assert_ended(client)
        self.assert_ended(upstream)

    def test_at_the_end_of_an_answer(self) -> None:
        """What the client got is whole; the connection ends, because nobody knows what it is in the middle of."""
        client, upstream = self.begin()
        with self.mistaken(CombinedLog, "write"):
            upstream.send(OK)
        self.assert_status(200, client)
        self.assert_ended(client)
        self.assertEqual(0, self.proxy.pools.idle)

    def test_when_an_upstream_fails(self) -> None:
        """Neither its end nor its silence leaves a client waiting."""
        for how in ("close", "reset", "silence"):
            client, upstream = self.begin()
            with self.mistaken(Request, "fail"):
                if how == "silence":
                    self.proxy.advance(301)
                else:
                    getattr(upstream, how)()
                self.assert_ended(client)

    def test_when_it_is_tried_again(self) -> None:
        """500 when there should be a second attempt."""
        client, upstream = self.begin()
        upstream.send(OK)
        self.assert_status(200, client)
        client.send(GET)
        with self.mistaken(UpstreamPool, "connect"):
            upstream.close()
            self.proxy.advance()
            self.assert_status(500, client)

    def test_when_a_tunnel_begins(self) -> None:
        """Nothing is written into it; both sides end."""
        client, upstream = self.begin(HANDSHAKE % b"/")
        with self.mistaken(Tunnel, "join"):
            upstream.send(SWITCHING)
        self.assertNotIn(b" 500 ", client.pop())
        self.assert_ended(client)
        self.assert_ended(upstream)

    def test_in_the_upload(self) -> None:
        """The upstream does not see the end of the body."""
        client, upstream = self.begin(POST)
        upstream.pop()
        with self.mistaken(type(upstream), "write", logged=False):
            self.assertRaises(_MistakeError, client.send, b"done")  # a transport ends its connection then
        client.reset()
        self.assert_ended(upstream)
        self.assertEqual(b"", upstream.pop())

    def test_when_the_client_leaves(self) -> None:
        """The upstream is let go, whatever else goes wrong then."""
        client, upstream = self.begin()
        with self.mistaken(Site, "exchange_done", logged=False):
            self.assertRaises(_MistakeError, client.protocol.connectionLost)
        self.assert_ended(upstream)

    def test_in_the_body_of_a_client_that_takes_nothing(self) -> None:
        """Its connection ends as soon as it has taken what was sent before its mistake, and not much later."""
        head = b"POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        client, upstream = self.begin(head + b"4\r\nhalf\r\n")
        client.stall()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000))
        upstream.send(bytes(100_000))
        self.assertFalse(upstream.is_reading)
        client.send(b"nonsense\r\n")
        self.assert_ended(upstream)
        client.take()
        self.assert_ended(client)


class ErrorTargetTests(DataPathTestCase):
    """A mistake in the page of a page."""

    config = Config(errors=ErrorSettings(target="http://errors.test:82"))

    def test_the_client_is_let_go(self) -> None:
        """And so is the target."""
        client, upstream = self.begin()
        upstream.close()
        self.proxy.advance()
        patch = self.patch(ErrorTarget, "request_head", _raise)
        target = self.proxy.accept()
        patch.restore()
        self.assertEqual(1, len(self.flushLoggedErrors(_MistakeError)))
        self.assert_ended(client)
        self.assert_ended(target)


class ProcessTests(CommandCase):
    """The same in a real process, which goes on."""

    def test_it_goes_on(self) -> None:
        """Each client gets a 500 or an end, others are served meanwhile, and no connection stays behind."""
        upstream = ScriptedUpstream(self, breaking)
        path = self.write(f"{OPEN}routes: {{/: {upstream.url}}}\npool: {{idle_seconds: 0.2}}\n")
        server = Server(self.launch(sys.executable, "-c", _MISTAKEN, "serve", "--config", str(path)))
        pid = server.process.pid
        self.assertEqual(b"ok", get(server.port, "/ok")[1])
        at_rest = wait_for(lambda: open_descriptors(pid), "descriptors")
        other = connect(server.port)
        requests = {  # by the functions that raise
            "request_head": b"GET /request_head/ok HTTP/1.1\r\nHost: a\r\n\r\n",
            "response_started": b"GET /response_started/ok HTTP/1.1\r\nHost: a\r\n\r\n",
            "response_continued": b"GET /response_continued/endless HTTP/1.1\r\nHost: a\r\n\r\n",
            "body_received": b"POST /body_received/ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
            b"Expect: 100-continue\r\n\r\n",
            "write": b"GET /write/ok HTTP/1.1\r\nHost: a\r\n\r\n",
            "join": HANDSHAKE % b"/join/echo",
        }
        for name, request in requests.items():
            for _ in range(5):
                client = connect(server.port)
                client.send(request)
                if name == "body_received":
                    self.assertIn(b" 100 ", client.head())
                    client.send(b"body")
                if name in {"request_head", "response_started"}:
                    self.assertIn(b" 500 ", client.message()[0])
                else:
                    self.assertNotIn(b" 500 ", client.rest())
                client.close()
                other.send(b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertEqual(b"ok", other.message()[1], name)
            server.process.wait_for_log(f"ValueError: {name}")
        other.close()
        server.process.wait_for(lambda: open_descriptors(pid) <= at_rest, "all descriptors are given back", 20)
        self.assertEqual(server.stop(), 0)
