"""What the definition of a managed server says of one request: whose it may be, what it counts for, where it leads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import attrs

from proxyd.core.forward import Peer
from proxyd.core.head import RequestHead
from proxyd.core.origin import is_foreign
from proxyd.core.target import decode_loosely, resolve_dots, strip_segments
from proxyd.core.templates import Names, ask, render_pairs
from proxyd.errors import OptionError, TemplateError
from proxyd.model.routes import check_field
from proxyd.model.servers import ServerSpec
from proxyd.option import Function

# RFC 3986 §3.3, §3.4: what stands for itself in a path and in a query. A query keeps its escapes.
_IN_PATH = "/:@!$&'()*+,;=~"
_IN_QUERY = _IN_PATH + "?%"


def takes_origin(head: RequestHead, peer: Peer, allowed: Iterable[str]) -> bool:
    """Whether a WebSocket may be opened from where this handshake comes from: here, or one of the `allowed` origins."""
    if not is_foreign(head, peer):
        return True
    known = {origin.rstrip("/").lower().encode() for origin in allowed}
    origins = head.get_all(b"origin")
    return b"*" in known or (bool(origins) and all(origin.lower() in known for origin in origins))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def counts(spec: ServerSpec, path: bytes) -> bool:
    """Whether a request for the raw `path`, the client's own, is activity; False as long as a function decides."""
    if spec.update_last_activity is not True:
        return False
    text = path.decode("latin-1")
    return not any(_compiled(pattern).match(text) for pattern in spec.exclude_last_activity_patterns)


def override(spec: ServerSpec, names: Names) -> dict[str, str]:
    """The fields that are set in each request.

    A function among them may block. Raises `TemplateError`.
    """
    fields = render_pairs(spec.request_headers_override, names, "request_headers_override")
    for name, value in fields.items():
        try:
            check_field(name, value)
        except OptionError as error:
            raise TemplateError(f"request_headers_override: {error}") from None
    return fields


@attrs.frozen(kw_only=True)
class Decisions:
    """What the functions of a definition have decided on one request.

    `counts`: it is activity. `path` is the one that the server gets in place of the stripped one, None for that.
    `fields` are set, None if nobody was asked. `buffers`: the response is collected before it is passed on.
    """

    counts: bool
    path: str | None
    fields: Mapping[str, str] | None
    buffers: bool


def has_functions(spec: ServerSpec, *, is_handshake: bool) -> bool:
    """Whether there is anybody to ask on a request."""
    asked: tuple[object, ...] = (spec.update_last_activity,)
    if not spec.raw_socket_proxy:  # nothing of a handshake gets to such a server
        asked += (spec.request_headers_override,)
    if not is_handshake:
        asked += (spec.mappath, spec.progressive)
    return any(isinstance(each, Function) for each in asked)


def decide(spec: ServerSpec, names: Names, path: str, handler: Any, *, is_handshake: bool) -> Decisions:
    """Ask the functions of `spec`, which may block.

    `names` are those of the place, `path` is the decoded path that the server would get; `handler` has the `request`
    of the client. Raises `TemplateError`.
    """
    activity, progressive = spec.update_last_activity, spec.progressive
    own = counts(spec, handler.request.path.encode("latin-1"))
    fields = None
    if isinstance(spec.request_headers_override, Function) and not spec.raw_socket_proxy:
        fields = override(spec, names)
    buffers = spec.progressive is False
    if isinstance(progressive, Function) and not is_handshake:
        accept = handler.request.headers.get("Accept", "")
        buffers = not ask(progressive, {"accept_header": accept, "path": path})
    return Decisions(
        counts=bool(_call(activity, handler)) if isinstance(activity, Function) else own,
        path=None if is_handshake else map_path(spec, path),
        fields=fields,
        buffers=buffers,
    )


def _call(function: Function, handler: object) -> object:
    """What `update_last_activity` says; its only argument may have any name."""
    try:
        return function.call(handler)
    except Exception as error:
        raise TemplateError(f"{function.name}: {type(error).__name__}: {error}") from error


def stripped_path(path: bytes, depth: int) -> str:
    """The raw `path` of a client without its first `depth` segments, decoded; see `decode_loosely`.

    Raises `RequestError`.
    """
    return decode_loosely(strip_segments(path, depth))


def map_path(spec: ServerSpec, path: str) -> str | None:
    """What `mappath` makes of a decoded path, None if it stays; a function may block.

    Raises `TemplateError`.
    """
    mappath = spec.mappath
    mapped = ask(mappath, {"path": path}) if isinstance(mappath, Function) else mappath.get(path, path)
    if not isinstance(mapped, str):
        raise TemplateError(f"mappath: expected text, got a value of the type {type(mapped).__name__}")
    return None if mapped == path else mapped


def mapped_target(mapped: str, query: bytes) -> tuple[bytes, bytes]:
    """The raw path and the query for a result of `mappath`, which may have a query of its own; `query` has its `?`."""
    path, _, own = mapped.partition("?")
    raw = _quoted("/" + path.removeprefix("/"), _IN_PATH)
    parts = [_quoted(own, _IN_QUERY), query[1:]]
    joined = b"&".join(part for part in parts if part)
    return resolve_dots(raw), b"?" + joined if joined else b""


def _quoted(text: str, safe: str) -> bytes:
    """`text` with escapes; what `decode_loosely` could not read is what it was."""
    try:
        return quote(text, safe=safe, errors="surrogateescape").encode()
    except UnicodeEncodeError:
        return quote(text, safe=safe, errors="replace").encode()
