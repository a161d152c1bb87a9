"""Where a route leads: what is understood, and what could never be reached."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import OptionError
from proxyd.model.upstream import Parts, Upstream


class ParseTests(SynchronousTestCase):
    """URLs of upstreams."""

    def test_url_of_a_host_is_read(self) -> None:
        """Scheme, host and port; scheme and host in any case, the port of the scheme if none is given."""
        for url, secure, host, port in (
            ("http://h", False, "h", 80),
            ("http://h/", False, "h", 80),
            ("https://h", True, "h", 443),
            ("HTTP://Example.ORG:8000", False, "example.org", 8000),
            ("https://h:80", True, "h", 80),
            ("http://h:", False, "h", 80),
            ("http://h:65535", False, "h", 65535),
            ("http://h:08000", False, "h", 8000),
            ("http://127.0.0.1:9000", False, "127.0.0.1", 9000),
            ("http://[::1]:9000", False, "::1", 9000),
            ("http://[2001:DB8::1]", False, "2001:db8::1", 80),
            ("http://under_score-1", False, "under_score-1", 80),
            ("http://example.org.", False, "example.org.", 80),
            ("http://bücher.example", False, "xn--bcher-kva.example", 80),
            ("http://user:secret@h:81", False, "h", 81),
            ("http://user@h@i", False, "i", 80),
            ("http://h:81#fragment", False, "h", 81),
        ):
            upstream = Upstream.parse(url)
            self.assertEqual((upstream.secure, upstream.host, upstream.port), (secure, host, port), url)
            self.assertEqual((upstream.url, upstream.socket), (url, ""), url)
            self.assertEqual(str(upstream), f"{host}:{port}", url)

    def test_zone_of_an_address_is_read(self) -> None:
        """A zone stands behind `%25` (RFC 6874), or behind a lone `%` as people write it."""
        for url, host in (
            ("http://[fe80::1%25eth0]", "fe80::1%eth0"),
            ("http://[fe80::1%eth0]:81", "fe80::1%eth0"),
            ("http://[fe80::1%251]", "fe80::1%1"),
            ("http://[fe80::1%2]", "fe80::1%2"),
            ("http://[fe80::1%25]", "fe80::1%25"),
            ("http://[FE80::1%25Wlan-0._~]", "fe80::1%Wlan-0._~"),
        ):
            self.assertEqual(Upstream.parse(url).host, host, url)

    def test_url_of_a_socket_is_read(self) -> None:
        """The path of a socket is decoded and keeps its case."""
        for url, socket, path in (
            ("http+unix://%2Frun%2Fapp.sock", "/run/app.sock", b""),
            ("unix+http://%2Frun%2Fapp.sock/", "/run/app.sock", b""),
            ("HTTP+UNIX://%2FTmp%2FApp.Sock/Path", "/Tmp/App.Sock", b"/Path"),
            ("http+unix://%2Frun%2F%C3%A9%40%3a.sock/a?b", "/run/é@:.sock", b"/a"),
            ("http+unix://%2f" + "a" * 106, "/" + "a" * 106, b""),
            ("http+unix://%40relative", "@relative", b""),
        ):
            upstream = Upstream.parse(url)
            self.assertEqual((upstream.secure, upstream.socket, upstream.path), (False, socket, path), url)
            self.assertEqual((upstream.host, upstream.port, str(upstream)), ("localhost", 0, socket), url)

    def test_path_and_query_are_kept(self) -> None:
        """They come ready for the wire: escapes stay, what no URL may hold is escaped, and a lone slash is nothing."""
        for url, path, query in (
            ("http://h", b"", b""),
            ("http://h/", b"", b""),
            ("http://h//", b"//", b""),
            ("http://h/a/b/", b"/a/b/", b""),
            ("http://h/a%20b%2Fc%zz", b"/a%20b%2Fc%zz", b""),
            ("http://h/é", b"/%C3%A9", b""),
            ('http://h/"<a>"', b"/%22%3Ca%3E%22", b""),
            ("http://h/a;b=1,@:!$&'()*+=~", b"/a;b=1,@:!$&'()*+=~", b""),
            ("http://h?a=b", b"", b"a=b"),
            ("http://h/?a=b&c=%26é/?", b"", b"a=b&c=%26%C3%A9/?"),
            ("http://h/a#b?c", b"/a", b""),
        ):
            upstream = Upstream.parse(url)
            self.assertEqual((upstream.path, upstream.query), (path, query), url)

    def test_authority_is_what_host_wants(self) -> None:
        """The port is left out when it is the scheme's; addresses have brackets and no zone; sockets are localhost."""
        for url, authority in (
            ("http://h", b"h"),
            ("http://h:80", b"h"),
            ("http://h:443", b"h:443"),
            ("https://h:443", b"h"),
            ("https://h:80", b"h:80"),
            ("http://user@H:81/path", b"h:81"),
            ("http://[::1]", b"[::1]"),
            ("http://[::1]:81", b"[::1]:81"),
            ("http://[fe80::1%25eth0]:81", b"[fe80::1]:81"),
            ("http://bücher.example", b"xn--bcher-kva.example"),
            ("http+unix://%2Frun%2FApp.sock/x", b"localhost"),
        ):
            self.assertEqual(Upstream.parse(url).authority, authority, url)

    def test_unreachable_upstreams_are_refused(self) -> None:
        """Whatever nobody could ever connect to is an `OptionError` at once, not an error of each request."""
        for url in (
            "",
            "x",
            "/path",
            "h:80",
            "localhost",
            "//h",
            "http:",
            "http:/",
            "http://",
            "http:///path",
            "http://:80",
            "http://@",
            "http://user@",
            "http:h",
            "ftp://h",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "ws://h",
            "unix:///run/app.sock",
            "https+unix://%2Frun%2Fapp.sock",
            "http://h:0",
            "http://h:65536",
            "http://h:99999",
            "http://h:-1",
            "http://h:+80",
            "http://h:x",
            "http://h:80:80",
            "http://h:\uff18\uff10",  # digits, but not those of ASCII
            "http://h\r\nX: y",
            "http://h/\r\nX: y",
            "http://h/a b",
            "http://h/\t",
            "http://h/\0",
            "http://h/\x7f",
            " http://h",
            "http://h ",
            "http://h\\@i",
            "http://h/\\",
            "http://a b",
            "http://a,b",
            "http://a;b",
            "http://a$b",
            "http://a%62",
            "http://*.h",
            "http://a..b",
            "http://.a",
            "http://" + "a" * 64,
            "http://" + "a." * 128,
            "http://[",
            "http://[]",
            "http://[::1",
            "http://::1",
            "http://[::1]x",
            "http://[::1]x:80",
            "http://[::1].example.org",
            "http://h[::1]",
            "http://user@h[::1]",
            "http://[::1][::2]",
            "http://[::g]",
            "http://[1.2.3.4]",
            "http://[h]",
            "http://[v1.a]",
            "http://[::1%]",
            "http://[::1%é]",
            'http://[::1%a"b]',
            "http://[::1%a%b]",
            "http://\u2100.example",  # has a slash in it once it is normalized
            "http://\ud800",
            "http://h/\ud800",
            "http://h?\ud800",
            "http+unix://",
            "http+unix:///run/app.sock",
            "http+unix://%00",
            "http+unix://%2Frun%00",
            "http+unix://%2F%ff",
            "http+unix://\ud800",
            "http+unix://%2f" + "a" * 107,
            "http+unix://%2f" + "é" * 54,
            "http+unix://%2Frun%2Fa:b",
        ):
            error = self.assertRaises(OptionError, Upstream.parse, url)
            self.assertNotEqual(str(error), "", repr(url))

    @given(st.text(st.sampled_from("ahtps:/[]%@?#.25:0éß\ud800\0 \\~"), max_size=12))
    def test_whatever_is_accepted_can_be_sent(self, rest: str) -> None:
        """Any text is refused with an `OptionError`, or everything about it can be put on a wire."""
        for scheme in ("http://", "https://h", "http+unix://", ""):
            try:
                upstream = Upstream.parse(scheme + rest)
            except OptionError:
                continue
            wire = b"GET " + upstream.path + b"?" + upstream.query + b" Host: " + upstream.authority
            self.assertRegex(wire, rb"\AGET [\x21-\x7e]* Host: [\x21-\x7e]+\Z", repr(rest))
            self.assertTrue(0 < upstream.port < 65536 or upstream.socket, repr(rest))
            upstream.socket.encode()

    def test_equal_urls_are_equal_upstreams(self) -> None:
        """Upstreams are values: what is parsed from the same text is the same."""
        self.assertEqual(Upstream.parse("http://h:81/a"), Upstream.parse("http://h:81/a"))
        self.assertEqual(len({Upstream.parse("http://h"), Upstream.parse("http://h"), Upstream.parse("http://i")}), 2)


class EqualityTests(SynchronousTestCase):
    """Upstreams as values."""

    def test_the_url_counts(self) -> None:
        """Whether anybody has asked what it says or not."""
        one, same = Upstream.parse("http://h:81/a?b"), Upstream.parse("http://h:81/a?b")
        self.assertEqual((81, b"/a", b"b"), (one.port, one.path, one.query))
        self.assertEqual((one, hash(one), repr(one)), (same, hash(same), repr(same)))
        self.assertNotEqual(one, Upstream.parse("http://h:81/a?c"))
        place = Upstream("http://::1:80", Parts(False, "::1", 80))  # no URL that could be read
        self.assertEqual(("::1", 80, b"[::1]"), (place.host, place.port, place.authority))
