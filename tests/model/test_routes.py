"""Routes, and what a user may say about one."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import OptionError
from proxyd.model.relay import DEFAULT_RELAY, RelaySettings
from proxyd.model.routes import (
    DEFAULT_OPTIONS,
    INHERITED,
    HeaderChanges,
    RewriteLocation,
    Route,
    RouteOptions,
    RouteTimeouts,
    over,
    place_of,
)
from proxyd.model.upstream import Upstream
from proxyd.option import ByteCount, Seconds


class OptionTests(SynchronousTestCase):
    """Options of a route over those of all routes."""

    def test_route_that_says_nothing_inherits_everything(self) -> None:
        """What is not given comes from the defaults, and nothing is given by default."""
        self.assertEqual(over(INHERITED, DEFAULT_OPTIONS), DEFAULT_OPTIONS)
        self.assertEqual(over(INHERITED, INHERITED), INHERITED)
        self.assertEqual(set(attrs.asdict(INHERITED).values()), {None})

    def test_own_options_win_one_by_one(self) -> None:
        """An option of the route wins, false and empty ones too; sections are merged option by option."""
        own = RouteOptions(
            strip_prefix=True,
            prepend_path=False,
            rewrite_location=RewriteLocation(scheme="https"),
            request_headers=HeaderChanges(set={"A": "1"}),
            response_headers=HeaderChanges(remove=()),
            timeouts=RouteTimeouts(idle=Seconds(0)),
        )
        defaults = RouteOptions(
            strip_prefix=False,
            prepend_path=True,
            change_origin=True,
            rewrite_location=RewriteLocation(host=True, scheme="http"),
            request_headers=HeaderChanges(set={"B": "2"}, remove=("C",)),
            response_headers=HeaderChanges(set={"D": "4"}, remove=("E",)),
            timeouts=RouteTimeouts(connect=Seconds(1), idle=Seconds(2)),
        )
        self.assertEqual(
            over(own, defaults),
            RouteOptions(
                strip_prefix=True,
                prepend_path=False,
                change_origin=True,
                rewrite_location=RewriteLocation(host=True, scheme="https"),
                request_headers=HeaderChanges(set={"A": "1"}, remove=("C",)),
                response_headers=HeaderChanges(set={"D": "4"}, remove=()),
                timeouts=RouteTimeouts(connect=Seconds(1), idle=Seconds(0)),
            ),
        )

    def test_section_without_a_default_stands_alone(self) -> None:
        """A section that only the route has is taken as it is."""
        own = RouteOptions(timeouts=RouteTimeouts(idle=Seconds(1)))
        self.assertEqual(over(own, INHERITED), own)

    def test_relays_are_laid_over_relays(self) -> None:
        """An option of a relay comes from `route_defaults` if that speaks of a relay; a word stands alone."""
        relay = RelaySettings(kind="relay", max_message_size=ByteCount(1), compression=False)
        own = RouteOptions(websocket=RelaySettings(kind="relay", compression=True))
        both = over(own, RouteOptions(websocket=relay)).websocket
        self.assertEqual(both, RelaySettings(kind="relay", max_message_size=ByteCount(1), compression=True))
        self.assertEqual(over(own, DEFAULT_OPTIONS).websocket, own.websocket)
        self.assertEqual(over(INHERITED, RouteOptions(websocket=relay)).websocket, relay)
        self.assertEqual(over(RouteOptions(websocket="off"), RouteOptions(websocket=relay)).websocket, "off")
        complete = over(RelaySettings(kind="relay"), DEFAULT_RELAY)
        self.assertEqual(complete, DEFAULT_RELAY)
        self.assertNotIn(None, attrs.astuple(complete))

    def test_defaults_say_what_the_documents_say(self) -> None:
        """Without a word the path is passed whole, Host is the client's, X-Forwarded-* depends on who asks."""
        self.assertEqual(
            attrs.asdict(DEFAULT_OPTIONS),
            {
                "strip_prefix": False,
                "prepend_path": True,
                "change_origin": False,
                "x_forwarded": "auto",
                "rewrite_location": {"host": False, "scheme": ""},
                "request_headers": {"set": {}, "remove": ()},
                "response_headers": {"set": {}, "remove": ()},
                "websocket": "tunnel",
                "timeouts": {"connect": None, "response": None, "idle": None},
                "rate": (0, 1),
                "auth": None,
                "upstream_tls": dict.fromkeys(("ca", "certificate", "key", "server_name", "verify")),
            },
        )

    def test_options_do_not_change(self) -> None:
        """A route that is in the table stays what it is."""
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, INHERITED, "strip_prefix", True)
        route = Route("/a", Upstream.parse("http://h"), ("a",))
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, route, "key", "/b")
        self.assertEqual((route.host, route.options, route.members), ("", INHERITED, ""))


class RouteTests(SynchronousTestCase):
    """What a route tells, and does not keep twice."""

    def test_what_the_key_and_the_members_tell(self) -> None:
        """Is the same as what is said in so many words, and takes no room."""
        said = Route("/a/b", Upstream.parse("http://h:1"), ("a", "b"), "", INHERITED, '{"target": "http://h:1"}')
        told = Route.told("/a/b", '{"target": "http://h:1"}')
        self.assertEqual(said, told)
        self.assertEqual((told.upstream.host, told.upstream.port, told.segments), ("h", 1, ("a", "b")))
        self.assertEqual((said._upstream, said._segments), (None, 0))
        hosted = Route("/h.org/b", Upstream.parse("http://h:1"), ("b",), "h.org", INHERITED, '{"target": "http://h:1"}')
        self.assertEqual(hosted, Route.told("/h.org/b", '{"target": "http://h:1"}', "h.org", segments=1))
        self.assertEqual(hosted.segments, ("b",))

    def test_what_they_do_not_tell(self) -> None:
        """Is kept: another upstream, an upstream without members, segments of a pattern."""
        upstream = Upstream.parse("http://other")
        for route in (
            Route("/a", upstream, ("a",), members='{"target": "http://h"}'),
            Route("/a", upstream, ("a",)),
            Route("a name", upstream, ("", ""), members='{"target": "http://other"}'),
        ):
            self.assertEqual(route.upstream, upstream)
        self.assertEqual((route.segments, route.depth), (("", ""), 2))
        self.assertNotEqual(Route("/a", upstream, ("a",)), Route("/a", Upstream.parse("http://h"), ("a",)))

    @given(st.text(alphabet="/ab.", max_size=8), st.booleans())
    def test_depth(self, key: str, is_hosted: bool) -> None:
        """Is the number of segments, whatever the key looks like."""
        skipped = int(is_hosted and bool(place_of(key)[1]))
        route = Route.told(key, "{}", segments=skipped)
        self.assertEqual(route.depth, len(route.segments))
        self.assertEqual(route.segments, place_of(key)[1][skipped:])


class HeaderChangesTests(SynchronousTestCase):
    """Fields that a user sets or removes."""

    def test_fields_are_accepted(self) -> None:
        """Any token is a name, any Latin-1 text without control characters a value."""
        changes = HeaderChanges(
            set={"X-A": "1", "Host": "h", "!#$%&'*+-.^_`|~aZ09": "", "X-Latin": "é\xff\x80", "X-Blanks": "a\tb c"},
            remove=("X-B", "Server"),
        )
        self.assertEqual(changes.remove, ("X-B", "Server"))
        self.assertEqual(HeaderChanges(), HeaderChanges(set=None, remove=None))

    def test_names_that_break_a_head_are_refused(self) -> None:
        """What is no token, and what frames messages, can be neither set nor removed; the error names the place."""
        for name in (
            "",
            " ",
            "a b",
            "a:",
            "a\r\nb",
            "a\0",
            "é",
            "X-Ä",
            "(a)",
            "Connection",
            "content-length",
            "TRANSFER-ENCODING",
            "Trailer",
            "upgrade",
        ):
            error = self.assertRaises(OptionError, HeaderChanges, set={"X-Good": "1", name: "1"})
            self.assertEqual(error.path, ("set", name), repr(name))
            error = self.assertRaises(OptionError, HeaderChanges, remove=("X-Good", name))
            self.assertEqual(error.path, ("remove", 1), repr(name))

    def test_values_that_break_a_head_are_refused(self) -> None:
        """No control characters, and nothing that Latin-1 does not have."""
        for value in ("a\r\nX: y", "a\rb", "a\nb", "\0", "\x0b", "\x1f", "\x7f", "€", "\u0100", "\ud800", "\U0001f433"):
            error = self.assertRaises(OptionError, HeaderChanges, set={"X": value})
            self.assertEqual(error.path, ("set", "X"), repr(value))


class RewriteLocationTests(SynchronousTestCase):
    """How redirects are rewritten."""

    def test_scheme_is_a_scheme(self) -> None:
        """Nothing but the scheme of a URL, or nothing at all, goes in front of a Location."""
        for scheme in (None, "", "http", "https", "HTTPS", "web+x", "a1.-"):
            self.assertEqual(RewriteLocation(scheme=scheme).scheme, scheme)
        for scheme in ("https:", "https://", " https", "https ", "x\r\nSet-Cookie: y", "a/b", "1a", "é", "\ud800"):
            error = self.assertRaises(OptionError, RewriteLocation, scheme=scheme)
            self.assertEqual(error.path, ("scheme",), repr(scheme))


class PlaceTests(SynchronousTestCase):
    """What the key of a route means."""

    def test_key_is_host_and_segments(self) -> None:
        """A key that does not begin with a slash begins with a host, in any case and with or without its final dot."""
        for key, expected in (
            ("/", ("", ())),
            ("", ("", ())),
            ("/a", ("", ("a",))),
            ("/a/", ("", ("a",))),
            ("//a//", ("", ("a",))),
            ("/a//b", ("", ("a", "", "b"))),
            ("/user/foo@bar", ("", ("user", "foo@bar"))),
            ("/A", ("", ("A",))),
            ("h.org", ("h.org", ())),
            ("h.org/", ("h.org", ())),
            ("H.Org./A/b", ("h.org", ("A", "b"))),
            ("*.h.org/a", ("*.h.org", ("a",))),
            ("[::1]/a", ("[::1]", ("a",))),
        ):
            self.assertEqual(place_of(key), expected, repr(key))
