"""Tests of `proxyd.core.cookies`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.cookies import cookies_in, set_cookie, without_cookies


class CookieTests(SynchronousTestCase):
    """What browsers and programs send."""

    def test_pairs(self) -> None:
        """In order, of all fields, several of one name; junk does no harm."""
        for values, expected in (
            ([], []),
            ([b""], []),
            ([b"a=1; b=2"], [(b"a", b"1"), (b"b", b"2")]),
            ([b"a=1;a=2", b"a=3"], [(b"a", b"1"), (b"a", b"2"), (b"a", b"3")]),
            ([b'  a = "x=y" ;;; junk; =v; b='], [(b"a", b"x=y"), (b"", b"v"), (b"b", b"")]),
            ([b"u%40=\xff"], [(b"u%40", b"\xff")]),
        ):
            self.assertEqual(cookies_in(values), expected, values)

    def test_taken_out(self) -> None:
        """All of that name, and none of another; what is left stays as it came."""
        names = frozenset({b"s", b"t"})
        for value, expected in (
            (b"s=1", b""),
            (b"s", b""),
            (b"a=1; s=2; b=3", b"a=1; b=3"),
            (b"s=1; a=1;s=2;  b = 3 ;t=4", b"a=1;  b = 3"),
            (b"ss=1; S=2; a=s=1", b"ss=1; S=2; a=s=1"),
            (b"\ts =1; a=1", b"a=1"),
        ):
            self.assertEqual(without_cookies(value, names), expected, value)

    def test_set(self) -> None:
        """Out of reach of scripts and other sites."""
        self.assertEqual(
            set_cookie(b"n", b"v", b"/p", secure=True, max_age=5),
            b"n=v; Path=/p; Max-Age=5; HttpOnly; SameSite=Lax; Secure",
        )
        self.assertEqual(
            set_cookie(b"n", b"", b"/", secure=False, max_age=0), b"n=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        )
