"""What a server prints, and how it ended."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.model.servers import ServerSpec
from proxyd.option import ServerName
from proxyd.supervisor.output import Output
from proxyd.supervisor.process import Child, Command, Exit
from tests.supervisor.support import SupervisorCase, global_reactor, until


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

    def test_too_many_lines_are_not_all_logged(self) -> None:
        """Of one piece, so that nobody keeps the others waiting; those who listen get them, and the log says so."""
        printed: list[str] = []
        output = Output("app", printed.append)
        output.feed(1, b"y\n" * 4096)
        self.assertEqual([(LogLevel.info, "y")] * 200, self.logged())
        self.assertEqual((["y"] * 4096, 4096), (printed, len(output.last(5000))))
        (told,) = [event for event in self.events if "line" not in event]
        self.assertEqual("[app] prints too much: 3896 lines are left out here", formatEvent(told))  # type: ignore[arg-type]

    def test_secrets_are_shown_nowhere(self) -> None:
        """Neither in the log nor to those who listen or look later."""
        printed: list[str] = []
        output = Output("app", printed.append, secrets=("t0ken", "other"))
        output.feed(1, b"token=t0ken&x=other\n")
        expected = "token=***&x=***"
        self.assertEqual(([expected], (expected,)), (printed, output.last(1)))
        self.assertEqual([(LogLevel.info, expected)], self.logged())


class FloodTests(SupervisorCase):
    """A program that prints all the time."""

    async def test_it_is_read_for_half_of_the_time(self) -> None:
        """When what it prints takes long to be dealt with; nothing of it is lost."""
        text = "".join(f"line {number}\n" for number in range(20_000))
        path = Path(self.mktemp())
        path.write_text(text)
        printed: list[str] = []
        readers: list[bool] = []

        class SlowOutput(Output):
            def feed(self, stream: int, data: bytes) -> None:
                began = time.thread_time()
                while time.thread_time() < began + 0.01:
                    pass
                super().feed(stream, data)
                global_reactor.callLater(0, look)

        def look() -> None:
            readers.append(child._process.pipes.get(1) in global_reactor.getReaders())

        ended: list[Exit] = []
        command = Command(argv=("cat", str(path)), environment={"PATH": os.environ["PATH"]}, mark="x")
        child = Child(
            global_reactor,
            command,
            SlowOutput("app", printed.append),
            exited=lambda _: None,
            ended=lambda _, how: ended.append(how),
        )
        await until(lambda: ended, "its end")
        self.assertEqual(text.splitlines(), printed)
        self.assertGreater(len(readers), 10)
        self.assertLess(sum(readers), len(readers) / 2)


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
