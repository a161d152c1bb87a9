"""Heads of responses: one strict reading, or none."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.head import CHUNKED, CRLF, UNTIL_CLOSE, MalformedHeadError, ResponseHead, ResponseReader
from tests.core.heads import CONTROLS, GOOD_RESPONSES, OK, read_response


class ResponseTests(SynchronousTestCase):
    """What a response head means."""

    def assert_refused(self, blocks: Mapping[str, bytes]) -> None:
        """None of `blocks` is a head."""
        for name, block in blocks.items():
            try:
                read_response(block)
            except MalformedHeadError as error:
                self.assertNotEqual(str(error), "", name)
            else:
                self.fail(f"accepted {name}: {block!r}")

    def test_parts_are_told(self) -> None:
        """A head tells its status, reason and version, and keeps its lines as they came."""
        head = read_response(b"HTTP/1.1 404 Not  Found \r\nX-One:1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\ndate: now")
        self.assertEqual((head.status, head.reason, head.version), (404, b"Not  Found ", 1))
        self.assertEqual(head.fields, [b"X-One:1", b"Set-Cookie: a", b"Set-Cookie: b", b"date: now"])
        self.assertEqual((head.body, head.keep_alive, head.upgrade), (UNTIL_CLOSE, True, b""))
        self.assertEqual((head.has_date, head.location), (True, None))

    def test_good_heads_are_accepted(self) -> None:
        """Nothing that RFC 9112 allows without ambiguity is refused."""
        for block in GOOD_RESPONSES:
            self.assertIsInstance(read_response(block), ResponseHead, repr(block))
        for status in range(100, 600):
            self.assertEqual(read_response(b"HTTP/1.1 %d x" % status).status, status)

    def test_reason_may_be_missing(self) -> None:
        """A status line without a reason is accepted with and without its space."""
        for line in (b"HTTP/1.1 200", b"HTTP/1.1 200 "):
            self.assertEqual((read_response(line).status, read_response(line).reason), (200, b""), repr(line))

    def test_broken_status_lines_are_refused(self) -> None:
        """A status line is HTTP/1.0 or HTTP/1.1, a space, three digits from 100 to 599, and a reason."""
        self.assert_refused(
            {
                "nothing": b"",
                "a body": b"<html>",
                "a request line": b"GET / HTTP/1.1",
                "no status": b"HTTP/1.1",
                "no status but a space": b"HTTP/1.1 ",
                "status 000": b"HTTP/1.1 000 x",
                "status 99": b"HTTP/1.1 99 x",
                "status 099": b"HTTP/1.1 099 x",
                "status 600": b"HTTP/1.1 600 x",
                "status 999": b"HTTP/1.1 999 x",
                "status 1000": b"HTTP/1.1 1000 x",
                "status 2000": b"HTTP/1.1 2000",
                "status 20": b"HTTP/1.1 20",
                "status -20": b"HTTP/1.1 -20 x",
                "status +20": b"HTTP/1.1 +20 x",
                "status 2x0": b"HTTP/1.1 2x0 x",
                "status 2\xb20": b"HTTP/1.1 2\xb20 x",
                "status 0xc8": b"HTTP/1.1 0xc8 x",
                "HTAB behind the status": b"HTTP/1.1 200\tOK",
                "no space behind the status": b"HTTP/1.1 200OK",
                "two spaces before the status": b"HTTP/1.1  200 OK",
                "no space before the status": b"HTTP/1.1200 OK",
                "HTAB before the status": b"HTTP/1.1\t200 OK",
                "a space in front": b" HTTP/1.1 200 OK",
                "a leading LF": b"\nHTTP/1.1 200 OK",
                "a leading empty line": b"\r\nHTTP/1.1 200 OK",
                "HTTP/0.9": b"HTTP/0.9 200 OK",
                "HTTP/1.2": b"HTTP/1.2 200 OK",
                "HTTP/2.0": b"HTTP/2.0 200 OK",
                "HTTP/2": b"HTTP/2 200 OK",
                "ICY": b"ICY 200 OK",
                "RTSP/1.0": b"RTSP/1.0 200 OK",
                "lower case": b"http/1.1 200 OK",
            }
        )

    def test_control_bytes_are_refused_everywhere(self) -> None:
        """No control byte but HTAB stands in a reason or a field; CR and LF end lines only together."""
        for byte in CONTROLS + b"\r\n":
            for place in (
                b"HTTP/1.1 200 O%cK",
                b"HTTP/1.1 200%cOK",
                b"HTTP/1.1 200 OK%c",
                b"HTTP/1.1 200 OK%c\r\nX: y",
                b"HTTP/1.1 200 OK\r\nX: a%cb",
                b"HTTP/1.1 200 OK\r\nX%c: y",
                b"HTTP/1.1 200 OK\r\nContent-Length: 5%c",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked%c",
            ):
                self.assert_refused({f"byte {byte:#x}": place % byte})

    def test_lines_that_are_no_fields_are_refused(self) -> None:
        """A field is a token, a colon and a value, here too."""
        self.assert_refused(
            {
                "a space before the colon": OK + b"\r\nX : y",
                "a space before the colon of a length": OK + b"\r\nContent-Length : 5",
                "a space before the colon of a coding": OK + b"\r\nTransfer-Encoding : chunked",
                "an empty name": OK + b"\r\n: y",
                "no colon": OK + b"\r\nX",
                "no colon in a known name": OK + b"\r\nDate",
                "a folded line": OK + b"\r\nX: a\r\n b",
                "a folded length": OK + b"\r\nContent-Length: 1\r\n 0",
                "an empty line": OK + b"\r\n\r\nX: y",
                "a blank line": OK + b"\r\n ",
                "a separator in a name": OK + b"\r\nX(Y): z",
                "obs-text in a name": OK + b"\r\nX\xe9: z",
            }
        )

    def test_framing_is_read(self) -> None:
        """A length, the chunked coding, or neither."""
        for lines, body in (
            ([], UNTIL_CLOSE),
            ([b"Content-Length: 0"], 0),
            ([b"content-length:\t5 "], 5),
            ([b"Transfer-Encoding: chunked"], CHUNKED),
            ([b"TRANSFER-ENCODING:CHUNKED "], CHUNKED),
        ):
            self.assertEqual(read_response(CRLF.join([OK, *lines])).body, body, repr(lines))

    def test_ambiguous_framings_are_refused(self) -> None:
        """Whatever two recipients could read in two ways is not passed on to one of them."""
        coding, length = b"Transfer-Encoding: chunked", b"Content-Length: 5"
        for lines in (
            [length, length],
            [length, b"Content-Length: 6"],
            [b"Content-Length: 0", b"Content-Length: 0"],
            [b"Content-Length: 5, 5"],
            [b"Content-Length:"],
            [b"Content-Length: +5"],
            [b"Content-Length: -5"],
            [b"Content-Length: -1"],
            [b"Content-Length: 0x5"],
            [b"Content-Length: 1_0"],
            [b"Content-Length: 9999999999999999999"],
            [coding, length],
            [length, coding],
            [b"Content-Length: 0", coding],
            [coding, coding],
            [b"Transfer-Encoding: gzip", coding],
            [b"Transfer-Encoding:"],
            [b"Transfer-Encoding: gzip"],
            [b"Transfer-Encoding: identity"],
            [b"Transfer-Encoding: gzip, chunked"],
            [b"Transfer-Encoding: chunked, gzip"],
            [b"Transfer-Encoding: chunked, chunked"],
            [b"Transfer-Encoding: chunked;"],
            [b'Transfer-Encoding: "chunked"'],
        ):
            self.assert_refused({repr(lines): CRLF.join([OK, *lines])})
        self.assert_refused({"chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked"})

    def test_persistence_follows_version_and_connection(self) -> None:
        """HTTP/1.1 stays open unless told otherwise, HTTP/1.0 only if it says so."""
        for version, lines, expected in (
            (1, [], True),
            (0, [], False),
            (1, [b"close"], False),
            (1, [b"CLOSE "], False),
            (1, [b"keep-alive"], True),
            (0, [b"Keep-Alive"], True),
            (0, [b"x, keep-alive"], True),
            (0, [b"x"], False),
            (1, [b"x"], True),
            (1, [b"keep-alive, close"], False),
            (1, [b"keep-alive", b"close"], False),
        ):
            block = CRLF.join([b"HTTP/1.%d 200 OK" % version, *(b"Connection: " + line for line in lines)])
            self.assertEqual(read_response(block).keep_alive, expected, repr(block))

    def test_fields_of_the_hop_are_dropped(self) -> None:
        """Hop-by-hop fields and what Connection names do not go on; Proxy-Authenticate does."""
        head = read_response(
            OK
            + b"\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nTrailer: X\r\nTE: x\r\nUpgrade: h2c\r\n"
            + b"Connection: X-Hop, close\r\nX-Hop: 1\r\nX-Kept: 2\r\nProxy-Authenticate: Basic"
        )
        self.assertEqual(head.fields, [b"X-Kept: 2", b"Proxy-Authenticate: Basic"])

    def test_upgrade_counts_if_connection_names_it(self) -> None:
        """Upgrade is told in lower case, and only if Connection names it (RFC 9110 §7.8)."""
        switching = b"HTTP/1.1 101 Switching Protocols"
        for lines, expected in (
            ([b"Connection: Upgrade", b"Upgrade: WebSocket"], b"websocket"),
            ([b"Upgrade: websocket", b"Connection: x, upgrade"], b"websocket"),
            ([b"Connection: upgrade", b"Upgrade: foo", b"Upgrade:websocket"], b"foo,websocket"),
            ([b"Connection: upgrade"], b""),
            ([b"Connection: close", b"Upgrade: websocket"], b""),
            ([b"Connection: keep-alive", b"Upgrade: websocket"], b""),
            ([b"Connection: x", b"Upgrade: websocket"], b""),
            ([b"Upgrade: websocket"], b""),
        ):
            self.assertEqual(read_response(CRLF.join([switching, *lines])).upgrade, expected, repr(lines))

    def test_location_is_noted(self) -> None:
        """Location is told without blanks, and goes on as it came."""
        head = read_response(b"HTTP/1.1 302 Found\r\nlocation:  http://h/ ")
        self.assertEqual((head.location, head.fields), (b"http://h/", [b"location:  http://h/ "]))

    def test_reading_does_not_depend_on_what_was_read_before(self) -> None:
        """A reader that has met every name gives the same heads as a new one."""
        old = ResponseReader()
        for _ in range(2):
            for block in GOOD_RESPONSES:
                self.assertEqual(vars(old.read(block)), vars(read_response(block)), repr(block))
