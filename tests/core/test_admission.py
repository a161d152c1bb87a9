"""Tests of `proxyd.core.admission`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.admission import admitted_fields, admitted_query, answered_fields, cookie_lines
from proxyd.model.auth import ANYBODY, Admit, Strip

FIELDS = [
    b"Accept: */*",
    b"Cookie: s=1; a=2",
    b"COOKIE: s=3",
    b"Authorization: Bearer x",
    b"x-user: eve",
    b"X_USER: eve",
]


class AdmissionTests(SynchronousTestCase):
    """Requests and responses that an authenticator changes."""

    def test_nothing_asked_nothing_changed(self) -> None:
        """The very same lines."""
        self.assertIs(admitted_fields(FIELDS, ANYBODY), FIELDS)
        self.assertEqual((admitted_query(b"?a=b", ANYBODY), admitted_query(b"", ANYBODY)), (b"?a=b", b""))
        self.assertEqual(answered_fields([b"Set-Cookie: s=1"], ANYBODY), [b"Set-Cookie: s=1"])
        self.assertFalse(Strip())

    def test_cookies_are_taken_out(self) -> None:
        """Of every Cookie field; one with nothing left is dropped."""
        admit = Admit(strip=Strip(cookies=frozenset({b"s"})))
        self.assertTrue(admit.strip)
        self.assertEqual(admitted_fields(FIELDS[:3], admit), [b"Accept: */*", b"Cookie: a=2"])

    def test_fields_are_taken_out(self) -> None:
        """By their name, however it is written."""
        admit = Admit(strip=Strip(fields=frozenset({b"authorization", b"accept"})))
        self.assertEqual(admitted_fields(FIELDS, admit), [*FIELDS[1:3], *FIELDS[4:]])
        self.assertEqual(admitted_fields(FIELDS, Admit(strip=Strip(fields=frozenset({b"x-user"})))), FIELDS[:4])

    def test_added_fields_replace_forgeries(self) -> None:
        """Those with underscores as well, which applications read as the same."""
        self.assertEqual(
            admitted_fields(FIELDS, Admit(add=((b"X-User", b"alice"), (b"X-Kind", b"user")))),
            [*FIELDS[:4], b"X-User: alice", b"X-Kind: user"],
        )

    def test_arguments_are_taken_out(self) -> None:
        """Decoded names count, in whatever case; everything else stays as it came."""
        admit = Admit(strip=Strip(arguments=frozenset({b"token", b"a b"})))
        for query, expected in (
            (b"", b""),
            (b"?", b"?"),
            (b"?token=x", b""),
            (b"?token", b""),
            (b"?a=1&token=x&b=%20", b"?a=1&b=%20"),
            (b"?%74oken=x&a+b=1&a%20b=2&c", b"?c"),
            (b"?tokens=1&Token=2", b"?tokens=1"),
        ):
            self.assertEqual(admitted_query(query, admit), expected, query)

    def test_arguments_are_added(self) -> None:
        """At the end, in place of forgeries, and so that they mean what they are."""
        admit = Admit(strip=Strip(arguments=frozenset({b"who"})), add_arguments=((b"WHO", b'{"a": "&"}'),))
        added = b"WHO=%7B%22a%22%3A+%22%26%22%7D"
        for query in (b"", b"?", b"?who=eve"):
            self.assertEqual(admitted_query(query, admit), b"?" + added)
        self.assertEqual(admitted_query(b"?a&&who=eve&b", admit), b"?a&&b&" + added)

    def test_responses_get_cookies(self) -> None:
        """And cannot set those that belong to the authenticator."""
        admit = Admit(strip=Strip(cookies=frozenset({b"s"})), set_cookies=(b"s=new; Path=/",))
        fields = [b"Set-Cookie: s=evil", b"set-cookie:  s =evil", b"Set-Cookie: sid=1; s=2", b"X: s=1"]
        self.assertEqual(
            answered_fields(fields, admit), [b"Set-Cookie: sid=1; s=2", b"X: s=1", b"Set-Cookie: s=new; Path=/"]
        )
        self.assertEqual(cookie_lines(admit), [b"Set-Cookie: s=new; Path=/"])
