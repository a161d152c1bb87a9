"""Answers of the proxy's own."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.pages import REASONS, Fault, fault_of, html_page, json_page, prefers_json, reason_phrase
from proxyd.errors import (
    ConnectError,
    ConnectionCutError,
    ConnectTimeoutError,
    MalformedResponseError,
    RequestError,
    ResponseTimeoutError,
    UpstreamError,
    too_many,
)

# Every status that the proxy itself answers with.
STATUSES = (400, 401, 403, 404, 405, 408, 413, 414, 417, 429, 431, 500, 502, 503, 504)


class FaultTests(SynchronousTestCase):
    """Which status an error becomes."""

    def test_fields_of_an_error_go_along(self) -> None:
        """Whoever asks too often is told when to ask again; upstreams have no say in it."""
        for wait, field in ((0.01, b"Retry-After: 1"), (3.2, b"Retry-After: 4")):
            fault = fault_of(too_many(wait, "why"), "rfc")
            self.assertEqual((fault.status, fault.detail, fault.fields), (429, "why", (field,)))
        self.assertEqual(fault_of(UpstreamError("up", "why"), "chp").fields, ())

    def test_upstream_faults_are_told_apart(self) -> None:
        """502 for what an upstream did wrong, 504 for what it did too late; `chp` answers 503 for all of them."""
        for kind, status in (
            (UpstreamError, 502),
            (ConnectError, 502),
            (ConnectionCutError, 502),
            (MalformedResponseError, 502),
            (ConnectTimeoutError, 504),
            (ResponseTimeoutError, 504),
        ):
            error = kind("up:9000", "why")
            title = {502: "Bad Gateway", 504: "Gateway Timeout"}[status]
            self.assertEqual(fault_of(error, "rfc"), Fault(status, title, str(error)), kind.__name__)
            self.assertEqual(fault_of(error, "chp"), Fault(503, "Proxy Target Missing", str(error)), kind.__name__)

    def test_client_faults_keep_their_status(self) -> None:
        """A `RequestError` becomes its status, with the standard words or those of `chp`."""
        for status, title, chp_title in (
            (400, "Bad Request", "Proxy Error"),
            (404, "Not Found", "Not Found"),
            (413, "Content Too Large", "Proxy Error"),
            (500, "Internal Server Error", "Proxy Error"),
            (503, "Service Unavailable", "Proxy Target Missing"),
        ):
            error = RequestError(status, "why")
            self.assertEqual(fault_of(error, "rfc"), Fault(status, title, "why"), str(status))
            self.assertEqual(fault_of(error, "chp"), Fault(status, chp_title, "why"), str(status))

    def test_reasons_are_the_standard_ones(self) -> None:
        """Reason phrases are those of RFC 9110; an unregistered status has a word too."""
        for status, reason in (
            (200, b"OK"),
            (404, b"Not Found"),
            (413, b"Content Too Large"),
            (414, b"URI Too Long"),
            (416, b"Range Not Satisfiable"),
            (422, b"Unprocessable Content"),
            (431, b"Request Header Fields Too Large"),
            (502, b"Bad Gateway"),
            (599, b"Unknown"),
        ):
            self.assertEqual(reason_phrase(status), reason)
        for status, reason in REASONS.items():
            self.assertRegex(reason, rb"\A[A-Za-z' -]+\Z", str(status))

    def test_every_own_status_has_its_own_message(self) -> None:
        """A reader is told what each status means here; an unforeseen one has a message as well."""
        messages = [Fault(status, "t", "d").message for status in STATUSES]
        self.assertEqual(len(set(messages)), len(STATUSES))
        unforeseen = Fault(499, "t", "d").message
        self.assertEqual(unforeseen, "The proxy could not serve this request.")
        self.assertNotIn(unforeseen, messages)


class _Checker(HTMLParser):
    """Notes what a page needs from elsewhere, and which elements it opens and closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        used = [value or "" for name, value in attrs if name in {"src", "href", "action"}]
        self.references += [value for value in used if not value.startswith("data:")]
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


class PageTests(SynchronousTestCase):
    """What a person or a program reads."""

    def test_html_tells_status_message_and_number(self) -> None:
        """The page holds status, title, message and request number, is well formed and needs nothing from elsewhere."""
        for status in STATUSES:
            fault = fault_of(RequestError(status, "SECRET DETAIL"), "rfc")
            page = html_page(fault, "0123abcd").decode()
            checker = _Checker()
            checker.feed(page)
            self.assertEqual((checker.open, checker.references), ([], []), str(status))
            for text in (f"{status}: {fault.title}", fault.message, "0123abcd"):
                self.assertIn(text, checker.text, str(status))
            self.assertNotIn("SECRET", page, str(status))
            self.assertNotRegex(page, r"url\(|@import|\{[a-z_]+\}", str(status))

    def test_html_of_chp_has_its_words(self) -> None:
        """Tools look for `404: Not Found`, `503: Proxy Target Missing` and `Proxy Error`."""
        for error, words in (
            (RequestError(404, "x"), b"404: Not Found"),
            (ConnectError("up"), b"503: Proxy Target Missing"),
            (RequestError(500, "x"), b"Proxy Error"),
        ):
            self.assertIn(words, html_page(fault_of(error, "chp"), "id"))

    def test_json_tells_the_same(self) -> None:
        """The object holds status, error, message and request number, and no detail."""
        fault = fault_of(RequestError(404, "SECRET DETAIL"), "rfc")
        page = json_page(fault, "0123abcd")
        self.assertTrue(page.endswith(b"}\n"))
        self.assertEqual(
            json.loads(page),
            {"status": 404, "error": "Not Found", "message": fault.message, "request_id": "0123abcd"},
        )


class AcceptTests(SynchronousTestCase):
    """Which of both a client wants."""

    def test_json_is_preferred_when_it_ranks_higher(self) -> None:
        """HTML, unless JSON has the greater weight (RFC 9110 §12.5.1); what cannot be read does not count."""
        for accept, expected in (
            (None, False),
            (b"", False),
            (b"*/*", False),
            (b"text/html", False),
            (b"application/json", True),
            (b"APPLICATION/JSON", True),
            (b"application/problem+json", True),
            (b"application/json, text/plain, */*", True),
            (b"text/html, application/json", False),
            (b"application/json, text/html", False),
            (b"application/json;q=0.9, text/html", False),
            (b"application/json, text/html;q=0.9", True),
            (b"text/html;level=1;q=0.2, application/json ; charset=utf-8 ; q=0.3", True),
            (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
            (b"application/json;q=0", False),
            (b"application/json;q=x", False),
            (b"application/json;q=", False),
            (b"application/json;q=nan", False),
            (b"application/jsonp", False),
            (b"text/plain", False),
            (b",;,;q=1,", False),
            (b"\xff\xfe", False),
        ):
            self.assertEqual(prefers_json(accept), expected, repr(accept))

    @given(st.lists(st.sampled_from([b"application/json", b"text/html", b";", b"q=", b"0.5", b",", b"=", b"\xe9"])))
    def test_nothing_that_is_sent_raises(self, words: list[bytes]) -> None:
        """Any field at all has an answer."""
        self.assertIn(prefers_json(b"".join(words)), {True, False})
