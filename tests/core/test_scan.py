"""What is compiled agrees with Python, and takes what is common."""

from __future__ import annotations

import importlib
import shutil
import sys
import sysconfig
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core import scan
from proxyd.core.head import HeadLimits, RequestHead, RequestReader, ResponseHead
from proxyd.core.target import decode_path, key_of, not_plain, plain_target, split_target
from tests.core.feeding import damaged_heads
from tests.core.heads import (
    GOOD_REQUESTS,
    GOOD_RESPONSES,
    REQUEST_LINES,
    RESPONSE_LINES,
    attributes,
    read_request,
    read_response,
    request_status,
)

_LIMITS = (8192, 65536, 16384, 200)
_BROWSER = (
    b"GET /user/alice/api/contents?type=directory HTTP/1.1\r\nHost: hub.example.org:8443\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="156"\r\nUser-Agent: Mozilla/5.0 (X11)\r\nAccept: */*\r\nReferer: http://h/lab?x\r\n'
    b"X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\nCookie: a=b; c=d\r\nKeep-Alive: timeout=5"
)
_WITH_BODY = b"PUT /a HTTP/1.1\r\nhOST: h\r\ncontent-length:  12 \r\nconnection: close"


class BuiltTests(SynchronousTestCase):
    """Whether there is anything compiled."""

    def test_it_is_there_where_it_can_be(self) -> None:
        """With a compiler and the headers of Python an installation has it."""
        header = Path(sysconfig.get_path("include")) / "Python.h"
        if (shutil.which("cc") or shutil.which("gcc")) and header.exists():
            self.assertIsNotNone(scan.read_request)

    def test_without_it_python_does_the_same(self) -> None:
        """Where it is not there, nothing takes its place, and readers do without."""
        self.addCleanup(importlib.reload, scan)
        self.patch(sys.modules["proxyd.core"], "_scan", None)
        self.addCleanup(sys.modules.__setitem__, "proxyd.core._scan", sys.modules.get("proxyd.core._scan"))
        sys.modules["proxyd.core._scan"] = None  # type: ignore[assignment]  # this is how an import is made to fail
        del sys.modules["proxyd.core"]._scan
        importlib.reload(scan)
        self.assertEqual([scan.read_request, scan.read_response, scan.plain_target, scan.combined_line], [None] * 4)
        self.assertEqual(RequestReader(HeadLimits()).read(_BROWSER).host, b"hub.example.org:8443")
        self.assertIsNone(not_plain(b"/a"))


class HeadTests(SynchronousTestCase):
    """Heads."""

    def test_common_heads_are_taken(self) -> None:
        """What browsers and applications send does not need Python."""
        if scan.read_request is None or scan.read_response is None:
            return
        for block in (_BROWSER, _WITH_BODY):
            self.assertIsNotNone(scan.read_request(RequestHead, block, _LIMITS), block)
        for block in GOOD_RESPONSES:
            if block.startswith(b"HTTP/1.1 2") and b"\r\n" in block and b"X-Hop" not in block:
                self.assertIsNotNone(scan.read_response(ResponseHead, block), block)

    def test_common_heads_are_read_the_same(self) -> None:
        """Each attribute is what Python says."""
        head = read_request(_BROWSER)
        self.assertEqual(head.forwarded, {b"x-forwarded-for": b"1.2.3.4, 5.6.7.8", b"x-forwarded-proto": b"https"})
        self.assertEqual((head.user_agent, head.referer), (b"Mozilla/5.0 (X11)", b"http://h/lab?x"))
        self.assertEqual(len(head.fields), 5)
        head = read_request(_WITH_BODY)
        self.assertEqual((head.method, head.host, head.body, head.has_length), (b"PUT", b"h", 12, True))
        self.assertFalse(head.keep_alive)

    def test_each_byte_in_each_place(self) -> None:
        """A head with any byte at any place in it is read the same way, or refused for the same reason."""
        short = b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: b\r\nContent-Length: 3"
        answer = b"HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: close"
        for byte in range(256):
            for place in range(len(short)):
                request_status(short[:place] + bytes([byte]) + short[place + 1 :])
            for place in range(len(answer)):
                self.read_answer(answer[:place] + bytes([byte]) + answer[place + 1 :])

    def read_answer(self, block: bytes) -> None:
        """Read what may be no response."""
        try:
            read_response(block)
        except Exception as error:  # noqa: BLE001  # AssertionError is the one that counts
            self.assertNotIsInstance(error, AssertionError)

    def test_limits_are_the_same(self) -> None:
        """At each limit both take the last head that fits, and refuse the next one for the same reason."""
        block = b"GET /abc HTTP/1.1\r\nHost: h\r\nX-Long: 0123456789\r\nB: c"
        for size in range(1, len(block) + 2):
            for limits in (
                HeadLimits(request_line=size),
                HeadLimits(headers=size),
                HeadLimits(header_line=size),
                HeadLimits(header_count=size % 5),
            ):
                request_status(block, limits)

    @given(damaged_heads(GOOD_REQUESTS, REQUEST_LINES))
    def test_damaged_requests(self, block: bytes) -> None:
        """Whatever is wrong with a request, both say the same."""
        request_status(block)

    @given(damaged_heads(GOOD_RESPONSES, RESPONSE_LINES))
    def test_damaged_responses(self, block: bytes) -> None:
        """Whatever is wrong with a response, both say the same."""
        self.read_answer(block)

    def test_wrong_arguments(self) -> None:
        """What is no head at all is the fault of who calls."""
        if scan.read_request is None or scan.read_response is None:
            return
        self.assertRaises(TypeError, scan.read_request, RequestHead, "text", _LIMITS)
        self.assertRaises(TypeError, scan.read_request, RequestHead, b"")
        self.assertRaises(TypeError, scan.read_request, RequestHead, b"", _LIMITS[:3])
        self.assertRaises(TypeError, scan.read_request, RequestHead, b"", list(_LIMITS))
        self.assertRaises(TypeError, scan.read_response, ResponseHead, "text")
        self.assertRaises(TypeError, scan.read_request, int, _BROWSER, (*_LIMITS[:3], None))
        self.assertRaises(AttributeError, scan.read_request, int, _BROWSER, _LIMITS)
        self.assertRaises(AttributeError, scan.read_response, int, b"HTTP/1.1 200 OK\r\nA: b")

    def test_attributes_are_all_compared(self) -> None:
        """The comparison of these tests sees what differs."""
        one, other = read_request(_BROWSER), read_request(_BROWSER)
        self.assertEqual(attributes(one), attributes(other))
        other.expects_continue = True
        self.assertNotEqual(attributes(one), attributes(other))


class TargetTests(SynchronousTestCase):
    """Request targets."""

    def check(self, target: bytes) -> None:
        """If it is plain, Python says the same of it, lenient or not."""
        plain = plain_target(target)
        if plain is not None:
            for lenient in (False, True):
                path, query = split_target(target, lenient=lenient)
                self.assertEqual(plain, (path, query, key_of(decode_path(path))), target)

    @given(st.from_regex(rb"/?[a/.%2eEfF?#<>\"\\\x00 \xc3\xa9:-]{0,14}", fullmatch=True))
    def test_both_read_it_the_same_way(self, target: bytes) -> None:
        """Path, query and key of what is plain are those that Python finds."""
        self.check(target)

    def test_each_byte(self) -> None:
        """Any byte in a path, and in a query."""
        for byte in range(256):
            for target in (b"/a%cb/c" % byte, b"/a?b%cc" % byte, b"/%c" % byte, b"%c/a" % byte):
                self.check(target)

    def test_common_targets_are_taken(self) -> None:
        """Paths without escapes need no Python."""
        if scan.plain_target is None:
            return
        self.assertEqual(scan.plain_target(b"/user/a/?b=%2F"), (b"/user/a/", b"?b=%2F", ("user", "a")))
        self.assertEqual(scan.plain_target(b"/"), (b"/", b"", ()))
        for target in (b"", b"a", b"/a/../b", b"/a%20b", b"/\xc3\xa9", b"/a#b", b"/a?b#c", b"/a\\b"):
            self.assertIsNone(scan.plain_target(target), target)
        self.assertRaises(TypeError, scan.plain_target, "/")
