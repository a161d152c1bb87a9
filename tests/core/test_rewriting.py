"""Responses that functions of users rewrite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlparse, urlunparse

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.head import ResponseHead
from proxyd.core.rewriting import Headers, RewritableResponse, RewriteRequest, rewrite
from proxyd.errors import RequestError


def head(status: int = 200, reason: bytes = b"OK", *fields: bytes) -> ResponseHead:
    made = ResponseHead()
    made.status, made.reason, made.fields = status, reason, list(fields)
    return made


def request(uri: str = "/b/app/x?a=1", **changes: Any) -> RewriteRequest:
    facts: dict[str, Any] = {
        "method": "GET",
        "uri": uri,
        "host": "hub.test:8000",
        "protocol": "http",
        "headers": Headers(),
        "body": b"",
        "remote_ip": "192.0.2.1",
    }
    return RewriteRequest(**{**facts, **changes})


class HeadersTests(SynchronousTestCase):
    """Fields as functions see them."""

    def setUp(self) -> None:
        self.headers = Headers.of_lines([b"content-type: text/html", b"Set-Cookie: a=1", b"X:", b"set-cookie:b=2 "])

    def test_they_are_found_whatever_their_case(self) -> None:
        """One name may have several values."""
        self.assertEqual("text/html", self.headers["CONTENT-TYPE"])
        self.assertEqual("a=1,b=2", self.headers["Set-Cookie"])
        self.assertEqual(["a=1", "b=2"], self.headers.get_list("set-cookie"))
        self.assertEqual(("", None), (self.headers.get("x"), self.headers.get("Y")))
        self.assertTrue("x" in self.headers and "y" not in self.headers and 1 not in self.headers)
        self.assertEqual((["Content-Type", "Set-Cookie", "X"], 3), (list(self.headers), len(self.headers)))

    def test_to_set_replaces_all_of_a_name(self) -> None:
        """In the place of the first, or behind the others; while they are gone through as well."""
        for name, _ in self.headers.get_all():
            if name == "Set-Cookie":
                self.headers[name.lower()] = "c=3"
        self.headers["new"] = "1"
        self.headers.add("NEW", "2")
        self.assertEqual(
            [("Content-Type", "text/html"), ("Set-Cookie", "c=3"), ("X", ""), ("New", "1"), ("New", "2")],
            list(self.headers.get_all()),
        )

    def test_to_delete(self) -> None:
        """All of a name; what is not there is an error."""
        del self.headers["set-cookie"]
        self.assertEqual(["Content-Type", "X"], list(self.headers))
        with self.assertRaises(KeyError):
            del self.headers["set-cookie"]
        with self.assertRaises(KeyError):
            self.headers["set-cookie"]

    def test_a_copy_is_another_one(self) -> None:
        """What is done to it changes nothing here."""
        del self.headers.copy()["X"]
        self.assertIn("X", self.headers)


class RequestTests(SynchronousTestCase):
    """The client's request."""

    def test_its_parts(self) -> None:
        """Path, query and URL are the client's own."""
        asked = request("/b/app/x%20y?a=1&b=&a=2")
        self.assertEqual(("/b/app/x%20y", "a=1&b=&a=2"), (asked.path, asked.query))
        self.assertEqual("http://hub.test:8000/b/app/x%20y?a=1&b=&a=2", asked.full_url())
        self.assertEqual({"a": [b"1", b"2"], "b": [b""]}, asked.arguments)

    def test_a_form_has_arguments(self) -> None:
        """Besides those of the query."""
        headers = Headers([("content-type", "application/x-www-form-urlencoded; charset=utf-8")])
        self.assertEqual({"a": [b"1", b"3"], "c": [b"4"]}, request(headers=headers, body=b"a=3&c=4").arguments)

    def test_cookies(self) -> None:
        """By name; those whose name is none are left out."""
        asked = request(headers=Headers([("Cookie", "a=1; b=2")]))
        self.assertEqual(("1", "2"), (asked.cookies["a"].value, asked.cookies["b"].value))
        asked = request(headers=Headers([("Cookie", "a,b=1; c=3; Path; d=("), ("cookie", "e=4")]))
        self.assertEqual(["c", "d", "e"], list(asked.cookies))


class RewriteTests(SynchronousTestCase):
    """Functions, one after the other."""

    def test_they_change_everything(self) -> None:
        """Body, fields, status and reason; the usual reason follows the status, another one stays."""
        seen = head(200, b"OK", b"Content-Type: text/plain", b"Content-Length: 3", b"Set-Cookie: a", b"Set-Cookie: b")

        def change(response: RewritableResponse) -> None:
            response.body = response.body.upper()
            response.code = 418
            response.headers["Content-Type"] = "text/html"

        self.assertEqual(b"ABC", rewrite([change], seen, b"abc", {}))
        self.assertEqual((418, b"I'm a Teapot"), (seen.status, seen.reason))
        self.assertEqual([b"Content-Type: text/html", b"Set-Cookie: a", b"Set-Cookie: b"], seen.fields)
        self.assertEqual((None, False), (seen.location, seen.has_date))
        for reason, expected in ((b"Fine", b"Fine"), (b"", b"Not Found")):
            seen = head(200, reason)
            rewrite([lambda response: setattr(response, "code", 404)], seen, b"", {})
            self.assertEqual((404, expected), (seen.status, seen.reason))
        seen = head(299, b"Odd")
        rewrite([lambda response: setattr(response, "code", 298)], seen, b"", {})
        self.assertEqual((298, b"Odd"), (seen.status, seen.reason))

    def test_the_original_stays(self) -> None:
        """Each gets what the one before left, and the response as it came."""
        lengths: list[tuple[int, int]] = []

        def double(response: RewritableResponse, orig_response: RewritableResponse) -> None:
            lengths.append((len(response.body), len(orig_response.body)))
            response.body *= 2

        self.assertEqual(b"x" * 8, rewrite([double, double, double], head(), b"x", {}))
        self.assertEqual([(1, 1), (2, 1), (4, 1)], lengths)

    def test_what_else_is_offered(self) -> None:
        """The request, and what the route knows."""
        given: list[object] = []
        rewrite(
            [lambda port, path, request: given.extend((port, path, request))],
            head(),
            b"",
            {"port": 1, "path": "/x", "request": "asked", "host": "localhost"},
        )
        self.assertEqual([1, "/x", "asked"], given)

    def test_a_location_is_noted(self) -> None:
        """So that it is rewritten afterwards; this is how one real package repairs it."""

        def rewrite_netloc(response: Any, request: Any) -> None:
            for header, value in response.headers.get_all():
                if header == "Location":
                    url = urlparse(value)
                    if url.netloc != request.host:
                        response.headers[header] = urlunparse(url._replace(netloc=request.host))

        seen = head(302, b"Found", b"location: http://localhost:8787/auth", b"date: now")
        rewrite([rewrite_netloc], seen, b"", {"request": request()})
        self.assertEqual((b"http://hub.test:8000/auth", True), (seen.location, seen.has_date))

    def test_what_cannot_be_sent_is_an_error(self) -> None:
        """It names the function; so does an exception."""

        def fails(**changes: object) -> Callable[[RewritableResponse], None]:
            def function(response: RewritableResponse) -> None:
                for name, value in changes.items():
                    setattr(response, name, value)

            function.__qualname__ = "function"
            return function

        cases: list[tuple[Any, str]] = [
            (fails(body="text"), "left a str in place of a body of bytes"),
            (fails(code="200"), "left '200' as the status"),
            (fails(code=101), "left 101 as the status"),
            (fails(reason="a\r\nb"), "a field value has no control characters"),
            (fails(reason=7), "left a field that cannot be sent"),
            (fails(headers=Headers([("X y", "1")])), "'X y' is not a field name"),
            (fails(headers=Headers([("X", "\n")])), "a field value has no control characters"),
            (fails(headers={"X": "1"}), "has no attribute 'get_all'"),
            (lambda: 1 / 0, "raised ZeroDivisionError"),
            (lambda nope: None, "asks for nope"),
        ]
        for function, words in cases:
            error = self.assertRaises(RequestError, rewrite, [function], head(), b"", {})
            self.assertEqual(500, error.status)
            self.assertIn(words, str(error))
            self.assertIn("function" if "left" in words else "rewrite_response: ", str(error))
