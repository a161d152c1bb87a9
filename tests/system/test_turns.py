"""Tests of `proxyd.system.turns`."""

from __future__ import annotations

import os
import threading

from twisted.trial.unittest import SynchronousTestCase

from proxyd.system.turns import FileTurn


class FileTurnTests(SynchronousTestCase):
    """Turns with the same byte of the same file; each has opened it by itself, as processes do."""

    def setUp(self) -> None:
        self.fd = os.memfd_create("test")
        self.addCleanup(os.close, self.fd)

    def turn(self, number: int = 0) -> FileTurn:
        turn = FileTurn(self.fd, number)
        self.addCleanup(turn.close)
        return turn

    def test_one_after_the_other(self) -> None:
        """Nobody is between the beginning and the end of another one's turn."""
        said: list[int] = []

        def speak(own: int) -> None:
            turn = self.turn()
            for _ in range(100):
                with turn:
                    said.extend([own] * 5)

        threads = [threading.Thread(target=speak, args=(own,)) for own in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(len(said), 1500)
        self.assertTrue(all(len(set(said[start : start + 5])) == 1 for start in range(0, 1500, 5)))

    def test_other_bytes_are_other_turns(self) -> None:
        """Who has one does not keep others from another."""
        with self.turn(0), self.turn(1):
            pass

    def test_it_ends_with_the_process(self) -> None:
        """However that ends."""
        child = os.fork()
        if not child:
            FileTurn(self.fd, 0).__enter__()
            os._exit(0)
        os.waitpid(child, 0)
        with self.turn():
            pass
