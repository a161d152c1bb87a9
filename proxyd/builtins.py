"""The kinds that ship with proxyd."""

from __future__ import annotations

from proxyd.auth import anonymous, token
from proxyd.kinds import Kinds
from proxyd.listeners import demo, http, redirect
from proxyd.stores import memory, sqlite, storage

_STORES = (memory.KIND, sqlite.KIND, storage.KIND)
KINDS = Kinds((*http.KINDS, redirect.KIND, demo.KIND, *_STORES, anonymous.KIND, token.KIND))
