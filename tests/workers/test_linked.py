"""Tests of `proxyd.workers.linked` with `proxyd.workers.leases`: a worker uses managed servers of the controller."""

from __future__ import annotations

import subprocess
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.errors import LinkRefusedError, ServerStartError, UnknownServerError
from proxyd.interfaces import ILease, IServerSupervisor
from proxyd.model.servers import Place, ServerSpec
from proxyd.option import Port, Seconds, ServerName
from proxyd.testing.servers import ScriptedSupervisor
from proxyd.workers.leases import Generations, ServerDesk
from proxyd.workers.linked import LinkedSupervisor
from tests.workers.links import Links

LAB, MANY, FIXED = ServerName("lab"), ServerName("many"), ServerName("fixed")
SPECS = {
    LAB: ServerSpec(command=("lab",)),
    MANY: ServerSpec(command=("many",), instances=2),
    FIXED: ServerSpec(port=Port(9000)),
}
PLACE = Place(4711)


class LinkedSupervisorTests(SynchronousTestCase):
    """One worker, and the supervisor of a controller that the test rules."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.real = ScriptedSupervisor(SPECS)
        generations = Generations()
        generations.begin(1, SPECS)
        self.generations = generations
        self.desk = ServerDesk(self.real, generations)
        self.links = Links(self.clock).connect()
        self.linked = LinkedSupervisor(self.links.worker, SPECS, generations, self.clock)
        for name in ("lease", "touch", "release", "rule", "follow", "leave"):
            self.links.answers[name] = self._desk(name)
        self.links.answers["server"] = self.linked.on_server
        self.links.answers["printed"] = self.linked.on_printed
        self.desk.joined(1, self.links.controller)
        self.links.pump()

    def _desk(self, name: str) -> Any:
        return lambda content: getattr(self.desk, f"on_{name}")(1, content)

    def rest(self) -> None:
        """Let so much time pass that a lease that nobody uses is given back."""
        self.clock.advance(0.3)
        self.links.pump()

    def ready(self) -> None:
        self.real.become_ready("lab", PLACE)
        self.links.pump()

    def test_it_is_a_supervisor(self) -> None:
        """And its leases are leases."""
        verifyObject(IServerSupervisor, self.linked)
        self.ready()
        lease = self.linked.lease("lab")
        self.links.pump()
        verifyObject(ILease, self.successResultOf(lease))

    def test_one_start_for_all_who_wait(self) -> None:
        """They get parts of the same lease, and so does who comes while it is used; the last one gives it back."""
        waiting = [self.linked.lease("lab") for _ in range(3)]
        self.links.pump()
        self.assertEqual(self.real.asked, ["lab"])
        for lease in waiting:
            self.assertNoResult(lease)
        self.assertEqual(self.linked.status("lab")[0].state, "starting")
        self.ready()
        leases = [self.successResultOf(lease) for lease in waiting]
        leases.append(self.successResultOf(self.linked.lease("lab", counts=False)))
        for lease in leases:
            self.assertEqual((lease.place, lease.upstream, lease.spec), (PLACE, PLACE.upstream, SPECS[LAB]))
        for lease in leases:
            self.links.pump()
            self.assertEqual(self.real.in_use, 1)
            lease.release()
            lease.release()
        self.links.pump()
        self.assertEqual(self.real.in_use, 1)
        self.rest()
        self.assertEqual(self.real.in_use, 0)
        self.linked.lease("lab")
        self.links.pump()
        self.assertEqual(self.real.asked, ["lab", "lab"])

    def test_a_start_that_fails(self) -> None:
        """Everybody who waits is told why, with what the server has printed."""
        waiting = [self.linked.lease("lab") for _ in range(2)]
        self.links.pump()
        self.real.print("lab", "oops")
        self.real.become_failed("lab", "has ended with status 1")
        self.links.pump()
        for lease in waiting:
            error = self.failureResultOf(lease, ServerStartError).value
            self.assertEqual((error.server, error.reason, error.lines), ("lab", "has ended with status 1", ("oops",)))

    def test_who_leaves_does_not_wait(self) -> None:
        """The start goes on; when nobody is left, the lease goes back at once."""
        waiting = self.linked.lease("lab")
        self.links.pump()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.ready()
        self.assertEqual((self.real.asked, self.real.in_use), (["lab"], 0))

    def test_several_instances_are_asked_for_one_by_one(self) -> None:
        """Only the controller knows which has the least to do."""
        self.real.become_ready("many", PLACE)
        self.links.pump()
        leases = [self.linked.lease("many") for _ in range(2)]
        left = self.linked.lease("many")
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.links.pump()
        self.assertEqual(self.real.in_use, 2)
        for lease in leases:
            self.successResultOf(lease).release()
        self.links.pump()
        self.assertEqual(self.real.in_use, 0)

    def test_unknown_servers(self) -> None:
        """Are unknown at once; one that the controller does not know any more is unknown then."""
        self.failureResultOf(self.linked.lease("none"), UnknownServerError)
        with self.assertRaises(UnknownServerError):
            self.linked.status("none")
        with self.assertRaises(UnknownServerError):
            self.linked.lines("none", 3)
        self.real.replace({LAB: SPECS[LAB]})
        lease = self.linked.lease("fixed")
        self.links.pump()
        self.failureResultOf(lease, UnknownServerError)

    def test_activity_is_told(self) -> None:
        """Not each time: twice a second is enough, and once more at the end."""
        self.ready()
        asked = self.linked.lease("lab")
        self.links.pump()
        lease = self.successResultOf(asked)
        for _ in range(100):
            lease.touch()
        self.clock.advance(0.6)
        self.links.pump()
        self.assertEqual(self.real.leases[0].touches, 1)
        lease.touch()
        lease.release()
        lease.touch()
        self.rest()
        self.assertEqual((self.real.leases[0].touches, self.real.leases[0].is_released), (2, True))

    def test_one_request_after_the_other(self) -> None:
        """Is no question for the controller each time; when they end, the lease goes back."""
        self.ready()
        asked = self.linked.lease("lab")
        self.links.pump()
        self.successResultOf(asked).release()
        for _ in range(10):
            self.clock.advance(0.2)
            self.links.pump()
            self.successResultOf(self.linked.lease("lab")).release()
        self.assertEqual((self.real.asked, self.real.in_use), (["lab"], 1))
        self.rest()
        self.assertEqual(self.real.in_use, 0)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.getTime() < 5], [])

    def test_a_lease_that_rests_goes_back_when_it_has_to(self) -> None:
        """With another configuration, when the server ends, and where a life-time waits for such a moment."""
        old = {ServerName("old"): ServerSpec(command=("old",), max_lifetime=Seconds(60))}
        self.real.replace({**SPECS, **old})
        self.linked.replace({**SPECS, **old})
        self.generations.begin(2, {**SPECS, **old})
        self.real.become_ready("old", Place(4712))
        self.ready()
        for name in ("old", "lab"):
            asked = self.linked.lease(name)
            self.links.pump()
            self.successResultOf(asked).release()
            self.links.pump()
        self.assertEqual([lease.is_released for lease in self.real.leases], [True, False])
        self.linked.replace(old)
        self.links.pump()
        self.assertEqual(self.real.in_use, 0)

    def test_a_server_that_ends_is_not_shared(self) -> None:
        """Who comes then asks the controller, which starts it again."""
        self.ready()
        self.linked.lease("lab")
        self.links.pump()
        self.real.become_failed("lab", "has ended")
        self.links.pump()
        again = self.linked.lease("lab")
        self.links.pump()
        self.assertNoResult(again)
        self.assertEqual(self.real.asked, ["lab", "lab"])

    def test_a_process_that_has_just_ended_is_not_shared(self) -> None:
        """Nobody has told the worker yet, but it can see that."""
        process = subprocess.Popen(["sleep", "60"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.ready()
        self.patch(self.desk, "_pid", lambda *_: process.pid)
        asked = self.linked.lease("lab")
        self.links.pump()
        self.successResultOf(asked).release()
        self.successResultOf(self.linked.lease("lab")).release()
        self.assertEqual(self.real.asked, ["lab"])
        process.kill()
        process.wait()
        self.assertNoResult(self.linked.lease("lab"))
        self.links.pump()
        self.assertEqual(self.real.asked, ["lab", "lab"])

    def test_another_configuration(self) -> None:
        """A server that has changed is asked for anew; what runs is as it was in its own configuration."""
        self.ready()
        asked = self.linked.lease("lab")
        self.links.pump()
        changed = {LAB: ServerSpec(command=("lab", "--other")), FIXED: SPECS[FIXED]}
        self.generations.begin(2, changed)
        self.linked.replace(changed)
        self.assertEqual(list(self.linked.specs()), ["lab", "fixed"])
        again = self.linked.lease("lab")
        self.links.pump()
        self.assertEqual(self.successResultOf(again).spec, SPECS[LAB])  # which the scripted one goes on with
        self.assertEqual(self.real.in_use, 2)
        self.successResultOf(asked).release()
        self.links.pump()
        self.assertEqual(self.real.in_use, 1)

    def test_states_are_told(self) -> None:
        """To whoever watches, also those of the start."""
        changes: list[str] = []
        stop = self.linked.watch(changes.append)
        self.ready()
        self.assertEqual(changes, ["lab"])
        status = self.linked.status("lab")[0]
        self.assertEqual((status.state, status.place), ("ready", PLACE))
        stop()
        self.real.become_failed("lab", "has ended")
        self.links.pump()
        self.assertEqual(changes, ["lab"])

    def test_what_a_server_prints(self) -> None:
        """What it has printed before, and what comes; nobody is told of a line twice."""
        self.real.print("lab", "first")
        said: list[tuple[int, str]] = []
        stop = self.linked.subscribe("lab", lambda instance, line: said.append((instance, line)))
        self.links.pump()
        self.real.print("lab", "second")
        self.links.pump()
        self.assertEqual(said, [(0, "first"), (0, "second")])
        self.assertEqual(self.linked.lines("lab", 1), (("second",),))
        stop()
        self.linked.subscribe("lab", lambda *_: None)()
        self.real.print("lab", "third")
        self.links.pump()
        self.assertEqual((len(said), self.linked.lines("lab", 9)), (2, (("first", "second", "third"),)))

    def test_nobody_listens_any_more(self) -> None:
        """After a minute the controller does not have to tell."""
        self.linked.subscribe("lab", lambda *_: None)()
        self.links.pump()
        self.clock.advance(61)
        self.links.pump()
        self.real.print("lab", "unheard")
        self.links.pump()
        self.assertEqual(self.linked.lines("lab", 9), ((),))

    def test_ruling(self) -> None:
        """Goes to the controller, with its errors."""
        started = self.linked.start("lab")
        self.links.pump()
        self.assertNoResult(started)
        stopped = self.linked.stop("lab")
        self.links.pump()
        self.successResultOf(stopped)
        self.failureResultOf(started, ServerStartError)
        restarted = self.linked.restart("lab")
        self.links.pump()
        self.ready()
        self.successResultOf(restarted)
        self.successResultOf(self.linked.shutdown())

    def test_a_worker_that_dies(self) -> None:
        """Gives back what it had, and what it was waiting for."""
        self.ready()
        self.linked.lease("lab")
        waiting = self.linked.lease("many")
        self.links.pump()
        self.assertEqual(self.real.in_use, 1)
        self.links.cut()
        self.failureResultOf(waiting, ServerStartError)
        self.desk.left(1)
        self.desk.left(1)
        self.assertEqual(self.real.in_use, 0)
        self.real.become_ready("many", PLACE)
        self.assertEqual(self.real.in_use, 0)

    def test_a_controller_that_dies(self) -> None:
        """Nobody gets a lease, and everybody gets an answer."""
        waiting = self.linked.lease("lab")
        self.links.pump()
        self.links.cut()
        self.assertIn("controller", str(self.failureResultOf(waiting, ServerStartError).value))
        self.assertIn("controller", str(self.failureResultOf(self.linked.lease("many"), ServerStartError).value))

    def test_servers_that_come_with_a_reload(self) -> None:
        """Everybody is told how they are."""
        more = {**SPECS, ServerName("new"): ServerSpec(command=("new",))}
        self.real.replace(more)
        self.linked.replace(more)
        self.desk.tell_all()
        self.links.pump()
        self.assertEqual(self.linked.status("new")[0].state, "stopped")
        self.desk.close()

    def test_refusals_without_facts_are_not_hidden(self) -> None:
        """Something went wrong in the controller, which has logged it."""
        self.links.answers["lease"] = lambda _: 1 // 0
        lease = self.linked.lease("lab")
        self.links.pump()
        self.failureResultOf(lease, LinkRefusedError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError, LinkRefusedError)), 1)
