"""How an option is declared: its default and its help in one call, its unit in its type.

The loader, the JSON Schema and the reference manual are all made from these declarations.
"""

from __future__ import annotations

from typing import NewType, TypeVar

import attrs

T = TypeVar("T")

Seconds = NewType("Seconds", float)
"""A duration, written `5s`, `100ms`, `2m`, `1h`; 0 means no limit."""

ByteCount = NewType("ByteCount", int)
"""A size, written `8 KiB`, `10 MiB`, or as a plain number of bytes."""

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

BaseUrl = NewType("BaseUrl", str)
"""A path on the public side below which others live; it begins and ends with `/`."""

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

HELP = "help"
SECTION = "section"


def option(default: T, *, help: str) -> T:  # noqa: A002  # the field's own word
    """Declare one option of an attrs class with its `default` and its `help` text."""
    if isinstance(default, (dict, list, set)):
        return attrs.field(factory=lambda: type(default)(default), metadata={HELP: help})
    return attrs.field(default=default, metadata={HELP: help})


def section(kind: type[T], *, help: str) -> T:  # noqa: A002
    """Declare a nested section whose options are those of the attrs class `kind`."""
    return attrs.field(factory=kind, metadata={HELP: help, SECTION: True})
