"""Tests of `proxyd.tap`: what `twistd proxyd` understands, and what it makes of it."""

from __future__ import annotations

import os
import sys
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.application.service import IService, IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.service import ProxyService
from proxyd.tap import Options, makeService


class TapCase(SynchronousTestCase):
    """Stands in an empty directory, with nothing configured."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        clean = mock.patch.dict(os.environ, HOME=str(self.directory), XDG_CONFIG_HOME="", PROXYD_CONFIG="")
        clean.start()
        self.addCleanup(clean.stop)
        self.stderr = StringIO()
        self.patch(sys, "stderr", self.stderr)

    def read(self, *words: str) -> Options:
        """Read a command line."""
        options = Options()
        options.parseOptions(list(words))
        return options


class OptionsTests(TapCase):
    """The command line."""

    def test_a_file_is_read_at_once(self) -> None:
        """By its name, long or short; the options say which file it was."""
        Path("a.yaml").write_text("drain_seconds: 7\n")
        for words in (["--config", "a.yaml"], ["--config=a.yaml"], ["-c", "a.yaml"]):
            options = self.read(*words)
            self.assertEqual((options.file, options.config.drain_seconds), (Path("a.yaml"), 7))

    def test_a_file_is_found(self) -> None:
        """The same one that all commands find."""
        Path("proxyd.yaml").write_text("drain_seconds: 8\n")
        options = self.read()
        self.assertEqual((options.file, options.config.drain_seconds), (Path("proxyd.yaml"), 8))
        os.environ["PROXYD_CONFIG"] = "b.yaml"
        Path("b.yaml").write_text("drain_seconds: 9\n")
        self.assertEqual(self.read().config.drain_seconds, 9)

    def test_an_empty_file_is_all_defaults(self) -> None:
        """Nothing has to be configured."""
        Path("proxyd.yaml").write_text("")
        self.assertEqual(self.read().config, parse("", KINDS))

    def test_a_bad_file_ends_with_78(self) -> None:
        """Every problem is a line, and not one word of help is in front of them."""
        Path("a.yaml").write_text("listenrs: []\napi: {port: x}\n")
        error = self.assertRaises(SystemExit, self.read, "--config", "a.yaml")
        self.assertEqual(error.code, 78)
        self.assertEqual([line[:11] for line in self.stderr.getvalue().splitlines()], ["a.yaml:1:1:", "a.yaml:2:13"])

    def test_words_that_mean_nothing_are_refused(self) -> None:
        """An unknown option, and one without its value."""
        self.assertRaises(UsageError, self.read, "--nope")
        self.assertRaises(UsageError, self.read, "--config")

    def test_help_tells_of_the_file(self) -> None:
        """And of what proxyd is."""
        text = str(Options())
        self.assertIn("--config=", text)
        self.assertIn("$PROXYD_CONFIG", text)


class ServiceTests(TapCase):
    """What twistd gets."""

    def test_a_service_is_made_and_nothing_is_opened(self) -> None:
        """Ports are opened when it starts: making it twice does no harm."""
        Path("a.yaml").write_text("listeners: [{kind: http, socket: s}]\nstate_directory: state\npid_file: p\n")
        options = self.read("--config", "a.yaml")
        for _ in range(2):
            service = makeService(options)
            self.assertIsInstance(service, ProxyService)
            self.assertTrue(IService.providedBy(service))
            self.assertIsNone(service.data_path)
        self.assertEqual([path.name for path in self.directory.iterdir()], ["a.yaml"])

    def test_the_plugin_is_found(self) -> None:
        """`twistd proxyd` leads here."""
        maker: Any
        (maker,) = (plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "proxyd")
        self.assertEqual(maker.module, "proxyd.tap")
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, makeService)
