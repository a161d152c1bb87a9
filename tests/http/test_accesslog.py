"""Tests of `proxyd.http.accesslog`."""

from __future__ import annotations

import json
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core import scan
from proxyd.http.accesslog import AccessLog, CombinedLog, JsonLog, printable
from proxyd.testing.harness import Harness, Lines

from .support import OK, DataPathTestCase


class CombinedLogTests(DataPathTestCase):
    """The Combined Log Format."""

    def line(self, request: bytes) -> str:
        """The line of a request."""
        self.proxy.pools.close()
        self.proxy.access.lines.clear()
        client = self.proxy.client("" if b"unix" in request else "192.0.2.1")
        client.send(request)
        if self.proxy.dialer.dials and not self.proxy.dialer.dials[-1].result.called:
            self.proxy.accept().send(OK)
        (line,) = self.proxy.access.lines
        return line

    def test_nothing_can_be_forged(self) -> None:
        """Quotes and control bytes of the client are escaped, and what it sends is bounded."""
        line = self.line(b'GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: a" 200 "\xe9\x9b\r\n\r\n')
        self.assertIn(r'"a\x22 200 \x22', line)
        self.assertEqual(1, line.count("\n"))
        line = self.line(
            b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: "
            + b"x" * 10_000
            + b"\r\nReferer: "
            + b"y" * 10_000
            + b"\r\n\r\n"
        )
        self.assertLess(len(line), 4096)

    def test_peers_on_unix_sockets(self) -> None:
        """They have no address."""
        self.assertTrue(self.line(b"GET /unix HTTP/1.1\r\nHost: h\r\n\r\n").startswith("unix - - ["))

    def test_malformed_requests(self) -> None:
        """What could not be read is a line as well."""
        self.assertIn('"- - HTTP/1.1" 400 ', self.line(b"nonsense\r\n\r\n"))


class CompiledTests(SynchronousTestCase):
    """Lines that are formatted by compiled code."""

    def lines(self, **facts: object) -> list[str]:
        """The line of an exchange with these facts, compiled if it could be, and in Python."""
        head = SimpleNamespace(method=b"GET", target=b"/", version=1, referer=b"", user_agent=b"")
        request = SimpleNamespace(
            head=head,
            channel=SimpleNamespace(peer=SimpleNamespace(address=b"")),
            admission=None,
            status=0,
            body_sent=0,
            seconds=1.23456,
            request_id="",
        )
        for name, value in facts.items():
            setattr(head if hasattr(head, name) else request, name, value)
        lines = Lines()
        for format_line in (scan.combined_line, None):
            log = CombinedLog(lines, lambda: 0.0, format_line=format_line)
            log.write(request)  # type: ignore[arg-type]
        return lines.lines

    def test_they_are_the_same(self) -> None:
        """Each value of an exchange comes out as it does in Python."""
        every = bytes(range(256))
        for facts in (
            {},
            {"target": every, "user_agent": every, "referer": every, "method": every},
            {"target": b"/a?b?c", "referer": b"http://h/?x", "user_agent": b"a?b", "status": 200, "body_sent": 1 << 40},
            {"target": b"/" * 2000 + b"?", "user_agent": b'"' * 2000, "referer": b"\xff" * 1024, "version": 0},
            {
                "channel": SimpleNamespace(peer=SimpleNamespace(address=b"2001:db8::1")),
                "request_id": "0123abcd",
                "seconds": 1.2344,
            },
            {"started": -1e9},
            {"admission": SimpleNamespace(identity=SimpleNamespace(name="Zo\xeb \u2603"))},
            {"admission": SimpleNamespace(identity=SimpleNamespace(name="alice"))},
        ):
            compiled, in_python = self.lines(**facts)
            self.assertEqual(compiled, in_python)

    def test_escapes_make_no_line_longer_than_others(self) -> None:
        """Each byte of a client may become four characters, or six in JSON: then less of it is told."""
        for value in (b'"' * 2000, b"\x81" * 2000, b"\xff" * 2000):
            facts = {"target": value, "user_agent": value, "referer": value, "method": value}
            identity = SimpleNamespace(name=value.decode("latin-1"))
            for line in self.lines(**facts, admission=SimpleNamespace(identity=identity)):
                self.assertLessEqual(len(line), 4096)
                self.assertTrue(line.endswith(" 1.2346 -\n"))

    def test_what_it_refuses(self) -> None:
        """Values of other types are the fault of who calls."""
        if scan.combined_line is None:
            return
        good = (b"", "-", "now", b"GET", b"/", 1, 200, 0, b"", b"", 0.5, "")
        for place, wrong in ((0, ""), (1, b""), (4, None), (5, "1"), (10, "x")):
            self.assertRaises(TypeError, scan.combined_line, *good[:place], wrong, *good[place + 1 :])
        self.assertRaises(TypeError, scan.combined_line)
        self.assertIsNone(scan.combined_line(*good[:1], "\xeb", *good[2:]))


class JsonLogTests(DataPathTestCase):
    """One JSON object a line."""

    def test_fields(self) -> None:
        """The object has the facts of the exchange, the route and, for errors, what was wrong."""
        lines = Lines()
        self.proxy = Harness(routes={"/known": "http://up.test"})
        self.proxy.site.access_log = JsonLog(lines, self.proxy.clock.seconds)
        client, upstream = self.begin(b"GET /known/x?y HTTP/1.1\r\nHost: h.test\r\nUser-Agent: me\r\n\r\n")
        self.proxy.advance(1.5)
        upstream.send(OK)
        client.send(b"GET /unknown HTTP/1.1\r\nHost: h.test\r\n\r\n")
        good, bad = map(json.loads, lines.lines)
        self.assertEqual(
            {
                "time": "1970-01-01T00:00:01.500Z",
                "peer": "192.0.2.1",
                "method": "GET",
                "host": "h.test",
                "path": "/known/x",
                "status": 200,
                "bytes": 2,
                "seconds": 1.5,
                "referer": "",
                "user_agent": "me",
                "route": "/known",
            },
            good,
        )
        self.assertEqual((404, "no route"), (bad["status"], bad["detail"]))
        self.assertEqual(16, len(bad["request_id"]))

    def test_escapes_make_no_line_longer_than_others(self) -> None:
        """Each byte of a client may become six characters: then less of it is told."""
        lines = Lines()
        self.proxy.site.access_log = JsonLog(lines, self.proxy.clock.seconds)
        value = b"\xff" * 2000
        client = self.proxy.client()
        client.send(b"GET /%b HTTP/1.1\r\nHost: h\r\nUser-Agent: %b\r\nReferer: %b\r\n\r\n" % (value, value, value))
        (line,) = lines.lines
        self.assertLessEqual(len(line), 4096)
        self.assertTrue(json.loads(line)["path"].startswith("/\ufffd\ufffd"))


class PrintableTests(SynchronousTestCase):
    """`printable`, and the base class."""

    def test_escapes(self) -> None:
        """Control characters, quotes and backslashes are escaped; the rest stays."""
        self.assertEqual(r"a\x0ab\x22\x5c\x85é", printable(b'a\nb"\\\x85\xe9'))

    def test_base_class_writes_nothing(self) -> None:
        """A form of log has to say what its lines look like."""
        log = AccessLog(Lines())
        self.assertRaises(NotImplementedError, log.write, None)
