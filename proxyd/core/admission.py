"""What an admission changes: in the request that the upstream gets, and in the response that the client gets."""

from __future__ import annotations

from urllib.parse import quote_plus, unquote_to_bytes

from proxyd.core.cookies import without_cookies
from proxyd.core.head import folded
from proxyd.model.auth import Admit


def admitted_fields(fields: list[bytes], admit: Admit) -> list[bytes]:
    """The lines of a request's `fields` as the upstream gets them."""
    strip = admit.strip
    kept = fields
    if strip.cookies:
        kept = [line for line in (_cookie_line(line, strip.cookies) for line in kept) if line]
    if strip.fields or admit.add:
        # Applications that fold `_` and `-` must not read a forgery in its place.
        names = strip.fields | {folded(name) for name, _ in admit.add}
        kept = [line for line in kept if folded(line.partition(b":")[0]) not in names]
        kept += [b"%b: %b" % pair for pair in admit.add]
    return kept


def _cookie_line(line: bytes, names: frozenset[bytes]) -> bytes:
    name, _, value = line.partition(b":")
    if name.lower() != b"cookie":
        return line
    kept = without_cookies(value, names)
    return b"%b: %b" % (name, kept) if kept else b""


def admitted_query(query: bytes, admit: Admit) -> bytes:
    """A `query` with its `?` as the upstream gets it; empty if nothing of it is left."""
    names = admit.strip.arguments
    kept = query[1:].split(b"&") if len(query) > 1 else []
    if names:
        kept = [part for part in kept if _argument(part) not in names]
    kept += [b"%b=%b" % (name, quote_plus(value).encode()) for name, value in admit.add_arguments]
    if not kept:
        return query if len(query) == 1 else b""
    return b"?" + b"&".join(kept)


def _argument(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")).lower()


def answered_fields(fields: list[bytes], admit: Admit) -> list[bytes]:
    """The lines of a response's `fields` as the client gets them."""
    names = admit.strip.cookies
    if names:
        fields = [line for line in fields if not _sets_one_of(line, names)]
    return [*fields, *cookie_lines(admit)]


def cookie_lines(admit: Admit) -> list[bytes]:
    """The fields that set the cookies of an admission."""
    return [b"Set-Cookie: " + value for value in admit.set_cookies]


def _sets_one_of(line: bytes, names: frozenset[bytes]) -> bool:
    name, _, value = line.partition(b":")
    return name.lower() == b"set-cookie" and value.partition(b"=")[0].strip(b" \t") in names
