"""What a request makes its effect depend on: the entity tags that its client knows (RFC 9110 §13.1)."""

from __future__ import annotations

import re

import attrs

from proxyd.errors import RequestError

_TAG = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_ITEM = rb"[ \t]*(?:%b[ \t]*)?" % _TAG.pattern
_LIST = re.compile(rb"%b(?:,%b)*" % (_ITEM, _ITEM))
_ANY = b"*"


@attrs.frozen
class Conditions:
    """The values of If-Match and If-None-Match, as lists of (is weak, tag), or `*`; None: there is no such field."""

    match: list[tuple[bool, bytes]] | bytes | None
    none_match: list[tuple[bool, bytes]] | bytes | None

    @classmethod
    def read(cls, match: list[bytes], none_match: list[bytes]) -> Conditions:
        """Read the values of all fields If-Match and If-None-Match.

        Raises `RequestError` 400 for what is no list of entity tags.
        """
        return cls(_read("If-Match", match), _read("If-None-Match", none_match))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.match is not None or self.none_match is not None

    def allow(self, tag: bytes | None) -> bool:
        """Whether something may be changed whose tag is `tag`; None: it does not exist."""
        return self._match_holds(tag) and not self.is_known(tag)

    def is_known(self, tag: bytes | None) -> bool:
        """Whether If-None-Match tells that the client has what is asked for."""
        known = self.none_match
        if tag is None or known is None or isinstance(known, bytes):
            return tag is not None and known is not None
        return any(tag == each for _, each in known)

    def _match_holds(self, tag: bytes | None) -> bool:
        wanted = self.match
        if wanted is None or isinstance(wanted, bytes):
            return wanted is None or tag is not None
        return (False, tag) in wanted  # the strong comparison of RFC 9110 §8.8.3.2: a weak tag matches nothing


def _read(name: str, values: list[bytes]) -> list[tuple[bool, bytes]] | bytes | None:
    if not values:
        return None
    value = b",".join(values)
    if value.strip(b" \t") == _ANY:
        return _ANY
    tags = [(bool(match[1]), match[2]) for match in _TAG.finditer(value)]
    if not tags or not _LIST.fullmatch(value):
        raise RequestError(400, f"{name} has to be * or a list of entity tags")
    return tags
