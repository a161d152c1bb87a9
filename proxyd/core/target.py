"""Request targets (RFC 9112 §3.2): what a route is looked up by, and what the upstream gets to see.

Both come from the same dot-resolved path, so that proxy and upstream cannot disagree on where a request goes:
the route's key is that path decoded exactly once; the upstream gets it raw, never decoded and encoded again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from proxyd.core import scan
from proxyd.core.head import is_authority
from proxyd.errors import RequestError

_ABSOLUTE = re.compile(rb"(?i:https?|wss?)://([^/?#]*)")
_MALFORMED_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DOTS = {b".": 1, b"%2e": 1, b"..": 2, b".%2e": 2, b"%2e.": 2, b"%2e%2e": 2}


def not_plain(_: bytes) -> tuple[bytes, bytes, tuple[str, ...]] | None:
    """Take no target for a plain one."""
    return None


plain_target = not_plain if scan.plain_target is None else scan.plain_target
"""What `split_target`, `decode_path` and `key_of` make of a target, if it is a plain path; None for all others."""


def split_target(target: bytes, *, lenient: bool = False) -> tuple[bytes, bytes]:
    """Split a request target into its dot-resolved raw path and its query with the `?` (empty if there is none).

    The authority of an absolute form is dropped; see `authority_of`. `lenient` drops a fragment and lets quotes and
    angle brackets pass. Raises `RequestError`.
    """
    if target[:1] != b"/":
        target = _origin_form(target)
    path, question, query = target.partition(b"?")
    if b"#" in target or b"<" in target or b'"' in target or b">" in target:
        if not lenient:
            raise RequestError(400, "there is a character in the target that has to be percent-encoded")
        path, question, query = target.partition(b"#")[0].partition(b"?")
    if b"\\" in path:
        raise RequestError(400, "there is a backslash in the path")
    if b"/." in path or b"%2" in path:
        path = resolve_dots(path)
    return path, question + query


def authority_of(target: bytes) -> bytes:
    """The authority of a target in absolute form, which counts in place of Host (RFC 9112 §3.2.2); empty for others."""
    match = _ABSOLUTE.match(target)
    return b"" if match is None else match[1]


def _origin_form(target: bytes) -> bytes:
    match = _ABSOLUTE.match(target)
    if match is None:
        raise RequestError(400, "the target is neither a path nor an http URL")
    if not match[1] or not is_authority(match[1]):
        raise RequestError(400, "the authority of the target is not a host with an optional port")
    rest = target[match.end() :]
    return rest if rest[:1] == b"/" else b"/" + rest


def resolve_dots(path: bytes) -> bytes:
    """Resolve `.` and `..`, percent-encoded or not (RFC 3986 §5.2.4); everything else stays as it is."""
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for index, segment in enumerate(segments):
        dots = _DOTS.get(segment.lower()) if len(segment) <= 6 else None
        if dots is None:
            kept.append(segment)
            continue
        if dots == 2 and kept:
            kept.pop()
        if index == len(segments) - 1:
            kept.append(b"")
    return b"/" + b"/".join(kept)


def decode_path(path: bytes) -> str:
    """Decode a raw path once.

    Raises `RequestError` if an escape is malformed or the result is not UTF-8.
    """
    try:
        if b"%" not in path:
            return path.decode()
        if _MALFORMED_ESCAPE.search(path):
            raise RequestError(400, "there is a malformed percent escape in the path")
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise RequestError(400, "the path is not UTF-8") from None


def decode_loosely(path: bytes) -> str:
    """Decode a raw path once; bytes that are not UTF-8 become lone surrogates, so that nothing is lost or mistaken.

    Raises `RequestError` if an escape is malformed.
    """
    if _MALFORMED_ESCAPE.search(path):
        raise RequestError(400, "there is a malformed percent escape in the path")
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")


def key_of(path: str) -> tuple[str, ...]:
    """The segments of a decoded path, without leading and trailing slashes; inner empty segments count."""
    path = path.strip("/")
    return tuple(path.split("/")) if path else ()


def strip_segments(path: bytes, count: int) -> bytes:
    """Raw `path` without its first `count` decoded segments; never empty.

    An escaped slash separates segments, as it does in a key; leading slashes belong to none. A dot segment that
    stood behind an escaped slash, and now stands by itself, is resolved: the upstream would do it, and so get out
    of a path that is put in front.
    """
    position = 0
    size = len(path)
    while position < size and (skip := _slash_at(path, position)):
        position += skip
    for number in range(count):
        if number:
            position += _slash_at(path, position)
        while position < size and not _slash_at(path, position):
            position += 1
    rest = b"/" + path[position + _slash_at(path, position) :]
    return resolve_dots(rest) if b"/." in rest or b"/%2" in rest else rest


def _slash_at(path: bytes, position: int) -> int:
    if path[position : position + 1] == b"/":
        return 1
    return 3 if path[position : position + 3].lower() == b"%2f" else 0


@lru_cache(maxsize=1024)
def host_of(authority: bytes) -> str:
    """The host of a valid Host value as routes have it: lower-case, without port and final dot."""
    host, colon, port = authority.rpartition(b":")
    if not colon or port.endswith(b"]"):
        host = authority
    return host.decode("latin-1").lower().removesuffix(".")
