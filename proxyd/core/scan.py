"""The functions of `_scan.c`, where it could be compiled; else None in place of each.

They take plain cases only, and give back None for the others: whoever calls them goes on in Python then, and does so
as well where there are none.
"""

from __future__ import annotations

try:
    from proxyd.core import _scan
except ImportError:
    _scan = None  # type: ignore[assignment]  # there was no compiler

read_request = None if _scan is None else _scan.read_request
read_response = None if _scan is None else _scan.read_response
plain_target = None if _scan is None else _scan.plain_target
combined_line = None if _scan is None else _scan.combined_line
