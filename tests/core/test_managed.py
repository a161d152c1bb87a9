"""Tests of `proxyd.core.managed`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import TestCase

from proxyd.core.forward import Peer
from proxyd.core.managed import (
    counts,
    decide,
    has_functions,
    map_path,
    mapped_target,
    override,
    stripped_path,
    takes_origin,
)
from proxyd.core.rewriting import Headers
from proxyd.core.templates import names_at
from proxyd.errors import TemplateError
from proxyd.model.servers import Place, ServerSpec
from proxyd.option import Function, Pattern
from tests.core.heads import read_request

NAMES = names_at(Place(4711), "/b/")


def function(call: Any) -> Function:
    """A callable of a definition."""
    return Function("m:f", call)


def raising(*_: object) -> object:
    """A mistake of the user."""
    raise ValueError("no")


class OriginTests(TestCase):
    """Which pages may open a WebSocket (contract of managed servers, section 8)."""

    def test_origins(self) -> None:
        """Our own, those of the list, and who is no browser."""
        peer = Peer(b"192.0.2.1", secure=False, trusted=False)
        cases = [
            ("", (), True),
            ("Origin: http://here.test\r\n", (), True),
            ("Origin: https://here.test\r\n", (), True),  # TLS may end in front of us
            ("Origin: http://here.test:81\r\n", (), False),
            ("Origin: http://evil.test\r\n", (), False),
            ("Origin: http://evil.test\r\n", ("*",), True),
            ("Origin: HTTP://Other.test\r\n", ("http://other.test/",), True),
            ("Origin: http://other.test.evil\r\n", ("http://other.test",), False),
            ("Origin: http://other.test\r\nOrigin: http://evil.test\r\n", ("http://other.test",), False),
            ("Origin: null\r\n", ("http://other.test",), False),
            ("Sec-Fetch-Site: cross-site\r\n", ("http://other.test",), False),
        ]
        for fields, allowed, expected in cases:
            data = (
                f"GET / HTTP/1.1\r\nHost: here.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\n{fields}".encode()
            )
            head = read_request(data.removesuffix(b"\r\n"))
            self.assertEqual(expected, takes_origin(head, peer, allowed), (fields, allowed))


class ActivityTests(TestCase):
    """What is activity (section 11)."""

    def test_patterns_match_the_beginning_of_the_path(self) -> None:
        """Of the client's whole one; `true` and `false` say it for all, and a function is asked later."""
        spec = ServerSpec(exclude_last_activity_patterns=(Pattern(".*/poll$"), Pattern("/b/app/health")))
        self.assertTrue(counts(spec, b"/b/app/x"))
        self.assertFalse(counts(spec, b"/b/app/poll"))
        self.assertTrue(counts(spec, b"/b/app/poll/x"))
        self.assertFalse(counts(spec, b"/b/app/healthz"))
        self.assertFalse(counts(ServerSpec(update_last_activity=False), b"/"))
        self.assertFalse(counts(ServerSpec(update_last_activity=function(bool)), b"/"))


class OverrideTests(TestCase):
    """Fields that are set (section 7)."""

    def test_templates(self) -> None:
        """In names and values; an empty value stays."""
        spec = ServerSpec(request_headers_override={"X-{port}": "{base_url}{{}}", "Authorization": ""})
        self.assertEqual({"X-4711": "/b/{}", "Authorization": ""}, override(spec, NAMES))

    def test_what_cannot_be_sent(self) -> None:
        """What would break the head, or belongs to the connection."""
        for fields in ({"A": "x\r\nB: y"}, {"A B": ""}, {"Connection": "close"}, {"A": "€"}, {"A": "{nope}"}):
            with self.assertRaises(TemplateError):
                override(ServerSpec(request_headers_override=fields), NAMES)


class MappathTests(TestCase):
    """Paths that are replaced (section 6)."""

    def test_what_is_asked(self) -> None:
        """The stripped path, decoded, beginning with a slash."""
        self.assertEqual("/a b/ö", stripped_path(b"/b/app/a%20b/%C3%B6", 2))
        self.assertEqual("/", stripped_path(b"/b/app/", 2))

    def test_a_mapping(self) -> None:
        """The exact path or nothing."""
        spec = ServerSpec(mappath={"/": "/index.html"})
        self.assertEqual("/index.html", map_path(spec, "/"))
        self.assertIsNone(map_path(spec, "/x"))

    def test_a_function(self) -> None:
        """It asks for `path`; what it returns has to be text."""
        self.assertEqual("/x!", map_path(ServerSpec(mappath=function(lambda path: path + "!")), "/x"))
        self.assertIsNone(map_path(ServerSpec(mappath=function(lambda path: path)), "/x"))
        for bad in (lambda path: None, lambda url: "/", raising):
            with self.assertRaises(TemplateError):
                map_path(ServerSpec(mappath=function(bad)), "/x")

    def test_targets(self) -> None:
        """Encoded again; a query of the result comes first, joined by one ampersand; dots do not climb."""
        cases = {
            ("/index.html", b""): (b"/index.html", b""),
            ("/index.html", b"?a=b"): (b"/index.html", b"?a=b"),
            ("/index.html?k=v", b""): (b"/index.html", b"?k=v"),
            ("/index.html?k=v", b"?a=%20?"): (b"/index.html", b"?k=v&a=%20?"),
            ("/x?", b"?"): (b"/x", b""),
            ("no slash%#ö", b""): (b"/no%20slash%25%23%C3%B6", b""),
            ("/?p=%2F ö#", b""): (b"/", b"?p=%2F%20%C3%B6%23"),
            ("/a/../../x", b""): (b"/x", b""),
            ("/\udcff?\udcfe", b""): (b"/%FF", b"?%FE"),  # as `decode_loosely` has it
            ("/\ud800", b""): (b"/%3F", b""),
        }
        for (mapped, query), expected in cases.items():
            self.assertEqual(expected, mapped_target(mapped, query), mapped)


class DecisionTests(TestCase):
    """What functions say of one request."""

    def decide(self, *, is_handshake: bool = False, **options: Any) -> Any:
        """Ask them about `/b/app/x`."""
        request = SimpleNamespace(path="/b/app/x", headers=Headers([("Accept", "text/event-stream")]))
        handler = SimpleNamespace(request=request)
        return decide(ServerSpec(**options), NAMES, "/x", handler, is_handshake=is_handshake)

    def test_whether_there_is_anybody_to_ask(self) -> None:
        """A mapped path and buffering are for HTTP only."""
        for name, websockets in {
            "update_last_activity": True, "request_headers_override": True, "mappath": False, "progressive": False,
        }.items():  # fmt: skip
            spec = ServerSpec(**{name: function(print)})
            self.assertTrue(has_functions(spec, is_handshake=False))
            self.assertEqual(websockets, has_functions(spec, is_handshake=True))
        raw = ServerSpec(request_headers_override=function(raising), raw_socket_proxy=True)
        self.assertFalse(has_functions(raw, is_handshake=True))
        self.assertFalse(has_functions(ServerSpec(mappath={"/": "/x"}), is_handshake=False))

    def test_activity(self) -> None:
        """The function gets what has the request, by whatever name; patterns do not count beside it."""
        never = (Pattern(".*"),)
        asked = function(lambda handler: handler.request.path == "/b/app/x")
        self.assertTrue(self.decide(update_last_activity=asked, exclude_last_activity_patterns=never).counts)
        self.assertFalse(self.decide(exclude_last_activity_patterns=never).counts)
        self.assertTrue(self.decide().counts)
        with self.assertRaisesRegex(TemplateError, "m:f: ValueError: no"):
            self.decide(update_last_activity=function(raising))

    def test_fields(self) -> None:
        """They are templates again; without a function nobody is asked."""
        fields = function(lambda port: {"X-Port": f"{port} {{port}}"})
        self.assertEqual({"X-Port": "4711 4711"}, self.decide(request_headers_override=fields).fields)
        self.assertIsNone(self.decide(request_headers_override={"a": "b"}).fields)
        raw = self.decide(request_headers_override=function(raising), raw_socket_proxy=True, is_handshake=True)
        self.assertIsNone(raw.fields)

    def test_paths(self) -> None:
        """Not of handshakes."""
        self.assertEqual("/y", self.decide(mappath={"/x": "/y"}).path)
        self.assertIsNone(self.decide(mappath={"/x": "/y"}, is_handshake=True).path)

    def test_buffering(self) -> None:
        """Unless it is `progressive`, or a function says that it is."""
        self.assertFalse(self.decide().buffers)
        self.assertTrue(self.decide(progressive=False).buffers)
        events = function(lambda accept_header: accept_header == "text/event-stream")
        self.assertFalse(self.decide(progressive=events).buffers)
        self.assertTrue(self.decide(progressive=function(lambda path: path != "/x")).buffers)
        self.assertFalse(self.decide(progressive=function(raising), is_handshake=True).buffers)
