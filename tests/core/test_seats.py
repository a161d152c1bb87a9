"""Tests of `proxyd.core.seats`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.seats import Seats


class SeatsTests(SynchronousTestCase):
    """How many there are."""

    def test_all_together(self) -> None:
        """Beyond the total it is 503, until somebody leaves; who has no seat can leave as well."""
        seats = Seats(2, 0)
        self.assertEqual([seats.take(holder, b"x") for holder in "abc"], [0, 0, 503])
        seats.free("c")
        self.assertEqual(seats.take("c", b"x"), 503)
        seats.free("a")
        seats.free("a")
        self.assertEqual((seats.take("c", b"x"), len(seats)), (0, 2))

    def test_of_one_client(self) -> None:
        """Beyond its share it is 429; others are served, and a client without a name has no share."""
        seats = Seats(0, 1)
        self.assertEqual([seats.take(*pair) for pair in (("a", b"x"), ("b", b"x"), ("c", b"y"))], [0, 429, 0])
        self.assertEqual([seats.take(holder, b"") for holder in "def"], [0, 0, 0])
        seats.free("d")
        seats.free("a")
        self.assertEqual(seats.take("b", b"x"), 0)

    def test_a_share_of_several(self) -> None:
        """Each that leaves makes room for one."""
        seats = Seats(0, 2)
        self.assertEqual([seats.take(holder, b"x") for holder in "abc"], [0, 0, 429])
        seats.free("a")
        self.assertEqual([seats.take(holder, b"x") for holder in "cd"], [0, 429])

    def test_other_limits(self) -> None:
        """Whoever has a seat keeps it, and counts, also among those of its client, which nobody asked for before."""
        seats = Seats(3, 0)
        for holder in "abc":
            seats.take(holder, b"x")
        seats.become(2, 0)
        seats.free("a")
        self.assertEqual((seats.take("d", b"y"), len(seats)), (503, 2))
        seats.become(0, 2)
        self.assertEqual([seats.take(*pair) for pair in (("d", b"x"), ("e", b"y"))], [429, 0])
        seats.free("b")
        self.assertEqual(seats.take("d", b"x"), 0)

    def test_who_was_there_before_any_limit(self) -> None:
        """Counts, even beyond what there is now."""
        seats = Seats(2, 1)
        for holder in "abc":
            seats.keep(holder, b"x")
        seats.keep("d", b"")
        self.assertEqual((seats.take("e", b"y"), len(seats)), (503, 4))
        for holder in "abd":
            seats.free(holder)
        self.assertEqual([seats.take("e", client) for client in (b"x", b"y")], [429, 0])

    def test_nothing_is_remembered_of_who_left(self) -> None:
        """A client that comes and goes costs no memory."""
        seats = Seats(0, 1)
        for number in range(100):
            seats.take(number, b"%d" % number)
            seats.free(number)
        self.assertEqual((len(seats), len(seats._counts)), (0, 0))
