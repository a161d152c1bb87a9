"""Tests of `proxyd.core.rereading`: what routes become when keys and members mean something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.changes import Change
from proxyd.core.posted import RouteReader
from proxyd.core.rereading import Rereading
from proxyd.core.table import RouteTable
from proxyd.errors import ConfigError, OptionError
from proxyd.model.routes import Route, RouteOptions
from proxyd.model.upstream import Upstream

PLAIN = RouteReader(host_routing=False, read_options=None)
HOSTS = RouteReader(host_routing=True, read_options=None)


def read_options(posted: Mapping[str, Any]) -> RouteOptions:
    """Knows one option."""
    if not isinstance(posted.get("strip_prefix", False), bool):
        raise OptionError("expected true or false", "strip_prefix")
    return RouteOptions(strip_prefix=posted.get("strip_prefix"))


TYPED = RouteReader(host_routing=False, read_options=read_options)


def read(reader: RouteReader, *keys: str, **members: Any) -> list[Route]:
    """Routes with these keys, each to an upstream of its own."""
    return [reader.read(key, {"target": f"http://{index}.test", **members}) for index, key in enumerate(keys)]


class ReaderTests(SynchronousTestCase):
    """A reader that reads otherwise."""

    def test_it_reads_as_another_one(self) -> None:
        """From then on; whoever has it can see that."""
        reader = RouteReader(host_routing=False, read_options=None)
        self.assertEqual((reader.version, reader.key_of("A.test/x")), (0, "/A.test/x"))
        reader.read_as(RouteReader(host_routing=True, read_options=read_options))
        self.assertEqual((reader.version, reader.key_of("A.test/x")), (1, "/a.test/x"))
        self.assertEqual(
            reader.read("/a.test/x", {"target": "http://x", "strip_prefix": True}).options.strip_prefix, True
        )

    def test_a_route_without_members(self) -> None:
        """Is known by its upstream."""
        route = Route("/a.test/x", Upstream.parse("http://x.test"), ("a.test", "x"))
        again = HOSTS.read_again(route)
        self.assertEqual((again.host, again.segments, again.upstream.url), ("a.test", ("x",), "http://x.test"))


class RereadingTests(SynchronousTestCase):
    """All routes at once."""

    def reread(self, reader: RouteReader, routes: list[Route]) -> list[Change]:
        """The changes, with the activity of the routes being the length of their keys."""
        rereading = Rereading(reader)
        rereading.prepare(routes)
        return rereading.changes(routes, 7, lambda key: float(len(key)))

    def test_what_moves_goes_first(self) -> None:
        """So that none of them takes the place of another one along; the table is that of routes that were read so."""
        routes = read(PLAIN, "/", "/a", "/a/b", "/b", "/b/a/b")
        changes = self.reread(HOSTS, routes)
        moved = ["/a", "/a/b", "/b", "/b/a/b"]
        self.assertEqual([change.key for change in changes], moved * 2)
        self.assertEqual([change.route is None for change in changes], [True] * 4 + [False] * 4)
        self.assertEqual([change.last_activity for change in changes[4:]], [2.0, 4.0, 2.0, 6.0])
        self.assertEqual({change.revision for change in changes}, {7})
        for many in (routes, [*routes, *read(PLAIN, "/x/x/y", "/x/y", "/y")]):
            table, other = RouteTable(), RouteTable()
            for route in many:
                table.apply(Change(1, route.key, route), 9)
                other.apply(Change(1, route.key, HOSTS.read_again(route)), 9)
            for change in self.reread(HOSTS, many):
                table.apply(change, 9)
            self.assertEqual(
                {(each.route.key, each.route.host) for each in table},
                {(each.route.key, each.route.host) for each in other},
            )
            back = [HOSTS.read_again(route) for route in many]
            for change in self.reread(PLAIN, back):
                table.apply(change, 9)
            self.assertEqual(sorted(each.route.key for each in table), sorted(route.key for route in many))

    def test_other_options_change_in_place(self) -> None:
        """What has the same ones does not change."""
        routes = [*read(PLAIN, "/a", strip_prefix=True), *read(PLAIN, "/b")]
        changes = self.reread(TYPED, routes)
        self.assertEqual([change.key for change in changes if change.route is None], [])
        first = changes[0]
        self.assertEqual((first.key, first.route and first.route.options.strip_prefix), ("/a", True))
        self.assertEqual(self.reread(PLAIN, routes), [])

    def test_what_comes_later_is_read_then(self) -> None:
        """And what is there already is not read again."""
        asked: list[object] = []

        def count(posted: Mapping[str, Any]) -> RouteOptions:
            asked.append(posted["target"])
            return RouteOptions()

        rereading = Rereading(RouteReader(host_routing=False, read_options=count))
        first, second, other = read(PLAIN, "/a", "/b", "/c")
        rereading.prepare([first, second])
        put_again = PLAIN.read("/b", {"target": "http://again.test"})
        rereading.prepare([first, put_again, other])
        self.assertEqual(asked, [f"http://{name}.test" for name in ("0", "1", "again", "2")])

    def test_those_that_cannot_stay(self) -> None:
        """All of them are told; of very many the number."""
        routes = read(PLAIN, "/a", "/b", strip_prefix="x")
        error = self.assertRaises(ConfigError, Rereading(TYPED).prepare, [*routes, *read(PLAIN, "/c")])
        words = "strip_prefix: expected true or false"
        self.assertEqual(
            str(error).split("\n"), [f"the route {key} of the API cannot stay: {words}" for key in ("/a", "/b")]
        )
        error = self.assertRaises(ConfigError, Rereading(HOSTS).prepare, read(PLAIN, "/A.test/x"))
        self.assertEqual(str(error), "the route /A.test/x of the API cannot stay: its key would be /a.test/x")
        many = read(PLAIN, *(f"/{number}" for number in range(25)), strip_prefix=json.dumps({}))
        error = self.assertRaises(ConfigError, Rereading(TYPED).prepare, many)
        self.assertEqual(len(error.problems), 21)
        self.assertEqual(str(error.problems[-1]), "5 more routes of the API cannot stay")
