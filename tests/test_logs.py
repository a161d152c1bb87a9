"""Tests of `proxyd.logs`."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from proxyd import logs
from proxyd.logs import LineWriter, LogObserver, redact
from proxyd.system.turns import FileTurn
from tests.support import wait_for


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

    def test_a_turn_is_closed_with_the_file(self) -> None:
        """Whether anything was written or not, and also if the file cannot be opened."""
        memory = os.memfd_create("proxyd-test-of-turns")
        self.addCleanup(os.close, memory)

        def opened() -> int:
            found = 0
            for fd in os.listdir("/proc/self/fd"):
                with contextlib.suppress(FileNotFoundError):  # that of the list itself
                    found += "proxyd-test-of-turns" in os.readlink(f"/proc/self/fd/{fd}")
            return found

        for lines in ([], ["a\n"]):
            writer = LineWriter.to_file(self.mktemp(), self.clock, FileTurn(memory, 0))
            for line in lines:
                writer.write(line)
            self.assertEqual(opened(), 2)
            writer.close(60)
            self.assertEqual(opened(), 1)
        self.assertRaises(OSError, LineWriter.to_file, "/no/such/file", self.clock, FileTurn(memory, 0))
        self.assertEqual(opened(), 1)

    def test_dropped_lines_are_told(self) -> None:
        """With their number, once there is room again, and each time anew."""
        told: list[int] = []
        self.writer.told_of_drops = told.append
        for count in (1, 2):
            while self.writer.dropped < 2 * count:
                self.writer.write("x" * 99_999 + "\n")
            dropped = self.writer.dropped
            self.clock.advance(5)
            self.assertEqual(len(told), count - 1)
            self.catch_up()
            self.clock.advance(1)
            self.assertEqual(sum(told), dropped)
            self.assertEqual(len(told), count)
        self.clock.advance(10)
        self.assertEqual(len(told), 2)
        self.writer.close()

    def catch_up(self) -> None:
        """Read everything that waits."""
        os.set_blocking(self.read_end, False)

        def is_idle() -> bool:
            with contextlib.suppress(BlockingIOError):
                while os.read(self.read_end, 1 << 20):
                    pass
            return self.writer._written == self.writer._handed_over

        wait_for(is_idle, "everything is written")

    def test_a_pipe_that_somebody_else_made_non_blocking(self) -> None:
        """Is waited for like any other."""
        os.set_blocking(self.write_end, False)
        for _ in range(30):
            self.writer.write("x" * 9_999 + "\n")
        self.clock.advance(0.2)
        size = 0
        while size < 300_000:
            size += len(os.read(self.read_end, 1 << 20))
        self.writer.close()
        self.assertEqual((size, self.writer.dropped), (300_000, 0))

    def test_lines_from_another_thread(self) -> None:
        """They need no reactor that turns."""
        thread = threading.Thread(target=self.writer.write_from_thread, args=("hello\n",))
        thread.start()
        thread.join()
        self.assertEqual(os.read(self.read_end, 100), b"hello\n")
        self.writer.close()

    def test_files_that_are_opened_again(self) -> None:
        """What was written before is in the old one, what comes then in the new one; nothing is lost."""
        path = self.mktemp()
        writer = LineWriter.to_file(path, self.clock)
        for number in range(3):
            writer.write(f"{number}\n")
            os.rename(path, f"{path}.{number}")
            writer.reopen()
        writer.write("3\n")
        os.unlink(path)
        writer.reopen()
        writer.write("4\n")
        writer.close()
        names = [f"{path}.0", f"{path}.1", f"{path}.2", path]
        self.assertEqual([Path(name).read_text() for name in names], ["0\n", "1\n", "2\n", "4\n"])
        self.writer.close()

    def test_a_file_that_cannot_be_opened_again(self) -> None:
        """The old one goes on; what has no path has nothing to open."""
        directory = self.mktemp()
        os.mkdir(directory)
        writer = LineWriter.to_file(f"{directory}/a", self.clock)
        os.rename(directory, f"{directory}.old")
        self.assertRaises(OSError, writer.reopen)
        writer.write("x\n")
        writer.close()
        self.assertEqual(Path(f"{directory}.old/a").read_text(), "x\n")
        self.writer.reopen()
        self.writer.close()

    def test_a_full_disk(self) -> None:
        """Costs lines, which are counted; that is told with the lines that come next, and not for each of them."""
        told: list[OSError] = []
        writer = LineWriter.to_file("/dev/full", self.clock)
        writer.told_of_failure = told.append
        for count in range(1, 5):
            writer.write("a\n")
            self.clock.advance(0.2)
            wait_for(lambda count=count: writer.dropped == count, "a line that is counted")
        self.assertEqual([errno.ENOSPC], [error.errno for error in told])
        self.clock.advance(60)
        writer.write("a\n")
        self.clock.advance(0.2)
        self.assertEqual(2, len(told))
        writer.close()
        self.assertEqual(writer.dropped, 5)
        self.writer.close()

    def test_a_line_that_is_cut_by_a_full_disk(self) -> None:
        """The next one does not begin in the middle of it."""
        write = os.write
        room = [13]

        def write_a_little(fd: int, data: bytes) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, "full")
            count = write(fd, bytes(data)[: room[0]])
            room[0] -= count
            return count

        self.patch(os, "write", write_a_little)
        self.writer.write("one line\n")
        self.writer.write("another line\n")
        self.clock.advance(0.2)
        wait_for(lambda: self.writer.dropped, "a line that is counted")
        self.writer.write("lost\n")
        self.clock.advance(0.2)
        wait_for(lambda: self.writer.dropped == 2, "a line that is counted")
        room[0] = 1000
        self.writer.write("last\n")
        self.writer.close()
        self.assertEqual(b"one line\nanot\nlast\n", os.read(self.read_end, 100))

    def test_a_pipe_without_a_reader_is_not_waited_for(self) -> None:
        """It is an error."""
        path = self.mktemp()
        os.mkfifo(path)
        self.assertRaises(OSError, LineWriter.to_file, path, self.clock)
        self.writer.close()


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

    def test_formats_are_read_as_twisted_reads_them(self) -> None:
        """Whatever a format asks of its facts, and if there is no such fact, or one that cannot be written."""

        class Odd:
            name = "odd"

            def __str__(self) -> str:
                raise ValueError("no text")

        facts = {"a": 1, "b_c": "two", "odd": Odd(), "call": lambda: "called", "log_time": 0.0}
        formats = [
            "",
            "x",
            "{a} {b_c}",
            "{{a}}",
            "{a!r} {a:03}",
            "{call()}",
            "{odd.name}",
            "{odd}",
            "{missing}",
            "{",
            "{}",
            b"{a}",
        ]
        for given in formats:
            written: list[str] = []
            event = {**facts, "log_format": given, "log_level": LogLevel.info}
            LogObserver(written.append, "text", "info")(event)
            words = written[0].removeprefix("1970-01-01T00:00:00.000Z info  ").rstrip("\n")
            self.assertEqual(words.replace("\n    ", "\n"), redact(formatEvent(event)).rstrip("\n"), given)

    def test_a_worker(self) -> None:
        """Programs that read the log are told which one it is."""
        written: list[str] = []
        observer = LogObserver(written.append, "json", "info", worker=2)
        Logger(namespace="proxyd.test", observer=observer).info("hello")
        self.assertEqual(json.loads(written[0])["worker"], 2)

    def test_facts_are_no_leak(self) -> None:
        """What is told beside the words of a JSON line says no more than they do, and is no longer."""
        facts = {"upstream": "http://me:secret@h/?key=secret", "route": "/x" * 5000, "peer": None, "seconds": 0.5}
        entry = json.loads(self.lines("json", **facts)[0])
        self.assertEqual(
            ("http://[redacted]@h/?[redacted]", None, 0.5), (entry["upstream"], entry["peer"], entry["seconds"])
        )
        self.assertEqual(4096, len(entry["route"]))

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
        # The second one is that of every question to a Hub.
        for count, namespace in enumerate(("log_legacy", "twisted.web.client._HTTP11ClientFactory"), 1):
            event = {"log_namespace": namespace, "log_level": LogLevel.info, "log_format": "x", "log_time": 0}
            LogObserver(written.append, "text", "info")(event)
            self.assertEqual(count - 1, len(written))
            LogObserver(written.append, "text", "debug")(event)
            self.assertEqual(count, len(written))

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
            "to http://me:secret@h/x?key=secret, and on": "to http://[redacted]@h/x?[redacted] and on",
            "'http+unix://%2Fs/x?a=b'? yes": "'http+unix://%2Fs/x?[redacted]'? yes",
            "http://h/? and http://h?": "http://h/? and http://h?",
            "to http://h/x@y and me@h": "to http://h/x@y and me@h",
            "the token of the API": "the token of the API",
            "a\x1b[2Jb\rc": r"a\x1b[2Jb\x0dc",
        }
        for line, written in cases.items():
            self.assertEqual(written, redact(line))
