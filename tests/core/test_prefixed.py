"""Tests of `proxyd.core.prefixed` (contract of managed servers, sections 6 and 7)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.forward import Peer
from proxyd.core.head import HeadLimits, RequestReader, ResponseReader
from proxyd.core.prefixed import PrefixedPlan, prefixed_location
from proxyd.model.routes import DEFAULT_OPTIONS, HeaderChanges, RewriteLocation, RouteOptions, over
from proxyd.model.upstream import Upstream

UPSTREAM = Upstream.parse("http://localhost:8080")
CONTEXT = "/user/u1/proxy/8080"


def plan(*, is_absolute: bool = False, rewrites_location: bool = True, **options: Any) -> PrefixedPlan:
    """A plan for a port, with these options of a route."""
    complete = over(RouteOptions(**options), DEFAULT_OPTIONS)
    return PrefixedPlan(UPSTREAM, complete, CONTEXT, 4, is_absolute=is_absolute, rewrites_location=rewrites_location)


def request(plan: PrefixedPlan, *fields: str, path: str = CONTEXT + "/x", query: str = "") -> list[str]:
    """The lines that the upstream gets of a GET with these fields."""
    lines = [f"GET {path}{query} HTTP/1.1", "Host: client.test", *fields]
    head = RequestReader(HeadLimits()).read("\r\n".join(lines).encode())
    peer = Peer(b"192.0.2.1", secure=False, trusted=False)
    return plan.request_head(head, path.encode(), query.encode(), peer).decode().split("\r\n")


class RequestTests(SynchronousTestCase):
    """What the application gets to see."""

    def test_the_prefix_is_stripped_and_the_rest_is_raw(self) -> None:
        """Path and query byte for byte; nothing behind the prefix is `/`."""
        cases = {
            "": "/", "/": "/", "//": "//", "/a": "/a", "/a/": "/a/",
            "/%20%25/%C3%A9;=,@:!$&'()*+~": "/%20%25/%C3%A9;=,@:!$&'()*+~",
            "/a%2Fb%3Fc%23d%ff%aF": "/a%2Fb%3Fc%23d%ff%aF", "//a//b": "//a//b",
        }  # fmt: skip
        for rest, seen in cases.items():
            for query in ("", "?", "?a=%20&b=/../&token=x?y"):
                lines = request(plan(), path=CONTEXT + rest, query=query)
                self.assertEqual(f"GET {seen}{query} HTTP/1.1", lines[0])
                lines = request(plan(is_absolute=True), path=CONTEXT + rest, query=query)
                self.assertEqual(f"GET {CONTEXT}{rest}{query} HTTP/1.1", lines[0])
            for is_absolute in (False, True):
                below = plan(is_absolute=is_absolute).path_below(f"{CONTEXT}{rest}".encode())
                self.assertEqual(seen.encode(), below)

    def test_fields_pass(self) -> None:
        """Host is the client's; Origin, Cookie, Referer and the others come as they were, in order."""
        fields = ["Cookie: a=1", "Origin: http://client.test", "Referer: r", "Accept-Encoding: br", "Cookie: b=2",
                  "User-Agent: me"]  # fmt: skip
        lines = request(plan(change_origin=True), *fields)
        self.assertEqual("Host: client.test", lines[1])
        self.assertEqual(fields, [line for line in lines if line in fields])

    def test_fields_of_the_hop_stay(self) -> None:
        """Those that Connection names, and the credentials for a proxy."""
        lines = request(
            plan(), "Connection: close, X-Mine", "X-Mine: 1", "Keep-Alive: 5", "TE: trailers", "Trailer: X",
            "Proxy-Authorization: basic x", "Proxy-Authenticate: y", "Proxy-Connection: close",
        )  # fmt: skip
        names = {line.partition(":")[0].lower() for line in lines[1:] if line}
        self.assertEqual({"host"}, {name for name in names if not name.startswith("x-")})
        self.assertNotIn("x-mine", names)

    def test_the_prefix_is_told(self) -> None:
        """In three fields, in place of what came, and of what the options say of them."""
        told = [f"{name}: {CONTEXT}" for name in ("X-Forwarded-Context", "X-ProxyContextPath", "X-Forwarded-Prefix")]
        forged = ["X-Forwarded-Prefix: /evil", "x-proxycontextpath: /evil", "X-Forwarded-Context: /evil"]
        for changes in (
            None,
            HeaderChanges(set={"x-forwarded-prefix": "/other", "X-A": "b"}),
            HeaderChanges(remove=("X-Forwarded-Prefix", "X-ProxyContextPath")),
        ):
            lines = request(plan(request_headers=changes), *forged)
            self.assertEqual(set(told), {line for line in lines if "ontext" in line or "refix" in line})
        self.assertIn("X-A: b", request(plan(request_headers=HeaderChanges(set={"X-A": "b"}))))

    def test_an_absolute_one_is_told_nothing(self) -> None:
        """It sees the prefix itself."""
        lines = request(plan(is_absolute=True))
        self.assertEqual([], [line for line in lines if "ontext" in line or "refix" in line])


class LocationTests(SynchronousTestCase):
    """Redirects of the application."""

    def test_absolute_paths_get_the_prefix(self) -> None:
        """Once; a URL of the upstream itself counts as its path; everything else stays as it is."""
        cases = {
            "/": f"{CONTEXT}/", "/a?b#c": f"{CONTEXT}/a?b#c", "/\\evil.test": f"{CONTEXT}/\\evil.test",
            CONTEXT: CONTEXT, f"{CONTEXT}/a": f"{CONTEXT}/a", f"{CONTEXT}?q": f"{CONTEXT}?q",
            f"{CONTEXT}0/a": f"{CONTEXT}{CONTEXT}0/a",
            "a": "a", "../a": "../a", "?q": "?q", "#f": "#f", "": "", "//host/a": "//host/a",
            "http://client.test/a": "http://client.test/a", "http://localhost:8081/a": "http://localhost:8081/a",
            "mailto:a@b": "mailto:a@b",
            "http://localhost:8080/a": f"{CONTEXT}/a", "http://127.0.0.1:8080?q": f"{CONTEXT}/?q",
            "HTTP://[::1]:8080": f"{CONTEXT}/", "http://localhost:8080//a": f"{CONTEXT}/.//a",
            f"http://localhost:8080{CONTEXT}/a": f"{CONTEXT}/a",
        }  # fmt: skip
        for came, seen in cases.items():
            self.assertEqual(seen.encode(), prefixed_location(came.encode(), CONTEXT.encode(), UPSTREAM), came)
        other = Upstream.parse("http://db.test:8080")
        for came, seen in {
            "http://db.test:8080/a": f"{CONTEXT}/a",
            "http://localhost:8080/a": "http://localhost:8080/a",
        }.items():
            self.assertEqual(seen.encode(), prefixed_location(came.encode(), CONTEXT.encode(), other))

    def answer(self, plan: PrefixedPlan, status: int) -> bytes:
        """The head that the client gets of a response with a Location."""
        head = ResponseReader().read(b"HTTP/1.1 %d Why\r\nLocation: /a\r\nSet-Cookie: a=1; Path=/" % status)
        asked = RequestReader(HeadLimits()).read(b"GET / HTTP/1.1\r\nHost: client.test")
        return plan.response_head(head, asked, 0, b"now", keep_alive=True)

    def test_what_is_asked_of_a_proxy_stays(self) -> None:
        """As what concerns one connection does; the changes that are configured are made all the same."""
        head = ResponseReader().read(
            b"HTTP/1.1 200 Why\r\nProxy-Authenticate: Basic\r\nProxy-Authentication-Info: x\r\nKeep-Alive: 5\r\n"
            b"Proxy-Connection: x\r\nConnection: x-named\r\nX-Named: 1\r\nX-Own: 1"
        )
        asked = RequestReader(HeadLimits()).read(b"GET / HTTP/1.1\r\nHost: client.test")
        own = plan(response_headers=HeaderChanges(set={"X-Set": "1"}, remove=("X-Own",)))
        answer = own.response_head(head, asked, 0, b"now", keep_alive=True)
        self.assertEqual(b"HTTP/1.1 200 Why\r\nX-Set: 1\r\nContent-Length: 0\r\nDate: now\r\n\r\n", answer)

    def test_which_statuses(self) -> None:
        """Redirects do; a 201 does not, nor does anything of an absolute one. Cookies stay as they are."""
        options = {"rewrite_location": RewriteLocation(host=True, scheme="https")}
        for status in (301, 302, 303, 307, 308):
            head = self.answer(plan(**options), status)
            self.assertIn(b"\r\nLocation: %b/a\r\n" % CONTEXT.encode(), head)
            self.assertIn(b"\r\nSet-Cookie: a=1; Path=/\r\n", head)
            self.assertTrue(head.startswith(b"HTTP/1.1 %d Why\r\n" % status))
        for status in (200, 201, 304, 404):
            self.assertIn(b"\r\nLocation: /a\r\n", self.answer(plan(**options), status))
        self.assertIn(b"\r\nLocation: /a\r\n", self.answer(plan(is_absolute=True), 302))
        self.assertIn(b"\r\nLocation: /a\r\n", self.answer(plan(rewrites_location=False), 302))
