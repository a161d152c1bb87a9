"""Tests of the configurations in etc/: they work, and the one that tells everything changes nothing."""

from __future__ import annotations

import json
import re

import attrs
import yaml
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import Yaml12Loader, load
from proxyd.model.routes import DEFAULT_OPTIONS, over
from proxyd.model.settings import Config
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

    def test_what_it_says_are_the_defaults(self) -> None:
        """But for the demonstration and its route, to start from it is to start from nothing."""
        config = load(REFERENCE, KINDS, {})
        self.assertEqual(
            attrs.evolve(config, listeners=(), routes={}, route_defaults=over(config.route_defaults, DEFAULT_OPTIONS)),
            Config(route_defaults=DEFAULT_OPTIONS),
        )
