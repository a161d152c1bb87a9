"""Where a Hub wants people to arrive (JUPYTERHUB_DEFAULT_URL)."""

from __future__ import annotations

import re
from urllib.parse import quote

# Not `//host` or `scheme://host`, which would be somewhere else.
_PATH = re.compile(r"/?(?![/\\]|[A-Za-z][A-Za-z0-9+.-]*://)[^\x00-\x1f\x7f\\]*")


def landing_path(prefix: str, default_url: str) -> str:
    """`default_url` as a path below `prefix`, which it may have or lack; empty for the prefix itself, and for no path.

    It never leads to another host.
    """
    if not _PATH.fullmatch(default_url):
        return ""
    path = quote(default_url, safe="/:@!$&'()*+,;=~?%[]#")
    path = path if path.startswith(prefix) else prefix + path.removeprefix("/")
    # What only adds a query or a fragment leads to the prefix again, and for ever.
    return "" if re.split("[?#]", path, maxsplit=1)[0] == prefix else path


def with_query(landing: bytes, query: bytes) -> bytes:
    """A landing with the `query` of a request, its `?` included, besides what it has itself."""
    path, mark, fragment = landing.partition(b"#")
    if b"?" in path and len(query) > 1:
        query = b"&" + query[1:]
    return path + query + mark + fragment
