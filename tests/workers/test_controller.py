"""Tests of `proxyd.workers.controller`: workers that serve, end, hang, and are replaced. Processes are in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.respawn import STEADY_SECONDS
from proxyd.errors import LinkRefusedError, WorkerError
from proxyd.workers.controller import Workers
from proxyd.workers.link import Link
from proxyd.workers.messages import Boot
from tests.workers.links import Links


class Process:
    """A worker in memory: answers what it is asked, until it `is_stuck`."""

    def __init__(self, number: int, link: Link, ended: Callable[[str], None], clock: Clock) -> None:
        self.number = number
        self.pid = 1000 + number
        self.heard: list[str] = []
        self.generation = 0
        self.answers: dict[str, Any] = {}
        self.is_stuck = False
        self.is_killed = False
        self.is_starved = False
        self._ended = ended
        self._clock = clock
        self.links = Links(clock)
        self.links.controller = link
        self.links.worker._take_message = self._take
        self.links.connect()

    def _take(self, name: str, content: Any) -> Any:
        self.heard.append(name)
        if name == "boot":
            self.generation = content.generation
        answer = self.answers.get(name)
        return answer() if callable(answer) else answer

    def kill(self) -> None:
        self.is_killed = True

    def starved_seconds(self) -> float:
        return self._clock.seconds() if self.is_starved else 0.0

    def end(self, reason: str = "has ended") -> None:
        """The process is over."""
        self.links.cut()
        self._ended(reason)

    def pump(self) -> None:
        if self.is_killed:
            self.end("was killed by SIGKILL")
            self.is_killed = False
        elif not self.is_stuck:
            self.links.carry(self.links.to_worker, self.links.worker)
            self.links.carry(self.links.to_controller, self.links.controller)


class WorkersTests(SynchronousTestCase):
    """Two workers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.processes: list[Process] = []
        self.refuses = self.are_slow = False
        self.generation = 1
        self.said: list[tuple[int, str]] = []
        self.left_numbers: list[int] = []
        self.serving: list[int] = []
        self.workers = Workers(2, self.spawn, self.boot, self.join, self, self.clock, self.changed)
        self.addCleanup(self.workers.kill)

    # What the controller has around its workers.

    def spawn(self, number: int, link: Link, ended: Callable[[str], None]) -> Process:
        if self.refuses:
            raise OSError("no memory")
        self.processes.append(Process(number, link, ended, self.clock))
        self.processes[-1].is_stuck = self.are_slow
        return self.processes[-1]

    def boot(self, number: int) -> Boot:
        return Boot(
            number=number,
            count=2,
            config=b"",
            generation=self.generation,
            sockets=(),
            state="",
            cookie_key=b"",
            hash_key=b"",
        )

    def join(self, link: Link, joined: Callable[[], None]) -> None:
        link.tell("routes")
        joined()

    def changed(self) -> None:
        self.serving.append(self.workers.serving)

    def joined(self, number: int, link: Link) -> None:
        link.tell("welcome")

    def message(self, number: int, name: str, content: Any) -> Any:
        self.said.append((number, name))

    def left(self, number: int) -> None:
        self.left_numbers.append(number)

    # Helpers.

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, in steps as short as those of a reactor that has something to do."""
        for _ in range(max(1, round(seconds / 0.1))):
            self.clock.advance(min(seconds, 0.1))
            for _ in range(8):
                self.clock.advance(0)
                for process in list(self.processes):
                    process.pump()

    def start(self) -> None:
        started = self.workers.start()
        self.advance()
        self.successResultOf(started)

    def test_the_start(self) -> None:
        """Each is told how to begin, gets the routes, and then serves; it is over when all do."""
        started = self.workers.start()
        self.processes[1].is_stuck = True
        self.advance()
        self.assertNoResult(started)
        self.processes[1].is_stuck = False
        self.advance()
        self.successResultOf(started)
        for process in self.processes:
            names = [name for name in process.heard if name != "ping"]
            self.assertEqual(names, ["boot", "routes", "welcome", "serve"])
        self.assertEqual(self.workers.serving, 2)
        self.assertEqual(self.workers.processes, [(1, 1001), (2, 1002)])
        self.assertEqual(self.workers.states()["serving"], 2)

    def test_a_worker_that_ends_before_it_serves_ends_the_start(self) -> None:
        """The error says how; what comes later is replaced."""
        started = self.workers.start()
        self.processes[0].end("has ended with status 1")
        error = self.failureResultOf(started, WorkerError).value
        self.assertIn("worker 1 has ended with status 1", str(error))

    def test_a_worker_that_cannot_build_what_it_needs(self) -> None:
        """Says why, and that is what the start ends with."""

        def refuse(name: str, content: Any) -> None:
            raise LinkRefusedError("a certificate is gone")

        started = self.workers.start()
        self.processes[0].links.worker._take_message = refuse
        self.advance(0.2)
        error = self.failureResultOf(started, WorkerError).value
        self.assertEqual(str(error), "before it served, worker 1 could not start: a certificate is gone")

    def test_a_process_that_cannot_be_started(self) -> None:
        """Is like one that ends at once."""
        self.refuses = True
        started = self.workers.start()
        self.assertIn("no memory", str(self.failureResultOf(started, WorkerError).value))

    def test_a_dead_worker_is_replaced(self) -> None:
        """At once, with the same number; who waits for answers does not wait for it."""
        self.start()
        asked = self.workers.ask("settle")
        self.processes[0].end("was killed by SIGKILL")
        self.advance()
        self.assertEqual(list(self.successResultOf(asked)), [2])
        self.assertEqual(self.left_numbers, [1])
        self.advance(0.2)
        self.assertEqual([process.number for process in self.processes], [1, 2, 1])
        self.assertEqual((self.workers.serving, self.workers.replaced), (2, 1))
        self.assertIn(1, self.serving)

    def test_a_crash_loop_backs_off(self) -> None:
        """Each pause is longer, others go on, and after a long life all is forgotten."""
        self.start()
        starts = []
        for _ in range(5):
            self.processes[-1 if starts else 0].end("has ended with status 1")
            before, began = len(self.processes), self.clock.seconds()
            while len(self.processes) == before:
                self.advance(0.1)
            starts.append(self.clock.seconds() - began)
            self.advance()
        for pause, expected in zip(starts, [0.1, 0.5, 1.0, 2.0, 4.0], strict=True):
            self.assertAlmostEqual(pause, expected, delta=0.15, places=None)
        self.assertEqual(self.workers.looping, 1)
        self.advance(STEADY_SECONDS + 1)
        self.assertEqual((self.workers.looping, self.workers.serving), (0, 2))

    def test_a_stuck_worker_that_owes_an_answer(self) -> None:
        """Is killed after two seconds, and nobody waits for it any longer."""
        self.start()
        self.processes[1].is_stuck = True
        settled = self.workers.settled()
        self.advance(1.0)
        self.assertNoResult(settled)
        self.advance(1.6)
        self.successResultOf(settled)
        self.assertEqual(self.workers.replaced, 1)

    def test_a_stuck_worker_that_owes_nothing(self) -> None:
        """Is killed after ten seconds: nobody would notice otherwise."""
        self.start()
        self.processes[1].is_stuck = True
        self.advance(9.0)
        self.assertEqual(self.workers.replaced, 0)
        self.advance(3.0)
        self.assertEqual(self.workers.replaced, 1)

    def test_a_worker_that_others_keep_from_running(self) -> None:
        """Is not to blame: one more process to be started would not help."""
        self.start()
        self.processes[1].is_stuck = self.processes[1].is_starved = True
        settled = self.workers.settled()
        self.advance(15.0)
        self.assertNoResult(settled)
        self.processes[1].is_stuck = False
        self.advance(0.1)
        self.successResultOf(settled)
        self.assertEqual(self.workers.replaced, 0)

    def test_a_controller_that_stood_still_blames_nobody(self) -> None:
        """However long that was."""
        self.start()
        settled = self.workers.settled()
        self.clock.advance(30)
        self.advance(1.0)
        self.successResultOf(settled)
        self.assertEqual(self.workers.replaced, 0)

    def test_a_worker_that_lives_but_does_not_do_what_it_was_told(self) -> None:
        """Is killed, too, after a minute."""
        self.start()
        self.processes[0].answers["settle"] = Deferred()
        settled = self.workers.settled()
        self.advance(50.0)
        self.assertNoResult(settled)
        self.advance(12.0)
        self.successResultOf(settled)
        self.assertEqual(self.workers.replaced, 1)

    def test_messages_and_answers(self) -> None:
        """Everybody is told; answers are known by the number."""
        self.start()
        self.processes[0].answers["numbers"] = 7
        self.workers.tell("reopen")
        answers = self.workers.ask("numbers")
        self.processes[1].links.worker.tell("report")
        self.advance()
        self.assertEqual(self.successResultOf(answers), {1: 7, 2: None})
        self.assertEqual(self.said, [(2, "report")])
        self.assertTrue(all("reopen" in process.heard for process in self.processes))

    def take(self) -> Deferred[None]:
        """Let everybody take the second configuration."""
        self.generation = 2
        return self.workers.take(2)

    def test_who_takes_a_configuration_goes_on(self) -> None:
        """Nobody is replaced, and nobody asked twice."""
        self.start()
        for process in self.processes:
            process.answers["take"] = True
        taken = self.take()
        self.assertNoResult(taken)
        self.advance(1.0)
        self.successResultOf(taken)
        self.assertEqual([process.heard.count("take") for process in self.processes], [1, 1])
        self.assertEqual(self.workers.serving, 2)

    def test_who_has_nothing_to_take_is_replaced(self) -> None:
        """What follows has the new configuration."""
        self.start()
        self.processes[0].answers["take"], self.processes[1].answers["take"] = True, False
        taken = self.take()
        self.advance(1.0)
        self.successResultOf(taken)
        self.assertEqual([(process.number, process.generation) for process in self.processes], [(1, 1), (2, 1), (2, 2)])

    def test_who_fails_to_take_is_replaced(self) -> None:
        """It may have half of the new configuration."""

        def fail() -> None:
            raise LinkRefusedError(None)

        self.start()
        self.processes[0].answers["take"], self.processes[1].answers["take"] = True, fail
        taken = self.take()
        self.advance(1.0)
        self.successResultOf(taken)
        self.assertEqual([(process.number, process.generation) for process in self.processes], [(1, 1), (2, 1), (2, 2)])

    def test_who_starts_with_the_old_configuration_is_replaced(self) -> None:
        """At once: it would be a member before all others have taken the new one, and keep the old one."""
        self.start()
        self.processes[1].end()
        self.clock.advance(0)  # the next one has not heard of anything yet
        self.processes[0].answers["take"] = True
        self.processes[0].is_stuck = True
        taken = self.take()
        self.advance(1.5)
        self.processes[0].is_stuck = False
        self.advance(0.5)
        self.successResultOf(taken)
        self.assertEqual(self.workers.serving, 2)
        self.assertEqual([process.number for process in self.processes], [1, 2, 2, 2])
        self.assertEqual(self.processes[-1].generation, 2)

    def test_reloads_do_not_blame_who_starts(self) -> None:
        """However many there are: it does not back off, and counts as replaced for its own end only."""
        self.start()
        self.advance(STEADY_SECONDS + 1)
        self.processes[0].answers["take"] = True
        self.processes[1].end()
        self.are_slow = True  # they import what they need for a while
        for generation in range(2, 8):
            self.advance(0.3)
            self.generation = generation
            self.workers.take(generation)
            self.assertEqual(self.workers.looping, 0)
        self.are_slow = False
        self.advance(0.3)
        self.assertEqual(self.processes[-1].generation, generation)
        self.assertEqual((self.workers.serving, self.workers.replaced), (2, 1))
        self.assertEqual(len(self.processes), 9)

    def test_who_is_replaced_for_a_reload_does_not_join(self) -> None:
        """Although it may say for a moment more that it is ready."""
        self.start()
        self.processes[1].end()
        self.clock.advance(0)
        third = self.processes[2]
        self.clock.advance(0)
        third.links.carry(third.links.to_worker, third.links.worker)
        self.clock.advance(0)  # its answer is on its way
        self.assertEqual(third.heard, ["boot"])
        third.kill = lambda: None  # type: ignore[method-assign]  # it takes its time
        self.processes[0].answers["take"] = True
        self.take()
        self.advance(1.0)
        self.assertNotIn("welcome", third.heard)
        third.end("was killed by SIGKILL")
        self.advance(0.5)
        self.assertEqual((self.workers.serving, self.processes[-1].generation), (2, 2))

    def test_who_ends_after_it_has_taken(self) -> None:
        """Is replaced once: what follows has the new configuration already."""
        self.start()
        for process in self.processes:
            process.answers["take"] = True
        self.processes[1].is_stuck = True
        taken = self.take()
        self.advance(0.5)
        self.processes[0].end()
        self.advance(0.5)
        self.assertNoResult(taken)
        self.processes[1].is_stuck = False
        self.advance(1.0)
        self.successResultOf(taken)
        self.assertEqual([process.number for process in self.processes], [1, 2, 1])
        self.assertEqual(self.workers.serving, 2)

    def test_nobody_is_replaced_at_the_end(self) -> None:
        """Who does not take a configuration any more finishes what it serves."""
        self.start()
        taken = self.take()
        ended = self.workers.end(30)
        self.advance(1.0)
        self.successResultOf(taken)
        self.assertNoResult(ended)

    def test_the_end(self) -> None:
        """It is over when all have ended by themselves; nobody is replaced."""
        self.start()
        ended = self.workers.end(30)
        self.processes[0].end()
        self.assertNoResult(ended)
        self.processes[1].end()
        self.successResultOf(ended)
        self.workers.kill()
        self.assertEqual(len(self.processes), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_end_of_workers_that_do_not_end(self) -> None:
        """They are killed, some seconds after the time that they had."""
        self.start()
        ended = self.workers.end(3)
        self.advance(7.0)
        self.assertNoResult(ended)
        self.advance(2.0)
        self.successResultOf(ended)

    def test_the_end_while_workers_start(self) -> None:
        """They have nothing to finish."""
        started = self.workers.start()
        started.addErrback(lambda _: None)
        ended = self.workers.end(30)
        self.advance(0.1)
        self.successResultOf(ended)
