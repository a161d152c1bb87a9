"""The kinds that ship with proxyd.

They stand here by name: what a configuration does not use is not imported.
"""

from __future__ import annotations

from proxyd.kinds import Kinds, NamedKind
from proxyd.model.auth import AuthConfig
from proxyd.model.settings import ListenerConfig, StoreConfig

# The default of a seam comes first: no other one is imported on the way to it.
KINDS = Kinds(
    (
        NamedKind(ListenerConfig, "http", "proxyd.listeners.http"),
        NamedKind(ListenerConfig, "https", "proxyd.listeners.http"),
        NamedKind(ListenerConfig, "redirect", "proxyd.listeners.redirect"),
        NamedKind(ListenerConfig, "demo", "proxyd.listeners.demo"),
        NamedKind(StoreConfig, "memory", "proxyd.stores.memory"),
        NamedKind(StoreConfig, "sqlite", "proxyd.stores.sqlite"),
        NamedKind(StoreConfig, "class", "proxyd.stores.storage"),
        NamedKind(AuthConfig, "anonymous", "proxyd.auth.anonymous"),
        NamedKind(AuthConfig, "token", "proxyd.auth.token"),
        NamedKind(AuthConfig, "jupyterhub", "proxyd.auth.hub"),
        NamedKind(AuthConfig, "forward", "proxyd.auth.forward"),
    )
)
