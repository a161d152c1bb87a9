"""Functions that a proxy under test calls."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def shout(response: Any, port: str, path: str) -> None:
    """Answer in capitals, and tell who answers."""
    response.body = f"{response.body.decode().upper()} {port} {path}".encode()


def is_named(handler: Any, host: str) -> bool:
    """Let those in who say so themselves."""
    return bool(handler.request.headers.get("X-Let-Me") == host)


def stall(handler: Any) -> bool:
    """Do not come back, and leave a file that says so in the directory of the proxy."""
    Path("stalled").touch()
    time.sleep(86400)
    return True
