"""The kinds that ship with proxyd."""

from __future__ import annotations

from proxyd.kinds import Kinds
from proxyd.listeners import demo, http
from proxyd.stores import memory, storage

KINDS = Kinds((http.KIND, demo.KIND, memory.KIND, storage.KIND))
