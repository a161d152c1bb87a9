"""When something last happened on a route (contract of configurable-http-proxy, section 10)."""

from __future__ import annotations

from datetime import UTC, datetime


def is_activity(status: int) -> bool:
    """Whether a response with this status shows that somebody is at work: 2xx and interim ones."""
    return status < 300


def timestamp(seconds: float) -> str:
    """Seconds since the epoch -> `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    moment = datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse_timestamp(text: str) -> float:
    """ISO 8601 -> seconds since the epoch.

    Without a zone, a date alone is UTC; a date with a time is local. Raises `ValueError`.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None and "T" not in text and " " not in text:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
