"""The process that the cases are played with."""

from __future__ import annotations

import contextlib
import re
import shutil
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path
from unittest import TestCase

from tests.certificates import Authority
from tests.hostile.cases import Case
from tests.hostile.families.targets import CLOSED
from tests.hostile.stage import Stage
from tests.hostile.verdict import problems_of
from tests.support import Process, free_port, script

_CONFIG = """
listeners:
  - {{kind: http, port: 0}}
  - {{kind: https, port: 0, certificates: [{{certificate: {certificate}, key: {key}}}]}}
api: off
trusted_proxies: []
routes:
  /: "http://127.0.0.1:{upstream}"
  {closed}: "http://127.0.0.1:{nobody}"
"""
# What a good request looks like, and what comes of it: asked for after each case that may have left something behind.
PROBE = Case(name="probe", sends=(b"GET /sentinel HTTP/1.1\r\nHost: a\r\n\r\n",), statuses=(frozenset({200}),))


class HostileProxy:
    """A real `proxyd serve` in front of a recording upstream, with a listener for plain text and one for TLS."""

    def __init__(self, case: TestCase) -> None:
        directory = Path(tempfile.mkdtemp(prefix="proxyd-hostile-"))
        case.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        authority = Authority(directory / "certificates")
        issued = authority.issue("localhost")
        self.stage = Stage()
        case.addCleanup(self.stage.close)
        config = directory / "proxyd.yaml"
        config.write_text(
            _CONFIG.format(
                certificate=issued.certificate,
                key=issued.key,
                upstream=self.stage.upstream_port,
                nobody=free_port(),
                closed=CLOSED,
            )
        )
        self.process = Process(case, script("proxyd"), "serve", "--config", config, cwd=directory)
        self.port = self._announced("Proxying http:")
        self.tls_port = self._announced("Proxying https:")
        self._context = authority.client_context()

    def _announced(self, words: str) -> int:
        line = self.process.wait_for_log(words, 30)
        found = re.search(r":(\d+)", line[line.index(words) + len(words) :])
        if found is None:
            raise AssertionError(f"there is no port in {line!r}")
        return int(found[1])

    def problems(self, cases: Iterable[Case], *, tls: bool = False) -> list[str]:
        """Play the cases; what is wrong with each of them, and with the process after it."""
        problems = []
        port, context = (self.tls_port, self._context) if tls else (self.port, None)
        for case in cases:
            found = self._play(case, port, context)
            if case.script and not found:
                found = [f"afterwards: {problem}" for problem in self._play(PROBE, port, context)]
            problems += [f"{case.family}/{case.name}: {problem}" for problem in found]
            if not self.process.is_running:
                return [*problems, f"{case.family}/{case.name}: the process has ended:\n{self.process.log[-5000:]}"]
        return problems

    def _play(self, case: Case, port: int, context: ssl.SSLContext | None) -> list[str]:
        try:
            return problems_of(case, self.stage.play(case, port, context))
        except OSError as error:
            return [f"there is no connection: {error!r}"]

    def trouble(self) -> list[str]:
        """Lines of the log that a request must not cause."""
        with contextlib.suppress(ValueError):
            return [line for line in self.process.log.splitlines() if "Traceback" in line or "unexpected error" in line]
        return []
