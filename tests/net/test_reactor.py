"""Tests of `proxyd.net.reactor`, as far as those of the transports on it say nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.reactor import DataPathReactor

_PATIENCE_SECONDS = 30.0


class MainReactor(Clock):
    """Is not that of epoll, and knows its readers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[object] = set()

    def addReader(self, reader: object) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.discard(reader)


class Reader:
    """A descriptor that something has always come to; nobody reads it. `read` is called instead."""

    def __init__(self, case: SynchronousTestCase, read: Callable[[], object]) -> None:
        self._sock, other = socket.socketpair()
        other.send(b"x")
        other.close()
        case.addCleanup(self._sock.close)
        self._read = read
        self.count = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "a reader"

    def doRead(self) -> None:
        self.count += 1
        self._read()

    def connectionLost(self, reason: Failure) -> None:
        """Nothing to do."""


class OneDescriptorTests(SynchronousTestCase):
    """A main reactor that is not that of epoll."""

    def test_nothing_happens_in_a_pause(self) -> None:
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

    def test_a_reader_like_others(self) -> None:
        """It has a name, and an end of the main reactor is none of it: `close` says when."""
        reactor = DataPathReactor(MainReactor())
        self.addCleanup(reactor.close)
        self.assertEqual(reactor.logPrefix(), "data path")
        reader = Reader(self, lambda: None)
        reactor.addReader(reader)
        reactor.connectionLost(Failure(ConnectionDone()))
        reactor.doRead()
        self.assertEqual(reader.count, 1)


class WaitingTests(SynchronousTestCase):
    """The main reactor of epoll is asked from within the data path's wait."""

    def setUp(self) -> None:
        self.main = EPollReactor()
        self.reactor = DataPathReactor(self.main)
        self.addCleanup(self.reactor.close)
        self.assertEqual(self.main.getReaders(), [self.main.waker])

    def run_main(self) -> None:
        """Until something stops it."""
        self.is_over = False
        late = self.main.callLater(_PATIENCE_SECONDS, self.main.stop)
        self.main.run(installSignalHandlers=False)
        self.assertTrue(late.active(), "nothing has stopped it")

    def stop(self) -> None:
        """Stop the main reactor; it may have a turn or two before it does."""
        if not self.is_over:
            self.is_over = True
            self.main.stop()

    def reader(self, read: Callable[[], object] = lambda: None) -> Reader:
        """One that is there for both."""
        return Reader(self, read)

    def test_everybody_has_a_turn(self) -> None:
        """Timers, threads and descriptors of the main reactor, however much is to be done here."""
        here = [self.reader() for _ in range(100)]
        there = self.reader()
        called: list[str] = []
        for reader in here:
            self.reactor.addReader(reader)
        self.main.addReader(there)
        threading.Thread(target=lambda: self.main.callFromThread(called.append, "thread")).start()
        self.main.callLater(0.01, called.append, "timer")

        def stop_in_the_end() -> None:
            if len(called) == 2 and there.count > 3 and all(reader.count > 3 for reader in here):
                self.stop()

        here[0]._read = stop_in_the_end
        self.run_main()
        self.assertEqual(sorted(called), ["thread", "timer"])

    def test_nothing_else_happens(self) -> None:
        """A timer alone is waited for, and so is a descriptor of the main reactor alone."""
        self.main.callLater(0.01, self.stop)
        self.run_main()

    def test_only_the_main_reactor(self) -> None:
        """Something comes to a descriptor of it."""
        self.main.addReader(self.reader(self.stop))
        self.run_main()

    def test_a_pause(self) -> None:
        """The main reactor goes on, and nothing happens here until it is over."""
        here, there = self.reader(), self.reader()
        self.reactor.addReader(here)
        self.main.addReader(there)
        self.reactor.pause()
        self.reactor.pause()
        counts: list[tuple[int, bool]] = []

        def resume() -> None:
            counts.append((here.count, there.count > 0))
            self.reactor.resume()
            self.reactor.resume()
            here._read = self.stop

        self.main.callLater(0.02, resume)
        self.run_main()
        self.assertEqual(counts, [(0, True)])

    def test_two_of_them(self) -> None:
        """The second one is a descriptor like others; nothing happens to it when the first one closes."""
        second = DataPathReactor(self.main)
        self.addCleanup(second.close)
        self.assertIn(second, self.main.getReaders())
        here, there = self.reader(), self.reader()
        self.reactor.addReader(here)
        second.addReader(there)

        def close_the_first() -> None:
            if here.count and there.count:
                self.reactor.close()
                there._read = self.stop

        there._read = close_the_first
        self.run_main()
        self.assertNotIn("doIteration", vars(self.main))

    def test_it_is_closed_in_a_round(self) -> None:
        """By one of its own descriptors; the main reactor goes on."""
        self.reactor.addReader(self.reader(self.reactor.close))
        self.main.callLater(0.01, self.stop)
        self.run_main()
        self.reactor.resume()
        self.assertNotIn("doIteration", vars(self.main))

    def test_what_is_raised(self) -> None:
        """It ends one descriptor, whatever it is."""

        def fail() -> None:
            raise KeyboardInterrupt

        failing = self.reader(fail)
        self.reactor.addReader(failing)
        self.reactor.addReader(self.reader(lambda: failing.count and self.stop()))
        self.run_main()
        self.assertEqual(len(self.flushLoggedErrors(KeyboardInterrupt)), 1)
        self.assertEqual(failing.count, 1)
