"""Tests of `proxyd.hub.client` and `proxyd.hub.asking`, over real sockets."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet import reactor  # noqa: TID251  # that of trial
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase

from proxyd.errors import HubError, TlsError
from proxyd.hub.asking import Asker, AskError, AskerTls
from proxyd.hub.client import HubClient, HubPlace
from proxyd.model.upstream import can_be_asked
from tests.certificates import Authority
from tests.hub.fake import SECRET, FakeHub, model_of


class ClientTests(TestCase):
    """What the Hub is asked, and what its answers mean; more of it is in the tests of the authenticator."""

    def setUp(self) -> None:
        self.hub = FakeHub(self)
        self.client = HubClient(reactor, HubPlace(url=self.hub.api_url + "/", token=SECRET, seconds=5))
        self.addCleanup(self.client.close)

    async def test_reports_of_activity(self) -> None:
        """With our own token; what the Hub refuses is told from what it cannot do now."""
        client = HubClient(reactor, HubPlace(url=self.hub.api_url + "/users/alice/activity", token=SECRET))
        self.addCleanup(client.close)
        await client.post_activity(b'{"a": 1}')
        ((method, path, fields, body),) = self.hub.asked
        self.assertEqual((method, path, json.loads(body)), ("POST", "/hub/api/users/alice/activity", {"a": 1}))
        self.assertEqual(fields["authorization"], f"token {SECRET}")
        self.assertEqual(fields["content-type"], "application/json")
        for status, expected in ((204, None), (400, 500), (404, 500), (500, 502), (302, 500)):
            self.hub.activity_status = status
            try:
                await client.post_activity(b"{}")
            except HubError as error:
                self.assertEqual(error.status, expected)
                self.assertIn(str(status), str(error))
            else:
                self.assertIsNone(expected)

    async def test_the_version(self) -> None:
        """Without any token."""
        self.assertEqual(await self.client.version(), "6.1.1")
        self.assertNotIn("authorization", self.hub.asked[0][2])

    async def test_cookies_of_one_visitor_do_not_go_to_another(self) -> None:
        """Nothing is kept between two requests but the connection."""
        self.hub.say = lambda _: (200, json.dumps(model_of("a")).encode(), ("Set-Cookie", "a=1; Path=/"))
        await self.client.user(b"one")
        await self.client.user(b"two")
        self.assertNotIn("cookie", self.hub.asked[1][2])

    async def test_a_redirect_is_not_followed(self) -> None:
        """A token goes where it was meant to go."""
        self.hub.say = lambda _: (302, b"", ("Location", "/elsewhere"))
        await self.assertFailure(self.client.user(b"t"), HubError)
        self.assertEqual(len(self.hub.asked), 1)

    async def test_who_leaves_is_not_waited_for(self) -> None:
        """Cancelling ends the connection."""
        self.hub.say = self.hub.hang
        asked = Asker(reactor, self.hub.api_url, 5).ask("GET")
        reactor.callLater(0.1, asked.cancel)  # type: ignore[attr-defined]
        await self.assertFailure(asked, CancelledError)

    async def test_a_stale_connection(self) -> None:
        """Is no reason to fail."""
        self.hub.tokens = {"t": model_of("alice")}
        self.assertIsNotNone(await self.client.user(b"t"))
        for connection in self.hub._server.sockets:
            connection.shutdown(socket.SHUT_RDWR)
        self.assertIsNotNone(await self.client.user(b"t"))


class AnswerTests(TestCase):
    """Answers of something that is no Hub."""

    def setUp(self) -> None:
        self.heads: list[bytes] = []

    def serve(
        self, answer: bytes, context: ssl.SSLContext | None = None, path: str = "", address: str = "127.0.0.1"
    ) -> str:
        """The URL of a server that answers each connection so, and closes it; what it was asked is in `heads`."""
        host, family = (f"[{address}]", socket.AF_INET6) if ":" in address else (address, socket.AF_INET)
        listening = socket.socket(socket.AF_UNIX if path else family)
        listening.bind(path or (address, 0))
        listening.listen()
        self.addCleanup(listening.close)
        self.addCleanup(listening.shutdown, socket.SHUT_RDWR)  # or the thread would go on, on whatever has its number

        def run() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                try:
                    with closing(connection if context is None else context.wrap_socket(connection, True)) as client:
                        self.heads.append(client.recv(65536))
                        client.sendall(answer)
                except OSError:
                    pass

        threading.Thread(target=run, daemon=True).start()
        if path:
            return "http+unix://" + path.replace("/", "%2F") + "/hub/api"
        return f"http{'s' if context else ''}://{host}:{listening.getsockname()[1]}/hub/api"

    async def ask(self, url: str, **files: str) -> Any:
        """The answer there."""
        asker = Asker(reactor, url, 5, AskerTls(**files))
        self.addCleanup(asker.close)
        return await asker.ask("GET")

    async def test_cut_and_broken(self) -> None:
        """They are no answers; one until the end of the connection is."""
        for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", b"SSH-2.0\r\n\r\n"):
            with self.assertRaises(AskError):
                await self.ask(self.serve(answer))
        reply = await self.ask(self.serve(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nx"))
        self.assertEqual((reply.status, reply.get(b"a"), reply.get(b"c"), reply.body), (200, b"b", None, b"x"))

    async def test_a_unix_socket(self) -> None:
        """For a Hub on the same machine."""
        path = Path(self.mktemp())
        reply = await self.ask(self.serve(b"HTTP/1.0 200 OK\r\n\r\nx", path=path.name))
        self.addCleanup(Path(path.name).unlink)
        self.assertEqual(reply.body, b"x")

    async def test_an_address_of_ipv6(self) -> None:
        """With TLS and without; the Host is the one of the URL."""
        authority = Authority(Path(self.mktemp()))
        answer = b"HTTP/1.0 200 OK\r\n\r\nx"
        for names in ((), ("::1",), ("127.0.0.1",)):
            context = authority.server_context(authority.issue(*names)) if names else None
            url = self.serve(answer, context, address="::1")
            if names == ("127.0.0.1",):
                with self.assertRaises(AskError):
                    await self.ask(url, ca=str(authority.file))
                continue
            self.assertEqual(b"x", (await self.ask(url, ca=str(authority.file))).body)
            host = url.partition("//")[2].partition("/")[0]
            self.assertIn(f"\r\nHost: {host}\r\n".encode(), self.heads[-1])
            self.assertTrue(self.heads[-1].startswith(b"GET /hub/api HTTP/1.1\r\n"))

    async def test_a_name_with_an_underscore(self) -> None:
        """As containers have it; all of its addresses are tried."""
        known = socket.getaddrinfo

        def look_up(host: str, *more: Any, **options: Any) -> Any:
            if host == "no_hub":
                raise socket.gaierror(socket.EAI_NONAME, "unknown")
            addresses = ("127.0.0.2", "127.0.0.1") if host == "stack_hub" else (host,)
            return [found for address in addresses for found in known(address, *more, **options)]

        self.patch(socket, "getaddrinfo", look_up)
        url = self.serve(b"HTTP/1.0 200 OK\r\n\r\nx").replace("127.0.0.1", "stack_hub")
        self.assertEqual(b"x", (await self.ask(url)).body)
        host = url.partition("//")[2].partition("/")[0]
        self.assertIn(f"\r\nHost: {host}\r\n".encode(), self.heads[-1])
        with self.assertRaises(AskError):
            await self.ask("http://no_hub/")

    async def test_tls(self) -> None:
        """The host is verified, and our own certificate shown."""
        directory = Path(self.mktemp())
        authority = Authority(directory)
        good, other, own = (authority.issue(name) for name in ("127.0.0.1", "other.test", "client.test"))
        answer = b"HTTP/1.0 200 OK\r\n\r\nx"
        for certificate, ca, shows, is_good in (
            (good, True, True, True),
            (good, True, False, False),
            (other, True, True, False),
            (good, False, True, False),
        ):
            context = authority.server_context(certificate, asks=True)
            files = {"ca": str(authority.file)} if ca else {}
            if shows:
                files |= {"certificate": str(own.certificate), "key": str(own.key)}
            try:
                reply = await self.ask(self.serve(answer, context), **files)
            except AskError:
                self.assertFalse(is_good)
            else:
                self.assertTrue(is_good)
                self.assertEqual(reply.body, b"x")

    def test_files_that_cannot_be_used(self) -> None:
        """Are told at once."""
        path = Path(self.mktemp())
        path.write_text("no certificate")
        for files in ({"ca": "/none"}, {"certificate": "/none"}, {"certificate": str(path)}, {"ca": str(path)}):
            self.assertRaises(TlsError, Asker, reactor, "https://a.test", 5, AskerTls(**files))

    def test_urls(self) -> None:
        """Which can be asked."""
        good = ("http://a", "https://a:1/x?y", "http+unix://%2Frun%2Fx/hub/api")
        bad = ("", "a", "ftp://a", "http:///x", "http://[a", "http://a#b")
        self.assertEqual([can_be_asked(url) for url in (*good, *bad)], [True] * 3 + [False] * 6)


class ImportTests(TestCase):
    """What comes with the first request only."""

    def test_nothing_is_taken_out_of_the_environment(self) -> None:
        """As `twisted.internet.endpoints` would do with the sockets of a service manager; no reactor is chosen."""
        code = "import sys, proxyd.auth.hub, proxyd.auth.reporting; print(*sys.modules)"
        ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        modules = set(ran.stdout.split())
        self.assertIn("proxyd.hub.asking", modules)
        self.assertEqual(modules & {"twisted.internet.endpoints", "twisted.internet.reactor", "treq"}, set())
