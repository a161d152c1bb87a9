"""Tests of `proxyd.http.patterns`: the Apache recipe (contract of managed servers, section 16), in memory."""

from __future__ import annotations

from typing import Any

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.errors import ConnectError
from proxyd.testing.harness import Harness
from proxyd.testing.transports import MemoryTransport

from .support import OK, DataPathTestCase
from .test_ports import UPGRADE

ONE_RULE = """
patterns:
  - pattern: /ipython/(?P<port>[0-9]+)/.*
    allow: {port: 1024-65535}
    upstream: http://127.0.0.1:{port}
    change_origin: true
    request_headers: {set: {Origin: "http://127.0.0.1:{port}"}}
    response_headers: {set: {Origin: "http://127.0.0.1:{port}"}}
"""
TWO_RULES = """
patterns:
  - pattern: /ipython/(?P<port>[0-9]+)/api/kernels/.*
    allow: {port: 1024-65535}
    upstream: ws://127.0.0.1:{port}
    change_origin: true
    request_headers: {set: {Origin: "http://127.0.0.1:{port}"}}
    response_headers: {set: {Origin: "http://127.0.0.1:{port}"}}
  - pattern: /ipython/(?P<port>[0-9]+)/.*
    allow: {port: 1024-65535}
    upstream: http://localhost:{port}
    change_origin: true
    request_headers: {set: {Origin: "http://127.0.0.1:{port}"}}
    response_headers: {set: {Origin: "http://127.0.0.1:{port}"}}
"""


class PatternTestCase(DataPathTestCase):
    """A proxy with the patterns of a file."""

    def use(self, text: str) -> None:
        """Begin anew with these patterns."""
        self.proxy = Harness(routes={}, config=parse(text, KINDS))

    def get(self, target: str, fields: str = "", method: str = "GET") -> MemoryTransport:
        """A client that has asked."""
        self.proxy.pools.close()
        client = self.proxy.client()
        client.send(f"{method} {target} HTTP/1.1\r\nHost: public.test\r\n{fields}\r\n".encode())
        return client

    def asked(self, target: str, fields: str = "", method: str = "GET") -> tuple[str, bytes]:
        """Who was called for a request, and what he got."""
        self.get(target, fields, method)
        return str(self.proxy.dialer.dials[-1].upstream), self.proxy.accept().pop()


class RecipeTests(PatternTestCase):
    """The recipe as one rule, and as the two of the original."""

    def test_who_answers(self) -> None:
        """The first rule that matches decides on the name, the port in the path on the port; the path stays."""
        for text, name in ((ONE_RULE, "127.0.0.1"), (TWO_RULES, "localhost")):
            self.use(text)
            for target, host in {
                "/ipython/8888/api/kernels/1/channels?session_id=2": "127.0.0.1",
                "/ipython/8888/api/kernels/": "127.0.0.1",
                "/ipython/8888/api/kernels": name,
                "/ipython/8888/": name,
                "/ipython/8888/a%2Fb//c?x=%2F": name,
            }.items():
                called, got = self.asked(target)
                self.assertEqual((f"{host}:8888", target), (called, got.split(b" ")[1].decode()))

    def test_origin_and_host_are_rewritten(self) -> None:
        """Set on the request, whatever the client sent; Host is that of the upstream; both kinds of requests."""
        for text in (ONE_RULE, TWO_RULES):
            self.use(text)
            for origin in ("", "Origin: https://public.test\r\n", "Origin: a\r\norigin: b\r\n"):
                for fields in ("", UPGRADE):
                    called, got = self.asked("/ipython/8888/api/kernels/1/channels", origin + fields)
                    self.assertEqual([b"Origin: http://127.0.0.1:8888"], _lines(got, b"origin"))
                    self.assertEqual([f"Host: {called}".encode()], _lines(got, b"host"))
                    self.assertEqual([b"X-Forwarded-Host: public.test"], _lines(got, b"x-forwarded-host"))
                    self.assertEqual([b"X-Forwarded-For: 192.0.2.1"], _lines(got, b"x-forwarded-for"))

    def test_the_response_gets_an_origin(self) -> None:
        """That of the rule, in place of the upstream's own; on a 101 too."""
        self.use(ONE_RULE)
        client = self.get("/ipython/8888/")
        self.proxy.accept().send(OK.replace(b"Date: now", b"Date: now\r\nOrigin: other"))
        self.assertEqual([b"Origin: http://127.0.0.1:8888"], _lines(self.assert_status(200, client), b"origin"))
        client = self.get("/ipython/8888/", UPGRADE)
        self.proxy.accept().send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Protocol: chosen\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        answer = self.assert_status(101, client)
        self.assertEqual([b"Origin: http://127.0.0.1:8888"], _lines(answer, b"origin"))
        self.assertIn(b"\r\nSec-WebSocket-Protocol: chosen\r\n", answer)

    def test_the_request_decides_on_the_protocol(self) -> None:
        """A `ws://` upstream takes plain requests, a `http://` one handshakes."""
        self.use(TWO_RULES)
        _, got = self.asked("/ipython/8888/api/kernels/1/interrupt", "Content-Length: 0\r\n", "POST")
        self.assertTrue(got.startswith(b"POST /ipython/8888/api/kernels/1/interrupt HTTP/1.1\r\n"))
        self.assertEqual([], _lines(got, b"upgrade"))
        _, got = self.asked("/ipython/8888/terminals/websocket/1", UPGRADE)
        self.assertEqual([b"Upgrade: websocket"], _lines(got, b"upgrade"))

    def test_refusals(self) -> None:
        """403 outside of the range, 400 for what is no port, 404 for what does not match; nobody is called."""
        for text in (ONE_RULE, TWO_RULES):
            self.use(text)
            for target, status in {
                "/ipython/80/": 403, "/ipython/1023/api/kernels/1": 403, "/ipython/0/": 400, "/ipython/65536/": 400,
                "/ipython/99999999999999999999/": 400, "/ipython/08888/": 400, "/ipython/x/": 404, "/ipython/8888": 404,
                "/ipython//": 404, "/ipython/88%38/": 404, "/": 404, "/other/8888/": 404,
            }.items():  # fmt: skip
                for fields in ("", UPGRADE):
                    self.assert_status(status, self.get(target, fields))
            self.assertEqual([], self.proxy.dialer.dials)

    def test_the_upstreams_own_refusal_passes(self) -> None:
        """Its 403 with its body; nobody listening is 502."""
        self.use(ONE_RULE)
        client = self.get("/ipython/8888/api/kernels/1/channels", UPGRADE)
        self.proxy.accept().send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!")
        self.assertTrue(self.assert_status(403, client).endswith(b"no!"))
        client = self.get("/ipython/8888/")
        self.proxy.dialer.dials[-1].fail(ConnectError("127.0.0.1:8888", "refused"))
        self.assert_status(502, client)


class OptionTests(PatternTestCase):
    """What else can be said."""

    def test_options_of_a_route(self) -> None:
        """They hold, own and default ones."""
        self.use(
            r"""
route_defaults: {request_headers: {set: {X-Brace: "{name}"}}, timeouts: {connect: 7s}}
patterns:
  - {pattern: "/a/(?P<name>[^/]+)", upstream: "http://a.test/base/{name}", websocket: off}
  - pattern: "/b/(?P<name>[a-z]+)/(?P<rest>.*)"
    upstream: http://{name}.apps.test:81/base
    path: /{rest}
    prepend_path: false
    rewrite_location: {host: true}
    timeouts: {connect: 3s}
"""
        )
        called, got = self.asked("/a/x%20y")
        self.assertEqual(("a.test:80", [b"X-Brace: {name}"]), (called, _lines(got, b"x-brace")))
        self.assertTrue(got.startswith(b"GET /base/x%20y/a/x%20y HTTP/1.1\r\nHost: public.test\r\n"), got)
        self.assertEqual(7, self.proxy.dialer.dials[-1].seconds)
        self.assert_status(403, self.get("/a/x", UPGRADE))
        client = self.get("/b/ann/c/d?q")
        upstream = self.proxy.accept()
        self.assertTrue(upstream.pop().startswith(b"GET /c/d?q HTTP/1.1\r\n"))
        self.assertEqual(
            ("ann.apps.test:81", 3), (str(self.proxy.dialer.dials[-1].upstream), self.proxy.dialer.dials[-1].seconds)
        )
        upstream.send(b"HTTP/1.1 302 Found\r\nLocation: http://ann.apps.test:81/x\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"\r\nLocation: http://public.test/x\r\n", self.assert_status(302, client))

    def test_resources_are_bounded(self) -> None:
        """Whoever walks through all captures leaves little behind."""
        self.use(ONE_RULE)
        for port in range(2000, 4000):
            client = self.get(f"/ipython/{port}/")
            self.proxy.dialer.dials.pop().fail(ConnectError("x", "refused"))
            self.assert_status(502, client)
            client.close()
        self.assertLessEqual(len(self.proxy.pools._pools), 257)

    def test_connections_are_kept(self) -> None:
        """One for both of two requests that lead to the same place."""
        self.use(ONE_RULE)
        client = self.get("/ipython/8888/a")
        upstream = self.proxy.accept()
        upstream.send(OK)
        client.pop()
        upstream.pop()
        client.send(b"GET /ipython/8888/b HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(upstream.pop().startswith(b"GET /ipython/8888/b "))


def _lines(head: bytes, name: bytes) -> list[Any]:
    """The lines of the fields called `name`."""
    return [line for line in head.split(b"\r\n") if line.lower().startswith(name + b":")]
