"""Who asks, as JupyterHub describes them, and whether they may (contract of JupyterHub, sections 1.8, 1.9 and 2.3)."""

from __future__ import annotations

import json
from collections.abc import Iterable

import attrs

from proxyd.core.scopes import admits

FIELD = b"X-CDSDASHBOARDS-JH-USER"
"""Tells an application who the visitor is."""

ARGUMENT = b"CDSDASHBOARDS_JH_USER"
"""The same, in the query."""


@attrs.frozen(kw_only=True)
class Visitor:
    """A user or a service of the Hub, with the scopes of the token that was shown.

    `info` is what an application may know, as JSON.
    """

    name: str
    kind: str
    scopes: frozenset[str]
    groups: frozenset[str]
    info: bytes

    @classmethod
    def read(cls, text: bytes) -> Visitor:
        """What the Hub says of a token; nothing but `name`, `kind` and `scopes` is there for sure.

        Raises `ValueError`.
        """
        model = json.loads(text)
        if not isinstance(model, dict) or not isinstance(model.get("name"), str) or not model["name"]:
            raise ValueError("a model of a user has a name")
        info = {name: model.get(name) for name in ("kind", "name", "admin", "groups")}
        return cls(
            name=model["name"],
            kind=str(model.get("kind") or "user"),
            scopes=frozenset(_words(model.get("scopes"))),
            groups=frozenset(_words(model.get("groups"))),
            info=json.dumps(info).encode("ascii"),
        )


def _words(value: object) -> Iterable[str]:
    return (word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


@attrs.frozen(kw_only=True)
class Access:
    """Whom the server is for: whoever holds one of `scopes`.

    Without scopes, as before JupyterHub 2, it is for `user` and the members of `group`. `anyone`: for everybody whom
    the Hub knows.
    """

    scopes: tuple[str, ...] = ()
    user: str = ""
    group: str = ""
    anyone: bool = False

    def admits(self, visitor: Visitor) -> bool:
        """Whether `visitor` is one of them."""
        if self.anyone:
            return True
        if self.scopes:
            return admits(self.scopes, visitor.scopes)
        is_user = visitor.kind == "user" and visitor.name == self.user
        return is_user or (bool(self.group) and self.group in visitor.groups)

    def __bool__(self) -> bool:
        return bool(self.scopes or self.user or self.group or self.anyone)
