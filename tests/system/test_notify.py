"""Tests of `proxyd.system.notify`: a real datagram socket, virtual time."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from uuid import uuid4

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.system.notify import Notifier

PID = 4711


class NotifierTests(SynchronousTestCase):
    """`Notifier`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.setblocking(False)
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "notify")
        self.manager.bind(self.path)

    def make(self, path: str | None = None, **variables: str) -> Notifier:
        """A notifier with these variables."""
        self.environ = {"NOTIFY_SOCKET": self.path if path is None else path, **variables}
        notifier = Notifier(self.environ, self.clock, PID)
        self.addCleanup(notifier.close)
        return notifier

    def heard(self) -> list[str]:
        """What the manager has been told."""
        messages = []
        while True:
            try:
                messages.append(self.manager.recv(4096).decode())
            except BlockingIOError:
                return messages

    def test_each_state_is_told(self) -> None:
        """With a word for people; a reload has its time, too."""
        notifier = self.make()
        notifier.ready("serving all")
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        notifier.reloading()
        notifier.status("so so")
        notifier.stopping("bye")
        ready, reloading, status, stopping = self.heard()
        self.assertEqual(
            (ready, status, stopping), ("READY=1\nSTATUS=serving all", "STATUS=so so", "STOPPING=1\nSTATUS=bye")
        )
        begin, microseconds, _ = reloading.split("\n")
        self.assertEqual(begin, "RELOADING=1")
        self.assertLess(abs(int(microseconds.removeprefix("MONOTONIC_USEC=")) / 1e6 - before), 60)

    def test_children_are_not_told(self) -> None:
        """The variables are gone, whether they were for us or not."""
        for variables in ({}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}):
            self.make(**variables)
            self.assertEqual(self.environ, {})

    def test_without_a_manager(self) -> None:
        """Nothing happens."""
        notifier = Notifier({"WATCHDOG_USEC": "1000000"}, self.clock)
        notifier.ready()
        notifier.stopping("")
        self.assertEqual((self.heard(), self.clock.getDelayedCalls()), ([], []))

    def test_an_abstract_socket(self) -> None:
        """Its name begins with an @."""
        name = f"proxyd-test-{uuid4().hex}"
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.setblocking(False)
        self.manager.bind(f"\0{name}")
        self.make(f"@{name}").ready("x")
        self.assertEqual(self.heard(), ["READY=1\nSTATUS=x"])

    def test_the_watchdog_hears_of_a_loop_that_turns(self) -> None:
        """Twice in its time, from the start to the end, and never when time stands still."""
        notifier = self.make(WATCHDOG_USEC="3000000", WATCHDOG_PID=str(PID))
        self.clock.advance(10)
        self.assertEqual(self.heard(), [])
        notifier.ready("x")
        self.assertEqual(self.heard()[1:], ["WATCHDOG=1"])
        self.clock.pump([0.5] * 6)
        self.assertEqual(self.heard(), ["WATCHDOG=1"] * 2)
        notifier.ready("after a reload")
        self.clock.pump([1.5, 1.5])
        self.assertEqual(self.heard()[1:], ["WATCHDOG=1"] * 2)
        notifier.close()
        self.clock.advance(10)
        notifier.ready("too late")
        self.assertEqual((self.heard(), self.clock.getDelayedCalls()), ([], []))

    def test_the_watchdog_of_another_process(self) -> None:
        """It does not wait for us; nor does one whose time is nonsense."""
        for variables in ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}):
            self.make(**variables).ready("x")
            self.assertEqual((self.heard(), self.clock.getDelayedCalls()), (["READY=1\nSTATUS=x"], []))

    def test_a_manager_that_does_not_read(self) -> None:
        """Nothing waits, and nothing is lost or overtakes."""
        notifier = self.make()
        for number in range(2000):
            notifier.status(str(number))
        heard: list[str] = []
        for _ in range(5000):
            heard += self.heard()
            if len(heard) == 2000:
                break
            self.clock.advance(0.1)
        self.assertEqual(heard, [f"STATUS={number}" for number in range(2000)])

    def test_a_manager_that_is_gone(self) -> None:
        """That is said once."""
        os.unlink(self.path)
        notifier = self.make(WATCHDOG_USEC="3000000")
        with capturedLogs() as events:
            notifier.ready("x")
            notifier.stopping("x")
            self.clock.advance(10)
        self.assertEqual(len(events), 1)
