"""What a server prints, and how it ended."""

from __future__ import annotations

import sys

from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.model.servers import ServerSpec
from proxyd.option import ServerName
from proxyd.supervisor.output import Output
from proxyd.supervisor.process import Exit
from tests.supervisor.support import SupervisorCase, until


class OutputTests(SynchronousTestCase):
    """Lines."""

    def setUp(self) -> None:
        self.events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(self.events.append)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def logged(self) -> list[tuple[object, object]]:
        return [(event["log_level"], event["line"]) for event in self.events if "line" in event]

    def test_the_error_output_may_be_errors(self) -> None:
        """Also what has no line's end."""
        for is_error in (False, True):
            self.events.clear()
            output = Output("app", lambda _: None, stderr_is_error=is_error)
            output.feed(1, b"a\n")
            output.feed(2, b"b\nc")
            output.finish()
            level = LogLevel.error if is_error else LogLevel.info
            self.assertEqual([(LogLevel.info, "a"), (level, "b"), (level, "c")], self.logged())

    def test_secrets_are_shown_nowhere(self) -> None:
        """Neither in the log nor to those who listen or look later."""
        printed: list[str] = []
        output = Output("app", printed.append, secrets=("t0ken", "other"))
        output.feed(1, b"token=t0ken&x=other\n")
        expected = "token=***&x=***"
        self.assertEqual(([expected], (expected,)), (printed, output.last(1)))
        self.assertEqual([(LogLevel.info, expected)], self.logged())


class ExitTests(SupervisorCase):
    """The status that a shell would report."""

    async def test_it_is_told(self) -> None:
        """Of what has ended by itself: in order, with an error, by a signal, or without having begun."""
        for words, status in (
            ((sys.executable, "-c", "raise SystemExit(0)"), 0),
            ((sys.executable, "-c", "raise SystemExit(7)"), 7),
            ((sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"), 137),
            (("/no/such/program",), 127),
        ):
            supervisor = self.supervise(**{ServerName("app"): ServerSpec(command=words)})
            told: list[tuple[str, Exit]] = []
            supervisor.news.exit_watchers.append(lambda name, ended, told=told: told.append((name, ended)))  # type: ignore[misc]
            lease = supervisor.lease("app")
            lease.addErrback(lambda _: None)
            await until(lambda told=told: told, "the end of the process")  # type: ignore[misc]
            self.assertEqual(("app", status), (told[0][0], told[0][1].status))
            await supervisor.shutdown()
