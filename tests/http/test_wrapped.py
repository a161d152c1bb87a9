"""Tests of `proxyd.http.wrapped`: in front of an application, before and behind whatever asks who it is."""

from __future__ import annotations

from typing import Any, Literal

from proxyd.compat.native import OriginHost
from proxyd.http.request import Request
from proxyd.http.streaming import StreamingResource
from proxyd.http.wrapped import DoorResource, HubProbe, LandingResource, NothingResource, PreparedResource
from proxyd.model.auth import Admit, Identity
from tests.http.support import DataPathTestCase


class Application(StreamingResource):
    """Answers with the path."""

    def render_streaming(self, request: Request) -> None:
        request.answer(200, [], b"app " + request.path)


class LoggedIn(StreamingResource):
    """Serves by `inner` somebody who is known."""

    def __init__(self, inner: StreamingResource) -> None:
        super().__init__()
        self._inner = inner

    def render_streaming(self, request: Request) -> None:
        request.admission = Admit(identity=Identity("dan", "user"))
        self._inner.render_streaming(request)


class Preparing:
    """How far it is."""

    state: Literal["running", "done", "failed"] = "done"
    task = "Pulling <content>"
    reason = "git <failed>"
    lines = ("fatal: <no>",)

    def ask(self) -> Literal["running", "done", "failed"]:
        return self.state


class WrappedCase(DataPathTestCase):
    prefix = "/user/a@b/"

    def mount(self, resource: StreamingResource) -> None:
        self.proxy.tree.mount(("user", "a@b"), resource)

    def ask(self, target: str, *fields: str, method: str = "GET") -> bytes:
        client = self.proxy.client()
        lines = (f"{method} {target} HTTP/1.1", "Host: hub.test", *fields, "", "")
        client.send("\r\n".join(lines).encode())
        self.proxy.advance()
        return client.received


class DoorTests(WrappedCase):
    """Nobody is asked for a login here."""

    def setUp(self) -> None:
        super().setUp()
        self.is_ours = True
        probe = HubProbe(lambda: "6.0.0")
        self.mount(DoorResource(Application(), self.prefix, probe, lambda: self.is_ours))

    def test_other_spellings_are_redirected(self) -> None:
        """Reading ones; the others are served."""
        for target, status, location in (
            ("/user/a%40b/x?y=%40", 301, b"Location: /user/a@b/x?y=%40\r\n"),
            ("/user/a@b", 302, b"Location: /user/a@b/\r\n"),
            ("/user/a@b?x", 302, b"Location: /user/a@b/?x\r\n"),
            ("/user/a@b/x", 200, b"app /user/a@b/x"),
        ):
            answer = self.ask(target)
            self.assertIn(b"HTTP/1.1 %d " % status, answer)
            self.assertIn(location, answer)
        self.assertIn(b"app /user/a%40b/x", self.ask("/user/a%40b/x", "Content-Length: 0", method="POST"))

    def test_the_probe_of_the_hub(self) -> None:
        """Who shows nothing gets an answer of ours, until there is one of the application's."""
        answer = self.ask("/user/a@b/api")
        self.assertIn(b"HTTP/1.1 200 ", answer)
        self.assertIn(b"\r\nX-JupyterHub-Version: 6.0.0\r\n", answer)
        for target, field in (
            ("api", "Cookie: a=b"),
            ("api", "Authorization: x"),
            ("api?token=x", "A: b"),
            ("api/x", "A: b"),
        ):
            self.assertIn(b"app ", self.ask(f"/user/a@b/{target}", field))
        self.is_ours = False
        self.assertIn(b"app /user/a@b/api", self.ask("/user/a@b/api"))
        for target, count in ("/user/a%40b/api", 1), ("/user/a%40b/x", 0):  # its HTTP client spells some names so
            answer = self.ask(target)
            self.assertIn(b"HTTP/1.1 301 ", answer)
            self.assertEqual(count, answer.count(b"\r\nX-JupyterHub-Version: 6.0.0\r\n"))


class PreparedTests(WrappedCase):
    """Behind the login."""

    def prepare(
        self, state: Any, *, origin: OriginHost | None = None, landing: str = "", is_known: bool = True
    ) -> None:
        preparing = Preparing()
        preparing.state = state
        resource = PreparedResource(Application(), preparing, origin, self.prefix, landing)
        self.mount(LoggedIn(resource) if is_known else resource)

    def test_who_comes_too_early_waits(self) -> None:
        """With a page that asks again, and a status that programs understand."""
        self.prepare("running")
        answer = self.ask("/user/a@b/x")
        self.assertIn(b"HTTP/1.1 503 ", answer)
        self.assertIn(b"\r\nRetry-After: 2\r\n", answer)
        self.assertIn(b'content="2"', answer)
        self.assertIn(b"<h1>Pulling &lt;content&gt;</h1>", answer)
        self.assertIn(b"fatal: &lt;no&gt;", answer)

    def test_only_some_see_the_lines(self) -> None:
        """Who has not been asked for a login, and is somewhere else, does not."""
        for state, status in (("running", 503), ("failed", 500)):
            self.prepare(state, is_known=False)
            answer = self.ask("/user/a@b/x")
            self.assertIn(b"HTTP/1.1 %d " % status, answer)
            self.assertNotIn(b"fatal", answer)

    def test_a_failure_is_told(self) -> None:
        """With what was said, as text."""
        self.prepare("failed")
        answer = self.ask("/user/a@b/x")
        self.assertIn(b"HTTP/1.1 500 ", answer)
        self.assertIn(b"git &lt;failed&gt;", answer)
        self.assertIn(b"fatal: &lt;no&gt;", answer)
        self.assertNotIn(b"refresh", answer)

    def test_the_public_host_is_learnt(self) -> None:
        """From a request that tells one."""
        origin = OriginHost()
        self.prepare("done", origin=origin)
        self.assertIn(b"app ", self.ask("/user/a@b/x"))
        self.assertEqual("hub.test", origin.host)

    def test_people_are_sent_to_their_page(self) -> None:
        """From the prefix itself, and from nowhere else."""
        self.prepare("done", landing="/user/a@b/lab")
        self.assertIn(b"Location: /user/a@b/lab?x=1\r\n", self.ask("/user/a@b/?x=1"))
        self.assertIn(b"app /user/a@b/lab", self.ask("/user/a@b/lab"))
        self.assertIn(b"app ", self.ask("/user/a@b/", "Content-Length: 0", method="POST"))


class OtherTests(WrappedCase):
    """What `proxyd serve` has under a Hub."""

    def test_a_landing_and_nothing(self) -> None:
        """A redirect, and a 404 for those who were let in."""
        self.mount(LandingResource("/user/a@b/proxy/1"))
        self.assertIn(b"Location: /user/a@b/proxy/1\r\n", self.ask("/user/a@b/"))
        self.mount(NothingResource())
        self.assertIn(b"HTTP/1.1 404 ", self.ask("/user/a@b/api"))
