"""When something last happened on a route."""

from __future__ import annotations

import os
import re
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.activity import is_activity, parse_timestamp, timestamp


class ActivityTests(SynchronousTestCase):
    """Times, as the API has them."""

    def test_only_success_is_activity(self) -> None:
        """Interim and 2xx responses show that somebody is at work; redirects and errors do not."""
        for status, expected in (
            (100, True),
            (101, True),
            (200, True),
            (299, True),
            (300, False),
            (404, False),
            (503, False),
        ):
            self.assertEqual(is_activity(status), expected, str(status))

    def test_timestamps_have_milliseconds_and_a_zone(self) -> None:
        """Times are written in UTC with three digits and `Z`, rounded to the millisecond."""
        for seconds, expected in (
            (0, "1970-01-01T00:00:00.000Z"),
            (0.001, "1970-01-01T00:00:00.001Z"),
            (1.9994, "1970-01-01T00:00:01.999Z"),
            (1.9996, "1970-01-01T00:00:02.000Z"),
            (951782399.29, "2000-02-28T23:59:59.290Z"),
            (1795166344.842, "2026-11-20T09:19:04.842Z"),
        ):
            self.assertEqual(timestamp(seconds), expected, str(seconds))

    def test_timestamps_are_parsed(self) -> None:
        """ISO 8601 with a zone, or a date alone, which is UTC."""
        for text, expected in (
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.500Z", 0.5),
            ("1970-01-01T00:00:00+00:00", 0),
            ("1970-01-01T02:00:00+01:00", 3600),
            ("1970-01-01T00:00:00-01:30", 5400),
            ("1970-01-01 00:00:01+00:00", 1),
            ("1970-01-01T00:01Z", 60),
            ("1970-01-02", 86400),
            ("19700102", 86400),
        ):
            self.assertEqual(parse_timestamp(text), expected, text)

    def test_time_without_a_zone_is_local(self) -> None:
        """A date with a time but no zone counts in the zone of this machine, a date alone does not."""
        before = os.environ.get("TZ")
        self.addCleanup(self.set_zone, before)
        self.set_zone("UTC-2")  # POSIX counts westwards: two hours east of Greenwich
        for text in ("1970-01-01T03:00:00", "1970-01-01 03:00:00", "1970-01-01T03:00"):
            self.assertEqual(parse_timestamp(text), 3600, text)
        self.assertEqual(parse_timestamp("1970-01-02"), 86400)

    def set_zone(self, zone: str | None) -> None:
        """Change the zone of this process."""
        if zone is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = zone
        time.tzset()

    def test_what_is_no_time_is_refused(self) -> None:
        """Anything else raises `ValueError`."""
        for text in (
            "",
            "x",
            "yesterday",
            "1970",
            "1970-13-01",
            "1970-01-01T25:00:00",
            "1970-01-01T00:00:00Q",
            "0",
            "-1",
        ):
            self.assertRaises(ValueError, parse_timestamp, text)

    @given(st.integers(0, 2**32 * 1000))
    def test_timestamps_survive_the_round_trip(self, milliseconds: int) -> None:
        """What is written is read back, to the millisecond, and sorts as it should."""
        text = timestamp(milliseconds / 1000)
        self.assertIsNotNone(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text), text)
        self.assertEqual(round(parse_timestamp(text) * 1000), milliseconds, text)
        self.assertLess(text, timestamp(milliseconds / 1000 + 0.001))
