"""Where a Hub wants people to arrive (JUPYTERHUB_DEFAULT_URL)."""

from __future__ import annotations

import re
from urllib.parse import quote

_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\x7f\\]*")


def landing_path(prefix: str, default_url: str) -> str:
    """`default_url` as a path below `prefix`, which it may have or lack; empty for the prefix itself, and for no path.

    It never leads to another host.
    """
    if not _PATH.fullmatch(default_url):
        return ""
    path = quote(default_url, safe="/:@!$&'()*+,;=~?%[]#")
    path = path if path.startswith(prefix) else prefix + path[1:]
    return "" if path == prefix else path
