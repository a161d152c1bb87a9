"""Routes by regular expression. Which one answers is `core.patterns`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxyd.core.bounded import Bounded
from proxyd.core.patterns import Pattern, Patterns
from proxyd.interfaces import IStreamingResource
from proxyd.model.routes import Route

if TYPE_CHECKING:
    from proxyd.http.request import Request

# Somebody may send as many captures as he likes. A resource that was dropped is made again.
_CAPACITY = 256


class PatternRoutes:
    """Finds what serves a request by `patterns`; `build` makes it of the route that captures make."""

    def __init__(self, patterns: Patterns, build: Callable[[Route], IStreamingResource]) -> None:
        self._patterns = patterns
        self._build = build
        self._resources: Bounded[tuple[Pattern, tuple[str, ...]], IStreamingResource] = Bounded(_CAPACITY)

    def find(self, request: Request) -> IStreamingResource | None:
        """What serves the request, whose path becomes the one that the upstream sees; None if no pattern matches.

        Raises `RequestError`.
        """
        found = self._patterns.find(request.path)
        if found is None:
            return None
        request.path = found.path
        return self._resources.get((found.pattern, found.key), lambda: self._build(found.route()))
