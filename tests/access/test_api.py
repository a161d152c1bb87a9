"""The API in a real process, and everybody who should not use it, or not like that."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from tests.integration.test_serve import CommandCase
from tests.support import CHECKOUT, accepts, free_ports, script
from tests.wire import Wire, connect, peak_bytes, resident_bytes

TOKEN = "aBcDeFgH-0123456789-xyz"
MIB = 1024 * 1024
GOOD = f"Authorization: token {TOKEN}\r\n".encode()


def _not_the_token() -> list[bytes]:
    """Fields that are not `Authorization: token TOKEN`, however near they come."""
    token = TOKEN.encode()
    words = [
        b"", token, b"token", b"token ", b"token:" + token, b"token=" + token, b"token" + token, b"token\t" + token,
        b"Token " + token, b"TOKEN " + token, b"tOkEn " + token, b"tokens " + token, b"Bearer " + token,
        b"bearer " + token, b"Basic " + token, b"Basic " + b64encode(b"admin:" + token), b"Basic " + b64encode(token),
        b"Basic " + b64encode(b":" + token), b"Digest username=" + token, b"Negotiate " + token, b"ApiKey " + token,
        b"x token " + token, b"token token " + token, b"token " + token + b" x", b"token x " + token,
        b"token " + token + b" " + token, b"token " + token + b"," + token, b"token " + token + b";",
        b"token " + token + b", token " + token, b'token "' + token + b'"', b"token '" + token + b"'",
        b"token <" + token + b">", b"token " + token[:-1], b"token " + token[1:], b"token " + token[:1],
        b"token " + token + b"x", b"token x" + token, b"token " + token.upper(), b"token " + token.lower(),
        b"token " + token.swapcase(), b"token " + token * 2, b"token " + token[::-1], b"token " + token + b"%00",
        b"token " + "".join(f"%{byte:02x}" for byte in token).encode(), b"token " + b64encode(token),
        b"token " + token.hex().encode(), b"token " + sha256(token).hexdigest().encode(), b"token null",
        b"token undefined", b"token None", b"token true", b"token *", b"token .*", b"token -", b"token 0", b"token []",
        b"token {}", b"token ' OR '1'='1", b"token ${PROXYD_AUTH_TOKEN}", b"token $PROXYD_AUTH_TOKEN",
        b"token file:token", b"token " + b"x" * 5000, b"token \xff\xfe", b"token " + token + b"\xe2\x80\x8b",
        b"token \xef\xbd\x81BcDeFgH", b"token " + b"\xc2\xa0" + token,
    ]  # fmt: skip
    others = [
        b"X-Authorization: token " + token, b"Proxy-Authorization: token " + token, b"Authorisation: token " + token,
        b"X-Auth-Token: " + token, b"X-Api-Key: " + token, b"Cookie: token=" + token, b"Authorization-: token " + token,
        b"Cookie: Authorization=token " + token, b"X-Forwarded-For: 127.0.0.1", b"X-Original-URL: /healthz",
        b"X-Forwarded-Authorization: token " + token, b"Authorization: token x\r\nAuthorization: token " + token,
        b"Connection: Authorization\r\nAuthorization: token x",
    ]  # fmt: skip
    return [b"", *(b"Authorization: " + word + b"\r\n" for word in words), *(other + b"\r\n" for other in others)]


_TARGETS = (
    "", " ", "x", "/x", "//h", "h:80", "localhost", "127.0.0.1:80", "http:", "http:/", "http://", "http:///x", "http://:80",
    "http://?", "http://#", "http://@", "http://u@", "ftp://h", "file:///etc/passwd", "file:///dev/zero", "gopher://h:70",
    "javascript:alert(1)", "data:text/html,x", "ws://h", "wss://h", "unix:/run/x", "http+unix://", "http+unix:///run/x",
    "http+unix://%00", "http+unix://%2F" + "x" * 200, "http://h:0", "http://h:65536", "http://h:99999", "http://h:-1",
    "http://h:x", "http://h:8 0", "http://h:80:80", "http://a b", "http://h\r\nX-Evil: y", "http://h/\nx", "http://h/\tx",
    "http://h\0", "http://[::1", "http://::1", "http://[zz]", "http://[::1]x", "http://h\\@evil", "http://a..b", "http://.",
    "http://" + "x" * 300, "http://" + "x." * 200, "http://%zz", "http://h%00", "http://\ud800", "HTTP//h",
)  # fmt: skip


class ApiCase(CommandCase):
    """A proxy whose API has a token."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self) -> None:
        """Start it."""
        server = self.start(f"listeners: [{{kind: http, port: 0}}]\napi: {{port: 0, token: {TOKEN}}}\n")
        self.process, self.port, self.api_port = server.process, server.port, server.api_port

    def connect(self) -> Wire:
        wire = connect(self.api_port)
        self.addCleanup(wire.close)
        return wire

    def call(self, method: str, path: str, body: bytes | None = None, fields: bytes = GOOD) -> tuple[int, bytes, bytes]:
        """Call the API: status, head and body."""
        wire = self.connect()
        length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
        wire.send(
            f"{method} {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n".encode() + fields + length + b"\r\n"
        )
        if body:
            with contextlib.suppress(OSError):  # it has been refused already
                wire.send(body)
        answer = wire.rest()
        wire.close()
        head, _, said = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), (method, path, answer[:200])
        return int(head[9:12]), head, said

    def routes(self) -> dict[str, Any]:
        status, _, body = self.call("GET", "/api/routes")
        self.assertEqual(200, status)
        routes: dict[str, Any] = json.loads(body)
        return routes

    def assert_alive(self) -> None:
        """Nothing happened that was not expected."""
        self.assertEqual({}, self.routes())
        self.assertTrue(self.process.is_running)
        for word in ("Traceback", "unexpected error"):
            self.assertNotIn(word, self.process.log)


class WithoutTheTokenTests(ApiCase):
    """Nobody gets past it."""

    def test_all_variants(self) -> None:
        """403 for every field that is not exactly it, before a body is read."""
        variants = _not_the_token()
        self.assertGreaterEqual(len(set(variants)), 70)
        for fields in variants:
            wire = self.connect()
            wire.send(b"POST /api/routes/x?token=%b HTTP/1.1\r\nHost: api\r\n" % TOKEN.encode() + fields)
            wire.send(b"Expect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n")
            self.assertEqual(b"HTTP/1.1 403 ", wire.rest()[:13], fields)
            self.assertEqual(403, self.call("GET", "/api/routes", fields=fields)[0], fields)
        self.assert_alive()
        self.assertNotIn(TOKEN, self.process.log)

    statuses: tuple[int, ...] = (403,)

    def test_all_calls(self) -> None:
        """Every function of the API wants it; nothing is told and nothing happens."""
        described = json.loads((CHECKOUT / "proxyd" / "api" / "openapi.json").read_text())["paths"]
        calls = [
            (method.upper(), path.replace("{key}", "x").replace("{name}", "y"))
            for path, methods in described.items()
            for method in methods
            if method != "parameters"
        ]
        self.assertGreater(len(calls), 30)
        for method, path in calls:
            for fields in (b"", b"Authorization: token x\r\n"):
                status, head, body = self.call(
                    method, path, b"" if method in ("POST", "PUT", "PATCH") else None, fields
                )
                self.assertIn(status, self.statuses, (method, path, head))
                self.assertNotIn(b"127.0.0.1", body)
        self.assert_alive()

    def test_the_public_side_has_no_api(self) -> None:
        """Whatever is shown there, and however it is spelled."""
        for path in ("/api/routes", "/api", "/metrics", "//api/routes", "/%61pi/routes", "/x/../api/routes"):
            for host in ("test", f"127.0.0.1:{self.api_port}"):
                wire = connect(self.port)
                wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n".encode() + GOOD + b"\r\n")
                self.assertEqual(b"HTTP/1.1 404 ", wire.rest()[:13], path)
                wire.close()


class SenselessTests(ApiCase):
    """With the token, but not as it should be."""

    def test_targets(self) -> None:
        """Where nobody can ever be reached is refused when it is posted, and not when it is asked for."""
        for target in _TARGETS:
            for member in ("target", "upstream"):
                status, _, body = self.call("POST", "/api/routes/x", json.dumps({member: target}).encode())
                self.assertEqual(400, status, target)
                self.assertIn(b"target", body, target)
        self.assert_alive()

    def test_paths(self) -> None:
        """A path that is none is answered; whatever is taken is told, and can be deleted."""
        paths = (
            "/%", "/%z", "/%zz", "/%4", "/a%", "/%ff%fe", "/%C3", "/%ED%A0%80", "/%F8%88%80%80%80", "/a%e9", "/%c0%af",
            "/" + "x" * 5000, "/" + "%41" * 2000,
        )  # fmt: skip
        for path in paths:
            for method in ("GET", "POST", "PATCH", "DELETE"):
                body = b'{"target": "http://h"}' if method in ("POST", "PATCH") else None
                self.assertIn(self.call(method, "/api/routes" + path, body)[0], (400, 414), (method, path))
        for odd in ("/%00", "/%0d%0aX:y", "/%1b[31m", "/%E2%80%AE", "/<script>", "/../../etc", "/a//b", "/%2e%2e/x"):
            path = quote(odd, safe="/%")
            status, head, _ = self.call("POST", "/api/routes" + path, b'{"target": "http://127.0.0.1:1"}')
            self.assertIn(status, (201, 400, 404), path)
            self.assertNotIn(b"X:y", head)
            for key in self.routes():
                self.assertEqual(204, self.call("DELETE", "/api/routes" + quote(key))[0], key)
        self.assert_alive()
        for word in ("\x1b[31m", "\r"):
            self.assertNotIn(word, self.process.log)

    def test_bodies(self) -> None:
        """What is no object with a target is refused with a reason."""
        target = b'"target": "http://h"'
        bodies = (
            b"", b" ", b"{", b"}", b"null", b"true", b"[]", b"[{}]", b"0", b'"x"', b"{}", b"\x00", b"\xff\xfe{}",
            b'{"target": 0}', b'{"target": null}', b'{"target": []}', b'{"target": {"target": "http://h"}}',
            b"{%b, \"x\": NaN}" % target, b"{%b, \"x\": Infinity}" % target, b"{%b, \"x\": 1e999}" % target,
            b"{%b, \"x\": %b}" % (target, b"9" * 5000), b"{%b, \"x\": %b}" % (target, b"[" * 100_000),
            b"{%b, \"x\": %b%b}" % (target, b"[" * 100_000, b"]" * 100_000), b"[" * 1_000_000, b"{%b} x" % target,
            b"{%b}{%b}" % (target, target), b"target=http://h", b"<target>http://h</target>",
            b"{%b, \"auth\": {\"kind\": \"nobody\"}}" % target, b"{%b, \"timeouts\": {\"connect\": \"x\"}}" % target,
            b"{%b, \"request_headers\": {\"set\": {\"X\": \"a\\r\\nB: c\"}}}" % target,
            b"{%b, \"host\": [\"h\"]}" % target,
        )  # fmt: skip
        for body in bodies:
            status, _, said = self.call("POST", "/api/routes/x", body)
            self.assertEqual(400, status, body[:80])
            self.assertTrue(json.loads(said)["message"], body[:80])
        for body in (
            b"[]",
            b'{"/a": 3}',
            b'{"/a": {"target": "x"}}',
            b'{"/%00": []}',
            b'{"/a": {"target": "http://h"}, "/b": 1}',
        ):
            self.assertEqual(400, self.call("PUT", "/api/routes", body)[0], body)
        self.assert_alive()

    def test_depths(self) -> None:
        """An object is taken up to 200 levels, and refused beyond; a change that is merged into it as well."""
        for depth in (*range(1, 1000, 37), *range(900, 1000, 7)):
            nested = b'{"target": "http://h", "x": %b1%b}' % (b'{"a": ' * depth, b"}" * depth)
            taken = self.call("POST", "/api/routes/x", nested)[0]
            self.assertEqual(201 if depth < 200 else 400, taken, depth)
            for method in ("PATCH", "PUT"):
                body = b'{"/x": %b}' % nested if method == "PUT" else nested
                path = "/api/routes" if method == "PUT" else "/api/routes/x"
                expected = (200, 204) if depth < 200 else (400,)
                self.assertIn(self.call(method, path, body)[0], expected, (method, depth))
            self.call("DELETE", "/api/routes/x")
        self.assert_alive()

    def test_sizes(self) -> None:
        """More than the limits is refused, announced or in chunks, and costs no memory to speak of."""
        before = resident_bytes(self.process.pid)
        self.assertEqual(413, self.call("POST", "/api/routes/x", bytes(17 * MIB))[0])
        wire = self.connect()
        wire.send(b"POST /api/routes/x HTTP/1.1\r\nHost: api\r\n" + GOOD + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):  # it has been refused already
            for _ in range(40):
                wire.send(b"100000\r\n" + bytes(MIB) + b"\r\n")
        self.assertEqual(b"HTTP/1.1 413 ", wire.rest()[:13])
        self.assertLess(peak_bytes(self.process.pid) - before, 48 * MIB)  # of `limits.api_body`, 16 MiB, some copies
        self.assert_alive()


class ChpTests(WithoutTheTokenTests):
    """The same of `proxyd chp`, which has fewer functions."""

    statuses = (403, 404, 405)

    def begin(self) -> None:
        self.environ["CONFIGPROXY_AUTH_TOKEN"] = TOKEN
        self.port, self.api_port = free_ports(2)
        words = ["--ip", "127.0.0.1", "--port", str(self.port), "--api-port", str(self.api_port)]
        self.process = self.launch(script("proxyd"), "chp", *words)
        self.process.wait_for(lambda: accepts(self.port) and accepts(self.api_port), "both ports", 30)
