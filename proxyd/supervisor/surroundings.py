"""What all managed servers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from proxyd.supervisor.news import News
    from proxyd.supervisor.places import Places
    from proxyd.supervisor.waiting import Clock
    from proxyd.supervisor.watcher import Watcher


@attrs.frozen(kw_only=True)
class Surroundings:
    """What each of them is given.

    `environ` is our own environment, `open_files` our soft limit before we raised it, `run` what our marks begin with.
    """

    reactor: Any
    clock: Clock
    base_url: str
    environ: Mapping[str, str]
    open_files: int
    run: str
    places: Places
    watcher: Watcher
    news: News
    stderr_is_error: bool = False
    tells_command: bool = False
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
