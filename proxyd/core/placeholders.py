"""The words of a wrapped command, and what `{port}` and its like stand for in them (contract of jhsingle-native-proxy).

Plain replacement: what stands between braces is one of a few names, and nothing is looked up in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from proxyd.errors import TemplateError

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def names_in(word: str, known: Iterable[str]) -> frozenset[str]:
    """The names that `word` asks for.

    Raises `TemplateError` for one that is none of the `known`, and for a brace that belongs to nothing.
    """
    found: set[str] = set()
    for match in _PIECE.finditer(word):
        if match[0] in ("{{", "}}"):
            continue
        if match[1] is None or match[1] not in known:
            names = ", ".join(f"{{{name}}}" for name in known)
            raise TemplateError(f"{word!r}: {match[0]} is none of {names} (a brace that is meant is doubled)")
        found.add(match[1])
    return frozenset(found)


def fill(word: str, values: Mapping[str, str]) -> str:
    """`word` with `values` in place of their names.

    Raises `TemplateError` as `names_in` does.
    """
    names_in(word, values)
    return _PIECE.sub(lambda match: match[0][0] if match[1] is None else values[match[1]], word)


def template_of(word: str, values: Mapping[str, str], kept: Iterable[str]) -> str:
    """`word` as a template of a managed server: with `values` in it, and the names of `kept` left for later.

    Raises `TemplateError` as `names_in` does.
    """
    names_in(word, (*values, *kept))

    def replace(match: re.Match[str]) -> str:
        return match[0] if match[1] is None or match[1] not in values else literal(values[match[1]])

    return _PIECE.sub(replace, word)


def literal(text: str) -> str:
    """`text` as a template that renders to it."""
    return text.replace("{", "{{").replace("}", "}}")
