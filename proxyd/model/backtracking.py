"""How long a regular expression may take: `re` has no time-out, and paths come from strangers.

A match that fails goes back into every repeat that could have taken another number of characters, and reads on from
there. With one such repeat that is the length of the path times what follows: some 100 ms for 8 KiB at the very worst.
With two it is seconds, and with a repeat within a repeat it is for ever.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import _constants as ops  # type: ignore[attr-defined]  # the only way to see the parts of an expression
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from proxyd.errors import OptionError

# A repeat that may take this much more or less is as good as an unbounded one.
_FEW = 16
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT)
_SINGLES = (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN, ops.CATEGORY)

_CATEGORIES = {
    ops.CATEGORY_DIGIT: rb"\d",
    ops.CATEGORY_NOT_DIGIT: rb"\D",
    ops.CATEGORY_SPACE: rb"\s",
    ops.CATEGORY_NOT_SPACE: rb"\S",
    ops.CATEGORY_WORD: rb"\w",
    ops.CATEGORY_NOT_WORD: rb"\W",
}

Part = tuple[Any, Any]


def check_backtracking(pattern: bytes) -> None:
    """Refuse a valid expression whose time could grow faster than the length of the path.

    Raises `OptionError`.
    """
    parsed = parser.parse(pattern)
    if _Measure(ignores_case=bool(parsed.state.flags & re.IGNORECASE)).sequence(list(parsed), is_end=True) > 1:
        raise OptionError(
            "more than one repeat has to be tried in every length when a path does not match; let them end at a "
            "character that they do not take, as in `[^/]*/`, or make them possessive, as in `.*+`"
        )


class _Measure:
    """Adds up the repeats that can be gone back into."""

    def __init__(self, *, ignores_case: bool) -> None:
        self._ignores_case = ignores_case

    def sequence(self, parts: Sequence[Part], *, is_end: bool) -> int:
        """How many there are in `parts`; nothing comes behind them if `is_end`."""
        total = 0
        for index, part in enumerate(parts):
            rest = parts[index + 1 :]
            total += self._part(part, rest, is_end=is_end and not rest)
        return total

    def _part(self, part: Part, rest: Sequence[Part], *, is_end: bool) -> int:
        op, value = part
        if op in _REPEATS:
            return self._repeat(value, rest, is_end=is_end)
        if op in (ops.POSSESSIVE_REPEAT, ops.ATOMIC_GROUP):
            # Left once, never entered again.
            inner = self.sequence(list(value[2] if op is ops.POSSESSIVE_REPEAT else value), is_end=False)
            return inner if inner > 1 else 0
        if op is ops.SUBPATTERN:
            body = list(value[3])
            # A group around a repeat does not change what comes behind it.
            if len(body) == 1 and body[0][0] in _REPEATS:
                return self._repeat(body[0][1], rest, is_end=is_end)
            return self.sequence(body, is_end=is_end)
        if op is ops.BRANCH:
            return max(self.sequence(list(branch), is_end=is_end) for branch in value[1])
        if op in (ops.ASSERT, ops.ASSERT_NOT):
            return self.sequence(list(value[1]), is_end=False)
        if op is ops.GROUPREF_EXISTS:
            return max(self.sequence(list(branch), is_end=is_end) for branch in value[1:] if branch is not None)
        return 0

    def _repeat(self, value: Any, rest: Sequence[Part], *, is_end: bool) -> int:
        least, most, body = value
        body = list(body)
        if len(body) == 1 and body[0][0] in _SINGLES:
            if most - least <= _FEW or is_end or self._ends_before(body[0], rest):
                return 0
            return 1
        if most <= 1:
            return self.sequence(body, is_end=is_end)
        if most <= _FEW:
            return int(most) * self.sequence(body, is_end=False)
        # Of a longer body each turn has to be told from the next one without going back.
        return 1 if _is_fixed(body) else 2

    def _ends_before(self, single: Part, rest: Sequence[Part]) -> bool:
        """Whether the repeat of `single` has to end where the literal behind it begins."""
        if not rest or rest[0][0] is not ops.LITERAL or self._ignores_case:
            return False
        return not _takes(single, rest[0][1])


def _is_fixed(parts: Sequence[Part]) -> bool:
    """Whether there is one way only to read `parts`."""
    return all(
        op in _SINGLES or (op is ops.SUBPATTERN and _is_fixed(list(value[3]))) or op is ops.AT for op, value in parts
    )


def _takes(single: Part, code: int) -> bool:
    op, value = single
    if op is ops.LITERAL:
        return bool(value == code)
    if op is ops.NOT_LITERAL:
        return bool(value != code)
    if op is ops.IN:
        negated = value[0][0] is ops.NEGATE
        return any(_takes_item(item, code) for item in value[negated:]) != negated
    return True


def _takes_item(item: Part, code: int) -> bool:
    op, value = item
    if op is ops.RANGE:
        return bool(value[0] <= code <= value[1])
    if op is ops.CATEGORY:
        return re.fullmatch(_CATEGORIES[value], bytes((code,))) is not None
    return bool(value == code)
