"""One spelling for a prefix: cookies are bound to a path as it is written, not to what it means."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes


def regular_target(target: bytes, prefix: bytes) -> bytes | None:
    """`target` with its beginning spelt as in `prefix`, if it means the same but is spelt in another way.

    `prefix` ends with a slash; one that `target` lacks at its end counts as another spelling. None: there is nothing
    to change.
    """
    path, mark, query = target.partition(b"?")
    if path.startswith(prefix):
        return None
    count = prefix.count(b"/")
    parts = path.split(b"/", count)
    own = prefix.split(b"/")[:-1]
    if list(map(unquote_to_bytes, parts[:count])) != list(map(unquote_to_bytes, own)):
        return None
    return prefix + b"".join(parts[count:]) + mark + query
