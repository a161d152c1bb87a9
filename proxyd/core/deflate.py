"""permessage-deflate (RFC 7692), negotiated with each side of a relay for itself."""

from __future__ import annotations

import re

import attrs

# With this window and zlib's memory level 5, compressing takes 32 KiB for each side of a relay, not 256.
OUR_WINDOW_BITS = 12
# zlib cannot compress with the smallest window of the RFC.
_LEAST_OF_ZLIB = 9

OFFER = b"permessage-deflate"
"""What the relay offers an upstream. Without `client_max_window_bits` the upstream may not limit our window."""

_FLAGS = (b"server_no_context_takeover", b"client_no_context_takeover")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rb"[ \t]*;[ \t]*(%b)(?:[ \t]*=[ \t]*(?:(%b)|\"(%b)\"))?" % (_TOKEN, _TOKEN, _TOKEN))
_NAME = re.compile(rb"[ \t]*(%b)" % _TOKEN)
_END = re.compile(rb"[ \t]*(?:,|\Z)")
_BITS = {b"%d" % bits: bits for bits in range(8, 16)}

Extension = tuple[bytes, tuple[tuple[bytes, bytes | None], ...]]
"""Name and parameters of an extension, in lower case; the value of a parameter may be missing."""


@attrs.frozen
class Deflate:
    """What was agreed with one side; `server` is whoever answered the handshake."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15


def read_extensions(values: list[bytes]) -> list[Extension] | None:
    """What the Sec-WebSocket-Extensions fields of a message say (RFC 6455 §9.1), None if it makes no sense."""
    extensions: list[Extension] = []
    for value in values:
        at = 0
        while at < len(value):
            end = _END.match(value, at)
            if end is not None:  # RFC 9110 §5.6.1.2: empty elements of a list are ignored
                at = end.end()
                continue
            name = _NAME.match(value, at)
            if name is None:
                return None
            at = name.end()
            parameters = []
            while (parameter := _PARAMETER.match(value, at)) is not None:
                at = parameter.end()
                parameters.append((parameter[1].lower(), parameter[2] or parameter[3]))
            end = _END.match(value, at)
            if end is None:
                return None
            at = end.end()
            extensions.append((name[1].lower(), tuple(parameters)))
    return extensions


def accept(values: list[bytes]) -> tuple[Deflate, bytes] | None:
    """Of the offers of a client, what is accepted, and the value of the field that says so; None: nothing is."""
    for name, parameters in read_extensions(values) or ():
        agreed = _accept(dict(parameters)) if name == OFFER and _are_distinct(parameters) else None
        if agreed is not None:
            return agreed
    return None


def _accept(asked: dict[bytes, bytes | None]) -> tuple[Deflate, bytes] | None:
    """RFC 7692 §7.1: an offer that cannot be met to the letter is declined."""
    flags = [name for name in _FLAGS if name in asked]
    if any(asked.pop(name) is not None for name in flags):
        return None
    server_bits = OUR_WINDOW_BITS
    if b"server_max_window_bits" in asked:
        bits = _BITS.get(asked.pop(b"server_max_window_bits") or b"")
        if bits is None or bits < _LEAST_OF_ZLIB:
            return None
        server_bits = min(bits, server_bits)
    client_bits = 0
    if b"client_max_window_bits" in asked:
        value = asked.pop(b"client_max_window_bits")
        bits = 15 if value is None else _BITS.get(value)
        if bits is None:
            return None
        client_bits = min(bits, OUR_WINDOW_BITS)
    if asked:
        return None
    answer = [OFFER, *flags, b"server_max_window_bits=%d" % server_bits]
    if client_bits:
        answer.append(b"client_max_window_bits=%d" % client_bits)
    client_bits = max(client_bits or 15, _LEAST_OF_ZLIB)
    return Deflate(_FLAGS[0] in flags, _FLAGS[1] in flags, server_bits, client_bits), b"; ".join(answer)


class ExtensionError(Exception):
    """An upstream agreed to what it was not offered; the text tells what."""


def read_answer(values: list[bytes], *, offered: bool) -> Deflate | None:
    """What an upstream agreed to, None if to nothing; `offered`: it was offered `OFFER`.

    Raises `ExtensionError` for anything that was not offered (RFC 6455 §4.1, RFC 7692 §5.1).
    """
    extensions = read_extensions(values)
    if extensions is None:
        raise ExtensionError("Sec-WebSocket-Extensions cannot be read")
    if not extensions:
        return None
    (name, parameters), *others = extensions
    if others or name != OFFER or not offered:
        raise ExtensionError("an extension that was not offered")
    answer = dict(parameters)
    flags = [name for name in _FLAGS if name in answer]
    if any(answer.pop(name) is not None for name in flags):
        raise ExtensionError("a parameter of permessage-deflate with a value that it cannot have")
    server_bits: int | None = 15
    if b"server_max_window_bits" in answer:
        server_bits = _BITS.get(answer.pop(b"server_max_window_bits") or b"")
    if answer or server_bits is None or not _are_distinct(parameters):
        raise ExtensionError("a parameter of permessage-deflate that makes no sense")
    return Deflate(_FLAGS[0] in flags, _FLAGS[1] in flags, max(server_bits, _LEAST_OF_ZLIB), OUR_WINDOW_BITS)


def _are_distinct(parameters: tuple[tuple[bytes, bytes | None], ...]) -> bool:
    return len(dict(parameters)) == len(parameters)
