"""Tests of `proxyd.core.patterns`: which pattern answers, and that no capture gets out of its place."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.patterns import Found, Patterns
from proxyd.core.target import split_target
from proxyd.errors import RequestError
from proxyd.model.patterns import PatternSpec
from proxyd.model.routes import DEFAULT_OPTIONS, HeaderChanges, RouteOptions, over

RECIPE: dict[str, Any] = {
    "pattern": r"/ipython/(?P<port>[0-9]+)/.*",
    "upstream": "http://127.0.0.1:{port}",
    "allow": {"port": "1024-65535"},
}


def find(target: str, *specs: dict[str, Any], defaults: RouteOptions | None = None) -> Found | int | None:
    """What a request target leads to, or the status of the refusal."""
    patterns = Patterns(tuple(PatternSpec(**spec) for spec in specs), over(defaults or RouteOptions(), DEFAULT_OPTIONS))
    try:
        found = patterns.find(split_target(target.encode())[0])
        if found is not None:
            found.route()
        return found
    except RequestError as error:
        return error.status


def leads_to(target: str, *specs: dict[str, Any]) -> str:
    """Host, port, upstream's path and path of the request that a target leads to."""
    found = find(target, *specs)
    assert isinstance(found, Found), found
    upstream = found.route().upstream
    return f"{upstream} {upstream.path.decode()} {found.path.decode('latin-1')}"


class MatchTests(SynchronousTestCase):
    """Which pattern answers."""

    def test_the_whole_path_has_to_match(self) -> None:
        """Raw, without its query, its dot segments resolved."""
        for target, answers in {
            "/ipython/8888/": True, "/ipython/8888/api?x=/y": True, "/ipython/./8888/a/../b": True,
            "/x/../ipython/8888/": True, "/ipython/8888": False, "/x/ipython/8888/": False, "/ipython/abc/": False,
            "/ipython//": False, "/ipython/88%388/": False, "/ipython%2F8888/": False, "/IPYTHON/8888/": False,
            "/ipython/8888/../x": False, "//ipython/8888/": False, "/": False, "/ipython/%D9%A8888/": False,
        }.items():  # fmt: skip
            self.assertEqual(answers, find(target, RECIPE) is not None, target)

    def test_the_first_match_wins(self) -> None:
        """Even if it refuses."""
        wide = {"pattern": "/.*", "upstream": "http://all.test"}
        self.assertEqual("127.0.0.1:8888  /ipython/8888/", leads_to("/ipython/8888/", RECIPE, wide))
        self.assertEqual("all.test:80  /ipython/8888/", leads_to("/ipython/8888/", wide, RECIPE))
        self.assertEqual("all.test:80  /ipython/x/", leads_to("/ipython/x/", RECIPE, wide))
        self.assertEqual(403, find("/ipython/80/", RECIPE, wide))
        self.assertIsNone(find("/ipython/8888/"))

    def test_numbers(self) -> None:
        """403 outside of `allow`; 400 for a port that cannot be, and for a second spelling of one."""
        for port, answer in {
            "1024": None, "65535": None, "1023": 403, "1": 403, "80": 403, "0": 400, "65536": 400, "99999": 400,
            "00": 400, "08888": 400, "008888": 400, "9" * 18: 400, "9" * 5000: 400,
        }.items():  # fmt: skip
            found = find(f"/ipython/{port}/", RECIPE)
            self.assertEqual(answer, found if isinstance(found, int) else None, port[:10])

    def test_numbers_that_are_no_port(self) -> None:
        """`allow` holds for any group; what is no number is refused."""
        own = {"pattern": "/v(?P<n>[^/]*)/.*", "upstream": "http://a.test", "allow": {"n": "0,2-3"}}
        for number, answer in {
            "0": None,
            "2": None,
            "1": 403,
            "4": 403,
            "": 400,
            "x": 400,
            "02": 400,
            "%32": 400,
        }.items():
            found = find(f"/v{number}/", own)
            self.assertEqual(answer, found if isinstance(found, int) else None, number)


class CaptureTests(SynchronousTestCase):
    """Where captures land."""

    def test_upstream_path_and_fields(self) -> None:
        """In all of them; a field of the defaults is no template."""
        found = find(
            "/u/ann/8000/a%2Fb/c",
            {
                "pattern": "/u/(?P<name>[^/]+)/(?P<port>[0-9]+)/(?P<rest>.*)",
                "upstream": "http://{name}.apps.test:{port}/base/{name}",
                "path": "/x/{rest}",
                "allow": {"port": "8000"},
                "request_headers": HeaderChanges(set={"X-User": "{name}", "Host": "{name}.test"}, remove=("X-B",)),
            },
            defaults=RouteOptions(response_headers=HeaderChanges(set={"X-Raw": "{name}"})),
        )
        assert isinstance(found, Found)
        route = found.route()
        self.assertEqual("ann.apps.test:8000", str(route.upstream))
        self.assertEqual((b"/base/ann", b"/x/a%2Fb/c"), (route.upstream.path, found.path))
        request, response = route.options.request_headers, route.options.response_headers
        assert request is not None
        assert response is not None
        self.assertEqual(({"X-User": "ann", "Host": "ann.test"}, ("X-B",)), (request.set, request.remove))
        self.assertEqual({"X-Raw": "{name}"}, response.set)
        self.assertEqual(("ann", "8000"), found.key)

    def test_what_tells_resources_apart(self) -> None:
        """Captures of the upstream and of fields, not those of the path."""
        own = {**RECIPE, "pattern": "/(?P<port>[0-9]+)/(?P<rest>.*)", "path": "/{rest}"}
        keys = set()
        for target in ("/8000/a", "/8000/b", "/8001/b"):
            found = find(target, own)
            assert isinstance(found, Found)
            keys.add(found.key)
        self.assertEqual({("8000",), ("8001",)}, keys)

    def test_a_group_that_took_no_part_is_empty(self) -> None:
        """In a path; as a port it is refused."""
        own = {"pattern": "/a(?P<b>/b)?", "upstream": "http://a.test", "path": "/x{b}"}
        self.assertEqual("a.test:80  /x", leads_to("/a", own))
        self.assertEqual("a.test:80  /x/b", leads_to("/a/b", own))
        self.assertEqual(400, find("/a", {**RECIPE, "pattern": "/a(?P<port>[0-9]+)?"}))

    def test_nothing_escapes_into_the_host(self) -> None:
        """A capture in the host is one label of letters, digits and hyphens."""
        own = {"pattern": "/u/(?P<name>[^/]*)/.*", "upstream": "http://{name}.apps.test"}
        for name in ("ann", "a-b", "a_b", "x1", "1", "A", "a" * 63):
            self.assertEqual(f"{name.lower()}.apps.test:80", leads_to(f"/u/{name}/", own).split()[0])
        for name in (
            "", "a.b", "evil.test%2F", "evil.test%23", "a%40b", "a@b", "a:80", "u:p@h", "-a", "a-", "%61", "%00",
            "a%0d%0aX:%20y", "[::1]", "a;b", "a" * 64, "é",
        ):  # fmt: skip
            self.assertEqual(400, find(f"/u/{name}/", own), name)
        socket = {"pattern": "/u/(?P<name>[^/]*)/.*", "upstream": "http+unix://%2Frun%2F{name}"}
        self.assertEqual("/run/ann", leads_to("/u/ann/", socket).split()[0])
        for name in ("", "..%2Fx", "a.sock", "x%00", "a" * 64):
            self.assertEqual(400, find(f"/u/{name}/", socket), name)
        long = {"pattern": "/u/(?P<name>[^/]*)/.*", "upstream": "http://{name}{name}.apps.test"}
        self.assertEqual(400, find(f"/u/{'a' * 40}/", long))

    def test_no_dot_segment_is_made(self) -> None:
        """What was a part of a segment must not become one that leads up."""
        for template in ({"path": "/x/{a}/y"}, {"path": "/x/{a}"}, {"upstream": "http://a.test/x/{a}"}):
            own = {"pattern": "/q(?P<a>.*)", "upstream": "http://a.test", **template}
            for tail in ("..", ".", "%2e%2e", ".%2E"):
                self.assertEqual(400, find(f"/q{tail}", own), (template, tail))
        own = {"pattern": "/q(?P<a>.*)", "upstream": "http://a.test", "path": "/x/.{a}"}
        self.assertEqual(400, find("/q.", own))
        self.assertEqual("a.test:80 /x/q..%2F /q..%2F", leads_to("/q..%2F", {
            "pattern": "/(?P<a>q.*)", "upstream": "http://a.test/x/{a}",
        }))  # fmt: skip

    def test_raw_bytes_stay(self) -> None:
        """UTF-8 that was not escaped is escaped in an upstream's path, and stays as it was elsewhere."""
        own = {"pattern": "/(?P<a>.*)", "upstream": "http://a.test/{a}", "path": "/{a}"}
        found = find("/é", own)
        assert isinstance(found, Found)
        self.assertEqual((b"/%C3%A9", "/é".encode()), (found.route().upstream.path, found.path))

    def test_host_is_a_host(self) -> None:
        """A field Host that captures make is checked as one of a client."""
        own = {"pattern": "/(?P<a>.*)", "upstream": "http://a.test",
               "request_headers": HeaderChanges(set={"host": "{a}.test"})}  # fmt: skip
        self.assertIsInstance(find("/x", own), Found)
        for path in ("/a@b", "/a/b", "/a,b", "/a:b"):
            self.assertEqual(400, find(path, own), path)

    @given(
        st.text(st.characters(codec="latin-1", exclude_categories=("Cc", "Zs"), exclude_characters="?#\\"), max_size=20)
    )
    def test_authority_is_what_was_written(self, rest: str) -> None:
        """Whatever is captured, host and port are those of the template and of a checked capture."""
        own = {"pattern": "/(?P<a>[^/]*)/(?P<b>.*)", "upstream": "http://{a}.in.test:81/{b}", "path": "/{b}"}
        found = find(f"/ann/{rest}", own)
        if isinstance(found, Found):
            self.assertTrue(str(found.route().upstream).endswith(".in.test:81"))
