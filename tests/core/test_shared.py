"""Tests of `proxyd.core.shared`: counts that several processes keep together. Here they are objects in one."""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from proxyd.core.counting import Counting
from proxyd.core.rate import TokenBuckets
from proxyd.core.seats import Seats
from proxyd.core.shared import SharedCounting, SharedMemory, memory_bytes
from proxyd.option import Rate

KEY = b"k" * 32


def processes(count: int) -> list[SharedMemory]:
    """The same memory as each of several processes has it."""
    memory = memoryview(bytearray(memory_bytes(count)))
    return [SharedMemory(memory, count, column, KEY) for column in range(count)]


class SharedSeatsTests(TestCase):
    """Seats of two processes."""

    def setUp(self) -> None:
        self.memories = processes(2)
        self.countings = [SharedCounting(memory) for memory in self.memories]

    def test_all_processes_together_have_so_many(self) -> None:
        """Whoever gives the seats away; one that is free again is free for all."""
        one, two = (counting.seats(3, 0) for counting in self.countings)
        self.assertEqual([one.take("a", b""), two.take("b", b""), one.take("c", b"")], [0, 0, 0])
        self.assertEqual([one.take("d", b""), two.take("d", b"x")], [503, 503])
        self.assertEqual([len(one), len(two)], [2, 1])
        one.free("a")
        one.free("a")
        self.assertEqual(two.take("d", b""), 0)

    def test_a_client_has_so_many(self) -> None:
        """Wherever it sits; others, and those behind a trusted proxy, are not counted with it."""
        one, two = (counting.seats(0, 2) for counting in self.countings)
        self.assertEqual([one.take(1, b"x"), two.take(2, b"x"), one.take(3, b"x"), two.take(3, b"x")], [0, 0, 429, 429])
        self.assertEqual([one.take(number, b"") for number in range(10, 20)], [0] * 10)
        self.assertEqual([two.take(number, b"y") for number in (4, 5, 6)], [0, 0, 429])
        two.free(2)
        self.assertEqual([one.take(3, b"x"), two.take(7, b"x")], [0, 429])

    def test_what_a_process_had_is_free_when_it_is_gone(self) -> None:
        """And when it begins to count anew; what others have stays."""
        one, two = (counting.seats(0, 1) for counting in self.countings)
        self.assertEqual([one.take(1, b"x"), two.take(2, b"y")], [0, 0])
        self.memories[1].clear(0)
        self.assertEqual([two.take(3, b"x"), two.take(4, b"y")], [0, 429])
        again = self.countings[1].seats(0, 1)
        self.assertEqual([again.take(3, b"x"), again.take(4, b"y")], [0, 0])

    def test_other_limits(self) -> None:
        """Whoever has a seat keeps it and counts, for every process; so does who was there before any limit."""
        one, two = (counting.seats(2, 0) for counting in self.countings)
        self.assertEqual([one.take(1, b"x"), two.take(2, b"x")], [0, 0])
        for seats in (one, two):
            seats.become(0, 2)
        self.assertEqual([one.take(3, b"x"), two.take(3, b"x"), one.take(4, b"y")], [429, 429, 0])
        two.keep(5, b"y")
        self.assertEqual([one.take(6, b"y"), len(one), len(two)], [429, 2, 2])
        two.free(5)
        self.assertEqual(one.take(6, b"y"), 0)

    @given(
        st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 20), st.sampled_from([b"", b"x", b"y"])))
    )
    def test_it_is_as_in_one_process(self, steps: list[tuple[bool, int, int, bytes]]) -> None:
        """As long as nobody decides at the same moment."""
        shared = [counting.seats(6, 3) for counting in self.countings]
        alone = Seats(6, 3)
        held: set[tuple[int, int]] = set()
        for takes, process, holder, client in steps:
            name = (process, holder)
            if takes and name not in held:
                status = alone.take(name, client)
                self.assertEqual(shared[process].take(name, client), status)
                if not status:
                    held.add(name)
            elif not takes:
                alone.free(name)
                shared[process].free(name)
                held.discard(name)

    def test_the_memory_can_be_let_go_of(self) -> None:
        """So that the mapping can be closed."""
        self.memories[0].release()
        with self.assertRaises(ValueError):
            self.memories[0].clear(0)


class SharedBucketsTests(TestCase):
    """Buckets of two processes."""

    def setUp(self) -> None:
        self.countings = [SharedCounting(memory) for memory in processes(2)]

    def test_a_client_asks_so_often(self) -> None:
        """Whoever is asked."""
        one, two = (counting.buckets(Rate(3, 6), b"c:") for counting in self.countings)
        self.assertEqual([one.take(b"x", 100.0), two.take(b"x", 100.0), one.take(b"x", 100.0)], [0.0] * 3)
        self.assertEqual([one.take(b"x", 100.0), two.take(b"x", 101.0)], [2.0, 1.0])
        self.assertEqual([one.wait(b"x", 101.0), two.wait(b"y", 101.0)], [1.0, 0.0])
        self.assertEqual([two.take(b"x", 102.0), one.take(b"y", 102.0)], [0.0, 0.0])

    def test_limits_do_not_meet(self) -> None:
        """The same key in another limit is another bucket."""
        one, two = (self.countings[0].buckets(Rate(1, 1), name) for name in (b"a:", b"b:"))
        self.assertEqual([one.take(b"x", 5.0), two.take(b"x", 5.0), one.take(b"x", 5.0)], [0.0, 0.0, 1.0])

    def test_one_bucket_for_all(self) -> None:
        """That of a route."""
        one, two = (counting.bucket(Rate(1, 1), b"route:/a") for counting in self.countings)
        self.assertEqual([one.take(5.0), two.take(5.0), two.take(6.0)], [0.0, 1.0, 0.0])

    def test_memory_is_bounded(self) -> None:
        """Of more clients than there is room for, those are forgotten whose buckets are full again first."""
        buckets = self.countings[0].buckets(Rate(1, 1000), b"c:")
        for number in range(100_000):
            buckets.take(b"%d" % number, 1.0)
        buckets.take(b"last", 2.0)
        self.assertGreater(buckets.take(b"last", 2.0), 0.0)
        known = sum(buckets.wait(b"%d" % number, 2.0) > 0 for number in range(99_000, 100_000))
        self.assertGreater(known, 300)

    @given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([b"x", b"y"]), st.integers(0, 5))))
    def test_it_is_as_in_one_process(self, steps: list[tuple[int, bytes, int]]) -> None:
        """As long as nobody counts at the same moment."""
        shared = [SharedCounting(memory).buckets(Rate(2, 5), b"") for memory in processes(2)]
        alone = TokenBuckets(Rate(2, 5))
        now = 1000.0
        for process, key, pause in steps:
            now += pause
            self.assertAlmostEqual(shared[process].take(key, now), alone.take(key, now))


class CountingTests(TestCase):
    """What counts in one process."""

    def test_it_makes_what_is_asked_for(self) -> None:
        """Seats and buckets with these limits."""
        counting = Counting()
        seats = counting.seats(1, 0)
        self.assertEqual([seats.take(1, b""), seats.take(2, b"")], [0, 503])
        buckets = counting.buckets(Rate(1, 1), b"")
        self.assertEqual([buckets.take(b"x", 1.0), buckets.take(b"y", 1.0), buckets.wait(b"x", 1.0)], [0.0, 0.0, 1.0])
        bucket = counting.bucket(Rate(1, 1), b"")
        self.assertEqual([bucket.take(1.0), bucket.take(1.0)], [0.0, 1.0])

    def test_what_is_used_up_stays_so(self) -> None:
        """Who asks for the same name and rate again gets what was there; another name or rate is a full bucket."""
        counting = Counting()
        counting.bucket(Rate(1, 9), b"a").take(1.0)
        counting.buckets(Rate(1, 9), b"a").take(b"x", 1.0)
        cases = [(b"a", 1, 9.0), (b"b", 1, 0.0), (b"a", 2, 0.0), (b"a", 1, 0.0)]
        for name, amount, wait in cases:
            self.assertEqual(counting.bucket(Rate(amount, 9), name).wait(1.0), wait, name)
            self.assertEqual(counting.buckets(Rate(amount, 9), name).wait(b"x", 1.0), wait, name)

    def test_not_everything_is_remembered(self) -> None:
        """Of very many names, those that were asked for last."""
        counting = Counting()
        for make, count in ((counting.bucket, 10_000), (counting.buckets, 100)):
            first, second = make(Rate(1, 9), b"first"), make(Rate(1, 9), b"second")
            for number in range(count - 2):
                make(Rate(1, 9), b"%d" % number)
            self.assertIs(make(Rate(1, 9), b"first"), first)
            make(Rate(1, 9), b"last")
            self.assertIs(make(Rate(1, 9), b"first"), first)
            self.assertIsNot(make(Rate(1, 9), b"second"), second)
