"""Tests of `proxyd.api.metrics`, and of an API that has several parts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.api.metrics import MetricsApi
from proxyd.api.resource import Answer, ApiResource, Call, Function
from proxyd.api.router import Router
from proxyd.metrics.exposition import Page
from proxyd.testing.harness import Harness


class Numbers:
    """An exposition of what it was asked."""

    def page(self, accept: str) -> Page:
        return Page("text/x-numbers", f"accept {accept}\n")


class Other:
    """Another part of the API."""

    router: Router[Function] = Router()

    @router.route("/other", "GET")
    def show(self, call: Call) -> Answer:
        return Answer(200, "other")


class MetricsApiTests(SynchronousTestCase):
    """`/metrics`."""

    def call(self, line: bytes, *tokens: str, given: bytes = b"") -> tuple[bytes, bytes]:
        """Head and body of the answer of an API with `tokens`."""
        root = ApiResource(Other.router, Other(), tokens)
        root.add(MetricsApi.router, MetricsApi(Numbers()))
        client = Harness(root=root).client()
        client.send(line + b" HTTP/1.1\r\nHost: h\r\nAccept: a/b\r\nAuthorization: token " + given + b"x\r\n\r\n")
        head, _, body = client.pop().partition(b"\r\n\r\n")
        return head, body

    def test_the_page_is_shown(self) -> None:
        """With its own type, made for the Accept of the request; a query changes nothing."""
        for line in (b"GET /metrics", b"GET /metrics?x=1"):
            head, body = self.call(line)
            self.assertTrue(head.startswith(b"HTTP/1.1 200 "))
            self.assertIn(b"\r\nContent-Type: text/x-numbers\r\n", head)
            self.assertEqual(b"accept a/b\n", body)

    def test_head(self) -> None:
        """The same without the body."""
        head, body = self.call(b"HEAD /metrics")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "))
        self.assertIn(b"\r\nContent-Length: 11\r\n", head)
        self.assertEqual(b"", body)

    def test_other_methods_are_refused(self) -> None:
        """405, and which there are."""
        for method in (b"POST", b"PUT", b"DELETE"):
            head, _ = self.call(method + b" /metrics")
            self.assertTrue(head.startswith(b"HTTP/1.1 405 "), head)
            self.assertIn(b"\r\nAllow: GET, HEAD, OPTIONS\r\n", head)

    def test_other_paths_are_not_found(self) -> None:
        """404 for everything that only looks like it."""
        for path in (b"/", b"/metrics/", b"/metrics/x", b"/Metrics", b"/api/metrics"):
            head, _ = self.call(b"GET " + path)
            self.assertTrue(head.startswith(b"HTTP/1.1 404 "), head)

    def test_the_token_counts_for_all_parts(self) -> None:
        """The numbers tell who is there."""
        for path in (b"/metrics", b"/other"):
            self.assertTrue(self.call(b"GET " + path, "secretx")[0].startswith(b"HTTP/1.1 403 "))
            self.assertTrue(self.call(b"GET " + path, "secretx", given=b"secret")[0].startswith(b"HTTP/1.1 200 "))

    def test_all_parts_answer(self) -> None:
        """Each its own paths."""
        self.assertEqual(b"other", self.call(b"GET /other")[1])
        self.assertTrue(self.call(b"POST /other")[0].startswith(b"HTTP/1.1 405 "))
