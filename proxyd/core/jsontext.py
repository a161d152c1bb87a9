"""JSON as the API reads it: objects only, and large ones member by member."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from proxyd.errors import RequestError


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_BLANK = re.compile(r"[ \t\n\r]*")
# Whoever reads, merges or shows it later has less of the interpreter's stack left than who reads it first.
_MOST_LEVELS = 200


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is.

    Raises `RequestError` 400.
    """
    text = _text(body)
    try:
        posted = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise _no_json(error) from None
    if not isinstance(posted, dict):
        raise RequestError(400, "the body has to be a JSON object")
    refuse_depth(posted, text)
    return posted


def refuse_depth(value: Any, text: str) -> None:
    """Refuse a `value` with too many levels of objects and arrays; `text` is its JSON.

    Raises `RequestError` 400.
    """
    if text.count("{") + text.count("[") <= _MOST_LEVELS:
        return
    level = [value]
    for _ in range(_MOST_LEVELS + 1):
        level = [each for each in level if isinstance(each, (dict, list))]
        if not level:
            return
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    raise RequestError(400, f"JSON with more than {_MOST_LEVELS} levels of objects and arrays")


def read_members(body: bytes) -> Iterator[tuple[str, Any]]:
    """The members of the JSON object that a body is, one after the other; a name may come twice.

    Raises `RequestError` 400, as late as it finds what is wrong.
    """
    text = _text(body)
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        raise RequestError(400, "the body has to be a JSON object")
    try:
        position = _skip(text, position + 1)
        is_over = text[position : position + 1] == "}"
        while not is_over:
            if text[position : position + 1] != '"':
                raise json.JSONDecodeError("Expecting a name in double quotes", text, position)
            name, position = _DECODER.raw_decode(text, position)
            position = _skip(text, position)
            if text[position : position + 1] != ":":
                raise json.JSONDecodeError("Expecting ':'", text, position)
            value, position = _DECODER.raw_decode(text, _skip(text, position + 1))
            yield name, value
            position = _skip(text, position)
            is_over = text[position : position + 1] == "}"
            if not is_over:
                if text[position : position + 1] != ",":
                    raise json.JSONDecodeError("Expecting ',' or '}'", text, position)
                position = _skip(text, position + 1)
        position = _skip(text, position + 1)
        if position != len(text):
            raise json.JSONDecodeError("Extra data", text, position)
    except (ValueError, RecursionError) as error:
        raise _no_json(error) from None


def merge(target: Any, patch: Any) -> Any:
    """What JSON merge patch makes of `target` (RFC 7396 §2); both stay as they are."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def _text(body: bytes) -> str:
    if not body:
        raise RequestError(400, "the body is empty: a JSON object is expected")
    try:
        return body.decode("utf-8")
    except ValueError as error:
        raise _no_json(error) from None


def _skip(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match is not None else position


def _no_json(error: Exception) -> RequestError:
    return RequestError(400, f"the body is not JSON: {error}")
