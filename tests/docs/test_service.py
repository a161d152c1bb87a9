"""The unit for systemd fits the command that it starts."""

from __future__ import annotations

from collections import defaultdict

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from proxyd.cli import proxyd
from proxyd.config.startup import EX_CONFIG
from proxyd.model.settings import Config
from tests.support import CHECKOUT


class ServiceTests(SynchronousTestCase):
    """etc/proxyd.service."""

    def setUp(self) -> None:
        """Read it; a name may stand there more than once."""
        self.settings: defaultdict[str, list[str]] = defaultdict(list)
        for line in (CHECKOUT / "etc" / "proxyd.service").read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "[")):
                name, _, value = line.partition("=")
                self.settings[name].append(value)

    def test_it_starts_a_command_that_is_there(self) -> None:
        """With an option that it has."""
        ((program, command, option, file),) = [value.split() for value in self.settings["ExecStart"]]
        self.assertEqual((program, file), ("/opt/proxyd/bin/proxyd", "/etc/proxyd/proxyd.yaml"))
        self.assertIn(option, CliRunner().invoke(proxyd, [command, "--help"]).stdout)

    def test_a_bad_configuration_is_not_tried_again(self) -> None:
        """By the status that proxyd has for it."""
        self.assertEqual(self.settings["RestartPreventExitStatus"], [str(EX_CONFIG)])

    def test_requests_have_their_time_to_finish(self) -> None:
        """Systemd waits for longer than proxyd does."""
        (seconds,) = self.settings["TimeoutStopSec"]
        self.assertGreater(float(seconds.removesuffix("s")), Config().drain_seconds)
