"""`constraints.txt` and `pyproject.toml` fit each other."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from twisted.trial.unittest import SynchronousTestCase

from tests.support import CHECKOUT

_PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)")


def pins() -> dict[str, Version]:
    """The version of each package in the file."""
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    found = [_PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    assert None not in found, lines
    return {canonicalize_name(pin[1]): Version(pin[2]) for pin in found if pin is not None}


def needed_by(requirements: list[str], extras: set[str]) -> list[Requirement]:
    """The requirements that count here."""
    read = [Requirement(requirement) for requirement in requirements]
    return [
        requirement
        for requirement in read
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras})
    ]


class ConstraintsTests(SynchronousTestCase):
    """One version for each package that proxyd runs with."""

    def test_what_is_asked_for_is_pinned(self) -> None:
        """Every dependency of the project, to a version that it accepts."""
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        pinned = pins()
        self.assertGreater(len(project["dependencies"]), 10)
        for requirement in needed_by(project["dependencies"], set()):
            name = canonicalize_name(requirement.name)
            self.assertIn(name, pinned)
            self.assertTrue(requirement.specifier.contains(pinned[name]), f"{requirement} and {pinned[name]}")

    def test_what_they_ask_for_is_pinned(self) -> None:
        """The dependencies of dependencies, as far as the very versions are installed here; and nothing else is."""
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        pinned = pins()
        waiting = needed_by(project["dependencies"], set())
        reached: dict[str, set[str]] = {}
        is_whole = True
        while waiting:
            requirement = waiting.pop()
            name = canonicalize_name(requirement.name)
            extras = reached.setdefault(name, set())
            self.assertIn(name, pinned, f"{requirement} is needed")
            self.assertTrue(requirement.specifier.contains(pinned[name]), f"{requirement} and {pinned[name]}")
            if name in reached and extras and set(requirement.extras) <= extras:
                continue
            extras |= {"", *requirement.extras}
            if Version(metadata.version(name)) == pinned[name]:
                waiting += needed_by(metadata.requires(name) or [], set(requirement.extras))
            else:
                is_whole = False  # what another version needs tells nothing
        if is_whole:
            self.assertEqual(set(pinned), set(reached))

    def test_the_least_twisted(self) -> None:
        """No version is accepted that has the vulnerabilities of Twisted which were mended in 26.10."""
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        (twisted,) = (Requirement(text) for text in project["dependencies"] if text.startswith("Twisted"))
        self.assertFalse(twisted.specifier.contains("26.9.99"))
        self.assertTrue(twisted.specifier.contains("26.10.0"))
