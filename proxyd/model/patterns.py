"""Routes by regular expression, as a user writes them: what is captured, and where it may land."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import attrs

from proxyd.errors import OptionError
from proxyd.model.backtracking import check_backtracking
from proxyd.model.routes import HeaderChanges, RouteOptions
from proxyd.model.upstream import Upstream
from proxyd.option import NumberRanges, Pattern, UpstreamTemplate, option

T = TypeVar("T")

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}|(\{\{|\}\})|[{}]")
_URL = re.compile(r"(https?|wss?|http\+unix|unix\+http)://([^/?#]*)([^?#]*)(\?[^#]*)?", re.IGNORECASE)
# Host and port; brackets are those of an IPv6 address.
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:\[\]]*))?")
# What has to stand behind a capture in a host, so that it can neither become an address nor lead out of a domain.
_DOMAIN = re.compile(r"[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\.[A-Za-z_][A-Za-z0-9_-]*\.?")
_HTTP = {"ws": "http", "wss": "https"}


class Template:
    """Text with captures: `{name}` stands for one; `{{` and `}}` stand for braces.

    Raises `OptionError`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: frozenset[str] = frozenset()
        # Every other piece is the name of a capture, beginning with the second one.
        self._pieces: list[str] = [""]
        position = 0
        for match in _PLACEHOLDER.finditer(text):
            self._pieces[-1] += text[position : match.start()]
            position = match.end()
            if match[1]:
                self._pieces += [match[1], ""]
                self.names |= {match[1]}
            elif match[2]:
                self._pieces[-1] += match[2][0]
            else:
                raise OptionError(f"in {text!r} a capture is written {{name}}, and a brace itself is doubled")
        self._pieces[-1] += text[position:]

    @property
    def tail(self) -> str:
        """What stands behind the last capture."""
        return self._pieces[-1]

    @property
    def is_capture(self) -> bool:
        """Whether it is one capture and nothing else."""
        return len(self._pieces) == 3 and not (self._pieces[0] or self._pieces[2])

    def render(self, captures: Mapping[str, str]) -> str:
        """The text with `captures` in it."""
        pieces = self._pieces[:]
        pieces[1::2] = [captures[name] for name in pieces[1::2]]
        return "".join(pieces)


class UpstreamUrlTemplate:
    """The URL of an upstream, and which captures land in its `hosts` (or the path of a socket), `ports` and `paths`.

    Raises `OptionError` for a place where no capture may land.
    """

    def __init__(self, text: str) -> None:
        match = _URL.fullmatch(text)
        if match is None:
            raise OptionError("expected http://, https://, ws://, wss:// or http+unix:// with a host or a socket")
        scheme, authority, path, query = match.groups("")
        scheme = scheme.lower()
        self.url = Template(f"{_HTTP.get(scheme, scheme)}://{authority}{path}{query}")
        if "unix" in scheme:
            self.hosts, self.ports = Template(authority).names, frozenset[str]()
        else:
            self.hosts, self.ports = _names_in_authority(authority)
        self.paths = Template(path).names
        if Template(query).names:
            raise OptionError("a capture has no place in the query of the upstream: it could add parameters")
        samples = {**dict.fromkeys(self.paths | self.hosts, "a"), **dict.fromkeys(self.ports, "1")}
        Upstream.parse(self.url.render(samples))


def _names_in_authority(authority: str) -> tuple[frozenset[str], frozenset[str]]:
    if "@" in authority:
        raise OptionError("the upstream of a pattern has no user information")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise OptionError(f"{authority!r} is not a host with an optional port")
    host, port = Template(parts[1]), Template(parts[2] or "")
    if host.names and not _DOMAIN.fullmatch(host.tail):
        raise OptionError("a capture in the host has to be followed by a domain, as in {name}.apps.example.org")
    if port.names and not port.is_capture:
        raise OptionError("a capture in the port has to be the whole port")
    return host.names, port.names


@attrs.frozen(kw_only=True)
class PatternSpec(RouteOptions):
    """A route for the paths that a regular expression matches from beginning to end.

    It is matched against the path as the client sent it, percent-encoded, but with its dot segments resolved. What a
    group `(?P<name>...)` captures stands for `{name}` in `upstream`, in `path`, and in fields that are set.
    """

    pattern: Pattern = attrs.field(metadata={"help": "The expression; its groups are named."})
    upstream: UpstreamTemplate = attrs.field(metadata={"help": "Where it leads, with captures."})
    path: str = option(
        "", help="The path that the upstream sees, with captures, behind the upstream's own; default: as it came."
    )
    allow: Mapping[str, NumberRanges] = option(
        {},
        help="For each group that captures a number, the numbers that are let through: else 403. A port needs it.",
    )

    def __attrs_post_init__(self) -> None:
        """Check the expression, and that every capture may land where it is used.

        Raises `OptionError`.
        """
        groups = frozenset(self._compiled().groupindex)
        upstream = _at(("upstream",), lambda: UpstreamUrlTemplate(self.upstream))
        used: list[tuple[tuple[str, ...], frozenset[str]]] = [(("upstream",), upstream.url.names)]
        if self.path:
            if not self.path.startswith("/") or not self.path.isascii() or re.search(r"[?#\\\s]", self.path):
                raise OptionError("a path begins with / and is written as in a URL", "path")
            used.append((("path",), _at(("path",), lambda: Template(self.path)).names))
        for place, value in self.templates():
            used.append((place, _at(place, lambda value=value: Template(value)).names))  # type: ignore[misc]
        for place, names in used:
            for name in sorted(names - groups):
                raise OptionError(f"{{{name}}} is no group of the pattern", *place)
        for name in self.allow:
            if name not in groups:
                raise OptionError(f"{name} is no group of the pattern", "allow", name)
        for name in sorted(upstream.ports - set(self.allow)):
            raise OptionError(f"{name} leads to any port unless it is limited: allow: {{{name}: 1024-65535}}", "allow")
        if self.strip_prefix is not None:
            raise OptionError("a pattern has no prefix; `path` says what the upstream sees", "strip_prefix")

    def templates(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """The values of fields that are set, each with its place."""
        for name in ("request_headers", "response_headers"):
            changes: HeaderChanges | None = getattr(self, name)
            for field, value in ((changes.set if changes else None) or {}).items():
                yield (name, "set", field), value

    def _compiled(self) -> re.Pattern[bytes]:
        if not self.pattern.isascii():
            raise OptionError("a path has no such characters; write them percent-encoded, as in %C3%A9", "pattern")
        if not re.match(r"\^?[/.(\[\\]", self.pattern):
            raise OptionError("a path begins with /", "pattern")
        expression = self.pattern.encode()
        try:
            compiled = re.compile(expression)
        except (re.error, OverflowError, RecursionError) as error:
            raise OptionError(f"not a regular expression: {error}", "pattern") from None
        _at(("pattern",), lambda: check_backtracking(expression))
        return compiled


def _at(place: tuple[str, ...], read: Callable[[], T]) -> T:
    try:
        return read()
    except OptionError as error:
        raise OptionError(error.message, *place, *error.path) from None
