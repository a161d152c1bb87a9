"""Where a request leads: targets (RFC 9112 §3.2), and the routes that they find."""

from __future__ import annotations

from tests.hostile.cases import Case, Seen, family, passed, refused

# The proxy of these tests has a second route, with this prefix, to an upstream that refuses all connections.
CLOSED = "/closed"


def _request(target: bytes, method: bytes = b"GET", host: bytes = b"a") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (method, target, host)


def _bad(name: str, target: bytes) -> Case:
    return refused(name, _request(target))


def _good(name: str, target: bytes, *forms: bytes, host: bytes = b"a") -> Case:
    """A target that arrives in the first of `forms`; other proxies may pass it as it came."""
    return passed(name, _request(target), seen=Seen(targets=(*forms, target), host=host))


TARGETS = family(
    "targets",
    _bad("relative", b"get"),
    _bad("relative-dots", b"../get"),
    _bad("query-only", b"?get"),
    _bad("asterisk-of-get", b"*"),
    _bad("asterisk-and-path", b"*/get"),
    _bad("authority", b"a:80"),
    _bad("authority-with-path", b"a/get"),
    _bad("fragment", b"/get#x"),
    _bad("fragment-in-query", b"/get?x#y"),
    _bad("fragment-only", b"#x"),
    _bad("backslash", b"/a\\get"),
    _bad("backslash-first", b"\\get"),
    _bad("backslash-dots", b"/a/..\\get"),
    _bad("quote", b'/g"et'),
    _bad("less-than", b"/g<et"),
    _bad("greater-than", b"/get?x>y"),
    _bad("percent-alone", b"/%"),
    _bad("percent-one-digit", b"/%4"),
    _bad("percent-no-digits", b"/%zz"),
    _bad("percent-sign", b"/%+1"),
    _bad("percent-unicode", b"/%u0041"),
    _bad("overlong-slash", b"/a%c0%afb"),
    _bad("overlong-dot", b"/%c0%ae%c0%ae/get"),
    _bad("not-utf-8", b"/%ff%fe"),
    _bad("not-utf-8-raw", b"/\xff\xfe"),
    _bad("surrogate", b"/%ed%a0%80"),
    _bad("scheme-ftp", b"ftp://a/get"),
    _bad("scheme-file", b"file:///get"),
    _bad("scheme-javascript", b"javascript:alert(1)"),
    _bad("scheme-only", b"http:"),
    _bad("scheme-one-slash", b"http:/a/get"),
    _bad("scheme-three-slashes", b"http:///get"),
    _bad("scheme-unix", b"http+unix://%2Frun%2Fx.sock/get"),
    _bad("absolute-userinfo", b"http://user@a/get"),
    _bad("absolute-password", b"http://user:pass@a/get"),
    _bad("absolute-at-only", b"http://@a/get"),
    _bad("absolute-bad-port", b"http://a:port/get"),
    _bad("absolute-port-six-digits", b"http://a:123456/get"),
    _bad("absolute-two-ports", b"http://a:80:80/get"),
    _bad("absolute-ipv6-open", b"http://[::1/get"),
    _bad("absolute-comma", b"http://a,b/get"),
    _bad("absolute-backslash", b"http://a\\b/get"),
    _bad("absolute-empty-query", b"http://?get"),
    refused("absolute-without-host", b"GET http://a/get HTTP/1.1\r\n\r\n"),
    refused("absolute-two-hosts", b"GET http://a/get HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    refused("connect", _request(b"a:443", b"CONNECT"), status=405),
    refused("connect-path", _request(b"/get", b"CONNECT"), status=(400, 404, 405)),
    refused("connect-absolute", _request(b"http://a/", b"CONNECT"), status=405),
    refused("connect-to-ourselves", _request(b"127.0.0.1:1", b"CONNECT"), status=405),
    _good("plain", b"/get", b"/get"),
    _good("query", b"/get?x=y&z", b"/get?x=y&z"),
    _good("empty-query", b"/get?", b"/get?"),
    _good("two-question-marks", b"/get??x=?", b"/get??x=?"),
    _good("query-with-odd-bytes", b"/get?{x}|y^z`[1]\\", b"/get?{x}|y^z`[1]\\"),
    _good("query-with-slashes-and-dots", b"/get?/../x", b"/get?/../x"),
    _good("query-with-percent", b"/get?%zz%", b"/get?%zz%"),
    _good("query-with-high-bytes", b"/get?\xff\xfe", b"/get?\xff\xfe"),
    _good("semicolon", b"/get;x=y/z", b"/get;x=y/z"),
    _good("signs", b"/-._~!$&'()*+,;=:@", b"/-._~!$&'()*+,;=:@"),
    _good("url-in-path", b"/get/http://evil/", b"/get/http://evil/"),
    _good("utf-8", b"/\xc3\xa9", b"/\xc3\xa9"),
    _good("utf-8-escaped", b"/%C3%A9", b"/%C3%A9"),
    _good("escaped-small-letters", b"/%c3%a9", b"/%c3%a9"),
    _good("escaped-letters", b"/%67%65%74", b"/%67%65%74"),
    _good("escaped-slash", b"/a%2Fb", b"/a%2Fb"),
    _good("escaped-percent", b"/a%252e%252e/b", b"/a%252e%252e/b"),
    _good("escaped-crlf", b"/a%0d%0aX:%20y", b"/a%0d%0aX:%20y"),
    _good("escaped-question-mark", b"/a%3fb", b"/a%3fb"),
    _good("dots", b"/x/../get", b"/get"),
    _good("dots-escaped", b"/x/%2e%2e/get", b"/get"),
    _good("dots-half-escaped", b"/x/.%2E/get", b"/get"),
    _good("dots-beyond-the-root", b"/../../get", b"/get"),
    _good("dots-at-the-end", b"/get/..", b"/"),
    _good("dot", b"/./get", b"/get"),
    _good("dot-escaped", b"/%2e/get", b"/get"),
    _good("dot-at-the-end", b"/get/.", b"/get/"),
    _good("three-dots", b"/.../get", b"/.../get"),
    _good("dots-in-a-name", b"/..get/get..", b"/..get/get.."),
    _good("two-slashes", b"//get", b"//get"),
    _good("slashes-inside", b"/a//get", b"/a//get"),
    _good("dots-behind-two-slashes", b"/a//../get", b"/a/get"),
    _good("absolute", b"http://a/get", b"/get"),
    _good("absolute-https", b"https://a/get", b"/get"),
    _good("absolute-capitals", b"HTTP://a/get", b"/get"),
    _good("absolute-without-path", b"http://a", b"/"),
    _good("absolute-query-only", b"http://a?x", b"/?x"),
    _good("absolute-dots", b"http://a/x/../get", b"/get"),
    passed(
        "absolute-other-host",
        _request(b"http://b.example/get", host=b"a"),
        seen=Seen(targets=(b"/get", b"http://b.example/get"), has=((b"host", b"b.example"),), host=b"b.example"),
    ),
    passed(
        "absolute-other-port",
        _request(b"http://a:8000/get", host=b"a"),
        seen=Seen(targets=(b"/get", b"http://a:8000/get"), has=((b"host", b"a:8000"),), host=b"a:8000"),
    ),
    passed(
        "absolute-ipv6",
        _request(b"http://[::1]:80/get", host=b"a"),
        seen=Seen(targets=(b"/get", b"http://[::1]:80/get"), has=((b"host", b"[::1]:80"),), host=b"[::1]:80"),
    ),
    Case(
        name="asterisk-of-options",
        sends=(_request(b"*", b"OPTIONS"),),
        statuses=(frozenset({200, 204}),),
        for_peers=False,
    ),
)


def _leads(name: str, target: bytes, *, elsewhere: bool, form: bytes = b"", host: bytes = b"a") -> Case:
    """Whether a target leads to the closed upstream or to ours."""
    if elsewhere:
        return Case(
            name=name, sends=(_request(target, host=host),), statuses=(frozenset({502}),), closes=None, for_peers=False
        )
    case = passed(name, _request(target, host=host), seen=Seen(targets=(form or target,), host=None))
    return Case(**{**{f: getattr(case, f) for f in ("name", "sends", "statuses", "forwarded")}, "for_peers": False})


ROUTING = family(
    "routing",
    _leads("prefix", b"/closed", elsewhere=True),
    _leads("below", b"/closed/x", elsewhere=True),
    _leads("slash", b"/closed/", elsewhere=True),
    _leads("query", b"/closed?x", elsewhere=True),
    _leads("escaped-letter", b"/%63losed/x", elsewhere=True),
    _leads("escaped-slash", b"/closed%2fx", elsewhere=True),
    _leads("escaped-slash-first", b"/%2fclosed", elsewhere=True),
    _leads("two-slashes", b"//closed/x", elsewhere=True),
    _leads("through-dots", b"/x/../closed/y", elsewhere=True),
    _leads("through-escaped-dots", b"/x/%2e%2e/closed/y", elsewhere=True),
    _leads("through-dot", b"/./closed", elsewhere=True),
    _leads("absolute", b"http://a/closed", elsewhere=True),
    _leads("absolute-dots", b"http://a/x/../closed", elsewhere=True),
    _leads("longer-name", b"/closedx", elsewhere=False),
    _leads("longer-name-dash", b"/closed-x/y", elsewhere=False),
    _leads("longer-name-dot", b"/closed.x", elsewhere=False),
    _leads("semicolon", b"/closed;x", elsewhere=False),
    _leads("at", b"/closed@x", elsewhere=False),
    _leads("colon", b"/closed:80", elsewhere=False),
    _leads("escaped-end", b"/closed%00", elsewhere=False),
    _leads("escaped-query", b"/closed%3fx", elsewhere=False),
    _leads("escaped-fragment", b"/closed%23x", elsewhere=False),
    _leads("escaped-blank", b"/closed%20/x", elsewhere=False),
    _leads("capitals", b"/CLOSED", elsewhere=False),
    _leads("escaped-twice", b"/%2563losed", elsewhere=False),
    _leads("shorter-name", b"/close", elsewhere=False),
    _leads("not-first", b"/x/closed", elsewhere=False),
    _leads("out-by-dots", b"/closed/../get", elsewhere=False, form=b"/get"),
    _leads("out-by-escaped-dots", b"/closed/%2e%2E/get", elsewhere=False, form=b"/get"),
    _leads("out-by-many-dots", b"/closed/x/../../get", elsewhere=False, form=b"/get"),
    _leads("in-the-query", b"/get?/closed", elsewhere=False),
    _leads("host-with-path", b"/get", elsewhere=False, host=b"closed"),
    _leads("absolute-host-is-no-path", b"http://closed/get", elsewhere=False, form=b"/get"),
)
