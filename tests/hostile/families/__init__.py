"""The cases, as data: a tuple for each family."""

from __future__ import annotations

from tests.hostile.cases import Case
from tests.hostile.families import answers, connections, framing, heads, targets

REQUESTS: tuple[tuple[Case, ...], ...] = (
    framing.CONTENT_LENGTH,
    framing.TRANSFER_ENCODING,
    framing.CHUNKED_BODY,
    heads.REQUEST_LINE,
    heads.FIELDS,
    heads.HOST,
    targets.TARGETS,
    targets.ROUTING,
    connections.HOP_BY_HOP,
    connections.UPGRADE,
    connections.PIPELINING,
    connections.EXPECT,
)
ANSWERS: tuple[tuple[Case, ...], ...] = (
    answers.STATUS_LINE,
    answers.FIELDS,
    answers.LENGTH,
    answers.CODING,
    answers.CHUNKS,
    answers.INTERIM,
    answers.SPLITTING,
    answers.HOP_BY_HOP,
    answers.CLOSE,
    answers.SIZE,
)
