"""What an upstream gets of a request, and a client of a response."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, event, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.forward import ForwardPlan, Peer, rewrite_location, x_forwarded
from proxyd.core.framing import LAST_CHUNK, chunk, response_length
from proxyd.core.head import CHUNKED, CRLF, END_OF_HEAD, UNTIL_CLOSE, MalformedHeadError, block_of
from proxyd.core.target import split_target
from proxyd.core.upgrade import is_handshake
from proxyd.errors import RequestError
from proxyd.model.routes import DEFAULT_OPTIONS, HeaderChanges, RewriteLocation, Route, RouteOptions, over, place_of
from proxyd.model.upstream import Upstream
from tests.core.feeding import damaged_heads
from tests.core.heads import (
    GET,
    GOOD_REQUESTS,
    GOOD_RESPONSES,
    OK,
    POST,
    REQUEST_LINES,
    RESPONSE_LINES,
    read_request,
    read_response,
)
from tests.core.oracles import requests_by_h11, responses_by_h11

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
STRANGER = Peer(b"192.0.2.1", secure=False, trusted=False)
PROXY = Peer(b"192.0.2.1", secure=False, trusted=True)
SECURE = Peer(b"192.0.2.1", secure=True, trusted=False)
SOCKET = Peer(b"", secure=False, trusted=True)
NOTHING: frozenset[bytes] = frozenset()


def make_plan(key: str = "/", upstream: str = "http://up:9000", **options: Any) -> ForwardPlan:
    """The plan of a route with these options."""
    route = Route(key, Upstream.parse(upstream), place_of(key)[1])
    return ForwardPlan(route, over(RouteOptions(**options), DEFAULT_OPTIONS))


def forwarded(block: bytes, peer: Peer = STRANGER, **options: Any) -> list[bytes]:
    """The lines of the head that the upstream gets for a request."""
    options.setdefault("x_forwarded", "off")
    head = read_request(block)
    path, query = split_target(head.target)
    wire = make_plan(**options).request_head(head, path, query, peer)
    assert wire.endswith(END_OF_HEAD), wire
    return wire[: -len(END_OF_HEAD)].split(CRLF)


def answered(
    block: bytes, length: int = 0, request: bytes = GET, *, keep_alive: bool = True, **options: Any
) -> list[bytes]:
    """The lines of the head that a client gets for a response."""
    wire = make_plan(**options).response_head(
        read_response(block), read_request(request), length, DATE, keep_alive=keep_alive
    )
    assert wire.endswith(END_OF_HEAD), wire
    return wire[: -len(END_OF_HEAD)].split(CRLF)


class TargetTests(SynchronousTestCase):
    """The path that an upstream sees."""

    def test_paths_are_joined_with_one_slash(self) -> None:
        """Target path, request path and both queries, as the contract of configurable-http-proxy has it."""
        for upstream, target, expected in (
            ("http://h", b"/", b"/"),
            ("http://h", b"/bar/x?q=2", b"/bar/x?q=2"),
            ("http://h/", b"/bar/x?q=2", b"/bar/x?q=2"),
            ("http://h/foo", b"/bar/x", b"/foo/bar/x"),
            ("http://h/foo/", b"/bar/x", b"/foo/bar/x"),
            ("http://h/foo//", b"/bar/x", b"/foo/bar/x"),
            ("http://h/foo/", b"/", b"/foo/"),
            ("http://h/foo?k=1", b"/bar/x?q=2", b"/foo/bar/x?k=1&q=2"),
            ("http://h/foo?k=1", b"/bar/x", b"/foo/bar/x?k=1"),
            ("http://h/foo?k=1", b"/bar/x?", b"/foo/bar/x?k=1"),
            ("http://h?k=1", b"/x?q", b"/x?k=1&q"),
            ("http://h/f%20o?k=%20", b"/x", b"/f%20o/x?k=%20"),
            ("http://h/é", b"/x", b"/%C3%A9/x"),
            ("http+unix://%2Frun%2Fs.sock/foo", b"/bar", b"/foo/bar"),
            ("http+unix://%2Frun%2Fs.sock", b"/bar", b"/bar"),
        ):
            path, query = split_target(target)
            plan = make_plan("/bar", upstream)
            self.assertEqual(plan.target(path, query), expected, f"{upstream} {target!r}")

    def test_path_arrives_as_sent(self) -> None:
        """Escapes, empty segments, parameters and trailing slashes are not ours to change; dots arrive resolved."""
        for target, expected in (
            (b"/a%2Fb%20c%C3%A9", b"/a%2Fb%20c%C3%A9"),
            (b"//a///b//", b"//a///b//"),
            (b"/a;x=1/@~+,", b"/a;x=1/@~+,"),
            (b"/a?x=%zz&y=+|", b"/a?x=%zz&y=+|"),
            (b"/a/../b/./c", b"/b/c"),
            (b"/a/%2e%2E/b?/../", b"/b?/../"),
            (b"http://other/a", b"/a"),
        ):
            for upstream, before in (("http://h", b""), ("http://h/foo", b"/foo")):
                path, query = split_target(target)
                self.assertEqual(make_plan("/", upstream).target(path, query), before + expected, repr(target))

    def test_path_below_the_prefix(self) -> None:
        """It is told whatever the upstream sees."""
        for key, path, below in (("/", b"//x", b"//x"), ("/bar", b"/bar", b"/"), ("/bar", b"/bar/a%2Fb", b"/a%2Fb")):
            self.assertEqual(make_plan(key, "http://h/foo").path_below(path), below)

    def test_path_of_the_upstream_can_be_ignored(self) -> None:
        """Without `prepend_path` neither path nor query of the upstream count."""
        plan = make_plan("/bar", "http://h/foo?k=1", prepend_path=False)
        self.assertEqual(plan.target(b"/bar/x", b"?q=2"), b"/bar/x?q=2")

    def test_prefix_can_be_stripped(self) -> None:
        """`strip_prefix` takes the segments of the route away; the result is never empty."""
        for key, upstream, prepends, target, expected in (
            ("/bar", "http://h", True, b"/bar", b"/"),
            ("/bar", "http://h", True, b"/bar?x", b"/?x"),
            ("/bar", "http://h", True, b"/bar/", b"/"),
            ("/bar", "http://h", True, b"/bar/x?q", b"/x?q"),
            ("/bar", "http://h/foo?k=1", True, b"/bar/x?q", b"/foo/x?k=1&q"),
            ("/bar", "http://h/foo?k=1", True, b"/bar", b"/foo?k=1"),
            ("/bar", "http://h/foo?k=1", True, b"/bar/", b"/foo/?k=1"),
            ("/bar", "http://h/foo?k=1", False, b"/bar/x?q", b"/x?q"),
            ("/user/foo@bar", "http://h", True, b"/user/foo%40bar/lab", b"/lab"),
            ("/é", "http://h", True, b"/%C3%A9/x%20y", b"/x%20y"),
            ("/bar", "http://h", True, b"/a/../bar/x", b"/x"),
            ("/bar", "http://h", True, b"http://other/bar/x", b"/x"),
            ("/bar", "http://h/foo", True, b"/bar%2F..%2F../x", b"/foo/..%2F../x"),
            ("/bar", "http://h/foo", True, b"/bar%2F../x", b"/foo/x"),
            ("/", "http://h", True, b"//x", b"//x"),
            ("h.org/bar", "http://h", True, b"/bar/x", b"/x"),
        ):
            path, query = split_target(target)
            plan = make_plan(key, upstream, strip_prefix=True, prepend_path=prepends)
            self.assertEqual(plan.target(path, query), expected, f"{key} -> {upstream} {target!r}")


class RequestTests(SynchronousTestCase):
    """The head that an upstream gets."""

    def test_request_goes_on_as_it_came(self) -> None:
        """Method, Host and ordinary fields are the client's, nothing is invented."""
        self.assertEqual(
            forwarded(
                b"FROB /a?b HTTP/1.1\r\nX-One:1\r\nhOsT: Example.org:81\r\nx-two:  2 \r\nX-Latin: \xe9\r\nX-One:3"
            ),
            [
                b"FROB /a?b HTTP/1.1",
                b"Host: Example.org:81",
                b"X-One:1",
                b"x-two:  2 ",
                b"X-Latin: \xe9",
                b"X-One:3",
            ],
        )

    def test_version_is_ours(self) -> None:
        """An upstream is spoken to in HTTP/1.1, with a Host even if the client had none."""
        self.assertEqual(forwarded(b"GET / HTTP/1.0"), [b"GET / HTTP/1.1", b"Host: up:9000"])
        self.assertEqual(forwarded(b"GET / HTTP/1.0\r\nHost: h"), [b"GET / HTTP/1.1", b"Host: h"])
        self.assertEqual(forwarded(b"GET / HTTP/1.1\r\nHost:"), [b"GET / HTTP/1.1", b"Host: "])

    def test_framing_is_that_of_the_body(self) -> None:
        """A length stays one, chunked stays chunked, and a method that anticipates a body says that there is none."""
        for block, expected in (
            (GET, []),
            (b"DELETE / HTTP/1.1\r\nHost: h", []),
            (b"OPTIONS / HTTP/1.1\r\nHost: h", []),
            (POST, [b"Content-Length: 0"]),
            (b"PUT / HTTP/1.1\r\nHost: h", [b"Content-Length: 0"]),
            (b"PATCH / HTTP/1.1\r\nHost: h", [b"Content-Length: 0"]),
            (GET + b"\r\nContent-Length: 0", [b"Content-Length: 0"]),
            (GET + b"\r\nContent-Length: 5", [b"Content-Length: 5"]),
            (POST + b"\r\ncontent-length: \t007 ", [b"Content-Length: 7"]),
            (POST + b"\r\nTransfer-Encoding: CHUNKED", [b"Transfer-Encoding: chunked"]),
            (b"DELETE / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked", [b"Transfer-Encoding: chunked"]),
            (b"OPTIONS / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked", [b"Transfer-Encoding: chunked"]),
            (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked", [b"Transfer-Encoding: chunked"]),
        ):
            self.assertEqual(forwarded(block)[2:], expected, repr(block))

    def test_fields_of_the_hop_stay_here(self) -> None:
        """No hop-by-hop field of the client reaches an upstream, nor what it names in Connection."""
        lines = forwarded(
            GET + b"\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X\r\n"
            b"Proxy-Connection: close\r\nUpgrade: h2c\r\nExpect: 100-continue\r\nProxy: http://evil/\r\nX-Kept: 1"
        )
        self.assertEqual(lines, [b"GET /a HTTP/1.1", b"Host: example.org", b"X-Kept: 1"])

    def test_handshake_goes_on_as_one(self) -> None:
        """A WebSocket handshake keeps its Connection and Upgrade, and tells of `ws`."""
        block = GET + b"\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k"
        self.assertEqual(
            forwarded(block, x_forwarded="append"),
            [
                b"GET /a HTTP/1.1",
                b"Host: example.org",
                b"Sec-WebSocket-Key: k",
                b"X-Forwarded-For: 192.0.2.1",
                b"X-Forwarded-Port: 80",
                b"X-Forwarded-Proto: ws",
                b"X-Forwarded-Host: example.org",
                b"Connection: Upgrade",
                b"Upgrade: websocket",
            ],
        )
        self.assertIn(b"X-Forwarded-Proto: wss", forwarded(block, SECURE, x_forwarded="append"))

    def test_origin_can_be_changed(self) -> None:
        """`change_origin` sends the authority of the upstream, and wins over a Host that is set."""
        for upstream, host in (
            ("http://up:9000", b"up:9000"),
            ("http://UP:80/x", b"up"),
            ("https://up", b"up"),
            ("https://up:80", b"up:80"),
            ("http://[::1]:9000", b"[::1]:9000"),
            ("http+unix://%2Frun%2FS.sock", b"localhost"),
        ):
            for changes in (None, HeaderChanges(set={"Host": "set"})):
                lines = forwarded(GET, upstream=upstream, change_origin=True, request_headers=changes)
                self.assertEqual([line for line in lines if b"Host" in line], [b"Host: " + host], upstream)

    def test_fields_can_be_set_and_removed(self) -> None:
        """What is set replaces every field of that name; what is removed is gone; the name decides, not its case."""
        changes = HeaderChanges(set={"X-Set": "1", "Host": "set", "X-Empty": "", "X-Latin": "é"}, remove=("X-Secret",))
        self.assertEqual(
            forwarded(
                GET + b"\r\nx-set: 0\r\nX-Kept: 2\r\nX-SET: 3\r\nx-secret: 4\r\nX-Secret: 5\r\nX-Secrets: 6",
                request_headers=changes,
            ),
            [
                b"GET /a HTTP/1.1",
                b"Host: set",
                b"X-Kept: 2",
                b"X-Secrets: 6",
                b"X-Set: 1",
                b"X-Empty: ",
                b"X-Latin: \xe9",
            ],
        )

    def test_other_spellings_are_set_and_removed(self) -> None:
        """An application that takes `_` for `-` reads nothing that a client has put there."""
        self.assertEqual(
            forwarded(
                GET + b"\r\nX_Real_IP: 1\r\nx-real_ip: 2\r\nX_Set: 3\r\nX_Kept: 4",
                request_headers=HeaderChanges(set={"X-Set": "own"}, remove=("X-Real-IP",)),
            )[2:],
            [b"X_Kept: 4", b"X-Set: own"],
        )

    def test_last_of_two_equal_names_is_set(self) -> None:
        """Names that differ in their case only are one field: the last one wins."""
        changes = HeaderChanges(set={"X-Set": "1", "x-set": "2"})
        self.assertEqual(forwarded(GET, request_headers=changes)[2:], [b"x-set: 2"])

    def test_set_fields_replace_forwarded_ones(self) -> None:
        """A custom X-Forwarded-Proto is the only one, whatever the client sent and we would compute."""
        for mode in ("append", "auto", "replace", "off"):
            lines = forwarded(
                GET + b"\r\nX-Forwarded-Proto: http",
                x_forwarded=mode,
                request_headers=HeaderChanges(set={"x-forwarded-proto": "https"}, remove=("X-Forwarded-For",)),
            )
            protos = [line for line in lines if line.lower().startswith(b"x-forwarded-proto")]
            self.assertEqual(protos, [b"x-forwarded-proto: https"], mode)
            self.assertFalse([line for line in lines if line.startswith(b"X-Forwarded-For")], mode)

    @given(damaged_heads(GOOD_REQUESTS, REQUEST_LINES), st.sampled_from(["append", "auto", "replace", "off"]))
    def test_others_read_one_request(self, block: bytes, mode: str) -> None:
        """Whatever a client sends, h11 reads one request in what is forwarded, with the framing that we read."""
        try:
            head = read_request(block)
            path, query = split_target(head.target)
            if not is_handshake(head):
                head.upgrade = b""
        except RequestError:
            event("refused")
            return
        event("accepted")
        assume(head.body <= 1000 and not any(byte >= 0x80 for byte in head.target))
        wire = make_plan("/a", "http://up/foo?k", x_forwarded=mode).request_head(head, path, query, STRANGER)
        body = chunk(b"hello") + LAST_CHUNK if head.body == CHUNKED else b"b" * head.body
        messages = requests_by_h11(wire + body)
        self.assertEqual(len(messages), 1, repr(block))
        message = messages[0]
        target = b"/foo" + path + b"?k" + (b"&" + query[1:] if len(query) > 1 else b"")
        self.assertEqual(message.start, (head.method, target), repr(block))
        self.assertEqual(message.body, b"hello" if head.body == CHUNKED else body, repr(block))
        self.assertEqual(message.values(b"host"), [b"up" if head.host is None else head.host], repr(block))
        self.assertEqual(read_request(wire[: -len(END_OF_HEAD)]).body, head.body, repr(block))
        if mode == "replace":
            self.assertEqual(message.values(b"x-forwarded-for"), [b"192.0.2.1"], repr(block))
            names = [name.replace(b"_", b"-") for name, _ in message.fields]
            self.assertEqual(names.count(b"x-forwarded-for"), 1, repr(block))


class ForwardedTests(SynchronousTestCase):
    """X-Forwarded-*."""

    def lines(self, mode: str, peer: Peer, fields: bytes = b"", host: bytes = b"h:81") -> list[bytes]:
        """What follows `X-Forwarded-` in the lines for a request with these fields."""
        head = read_request(b"GET / HTTP/1.1\r\nHost: " + host + fields)
        lines = x_forwarded(head, peer, mode, NOTHING)
        self.assertEqual([line[:12] for line in lines], [b"X-Forwarded-"] * len(lines))
        return [line[12:] for line in lines]

    def test_values_describe_the_connection(self) -> None:
        """Address, port and scheme of the client's connection, and the Host that it used."""
        for peer, host, expected in (
            (STRANGER, b"h:81", [b"For: 192.0.2.1", b"Port: 81", b"Proto: http", b"Host: h:81"]),
            (STRANGER, b"h", [b"For: 192.0.2.1", b"Port: 80", b"Proto: http", b"Host: h"]),
            (STRANGER, b"h:", [b"For: 192.0.2.1", b"Port: 80", b"Proto: http", b"Host: h:"]),
            (SECURE, b"h", [b"For: 192.0.2.1", b"Port: 443", b"Proto: https", b"Host: h"]),
            (SECURE, b"h:8443", [b"For: 192.0.2.1", b"Port: 8443", b"Proto: https", b"Host: h:8443"]),
            (STRANGER, b"[::1]:8000", [b"For: 192.0.2.1", b"Port: 8000", b"Proto: http", b"Host: [::1]:8000"]),
            (STRANGER, b"[::1]", [b"For: 192.0.2.1", b"Port: 80", b"Proto: http", b"Host: [::1]"]),
            (STRANGER, b"[::8000]", [b"For: 192.0.2.1", b"Port: 80", b"Proto: http", b"Host: [::8000]"]),
            (STRANGER, b"", [b"For: 192.0.2.1", b"Port: 80", b"Proto: http"]),
            (SOCKET, b"h", [b"Port: 80", b"Proto: http", b"Host: h"]),
        ):
            for mode in ("append", "auto", "replace"):
                self.assertEqual(self.lines(mode, peer, host=host), expected, f"{mode} {host!r}")

    def test_values_that_came_are_treated_as_the_mode_says(self) -> None:
        """Appended to, kept, replaced or passed on."""
        came = (
            b"\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Proto: https"
            b"\r\nX-Forwarded-Host: public"
        )
        replaced = [b"For: 192.0.2.1", b"Port: 81", b"Proto: http", b"Host: h:81"]
        for mode, peer, expected in (
            (
                "append",
                STRANGER,
                [b"For: 10.0.0.1,192.0.2.1", b"Port: 443,81", b"Proto: https,http", b"Host: public"],
            ),
            ("append", SOCKET, [b"For: 10.0.0.1", b"Port: 443,81", b"Proto: https,http", b"Host: public"]),
            ("auto", PROXY, [b"For: 10.0.0.1,192.0.2.1", b"Port: 443", b"Proto: https", b"Host: public"]),
            ("auto", SOCKET, [b"For: 10.0.0.1", b"Port: 443", b"Proto: https", b"Host: public"]),
            ("auto", STRANGER, replaced),
            ("replace", STRANGER, replaced),
            ("replace", PROXY, replaced),
            ("replace", SOCKET, replaced[1:]),
            ("off", STRANGER, [b"For: 10.0.0.1", b"Port: 443", b"Proto: https", b"Host: public"]),
            ("off", SOCKET, [b"For: 10.0.0.1", b"Port: 443", b"Proto: https", b"Host: public"]),
        ):
            self.assertEqual(self.lines(mode, peer, came), expected, f"{mode} {peer.address!r} {peer.trusted}")

    def test_repeated_and_empty_values(self) -> None:
        """Repeated fields are one list; an empty one counts as none."""
        came = b"\r\nX-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2\r\nX-Forwarded-Proto:"
        self.assertEqual(
            self.lines("append", STRANGER, came),
            [b"For: 10.0.0.1, 10.0.0.2,192.0.2.1", b"Port: 81", b"Proto: http", b"Host: h:81"],
        )
        self.assertEqual(self.lines("off", STRANGER, came), [b"For: 10.0.0.1, 10.0.0.2", b"Proto: "])
        self.assertEqual(self.lines("off", STRANGER), [])

    def test_connection_cannot_strip_ours(self) -> None:
        """A client that names X-Forwarded-* in Connection still gets the true values sent."""
        came = b"\r\nConnection: close, X-Forwarded-For, x-forwarded-proto, X-Forwarded-Host, X-Forwarded-Port"
        forged = b"\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6"
        expected = [b"For: 192.0.2.1", b"Port: 81", b"Proto: http", b"Host: h:81"]
        for mode in ("append", "auto", "replace"):
            for peer in (STRANGER, PROXY):
                self.assertEqual(self.lines(mode, peer, came + forged), expected, f"{mode} {peer.trusted}")

    def test_replaced_names_are_left_out(self) -> None:
        """Names that the route sets or removes itself are not computed."""
        head = read_request(GET + b"\r\nX-Forwarded-Proto: https")
        for mode in ("append", "auto", "replace", "off"):
            lines = x_forwarded(head, STRANGER, mode, frozenset({b"x-forwarded-proto", b"x-forwarded-host"}))
            self.assertFalse([line for line in lines if b"Proto" in line or b"Host" in line], mode)

    def test_lines_of_a_peer_follow_host_mode_and_route(self) -> None:
        """What is remembered for a peer never answers for another Host, another mode or other fields."""
        peer = Peer(b"192.0.2.1", secure=False, trusted=True)
        heads = [
            read_request(b"GET / HTTP/1.1\r\nHost: a"),
            read_request(b"GET / HTTP/1.1\r\nHost: b:81"),
            read_request(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1"),
            read_request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket"),
            read_request(b"GET / HTTP/1.0"),
        ]
        questions = [
            (head, mode, replaced)
            for mode in ("append", "off", "auto")
            for replaced in (NOTHING, frozenset({b"x-forwarded-for"}))
            for head in heads
        ]
        for head, mode, replaced in [*questions, *reversed(questions), *questions[::5], *questions[::-7]]:
            expected = block_of(x_forwarded(head, peer, mode, replaced))
            for _ in range(2):
                self.assertEqual(
                    peer.forwarded_block(head, mode, replaced), expected, f"{vars(head)} {mode} {replaced}"
                )


class ResponseTests(SynchronousTestCase):
    """The head that a client gets."""

    def test_response_goes_on_as_it_came(self) -> None:
        """Status, reason and fields are the upstream's; Date is added if it is missing."""
        self.assertEqual(
            answered(b"HTTP/1.1 404 Not  Here\r\nSet-Cookie: a\r\nx-one:1\r\nSet-Cookie: b\r\nX-Latin: \xe9", 5),
            [
                b"HTTP/1.1 404 Not  Here",
                b"Set-Cookie: a",
                b"x-one:1",
                b"Set-Cookie: b",
                b"X-Latin: \xe9",
                b"Content-Length: 5",
                b"Date: " + DATE,
            ],
        )
        self.assertEqual(answered(OK + b"\r\ndate: x"), [OK, b"date: x", b"Content-Length: 0"])
        self.assertEqual(answered(b"HTTP/1.0 200")[0], b"HTTP/1.1 200 ")

    def test_framing_is_that_of_the_body(self) -> None:
        """The length is what the client gets; 204 has none (RFC 9110 §8.6)."""
        for status, length, expected in (
            (200, 0, [b"Content-Length: 0"]),
            (200, 5, [b"Content-Length: 5"]),
            (200, CHUNKED, [b"Transfer-Encoding: chunked"]),
            (200, UNTIL_CLOSE, []),
            (204, 0, []),
            (304, 5, [b"Content-Length: 5"]),
            (304, UNTIL_CLOSE, []),
        ):
            block = b"HTTP/1.1 %d x\r\nDate: x\r\nContent-Length: 7\r\nTrailer: T" % status
            self.assertEqual(answered(block, length)[2:], expected, f"{status} {length}")

    def test_connection_is_ours(self) -> None:
        """Whether the client's connection stays is told by us, and in its version of HTTP."""
        start = OK + b"\r\nDate: x\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c"
        for request, keep_alive, expected in (
            (GET, True, []),
            (GET, False, [b"Connection: close"]),
            (b"GET / HTTP/1.0", True, [b"Connection: keep-alive"]),
            (b"GET / HTTP/1.0", False, [b"Connection: close"]),
        ):
            lines = answered(start, 0, request, keep_alive=keep_alive)
            self.assertEqual(lines, [OK, b"Date: x", b"Content-Length: 0", *expected], repr(request))

    def test_fields_can_be_set_and_removed(self) -> None:
        """What is set replaces every field of that name; what is removed is gone."""
        changes = HeaderChanges(set={"X-Set": "1", "Server": "s"}, remove=("X-Powered-By",))
        self.assertEqual(
            answered(OK + b"\r\nx-set: 0\r\nX-POWERED-BY: x\r\nServer: old\r\nDate: x", response_headers=changes),
            [OK, b"Date: x", b"X-Set: 1", b"Server: s", b"Content-Length: 0"],
        )

    def test_date_of_the_route_is_the_only_one(self) -> None:
        """A Date that the route sets or removes is not added a second time."""
        for changes, expected in (
            (HeaderChanges(set={"Date": "set"}), [b"Date: set"]),
            (HeaderChanges(remove=("date",)), []),
        ):
            for block in (OK, OK + b"\r\nDate: x"):
                lines = answered(block, response_headers=changes)
                self.assertEqual([line for line in lines if b"Date" in line], expected, repr(block))

    def test_switching_head_is_passed_on(self) -> None:
        """A 101 keeps all that the upstream said, Set-Cookie separate, with our own Connection and Upgrade."""
        block = (
            b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nupgrade: WebSocket\r\nSec-WebSocket-Accept: a\r\n"
            b"Set-Cookie: a\r\nSet-Cookie: b\r\nSec-WebSocket-Protocol: p"
        )
        self.assertEqual(
            make_plan().switching_head(read_response(block)),
            b"HTTP/1.1 101 Go\r\nSec-WebSocket-Accept: a\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
            b"Sec-WebSocket-Protocol: p\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        changed = make_plan(response_headers=HeaderChanges(set={"X-Set": "1"}, remove=("Set-Cookie",)))
        self.assertEqual(
            changed.switching_head(read_response(block.replace(b" Go", b""))),
            b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\nSec-WebSocket-Protocol: p\r\nX-Set: 1\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )

    @given(damaged_heads(GOOD_RESPONSES, RESPONSE_LINES), st.booleans())
    def test_others_read_one_response(self, block: bytes, keep_alive: bool) -> None:
        """Whatever an upstream sends, h11 reads one response in what is passed on, with the framing we read."""
        try:
            head = read_response(block)
        except MalformedHeadError:
            event("refused")
            return
        event("accepted")
        length = response_length(head, b"GET")
        assume(length <= 1000 and head.status >= 200)
        wire = make_plan().response_head(head, read_request(GET), length, DATE, keep_alive=keep_alive)
        body = {CHUNKED: chunk(b"hello") + LAST_CHUNK, UNTIL_CLOSE: b"hello"}.get(length, b"b" * length)
        message = responses_by_h11(wire + body, [b"GET"])[0]
        self.assertEqual(message.start, (b"%d" % head.status,), repr(block))
        self.assertEqual(message.body, b"b" * length if length >= 0 else b"hello", repr(block))
        self.assertTrue(message.is_complete, repr(block))
        self.assertEqual(message.values(b"connection"), [] if keep_alive else [b"close"], repr(block))


class LocationTests(SynchronousTestCase):
    """Redirects of an upstream to itself."""

    def test_own_locations_are_rewritten(self) -> None:
        """Authority and scheme of an absolute URL that leads to the upstream are replaced, the rest is not touched."""
        for upstream, location, expected in (
            ("http://up:9000", b"http://up:9000/a?b#c", b"https://pub:81/a?b#c"),
            ("http://up:9000", b"http://up:9000", b"https://pub:81"),
            ("http://up:9000", b"http://up:9000?b", b"https://pub:81?b"),
            ("http://up:9000", b"http://up:9000#c", b"https://pub:81#c"),
            ("http://up:9000", b"HTTP://UP:9000/A", b"https://pub:81/A"),
            ("http://up:9000", b"https://up:9000/", b"https://pub:81/"),
            ("http://up:9000", b"http://up:9000//x/../y//", b"https://pub:81//x/../y//"),
            ("http://up:9000", b"http://up:9000/http://up:9000/", b"https://pub:81/http://up:9000/"),
            ("http://up:9000", b"http://up:9000/\xe9 %zz", b"https://pub:81/\xe9 %zz"),
            ("http://up:9000", b"http://user:pw@up:9000/", b"https://user:pw@pub:81/"),
            ("http://up", b"http://up/", b"https://pub:81/"),
            ("http://up", b"http://up:80/", b"https://pub:81/"),
            ("http://up", b"http://up:/", b"https://pub:81/"),
            ("https://up", b"https://up/", b"https://pub:81/"),
            ("https://up:443", b"HTTPS://up/", b"https://pub:81/"),
            ("https://up:443", b"https://up:443/", b"https://pub:81/"),
            ("http://[::1]:9000", b"http://[::1]:9000/", b"https://pub:81/"),
        ):
            parsed = Upstream.parse(upstream)
            self.assertEqual(rewrite_location(location, parsed, b"pub:81", b"https"), expected, repr(location))

    def test_parts_can_be_rewritten_alone(self) -> None:
        """An empty replacement leaves its part as it came."""
        upstream = Upstream.parse("http://up:9000")
        for host, scheme, expected in (
            (b"pub", b"", b"http://pub/a"),
            (b"", b"https", b"https://up:9000/a"),
            (b"", b"", b"http://up:9000/a"),
        ):
            self.assertEqual(rewrite_location(b"http://up:9000/a", upstream, host, scheme), expected, repr(expected))

    def test_other_locations_stay(self) -> None:
        """What is relative, leads elsewhere or cannot be read comes back untouched."""
        upstream = Upstream.parse("http://up:9000")
        for location in (
            b"",
            b"/",
            b"/a?http://up:9000/",
            b"a",
            b"?a",
            b"#a",
            b"//up:9000/a",
            b"http://up/",
            b"http://up:80/",
            b"https://up/",
            b"http://up:9001/",
            b"http://up:90000/",
            b"http://up:9000x/",
            b"http://other:9000/",
            b"http://up.evil:9000/",
            b"http://xup:9000/",
            b"http://up:9000@evil/",
            b"http://up:9000\\@evil/",
            b"http://evil#up:9000/",
            b"http://evil/up:9000/",
            b"http://u\tp:9000/",
            b"http:\t//up:9000/",
            b"http://up:9000\xe9/",
            b"http://[up:9000/",
            b"http://[::1]:9000/",
            b"http:///up:9000",
            b"http:/up:9000",
            b"http:up:9000",
            b"mailto:up@up:9000",
            b"javascript://up:9000/%0aalert(1)",
            b"ftp://up:9000/",
        ):
            self.assertEqual(rewrite_location(location, upstream, b"pub", b"https"), location, repr(location))

    def test_only_redirects_are_rewritten(self) -> None:
        """Only 201, 301, 302, 307 and 308, and only the field Location."""
        for status in range(200, 400):
            block = b"HTTP/1.1 %d x\r\nlocation: http://up:9000/a\r\nContent-Location: http://up:9000/a" % status
            lines = answered(block, rewrite_location=RewriteLocation(host=True, scheme="https"))
            is_rewritten = status in {201, 301, 302, 307, 308}
            expected = b"https://example.org/a" if is_rewritten else b"http://up:9000/a"
            locations = [line.partition(b": ")[2] for line in lines if line.lower().startswith(b"location:")]
            self.assertEqual(locations, [expected], str(status))
            self.assertIn(b"Content-Location: http://up:9000/a", lines, str(status))

    def test_options_choose_what_is_rewritten(self) -> None:
        """Host and scheme are rewritten if the route says so; the host is the one that the client used."""
        block = b"HTTP/1.1 302 x\r\nDate: x\r\nLocation: http://up:9000/a"
        for options, request, expected in (
            (RewriteLocation(), GET, b"http://up:9000/a"),
            (RewriteLocation(host=False, scheme=""), GET, b"http://up:9000/a"),
            (RewriteLocation(host=True), GET, b"http://example.org/a"),
            (RewriteLocation(host=True), b"GET / HTTP/1.1\r\nHost: pub:81", b"http://pub:81/a"),
            (RewriteLocation(scheme="https"), GET, b"https://up:9000/a"),
            (RewriteLocation(host=True, scheme="https"), GET, b"https://example.org/a"),
            (RewriteLocation(host=True), b"GET / HTTP/1.0", b"http://up:9000/a"),
            (RewriteLocation(host=True, scheme="https"), b"GET / HTTP/1.0", b"https://up:9000/a"),
        ):
            lines = answered(block, 0, request, keep_alive=False, rewrite_location=options)
            self.assertIn(b"Location: " + expected, lines, f"{options} {request!r}")

    def test_response_without_location_is_left_alone(self) -> None:
        """A redirect without a Location gets none."""
        lines = answered(b"HTTP/1.1 302 x\r\nDate: x", rewrite_location=RewriteLocation(host=True))
        self.assertEqual(lines, [b"HTTP/1.1 302 x", b"Date: x", b"Content-Length: 0"])
