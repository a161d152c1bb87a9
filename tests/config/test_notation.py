"""Tests of how values are written: what is written is read as the same again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd import option as options_module
from proxyd.builtins import KINDS
from proxyd.config.loader import Yaml12Loader, parse
from proxyd.config.notation import NOTATIONS, is_single, members_of, options_of, shown, write
from proxyd.config.types import make_converter
from proxyd.model.routes import DEFAULT_OPTIONS, RewriteLocation, RouteOptions
from proxyd.model.settings import Config, RouteSpec, Timeouts
from proxyd.option import ByteCount, FileMode, Rate, Seconds

PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x17F, exclude_categories=["C"])


class WrittenTests(SynchronousTestCase):
    """Values as a user would write them."""

    def assert_read_again(self, value: Any, kind: Any) -> None:
        written = write(value, kind)
        self.assertEqual(make_converter(KINDS, Path()).structure(written, kind), value, repr(written))

    @given(st.builds(Rate, st.integers(0, 10**9 - 1), st.sampled_from((1, 60, 3600))))
    def test_rates(self, rate: Rate) -> None:
        """With their unit."""
        self.assert_read_again(rate, Rate)

    @given(st.floats(0, 1e9).map(lambda seconds: round(seconds, 3)))
    def test_durations_are_read_again(self, seconds: float) -> None:
        """A duration that is written is the same when it is read."""
        self.assert_read_again(Seconds(seconds), Seconds)

    @given(st.integers(0, 2**50))
    def test_sizes_are_read_again(self, count: int) -> None:
        """A size that is written is the same when it is read."""
        self.assert_read_again(ByteCount(count), ByteCount)

    @given(st.integers(0, 0o777))
    def test_permissions_are_read_again(self, mode: int) -> None:
        """Permissions that are written are the same when they are read."""
        self.assert_read_again(FileMode(mode), FileMode)

    def test_the_largest_whole_unit_is_taken(self) -> None:
        """As a person would."""
        for value, kind, written in (
            (Seconds(5), Seconds, "5s"),
            (Seconds(0.1), Seconds, "0.1s"),
            (Seconds(300), Seconds, "300s"),
            (Seconds(0), Seconds, "0s"),
            (ByteCount(8192), ByteCount, "8 KiB"),
            (ByteCount(1536), ByteCount, 1536),
            (ByteCount(16 * 1024**2), ByteCount, "16 MiB"),
            (ByteCount(0), ByteCount, 0),
            (FileMode(0o660), FileMode, "0660"),
            (30.0, float, 30),
            (0.5, float, 0.5),
            (("a", "b"), tuple[str, ...], ["a", "b"]),
            ({"a": Seconds(1)}, Mapping[str, Seconds], {"a": "1s"}),
            (None, Seconds | None, None),
            (Timeouts(), Timeouts, None),
        ):
            self.assertEqual(write(value, kind), written)

    @given(
        st.recursive(
            st.one_of(st.booleans(), st.integers(-(10**17), 10**17), st.text(PRINTABLE)),
            lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(PRINTABLE), inner)),
            max_leaves=5,
        )
    )
    def test_what_is_shown_is_yaml(self, value: Any) -> None:
        """Quotes stand where YAML needs them: everything that is shown can be copied into the file."""
        self.assertEqual(yaml.load(f"[{shown(value)}]", Yaml12Loader), [value])

    def test_quotes_stand_only_where_they_have_to(self) -> None:
        """Words, addresses and URLs have none; what would be read as something else has them."""
        for value, text in (
            ("", '""'),
            ("off", "off"),
            ("127.0.0.0/8", "127.0.0.0/8"),
            ("/healthz", "/healthz"),
            ("8 KiB", "8 KiB"),
            ("::1", '"::1"'),
            ("true", '"true"'),
            ("5", '"5"'),
            ("*", '"*"'),
            ("a, b", '"a, b"'),
            (True, "true"),
            (["a", 5], "[a, 5]"),
            ({"kind": "http"}, "{kind: http}"),
        ):
            self.assertEqual(shown(value), text)


class DeclarationTests(SynchronousTestCase):
    """What is known about an option."""

    def test_every_type_of_an_option_has_a_notation(self) -> None:
        """A unit without one could be neither in the schema nor in the manual."""
        units = {kind for kind in vars(options_module).values() if hasattr(kind, "__supertype__")} | {Rate}
        self.assertEqual(units - NOTATIONS.keys(), set())

    def test_defaults_of_a_route_are_those_that_hold_in_the_end(self) -> None:
        """Not None, which only says that they are looked up elsewhere."""
        defaults = {option.name: option.default for option in options_of(RouteOptions)}
        self.assertEqual((defaults["prepend_path"], defaults["x_forwarded"]), (True, "auto"))
        self.assertEqual({option.name: option.default for option in options_of(RewriteLocation)}["host"], False)
        self.assertEqual({option.name: option.default for option in options_of(RouteSpec)}["prepend_path"], None)

    def test_required_options_come_first(self) -> None:
        """The upstream of a route is the first thing to know about it."""
        options = options_of(RouteSpec)
        self.assertEqual([option.name for option in options if option.is_required], ["upstream"])
        self.assertEqual(options[0].name, "upstream")
        self.assertFalse(options[0].is_inherited)
        self.assertTrue(all(option.is_inherited for option in options[1:]))

    def test_written_defaults_are_the_defaults(self) -> None:
        """A file that spells out every default, as the manual has it, means the same as an empty one."""

        def spelled_out(cls: Any) -> str:
            pairs = []
            for option in options_of(cls):
                kind = members_of(option.kind)[0]
                is_off = attrs.fields_dict(cls)[option.name].default is None and not issubclass(cls, RouteOptions)
                if attrs.has(kind) and (is_off or (option.default is None and KINDS.of_seam(kind))):
                    continue  # a section that is there only if it is written
                if option.default is not None:
                    pairs.append(f"{option.name}: {shown(option.default)}")
                elif attrs.has(kind):
                    pairs.append(f"{option.name}: {spelled_out(kind)}")
            return "{" + ", ".join(pairs) + "}"

        config = parse(spelled_out(Config), KINDS)
        self.assertEqual(config, attrs.evolve(parse("", KINDS), route_defaults=DEFAULT_OPTIONS))

    def test_a_union_has_members(self) -> None:
        """None is not one of them; a section is not single."""
        self.assertEqual(members_of(Seconds | None), (Seconds,))
        self.assertEqual(members_of(int), (int,))
        self.assertTrue(is_single(int))
        self.assertFalse(is_single(Timeouts))
        self.assertFalse(is_single(tuple[str, ...]))
