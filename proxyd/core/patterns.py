"""Routes by regular expression: which one answers, and what becomes of its captures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

import attrs

from proxyd.core.head import is_authority
from proxyd.core.target import resolve_dots
from proxyd.errors import OptionError, RequestError
from proxyd.model.patterns import PatternSpec, Template, UpstreamUrlTemplate
from proxyd.model.ports import ranges_of
from proxyd.model.routes import HeaderChanges, Route, RouteOptions, over
from proxyd.model.upstream import Upstream

# One spelling of a number: with leading zeros, one port would have many paths.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
# A part of a host name (RFC 1035 §2.3.1); nothing in it can end the host, or be an escape.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_ASCII = bytes(range(0x21, 0x7F)).decode()

_Fields = dict[str, Template]


@attrs.frozen
class Found:
    """A pattern that matches. `key` tells apart what needs a plan of its own; `path` is what the upstream sees."""

    pattern: Pattern
    key: tuple[str, ...]
    captures: Mapping[str, str]
    path: bytes

    def route(self) -> Route:
        """The route that the pattern is with these captures."""
        return self.pattern.route(self.captures)


class Pattern:
    """One pattern; `defaults` are the options of a route that says nothing."""

    def __init__(self, spec: PatternSpec, defaults: RouteOptions) -> None:
        self._name = spec.pattern
        self._match = re.compile(spec.pattern.encode()).fullmatch
        self._upstream = UpstreamUrlTemplate(spec.upstream)
        self._path = Template(spec.path) if spec.path else None
        self._allow = {name: ranges_of(numbers) for name, numbers in spec.allow.items()}
        own = RouteOptions(**{field.name: getattr(spec, field.name) for field in attrs.fields(RouteOptions)})
        self._options = over(own, defaults)
        self._fields: dict[str, _Fields] = {"request_headers": {}, "response_headers": {}}
        for (section, _, field), value in spec.templates():
            self._fields[section][field] = Template(value)
        templates = [self._upstream.url, *(field for fields in self._fields.values() for field in fields.values())]
        self._names = tuple(sorted(frozenset[str]().union(*(template.names for template in templates))))

    def find(self, path: bytes) -> Found | None:
        """What a raw, dot-resolved path leads to, None if it does not match.

        Raises `RequestError`: 400 for a capture that cannot be where it is used, 403 for one that is not allowed.
        """
        match = self._match(path)
        if match is None:
            return None
        captures = {name: value.decode("latin-1") for name, value in match.groupdict(b"").items()}
        self._check(captures)
        if self._path is not None:
            path = self._path.render(captures).encode("latin-1")
            if resolve_dots(path) != path:
                raise RequestError(400, "a capture makes a dot segment")
        return Found(self, tuple(captures[name] for name in self._names), captures, path)

    def _check(self, captures: Mapping[str, str]) -> None:
        for name in self._upstream.ports | self._allow.keys():
            if not _NUMBER.fullmatch(captures[name]):
                raise RequestError(400, f"{name} is not a number without leading zeros")
        for name in self._upstream.ports:
            if not 0 < int(captures[name]) <= 65535:
                raise RequestError(400, "there is no such port")
        for name, allowed in self._allow.items():
            if not any(int(captures[name]) in numbers for numbers in allowed):
                raise RequestError(403, f"the pattern does not allow this {name}")
        for name in self._upstream.hosts:
            if not _LABEL.fullmatch(captures[name]):
                raise RequestError(400, f"{name} is not a part of a host name")

    def route(self, captures: Mapping[str, str]) -> Route:
        """The route with `captures` in its upstream and its fields.

        Raises `RequestError` for captures that make no upstream or no authority.
        """
        escaped = {name: quote(value, safe=_ASCII, encoding="latin-1") for name, value in captures.items()}
        try:
            upstream = Upstream.parse(self._upstream.url.render(escaped))
        except OptionError:
            raise RequestError(400, "the captures make no upstream") from None
        path = upstream.path or b"/"
        if resolve_dots(path) != path:
            raise RequestError(400, "a capture makes a dot segment")
        changes = self._options.request_headers, self._options.response_headers
        request, response = (
            _rendered(before, fields, captures) for before, fields in zip(changes, self._fields.values(), strict=True)
        )
        for name, value in ((request and request.set) or {}).items():
            if name.lower() == "host" and not is_authority(value.encode("latin-1")):
                raise RequestError(400, "the captures make no Host")
        options = attrs.evolve(self._options, request_headers=request, response_headers=response)
        return Route(self._name, upstream, (), "", options)


def _rendered(changes: HeaderChanges | None, fields: _Fields, captures: Mapping[str, str]) -> HeaderChanges | None:
    if changes is None or not fields:
        return changes
    return attrs.evolve(changes, set={name: field.render(captures) for name, field in fields.items()})


class Patterns:
    """All patterns, in their order."""

    def __init__(self, specs: tuple[PatternSpec, ...], defaults: RouteOptions) -> None:
        self._patterns = [Pattern(spec, defaults) for spec in specs]

    def find(self, path: bytes) -> Found | None:
        """What the first pattern that matches leads to; raises as `Pattern.find` does."""
        for pattern in self._patterns:
            found = pattern.find(path)
            if found is not None:
                return found
        return None
