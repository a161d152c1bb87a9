from collections.abc import Callable
from typing import Any

def deal_with(
    events: list[tuple[int, int]],
    selectables: dict[int, Any],
    masks: dict[int, int],
    kinds: tuple[type, ...],
    look_at: Callable[[int, int], None],
    failed: Callable[[Any, BaseException], None],
    ended: Callable[[Any, bool], None],
    /,
) -> None: ...
def send_all(outbox: list[Any], kinds: tuple[type, ...], failed: Callable[[Any, BaseException], None], /) -> None: ...
