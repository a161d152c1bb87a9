"""Tests of the configurations in etc/: they work, and the reference configuration tells everything."""

from __future__ import annotations

import json
import re
from collections import abc
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import attrs
import yaml
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import Yaml12Loader, load
from proxyd.config.notation import is_single, members_of, options_of
from proxyd.model.routes import DEFAULT_OPTIONS, over
from proxyd.model.settings import Config, RouteSpec
from proxyd.model.tls import ServerTlsSettings
from tests.support import CHECKOUT

ETC = CHECKOUT / "etc"
REFERENCE = ETC / "proxyd.yaml"
FILES = [REFERENCE, *sorted((ETC / "examples").glob("*.yaml"))]


class ExampleTests(SynchronousTestCase):
    """Every YAML file in etc/."""

    def test_every_file_can_be_loaded(self) -> None:
        """Without any variable of the environment."""
        for file in FILES:
            load(file, KINDS, {})

    def test_every_file_is_valid(self) -> None:
        """By the JSON Schema beside it, which is what editors see."""
        schema = json.loads((ETC / "proxyd.schema.json").read_text(encoding="utf-8"))
        for file in FILES:
            document = yaml.load(file.read_text(encoding="utf-8"), Yaml12Loader)
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(document)]
            self.assertEqual(errors, [], file.name)

    def test_every_file_tells_editors_its_schema(self) -> None:
        """The first line leads to it."""
        for file in FILES:
            match = re.match(r"# yaml-language-server: \$schema=(\S+)\n", file.read_text(encoding="utf-8"))
            assert match is not None, file.name
            self.assertEqual((file.parent / match[1]).resolve(), ETC / "proxyd.schema.json")


class ReferenceTests(SynchronousTestCase):
    """etc/proxyd.yaml."""

    def test_it_mentions_every_option(self) -> None:
        """Of every section, in that section, as an option or in a comment."""
        text = REFERENCE.read_text(encoding="utf-8")
        missing = []
        for option in options_of(Config):
            match = re.search(rf"^{option.name}:.*\n((?:[ #].*\n|\n(?![a-z]))*)", text, re.MULTILINE)
            if match is None:
                missing.append(option.name)
                continue
            missing += [
                f"{option.name}: {name}"
                for name in sorted(names_in(option.kind))
                if not re.search(rf"\b{name}:", match[0].partition(":")[2])
            ]
        self.assertEqual(missing, [])

    def test_it_mentions_every_kind(self) -> None:
        """By its name."""
        text = REFERENCE.read_text(encoding="utf-8")
        for kind in KINDS.kinds:
            self.assertRegex(text, rf"\bkind: {kind.name}\b")

    def test_it_mentions_every_choice(self) -> None:
        """In the line of its option."""
        text = REFERENCE.read_text(encoding="utf-8")
        for name, choice in choices_in(Config):
            self.assertRegex(text, rf"(?m)^.*\b{name}: .*\b{choice}\b")

    def test_what_it_says_are_the_defaults(self) -> None:
        """But for the demonstration and its route, to start from it is to start from nothing."""
        config = load(REFERENCE, KINDS, {})
        self.assertEqual(
            attrs.evolve(config, listeners=(), routes={}, route_defaults=over(config.route_defaults, DEFAULT_OPTIONS)),
            Config(route_defaults=DEFAULT_OPTIONS),
        )


def names_in(kind: Any) -> Iterator[str]:
    """The names of all options below one of the type `kind`."""
    for member in members_of(kind):
        origin, arguments = get_origin(member), get_args(member)
        if origin in (tuple, abc.Mapping):
            yield from names_in(arguments[origin is abc.Mapping])
        elif not is_single(member):
            for cls in [other.config for other in KINDS.of_seam(member).values()] or [member]:
                for option in options_of(cls):
                    # Those stand in route_defaults, and with the https listener.
                    if not (cls is RouteSpec and option.is_inherited) and cls is not ServerTlsSettings:
                        yield option.name
                        yield from names_in(option.kind)


def choices_in(kind: Any) -> Iterator[tuple[str, str]]:
    """Option and word, for all options below that are a choice of words."""
    for member in members_of(kind):
        origin, arguments = get_origin(member), get_args(member)
        if origin in (tuple, abc.Mapping):
            yield from choices_in(arguments[origin is abc.Mapping])
        elif not is_single(member):
            for cls in [other.config for other in KINDS.of_seam(member).values()] or [member]:
                for option in options_of(cls):
                    words = [word for kind in members_of(option.kind) for word in get_args(kind)]
                    yield from ((option.name, word) for word in words if isinstance(word, str))
                    yield from choices_in(option.kind)
