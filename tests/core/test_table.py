"""The route table: who answers, and what a change leaves alone."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.changes import Change
from proxyd.core.table import Entry, RouteTable
from proxyd.model.routes import Route, place_of
from proxyd.model.upstream import Upstream

Place = tuple[str, tuple[str, ...]]


def route(key: str, upstream: str = "http://127.0.0.1:9000", *, host: str | None = None) -> Route:
    """A route as the configuration (no `host`) or the API (with the `host` it found) makes one."""
    own_host, segments = place_of(key)
    return Route(key, Upstream.parse(upstream), segments, own_host if host is None else host)


def api_route(key: str, upstream: str = "http://127.0.0.1:9000") -> Route:
    """A route of the API with host routing: its host is the first segment of its key."""
    segments = place_of(key)[1]
    return Route(key, Upstream.parse(upstream), segments[1:], segments[0] if segments else "")


class TableTests(SynchronousTestCase):
    """A table of routes."""

    def setUp(self) -> None:
        self.table = RouteTable()
        self.revision = 0

    def put(self, added: Route, now: float = 0.0) -> None:
        """A change brings a route."""
        self.revision += 1
        self.table.apply(Change(self.revision, added.key, added), now)

    def delete(self, key: str, now: float = 0.0) -> None:
        """A change takes a route away."""
        self.revision += 1
        self.table.apply(Change(self.revision, key, None), now)

    def answer(self, host: str, path: str) -> str | None:
        """The key of the route that answers."""
        entry = self.table.look_up(host, place_of(path)[1])
        return None if entry is None else entry.route.key

    def test_empty_table_answers_nothing(self) -> None:
        """Without routes there is no answer, not even with a host."""
        self.assertIsNone(self.answer("", "/"))
        self.assertIsNone(self.answer("example.org", "/a"))
        self.assertEqual((len(self.table), list(self.table), self.table.revision), (0, [], 0))

    def test_static_routes_are_told_when_they_are_covered_as_well(self) -> None:
        """Whoever wants to know what the configuration has need not look through everything."""
        self.table.set_static([route("/a")], 0)
        self.put(route("/a"))
        self.put(route("/b"))
        self.assertEqual(["/a"], [each.key for each in self.table.static])

    def test_longest_prefix_answers(self) -> None:
        """Insertion order is irrelevant; deleting a route uncovers its parent."""
        for keys in (("/", "/a", "/a/b"), ("/a/b", "/a", "/")):
            for key in keys:
                self.put(route(key))
            for path, expected in (("/", "/"), ("/x", "/"), ("/a", "/a"), ("/a/b/c", "/a/b"), ("/ab", "/")):
                self.assertEqual(self.answer("", path), expected, path)
            self.delete("/a/b")
            self.assertEqual(self.answer("", "/a/b/c"), "/a")
            self.delete("/a")
            self.assertEqual(self.answer("", "/a/b/c"), "/")

    def test_a_route_that_comes_back_keeps_its_activity(self) -> None:
        """A change may tell when the route was last active; what lies in the future is now."""
        for last_activity, expected in ((3.0, 3.0), (7.0, 5.0), (None, 5.0)):
            self.table.apply(Change(1, "/a", route("/a"), last_activity), 5.0)
            self.assertEqual(expected, self.table.get("/a").last_activity)

    def test_hosts_come_before_any_host(self) -> None:
        """An exact host wins over its wildcard, that over any host; without a matching path the next one is asked."""
        for key in ("/", "/deep/path", "a.example.org/", "*.example.org/x", "*.example.org/y/z", "b.example.org/y"):
            self.put(route(key))
        for host, path, expected in (
            ("", "/x", "/"),
            ("other.org", "/x", "/"),
            ("a.example.org", "/", "a.example.org/"),
            ("a.example.org", "/deep/path", "a.example.org/"),
            ("a.example.org", "/x", "a.example.org/"),
            ("c.example.org", "/x", "*.example.org/x"),
            ("c.example.org", "/", "/"),
            ("c.example.org", "/deep/path", "/deep/path"),
            ("b.example.org", "/x", "*.example.org/x"),
            ("b.example.org", "/y/z", "b.example.org/y"),
            ("b.example.org", "/deep/path", "/deep/path"),
            ("example.org", "/x", "/"),
            ("c.d.example.org", "/x", "/"),
            ("xexample.org", "/x", "/"),
            ("org", "/x", "/"),
            ("[::1]", "/x", "/"),
        ):
            self.assertEqual(self.answer(host, path), expected, f"{host}{path}")

    def test_first_segment_can_be_the_host(self) -> None:
        """With host routing the keys are `/host/path`, and `/` is still the default for every host."""
        for key in ("/", "/h.org", "/h.org/a", "/[::1]/a"):
            self.put(api_route(key))
        for host, path, expected in (
            ("h.org", "/", "/h.org"),
            ("h.org", "/a/b", "/h.org/a"),
            ("x.h.org", "/a", "/"),
            ("org", "/a", "/"),
            ("", "/h.org/a", "/"),
            ("[::1]", "/a", "/[::1]/a"),
            ("[::2]", "/a", "/"),
        ):
            self.assertEqual(self.answer(host, path), expected, f"{host}{path}")
        self.assertIs(self.table.get("/h.org/a"), self.table.look_up("h.org", ("a",)))
        self.assertIsNone(self.table.get("h.org/a"))
        self.delete("/h.org")
        self.delete("/h.org/a")
        self.assertEqual(self.answer("h.org", "/a"), "/")

    def test_route_is_found_by_its_exact_key(self) -> None:
        """`get` wants the whole key: neither parents nor children, nor another way to write the place."""
        self.put(route("/a/b"))
        self.table.set_static([route("h.org/x")], 0.0)
        for key, expected in (
            ("/a/b", "/a/b"),
            ("h.org/x", "h.org/x"),
            ("/a", None),
            ("/a/b/c", None),
            ("/a/b/", None),
            ("H.org/x", None),
            ("/x", None),
            ("other.org/x", None),
            ("/", None),
        ):
            entry = self.table.get(key)
            self.assertEqual(None if entry is None else entry.route.key, expected, key)

    def test_odd_names_are_names(self) -> None:
        """Names that mean something to an interpreter are segments as any other."""
        for key in ("/__proto__", "/constructor/toString", "/__class__", "/a b/ü"):
            self.put(route(key))
            self.assertEqual(self.answer("", key), key)
        self.assertIsNone(self.answer("", "/toString"))

    def test_replacing_forgets_what_was_gathered(self) -> None:
        """A route that is put again is a new one, even if nothing about it is new."""
        self.put(route("/a"), 1.0)
        before = self.table.get("/a")
        self.assertIsNotNone(before)
        before.resource = object()
        self.put(route("/a"), 2.0)
        after = self.table.get("/a")
        self.assertIsNot(after, before)
        self.assertEqual((after.last_activity, after.resource, len(self.table)), (2.0, None, 1))

    def test_route_can_move_to_another_host(self) -> None:
        """A route of the same key with another host is at its new place only."""
        self.put(route("/a", host="h.org"))
        self.put(route("/a", host="i.org"))
        self.assertEqual((self.answer("h.org", "/a"), self.answer("i.org", "/a")), (None, "/a"))
        self.put(route("/a"))
        self.assertEqual((self.answer("i.org", "/a"), self.answer("", "/a"), len(self.table)), ("/a", "/a", 1))

    def test_unknown_routes_are_deleted_in_vain(self) -> None:
        """A change that deletes what is not there only counts; a static route cannot be deleted so."""
        self.table.set_static([route("/static")], 0.0)
        self.delete("/a")
        self.delete("/static")
        self.assertEqual((self.table.revision, len(self.table)), (2, 1))
        self.assertEqual(self.answer("", "/static"), "/static")

    def test_static_route_is_covered_and_uncovered(self) -> None:
        """A route of the API wins over the static one at its place; deleting it uncovers that again, as a new entry."""
        self.table.set_static([route("/a", "http://static")], 1.0)
        first = self.table.get("/a")
        self.put(route("/a", "http://api"), 2.0)
        self.assertEqual(self.table.get("/a").route.upstream.host, "api")
        self.assertEqual(len(self.table), 1)
        self.delete("/a", 3.0)
        again = self.table.get("/a")
        self.assertEqual((again.route.upstream.host, again.last_activity), ("static", 3.0))
        self.assertIsNot(again, first)

    def test_posted_routes_are_those_that_changes_brought(self) -> None:
        """Without the static ones."""
        self.table.set_static([route("/a"), route("/b")], 1.0)
        self.put(route("/a", "http://api"))
        self.put(route("/c"))
        self.delete("/c")
        self.assertEqual([posted.upstream.host for posted in self.table.posted_routes], ["api"])
        self.assertIsNone(self.table.posted("/b"))

    def test_static_route_of_a_host_is_covered_under_another_key(self) -> None:
        """With host routing `/h.org/a` covers the static `h.org/a`: the place counts, not the name."""
        self.table.set_static([route("h.org/a")], 1.0)
        self.put(api_route("/h.org/a"))
        self.assertEqual(self.answer("h.org", "/a"), "/h.org/a")
        self.assertIsNone(self.table.get("h.org/a"))
        self.delete("/h.org/a")
        self.assertEqual(self.answer("h.org", "/a"), "h.org/a")

    def test_reload_keeps_what_did_not_change(self) -> None:
        """New static routes replace the old ones; an equal one keeps its entry, a covered one stays covered."""
        self.table.set_static([route("/same"), route("/changed"), route("/gone"), route("/covered")], 1.0)
        same, changed = self.table.get("/same"), self.table.get("/changed")
        self.put(route("/covered", "http://api"), 2.0)
        covering = self.table.get("/covered")
        self.table.set_static(
            [route("/same"), route("/changed", "http://new"), route("/new"), route("/covered", "http://new")], 3.0
        )
        self.assertIs(self.table.get("/same"), same)
        self.assertIs(self.table.get("/covered"), covering)
        self.assertIsNot(self.table.get("/changed"), changed)
        self.assertEqual(self.table.get("/changed").route.upstream.host, "new")
        self.assertEqual(self.table.get("/new").last_activity, 3.0)
        self.assertIsNone(self.table.get("/gone"))
        self.delete("/covered")
        self.assertEqual(self.table.get("/covered").route.upstream.host, "new")
        self.table.set_static([], 4.0)
        self.assertEqual(list(self.table), [])

    def test_many_changes_at_once(self) -> None:
        """The table answers as before until the last step, and what stays keeps what it gathered."""
        self.table.set_static([route("/s"), route("/covered")], 0)
        for key in ("/kept", "/gone", "/covered"):
            self.put(route(key))
        kept, static = self.table.get("/kept"), self.table.get("/s")
        version = self.table.version
        changes = [Change(10 + number, f"/{number}", route(f"/{number}")) for number in range(2500)]
        changes += [Change(5000, "/gone", None), Change(5001, "/covered", None)]
        changes.append(Change(5002, "/old", route("/old"), last_activity=1))
        steps = self.table.rebuild(changes, 7)
        seen = [(len(self.table), self.table.revision) for _ in steps]
        self.assertEqual([(4, 3), (2504, 5002)], list(dict.fromkeys(seen)))
        self.assertGreater(len(seen), 5)
        self.assertEqual(version + len(changes), self.table.version)
        self.assertIs(kept, self.table.get("/kept"))
        self.assertIs(static, self.table.get("/s"))
        ages = {key: entry.last_activity for key in ("/0", "/old", "/covered") if (entry := self.table.get(key))}
        self.assertEqual({"/0": 7, "/old": 1, "/covered": 7}, ages)
        self.assertIsNone(self.table.get("/gone"))
        self.assertEqual(("/0", None), (self.table.posted("/0") and "/0", self.table.posted("/covered")))
        self.assertEqual([], list(RouteTable().rebuild([], 0)))

    def test_every_entry_is_iterated(self) -> None:
        """All entries that can answer come, each once, of whatever host."""
        self.table.set_static([route("/"), route("h.org/"), route("*.h.org/a")], 0.0)
        self.put(route("/b"))
        self.put(route("/"))
        self.assertEqual(sorted(entry.route.key for entry in self.table), ["*.h.org/a", "/", "/b", "h.org/"])


HOSTS = st.sampled_from(["", "h.org", "i.org", "*.org", "a.h.org", "*.h.org"])
SEGMENTS = st.lists(st.sampled_from(["a", "b", "", "__proto__"]), max_size=3).map(
    lambda s: place_of("/" + "/".join(s))[1]
)
UPSTREAMS = st.sampled_from(["http://one", "http://two"])


class TableMachine(RuleBasedStateMachine):
    """A table beside two dicts: what is static, and what changes brought."""

    def __init__(self) -> None:
        super().__init__()
        self.table = RouteTable()
        self.static: dict[Place, Route] = {}
        self.changing: dict[Place, Route] = {}
        self.entries: dict[Place, Entry] = {}
        self.now = 0.0

    @rule(host=HOSTS, segments=SEGMENTS, upstream=UPSTREAMS)
    def put(self, host: str, segments: tuple[str, ...], upstream: str) -> None:
        """A change brings a route, with the key that host routing would give it."""
        place = host, segments
        key = "/" + "/".join([host, *segments] if host else segments)
        self.changing[place] = added = Route(key, Upstream.parse(upstream), segments, host)
        self.advance(Change(self.table.revision + 1, key, added), place)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """A change takes away a route that may be there."""
        place = data.draw(st.sampled_from([*self.changing, *self.static, ("h.org", ("a",))]))
        removed = self.changing.pop(place, None)
        key = "/none" if removed is None else removed.key
        self.advance(Change(self.table.revision + 1, key, None), place if removed else None)

    def advance(self, change: Change, touched: Place | None) -> None:
        """Time passes, and a change with it."""
        self.now += 1
        self.table.apply(change, self.now)
        assert self.table.revision == change.revision
        self.compare({touched})

    @rule(places=st.lists(st.tuples(HOSTS, SEGMENTS, UPSTREAMS), max_size=5))
    def reload(self, places: list[tuple[str, tuple[str, ...], str]]) -> None:
        """The configuration is read again."""
        before = self.static
        routes = [
            Route(f"{host}/{'/'.join(segments)}", Upstream.parse(upstream), segments, host)
            for host, segments, upstream in places
        ]
        self.static = {(route.host, route.segments): route for route in routes}
        self.now += 1
        self.table.set_static(routes, self.now)
        places_in_question = before.keys() | self.static.keys()
        changed = {place for place in places_in_question if before.get(place) != self.static.get(place)}
        self.compare(changed - self.changing.keys())

    @rule(
        wanted=st.lists(st.tuples(HOSTS, SEGMENTS, st.none() | UPSTREAMS), min_size=1, max_size=6),
        reloaded=st.none() | st.lists(st.tuples(HOSTS, SEGMENTS, UPSTREAMS), max_size=3),
    )
    def rebuild(
        self,
        wanted: list[tuple[str, tuple[str, ...], str | None]],
        reloaded: list[tuple[str, tuple[str, ...], str]] | None,
    ) -> None:
        """Many changes come at once, and perhaps another configuration while they are prepared."""
        changes = []
        changing = dict(self.changing)
        for number, (host, segments, upstream) in enumerate(wanted, self.table.revision + 1):
            key = "/" + "/".join([host, *segments] if host else segments)
            changing.pop((host, segments), None)
            added = None
            if upstream is not None:
                added = changing[host, segments] = Route(key, Upstream.parse(upstream), segments, host)
            changes.append(Change(number, key, added))
        now = self.now + 2
        steps = self.table.rebuild(changes, now)
        next(steps)
        if reloaded is None:
            self.compare(set())
        else:
            self.reload(reloaded)
        for _ in steps:
            pass
        before, self.changing, self.now = {**self.static, **self.changing}, changing, now
        assert self.table.revision == changes[-1].revision
        self.compare({place for place, route in {**self.static, **changing}.items() if before.get(place) is not route})

    def compare(self, touched: set[Any]) -> None:
        """Entries at `touched` places are new, all others are the same objects as before."""
        effective = {**self.static, **self.changing}
        entries = {(entry.route.host, entry.route.segments): entry for entry in self.table}
        assert {place: entry.route for place, entry in entries.items()} == effective
        assert len(self.table) == len(effective)
        for place, entry in entries.items():
            if place in touched:
                assert entry is not self.entries.get(place), place
                assert (entry.last_activity, entry.resource) == (self.now, None), place
                entry.resource = place
            else:
                assert entry is self.entries.get(place), place
        self.entries = entries

    @rule(host=st.sampled_from(["", "h.org", "i.org", "a.h.org", "b.h.org", "x.org", "org"]), segments=SEGMENTS)
    def look_up(self, host: str, segments: tuple[str, ...]) -> None:
        """Of the host, else of its wildcard, else of any host: the longest prefix."""
        effective = {**self.static, **self.changing}
        prefixes = [segments[:size] for size in range(len(segments), -1, -1)]
        hosts = [host, "*." + host.partition(".")[2], ""] if host else [""]
        expected = next(
            (effective[asked, prefix] for asked in hosts for prefix in prefixes if (asked, prefix) in effective), None
        )
        entry = self.table.look_up(host, segments)
        assert (None if entry is None else entry.route) == expected, (host, segments)

    @invariant()
    def keys_are_found(self) -> None:
        """Every route that can answer is found by its key, and no other."""
        for place, static in self.static.items():
            entry = self.table.get(static.key)
            covering = self.changing.get(place)
            if covering is None:
                assert entry is self.entries[place]
            else:
                assert (entry is None) == (covering.key != static.key)
        for place, covering in self.changing.items():
            assert self.table.get(covering.key) is self.entries[place]


class TableModelTests(SynchronousTestCase):
    """Any sequence of changes."""

    def test_table_is_two_dicts_one_over_the_other(self) -> None:
        """After any changes and reloads the table answers as its model does, and keeps every entry that it can."""
        profile = settings.default
        fewer = settings(profile, max_examples=max(1, profile.max_examples // 4), stateful_step_count=30)
        run_state_machine_as_test(TableMachine, settings=fewer)
