"""The unit for systemd fits the command that it starts."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from proxyd.cli import proxyd
from proxyd.config.startup import EX_CONFIG
from proxyd.model.settings import Config
from proxyd.workers.drain import _GOODBYE_SECONDS
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
        """Systemd waits for longer than proxyd does, for tunnels, too."""
        (seconds,) = self.settings["TimeoutStopSec"]
        config = Config()
        longest = config.drain_delay_seconds + config.drain_seconds + _GOODBYE_SECONDS
        self.assertGreater(float(seconds.removesuffix("s")), longest)

    def test_a_stall_is_told_before_it_is_ended(self) -> None:
        """The log has the stack by then."""
        (seconds,) = self.settings["WatchdogSec"]
        self.assertEqual(self.settings["Type"], ["notify"])
        self.assertGreater(float(seconds.removesuffix("s")), 2 * Config().log.stall_after)

    def test_systemd_can_read_the_units(self) -> None:
        """Without a word, where there is a systemd that reads them."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("there is no systemd-analyze here")
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        command = directory / "proxyd"
        command.write_text("")
        command.chmod(0o755)
        for name in ("proxyd.service", "proxyd.socket"):
            text = (CHECKOUT / "etc" / name).read_text(encoding="utf-8")
            (directory / name).write_text(text.replace("/opt/proxyd/bin/proxyd", str(command)))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *directory.glob("proxyd.s*")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = [line for line in done.stderr.splitlines() if str(directory) in line or line.startswith("proxyd.")]
        self.assertEqual(said, [])
