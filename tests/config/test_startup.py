"""Tests of what every command does with a configuration."""

from __future__ import annotations

import os
import sys
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.config.startup import load_or_exit


class LoadOrExitTests(SynchronousTestCase):
    """A configuration, or the problems and the end."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        self.stderr = StringIO()
        self.patch(sys, "stderr", self.stderr)
        self.environ = {"HOME": str(self.directory)}

    def test_the_named_file_is_read(self) -> None:
        """A path that is given wins over everything that could be found."""
        Path("proxyd.yaml").write_text("no: such option")
        Path("mine.yaml").write_text("log: {level: '${LEVEL}'}")
        file, config = load_or_exit("mine.yaml", KINDS, {**self.environ, "LEVEL": "warn"})
        self.assertEqual(file, Path("mine.yaml"))
        self.assertEqual(config.log.level, "warn")
        self.assertEqual(self.stderr.getvalue(), "")

    def test_without_a_name_a_file_is_found(self) -> None:
        """The first one of the search order, or the one that the environment names."""
        Path("proxyd.yaml").write_text("host_routing: true")
        file, config = load_or_exit("", KINDS, self.environ)
        self.assertEqual((file, config.host_routing), (Path("proxyd.yaml"), True))
        Path("other.yaml").write_text("")
        file, config = load_or_exit("", KINDS, {**self.environ, "PROXYD_CONFIG": "other.yaml"})
        self.assertEqual((file, config.host_routing), (Path("other.yaml"), False))

    def test_without_any_file_there_are_the_defaults(self) -> None:
        """No file is needed to start."""
        if Path("/etc/proxyd/proxyd.yaml").exists():
            raise SkipTest("this machine has a configuration of its own")
        self.assertEqual(load_or_exit("", KINDS, self.environ), (None, parse("", KINDS)))

    def test_every_problem_is_a_line_and_the_end_is_78(self) -> None:
        """sysexits.h calls that EX_CONFIG; supervisors know that a restart will not help."""
        Path("bad.yaml").write_text("log: {level: loud}\nhost_routing: 5\n")
        with self.assertRaises(SystemExit) as caught:
            load_or_exit("bad.yaml", KINDS, self.environ)
        self.assertEqual(caught.exception.code, 78)
        self.assertEqual(
            self.stderr.getvalue(),
            "bad.yaml:1:14: log.level: expected one of debug, info, warn, error; got 'loud'\n"
            "bad.yaml:2:15: host_routing: expected true or false, got 5\n",
        )

    def test_a_missing_file_is_a_problem(self) -> None:
        """One that was named, here or by the environment, is not passed over."""
        for path, environ in (("none.yaml", self.environ), ("", {**self.environ, "PROXYD_CONFIG": "none.yaml"})):
            with self.assertRaises(SystemExit) as caught:
                load_or_exit(path, KINDS, environ)
            self.assertEqual(caught.exception.code, 78)
        self.assertEqual(self.stderr.getvalue(), "none.yaml: cannot be read: No such file or directory\n" * 2)
