"""The life of a managed server: its states, what leads from one to the next, and when it is started again.

The machine decides nothing but the order of things; what is to be done is left to the `Actions` that it is given. The
drawing in the documents is made from the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from automat import TypeMachineBuilder

from proxyd.model.servers import RestartSettings, ServerState

STEADY_SECONDS = 10.0
"""A server that has lived for so long is not blamed for what was before."""

WINDOW_SECONDS = 2.0
WINDOW_STARTS = 8
"""No more starts than this within the window, whatever is configured: a loop of processes starves the machine."""


class Events(Protocol):
    """What happens to a server."""

    def want(self) -> None:
        """Somebody needs it."""

    def answered(self) -> None:
        """It has answered, and lives."""

    def crashed(self) -> None:
        """It has ended, and is to be started again after a pause."""

    def ended(self) -> None:
        """It has ended as it should; nobody starts it before it is needed."""

    def give_up(self) -> None:
        """There is no process, and nothing to hope for."""

    def too_late(self) -> None:
        """It is not ready in time."""

    def pause_over(self) -> None:
        """It may be started again."""

    def stop(self) -> None:
        """It shall end."""

    def gone(self) -> None:
        """Nothing of its processes is left."""


class Actions(Protocol):
    """What is done about it."""

    def entered(self, state: ServerState) -> None:
        """The state is this one now; comes before the other actions."""

    def begin(self) -> None:
        """Start it, as if it had never run."""

    def again(self) -> None:
        """Start it once more."""

    def admit(self) -> None:
        """Let in who waits."""

    def refuse(self) -> None:
        """Send away who waits."""

    def pause(self) -> None:
        """Have `pause_over` called after a while."""

    def end(self) -> None:
        """Ask all its processes to end, and make them end; then comes `gone`."""

    def kill(self) -> None:
        """Make all its processes end at once; then comes `gone`, or `crashed` to try once more."""


# From, event, to, and what is done on the way.
TRANSITIONS: tuple[tuple[ServerState, str, ServerState, tuple[str, ...]], ...] = (
    ("stopped", "want", "starting", ("begin",)),
    ("stopped", "stop", "stopped", ()),
    ("starting", "want", "starting", ()),
    ("starting", "answered", "ready", ("admit",)),
    ("starting", "crashed", "backing_off", ("pause",)),
    ("starting", "give_up", "failed", ("refuse",)),
    ("starting", "too_late", "aborting", ("refuse", "kill")),
    ("starting", "stop", "stopping", ("refuse", "end")),
    ("ready", "want", "ready", ()),
    ("ready", "crashed", "backing_off", ("pause",)),
    ("ready", "ended", "stopped", ()),
    ("ready", "give_up", "failed", ("refuse",)),
    ("ready", "stop", "stopping", ("end",)),
    ("backing_off", "want", "backing_off", ()),
    ("backing_off", "pause_over", "starting", ("again",)),
    ("backing_off", "give_up", "failed", ("refuse",)),
    ("backing_off", "stop", "stopped", ("refuse",)),
    ("aborting", "want", "renewing", ()),
    ("aborting", "crashed", "backing_off", ("pause",)),
    ("aborting", "gone", "failed", ()),
    ("aborting", "stop", "stopping", ()),
    ("stopping", "want", "renewing", ()),
    ("stopping", "stop", "stopping", ()),
    ("stopping", "gone", "stopped", ()),
    ("renewing", "want", "renewing", ()),
    ("renewing", "stop", "stopping", ("refuse",)),
    ("renewing", "gone", "starting", ("begin",)),
    ("failed", "want", "starting", ("begin",)),
    ("failed", "stop", "stopped", ()),
)

INITIAL: ServerState = "stopped"


def _build() -> Callable[[Actions], Events]:
    builder = TypeMachineBuilder(Events, Actions)  # type: ignore[type-abstract]  # it wants the type only
    names = dict.fromkeys(state for state, _, _, _ in TRANSITIONS)
    states = {name: builder.state(name) for name in names}
    for before, event, after, actions in TRANSITIONS:
        states[before].upon(getattr(Events, event)).to(states[after])(_output(after, actions))
    return builder.build()


def _output(after: ServerState, actions: Sequence[str]) -> Callable[[Events, Actions], None]:
    def output(_: Events, core: Actions) -> None:
        core.entered(after)
        for name in actions:
            getattr(core, name)()

    return output


begin_life = _build()
"""Make the machine of one server, stopped; what is called on it is one of `Events`."""


def draw() -> str:
    """The machine as a Mermaid diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {INITIAL}"]
    for before, event, after, actions in TRANSITIONS:
        if before != after:
            label = f"{event} / {', '.join(actions)}" if actions else event
            lines.append(f"    {before} --> {after}: {label}")
    return "\n".join(lines) + "\n"


class Verdict(Enum):
    """What becomes of a server that has ended by itself."""

    REST = "rest"
    AGAIN = "again"
    GIVE_UP = "give up"


def after_exit(*, in_order: bool, was_ready: bool, failures: int, restart: RestartSettings) -> Verdict:
    """Judge an end that nobody asked for; `failures` counts it, and those before it in a row.

    `in_order` is exit status 0: a server that has been ready rests then, one that never was will not be.
    """
    if in_order:
        return Verdict.REST if was_ready else Verdict.GIVE_UP
    is_enough = restart.give_up_after and failures >= restart.give_up_after
    return Verdict.GIVE_UP if is_enough else Verdict.AGAIN


def count_failure(failures: int, lived_seconds: float) -> int:
    """The number of failures in a row, with one more after a life of so many seconds."""
    return 1 if lived_seconds >= STEADY_SECONDS else failures + 1


def pause_seconds(failures: int, restart: RestartSettings) -> float:
    """The pause after so many failures in a row."""
    return min(restart.backoff_max, restart.backoff * 2.0 ** min(failures - 1, 60))


def hold_seconds(starts: Sequence[float], now: float) -> float:
    """How long the next start has to wait, after those at the times `starts`, for there not to be too many."""
    if len(starts) < WINDOW_STARTS:
        return 0.0
    return max(0.0, starts[-WINDOW_STARTS] + WINDOW_SECONDS - now)
