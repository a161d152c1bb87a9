"""Heads of requests: one strict reading, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.head import (
    CHUNKED,
    CRLF,
    DROPPED,
    FORWARDED,
    NO_FIELD,
    ORDINARY,
    HeadLimits,
    KindOf,
    RequestReader,
    connection_options,
    is_authority,
    parse_length,
    without_names,
)
from proxyd.errors import RequestError
from tests.core.heads import (
    CONTROLS,
    GET,
    GOOD_REQUESTS,
    OK,
    POST,
    SEPARATORS,
    read_request,
    read_response,
    request_status,
)


class RequestTests(SynchronousTestCase):
    """What a request head means."""

    def assert_refused(self, blocks: Mapping[str, bytes], status: int = 400) -> None:
        """Each of `blocks` earns `status`."""
        for name, block in blocks.items():
            self.assertEqual(request_status(block), status, f"{name}: {block[:100]!r}")

    def assert_accepted(self, blocks: Mapping[str, bytes]) -> None:
        """Each of `blocks` is a head."""
        for name, block in blocks.items():
            self.assertEqual(request_status(block), 0, f"{name}: {block[:100]!r}")

    def test_parts_are_told(self) -> None:
        """A head tells its method, target, version and host, and keeps ordinary lines as they came."""
        head = read_request(b"GET /a?b HTTP/1.1\r\nhOsT:\texample.org:8000 \r\nX-One:1\r\nx-two:  2 \r\nX-Three:")
        self.assertEqual((head.method, head.target, head.version), (b"GET", b"/a?b", 1))
        self.assertEqual(head.host, b"example.org:8000")
        self.assertEqual(head.fields, [b"X-One:1", b"x-two:  2 ", b"X-Three:"])
        self.assertEqual((head.body, head.has_length, head.upgrade), (0, False, b""))
        self.assertEqual((head.keep_alive, head.expects_continue, head.forwarded), (True, False, None))

    def test_good_heads_are_accepted(self) -> None:
        """Nothing that RFC 9112 allows without ambiguity is refused."""
        self.assert_accepted({str(number): block for number, block in enumerate(GOOD_REQUESTS)})
        self.assert_accepted(
            {
                "HTTP/1.0 without a Host": b"GET / HTTP/1.0",
                "an empty Host": b"GET / HTTP/1.1\r\nHost:",
                "an unknown method": b"FROBNICATE / HTTP/1.1\r\nHost: h",
                "a lower-case method": b"get / HTTP/1.1\r\nHost: h",
                "a method of all token characters": b"!#$%&'*+-.^_`|~aZ09 / HTTP/1.1\r\nHost: h",
                "a method of 64 bytes": b"M" * 64 + b" / HTTP/1.1\r\nHost: h",
                "a name of all token characters": GET + b"\r\n!#$%&'*+-.^_`|~aZ09: x",
                "an empty value": GET + b"\r\nX:",
                "a blank value": GET + b"\r\nX: \t ",
                "no blank before a value": GET + b"\r\nX:y",
                "HTAB in a value": GET + b"\r\nX: a\tb",
                "obs-text in a value": GET + b"\r\nX: " + bytes(range(0x80, 0x100)),
                "UTF-8 in a target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h",
                "an odd query": b"GET /?{}|^`[]\\'! HTTP/1.1\r\nHost: h",
                "an invalid escape": b"GET /%zz HTTP/1.1\r\nHost: h",
                "a name that was long": GET + b"\r\n" + b"X" * 200 + b": y",
            }
        )

    def test_broken_request_lines_are_refused(self) -> None:
        """A request line is a method, one space, a target, one space and a version."""
        self.assert_refused(
            {
                "nothing": b"",
                "only a method": b"GET\r\nHost: h",
                "HTTP/0.9": b"GET /\r\nHost: h",
                "no target": b"GET  HTTP/1.1\r\nHost: h",
                "no method": b" /a HTTP/1.1\r\nHost: h",
                "no spaces": b"GET/HTTP/1.1\r\nHost: h",
                "two spaces before the target": b"GET  /a HTTP/1.1\r\nHost: h",
                "two spaces behind the target": b"GET /a  HTTP/1.1\r\nHost: h",
                "a space in front": b" GET /a HTTP/1.1\r\nHost: h",
                "a space at the end": b"GET /a HTTP/1.1 \r\nHost: h",
                "a space in the target": b"GET /a b HTTP/1.1\r\nHost: h",
                "HTAB for a space": b"GET\t/a HTTP/1.1\r\nHost: h",
                "HTAB for the second space": b"GET /a\tHTTP/1.1\r\nHost: h",
                "HTAB at the end": b"GET /a HTTP/1.1\t\r\nHost: h",
                "a leading LF": b"\nGET /a HTTP/1.1\r\nHost: h",
                "a leading CR": b"\rGET /a HTTP/1.1\r\nHost: h",
                "a leading empty line": b"\r\nGET /a HTTP/1.1\r\nHost: h",
                "the field first": b"Host: h\r\nGET /a HTTP/1.1",
                "a status line": b"HTTP/1.1 200 OK\r\nHost: h",
                "a method of 65 bytes": b"M" * 65 + b" / HTTP/1.1\r\nHost: h",
                "an HTTP/2 preface": b"PRI * HTTP/2.0",
                "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                "a SOCKS greeting": b"\x05\x01\x00",
                "a PROXY line": b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\nGET / HTTP/1.1\r\nHost: h",
            }
        )
        for byte in SEPARATORS + b"\t\x80\xff":
            self.assertEqual(request_status(b"GE%cT / HTTP/1.1\r\nHost: h" % byte), 400, f"method with byte {byte:#x}")

    def test_other_versions_are_refused(self) -> None:
        """There is HTTP/1.1, there is HTTP/1.0, and nothing else."""
        versions = b"""HTTP/0.9 HTTP/1.2 HTTP/1.9 HTTP/1.10 HTTP/1.01 HTTP/01.1 HTTP/2.0 HTTP/2 HTTP/3.0 HTTP/1
            HTTP/1. HTTP/.1 HTTP/11 HTTP/1,1 HTTP/1.1. HTTP/1.1x HTTP/1.-1 HTTP/+1.1 HTTP/\xb9.1 http/1.1 Http/1.1
            HTTP1.1 HTP/1.1 HTTPS/1.1 RTSP/1.0 SIP/2.0 ICE/1.0 HTCPCP/1.0 HTTP /1.1 HTTP/ HTTP""".split()
        self.assert_refused({repr(version): b"GET / %b\r\nHost: h" % version for version in versions})

    def test_lines_that_are_no_fields_are_refused(self) -> None:
        """A field is a token, a colon and a value; nothing is joined, trimmed or skipped to make it one."""
        self.assert_refused(
            {
                "a space before the colon": GET + b"\r\nX : y",
                "HTAB before the colon": GET + b"\r\nX\t: y",
                "a space before the colon of Host": b"GET / HTTP/1.1\r\nHost : h",
                "a space before the colon of a length": POST + b"\r\nContent-Length : 5",
                "a space before the colon of a coding": POST + b"\r\nTransfer-Encoding : chunked",
                "a space in a name": GET + b"\r\nX Y: z",
                "an empty name": GET + b"\r\n: y",
                "only a colon": GET + b"\r\n:",
                "no colon": GET + b"\r\nX",
                "no colon in a known name": GET + b"\r\nTE",
                "no colon in Host": b"GET / HTTP/1.1\r\nHost",
                "no colon in a length": POST + b"\r\nContent-Length",
                "a folded line": GET + b"\r\nX: a\r\n b",
                "a line folded by HTAB": GET + b"\r\nX: a\r\n\tb",
                "a folded line that looks like a field": GET + b"\r\nX: a\r\n Y: b",
                "a folded length": POST + b"\r\nContent-Length: 1\r\n 0",
                "a folded coding": POST + b"\r\nTransfer-Encoding:\r\n chunked",
                "a blank line": GET + b"\r\n ",
                "a fold behind the request line": b"GET / HTTP/1.1\r\n X: y\r\nHost: h",
                "an empty line": GET + b"\r\n\r\nX: y",
                "a final empty line": GET + b"\r\n",
                "a name that is not ASCII": GET + b"\r\nN\xc3\xa4me: x",
                "a long name that is no token": GET + b"\r\n" + b"X" * 200 + b"@: y",
            }
        )
        for byte in SEPARATORS.replace(b":", b"") + b"\x80\xff":
            self.assertEqual(request_status(GET + b"\r\nX%cY: z" % byte), 400, f"name with byte {byte:#x}")

    def test_control_bytes_are_refused_everywhere(self) -> None:
        """No control byte but HTAB stands in a head, and HTAB only in a value."""
        for byte in CONTROLS:
            for place in (
                b"G%cT / HTTP/1.1\r\nHost: h",
                b"GET /%c HTTP/1.1\r\nHost: h",
                b"GET /?%c HTTP/1.1\r\nHost: h",
                b"GET / HTTP/1.1%c\r\nHost: h",
                b"GET / HTTP/1.1\r\nHost: h%c",
                b"GET / HTTP/1.1\r\nHost: h\r\nX%c: y",
                b"GET / HTTP/1.1\r\nHost: h\r\nX: %c",
                b"GET / HTTP/1.1\r\nHost: h\r\nX: a%cb",
                b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: %c5",
                b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: %cchunked",
            ):
                block = place % byte
                self.assertEqual(request_status(block), 400, repr(block))

    def test_bare_line_ends_are_refused(self) -> None:
        """Only CRLF ends a line: what others read as the end of one hides nothing."""
        lines = [b"GET / HTTP/1.1", b"Host: h", b"X: y", b"Content-Length: 5"]
        for end in (b"\r", b"\n", b"\n\r", b"\r\r\n", b"\r\n\n", b"\r\n\r", b"\x0b", b"\x0c"):
            for place in range(1, len(lines) + 1):
                block = CRLF.join(lines[:place]) + end + CRLF.join(lines[place:])
                self.assertEqual(request_status(block), 400, repr(block))
        self.assert_refused(
            {
                "a field hidden by a bare CR": GET + b"\r\nX: a\rContent-Length: 5",
                "a field hidden by a bare LF": GET + b"\r\nX: a\nContent-Length: 5",
                "a coding hidden by a bare CR": GET + b"\r\nX: a\rTransfer-Encoding: chunked",
            }
        )

    def test_target_has_no_place_for_blanks_and_controls(self) -> None:
        """Every byte from 0x21 on but DEL may stand in a target, and no other."""
        for byte in range(256):
            accepted = byte > 0x20 and byte != 0x7F
            status = request_status(b"GET /%c HTTP/1.1\r\nHost: h" % byte)
            self.assertEqual(status, 0 if accepted else 400, f"byte {byte:#x}")


class HostTests(SynchronousTestCase):
    """There is one Host, and it is a host."""

    def test_host_is_told(self) -> None:
        """A host, an address or a name with or without port, comes without the blanks around it."""
        for value in (
            b"",
            b"h",
            b"example.org",
            b"EXAMPLE.org.",
            b"example.org:8000",
            b"example.org:",
            b"127.0.0.1:80",
            b"[::1]",
            b"[::1]:8000",
            b"[fe80::1%25eth0]:80",
            b"[::ffff:127.0.0.1]",
            b"under_score",
            b"xn--bcher-kva.example",
            b"a" * 255 + b".:65535",
        ):
            for form in (
                b"GET / HTTP/1.1\r\nHost: %b",
                b"GET / HTTP/1.1\r\nHOST:%b",
                b"GET / HTTP/1.0\r\nHost:\t%b \t",
            ):
                self.assertEqual(read_request(form % value).host, value, repr(form % value))

    def test_host_that_is_no_authority_is_refused(self) -> None:
        """Lists, user information, paths, blanks inside and half an address are no host."""
        for value in (
            b"a, b",
            b"a,b",
            b"a b",
            b"user@h",
            b"user:secret@h",
            b"h@",
            b"h/",
            b"h/path",
            b"http://h",
            b"h?q",
            b"h#f",
            b"h\\x",
            b'"h"',
            b"<script>",
            b"h:80:80",
            b"h:eighty",
            b"h:-1",
            b"h:+1",
            b"h:100000",
            b"h: 80",
            b"::1",
            b"[::1",
            b"::1]",
            b"[::1]x",
            b"[::1]:x",
            b"[]",
            b"[example.org]",
            b"[::1%]",
            b"[::1%eth0]",
            b"h\xc3\xa9",
            b"a" * 263,
        ):
            block = b"GET / HTTP/1.1\r\nHost: " + value
            self.assertEqual(request_status(block), 400, repr(value))
            self.assertFalse(is_authority(value), repr(value))

    def test_host_comes_exactly_once(self) -> None:
        """HTTP/1.1 has one Host; HTTP/1.0 has at most one."""
        self.assertEqual(request_status(b"GET / HTTP/1.1"), 400)
        self.assertEqual(request_status(b"GET / HTTP/1.1\r\nX: y"), 400)
        self.assertIsNone(read_request(b"GET / HTTP/1.0\r\nX: y").host)
        for version in (b"1.0", b"1.1"):
            for second in (b"h", b"other", b""):
                block = b"GET / HTTP/%b\r\nHost: h\r\nX: y\r\nhost: %b" % (version, second)
                self.assertEqual(request_status(block), 400, repr(block))
                block = b"GET / HTTP/%b\r\nHost: %b\r\nHost: h" % (version, second)
                self.assertEqual(request_status(block), 400, repr(block))

    @given(st.from_regex(rb"[a-z0-9.:@,\[\]/%\x80 -]{0,12}", fullmatch=True))
    def test_authority_has_no_second_reading(self, value: bytes) -> None:
        """Whatever is an authority is one host and at most one port, with nothing that delimits anything else."""
        if is_authority(value):
            self.assertNotRegex(value, rb"[@,/ \x80-\xff]")
            without_address = re.sub(rb"\A\[[0-9a-f:.]+(?:%25[a-z0-9.-]+)?\]", b"", value)
            self.assertLessEqual(without_address.count(b":"), 1)
            self.assertNotRegex(without_address, rb"[\[\]]")


class RequestFramingTests(SynchronousTestCase):
    """How long the body of a request is, said in one way only."""

    def test_length_is_read(self) -> None:
        """A decimal number with blanks around it is a length."""
        for value, length in (
            (b"0", 0),
            (b"5", 5),
            (b" 5 ", 5),
            (b"\t5\t", 5),
            (b"007", 7),
            (b"9" * 18, 10**18 - 1),
        ):
            head = read_request(POST + b"\r\nContent-Length:" + value)
            self.assertEqual((head.body, head.has_length), (length, True), repr(value))
            self.assertEqual(parse_length(value), length, repr(value))

    def test_length_that_is_no_number_is_refused(self) -> None:
        """Signs, lists, other notations and numbers beyond 64 bits are no length."""
        for value in (
            b"",
            b" ",
            b"+5",
            b"-5",
            b"-0",
            b"5,5",
            b"5, 5",
            b"5,6",
            b"5 5",
            b"5;",
            b"0x5",
            b"0X5",
            b"5h",
            b"a",
            b"1_0",
            b"1e1",
            b"5.0",
            b'"5"',
            b"\xb2",
            b"\xd9\xa5",
            b"\xa05",
            b"9" * 19,
            b"18446744073709551615",
            b"18446744073709551621",
            b"9223372036854775808",
            b"0" * 19,
            b"1" * 4000,
        ):
            self.assertEqual(request_status(POST + b"\r\nContent-Length: " + value), 400, repr(value))
            self.assertIsNone(parse_length(value), repr(value))

    def test_two_lengths_are_refused(self) -> None:
        """A second Content-Length is refused even when it is equal."""
        for second in (b"5", b"6", b"0", b"", b"x"):
            for gap in (b"\r\n", b"\r\nX: y\r\n"):
                block = POST + b"\r\nContent-Length: 5" + gap + b"content-length: " + second
                self.assertEqual(request_status(block), 400, repr(block))
        self.assertEqual(request_status(POST + b"\r\nContent-Length: 0\r\nContent-Length: 0"), 400)

    def test_chunked_is_read_in_any_case(self) -> None:
        """`chunked` alone, in any case and with blanks around it, is the chunked coding."""
        for value in (b"chunked", b" chunked", b"Chunked", b"CHUNKED \t", b"\tchUNKed"):
            head = read_request(POST + b"\r\nTransfer-Encoding:" + value)
            self.assertEqual((head.body, head.has_length), (CHUNKED, False), repr(value))

    def test_other_codings_are_refused(self) -> None:
        """Nothing but one plain `chunked` is a transfer coding here."""
        for value in (
            b"",
            b"identity",
            b"gzip",
            b"gzip, chunked",
            b"identity, chunked",
            b"chunked, gzip",
            b"chunked, identity",
            b"chunked, chunked",
            b"chunked,",
            b",chunked",
            b", chunked",
            b'"chunked"',
            b"'chunked'",
            b"chunked;q=1",
            b"chunked ;",
            b"chunked x",
            b"xchunked",
            b"chunkedx",
            b"chunke\xc3\xa9",
            b"chunked\xa0",
            b"\x85chunked",
            b"chun\xe2\x84\xaaed",  # KELVIN SIGN folds to k
            b"cow",
        ):
            self.assertEqual(request_status(POST + b"\r\nTransfer-Encoding: " + value), 400, repr(value))

    def test_two_framings_are_refused(self) -> None:
        """Transfer-Encoding comes once, never beside a Content-Length, never in HTTP/1.0."""
        coding, length = b"Transfer-Encoding: chunked", b"Content-Length: 5"
        for lines in (
            (coding, length),
            (length, coding),
            (coding, b"Content-Length: 0"),
            (b"Content-Length: 0", b"X: y", coding),
            (coding, coding),
            (b"Transfer-Encoding: gzip", coding),
            (coding, b"Transfer-Encoding: identity"),
            (b"Transfer-Encoding:", coding),
            (coding, b"transfer-encoding:"),
        ):
            block = CRLF.join([POST, *lines])
            self.assertEqual(request_status(block), 400, repr(block))
        for lines in ((coding,), (b"Host: h", coding), (b"Connection: keep-alive", coding)):
            block = CRLF.join([b"POST / HTTP/1.0", *lines])
            self.assertEqual(request_status(block), 400, repr(block))

    def test_underscores_frame_nothing(self) -> None:
        """A name with an underscore says nothing about the body, and does not pass: others may fold it."""
        head = read_request(POST + b"\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nX_Y: z")
        self.assertEqual((head.body, head.has_length, head.fields), (0, False, [b"X_Y: z"]))

    def test_connection_cannot_take_the_framing_away(self) -> None:
        """Naming Content-Length, Transfer-Encoding or Host in Connection changes nothing about them."""
        options = b"\r\nConnection: close, Host, Content-Length, Transfer-Encoding"
        head = read_request(POST + options + b"\r\nContent-Length: 5")
        self.assertEqual((head.body, head.has_length, head.host), (5, True, b"example.org"))
        self.assertEqual(read_request(POST + options + b"\r\nTransfer-Encoding: chunked").body, CHUNKED)

    def test_expectation_is_noted(self) -> None:
        """100-continue is the expectation that can be met; in HTTP/1.0 it is ignored, any other earns 417."""
        for value in (b"100-continue", b"100-Continue", b" 100-CONTINUE\t"):
            self.assertTrue(read_request(POST + b"\r\nExpect:" + value).expects_continue, repr(value))
        self.assertFalse(read_request(b"POST / HTTP/1.0\r\nExpect: 100-continue").expects_continue)
        for value in (b"", b"200-ok", b"100-continue, x", b"100"):
            self.assertEqual(request_status(POST + b"\r\nExpect: " + value), 417, repr(value))


class HopByHopTests(SynchronousTestCase):
    """What belongs to the client's connection alone, and what only pretends to come from us."""

    def test_persistence_follows_version_and_connection(self) -> None:
        """HTTP/1.1 stays open unless told otherwise, HTTP/1.0 only if asked; `close` wins."""
        for version, lines, expected in (
            (1, [], True),
            (0, [], False),
            (1, [b"close"], False),
            (1, [b"Close"], False),
            (1, [b" close\t"], False),
            (1, [b"keep-alive"], True),
            (0, [b"keep-alive"], True),
            (0, [b"Keep-Alive"], True),
            (0, [b"close"], False),
            (1, [b"keep-alive, close"], False),
            (0, [b"close, keep-alive"], False),
            (1, [b"x", b"close"], False),
            (0, [b"x", b"keep-alive"], True),
            (1, [b"close", b"keep-alive"], False),
            (1, [b""], True),
            (0, [b""], False),
            (1, [b"closed"], True),
            (1, [b", ,close,"], False),
            (1, [b"upgrade"], True),
        ):
            block = CRLF.join([b"GET / HTTP/1.%d" % version, b"Host: h", *(b"Connection: " + line for line in lines)])
            self.assertEqual(read_request(block).keep_alive, expected, repr(block))

    def test_fields_of_the_hop_are_dropped(self) -> None:
        """Hop-by-hop fields, Proxy, and what Connection names do not go on."""
        head = read_request(
            GET
            + b"\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X-T\r\n"
            + b"proxy: http://evil/\r\nConnection: X-Hop , x-other\r\nx-hop: 1\r\nX-Hop: 2\r\n"
            + b"X-OTHER: 3\r\nX-Kept: 4\r\nUpgrade: h2c\r\nExpect: 100-continue"
        )
        self.assertEqual(head.fields, [b"X-Kept: 4"])

    def test_connection_may_come_twice(self) -> None:
        """The options of all Connection fields count."""
        head = read_request(GET + b"\r\nConnection: X-One\r\nX-One: 1\r\nX-Two: 2\r\nConnection: X-Two")
        self.assertEqual(head.fields, [])

    def test_forwarded_fields_are_collected(self) -> None:
        """X-Forwarded-* are kept apart under lower-case names, repeated ones joined."""
        head = read_request(
            GET
            + b"\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for:2.2.2.2 \r\nX-FORWARDED-PROTO: https\r\n"
            + b"X-Forwarded-Port: 443\r\nX-Forwarded-Host:\r\nX-Forwarded-Server: s"
        )
        self.assertEqual(
            head.forwarded,
            {
                b"x-forwarded-for": b"1.1.1.1, 2.2.2.2",
                b"x-forwarded-proto": b"https",
                b"x-forwarded-port": b"443",
                b"x-forwarded-host": b"",
            },
        )
        self.assertEqual(head.fields, [b"X-Forwarded-Server: s"])

    def test_connection_strips_what_came_of_forwarded_fields(self) -> None:
        """X-Forwarded-* that the client names in Connection are those of the client: ours are made later."""
        head = read_request(
            GET + b"\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nConnection: close, X-Forwarded-For"
        )
        self.assertEqual(head.forwarded, {b"x-forwarded-proto": b"https"})

    def test_forgeries_with_underscores_are_dropped(self) -> None:
        """Names that WSGI reads as X-Forwarded-* do not pass."""
        for name in (
            b"X_Forwarded_For",
            b"X-Forwarded_For",
            b"x_forwarded-proto",
            b"X_FORWARDED_HOST",
            b"X_Forwarded-Port",
        ):
            head = read_request(GET + b"\r\n%b: 6.6.6.6" % name)
            self.assertEqual((head.fields, head.forwarded), ([], None), repr(name))

    def test_upgrade_counts_if_connection_names_it(self) -> None:
        """Upgrade is told in lower case, and only if Connection names it, and not in HTTP/1.0."""
        for block, expected in (
            (GET + b"\r\nConnection: Upgrade\r\nUpgrade: WebSocket", b"websocket"),
            (GET + b"\r\nUpgrade: websocket\r\nConnection: keep-alive, uPgRaDe", b"websocket"),
            (GET + b"\r\nConnection: close\r\nConnection: upgrade\r\nUpgrade:  websocket ", b"websocket"),
            (GET + b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\nUpgrade:websocket", b"h2c,websocket"),
            (GET + b"\r\nConnection: upgrade", b""),
            (GET + b"\r\nUpgrade: websocket", b""),
            (GET + b"\r\nConnection: keep-alive\r\nUpgrade: websocket", b""),
            (GET + b"\r\nConnection: X-Upgrade\r\nUpgrade: websocket", b""),
            (b"GET / HTTP/1.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket", b""),
        ):
            self.assertEqual(read_request(block).upgrade, expected, repr(block))

    def test_noted_fields_go_on(self) -> None:
        """User-Agent and Referer are noted for the log, and go on as they came."""
        head = read_request(GET + b"\r\nuser-agent:  x \r\nREFERER:\ty ")
        self.assertEqual((head.user_agent, head.referer), (b"x", b"y"))
        self.assertEqual(head.fields, [b"user-agent:  x ", b"REFERER:\ty "])

    def test_fields_are_found_by_name(self) -> None:
        """`get` gives the first value, `get_all` each, whatever the case of the name."""
        for head in (
            read_request(GET + b"\r\nX-A: 1\r\nx-a:2 \r\nX-B:"),
            read_response(OK + b"\r\nX-A: 1\r\nx-a:2 \r\nX-B:"),
        ):
            self.assertEqual(head.get(b"x-a"), b"1")
            self.assertEqual(head.get_all(b"x-a"), [b"1", b"2"])
            self.assertEqual(head.get(b"x-b"), b"")
            self.assertIsNone(head.get(b"x-c"))
            self.assertEqual(head.get_all(b"x-c"), [])

    def test_options_are_split_at_commas(self) -> None:
        """Connection options come in lower case without blanks."""
        self.assertEqual(connection_options(b"Close ,\tX-A,,x-a"), {b"close", b"x-a", b""})

    def test_lines_are_left_out_by_name(self) -> None:
        """Only whole names match."""
        fields = [b"A: 1", b"a: 2", b"Ab: 3", b"B: a"]
        self.assertEqual(without_names(fields, frozenset({b"a"})), [b"Ab: 3", b"B: a"])


class LimitTests(SynchronousTestCase):
    """How large a head may be."""

    def test_request_line_has_a_limit(self) -> None:
        """One byte more than `request_line` earns 414, or what the limits say instead."""
        line = b"GET /%b HTTP/1.1"
        room = 8 * 1024 - len(line % b"")
        self.assertEqual(request_status(line % (b"a" * room) + b"\r\nHost: h"), 0)
        self.assertEqual(request_status(line % (b"a" * (room + 1)) + b"\r\nHost: h"), 414)
        limits = HeadLimits(request_line=20, long_line_status=431)
        self.assertEqual(request_status(b"GET /aaaaaa HTTP/1.1\r\nHost: h", limits), 0)
        self.assertEqual(request_status(b"GET /aaaaaaa HTTP/1.1\r\nHost: h", limits), 431)

    def test_field_has_a_limit(self) -> None:
        """One byte more than `header_line` in one field earns 431."""
        for size, status in ((16 * 1024, 0), (16 * 1024 + 1, 431)):
            field = b"\r\nX: " + b"y" * (size - 3)
            for block in (b"GET / HTTP/1.0" + field, GET + field, GET + field + b"\r\nY: z"):
                self.assertEqual(request_status(block), status, f"{size} bytes behind {block[:40]!r}")

    def test_fields_together_have_a_limit(self) -> None:
        """One byte more than `headers`, line ends included, earns 431."""
        limits = HeadLimits(headers=1000)
        start = b"GET / HTTP/1.0"
        for size, status in ((1000, 0), (1001, 431)):
            self.assertEqual(request_status(start + b"\r\nX: " + b"y" * (size - 5), limits), status, str(size))
        self.assertEqual(request_status(GET + b"\r\nX: 12345678901" * 4096), 431)

    def test_number_of_fields_has_a_limit(self) -> None:
        """One field more than `header_count` earns 431."""
        self.assertEqual(request_status(GET + b"\r\nX: y" * 199), 0)
        self.assertEqual(request_status(GET + b"\r\nX: y" * 200), 431)

    def test_head_of_twelve_thousand_bytes_passes(self) -> None:
        """The heads that applications really send are far below the limits."""
        self.assertEqual(request_status(GET + b"\r\nCookie: " + b"c" * 12_000), 0)

    def test_largest_head_is_line_and_fields(self) -> None:
        """`head` is what has to be read before a head is given up."""
        self.assertEqual(HeadLimits(request_line=100, headers=1000).head, 1100)


class KindTests(SynchronousTestCase):
    """The memory of field names."""

    def make_kinds(self) -> KindOf:
        """Kinds with one name of each sort."""
        return KindOf({b"te": DROPPED, b"x-forwarded-for": FORWARDED}, frozenset({b"x-forwarded-for"}))

    def test_names_are_learned(self) -> None:
        """A name met once is found at once, in the case it came in."""
        kinds = self.make_kinds()
        for name, kind in ((b"Te", DROPPED), (b"X-Any", ORDINARY), (b"X_Forwarded-For", DROPPED)):
            self.assertNotIn(name, kinds)
            self.assertEqual(kinds.learn(name), kind, repr(name))
            self.assertEqual(kinds[name], kind, repr(name))

    def test_what_is_no_name_is_not_learned(self) -> None:
        """Neither malformed nor very long names take memory."""
        kinds = self.make_kinds()
        before = dict(kinds)
        for name in (b"", b"a b", b"a:", b"\xff", b"(", b"a\0"):
            self.assertEqual(kinds.learn(name), NO_FIELD, repr(name))
        self.assertEqual(kinds.learn(b"X" * 65), ORDINARY)
        self.assertEqual(kinds, before)
        self.assertEqual(kinds.learn(b"X" * 64), ORDINARY)
        self.assertIn(b"X" * 64, kinds)

    def test_memory_is_bounded(self) -> None:
        """Names without end do not grow the memory without end, and known names stay known."""
        kinds = self.make_kinds()
        for number in range(10_000):
            kinds.learn(b"X-%d" % number)
            self.assertLessEqual(len(kinds), 4096)
        self.assertEqual(kinds[b"te"], DROPPED)
        self.assertEqual(kinds.learn(b"TE"), DROPPED)

    def test_reading_does_not_depend_on_what_was_read_before(self) -> None:
        """A reader that has met every name gives the same heads as a new one."""
        old = RequestReader(HeadLimits())
        for _ in range(2):
            for block in GOOD_REQUESTS:
                again, first = old.read(block), read_request(block)
                self.assertEqual(vars(again), vars(first), repr(block))


class ErrorTests(SynchronousTestCase):
    """What is told about a refused head."""

    def test_errors_repeat_nothing(self) -> None:
        """The text of an error never holds what the client sent."""
        mark = b"SECRETMARK"
        for block in (
            b"GET /%b %b HTTP/1.1\r\nHost: h" % (mark, mark),
            GET + b"\r\n%b" % mark,
            GET + b"\r\n%b : x" % mark,
            GET + b"\r\nContent-Length: %b" % mark,
            GET + b"\r\nTransfer-Encoding: %b" % mark,
            GET + b"\r\nExpect: %b" % mark,
            b"GET / HTTP/1.1\r\nHost: @%b" % mark,
            b"%b() / HTTP/1.1\r\nHost: h" % mark,
            b"GET / %b\r\nHost: h" % mark,
        ):
            error = self.assertRaises(RequestError, read_request, block)
            self.assertNotIn(mark.decode(), str(error), repr(block))
