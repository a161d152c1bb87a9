"""Entity tags: of the table as a whole, and of one route."""

from __future__ import annotations

import re
from hashlib import blake2b
from secrets import token_hex

from proxyd.core.conditions import Conditions
from proxyd.core.table import RouteTable
from proxyd.http.request import Request
from proxyd.model.routes import Route

_POINT = re.compile(r"([0-9a-f]+)-([0-9]{1,18})")


class Tags:
    """Names points in the life of `table`; those of another process are never taken for ours."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self._process = token_hex(4)

    @property
    def point(self) -> str:
        """What the table is now; the same text identifies an event after which it is so."""
        return self.point_at(self.table.version)

    def point_at(self, version: int) -> str:
        """What the table is at a version."""
        return f"{self._process}-{version}"

    def version_at(self, point: str) -> int | None:
        """The version that `point` names; None if it is none of this process."""
        match = _POINT.fullmatch(point)
        return int(match[2]) if match is not None and match[1] == self._process else None

    @property
    def of_table(self) -> bytes:
        """The entity tag of the list of all routes."""
        return f'"{self.point}"'.encode()


def tag_of(route: Route) -> bytes:
    """The entity tag of a route: of what was posted, not of when it was last active."""
    text = f"{route.key}\n{route.members or route.upstream.url}"
    return b'"%b"' % blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest().encode()


def conditions_of(request: Request) -> Conditions:
    """What a request makes its effect depend on.

    Raises `RequestError` 400.
    """
    head = request.head
    return Conditions.read(head.get_all(b"if-match"), head.get_all(b"if-none-match"))


def tag_field(tag: bytes) -> tuple[bytes, ...]:
    """The line of a head that tells a tag."""
    return (b"ETag: " + tag,)
