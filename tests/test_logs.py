"""Tests of `proxyd.logs`."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from proxyd import logs
from proxyd.logs import LineWriter, LogObserver, redact


class LineWriterTests(SynchronousTestCase):
    """`LineWriter`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.read_end, self.write_end = os.pipe()
        self.writer = LineWriter(self.write_end, self.clock, close_fd=True)
        self.addCleanup(os.close, self.read_end)

    def test_lines_come_together(self) -> None:
        """Lines are written a moment later, in order, and at the end at the latest."""
        for number in range(3):
            self.writer.write(f"{number} ä\n")
        self.clock.advance(0.2)
        self.assertEqual("0 ä\n1 ä\n2 ä\n", os.read(self.read_end, 100).decode())
        self.writer.write("end\n")
        self.writer.close()
        self.assertEqual(b"end\n", os.read(self.read_end, 100))
        self.assertEqual(b"", os.read(self.read_end, 100))

    def test_a_reader_that_sleeps_costs_lines_only(self) -> None:
        """Writing never waits: what finds no place is dropped and counted."""
        for _ in range(200):
            self.writer.write("x" * 99_999 + "\n")
        self.assertGreater(self.writer.dropped, 100)
        self.addCleanup(self.drain)
        self.writer.close(0.05)

    def drain(self) -> None:
        """Let the thread end."""
        while os.read(self.read_end, 1 << 20):
            pass

    def test_a_reader_that_is_gone(self) -> None:
        """It does not matter."""
        read_end, write_end = os.pipe()
        os.close(read_end)
        writer = LineWriter(write_end, self.clock, close_fd=True)
        writer.write("x\n")
        writer.close()
        self.writer.close()

    def test_files_are_appended_to(self) -> None:
        """A file keeps what it has, and is for its owner and group."""
        path = self.mktemp()
        for number in range(2):
            writer = LineWriter.to_file(path, self.clock)
            writer.write(f"{number}\n")
            writer.close()
        with open(path) as file:
            self.assertEqual("0\n1\n", file.read())
        self.assertEqual(0, os.stat(path).st_mode & 0o007)
        self.writer.close()
        self.assertRaises(OSError, LineWriter.to_file, "/no/such/file", self.clock)


class LogObserverTests(SynchronousTestCase):
    """`LogObserver`."""

    def lines(self, form: Any, level: str = "info", colors: bool = False, **facts: Any) -> list[str]:
        """What is written of one event of each level."""
        written: list[str] = []
        observer = LogObserver(written.append, form, level, colors=colors)

        def stamped(event: Any) -> None:
            observer({**event, "log_time": 1.5})

        log = Logger(namespace="proxyd.test", observer=stamped)
        for name in ("debug", "info", "warn", "error", "critical"):
            log.emit(LogLevel.lookupByName(name), "hello {who}", who="world", **facts)
        return written

    def test_forms(self) -> None:
        """Text, the form of configurable-http-proxy, and JSON."""
        self.assertEqual("1970-01-01T00:00:01.500Z info  hello world\n", self.lines("text")[0])
        self.assertEqual("1970-01-01T00:00:01.500Z [ConfigProxy] info: hello world\n", self.lines("chp")[0])
        self.assertEqual(
            {
                "time": "1970-01-01T00:00:01.500Z",
                "level": "info",
                "logger": "proxyd.test",
                "message": "hello world",
                "status": 404,
            },
            json.loads(self.lines("json", status=404)[0]),
        )

    def test_colors(self) -> None:
        """On a terminal the level is in color."""
        self.assertIn("\x1b[33mwarn\x1b[0m: ", self.lines("chp", colors=True)[1])
        self.assertIn("\x1b[31merror\x1b[0m ", self.lines("text", colors=True)[2])

    def test_levels(self) -> None:
        """Only events from the level on are written; critical ones count as errors."""
        for level, count in (("debug", 5), ("info", 4), ("warn", 3), ("error", 2)):
            self.assertEqual(count, len(self.lines("text", level)))
        self.assertIn("error", self.lines("chp")[3])

    def test_old_events_are_debug(self) -> None:
        """What Twisted tells of its factories is not for operators."""
        written: list[str] = []
        event = {"log_namespace": "log_legacy", "log_level": LogLevel.info, "log_format": "x", "log_time": 0}
        LogObserver(written.append, "text", "info")(event)
        self.assertEqual([], written)
        LogObserver(written.append, "text", "debug")(event)
        self.assertEqual(1, len(written))

    def test_failures(self) -> None:
        """A traceback is set in, so that no line of it looks like an event."""
        written: list[str] = []
        try:
            raise ZeroDivisionError("1996-01-01T00:00:00.000Z info  forged")
        except ZeroDivisionError:
            failure = Failure()
        Logger(observer=LogObserver(written.append, "text", "info")).failure("oh {what}", failure, what="no")
        first, *rest = written[0].splitlines()
        self.assertTrue(first.endswith("oh no"))
        self.assertTrue(rest)
        self.assertTrue(all(line.startswith("    ") for line in rest))

    def test_nothing_is_endless(self) -> None:
        """A line is at most 4 KiB, whatever somebody sent."""
        written: list[str] = []
        Logger(observer=LogObserver(written.append, "text", "info")).info("{x}", x="y" * 100_000)
        self.assertLess(len(written[0]), logs._MAX_LINE + 100)


class RedactTests(SynchronousTestCase):
    """`redact`."""

    def test_credentials_and_controls(self) -> None:
        """What looks like a credential goes; control characters are escaped; words that only sound so stay."""
        cases = {
            "Authorization: token abcdefghijklmnop0": "Authorization: token [redacted]",
            "Bearer abcdefghijklmnop0, x": "Bearer [redacted] x",
            "GET /?token=abc&x=1": "GET /?token=[redacted]&x=1",
            "password='x'": "password='x'",
            "to http://me:secret@h:1/x@y": "to http://[redacted]@h:1/x@y",
            "to http://h/x@y and me@h": "to http://h/x@y and me@h",
            "the token of the API": "the token of the API",
            "a\x1b[2Jb\rc": r"a\x1b[2Jb\x0dc",
        }
        for line, written in cases.items():
            self.assertEqual(written, redact(line))
