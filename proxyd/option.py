"""How an option is declared: its default and its help in one call, its unit in its type.

The loader, the JSON Schema and the reference manual are all made from these declarations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NewType, TypeVar

import attrs

T = TypeVar("T")

Seconds = NewType("Seconds", float)
"""A duration, written `5s`, `100ms`, `2m`, `1h`; 0 means no limit."""

ByteCount = NewType("ByteCount", int)
"""A size, written `8 KiB`, `10 MiB`, or as a plain number of bytes."""


class Rate(NamedTuple):
    """How many in so many seconds, written `10/s`, `600/m`, `1000/h`; an `amount` of 0 means no limit."""

    amount: int
    seconds: int


Port = NewType("Port", int)
"""A port number; 0 lets the system choose one."""

FileMode = NewType("FileMode", int)
"""Permissions of a file, written in octal: `0660`."""

FilePath = NewType("FilePath", str)
"""A path; a relative one counts from the directory of the configuration file."""

Secret = NewType("Secret", str)
"""A string that is never shown; `file:PATH` reads it from a file."""

UpstreamUrl = NewType("UpstreamUrl", str)
"""Where requests go: `http://`, `https://` or `http+unix://%2Fpath%2Fto%2Fsocket`, with an optional path."""

UrlPath = NewType("UrlPath", str)
"""A path on the public side; it begins with `/`."""

NumberRanges = NewType("NumberRanges", str)
"""Numbers and ranges of them, as in `8888` or `1024-2047,8000-8999`."""

HostName = NewType("HostName", str)
"""A host name or an IP address."""

UpstreamTemplate = NewType("UpstreamTemplate", str)
"""Where requests of a pattern go: the URL of an upstream, in which `{name}` stands for a capture."""

RouteKey = NewType("RouteKey", str)
"""`/prefix`, `host/prefix` or `*.domain/prefix`."""

Network = NewType("Network", str)
"""An address, a network such as `10.0.0.0/8`, or `unix` for clients on unix sockets."""

Workers = NewType("Workers", int)
"""How many processes serve traffic."""

AUTO_WORKERS = Workers(0)
"""One for each core that may be used."""

MAX_WORKERS = 128

ServerName = NewType("ServerName", str)
"""The name of a managed server: one path segment, or several with `/` between them."""

PortRange = NewType("PortRange", str)
"""Ports from the first to the last one, written `20000-20999`; empty for any."""

Pattern = NewType("Pattern", str)
"""A regular expression of Python."""


@attrs.frozen
class Function:
    """A Python callable, known by its name `module:attribute`; in YAML, `!python module:attribute`."""

    name: str
    call: Callable[..., Any]


HELP = "help"
SECTION = "section"
EXAMPLE = "example"


def option(default: T, *, help: str, example: object = None) -> T:  # noqa: A002  # the field's own word
    """Declare one option of an attrs class with its `default` and its `help` text.

    `example` is something that a user could write, for an option that has nothing by default.
    """
    metadata = {HELP: help} if example is None else {HELP: help, EXAMPLE: example}
    if isinstance(default, (dict, list, set)):
        return attrs.field(factory=lambda: type(default)(default), metadata=metadata)
    return attrs.field(default=default, metadata=metadata)


def section(kind: type[T], *, help: str) -> T:  # noqa: A002
    """Declare a nested section whose options are those of the attrs class `kind`."""
    return attrs.field(factory=kind, metadata={HELP: help, SECTION: True})
