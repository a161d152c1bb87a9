"""Tests of `proxyd.net.reactor`, as far as those of the transports on it say nothing."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.reactor import DataPathReactor


class MainReactor(Clock):
    """Knows its readers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[object] = set()

    def addReader(self, reader: object) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.discard(reader)


class PauseTests(SynchronousTestCase):
    """A data path that has to wait."""

    def test_nothing_happens_meanwhile(self) -> None:
        """The main reactor knows it only while it is not paused; what was closed does not come back."""
        main = MainReactor()
        reactor = DataPathReactor(main)
        self.assertEqual(main.readers, {reactor})
        reactor.pause()
        self.assertEqual(main.readers, set())
        reactor.resume()
        self.assertEqual(main.readers, {reactor})
        reactor.pause()
        reactor.close()
        reactor.resume()
        self.assertEqual(main.readers, set())
