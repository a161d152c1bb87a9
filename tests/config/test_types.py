"""Tests of how single values are read, and of how the options of posted routes are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd import builtins
from proxyd.auth.token import TokenAuthConfig
from proxyd.config.types import (
    EnvironmentText,
    dotted,
    faults_in,
    make_converter,
    meant,
    read_bool,
    read_choice,
    read_float,
    read_int,
    read_items,
    read_mode,
    read_network,
    read_path,
    read_port,
    read_posted_options,
    read_rate,
    read_route_key,
    read_seconds,
    read_secret,
    read_size,
    read_text,
    read_upstream_url,
    read_url_path,
)
from proxyd.errors import OptionError
from proxyd.kinds import Kind, Kinds
from proxyd.model.auth import AnonymousAuthConfig
from proxyd.model.relay import RelaySettings
from proxyd.model.routes import INHERITED, HeaderChanges, RewriteLocation, RouteOptions, RouteTimeouts
from proxyd.option import ByteCount, Rate, Seconds, Secret, option

NO_TEXT = (True, False, 0, 5, 1.5, None, [], ["a"], {}, {"a": "b"})
NO_NUMBER = (True, False, "5", "", None, [], {})


class ReadTests(SynchronousTestCase):
    """Single values, by type."""

    def assert_reads(self, read: Callable[[Any], Any], cases: Sequence[tuple[Any, Any]]) -> None:
        for value, expected in cases:
            self.assertEqual(read(value), expected, repr(value))

    def assert_refuses(self, read: Callable[[Any], Any], values: Sequence[Any]) -> None:
        for value in values:
            with self.assertRaises(OptionError, msg=repr(value)) as caught:
                read(value)
            self.assertNotIn("\n", str(caught.exception))

    def test_truth_values_are_true_and_false(self) -> None:
        """Nothing else is one, unless it comes as such a word from the environment."""
        self.assert_reads(
            read_bool,
            [(True, True), (False, False), (EnvironmentText("true"), True), (EnvironmentText("false"), False)],
        )
        self.assert_refuses(
            read_bool, ["true", "yes", "on", "", 0, 1, None, [], {}, EnvironmentText("yes"), EnvironmentText("")]
        )

    def test_whole_numbers_are_not_negative(self) -> None:
        """Text is none, unless its digits come from the environment."""
        self.assert_reads(read_int, [(0, 0), (7, 7), (EnvironmentText("12"), 12), (EnvironmentText("007"), 7)])
        self.assert_refuses(read_int, [*NO_NUMBER, -1, -1.0, 1.5, EnvironmentText("-1"), EnvironmentText("٣"), "x"])

    def test_numbers_are_finite(self) -> None:
        """Whole or not, and not negative."""
        self.assert_reads(read_float, [(0, 0.0), (1.5, 1.5), (30, 30.0), (EnvironmentText("0.5"), 0.5)])
        self.assert_refuses(
            read_float,
            [*NO_NUMBER, -0.5, -1, float("inf"), float("nan")]
            + [EnvironmentText(text) for text in ("nan", "inf", "-1", "x", "")],
        )

    def test_text_is_text(self) -> None:
        """Text that looks like something else has to be in quotes; the result is plain text."""
        self.assert_reads(read_text, [("", ""), ("a b", "a b"), (EnvironmentText("5"), "5")])
        self.assertIs(type(read_text(EnvironmentText("5"))), str)
        self.assert_refuses(read_text, NO_TEXT)

    def test_durations_have_a_unit(self) -> None:
        """`ms`, `s`, `m`, `h` or `d`, with a blank in front or none; only nothing at all is nothing without one."""
        self.assert_reads(
            read_seconds,
            [
                ("5s", 5.0),
                ("5 s", 5.0),
                ("100ms", 0.1),
                ("2m", 120.0),
                ("1.5h", 5400.0),
                ("1d", 86400.0),
                ("0s", 0.0),
                (0, 0.0),
                ("0", 0.0),
                (EnvironmentText("5s"), 5.0),
                (EnvironmentText("0"), 0.0),
            ],
        )
        self.assert_refuses(
            read_seconds,
            [
                *(True, False, 5, 1.5, None, [], {}, ""),
                *("s", "5", "-5s", "+5s", "5S", "5  s", "5 min", "5s ", " 5s", "1m30s", "1:30", ".5s", "5.s", "٣s"),
            ],
        )

    def test_sizes_have_binary_units_or_none(self) -> None:
        """`KiB` and its elders; `KB` could mean two things."""
        self.assert_reads(
            read_size,
            [
                (0, 0),
                (512, 512),
                ("512", 512),
                ("512 B", 512),
                ("8 KiB", 8192),
                ("8KiB", 8192),
                ("1.5 KiB", 1536),
                ("10 MiB", 10 * 1024**2),
                ("1 GiB", 1024**3),
                ("1 TiB", 1024**4),
                (EnvironmentText("8 KiB"), 8192),
            ],
        )
        self.assert_refuses(
            read_size,
            [True, -1, 1.5, "", "KiB", "8 kib", "8 KB", "8 K", "-8 KiB", "8  KiB", "8 KiB ", "1e3", "x", None, [], {}],
        )

    def test_ports_end(self) -> None:
        """0 to 65535."""
        self.assert_reads(read_port, [(0, 0), (80, 80), (65535, 65535), (EnvironmentText("80"), 80)])
        self.assert_refuses(read_port, [65536, -1, "80", 80.5, True, None, EnvironmentText("http")])

    def test_permissions_are_octal(self) -> None:
        """Three octal digits, whatever YAML makes of them."""
        self.assert_reads(
            read_mode, [("0660", 0o660), ("660", 0o660), (660, 0o660), ("0o660", 0o660), ("000", 0), (777, 0o777)]
        )
        self.assert_refuses(
            read_mode, [True, "", 0, 66, 888, -660, "0888", "u+w", "1777", "06600", 660.0, None, [], {}]
        )

    def test_paths_count_from_the_directory(self) -> None:
        """Absolute and empty ones stay."""

        def read(value: Any) -> Any:
            return read_path(value, Path("/etc/x"))

        self.assert_reads(
            read, [("", ""), ("/a", "/a"), ("a/b", "/etc/x/a/b"), ("./a", "/etc/x/a"), ("../a", "/etc/x/../a")]
        )
        self.assert_refuses(read, [*NO_TEXT, "a\0b", "~no-such-user/a"])

    def test_secrets_are_text_or_in_a_file(self) -> None:
        """`file:` says where; nothing of what is wrong is shown."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "secret").write_text(" hunter2 \n")

        def read(value: Any) -> Any:
            return read_secret(value, directory)

        self.assert_reads(read, [("", ""), ("hunter2", "hunter2"), ("file:secret", "hunter2")])
        self.assert_reads(read, [(f"file:{directory.absolute()}/secret", "hunter2")])
        self.assert_refuses(read, [*NO_TEXT, "file:", "file:none"])
        for value in (123456, 12.3456, ["123456"], {"123456": "123456"}):
            with self.assertRaises(OptionError) as caught:
                read(value)
            self.assertNotIn("3456", str(caught.exception))

    def test_upstreams_are_urls(self) -> None:
        """Of the schemes that there are, as they are written; none at all stays none."""
        urls = [
            "",
            "http://h",
            "HTTPS://h:8443/path?q",
            "http+unix://%2Frun%2Fs",
            "unix+http://%2Fs/path",
            "http://[::1]:80",
        ]
        self.assert_reads(read_upstream_url, [(url, url) for url in urls])
        self.assert_refuses(
            read_upstream_url,
            [*NO_TEXT, "h:80", "//h", "ftp://h", "http://", "http://h:0", "http://h:99999", "http://a b", "http://[x]"],
        )

    def test_public_paths_begin_with_a_slash(self) -> None:
        """They have no blanks and no letters that a request could not have; none at all stays none."""
        self.assert_reads(read_url_path, [("", ""), ("/", "/"), ("/healthz", "/healthz"), ("/a%20b?c", "/a%20b?c")])
        self.assert_refuses(read_url_path, [*NO_TEXT, "a", "a/b", "/a b", "/ä", "/a\n"])

    def test_route_keys_are_prefixes_with_or_without_a_host(self) -> None:
        """A host may begin with a wildcard for one label; alone, it ends with a slash."""
        keys = ["/", "/a", "/a/b/", "host/", "host/a", "*.example.org/", "/ä", "/a b", "/100%", "/a/*/b", "my_host/"]
        keys += ["xn--4ca/", "host.test./", "127.0.0.1/", "[::1]/a"]
        self.assert_reads(read_route_key, [(key, key) for key in keys])
        self.assert_refuses(read_route_key, [*NO_TEXT, "", "host", "*/", "a*b/", "*.*.org/", " /a", "/a "])
        self.assert_refuses(read_route_key, ["http://host/", "host:80/a", "[::1]:80/", "::1/", "[0::1]/", "ä/", "a,b/"])
        self.assert_refuses(
            read_route_key, ["/a/*", "/**", "/a?b", "/a#b", "/a%20b", "/./a", "/a/..", "/${A}", "a..b/"]
        )

    def test_networks_are_addresses_or_unix(self) -> None:
        """Of both versions; bits beyond the mask do no harm."""
        networks = ["10.0.0.1", "10.0.0.0/8", "10.1.2.3/8", "::1", "fe80::/10", "unix"]
        self.assert_reads(read_network, [(network, network) for network in networks])
        self.assert_refuses(read_network, [*NO_TEXT, "", "localhost", "10.0.0.0/33", "10.0.0", "Unix"])

    def test_choices_are_words(self) -> None:
        """One of them, as it is."""
        self.assertEqual(read_choice("a", ("a", "b")), "a")
        self.assert_refuses(lambda value: read_choice(value, ("a", "b")), ["A", "", "c", 1, True, None, [], {}])
        with self.assertRaises(OptionError) as caught:
            read_choice("x", ("a", "b"), "kind")
        self.assertEqual(caught.exception.path, ("kind",))

    @given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())))
    def test_whatever_comes_is_read_or_refused(self, value: Any) -> None:
        """No value makes a reader fail in a way of its own."""
        for read in (
            read_bool,
            read_int,
            read_float,
            read_text,
            read_seconds,
            read_port,
            read_mode,
            read_upstream_url,
            read_url_path,
            read_route_key,
            read_network,
        ):
            try:
                read(value)
            except OptionError as error:
                self.assertTrue(str(error))


class WordsTests(SynchronousTestCase):
    """What is said about values."""

    def test_a_path_is_written_with_dots_and_brackets(self) -> None:
        """As a user would find it in the file."""
        self.assertEqual(dotted(()), "")
        self.assertEqual(dotted(("a",)), "a")
        self.assertEqual(dotted(("a", 0, "b", "c", 1, 2)), "a[0].b.c[1][2]")

    def test_a_hint_names_a_near_word(self) -> None:
        """Or says nothing if no word is near."""
        self.assertEqual(meant("lisners", ["listeners", "routes"]), " (did you mean listeners?)")
        self.assertEqual(meant("xyz", ["listeners", "routes"]), "")
        self.assertEqual(meant(5, []), "")

    def test_all_items_are_read_before_any_error_counts(self) -> None:
        """The errors come together, each with its key."""
        with self.assertRaises(ExceptionGroup) as caught:
            read_items([("a", 1), ("b", "x"), ("c", "y")], lambda _, item: read_int(item))
        self.assertEqual(
            [(fault.path, fault.message) for fault in faults_in(caught.exception)],
            [(("b",), "expected a whole number, got 'x'"), (("c",), "expected a whole number, got 'y'")],
        )

    def test_an_error_of_any_kind_is_a_fault(self) -> None:
        """With the words that it has, or with its name."""
        faults = [fault.message for error in (ValueError("odd"), ZeroDivisionError()) for fault in faults_in(error)]
        self.assertEqual(faults, ["odd", "ZeroDivisionError"])


class Shape:
    """Marks the sections of a seam."""


@attrs.frozen(kw_only=True)
class Circle(Shape):
    """A kind of shape."""

    radius: Seconds = option(Seconds(1), help="How far.")


@attrs.frozen(kw_only=True)
class Square(Shape):
    """Another one."""

    side: int = attrs.field(metadata={"help": "How long."})


@attrs.frozen(kw_only=True)
class Drawing:
    """A section with what sections can have."""

    shapes: tuple[Shape, ...] = option((), help="Some.")
    best: Shape | None = option(None, help="One.")


KINDS = Kinds((Kind(Shape, "circle", Circle, Circle), Kind(Shape, "square", Square, Square)))


class ConverterTests(SynchronousTestCase):
    """Sections of a kind, for any seam."""

    def faults(self, value: Any) -> list[tuple[str, str]]:
        try:
            make_converter(KINDS, Path()).structure(value, Drawing)
        except Exception as error:  # noqa: BLE001  # it is what faults_in is for
            return sorted((dotted(fault.path), fault.message) for fault in faults_in(error))
        return []

    def test_a_kind_chooses_the_class(self) -> None:
        """In a list and alone; the name itself is no option."""
        drawing = make_converter(KINDS, Path()).structure(
            {"shapes": [{"kind": "circle", "radius": "2s"}, {"kind": "square", "side": 3}], "best": {"kind": "circle"}},
            Drawing,
        )
        self.assertEqual(drawing, Drawing(shapes=(Circle(radius=Seconds(2)), Square(side=3)), best=Circle()))

    def test_every_fault_has_its_path(self) -> None:
        """Unknown and missing options, unknown kinds and wrong values, all in one go."""
        self.assertEqual(
            self.faults(
                {
                    "shapes": [{"kind": "circel"}, {"kind": "circle", "radus": 1, "radius": 2}, {"kind": "square"}],
                    "best": {"kind": "square", "side": "x"},
                }
            ),
            [
                ("best.side", "expected a whole number, got 'x'"),
                ("shapes[0].kind", "expected one of circle, square; got 'circel' (did you mean circle?)"),
                ("shapes[1].radius", "expected a duration such as 5s, 100ms, 2m or 1h, got 2"),
                ("shapes[1].radus", "unknown option (did you mean radius?)"),
                ("shapes[2].side", "is required"),
            ],
        )


class PostedOptionsTests(SynchronousTestCase):
    """The options of a route among the members of a posted object."""

    def test_options_are_read_as_in_the_file(self) -> None:
        """With the same names, types and units."""
        self.assertEqual(
            read_posted_options(
                {
                    "target": "http://h",
                    "strip_prefix": True,
                    "rewrite_location": {"host": True},
                    "request_headers": {"set": {"X": "y"}, "remove": ["Z"]},
                    "timeouts": {"idle": "5s"},
                    "websocket": "off",
                }
            ),
            RouteOptions(
                strip_prefix=True,
                rewrite_location=RewriteLocation(host=True),
                request_headers=HeaderChanges(set={"X": "y"}, remove=("Z",)),
                timeouts=RouteTimeouts(idle=Seconds(5)),
                websocket="off",
            ),
        )

    def test_a_relay_is_a_word_or_a_section(self) -> None:
        """Both mean the same, and a section may say more."""
        for value, expected in (
            ("tunnel", "tunnel"),
            ("off", "off"),
            ("relay", RelaySettings(kind="relay")),
            ({"kind": "relay"}, RelaySettings(kind="relay")),
            (
                {"kind": "relay", "max_message_size": "1 KiB", "ping_interval": "0s", "compression": False},
                RelaySettings(
                    kind="relay", max_message_size=ByteCount(1024), ping_interval=Seconds(0), compression=False
                ),
            ),
        ):
            self.assertEqual(expected, read_posted_options({"websocket": value}).websocket)
        for value, path, message in (
            ("relai", (), "expected one of tunnel, off, relay, or a section; got 'relai' (did you mean relay?)"),
            (5, (), "expected one of tunnel, off, relay, or a section; got 5"),
            ({}, ("kind",), "is required"),
            ({"kind": "tunnel"}, ("kind",), "expected one of relay; got 'tunnel'"),
            ({"kind": "relay", "max_size": 1}, ("max_size",), "unknown option"),
            (
                {"kind": "relay", "ping_interval": 5},
                ("ping_interval",),
                "expected a duration such as 5s, 100ms, 2m or 1h, got 5",
            ),
            (
                {"kind": "relay", "close_timeout": "0s"},
                ("close_timeout",),
                "a side that never answers a close would be waited for in vain",
            ),
        ):
            error = self.assertRaises(OptionError, read_posted_options, {"websocket": value})
            self.assertTrue(str(error).startswith(message), str(error))
            self.assertEqual(("websocket", *path), error.path)

    def test_a_route_without_options_shares_them_all(self) -> None:
        """Most routes have none; members that are no options, and null, do not count."""
        for posted in ({}, {"target": "http://h", "user": {"a": 1}}, {"strip_prefix": None}):
            self.assertIs(read_posted_options(posted), INHERITED)

    def test_a_wrong_option_is_named(self) -> None:
        """The first one, by its path; types are strict."""
        for posted, path, message in (
            ({"strip_prefix": "yes"}, ("strip_prefix",), "expected true or false, got 'yes'"),
            ({"timeouts": {"idle": 5}}, ("timeouts", "idle"), "expected a duration such as 5s, 100ms, 2m or 1h, got 5"),
            ({"timeouts": {"idel": "5s"}}, ("timeouts", "idel"), "unknown option (did you mean idle?)"),
            ({"timeouts": []}, ("timeouts",), "expected a section with options such as `connect`, got a list"),
            (
                {"request_headers": {"remove": ["a", "b c"]}},
                ("request_headers", "remove", 1),
                "'b c' is not a field name",
            ),
        ):
            with self.assertRaises(OptionError) as caught:
                read_posted_options(posted)
            self.assertEqual((caught.exception.path, str(caught.exception)), (path, message))

    def test_nothing_of_the_loader_works_there(self) -> None:
        """What the API receives has no variables, no files and no tags: it is taken as it stands."""
        options = read_posted_options({"request_headers": {"set": {"X": "${HOME} file:/etc/passwd"}}})
        assert options.request_headers is not None
        self.assertEqual(options.request_headers.set, {"X": "${HOME} file:/etc/passwd"})


class PostedAuthTests(SynchronousTestCase):
    """An authenticator that is posted with a route."""

    def test_kinds_are_known(self) -> None:
        """With their options, and rates."""
        options = read_posted_options(
            {"auth": {"kind": "token", "token": "correct-horse"}, "rate": "5/m"}, builtins.KINDS
        )
        self.assertEqual(options.auth, TokenAuthConfig(token=Secret("correct-horse")))
        self.assertEqual(options.rate, Rate(5, 60))
        self.assertEqual(
            read_posted_options({"auth": {"kind": "anonymous"}}, builtins.KINDS).auth, AnonymousAuthConfig()
        )

    def test_mistakes_do_not_tell_the_secret(self) -> None:
        """Each is named by its path; a file is not read, and a variable is not looked up."""
        of_files = "`file:` is for the configuration file only"
        of_blanks = "a token has 8 ASCII characters at least, and no blanks"
        for auth, path, message in (
            ("correct-horse", ("auth",), "expected a section with a `kind`: anonymous, token, jupyterhub, forward"),
            ({"kind": "x"}, ("auth", "kind"), "expected one of anonymous, token, jupyterhub, forward; got 'x'"),
            ({"kind": "token"}, ("auth", "token"), "a token is needed"),
            ({"kind": "token", "token": "file:/etc/passwd"}, ("auth", "token"), of_files),
            ({"kind": "token", "token": 12345678}, ("auth", "token"), "expected text: put it in quotes"),
            ({"kind": "token", "tokens": "correct-horse"}, ("auth", "tokens"), "expected a list"),
            ({"kind": "token", "tokens": ["a b c d e f"]}, ("auth", "tokens", 0), of_blanks),
            ({"kind": "token", "tokens": ["file:x"]}, ("auth", "tokens", 0), of_files),
            ({"kind": "anonymous", "token": "correct-horse"}, ("auth", "token"), None),
        ):
            with self.assertRaises(OptionError) as caught:
                read_posted_options({"auth": auth}, builtins.KINDS)
            self.assertEqual(caught.exception.path, path, auth)
            if message is not None:
                self.assertEqual(str(caught.exception), message)
            self.assertNotIn("correct-horse", str(caught.exception))
        options = read_posted_options({"auth": {"kind": "token", "token": "${HOME}-and-more"}}, builtins.KINDS)
        self.assertEqual(options.auth, TokenAuthConfig(token=Secret("${HOME}-and-more")))


class RateTests(SynchronousTestCase):
    """Rates."""

    def test_forms(self) -> None:
        """A number in a second, a minute or an hour."""
        for text, rate in (
            ("0/s", Rate(0, 1)),
            ("10/s", Rate(10, 1)),
            ("600/m", Rate(600, 60)),
            ("1/h", Rate(1, 3600)),
        ):
            self.assertEqual(read_rate(text), rate)
        for value in (10, "10", "10/d", "-1/s", "1.5/s", "10 / s", "/s", "10/", "1" * 10 + "/s", None, True, "٣/s"):
            error = self.assertRaises(OptionError, read_rate, value)
            self.assertIn("expected a rate such as 10/s", str(error))
