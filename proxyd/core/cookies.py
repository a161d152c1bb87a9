"""Cookies as a proxy sees them (RFC 6265): read leniently, taken out without touching the others, set strictly."""

from __future__ import annotations

from collections.abc import Collection, Iterable

_BLANKS = b" \t"


def cookies_in(values: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """The pairs in the values of Cookie fields, in order; of one name there may be several."""
    pairs = []
    for value in values:
        for part in value.split(b";"):
            name, equals, content = part.partition(b"=")
            if equals:
                pairs.append((name.strip(_BLANKS), content.strip(_BLANKS).strip(b'"')))
    return pairs


def without_cookies(value: bytes, names: Collection[bytes]) -> bytes:
    """The value of a Cookie field without the pairs of `names`; empty if nothing is left."""
    kept = [part for part in value.split(b";") if part.partition(b"=")[0].strip(_BLANKS) not in names]
    return b";".join(kept).strip(_BLANKS)


def set_cookie(name: bytes, value: bytes, path: bytes, *, secure: bool, max_age: int) -> bytes:
    """The value of a Set-Cookie field for a cookie that scripts and other sites do not get; `max_age` 0 deletes it."""
    attributes = b"; Secure" if secure else b""
    return b"%b=%b; Path=%b; Max-Age=%d; HttpOnly; SameSite=Lax%b" % (name, value, path, max_age, attributes)
