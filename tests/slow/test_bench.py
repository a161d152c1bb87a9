"""The benchmark still runs: each axis, on sizes that say nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

_CHECKOUT = Path(__file__).resolve().parents[2]
# Of a busy machine; by itself it takes two minutes.
_SECONDS = 1500


class BenchTests(TestCase):
    """What `make bench` runs."""

    timeout = _SECONDS + 60

    def test_every_axis(self) -> None:
        """Each axis has rows with a figure of proxyd, and each goal has a row that it belongs to."""
        output = Path(self.mktemp())
        command = [sys.executable, str(_CHECKOUT / "bench" / "run.py"), "--quick", "--rounds", "0"]
        ended = subprocess.run(
            [*command, "--output", str(output.absolute())],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stdout[-4000:])
        rows = {row["key"]: row for row in json.loads(output.read_text())["rows"]}
        for beginning in ("small-", "get-", "bulk-", "websocket-", "relay-", "tls-", "idle-", "rate", "route", "start"):
            self.assertTrue([key for key in rows if key.startswith(beginning)], beginning)
        for row in rows.values():
            self.assertIn("proxyd", row["figures"])
        self.assertGreater(rows["websocket-16"]["figures"]["proxyd"]["value"], 0)
        self.assertRegex(ended.stdout, r"(?m)^measurement +proxyd +beside")
