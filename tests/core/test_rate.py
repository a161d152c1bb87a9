"""Tests of `proxyd.core.rate`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.rate import TokenBucket, TokenBuckets
from proxyd.option import Rate


class TokenBucketTests(SynchronousTestCase):
    """One bucket."""

    def test_as_many_at_once_as_the_rate_counts(self) -> None:
        """And not one more, whatever the rate."""
        for rate in (Rate(1, 1), Rate(3, 1), Rate(7, 60), Rate(10, 1), Rate(600, 60), Rate(1000, 3600)):
            bucket = TokenBucket(rate)
            self.assertEqual([bucket.take(1e6) for _ in range(rate.amount)], [0.0] * rate.amount, rate)
            self.assertGreater(bucket.take(1e6), 0, rate)

    def test_tokens_come_back_evenly(self) -> None:
        """Whoever waits for as long as they are told gets one, and only one."""
        bucket = TokenBucket(Rate(4, 2))
        for _ in range(4):
            bucket.take(100.0)
        wait = bucket.take(100.0)
        self.assertAlmostEqual(wait, 0.5, 6)
        self.assertGreater(bucket.take(100.4), 0)
        self.assertEqual(bucket.take(100.0 + wait), 0)
        self.assertAlmostEqual(bucket.take(100.0 + wait), 0.5, 6)

    def test_a_refusal_costs_nothing(self) -> None:
        """Asking again and again does not make the wait longer."""
        bucket = TokenBucket(Rate(1, 10))
        bucket.take(0.0)
        for _ in range(100):
            bucket.take(1.0)
        self.assertAlmostEqual(bucket.wait(1.0), 9.0, 6)

    def test_silence_saves_no_more_than_a_bucket(self) -> None:
        """After a day there are as many as in the beginning."""
        bucket = TokenBucket(Rate(2, 1))
        bucket.take(0.0)
        taken = [bucket.take(86400.0) for _ in range(3)]
        self.assertEqual([wait == 0 for wait in taken], [True, True, False])

    def test_the_rate_holds_over_time(self) -> None:
        """Ten in a second are a hundred in ten, and the burst once."""
        bucket = TokenBucket(Rate(10, 1))
        taken = sum(bucket.take(5.0 + step / 100) == 0 for step in range(1001))
        self.assertIn(taken, (109, 110))


class TokenBucketsTests(SynchronousTestCase):
    """A bucket for each key."""

    def test_keys_do_not_share(self) -> None:
        """What one takes is not missing for another."""
        buckets = TokenBuckets(Rate(1, 1))
        self.assertEqual((buckets.take(b"a", 0.0), buckets.take(b"b", 0.0)), (0, 0))
        self.assertGreater(buckets.take(b"a", 0.0), 0)
        self.assertGreater(buckets.wait(b"a", 0.0), 0)
        self.assertEqual((buckets.wait(b"a", 1.0), buckets.wait(b"c", 0.0)), (0, 0))

    def test_memory_is_bounded(self) -> None:
        """The one that has been silent for longest goes; the one that keeps asking stays."""
        buckets = TokenBuckets(Rate(1, 1000), capacity=3)
        for number in range(50):
            buckets.take(b"%d" % number, 0.0)
            buckets.take(b"busy", 0.0)
            self.assertLessEqual(len(buckets), 3)
        self.assertGreater(buckets.wait(b"busy", 0.0), 0)
        self.assertEqual(buckets.wait(b"0", 0.0), 0)
