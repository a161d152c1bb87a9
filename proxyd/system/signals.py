"""The signals with which an operator asks for something."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_REQUESTS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def ignore_requests() -> None:
    """Let them do nothing for now: by default each of them would end the process."""
    for number in _REQUESTS:
        signal.signal(number, signal.SIG_IGN)


def answer_requests(reactor: Any, answers: dict[signal.Signals, Callable[[], object]]) -> None:
    """Call the answer to a signal in the thread of `reactor`, as soon as it turns."""
    for number, answer in answers.items():
        signal.signal(number, lambda *_, answer=answer: reactor.callFromThread(answer))


def leave_last_words() -> None:
    """Print the stacks of all threads when SIGSEGV ends the process, or SIGABRT, which systemd's watchdog sends."""
    with suppress(ValueError, OSError):  # there may be no standard error output
        if sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__)
