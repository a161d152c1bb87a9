"""Tests of `proxyd.listeners.redirect`."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from proxyd.listeners.redirect import RedirectConfig, RedirectResource, build
from proxyd.option import Port
from proxyd.testing.harness import Harness


class RedirectTests(SynchronousTestCase):
    """`RedirectResource` behind a site."""

    def answer(self, request: bytes, to_port: int = 8443) -> bytes:
        """What a client gets."""
        client = Harness(root=RedirectResource(to_port)).client()
        client.send(request)
        return client.pop()

    def location(self, target: bytes, host: bytes, to_port: int = 8443) -> bytes:
        """Where a GET is sent."""
        answer = self.answer(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host), to_port)
        self.assertTrue(answer.startswith(b"HTTP/1.1 301 Moved Permanently\r\n"), answer)
        self.assertIn(b"Content-Length: 0\r\n", answer)
        return answer.partition(b"\r\nLocation: ")[2].partition(b"\r\n")[0]

    def test_to_the_same_url(self) -> None:
        """With `https` and the port; path and query are as they came."""
        for target in (b"/", b"/a/%2e%2e/b?x=1&y=%20", b"//a/../b", b"/?"):
            self.assertEqual(b"https://h.test:8443" + target, self.location(target, b"h.test"))

    def test_the_port(self) -> None:
        """That of the request goes, and that of HTTPS itself is left out."""
        for host in (b"h.test", b"h.test:80", b"h.test:"):
            self.assertEqual(b"https://h.test:8443/", self.location(b"/", host))
            self.assertEqual(b"https://h.test/", self.location(b"/", host, 443))
        for host in (b"[::1]", b"[::1]:8000"):
            self.assertEqual(b"https://[::1]:8443/", self.location(b"/", host))

    def test_absolute_targets(self) -> None:
        """The Host field decides, as everywhere."""
        self.assertEqual(b"https://h.test:8443/a?b", self.location(b"http://other.test/a?b", b"h.test"))

    def test_other_methods(self) -> None:
        """All are redirected."""
        answer = self.answer(b"POST /x HTTP/1.1\r\nHost: h.test\r\nContent-Length: 3\r\n\r\nabc")
        self.assertIn(b"\r\nLocation: https://h.test:8443/x\r\n", answer)

    def test_without_a_host(self) -> None:
        """Nobody knows where to send the client, and the client is told why."""
        for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"):
            answer = self.answer(request)
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
            self.assertNotIn(b"Location", answer)
            self.assertIn(b"HTTPS", answer)

    def test_render(self) -> None:
        """It serves our own requests only."""
        resource: Any = RedirectResource(443)
        self.assertRaises(TypeError, resource.render, DummyRequest([b""]))

    def test_the_listener_says_what_it_does(self) -> None:
        """In the words that are logged."""
        listener = build(RedirectConfig(port=Port(8080), to_port=Port(443)), lambda _: None, Clock())  # type: ignore[arg-type]
        self.assertEqual(
            ("Redirecting to HTTPS on port 443 from", "http://127.0.0.1:8080"), (listener.purpose, listener.where)
        )
