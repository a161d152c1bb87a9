"""What the controller tells a worker at its start, and how messages are written down.

The controller sends pickles and reads JSON: a worker talks to strangers, and what it says is not to be trusted more
than they are.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import attrs

from proxyd.workers.link import Answerer, Link

LINK_FD = 3
"""The descriptor of the link in a worker; behind it come the shared memory, and the listening sockets."""

MEMORY_FD = 4
FIRST_SOCKET_FD = 5


@attrs.frozen(kw_only=True)
class Boot:
    """What a worker begins with.

    `config` is packed (`proxyd.workers.parcel`), `generation` its number. `sockets` tells how many there are of each
    listener, in the order of the configuration. `state` is the directory of what is kept, `cookie_key` empty if nobody
    needs it yet, `hash_key` that of the shared memory.
    """

    number: int
    count: int
    config: bytes
    generation: int
    sockets: tuple[int, ...]
    state: str
    cookie_key: bytes
    hash_key: bytes


def controllers_end(take: Answerer, lost: Callable[[], None], clock: Any) -> Link:
    """The link as the controller has it."""
    return Link(take, lost, clock, encode=_to_pickle, decode=json.loads)


def workers_end(take: Answerer, lost: Callable[[], None], clock: Any) -> Link:
    """The link as a worker has it."""
    return Link(take, lost, clock, encode=_to_json, decode=pickle.loads)  # the controller has made it


def _to_pickle(batch: Any) -> bytes:
    return pickle.dumps(batch, pickle.HIGHEST_PROTOCOL)


def _to_json(batch: Any) -> bytes:
    return json.dumps(batch).encode()
