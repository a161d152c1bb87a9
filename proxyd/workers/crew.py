"""What a controller has in addition to a single process: workers, and what they are given, asked, and told."""

from __future__ import annotations

import json
import mmap
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from proxyd.core.shared import HASH_KEY_BYTES, SharedMemory, memory_bytes
from proxyd.errors import Problem
from proxyd.hub.activity import Activity
from proxyd.interfaces import IServerSupervisor
from proxyd.metrics.exposition import ChpExposition, NativeExposition
from proxyd.metrics.meters import ChpMeters, Meters
from proxyd.model.settings import Config
from proxyd.system.turns import FileTurn
from proxyd.workers.controller import Workers
from proxyd.workers.datapath import DataPath
from proxyd.workers.leases import Generations, ServerDesk
from proxyd.workers.link import Link
from proxyd.workers.messages import Boot
from proxyd.workers.parcel import pack
from proxyd.workers.process import ProcessSpawner
from proxyd.workers.replicas import ReplicatedFeed
from proxyd.workers.reports import Ledger, Numbers, merge_touches


class Crew:
    """The `count` workers of a process that runs `config` on `reactor`, and whose routes come through `feed`.

    `state` is the directory of what is kept; `environ` that of the workers.
    """

    _log = Logger()

    def __init__(
        self,
        count: int,
        config: Config,
        reactor: Any,
        feed: ReplicatedFeed,
        supervisor: IServerSupervisor,
        activity: Activity,
        ledger: Ledger,
        *,
        state: Path,
        environ: Mapping[str, str],
    ) -> None:
        self._packed = pack(config)
        self._reactor = reactor
        self._state = state
        self._environ = environ
        self._count = count
        self._data_path: DataPath | None = None
        self._table = feed.table
        self._activity = activity
        self.ledger = ledger
        self._generation = 1
        self._busy: set[int] = set()
        self._is_announced = False
        self._generations = Generations()
        self._generations.begin(self._generation, config.servers)
        self._servers = ServerDesk(supervisor, self._generations)
        desk = self._servers
        self._answers: dict[str, Callable[[int, Any], Any]] = {
            "lease": desk.on_lease,
            "touch": desk.on_touch,
            "release": desk.on_release,
            "rule": desk.on_rule,
            "follow": desk.on_follow,
            "leave": desk.on_leave,
            "failure": self._on_failure,
            "report": self._on_report,
            "quiet": lambda number, _: self._quiet(number),
        }
        self._memory = os.memfd_create("proxyd", os.MFD_CLOEXEC)
        os.truncate(self._memory, memory_bytes(count))
        self._hash_key = secrets.token_bytes(HASH_KEY_BYTES)
        self._map = mmap.mmap(self._memory, memory_bytes(count))
        self._shared = SharedMemory(memoryview(self._map), count, 0, self._hash_key)
        self.workers = Workers(count, self._spawn, self._make_boot, feed.join, self, reactor, self._changed)
        feed.followers = self.workers

    def pack(self, config: Config) -> bytes:
        """`config` as the workers take it."""
        return pack(config)

    def turn(self) -> FileTurn:
        """The turn with the standard output, which all processes share."""
        return FileTurn(self._memory, 0)

    def start(self, data_path: DataPath) -> Deferred[None]:
        """Start all workers, on the sockets of the listeners of `data_path`; fires when they serve.

        Fails with `WorkerError`.
        """
        self._data_path = data_path
        return self.workers.start()

    def _spawn(self, number: int, link: Link, ended: Callable[[str], None]) -> Any:
        if self._data_path is None:
            raise OSError("there is nothing to serve any more")
        sockets = [sock for listener in self._data_path.public_listeners for sock in listener.sockets]
        return ProcessSpawner(self._reactor, sockets, self._memory, self._environ)(number, link, ended)

    def _make_boot(self, number: int) -> Boot:
        data_path = self._data_path
        listeners = [] if data_path is None else data_path.public_listeners
        return Boot(
            number=number,
            count=self._count,
            config=self._packed,
            generation=self._generation,
            sockets=tuple(len(listener.sockets) for listener in listeners),
            state=str(self._state.absolute()),
            hash_key=self._hash_key,
            cookie_key=b"" if data_path is None else data_path.cookie_key,
        )

    def _changed(self) -> None:
        """There are more or fewer workers that serve."""
        self.workers.tell("readiness", self._readiness())

    def _readiness(self) -> bytes:
        """What load balancers are told: one worker less is no reason to send nobody any more."""
        workers = self.workers
        if workers.serving == len(workers) and not workers.looping:
            return b'{"status":"OK"}'
        facts = {"serving": workers.serving, "of": len(workers), "ending_again_and_again": workers.looping}
        return json.dumps({"status": "degraded", "workers": facts}).encode()

    # What workers say.

    def joined(self, number: int, link: Link) -> None:
        """A worker can be told everything from now on."""
        self._servers.joined(number, link)
        link.tell("readiness", self._readiness())
        if self._is_announced:
            link.tell("announce")

    def message(self, number: int, name: str, content: Any) -> Any:
        """A worker says or asks something."""
        return self._answers[name](number, content)

    def left(self, number: int) -> None:
        """A worker is no more."""
        if self._memory >= 0:
            self._shared.clear(number - 1)
        self._servers.left(number)
        self.ledger.left(number)
        self._quiet(number)

    def _on_failure(self, number: int, facts: list[Any]) -> None:
        """The page of a server that did not start may come back to any of them."""
        self.workers.tell("failure", facts)

    def _on_report(self, number: int, report: dict[str, Any]) -> None:
        merge_touches(self._table, report["routes"])
        self._activity.last = max(self._activity.last, report["activity"])
        self.ledger.note(number, Numbers.from_json(report["numbers"]))

    # What monitoring asks for.

    @property
    def replaced(self) -> int:
        """How many workers had to be replaced."""
        return self.workers.replaced

    def states(self) -> Mapping[str, int]:
        """How many workers are in each state."""
        return self.workers.states()

    def costs(self) -> list[tuple[int, float, int]]:
        """The number of each worker that runs, its CPU seconds, and its resident bytes."""
        running = sorted(self.ledger.running.items())
        return [(number, numbers.cpu_seconds, numbers.resident_bytes) for number, numbers in running]

    async def count_into(self, exposition: NativeExposition | ChpExposition, own: Meters | ChpMeters) -> None:
        """Have the numbers of all workers in `exposition`, as they are now, beside the `own` ones of the controller."""
        # Each answer at once: who has left when the last one comes has no numbers of its own any more.
        await self.workers.ask("numbers", heard=self._on_numbers)
        exposition.meters = self.ledger.merged(own)

    def _on_numbers(self, number: int, numbers: dict[str, Any] | None) -> None:
        if numbers is not None:
            self.ledger.note(number, Numbers.from_json(numbers))

    # Reloading.

    async def prepare(self, packed: bytes) -> tuple[Problem, ...]:
        """Let all workers read and try what another configuration, `packed`, needs; what is wrong with it."""
        answers = await self.workers.ask("prepare", (packed, self._generation + 1))
        words = dict.fromkeys(said for answer in answers.values() for said in answer)
        if words:
            self.forget()
        return tuple(Problem(each) for each in words)

    def forget(self) -> None:
        """What was prepared is not wanted."""
        self.workers.tell("forget")

    async def take(self, config: Config, packed: bytes) -> None:
        """Let all workers carry out what they have prepared; those that have not are replaced."""
        self._generation += 1
        self._packed = packed
        self._generations.begin(self._generation, config.servers)
        self._servers.tell_all()
        await self.workers.take(self._generation)
        self._servers.tell_all()

    # What an operator asks for.

    def reopen_logs(self) -> None:
        """Go on in other files."""
        self.workers.tell("reopen")

    def dump_state(self) -> None:
        """Let everybody log how things are."""
        self.workers.tell("dump")

    # The end.

    def announce_end(self) -> None:
        """Keep no connection, and let readiness say so, also in those that join from now on."""
        self._is_announced = True
        self.workers.tell("announce")

    def drain(self, seconds: float) -> Deferred[None]:
        """Finish what is being served; fires when all workers have ended."""
        self._busy = set(self.workers.tell("drain", seconds))
        return self.workers.end(seconds)

    def _quiet(self, number: int) -> None:
        """A worker has no exchanges any more; when none has, tunnels may end."""
        if number in self._busy:
            self._busy.discard(number)
            if not self._busy:
                self.workers.tell("goodbye")

    def hurry(self) -> None:
        """End a drain that is going on."""
        self.workers.tell("hurry")

    def close(self) -> None:
        """End all workers, whatever they do."""
        self.workers.kill()
        self._servers.close()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
            self._shared.release()
