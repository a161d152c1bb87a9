"""The kinds that ship with proxyd."""

from __future__ import annotations

from proxyd.kinds import Kinds
from proxyd.listeners import demo, http, redirect
from proxyd.stores import memory, sqlite, storage

KINDS = Kinds((*http.KINDS, redirect.KIND, demo.KIND, memory.KIND, sqlite.KIND, storage.KIND))
