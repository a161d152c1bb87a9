"""The kinds that ship with proxyd."""

from __future__ import annotations

from proxyd.kinds import Kinds
from proxyd.listeners import demo, http

KINDS = Kinds((http.KIND, demo.KIND))
