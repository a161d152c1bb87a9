"""Tests of `proxyd.core.posted`: what is read is the route, or a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.posted import RouteReader, without_secrets
from proxyd.errors import OptionError, RequestError
from proxyd.model.auth import AuthConfig
from proxyd.model.routes import INHERITED, RouteOptions
from proxyd.option import Secret


def read_options(posted: Mapping[str, Any]) -> RouteOptions:
    """Knows one option."""
    if not isinstance(posted.get("strip_prefix", False), bool):
        raise OptionError("expected true or false", "strip_prefix")
    return RouteOptions(strip_prefix=posted.get("strip_prefix"))


@attrs.frozen(kw_only=True)
class SecretAuthConfig(AuthConfig):
    """Has options of every sort."""

    word: Secret = Secret("")
    words: tuple[Secret, ...] = ()
    spare: Secret | None = None
    open: str = ""


VERBATIM = RouteReader(host_routing=False, read_options=None)
TYPED = RouteReader(host_routing=False, read_options=read_options)
HOSTS = RouteReader(host_routing=True, read_options=None)


class ToldTests(SynchronousTestCase):
    """What the API has told of a route."""

    def test_it_may_be_posted_again(self) -> None:
        """A copy of a static route is none; where members are verbatim, only the time is ours."""
        posted = {"target": "http://h", "static": True, "last_activity": "2000-01-01"}
        self.assertEqual(json.loads(TYPED.read("/a", posted).members), {"target": "http://h"})
        self.assertEqual(json.loads(VERBATIM.read("/a", posted).members), {"target": "http://h", "static": True})

    def test_there_is_one_word_for_the_target(self) -> None:
        """Two of them could differ later."""
        self.assertEqual(json.loads(TYPED.read("/a", {"upstream": "http://h"}).members), {"target": "http://h"})
        both = {"upstream": "http://no", "target": "http://h"}
        self.assertEqual(json.loads(TYPED.read("/a", both).members), {"target": "http://h"})
        self.assertEqual(json.loads(VERBATIM.read("/a", both).members), both)


class KeyTests(SynchronousTestCase):
    """Keys."""

    def test_one_slash_in_front_and_none_behind(self) -> None:
        """However many there were; inner ones stay, and so does the case."""
        for path, key in (("", "/"), ("/", "/"), ("a", "/a"), ("//a//", "/a"), ("/A//b/", "/A//b")):
            self.assertEqual(VERBATIM.key_of(path), key)

    def test_a_host_has_no_case(self) -> None:
        """The path behind it has."""
        for path, key in (("/", "/"), ("/Host.", "/host"), ("/Host.Test/A", "/host.test/A"), ("/[::F]/x", "/[::f]/x")):
            self.assertEqual(HOSTS.key_of(path), key)


class ReadTests(SynchronousTestCase):
    """Objects."""

    def assert_refused(self, reader: RouteReader, posted: Mapping[str, Any], reason: str) -> None:
        """There is no route in it, and the reason says why."""
        with self.assertRaises(RequestError) as caught:
            reader.read("/a", posted)
        self.assertEqual(caught.exception.status, 400)
        self.assertIn(reason, str(caught.exception))

    def test_members_are_kept(self) -> None:
        """All of them as they came, but for the activity, which is the proxy's."""
        posted = {"target": "HTTP://H", "a": [1, {"b": None}], "last_activity": "2000-01-01"}
        route = VERBATIM.read("/a/b", posted)
        self.assertEqual((route.key, route.segments, route.host, route.options), ("/a/b", ("a", "b"), "", INHERITED))
        self.assertEqual(json.loads(route.members), {"target": "HTTP://H", "a": [1, {"b": None}]})

    def test_options_are_read_or_kept(self) -> None:
        """`upstream` and `host` have a meaning only where options have."""
        posted = {"upstream": "http://h", "host": "H.test.", "strip_prefix": True}
        route = TYPED.read("/a", posted)
        self.assertEqual((route.host, route.options.strip_prefix), ("h.test", True))
        self.assertEqual(json.loads(route.members)["target"], "http://h")
        self.assert_refused(VERBATIM, posted, "target")
        route = VERBATIM.read("/a", {**posted, "target": "http://h"})
        self.assertEqual((route.host, route.options), ("", INHERITED))
        self.assertEqual(TYPED.read("/a", {"target": "http://h", "host": None}).host, "")
        self.assertEqual(VERBATIM.read("/a", {"target": "http://h", "host": 3}).host, "")
        self.assert_refused(TYPED, {"target": "http://h", "host": 3}, "host: expected text")

    def test_the_first_segment_is_the_host(self) -> None:
        """With host routing; the default route is that of every host."""
        route = HOSTS.read("/h.test/a", {"target": "http://h", "host": "other"})
        self.assertEqual((route.host, route.segments), ("h.test", ("a",)))
        self.assertEqual(json.loads(route.members)["host"], "h.test")
        route = HOSTS.read("/", {"target": "http://h"})
        self.assertEqual((route.host, route.segments, json.loads(route.members)), ("", (), {"target": "http://h"}))

    def test_what_is_no_route_is_refused(self) -> None:
        """With a reason that names the member."""
        for posted in ({}, {"target": 3}, {"target": None}):
            self.assert_refused(VERBATIM, posted, "'target'")
        self.assert_refused(VERBATIM, {"target": "x"}, "target: ")
        self.assert_refused(TYPED, {"target": "http://h", "strip_prefix": "yes"}, "strip_prefix: expected")

    def test_what_is_no_json_is_refused(self) -> None:
        """A store of somebody's own may bring anything."""
        for value in (float("inf"), {1, 2}, b"x"):
            self.assert_refused(VERBATIM, {"target": "http://h", "x": value}, "JSON")

    def test_depth(self) -> None:
        """What could not be read again further down the stack is no route, wherever it comes from."""
        value: object = 1
        for _ in range(200):
            value = [value]
        self.assert_refused(VERBATIM, {"target": "http://h", "x": value}, "more than 200 levels")


class SecretTests(SynchronousTestCase):
    """What the API shows of a route."""

    def test_secrets_are_left_out(self) -> None:
        """Those that the classes of the options declare so, and nothing else, wherever the same name stands."""
        posted = {
            "target": "http://h",
            "word": "seen",
            "auth": {"kind": "x", "word": "w", "words": ["w"], "spare": None, "open": "seen"},
            "strip_prefix": {"word": "seen"},
        }
        options = RouteOptions(auth=SecretAuthConfig(), strip_prefix=True)
        expected = {**posted, "auth": {"kind": "x", "open": "seen"}}
        self.assertEqual(json.loads(without_secrets(json.dumps(posted), options)), expected)

    def test_a_route_without_options_is_shown_as_it_is(self) -> None:
        """Most routes are such, and cost nothing."""
        members = json.dumps({"target": "http://h", "auth": {"word": "seen"}})
        self.assertIs(without_secrets(members, INHERITED), members)


class ReservedTests(SynchronousTestCase):
    """Paths of authenticators."""

    def test_no_route_takes_the_place_of_a_login(self) -> None:
        """Wherever it is; names that only look alike are free, and so is everything under `chp`."""
        for key in ("/.proxyd", "/.proxyd/login", "/a/.proxyd/b"):
            with self.assertRaises(RequestError) as caught:
                TYPED.read(key, {"target": "http://h"})
            self.assertEqual(caught.exception.status, 400)
            self.assertEqual(VERBATIM.read(key, {"target": "http://h"}).key, key)
        for key in ("/.proxyd2", "/proxyd", "/a.proxyd"):
            self.assertEqual(TYPED.read(key, {"target": "http://h"}).key, key)
