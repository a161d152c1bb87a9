"""When something last happened on a route (contract of configurable-http-proxy, section 10)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def is_activity(status: int) -> bool:
    """Whether a response with this status shows that somebody is at work: 2xx and interim ones."""
    return status < 300


def timestamp(seconds: float) -> str:
    """Seconds since the epoch -> `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{_moment(whole)}.{milliseconds:03d}Z"


@lru_cache(maxsize=256)  # many routes come, or are used, within one second
def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_timestamp(text: str) -> float:
    """ISO 8601 -> seconds since the epoch.

    Without a zone, a date alone is UTC; a date with a time is local. Raises `ValueError`.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None and "T" not in text and " " not in text:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
