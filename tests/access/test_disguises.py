"""Hosts, paths, cookies and lines that are not what they seem, in a real process."""

from __future__ import annotations

import re
from urllib.parse import quote

from proxyd.core.sealed import Sealer
from tests.access.recording import RecordingUpstream
from tests.integration.test_serve import CommandCase
from tests.support import CHECKOUT
from tests.wire import connect

TOKEN = "correct-horse-battery"
HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
# All of them mean this machine, or an evil one, to somebody; none of them is a name on the list.
_HOSTS = (
    "127.1", "127.0.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "0", "0.0.0.0", "127.0.0.2",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "[0:0:0:0:0:0:0:1]", "%5B::1%5D", "::1", "localhost.",
    "localhost..",
    "LOCALHOST.", "localhost%2e", "localhost%00", "localhost%00.evil.test", "localhost%20", "%20localhost",
    "localhost%09",
    "localhost%0d%0aX:%20y", "localhost%23", "localhost%3f", "localhost%2f", "localhost%5c", "allowed@127.0.0.2",
    "localhost@evil.test", "localhost%40evil.test", "evil.test%40localhost", "user:pw@localhost",
    "localhost%23@evil.test",
    "localhost:80@evil.test", "evil%2elocalhost", "evil%2etest", "localhost.evil.test", "evil.test%23localhost",
    "127.0.0.1.nip.io", "127%2e0.0.1.", "169.254.169.254", "metadata.google.internal", "%e2%91%a0.test",
    "localhost%ef%bc%8e",

    "l%c5%8dcalhost", "loc%61lhost%2500", "..", "%2e%2e", "*", "localhost,evil.test", "localhost;evil.test",
)  # fmt: skip


class DisguiseCase(CommandCase):
    """A recording upstream that nothing may reach."""

    def setUp(self) -> None:
        super().setUp()
        self.recorder = RecordingUpstream(self)

    def serve(self, more: str) -> None:
        """Start it."""
        head = "listeners: [{kind: http, port: 0}]\napi: {port: 0, open: true}\n"
        self.server = self.start(f"{head}state_directory: {self.directory}/state\n{more}")

    def ask(self, target: str, fields: str = "", method: str = "GET", body: str = "") -> tuple[bytes, bytes]:
        """One request."""
        wire = connect(self.server.port)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        wire.send(
            f"{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}{length}\r\n{body}".encode("utf-8", "surrogateescape")
        )
        answer = wire.message()
        wire.close()
        return answer


class HostTests(DisguiseCase):
    """`/proxy/HOST:PORT`."""

    def test_hosts(self) -> None:
        """Whatever resolves to a listed host, or only looks like one, is refused unless it is written like it."""
        self.serve("ports: {enabled: true}\n")
        port = self.recorder.port
        for host in _HOSTS:
            for form in ("/proxy/{}:{}/", "/proxy/absolute/{}:{}/", "/proxy/{}%3A{}/", "//proxy/{}:{}/x"):
                for fields in ("", HANDSHAKE):
                    target = form.format(host, port)
                    head, _ = self.ask(target, fields)
                    self.assertIn(head[9:12], (b"400", b"403", b"404"), target)
                    self.assertNotIn(b"X: y", head)
        self.assertEqual((b"", 0), (self.recorder.seen, self.recorder.connections))
        for host in ("localhost", "127.0.0.1", "LocalHost", "loc%61lhost"):
            self.assertEqual(b"200", self.ask(f"/proxy/{host}:{port}/")[0][9:12], host)

    def test_function_that_fails(self) -> None:
        """A list that is a function, and raises, is a no; and it does not hear of hosts that are none."""
        self.write("import sys\n\ndef decide(handler, host):\n    raise RuntimeError(host)\n", "decisions.py")
        self.serve(
            f"python_path: ['{self.directory}', '{CHECKOUT}']\n"
            "ports: {enabled: true, hosts: !python decisions:decide}\n"
        )
        for host in ("localhost", "127.0.0.1", "evil.test"):
            for fields in ("", HANDSHAKE):
                head, body = self.ask(f"/proxy/{host}:{self.recorder.port}/", fields)
                self.assertEqual(b"403", head[9:12], host)
                self.assertNotIn(b"RuntimeError", body)
        self.assertEqual(0, self.recorder.connections)
        self.assertEqual(b"200", self.ask(f"/proxy/{self.recorder.port}/")[0][9:12])


class LoginTests(DisguiseCase):
    """Where a login leads, and whose it is."""

    def setUp(self) -> None:
        super().setUp()
        self.serve(f"auth: {{kind: token, token: {TOKEN}}}\nroutes: {{/app: '{self.recorder.url}'}}\n")

    def test_next(self) -> None:
        """To a path of the proxy, however the query puts it."""
        evil = (
            "//evil.test", "///evil.test", "////evil.test/", "/\\evil.test", "\\\\evil.test", "\\/evil.test",
            "/%09/evil.test",
            "/\t/evil.test", "/\n/evil.test", "/\r\n/evil.test", "\t//evil.test", " //evil.test", "https:evil.test",
            "https://evil.test", "HTTPS://evil.test", "http:///evil.test", "//evil.test@test/", "//test@evil.test",
            "@evil.test",
            "test@evil.test", "javascript:alert(1)", "data:text/html,x", "/x\r\nSet-Cookie: a=b", "/x\r\n\r\n<script>",
            "/%2f/evil.test", "/%2fevil.test", "/%5cevil.test", "/\u2215evil.test", "//evil%2etest",
            "//\u3002evil.test", "evil.test",
            "?//evil.test", "#//evil.test", "/app/..//evil.test", "", "/.proxyd/logout", "/.//evil.test",
            "/app/\\..\\..\\evil",
        )  # fmt: skip
        for target in evil:
            for escaped in (quote(target, safe=""), quote(quote(target, safe=""), safe="")):
                head, _ = self.ask(
                    f"/.proxyd/login?next={escaped}",
                    "Content-Type: application/x-www-form-urlencoded\r\n",
                    "POST",
                    f"token={TOKEN}",
                )
                self.assertEqual(b"303", head[9:12], (target, head))
                (location,) = re.findall(rb"\r\nLocation: ([^\r]*)\r\n", head)
                self.assertRegex(location, rb"^/(?![/\\])[!-~]*$", target)
                self.assertNotRegex(location.lower(), rb"^/(%2f|%5c)", target)
                self.assertEqual(1, head.count(b"Set-Cookie"), target)
                self.assertNotEqual(b"/.proxyd/logout", location)
        head, _ = self.ask(f"/.proxyd/login?next={quote('/app/a?b=c', safe='')}", "", "POST", f"token={TOKEN}")
        self.assertIn(b"\r\nLocation: /app/a?b=c\r\n", head)

    def test_tossed_cookies(self) -> None:
        """Of two cookies with one name the one that verifies counts, in any order; a forged one alone does not."""
        key = bytes.fromhex((self.directory / "state" / "cookie-key").read_text())
        good = f"proxyd-login={Sealer(key, b'token login', b'', TOKEN.encode()).seal(b'', 4e9).decode()}"
        forged = f"proxyd-login={good[-40:]}"
        for fields in (
            f"Cookie: {good}; {forged}\r\n", f"Cookie: {forged}; {good}\r\n", f"Cookie: {forged}\r\nCookie: {good}\r\n",
            f"Cookie: a=b; {forged};{good}; c=d\r\n",
        ):  # fmt: skip
            self.assertEqual(b"200", self.ask("/app", fields)[0][9:12], fields)
        self.assertNotIn(b"proxyd-login", self.recorder.seen)
        before = self.recorder.seen
        for fields in (f"Cookie: {forged}; {forged}\r\n", f"Cookie: x{good}\r\n", f"Cookie: {good}x; {forged}\r\n"):
            self.assertEqual(b"401", self.ask("/app", fields)[0][9:12], fields)
        self.assertEqual(before, self.recorder.seen)

    def test_other_sites(self) -> None:
        """The table of Sec-Fetch-Site, Sec-Fetch-Mode, Origin and Referer: a login is not used by pages of others."""
        key = bytes.fromhex((self.directory / "state" / "cookie-key").read_text())
        good = f"Cookie: proxyd-login={Sealer(key, b'token login', b'', TOKEN.encode()).seal(b'', 4e9).decode()}\r\n"
        foreign = (
            "Sec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-site\r\n",
            "Sec-Fetch-Site: cross-site\r\nOrigin: http://test\r\n",
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", "Sec-Fetch-Site: nonsense\r\n",
            "Origin: null\r\n",
            "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n", "Origin: http://evil.test\r\n",
            "Origin: http://test.evil\r\n",
            "Origin: http://eviltest\r\n", "Origin: http://test:81\r\n", "Origin: http://test@evil.test\r\n",
            "Origin: \r\n",
            "Origin: http://test, http://evil.test\r\n", "Origin: http://test\r\nOrigin: http://evil.test\r\n",
            "Referer: http://evil.test/http://test/\r\n",
            "Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: cross-site\r\nOrigin: null\r\n",
        )  # fmt: skip
        for fields in foreign:
            # A WebSocket without an Origin is none of a browser's, which always sends one.
            sockets = () if fields.startswith("Referer") else (("GET", HANDSHAKE),)
            for method, more in (("POST", ""), ("PUT", ""), ("DELETE", ""), ("PATCH", ""), *sockets):
                head, _ = self.ask("/app", good + fields + more, method)
                self.assertEqual(b"403", head[9:12], (method, fields, head))
            for path in ("/.proxyd/login", "/.proxyd/logout"):
                self.assertEqual(
                    b"403", self.ask(path, good + fields, "POST", f"token={TOKEN}")[0][9:12], (path, fields)
                )
        self.assertEqual(b"", self.recorder.seen)
        for fields in ("", "Sec-Fetch-Site: same-origin\r\n", "Origin: http://test\r\n", "Referer: http://test/x\r\n"):
            self.assertEqual(b"200", self.ask("/app", good + fields, "POST")[0][9:12], fields)


class LineTests(DisguiseCase):
    """The log."""

    def test_lines(self) -> None:
        """No line is longer than 4 KiB and a bit, none is forged, and no control character gets into one."""
        for form in ("combined", "json"):
            self.serve(
                f"auth: {{kind: token, token: {TOKEN}}}\nroutes: {{/app: '{self.recorder.url}'}}\n"
                f"log: {{level: debug, access: {form}}}\n"
            )
            long = "x" * 7000
            odd = "\x1b[31m\x85\u2028\x7f".encode("utf-8").decode("latin-1")
            for fields in (
                f"User-Agent: {long}\r\n",
                f"Referer: {long}\r\n",
                f'User-Agent: {odd} " - \\\r\n',
                f"X-Forwarded-For: {long}\r\n",
            ):
                self.ask("/app", fields + f"Authorization: Bearer {TOKEN}\r\n")
                self.ask("/app", fields)
            self.ask(f"/app/{long}")
            self.ask("/app/%0d%0a2026-11-30T00:00:00.000Z%20info%20forged", f"Authorization: Bearer {TOKEN}\r\n")
            self.ask("/nowhere/%0aforged%1b[31m")
            self.server.process.wait_for(lambda: "nowhere" in self.server.process.log, "the last line", 20)
            for line in self.server.process.log.splitlines():
                self.assertLess(len(line), 4096 + 1024, line[:100])
                self.assertFalse(line.startswith(("forged", "2026-11-30T00:00:00.000Z")), line)
                self.assertNotRegex(line, r"[\x00-\x08\x0b-\x1f\x7f]")
            self.assertEqual(0, self.server.stop())
