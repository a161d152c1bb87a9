"""Tests of `proxyd.core.origin`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.forward import Peer
from proxyd.core.head import HeadLimits, RequestHead, RequestReader
from proxyd.core.origin import is_foreign, is_navigation, is_secure, local_path

PLAIN = Peer(b"192.0.2.1", secure=False, trusted=False)
SECURE = Peer(b"192.0.2.1", secure=True, trusted=False)
TRUSTED = Peer(b"127.0.0.1", secure=False, trusted=True)


def head_with(*fields: str, method: str = "POST", host: str = "a.test") -> RequestHead:
    """A request with these fields."""
    block = "\r\n".join([f"{method} / HTTP/1.1", f"Host: {host}", *fields])
    return RequestReader(HeadLimits()).read(block.encode())


class SecureTests(SynchronousTestCase):
    """Which protocol the browser speaks."""

    def test_the_first_word_counts(self) -> None:
        """Each proxy on the way adds one behind it."""
        for fields, expected in (
            ((), False),
            (("X-Forwarded-Proto: https",), True),
            (("X-Forwarded-Proto: https,http",), True),
            (("X-Forwarded-Proto: http, https",), False),
            (("X-Forwarded-Proto: wss",), True),
            (("X-Forwarded-Host: b.test",), False),
            (("X-Scheme: https", "X-Forwarded-Proto: http"), True),
            (("Forwarded: for=1.2.3.4;proto=https, proto=http",), True),
            (('Forwarded: Proto="HTTPS"',), True),
            (("Forwarded: for=1.2.3.4, proto=https", "X-Scheme: http"), False),
            (("Forwarded: xproto=https",), False),
        ):
            self.assertEqual(is_secure(head_with(*fields), PLAIN), expected, fields)

    def test_else_that_of_the_connection(self) -> None:
        """TLS with us is https, unless somebody in front of us says what the browser speaks."""
        self.assertTrue(is_secure(head_with(), SECURE))
        self.assertFalse(is_secure(head_with("X-Forwarded-Proto: http"), SECURE))


class ForeignTests(SynchronousTestCase):
    """Whether another origin's page is behind a request."""

    def test_table(self) -> None:
        """Sec-Fetch-Site first, then Origin, then Referer."""
        for fields, expected in (
            ((), False),
            (("Sec-Fetch-Site: same-origin",), False),
            (("Sec-Fetch-Site: none",), False),
            (("Sec-Fetch-Site: same-site",), True),
            (("Sec-Fetch-Site: cross-site",), True),
            (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"), True),
            (("Sec-Fetch-Site: Same-Origin",), True),
            (("Sec-Fetch-Site: same-origin, cross-site",), True),
            (("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"), True),
            (("Sec-Fetch-Site: cross-site", "Origin: http://a.test"), True),
            (("Sec-Fetch-Site: same-origin", "Origin: http://b.test"), False),
            (("Origin: http://a.test",), False),
            (("Origin: HTTPS://A.TEST",), False),
            (("Origin: http://a.test:80",), False),
            (("Origin: https://a.test:443",), False),
            (("Origin: http://a.test:81",), True),
            (("Origin: http://b.test",), True),
            (("Origin: http://a.test.b.test",), True),
            (("Origin: http://b.test?a.test",), True),
            (("Origin: http://a.test@b.test",), True),
            (("Origin: null",), True),
            (("Origin: a.test",), True),
            (("Origin: file://a.test",), True),
            (("Origin: http://a.test", "Origin: http://b.test"), True),
            (("Origin: null", "Referer: http://a.test/"), True),
            (("Referer: http://a.test/x?y",), False),
            (("Referer: http://b.test/a.test",), True),
            (("Referer: about:blank",), True),
            (("X-Forwarded-Host: b.test", "Origin: http://b.test"), True),
        ):
            self.assertEqual(is_foreign(head_with(*fields), PLAIN), expected, fields)

    def test_ports(self) -> None:
        """A port that is the scheme's own may be there on either side."""
        self.assertFalse(is_foreign(head_with("Origin: http://a.test", host="a.test:80"), PLAIN))
        self.assertFalse(is_foreign(head_with("Origin: http://a.test:8000", host="a.test:8000"), PLAIN))
        self.assertTrue(is_foreign(head_with("Origin: http://a.test", host="a.test:443"), PLAIN))

    def test_a_trusted_proxy_may_have_changed_host(self) -> None:
        """It says what it was."""
        fields = ("X-Forwarded-Host: b.test", "Origin: http://b.test")
        self.assertFalse(is_foreign(head_with(*fields), TRUSTED))
        self.assertTrue(is_foreign(head_with("X-Forwarded-For: 1.2.3.4", "Origin: http://b.test"), TRUSTED))

    def test_websockets(self) -> None:
        """Origin counts in any case; without it, it is no browser."""
        upgrade = ("Connection: Upgrade", "Upgrade: websocket")
        for fields, expected in (
            ((), False),
            (("Referer: http://b.test/",), False),
            (("Origin: http://a.test",), False),
            (("Origin: http://b.test",), True),
            (("Origin: http://b.test", "Sec-Fetch-Site: same-origin"), True),
            (("Sec-Fetch-Site: cross-site",), True),
            (("Sec-Fetch-Site: same-site", "Origin: http://a.test"), True),
        ):
            self.assertEqual(is_foreign(head_with(*upgrade, *fields, method="GET"), PLAIN), expected, fields)


class NavigationTests(SynchronousTestCase):
    """Whether somebody waits for a page."""

    def test_table(self) -> None:
        """Only GET and HEAD, only for HTML, and not when a script fetches."""
        html = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
        for method, fields, expected in (
            ("GET", (html,), True),
            ("HEAD", (html,), True),
            ("POST", (html,), False),
            ("OPTIONS", (html,), False),
            ("GET", (html, "Sec-Fetch-Mode: navigate"), True),
            ("GET", (html, "Sec-Fetch-Mode: cors"), False),
            ("GET", (html, "Connection: Upgrade", "Upgrade: websocket"), False),
            ("GET", ("Accept: */*",), False),
            ("GET", ("Accept: text/event-stream",), False),
            ("GET", (), False),
        ):
            self.assertEqual(is_navigation(head_with(*fields, method=method)), expected, (method, fields))


class LocalPathTests(SynchronousTestCase):
    """Where a browser may be sent to."""

    def test_paths_of_ours(self) -> None:
        """They stay as they are."""
        for target, scope in (
            (b"/", b"/"),
            (b"/x/y?z=//e.test", b"/"),
            (b"/x?a=\\b", b"/"),
            (b"/app", b"/app"),
            (b"/app/x", b"/app"),
            (b"/app?x", b"/app"),
            (b"/base/x", b"/base/"),
            (b"/x//y", b"/"),
            (b"/a%2Fb", b"/"),
        ):
            self.assertEqual(local_path(target, scope), target, target)

    def test_tricks(self) -> None:
        """Whatever a browser could read as another place leads to the scope."""
        for target in (
            b"",
            b"//e.test",
            b"///e.test",
            b"/\\e.test",
            b"\\\\e.test",
            b"\\/e.test",
            b"/%2Fe.test",
            b"/%2f%2fe.test",
            b"/%5Ce.test",
            b"/x\\..\\e",
            b"%2F%2Fe.test",
            b"https:e.test",
            b"https://e.test",
            b"http:/e.test",
            b"javascript:alert(1)",
            b"data:text/html,x",
            b"e.test",
            b"@e.test",
            b" /x",
            b"/\t/e.test",
            b"/\n/e.test",
            b"/x\r\nSet-Cookie: a=b",
            b"/x y",
            b"/\xff",
            b"/\0",
            b"?x",
            b"*",
        ):
            self.assertEqual(local_path(target, b"/"), b"/", target)

    def test_outside_the_scope(self) -> None:
        """One route's login does not lead to another route."""
        for target in (b"/", b"/other", b"/apple", b"/ap", b"//app/x", b"/%2Fapp", b"/app/../x", b"/app/a/%2e%2E/../x"):
            self.assertEqual(local_path(target, b"/app"), b"/app", target)

    def test_dot_segments(self) -> None:
        """They are resolved, as a browser does: what is left has to be at the scope, and on this host."""
        for target, path in (
            (b"/app/a/../b?c=/../d", b"/app/b?c=/../d"),
            (b"/app/./%2E/b", b"/app/b"),
            (b"/x/../app/b", b"/app/b"),
            (b"/app/..", b"/app"),
        ):
            self.assertEqual(local_path(target, b"/app"), path)
        for target in (b"/x/..//e.test", b"/.//e.test", b"/x/../%2fe.test", b"/./%5ce.test"):
            self.assertEqual(local_path(target, b"/"), b"/")
