"""Environments of conda."""

from __future__ import annotations

import json
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.conda import CondaEnvironment, CondaError, find_environment

INFO = json.dumps({"conda_prefix": "/opt/conda", "envs": ["/opt/conda", "/home/a/envs/one", "/srv/one", "/srv/two/"]})


class FindTests(SynchronousTestCase):
    """Which environment a name means."""

    def test_the_first_of_that_name_is_meant(self) -> None:
        """And a name that nobody has, or a path, is where conda would make it."""
        for name, path in (
            ("one", "/home/a/envs/one"),
            ("two", "/srv/two/"),
            ("three", "/opt/conda/envs/three"),
            ("/srv/other", "/srv/other"),
        ):
            self.assertEqual(CondaEnvironment("/opt/conda", path), find_environment(INFO, name))

    def test_an_answer_that_makes_no_sense_is_an_error(self) -> None:
        """Whatever conda says."""
        for info in ("", "{}", "[]", '{"conda_prefix": 1, "envs": []}', '{"conda_prefix": "", "envs": [1]}', "null"):
            self.assertRaises(CondaError, find_environment, info, "one")
        self.assertRaises(CondaError, find_environment, '{"conda_prefix": "/", "envs": {}}', "one")


class CommandTests(SynchronousTestCase):
    """The command inside of it."""

    def test_every_word_is_quoted(self) -> None:
        """Quotes in paths and words run nothing."""
        environment = CondaEnvironment("/it's", "/a $(touch x)")
        words = ("echo", "it's", "$(reboot)", "a b", "")
        program, flag, script = environment.command(words)
        self.assertEqual(("bash", "-c"), (program, flag))
        self.assertTrue(script.startswith("source '/it'\"'\"'s/bin/activate' '/a $(touch x)' && exec echo "))
        said = subprocess.run(
            ["bash", "-c", script.partition(" && exec ")[2]], capture_output=True, text=True, check=True
        )
        self.assertEqual("it's $(reboot) a b \n", said.stdout)
