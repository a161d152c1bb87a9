"""The standard streams, which a process may have been started without."""

from __future__ import annotations

import os
import sys


def open_missing_streams() -> None:
    """Have `/dev/null` in place of each standard stream that is closed, so that no socket takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free: that of the stream, unless somebody was faster.
            stream = os.fdopen(os.open(os.devnull, os.O_RDWR), mode)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
