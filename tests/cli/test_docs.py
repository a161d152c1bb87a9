"""Tests of `proxyd docs`."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from proxyd.cli import proxyd
from proxyd.cli.docs import generated
from proxyd.core.lifecycle import draw
from tests.support import CHECKOUT


class DocsTests(SynchronousTestCase):
    """Writes the schema, the sample and the manual."""

    def test_all_files_are_written(self) -> None:
        """Into the directory of the checkout that is named, and their names are printed."""
        directory = Path(self.mktemp())
        for _ in range(2):  # what is there is replaced
            result = CliRunner().invoke(proxyd, ["docs", str(directory)])
            self.assertEqual(result.exit_code, 0)
            self.assertEqual(
                result.stdout.splitlines(),
                [f"{directory}/{name}" for name in generated()],
            )
            for name, text in generated().items():
                self.assertEqual((directory / name).read_text(encoding="utf-8"), text)

    def test_two_runs_write_the_same(self) -> None:
        """Nothing depends on the order of a set, the time or the machine."""
        self.assertEqual(generated(), generated())
        for text in generated().values():
            self.assertTrue(text.endswith("\n") and not text.endswith("\n\n"))
            self.assertNotIn(str(Path.home()), text)

    def test_the_lifecycle_is_drawn_as_it_is(self) -> None:
        """The drawing in the checkout is that of the code."""
        name = "docs/server-lifecycle.md"
        text = (CHECKOUT / name).read_text(encoding="utf-8")
        self.assertEqual(text, generated()[name])
        self.assertIn(draw(), text)

    def test_the_schema_is_json(self) -> None:
        """For editors that do not care where it came from."""
        self.assertEqual(json.loads(generated()["etc/proxyd.schema.json"])["title"], "proxyd")
