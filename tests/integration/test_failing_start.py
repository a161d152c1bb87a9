"""A start that fails ends the process, and says why."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Process, script


class FailingStartTests(SynchronousTestCase):
    """Under each command."""

    def test_a_port_that_is_taken(self) -> None:
        """Status 1, and one line that names the address."""
        directory = Path(tempfile.mkdtemp(prefix="proxyd-start-"))
        self.addCleanup(shutil.rmtree, directory)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            config = directory / "proxyd.yaml"
            config.write_text(f"listeners: [{{kind: http, port: {port}}}]\napi: off\n")
            for words in (
                ("proxyd", "serve", "--config", config),
                ("twistd", "-n", "--pidfile=", "proxyd", "--config", config),
                ("proxyd", "chp", "--ip=127.0.0.1", f"--port={port}"),
            ):
                process = Process(self, script(words[0]), *words[1:], cwd=directory)
                self.assertEqual(process.wait(), 1, words)
                self.assertEqual(process.log.count(f"cannot listen on 127.0.0.1:{port}: "), 1, process.log)
                self.assertNotIn("Traceback", process.log)
