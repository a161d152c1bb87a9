"""Request targets: what a route is looked up by, and what the upstream gets to see."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.target import (
    authority_of,
    decode_loosely,
    decode_path,
    host_of,
    key_of,
    resolve_dots,
    split_target,
    strip_segments,
)
from proxyd.errors import RequestError

_DOTS = re.compile(rb"(?:\.|%2e){1,2}", re.IGNORECASE)

# Paths made of what paths are difficult with.
PATHS = st.lists(
    st.sampled_from(
        [b"/", b"/", b"/", b"a", b"b", b".", b"..", b"...", b"%2e", b"%2E", b"%2f", b"%2F", b"%", b"%25", b"%61", b";"]
    ),
    max_size=10,
).map(lambda pieces: b"/" + b"".join(pieces))
# ... and decode without an error.
DECODABLE_PATHS = PATHS.filter(lambda path: not re.search(rb"%(?![0-9A-Fa-f]{2})", path))


def key(path: bytes) -> tuple[str, ...]:
    """What a dot-resolved path is looked up by."""
    return key_of(decode_path(path))


def without_dots(path: bytes) -> bytes:
    """Remove dot segments by the letter of RFC 3986 §5.2.4, once the escaped ones stand as dots."""
    segments = path.split(b"/")
    unescaped = [segment.lower().replace(b"%2e", b".") if _DOTS.fullmatch(segment) else segment for segment in segments]
    left, done = b"/".join(unescaped), b""
    while left:
        if left.startswith(b"/./") or left == b"/.":
            left = b"/" + left[3:]
        elif left.startswith(b"/../") or left == b"/..":
            left = b"/" + left[4:]
            done = done.rpartition(b"/")[0]
        else:
            end = left.find(b"/", 1)
            end = len(left) if end < 0 else end
            done, left = done + left[:end], left[end:]
    return done


class SplitTests(SynchronousTestCase):
    """A target becomes a path and a query."""

    def test_path_and_query_are_split(self) -> None:
        """The path arrives as sent but for its dot segments; the query keeps its question mark and everything else."""
        for target, expected in (
            (b"/", (b"/", b"")),
            (b"/a", (b"/a", b"")),
            (b"/a/", (b"/a/", b"")),
            (b"/a?", (b"/a", b"?")),
            (b"/a?b", (b"/a", b"?b")),
            (b"/a?b?c", (b"/a", b"?b?c")),
            (b"/?a=/../b&c=%2e%2e", (b"/", b"?a=/../b&c=%2e%2e")),
            (b"/a//b///", (b"/a//b///", b"")),
            (b"//a/b", (b"//a/b", b"")),
            (b"///", (b"///", b"")),
            (b"/a;x=1/b@c/+~:", (b"/a;x=1/b@c/+~:", b"")),
            (b"/%c3%A9%2Fx%20", (b"/%c3%A9%2Fx%20", b"")),
            (b"/\xc3\xa9", (b"/\xc3\xa9", b"")),
            (b"/a?%zz+\\|{}^`", (b"/a", b"?%zz+\\|{}^`")),
            (b"/a/../b", (b"/b", b"")),
            (b"/a/%2e%2E/b?c", (b"/b", b"?c")),
            (b"/a/./b/.", (b"/a/b/", b"")),
            (b"/../../etc/passwd", (b"/etc/passwd", b"")),
            (b"/http://other/", (b"/http://other/", b"")),
        ):
            self.assertEqual(split_target(target), expected, repr(target))
            self.assertEqual(split_target(target, lenient=True), expected, repr(target))

    def test_authority_of_an_absolute_form_is_dropped(self) -> None:
        """Of an http URL the path and the query are left."""
        for target, expected in (
            (b"http://h", (b"/", b"")),
            (b"http://h/", (b"/", b"")),
            (b"http://h?a", (b"/", b"?a")),
            (b"http://h/a/../b?c", (b"/b", b"?c")),
            (b"HTTPS://H:443/a", (b"/a", b"")),
            (b"ws://h/a", (b"/a", b"")),
            (b"WSS://[::1]:80/a", (b"/a", b"")),
            (b"http://h//a", (b"//a", b"")),
        ):
            self.assertEqual(split_target(target), expected, repr(target))

    def test_authority_of_an_absolute_form(self) -> None:
        """It is told apart from the rest; other forms have none."""
        for target, expected in (
            (b"http://h", b"h"),
            (b"http://h?a", b"h"),
            (b"HTTPS://H:443/a", b"H:443"),
            (b"WSS://[::1]:80/a", b"[::1]:80"),
            (b"/http://h/", b""),
            (b"*", b""),
            (b"h:443", b""),
        ):
            self.assertEqual(authority_of(target), expected, repr(target))

    def test_other_targets_are_refused(self) -> None:
        """What is neither a path nor an http URL with a plain authority is refused."""
        for target in (
            b"",
            b"a",
            b"?a",
            b"*",
            b"h:443",
            b"%2fa",
            b"\\a",
            b"ftp://h/",
            b"file:///etc/passwd",
            b"javascript:x",
            b"http:",
            b"http:/a",
            b"http://",
            b"http:///a",
            b"http://?a",
            b"http://user@h/",
            b"http://user:secret@h/",
            b"http://a,b/",
            b"http://h:x/",
            b"http://h:80:80/",
            b"http://[::1/",
            b"http://h\\x/",
            b"http://<h>/",
            b" /a",
        ):
            for lenient in (False, True):
                error = self.assertRaises(RequestError, split_target, target, lenient=lenient)
                self.assertEqual(error.status, 400, repr(target))

    def test_backslash_in_a_path_is_refused(self) -> None:
        """Some read a backslash as a slash: it does not pass, in a query it does."""
        for target in (b"/\\", b"/a\\b", b"/\\..\\a", b"/a\\?b"):
            for lenient in (False, True):
                error = self.assertRaises(RequestError, split_target, target, lenient=lenient)
                self.assertEqual(error.status, 400, repr(target))
        self.assertEqual(split_target(b"/a?\\"), (b"/a", b"?\\"))

    def test_what_has_to_be_escaped_is_refused_or_tolerated(self) -> None:
        """Fragments, quotes and angle brackets earn 400; if lenient, the fragment is dropped and the others pass."""
        for target, expected in (
            (b"/a#b", (b"/a", b"")),
            (b"/a#b?c", (b"/a", b"")),
            (b"/a?b#c", (b"/a", b"?b")),
            (b"/a?#", (b"/a", b"?")),
            (b"/#/../b", (b"/", b"")),
            (b"/a/../b#c", (b"/b", b"")),
            (b"http://h#a", (b"/", b"")),
            (b'/a"b?"c"', (b'/a"b', b'?"c"')),
            (b"/<a>?<b>", (b"/<a>", b"?<b>")),
            (b"/a<b", (b"/a<b", b"")),
            (b"/a?b>", (b"/a", b"?b>")),
            (b"/a#\\", (b"/a", b"")),
        ):
            error = self.assertRaises(RequestError, split_target, target)
            self.assertEqual(error.status, 400, repr(target))
            self.assertEqual(split_target(target, lenient=True), expected, repr(target))

    def test_errors_repeat_nothing(self) -> None:
        """The text of an error never holds what the client sent."""
        for target in (b"/MARK#", b"MARK", b"http://u@MARK/", b"/MARK\\"):
            self.assertNotIn("MARK", str(self.assertRaises(RequestError, split_target, target)), repr(target))


class DotTests(SynchronousTestCase):
    """Dot segments are resolved once, by us."""

    def test_dots_are_resolved(self) -> None:
        """Every way to write a dot segment is one, and nothing else is."""
        for path, expected in (
            (b"/", b"/"),
            (b"/.", b"/"),
            (b"/..", b"/"),
            (b"/./", b"/"),
            (b"/../", b"/"),
            (b"/a/.", b"/a/"),
            (b"/a/..", b"/"),
            (b"/a/b/..", b"/a/"),
            (b"/a/b/../", b"/a/"),
            (b"/a/b/../..", b"/"),
            (b"/a/../../../b", b"/b"),
            (b"/a/./b", b"/a/b"),
            (b"/a/%2e/b", b"/a/b"),
            (b"/a/%2E%2e/b", b"/b"),
            (b"/a/.%2e/b", b"/b"),
            (b"/a/%2E./b", b"/b"),
            (b"/a//../b", b"/a/b"),
            (b"//..", b"/"),
            (b"//../a", b"/a"),
            (b"/a/...", b"/a/..."),
            (b"/a/..b/.c/d../e.", b"/a/..b/.c/d../e."),
            (b"/a/%2e%2e%2e", b"/a/%2e%2e%2e"),
            (b"/a/%252e%252e/b", b"/a/%252e%252e/b"),
            (b"/a/..;/b", b"/a/..;/b"),
            (b"/a/..%2fb", b"/a/..%2fb"),
            (b"/a/%2f../b", b"/a/%2f../b"),
        ):
            self.assertEqual(resolve_dots(path), expected, repr(path))

    @given(PATHS)
    def test_dots_are_resolved_as_the_rfc_says(self, path: bytes) -> None:
        """The result is that of the algorithm in RFC 3986 §5.2.4."""
        self.assertEqual(resolve_dots(path), without_dots(path), repr(path))

    @given(PATHS)
    def test_no_dot_segment_is_left(self, path: bytes) -> None:
        """Neither proxy nor upstream finds anything more to resolve."""
        resolved, _ = split_target(path)
        self.assertTrue(resolved.startswith(b"/"), repr(path))
        for segment in resolved.split(b"/"):
            self.assertIsNone(_DOTS.fullmatch(segment), repr(path))
        self.assertEqual(resolve_dots(resolved), resolved, repr(path))


class DecodeTests(SynchronousTestCase):
    """A path is decoded exactly once."""

    def test_path_is_decoded_once(self) -> None:
        """Escapes become characters, and what they spell is not decoded again."""
        for path, expected in (
            (b"/", "/"),
            (b"/a%20b", "/a b"),
            (b"/%c3%a9", "/é"),
            (b"/\xc3\xa9", "/é"),
            (b"/\xc3%a9", "/é"),
            (b"/%2525", "/%25"),
            (b"/%252e%252e", "/%2e%2e"),
            (b"/a%2Fb%2fc", "/a/b/c"),
            (b"/a+b", "/a+b"),
            (b"/%40%3f%23", "/@?#"),
            (b"/%00", "/\0"),
            (b"/%f0%9f%90%b3", "/\N{SPOUTING WHALE}"),
            (b"/__proto__/constructor", "/__proto__/constructor"),
        ):
            self.assertEqual(decode_path(path), expected, repr(path))

    def test_undecodable_paths_are_refused(self) -> None:
        """A malformed escape, and what is not UTF-8, earns 400."""
        for path in (
            b"/%",
            b"/%2",
            b"/%zz",
            b"/%2g",
            b"/%%20",
            b"/%u0041",
            b"/% 2",
            b"/%e9",
            b"/\xe9",
            b"/%ff%fe",
            b"/%c3",
            b"/%c0%ae",  # an overlong dot
            b"/%c0%af",  # an overlong slash
            b"/%e0%80%af",
            b"/%ed%a0%80",  # a surrogate
            b"/%f4%90%80%80",
            b"/\xc0\xaf",
        ):
            self.assertEqual(self.assertRaises(RequestError, decode_path, path).status, 400, repr(path))

    def test_loosely_decoded_paths(self) -> None:
        """Bytes that are not UTF-8 stand for themselves, and for no dot and no slash; malformed escapes do not pass."""
        for path, expected in (
            (b"/a%2Fb%C3%A9", "/a/b\N{LATIN SMALL LETTER E WITH ACUTE}"),
            (b"/%ff", "/\udcff"),
            (b"/\xff", "/\udcff"),
            (b"/%c0%ae%c0%af", "/\udcc0\udcae\udcc0\udcaf"),
        ):
            self.assertEqual(decode_loosely(path), expected, repr(path))
        for path in (b"/%", b"/%zz", b"/%ff%2"):
            self.assertEqual(self.assertRaises(RequestError, decode_loosely, path).status, 400, repr(path))

    def test_key_is_made_of_segments(self) -> None:
        """Slashes at both ends do not count, empty segments inside do."""
        for path, expected in (
            ("/", ()),
            ("", ()),
            ("///", ()),
            ("/a", ("a",)),
            ("/a/", ("a",)),
            ("//a/b//", ("a", "b")),
            ("/a//b", ("a", "", "b")),
            ("/A/a;x", ("A", "a;x")),
        ):
            self.assertEqual(key_of(path), expected, repr(path))


class StripTests(SynchronousTestCase):
    """The prefix of a route, taken off the raw path."""

    def test_segments_are_stripped(self) -> None:
        """Decoded segments are counted, and the raw rest stays as it is."""
        for path, count, expected in (
            (b"/bar", 1, b"/"),
            (b"/bar/", 1, b"/"),
            (b"/bar/x", 1, b"/x"),
            (b"/bar/x/", 1, b"/x/"),
            (b"/bar//x", 1, b"//x"),
            (b"//bar/x", 1, b"/x"),
            (b"/a/b", 2, b"/"),
            (b"/a/b/c", 2, b"/c"),
            (b"/a//b/c", 2, b"/b/c"),
            (b"/a//b/c", 3, b"/c"),
            (b"/%62ar/x%20y", 1, b"/x%20y"),
            (b"/user/foo%40bar/lab%2Fx", 2, b"/lab%2Fx"),
            (b"/a%2Fb/c", 2, b"/c"),
            (b"/a%2fb%2Fc", 2, b"/c"),
            (b"/a%2Fb/c", 1, b"/b/c"),
            (b"%2f/a/b", 1, b"/b"),
            (b"/\xc3\xa9/x", 1, b"/x"),
            (b"/a", 5, b"/"),
            (b"/", 1, b"/"),
        ):
            self.assertEqual(strip_segments(path, count), expected, f"{path!r} less {count}")

    def test_stripping_leaves_no_dot_segment(self) -> None:
        """A dot segment that stood behind an escaped slash does not come to light in front of the upstream."""
        for path, count, expected in (
            (b"/a%2F..", 1, b"/"),
            (b"/a%2F../b", 1, b"/b"),
            (b"/a%2f%2e%2E/../b", 1, b"/b"),
            (b"/a%2F./b", 1, b"/b"),
            (b"/a/%2F../b", 1, b"/%2F../b"),
            (b"/a%2F..%2Fb", 1, b"/..%2Fb"),
        ):
            self.assertEqual(strip_segments(path, count), expected, f"{path!r} less {count}")

    @given(DECODABLE_PATHS, st.integers(1, 4))
    def test_rest_is_what_stands_behind_the_prefix(self, path: bytes, count: int) -> None:
        """The rest, decoded, is the path without the decoded prefix, and it has no dot segments."""
        path, _ = split_target(path)
        decoded = unquote_to_bytes(path).lstrip(b"/")
        rest = strip_segments(path, count)
        self.assertTrue(rest.startswith(b"/"), f"{path!r} less {count}")
        self.assertEqual(resolve_dots(rest), rest, f"{path!r} less {count}")
        if b"." not in decoded:
            expected = b"/".join(decoded.split(b"/")[count:])
            self.assertEqual(unquote_to_bytes(rest), b"/" + expected, f"{path!r} less {count}")


class HostTests(SynchronousTestCase):
    """The host that routes know."""

    def test_host_has_neither_port_nor_case(self) -> None:
        """Port, final dot and case do not count; an IPv6 address keeps its brackets."""
        for authority, expected in (
            (b"", ""),
            (b":80", ""),
            (b"h", "h"),
            (b"h:80", "h"),
            (b"h:", "h"),
            (b"Example.ORG:8000", "example.org"),
            (b"example.org.", "example.org"),
            (b"example.org.:80", "example.org"),
            (b"127.0.0.1:80", "127.0.0.1"),
            (b"[::1]", "[::1]"),
            (b"[::1]:8000", "[::1]"),
            (b"[2001:DB8::1]:80", "[2001:db8::1]"),
        ):
            self.assertEqual(host_of(authority), expected, repr(authority))
