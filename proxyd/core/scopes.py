"""Whether the scopes that a visitor holds admit to a server (contract of JupyterHub, section 2.3)."""

from __future__ import annotations

from collections.abc import Iterable


def admits(required: Iterable[str], held: Iterable[str]) -> bool:
    """Whether one of the `required` scopes is covered by one that is held.

    The Hub has expanded roles and implied scopes, so only the filter behind `!` is left to compare: none covers every
    one, the same covers itself, and that of a user covers each of the user's servers. Membership of a group cannot
    be looked up here, and admits nobody.
    """
    owned = set(held)
    return any(_covers(scope, owned) for scope in required)


def _covers(required: str, held: set[str]) -> bool:
    name, mark, filter_ = required.partition("!")
    if required in held:
        return True
    if not mark:
        return False
    kind, _, value = filter_.partition("=")
    owner, slash, _ = value.partition("/")
    return name in held or (kind == "server" and bool(slash) and f"{name}!user={owner}" in held)
