"""Tests of `proxyd.system.signals` and `proxyd.system.limits`."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

from twisted.internet import reactor  # noqa: TID251  # the one that runs
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.system.limits import raise_open_files_limit
from proxyd.system.signals import answer_requests, ignore_requests

REQUESTS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class RequestTests(TestCase):
    """Signals that ask for something."""

    def setUp(self) -> None:
        for number in REQUESTS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def test_they_do_no_harm_before_there_is_an_answer(self) -> None:
        """The process goes on."""
        ignore_requests()
        for number in REQUESTS:
            os.kill(os.getpid(), number)

    async def test_each_has_its_answer(self) -> None:
        """In a turn of the reactor, and not in the middle of something."""
        asked: list[int] = []
        answer_requests(reactor, {number: lambda number=number: asked.append(number) for number in REQUESTS})
        for number in REQUESTS:
            os.kill(os.getpid(), number)
        self.assertEqual(asked, [])
        while len(asked) < len(REQUESTS):
            await deferLater(reactor, 0)
        self.assertEqual(asked, [*REQUESTS])

    def test_last_words_need_an_output(self) -> None:
        """Without one there are none, and the start goes on."""
        code = "from proxyd.system.signals import leave_last_words; leave_last_words()"
        for closed in ("2>&-", ""):
            command = f'exec "{sys.executable}" -c "{code}" {closed}'
            done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""))


class LimitTests(SynchronousTestCase):
    """`raise_open_files_limit`."""

    def test_what_was_before_is_remembered(self) -> None:
        """And logged."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        with capturedLogs() as events:
            self.assertEqual(raise_open_files_limit(), (256, before[1]))
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (before[1], before[1]))
        self.assertEqual([formatEvent(event) for event in events], [f"descriptors: {before[1]}, 256 for children"])
