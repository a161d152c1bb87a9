"""The kinds that ship with proxyd."""

from __future__ import annotations

from proxyd.auth import anonymous, token
from proxyd.kinds import Kinds
from proxyd.listeners import demo, http, redirect
from proxyd.stores import memory, storage

KINDS = Kinds((*http.KINDS, redirect.KIND, demo.KIND, memory.KIND, storage.KIND, anonymous.KIND, token.KIND))
