"""The kinds that ship with proxyd."""

from __future__ import annotations

from proxyd.auth import anonymous, forward, hub, token
from proxyd.kinds import Kinds
from proxyd.listeners import demo, http, redirect
from proxyd.stores import memory, sqlite, storage

_STORES = (memory.KIND, sqlite.KIND, storage.KIND)
_AUTHENTICATORS = (anonymous.KIND, token.KIND, hub.KIND, forward.KIND)
KINDS = Kinds((*http.KINDS, redirect.KIND, demo.KIND, *_STORES, *_AUTHENTICATORS))
