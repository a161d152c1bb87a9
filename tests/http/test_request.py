"""Tests of `proxyd.http.request`: stock resources, which must not notice that the server is not the stock one."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet import reactor  # noqa: TID251  # the stock server cannot do without
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.resource import EncodingResourceWrapper, IResource, Resource
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory, Request, Site
from twisted.web.static import Data, File
from zope.interface import implementer

from proxyd.errors import RequestError
from proxyd.interfaces import IStreamingResource
from proxyd.testing.harness import Harness

from .support import DataPathTestCase


class Mirror(Resource):
    """Answers with all that it learns of a request."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Tell everything."""
        facts = (
            request.method,
            request.uri,
            request.path,
            sorted(request.args.items()),
            request.prepath,
            request.postpath,
            request.clientproto,
            sorted(request.requestHeaders.getAllRawHeaders()),
            sorted(request.received_cookies.items()),
            request.content.read(),
            request.isSecure(),
            request.getClientAddress().host,
            request.getRequestHostname(),
            request.getUser(),
        )
        request.addCookie(b"seen", b"yes")
        request.addCookie(b"twice", b"yes", path=b"/")
        return repr(facts).encode()

    render_POST = render_GET
    render_PUT = render_GET


class Later(Resource):
    """Answers in pieces, in its own time."""

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        """Write twice, then end."""
        request.write(b"one,")
        request.write(b"two")
        request.finish()
        return NOT_DONE_YET


class Broken(Resource):
    """Fails."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Fail."""
        raise ZeroDivisionError


class Redirecting(Resource):
    """Sends everybody away."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Send away."""
        request.redirect(b"/elsewhere")
        return b""


class Unwalkable(Resource):
    """Has children that cannot be found."""

    def getChild(self, path: bytes, request: Request) -> IResource:
        """Fail."""
        raise ZeroDivisionError


def make_tree(directory: str) -> Resource:
    """A tree of stock resources."""
    root = Resource()
    root.putChild(b"mirror", Mirror())
    root.putChild(b"later", Later())
    root.putChild(b"broken", Broken())
    root.putChild(b"redirect", Redirecting())
    root.putChild(b"unwalkable", Unwalkable())
    root.putChild(b"data", Data(b"x" * 100, "text/plain"))
    root.putChild(b"zipped", EncodingResourceWrapper(Data(b"x" * 100, "text/plain"), [GzipEncoderFactory()]))
    root.putChild(b"files", File(directory))
    return root


REQUESTS = {
    "mirror": b"GET /mirror/a%20b/c?x=1&x=2&y HTTP/1.1\r\nHost: h.test:81\r\nCookie: a=b; c=d\r\nX-A: 1\r\nX-A: 2\r\n"
    b"Authorization: Basic dTpw\r\n\r\n",
    "post of a form": b"POST /mirror?q=1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 7\r\n\r\na=1&b=2",
    "chunked put": b"PUT /mirror HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "HTTP/1.0": b"GET /mirror HTTP/1.0\r\nHost: h\r\n\r\n",
    "later": b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n",
    "later, HTTP/1.0": b"GET /later HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "head of data": b"HEAD /data HTTP/1.1\r\nHost: h\r\n\r\n",
    "head of what has none": b"HEAD /mirror HTTP/1.1\r\nHost: h\r\n\r\n",
    "wrong method": b"DELETE /mirror HTTP/1.1\r\nHost: h\r\n\r\n",
    "unknown method": b"FROB /mirror HTTP/1.1\r\nHost: h\r\n\r\n",
    "no such child": b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n",
    "redirect": b"GET /redirect HTTP/1.1\r\nHost: h\r\n\r\n",
    "broken": b"GET /broken HTTP/1.1\r\nHost: h\r\n\r\n",
    "unwalkable": b"GET /unwalkable/x HTTP/1.1\r\nHost: h\r\n\r\n",
    "zipped": b"GET /zipped HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n",
    "file": b"GET /files/hello.txt HTTP/1.1\r\nHost: h\r\n\r\n",
    "large file": b"GET /files/large.bin HTTP/1.1\r\nHost: h\r\n\r\n",
    "range": b"GET /files/hello.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=1-3\r\n\r\n",
    "ranges": b"GET /files/hello.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=0-0,2-3\r\n\r\n",
    "not modified": b"GET /files/hello.txt HTTP/1.1\r\nHost: h\r\n"
    b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n\r\n",
    "directory": b"GET /files/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "directory without slash": b"GET /files HTTP/1.1\r\nHost: h\r\n\r\n",
    "closing": b"GET /data HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
}


class StockContractTests(TestCase):
    """The same requests to the same tree, under `twisted.web.server.Site` and under ours."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        for name, content in (("hello.txt", b"hello world"), ("large.bin", b"z" * 300_000)):
            with open(os.path.join(self.directory, name), "wb") as file:
                file.write(content)

    async def stock_answer(self, request: bytes) -> bytes:
        """What the stock site answers."""
        channel = Site(make_tree(self.directory), reactor=Clock()).buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(request)
        size = -1
        while size != len(transport.value()):  # its pull producers run in the turns of the real reactor
            size = len(transport.value())
            for _ in range(5):
                await deferLater(reactor, 0)
        return transport.value()

    def our_answer(self, request: bytes) -> bytes:
        """What our site answers."""
        proxy = Harness(root=make_tree(self.directory))
        client = proxy.client("192.168.1.1")
        client.send(request)
        for _ in range(100):
            proxy.advance()
        return client.pop()

    async def test_answers_are_equal(self) -> None:
        """Status, fields and body are the same, but for what belongs to the server: Date, Server, Connection."""
        for what, request in REQUESTS.items():
            with self.subTest(what):
                self.assertEqual(parsed(await self.stock_answer(request)), parsed(self.our_answer(request)), what)
                self.flushLoggedErrors(ZeroDivisionError)

    def test_form_that_cannot_be_read(self) -> None:
        """It is 400, as under the stock site, with a page of ours."""
        request = (
            b"POST /mirror HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data\r\nContent-Length: 3\r\n\r\nabc"
        )
        self.assertTrue(self.our_answer(request).startswith(b"HTTP/1.1 400 Bad Request\r\n"))

    def test_two_on_a_connection(self) -> None:
        """The connection stays usable after a stock answer."""
        proxy = Harness(root=make_tree(self.directory))
        client = proxy.client()
        for what in ("mirror", "later", "post of a form", "head of data", "no such child"):
            client.send(REQUESTS[what])
            proxy.advance()
            self.assertTrue(client.pop().startswith(b"HTTP/1.1 "), what)
            self.assertTrue(client.connected, what)

    def test_large_file_respects_a_slow_client(self) -> None:
        """A pull producer is asked for more only when the client has taken what there was."""
        proxy = Harness(root=make_tree(self.directory))
        client = proxy.client()
        client.stall()
        client.send(REQUESTS["large file"])
        for _ in range(20):
            proxy.advance()
        self.assertLess(client.unsent, 200_000)
        client.take()
        for _ in range(20):
            proxy.advance()
        self.assertEqual(300_000, client.pop().count(b"z"))

    def test_client_gone(self) -> None:
        """Whoever waits for the end of the response learns that it has failed."""
        waiting: list[Deferred[None]] = []

        class Waiting(Resource):
            isLeaf = True

            def render_GET(self, request: Request) -> int:
                waiting.append(request.notifyFinish())
                return NOT_DONE_YET

        proxy = Harness(root=Waiting())
        client = proxy.client()
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        client.close()
        proxy.advance()
        self.assertIsInstance(self.failureResultOf(waiting[0]), Failure)
        self.assertIn(" 499 ", proxy.access.lines[0])

    def test_streaming_resource_in_a_stock_tree(self) -> None:
        """A streaming resource that a walk leads to gets the request before its body."""
        seen: list[bool] = []

        @implementer(IStreamingResource)
        class Streaming(Resource):
            isLeaf = True

            def render_streaming(self, request: object) -> None:
                seen.append(request.body_complete)  # type: ignore[attr-defined]

        root = Resource()
        root.putChild(b"s", Streaming())
        proxy = Harness(root=root)
        proxy.client().send(b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n")
        self.assertEqual([False], seen)


def parsed(answer: bytes) -> tuple[bytes, dict[bytes, list[bytes]], bytes]:
    """Status and reason, fields less those of the server itself, and the body without its chunks."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b": ")
        if name.lower() not in {b"date", b"server", b"connection", b"last-modified"}:
            fields.setdefault(name.lower(), []).append(value)
    if b"transfer-encoding" in fields:
        pieces = []
        while not body.startswith(b"0\r\n"):
            size, _, rest = body.partition(b"\r\n")
            pieces.append(rest[: int(size, 16)])
            body = rest[int(size, 16) + 2 :]
        body = b"".join(pieces)
    boundary = fields.get(b"content-type", [b""])[0].partition(b"boundary=")[2].strip(b'"')
    if boundary:
        body = body.replace(boundary, b"BOUNDARY")
        fields[b"content-type"] = [b"multipart"]
    return status.partition(b" ")[2], fields, body


class ReadBodyTests(DataPathTestCase):
    """`Request.read_body`, for resources that want a body whole."""

    def collected(self, limit: int, *pieces: bytes) -> tuple[Deferred[bytes], Callable[[], None]]:
        """The result of reading a body that comes in pieces, and what makes the client go."""
        results: list[Deferred[bytes]] = []

        @implementer(IStreamingResource)
        class Reading(Resource):
            def render_streaming(self, request: object) -> None:
                results.append(request.read_body(limit))  # type: ignore[attr-defined]

        client = Harness(root=Reading()).client()
        for piece in pieces:
            client.send(piece)
        return results[0], client.reset

    def test_whole(self) -> None:
        """The pieces come together, whatever the framing."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\n"
        for pieces in (
            (head + b"Content-Length: 5\r\n\r\nabcde",),
            (head + b"Content-Length: 5\r\n\r\n", b"ab", b"cde"),
            (head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"3\r\ncde\r\n0\r\n\r\n"),
        ):
            result, _ = self.collected(5, *pieces)
            self.assertEqual(b"abcde", self.successResultOf(result))
        result, _ = self.collected(5, head + b"\r\n")
        self.assertEqual(b"", self.successResultOf(result))

    def test_too_long(self) -> None:
        """More than the limit fails with 413, once, and nothing more is collected."""
        result, _ = self.collected(4, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabcd", b"ef", b"gh")
        error = self.failureResultOf(result).value
        self.assertIsInstance(error, RequestError)
        self.assertEqual(413, error.status)

    def test_malformed(self) -> None:
        """A malformed body fails with 400."""
        result, _ = self.collected(
            99, b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"zz\r\n"
        )
        self.assertEqual(400, self.failureResultOf(result).value.status)
