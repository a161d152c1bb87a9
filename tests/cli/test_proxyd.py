"""Tests of the `proxyd` command as such: its help, its version, and the names that it goes by."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from importlib import import_module
from io import StringIO
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from proxyd import __version__
from proxyd.cli import main, proxyd

REQUESTS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class ProxydTests(SynchronousTestCase):
    """The command, in this process."""

    def test_help_names_the_commands(self) -> None:
        """On the standard output, with status 0."""
        for word in ("-h", "--help"):
            result = CliRunner().invoke(proxyd, [word])
            self.assertEqual((result.exit_code, result.stderr), (0, ""))
            for command in ("serve", "check", "chp", "routes"):
                self.assertIn(f"\n  {command} ", result.stdout)

    def test_a_command_that_is_for_developers_is_not_listed(self) -> None:
        """`proxyd docs` writes into a checkout."""
        self.assertNotIn("docs", CliRunner().invoke(proxyd, ["--help"]).stdout)

    def test_every_command_has_help(self) -> None:
        """With status 0."""
        for command in ("serve", "check", "docs"):
            result = CliRunner().invoke(proxyd, [command, "--help"])
            self.assertEqual(result.exit_code, 0)
            self.assertIn(f"proxyd {command} ", result.stdout)

    def test_version_is_printed(self) -> None:
        """The number alone, with status 0."""
        for word in ("-V", "--version"):
            result = CliRunner().invoke(proxyd, [word])
            self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, f"{__version__}\n", ""))

    def test_an_unknown_command_is_refused(self) -> None:
        """With status 2, as is usual, and a word on the standard error output."""
        result = CliRunner().invoke(proxyd, ["server"])
        self.assertEqual((result.exit_code, result.stdout), (2, ""))
        self.assertIn("server", result.stderr)

    def test_a_bad_configuration_starts_nothing(self) -> None:
        """`proxyd serve` says what `proxyd check` says, ends with status 78, and prints no help."""
        file = Path(self.mktemp())
        file.write_text("listenrs: []\n")
        result = CliRunner().invoke(proxyd, ["serve", "--config", str(file)])
        self.assertEqual((result.exit_code, result.stdout), (78, ""))
        self.assertEqual(result.stderr, f"{file}:1:1: listenrs: unknown option (did you mean listeners?)\n")

    def test_chp_is_a_command(self) -> None:
        """Its options are its own."""
        result = CliRunner().invoke(proxyd, ["chp", "--nope"])
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertIn("--nope", result.stderr)


class NameTests(SynchronousTestCase):
    """What the program does by the name that it is called by."""

    def setUp(self) -> None:
        for number in REQUESTS:  # which servers ignore from their beginning on
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.addCleanup(gc.enable)  # the start of a server goes without

    def start(self, *argv: str) -> str:
        """What is printed before the end."""
        stdout = StringIO()
        self.patch(sys, "stdout", stdout)
        self.patch(sys, "argv", list(argv))
        with self.assertRaises(SystemExit) as caught:
            main()
        self.assertEqual(caught.exception.code, 0)
        return stdout.getvalue()

    def test_it_can_stand_in_for_configurable_http_proxy(self) -> None:
        """A link of that name, as JupyterHub calls it, takes its options."""
        for name in ("configurable-http-proxy", "/usr/local/bin/configurable-http-proxy", "proxyd-chp"):
            self.assertIn("--api-ip", self.start(name, "--help"))

    def test_chp_takes_all_that_follows(self) -> None:
        """`proxyd chp --help` is the help of configurable-http-proxy."""
        self.assertIn("--api-ip", self.start("/usr/bin/proxyd", "chp", "--help"))

    def test_a_server_survives_requests_while_it_starts(self) -> None:
        """Each of these signals would end it by default, and a certificate may be renewed at any time."""
        for argv, module in (
            (("proxyd", "serve"), "serve"),
            (("proxyd", "chp"), "chp"),
            (("configurable-http-proxy",), "chp"),
            (("proxyd", "wrap"), "wrap"),
        ):
            for number in REQUESTS:
                signal.signal(number, signal.SIG_DFL)
            seen: list[object] = []

            def run(*_: object, seen: list[object] = seen) -> None:
                seen += map(signal.getsignal, REQUESTS)
                sys.exit(0)

            self.patch(import_module(f"proxyd.cli.{module}"), "run", run)
            self.start(*argv)
            self.assertEqual(seen, [signal.SIG_IGN] * len(REQUESTS), argv)

    def test_otherwise_it_is_proxyd(self) -> None:
        """With its commands."""
        self.assertIn("serve", self.start("/usr/bin/proxyd", "--help"))

    def test_it_is_a_module_too(self) -> None:
        """`python -m proxyd`."""
        done = subprocess.run(
            [sys.executable, "-m", "proxyd", "--version"], capture_output=True, text=True, timeout=30, check=True
        )
        self.assertEqual((done.stdout, done.stderr), (f"{__version__}\n", ""))


class ImportTests(SynchronousTestCase):
    """What a command loads."""

    def test_help_does_not_load_twisted(self) -> None:
        """Only the commands that need it do; the others answer at once."""
        code = "import sys, proxyd.cli; sys.exit(any(name.startswith('twisted') for name in sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False)
        self.assertEqual(done.returncode, 0)
