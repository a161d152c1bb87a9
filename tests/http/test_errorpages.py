"""Tests of `proxyd.http.errorpages`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from twisted.logger import LogLevel, globalLogPublisher

from proxyd.model.settings import Config, ErrorSettings
from proxyd.option import FilePath
from proxyd.testing.harness import Harness

from .support import GET, DataPathTestCase


class BuiltInPageTests(DataPathTestCase):
    """The pages that come with proxyd."""

    def setUp(self) -> None:
        self.proxy = Harness(routes={})
        self.events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def test_page_for_people(self) -> None:
        """A page in HTML with the status, and nothing of what the client sent."""
        client = self.proxy.client()
        client.send(
            b"GET /<script>?<script> HTTP/1.1\r\nHost: evil\r\nX: <script>\r\n\r\n".replace(b"<script>", b"(scr)")
        )
        answer = self.assert_status(404, client)
        self.assertIn(b"Content-Type: text/html; charset=utf-8\r\n", answer)
        self.assertIn(b"404: Not Found", answer)
        self.assertIn(b"Cache-Control: no-store\r\n", answer)
        self.assertIn(b"\r\nContent-Security-Policy: default-src 'none'; ", answer)
        self.assertIn(b"\r\nX-Content-Type-Options: nosniff\r\n", answer)
        for sent in (b"(scr)", b"evil"):
            self.assertNotIn(sent, answer)

    def test_json_for_programs(self) -> None:
        """A client that asks for JSON gets it."""
        client = self.proxy.client()
        client.send(b"GET /x HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n")
        answer = self.assert_status(404, client)
        page = json.loads(answer.partition(b"\r\n\r\n")[2])
        self.assertEqual((404, "Not Found"), (page["status"], page["error"]))

    def test_request_id(self) -> None:
        """The id in the field, in the page, in the log and in the access log is one."""
        client = self.proxy.client()
        client.send(GET)
        answer = self.assert_status(404, client)
        field = re.search(rb"X-Request-Id: ([0-9a-f]{16})\r\n", answer)
        assert field is not None
        self.assertEqual(2, answer.count(field[1]))
        number = field[1].decode()
        self.assertTrue(any(number == event.get("request_id") for event in self.events))
        self.assertIn(number, self.proxy.access.lines[0])

    def test_head(self) -> None:
        """HEAD gets the length but no page, and the connection stays."""
        client = self.proxy.client()
        client.send(b"HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = self.assert_status(404, client)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))
        self.assertRegex(answer, rb"Content-Length: [1-9]")
        self.assertTrue(client.connected)

    def test_unexpected_errors_are_500(self) -> None:
        """A mistake of ours is logged, and the client is told so."""
        client = self.proxy.client()
        self.proxy.tree._look_up = None  # type: ignore[assignment]
        client.send(GET)
        self.assert_status(500, client)
        self.assertEqual(1, len(self.flushLoggedErrors(TypeError)))

    def test_levels(self) -> None:
        """A client's mistake is information, an upstream's is an error; for configurable-http-proxy all are errors."""
        self.proxy.client().send(GET)
        for statuses, level in (("rfc", LogLevel.info), ("chp", LogLevel.error)):
            self.events.clear()
            Harness(routes={}, config=Config(errors=ErrorSettings(statuses=statuses))).client().send(GET)
            self.assertEqual([level], [event["log_level"] for event in self.events])


class DirectoryTests(DataPathTestCase):
    """`errors.directory`."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        errors = ErrorSettings(directory=FilePath(str(self.directory)))
        self.proxy = Harness(routes={}, config=Config(errors=errors))

    def page(self, accept: bytes = b"*/*") -> bytes:
        """The answer to a request that has no route."""
        client = self.proxy.client()
        client.send(b"GET /x HTTP/1.1\r\nHost: h\r\nAccept: " + accept + b"\r\n\r\n")
        return self.assert_status(404, client)

    def test_files(self) -> None:
        """STATUS.html, else error.html, read anew each time; without either, the reason phrase."""
        self.assertTrue(self.page().endswith(b"\r\n\r\nNot Found"))
        (self.directory / "error.html").write_text("any")
        self.assertTrue(self.page().endswith(b"\r\n\r\nany"))
        (self.directory / "404.html").write_text("mine")
        self.assertTrue(self.page().endswith(b"\r\n\r\nmine"))
        self.assertIn(b"text/html", self.page())
        (self.directory / "404.html").unlink()
        (self.directory / "404.html").mkdir()
        self.assertTrue(self.page().endswith(b"\r\n\r\nany"))

    def test_json_comes_first(self) -> None:
        """A program gets JSON although there are pages for people."""
        (self.directory / "error.html").write_text("any")
        self.assertIn(b'"status": 404', self.page(b"application/json"))
