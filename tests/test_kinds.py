"""Tests of `proxyd.kinds`, and of the kinds that ship."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS as SHIPPED
from proxyd.config.loader import parse
from proxyd.errors import ConfigError
from proxyd.kinds import Kind, Kinds, NamedKind
from proxyd.model.settings import ListenerConfig

# What a section cannot do without.
NEEDED: dict[str, dict[str, Any]] = {
    "forward": {"url": "http://127.0.0.1:9091/"},
    "https": {"certificate_directories": ("live",)},
    "class": {"path": "package.module:Class"},
    "token": {"token": "correct-horse"},
}


class Seam:
    """A marker of a seam."""


class OtherSeam:
    """A marker of another one."""


@attrs.frozen
class First(Seam):
    """A section of a kind."""


@attrs.frozen
class Special(First):
    """A section of another kind, which has all that the first has."""


FIRST = Kind(Seam, "first", First, list)
SPECIAL = Kind(Seam, "special", Special, dict)
OTHER = Kind(OtherSeam, "first", OtherSeam, set)
KINDS = (FIRST, SPECIAL)  # as the modules of kinds have them


class KindsTests(SynchronousTestCase):
    """Looking kinds up."""

    kinds = Kinds((FIRST, SPECIAL, OTHER))

    def test_names_belong_to_a_seam(self) -> None:
        """Two seams may have kinds of the same name; the order is that of the list, which documents show."""
        self.assertEqual(self.kinds.of_seam(Seam), {"first": FIRST, "special": SPECIAL})
        self.assertEqual(list(self.kinds.of_seam(Seam)), ["first", "special"])
        self.assertEqual(self.kinds.of_seam(OtherSeam), {"first": OTHER})
        self.assertEqual(self.kinds.of_seam(int), {})

    def test_a_section_belongs_to_the_kind_of_its_own_class(self) -> None:
        """One that inherits from the section of another kind is not taken for that."""
        self.assertIs(self.kinds.of_config(First()), FIRST)
        self.assertIs(self.kinds.of_config(Special()), SPECIAL)

    def test_what_is_no_section_belongs_to_none(self) -> None:
        """The error names what it was."""
        error = self.assertRaises(LookupError, self.kinds.of_config, 1)
        self.assertIn("int", str(error))

    def test_a_kind_that_stands_by_its_name_is_imported_when_it_is_asked_for(self) -> None:
        """Its name is known before; the ones beside it stay where they are."""
        kinds = Kinds(
            (
                NamedKind(Seam, "first", __name__),
                NamedKind(Seam, "special", __name__),
                NamedKind(Seam, "gone", "tests.nowhere"),
            )
        )
        self.assertEqual(kinds.names(Seam), ("first", "special", "gone"))
        self.assertEqual(kinds.seams, {Seam})
        self.assertIs(kinds.of_name(Seam, "special"), SPECIAL)
        self.assertIs(kinds.of_config(First()), FIRST)

    def test_a_kind_that_cannot_be_imported_is_a_problem_of_the_file(self) -> None:
        """It is told with its place, and with what is missing."""
        kinds = Kinds((*SHIPPED.kinds, NamedKind(ListenerConfig, "pipe", "tests.nowhere")))
        error = self.assertRaises(ConfigError, parse, "listeners:\n  - {kind: pipe}\n", kinds, name="f")
        words = "pipe cannot be used here: No module named 'tests.nowhere'"
        self.assertEqual(str(error), f"f:2:5: listeners[0]: {words}")


class BuiltinsTests(SynchronousTestCase):
    """The kinds that ship."""

    def test_every_kind_is_usable_as_it_is(self) -> None:
        """Each has a name of its own in its seam, a section that is marked as the seam's and has defaults for most."""
        for kind in SHIPPED.kinds:
            self.assertIs(SHIPPED.of_seam(kind.seam)[kind.name], kind)
            section = kind.config(**NEEDED.get(kind.name, {}))
            self.assertIsInstance(section, kind.seam)
            self.assertIs(SHIPPED.of_config(section), kind)
            self.assertRegex(kind.name, r"^[a-z][a-z0-9_]*$")

    def test_plain_http_is_a_kind_of_listener(self) -> None:
        """It is what a configuration without listeners gets."""
        self.assertIn("http", SHIPPED.of_seam(ListenerConfig))
