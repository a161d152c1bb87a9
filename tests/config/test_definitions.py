"""Tests of how definitions of packages are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.definitions import read_definition
from proxyd.errors import ConfigError
from proxyd.model.servers import Readiness, ServerSpec
from proxyd.option import Function


class DefinitionTests(SynchronousTestCase):
    """Dicts as jupyter-server-proxy takes them."""

    def setUp(self) -> None:
        self.warnings: list[str] = []

    def read(self, **definition: Any) -> ServerSpec:
        return read_definition("app", definition, self.warnings.append)

    def test_a_definition_is_a_server(self) -> None:
        """Callables, tuples, paths and patterns are what they would be in a file."""

        def command(port: int) -> list[str]:
            return []

        spec = self.read(
            command=command,
            timeout=2.5,
            environment={"A": "b"},
            unix_socket=None,
            launcher_entry={"title": "App", "icon_path": Path("/icon.svg"), "enabled": False},
            rewrite_response=(command, print),
            exclude_last_activity_patterns=["a", re.compile("b"), re.compile("c", re.IGNORECASE | re.DOTALL)],
            new_browser_tab=False,
        )
        function = Function(f"{__name__}:{command.__qualname__}", command)
        self.assertEqual((spec.command, spec.rewriters[0]), (function, function))
        self.assertEqual((spec.ready_seconds, spec.environment, spec.unix_socket), (2.5, {"A": "b"}, False))
        self.assertEqual((spec.launcher_entry.title, spec.launcher_entry.icon_path), ("App", "/icon.svg"))
        self.assertEqual(spec.exclude_last_activity_patterns, ("a", "b", "(?is:c)"))
        self.assertFalse(spec.new_browser_tab)
        self.assertEqual(self.warnings, [])
        self.assertEqual(self.read(command=("a", "b")).command, ("a", "b"))

    def test_it_has_five_seconds_to_be_ready(self) -> None:
        """Unless it says otherwise, in either way."""
        self.assertEqual(self.read(command=["a"]).ready_seconds, 5)
        self.assertEqual(self.read(command=["a"], ready={"timeout": 9}).ready, Readiness(timeout=9))  # type: ignore[arg-type]

    def test_unknown_keys_are_left_out(self) -> None:
        """With a warning; packages have some."""
        spec = self.read(command=["a"], new_browser_window=True, launcher_entry={"title": "T", "timeout": 5})
        self.assertEqual(spec.launcher_entry.title, "T")
        self.assertEqual(
            self.warnings,
            [
                "server app: new_browser_window is not known and left out",
                "server app: launcher_entry.timeout is not known and left out",
            ],
        )

    def test_wrong_types_are_told(self) -> None:
        """With server and key, all at once."""
        for definition, words in (
            ({"command": 5}, "servers.app.command: expected a list or !python module:attribute, got 5"),
            ({"command": "a b"}, "servers.app.command: expected a list or !python module:attribute, got 'a b'"),
            ({"environment": {"A": 5}}, "servers.app.environment.A: expected text, got 5: put it in quotes"),
            ({"timeout": "soon"}, "servers.app.timeout: expected a duration such as 5s, 100ms, 2m or 1h, got 'soon'"),
            ({"timeout": True}, "servers.app.timeout: expected a duration such as 5s, 100ms, 2m or 1h, got true"),
            (
                {"launcher_entry": 5},
                "servers.app.launcher_entry: expected a section with options such as `enabled`, got 5",
            ),
        ):
            with self.assertRaises(ConfigError) as caught:
                self.read(**definition)
            self.assertEqual(str(caught.exception), words)
        for name, given in (("app", []), ("/app", {})):
            with self.assertRaises(ConfigError):
                read_definition(name, given, self.warnings.append)  # type: ignore[arg-type]
