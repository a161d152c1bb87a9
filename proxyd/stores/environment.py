"""What a store is given to work with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from proxyd.core.posted import RouteReader
from proxyd.core.table import Entry


@attrs.frozen
class StoreEnvironment:
    """What surrounds a store.

    `clock` has `callLater`, `callFromThread`, and `seconds`, since the epoch. Paths and modules are looked for in
    `directory`. `reader` makes routes of what was posted. `entry_of` finds a route in the table by its key: the
    activity is there. What a store keeps without being told where belongs in `state_directory`, which need not exist.
    """

    clock: Any
    directory: Path
    reader: RouteReader
    entry_of: Callable[[str], Entry | None]
    state_directory: Path = Path()
