"""Tests of what happens to managed servers that are ready: crashes, rest, changes, and the end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import attrs
from twisted.internet.task import Clock

from proxyd.errors import ServerStartError, UnknownServerError
from proxyd.model.servers import ProcessLimits, Readiness, RestartSettings, ServerSpec
from proxyd.option import ByteCount, Function, Port, Seconds
from proxyd.supervisor.supervisor import Supervisor
from tests.supervisor.support import SupervisorCase, fetch, global_reactor, is_alive, marked, program, until
from tests.support import free_port

READY = Readiness(timeout=Seconds(30))


class CrashTests(SupervisorCase):
    """A server that ends by itself."""

    async def test_a_crashed_server_comes_back_by_itself(self) -> None:
        """On the same port; who comes meanwhile waits until it is ready (defect 10)."""
        supervisor = self.supervise(
            app=ServerSpec(command=program("--sleep=0.3"), restart=RestartSettings(backoff=Seconds(0.2)))
        )
        lease = await supervisor.lease("app")
        (before,) = supervisor.status("app")
        fetch(lease.place, "/kill")
        await until(lambda: supervisor.status("app")[0].state == "backing_off", "the crash is seen")
        self.assertEqual(supervisor.status("app")[0].exit_reason, "was killed by SIGKILL")
        again = await supervisor.lease("app")
        (after,) = supervisor.status("app")
        self.assertEqual((again.place, after.starts, after.state), (lease.place, 2, "ready"))
        self.assertNotEqual(before.pid, after.pid)
        self.assertIn(str(after.pid), fetch(again.place))
        fetch(again.place, "/exit/7")
        await until(lambda: supervisor.status("app")[0].starts == 3, "it comes back without a lease")
        self.assertEqual(supervisor.status("app")[0].exit_reason, "ended with exit status 7")

    async def test_what_functions_said_holds_until_it_is_stopped(self) -> None:
        """They are asked once for a start, not for what comes after a crash."""
        asked: list[str] = []

        def command(port: int) -> list[str]:
            asked.append("command")
            return [*program(place=str(port))]

        def environment() -> dict[str, str]:
            asked.append("environment")
            return {"SAID": str(len(asked))}

        supervisor = self.supervise(
            app=ServerSpec(command=Function("m:c", command), environment=Function("m:e", environment))
        )
        lease = await supervisor.lease("app")
        self.assertEqual(["command", "environment"], asked)
        fetch(lease.place, "/exit/7")
        await until(lambda: supervisor.status("app")[0].starts == 2, "it comes back")
        self.assertTrue(fetch((await supervisor.lease("app")).place).endswith(" 2"))
        self.assertEqual(2, len(asked))
        await supervisor.restart("app")
        self.assertTrue(fetch((await supervisor.lease("app")).place).endswith(" 4"))

    async def test_exit_status_0_rests_until_the_next_lease(self) -> None:
        """Which starts it again (defect 11)."""
        supervisor = self.supervise(app=ServerSpec(command=program()))
        lease = await supervisor.lease("app")
        fetch(lease.place, "/exit/0")
        await until(lambda: supervisor.status("app")[0].state == "stopped", "it rests")
        self.assertEqual(supervisor.status("app")[0].exit_reason, "ended with exit status 0")
        lease = await supervisor.lease("app")
        self.assertIn("200", fetch(lease.place))
        self.assertEqual(supervisor.status("app")[0].starts, 2)

    async def test_pauses_grow_and_end(self) -> None:
        """Twice as long each time; what cannot come back is given up, and not respawned for ever (defect 9)."""
        clock = Clock()
        supervisor = self.supervise(
            clock=clock,
            app=ServerSpec(
                command=("sh", "-c", "exit 3"),
                start="eager",
                restart=RestartSettings(backoff=Seconds(1), backoff_max=Seconds(4), give_up_after=5),
                timeout=Seconds(1000),
            ),
        )
        supervisor.begin()

        def status() -> tuple[str, int]:
            (now,) = supervisor.status("app")
            return now.state, now.starts

        for starts, pause in ((1, 1), (2, 2), (3, 4), (4, 4)):
            await until(lambda: status() == ("backing_off", starts), f"crash {starts}")  # noqa: B023
            clock.advance(pause - 0.01)
            self.assertEqual(status(), ("backing_off", starts))
            clock.advance(0.02)
        await until(lambda: status() == ("failed", 5), "it is given up")
        clock.advance(100)
        self.assertEqual(status(), ("failed", 5))

    async def test_there_are_never_too_many_starts(self) -> None:
        """Eight in two seconds, even when no pause is wanted and requests ask for more."""
        log = self.mktemp()
        supervisor = self.supervise(
            app=ServerSpec(
                command=("sh", "-c", f"echo x >> {os.path.abspath(log)}; exit 3"),
                restart=RestartSettings(backoff=Seconds(0), give_up_after=3),
                ready=READY,
            )
        )
        start = time.monotonic()
        for _ in range(4):
            await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertEqual(len(Path(log).read_text().splitlines()), 12)
        self.assertGreater(time.monotonic() - start, 1.5)

    async def test_the_end_of_one_server_touches_no_other(self) -> None:
        """Nor is a zombie left."""
        supervisor = self.supervise(app=ServerSpec(command=program()), other=ServerSpec(command=program()))
        lease, _ = await supervisor.lease("app"), await supervisor.lease("other")
        (app,), (other,) = supervisor.status("app"), supervisor.status("other")
        fetch(lease.place, "/exit/0")
        await until(lambda: supervisor.status("app")[0].state == "stopped", "its end")
        self.assertFalse(Path(f"/proc/{app.pid}").exists())
        self.assertEqual(supervisor.status("other")[0].pid, other.pid)
        self.assertTrue(is_alive(other.pid))

    async def test_what_a_crash_leaves_behind_is_killed(self) -> None:
        """A grandchild would hold the port, and the output, and never be missed."""
        supervisor = self.supervise(
            stays=ServerSpec(command=program("--grandchild=stay")),
            escapes=ServerSpec(command=program("--grandchild=escape")),
        )
        run = supervisor._around.run
        for name in supervisor.specs():
            lease = await supervisor.lease(name)
            self.assertEqual(len(marked(run)), 2)
            fetch(lease.place, "/exit/0")
            await until(lambda name=name: supervisor.status(name)[0].state == "stopped", "its end")
            self.assertEqual(marked(run), [])


class OutputTests(SupervisorCase):
    """What servers print."""

    async def test_lines_are_kept_and_told(self) -> None:
        """The last ones in the status, all of them to who listens, until that stops."""
        heard: list[tuple[int, str]] = []
        supervisor = self.supervise(app=ServerSpec(command=program("--print=ä")))
        stop = supervisor.subscribe("app", lambda instance, line: heard.append((instance, line)))
        await supervisor.lease("app")
        place = supervisor.status("app")[0].place
        assert place is not None
        await until(lambda: len(heard) >= 3, "its lines")
        self.assertEqual(sorted(heard), sorted([(0, f"hello from {place.port}"), (0, "ä"), (0, "listening")]))
        self.assertEqual(sorted(supervisor.status("app")[0].lines), sorted(line for _, line in heard))
        stop()
        stop()
        await supervisor.restart("app")
        self.assertEqual(len(heard), 3)


class ChildTests(SupervisorCase):
    """What a child finds around it."""

    async def output_of(self, script: str, **options: object) -> list[str]:
        supervisor = self.supervise(app=ServerSpec(command=("sh", "-c", f"{script}; exit 0"), ready=READY, **options))
        error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        return list(error.lines)

    async def test_it_has_a_session_of_its_own_and_no_input(self) -> None:
        """It leads its process group, and reads nothing."""
        words = await self.output_of(
            "cut -d' ' -f1,5,6 /proc/self/stat; echo $$; readlink /proc/self/fd/0; ls /proc/self/fd"
        )
        (_, group, session), leader = words[0].split(), words[1]
        self.assertEqual((group, session), (leader, leader))
        self.assertEqual(words[2], "/dev/null")
        self.assertEqual(words[3:], ["0", "1", "2", "3"])  # the last one is the directory that is listed

    async def test_it_has_its_environment_and_directory(self) -> None:
        """Ours and what is added, without what is for proxyd alone; names are templates, too."""
        directory = os.path.abspath(self.mktemp())
        os.makedirs(directory)
        supervisor = Supervisor(
            {
                "app": ServerSpec(
                    command=("sh", "-c", "pwd; env; exit 0"),
                    cwd=directory,
                    environment=Function("m:f", lambda port: {"X_{port}": "{{{port}}}"}),
                    port=Port(free_port()),
                    ready=READY,
                )
            },
            global_reactor,
            environ={
                "PATH": os.environ["PATH"],
                "OURS": "1",
                "PROXYD_AUTH_TOKEN": "t",
                "CONFIGPROXY_AUTH_TOKEN": "t",
                "NOTIFY_SOCKET": "/n",
            },
        )
        error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        await supervisor.shutdown()
        place = supervisor.specs()["app"].port
        self.assertEqual(error.lines[0], directory)
        self.assertLessEqual({"OURS=1", f"X_{place}={{{place}}}"}, set(error.lines))
        self.assertEqual([line for line in error.lines if "TOKEN" in line or "NOTIFY" in line], [])

    async def test_it_has_its_limits(self) -> None:
        """Descriptors, memory and processes."""
        words = await self.output_of(
            "ulimit -n; ulimit -v; ulimit -p 2>/dev/null || ulimit -u",
            limits=ProcessLimits(open_files=321, memory=ByteCount(1 << 30), processes=4321),
        )
        self.assertEqual(words, ["321", str(1 << 20), "4321"])


class RestTests(SupervisorCase):
    """Servers that nobody needs."""

    async def test_an_idle_server_is_stopped(self) -> None:
        """Never while somebody has a lease, and only after so long without activity."""
        clock = Clock()
        supervisor = self.supervise(clock=clock, app=ServerSpec(command=program(), idle_timeout=Seconds(60)))
        waiting = supervisor.lease("app")

        def turn() -> bool:
            clock.advance(0.01)
            return waiting.called

        await until(turn, "it is ready")
        lease = await waiting
        clock.advance(1000)
        self.assertEqual(supervisor.status("app")[0].state, "ready")
        lease.release()
        clock.advance(40)
        poll = await supervisor.lease("app", counts=False)
        poll.release()
        second = await supervisor.lease("app", counts=False)
        second.touch()
        second.release()
        clock.advance(59)
        self.assertEqual(supervisor.status("app")[0].state, "ready")
        clock.advance(2)
        self.assertEqual(supervisor.status("app")[0].state, "stopping")

        def is_stopped() -> bool:
            clock.advance(0.01)
            return supervisor.status("app")[0].state == "stopped"

        await until(is_stopped, "it is stopped")
        self.assertEqual(supervisor.status("app")[0].starts, 1)

    async def test_an_old_server_is_stopped_when_nobody_uses_it(self) -> None:
        """At once, or with the last lease."""
        supervisor = self.supervise(app=ServerSpec(command=program(), max_lifetime=Seconds(0.5)))
        lease, other = await supervisor.lease("app"), await supervisor.lease("app")
        since = supervisor.status("app")[0].since
        await until(lambda: time.time() > since + 0.6, "it is old")
        lease.release()
        self.assertEqual(supervisor.status("app")[0].state, "ready")
        other.release()
        await until(lambda: supervisor.status("app")[0].state == "stopped", "it is stopped")
        (await supervisor.lease("app")).release()
        await until(lambda: supervisor.status("app")[0].state == "stopped", "it is stopped without a lease")

    async def test_a_lease_during_a_stop_starts_it_again(self) -> None:
        """When the former process is gone."""
        supervisor = self.supervise(app=ServerSpec(command=program("--grandchild=stay"), stop_grace=Seconds(0.3)))
        await supervisor.lease("app")
        (before,) = supervisor.status("app")
        stopped = supervisor.stop("app")
        lease = await supervisor.lease("app")
        self.assertFalse(is_alive(before.pid))
        self.assertIn("200", fetch(lease.place))
        self.assertFalse(stopped.called)
        await supervisor.stop("app")
        await stopped

    async def test_a_stop_refuses_those_who_wait(self) -> None:
        """They are told why."""
        supervisor = self.supervise(app=ServerSpec(command=program("--sleep=600")))
        lease = supervisor.lease("app")
        await until(lambda: supervisor.status("app")[0].pid, "it is started")
        await supervisor.stop("app")
        error = await self.assert_fails(lease, ServerStartError)
        self.assertEqual(str(error), "server app was stopped")


class InstanceTests(SupervisorCase):
    """Several of a server."""

    async def test_leases_go_to_who_has_the_least_to_do(self) -> None:
        """An instance that does not run is started, but nobody waits for it while another one is ready."""
        supervisor = self.supervise(app=ServerSpec(command=program("--sleep=0.3"), instances=2))
        first = await supervisor.lease("app")
        second = await supervisor.lease("app")
        self.assertEqual((first.instance, second.instance), (0, 0))
        await until(lambda: supervisor.status("app")[1].state == "ready", "the other one is ready")
        third, fourth = await supervisor.lease("app"), await supervisor.lease("app")
        self.assertEqual((third.instance, fourth.instance), (1, 1))
        self.assertNotEqual(first.place, third.place)
        self.assertEqual((await supervisor.lease("app", 1)).instance, 1)
        await self.assert_fails(supervisor.lease("app", 2), UnknownServerError)


class ReplaceTests(SupervisorCase):
    """Another configuration."""

    async def test_what_did_not_change_goes_on(self) -> None:
        """With its process and its leases."""
        spec = ServerSpec(command=program())
        supervisor = self.supervise(app=spec)
        await supervisor.lease("app")
        (before,) = supervisor.status("app")
        supervisor.replace({"new": ServerSpec(command=program()), "app": ServerSpec(command=program())})
        self.assertEqual(supervisor.status("app"), (before,))
        self.assertEqual(list(supervisor.specs()), ["new", "app"])

    async def test_a_changed_server_is_restarted_after_its_last_lease(self) -> None:
        """Who has one keeps it; a port that is fixed is free before the new one starts."""
        port = Port(free_port())
        supervisor = self.supervise(app=ServerSpec(command=program(), port=port, environment={"SAID": "old"}))
        first, second = await supervisor.lease("app"), await supervisor.lease("app")
        supervisor.replace({"app": ServerSpec(command=program(), port=port, environment={"SAID": "new"})})
        first.release()
        self.assertTrue(fetch(second.place).endswith("old"))
        second.release()
        lease = await supervisor.lease("app")
        self.assertTrue(fetch(lease.place).endswith("new"))
        self.assertEqual(lease.spec.environment, {"SAID": "new"})

    async def test_a_port_goes_from_one_server_to_another(self) -> None:
        """The new one waits until the old one has ended; as long as that is used, the error tells who has the port."""
        stubborn = ServerSpec(command=program("--ignore-signals"), port=Port(free_port()), stop_grace=Seconds(0.3))
        supervisor = self.supervise(old=stubborn)
        supervisor.begin()
        used = await supervisor.lease("old")
        supervisor.replace({"new": attrs.evolve(stubborn, start="eager", environment={"SAID": "new"})})
        error = await self.assert_fails(supervisor.lease("new"), ServerStartError)
        self.assertIn(f"port {stubborn.port} is taken by server old", str(error))
        used.release()
        lease = await supervisor.lease("new")
        self.assertTrue(fetch(lease.place).endswith("new"))
        lease.release()
        supervisor.replace({"last": attrs.evolve(stubborn, start="eager")})
        await until(lambda: supervisor.status("last")[0].state == "ready", "the eager one is ready")

    async def test_another_base_url_changes_everything(self) -> None:
        """Each server is restarted with it after its last lease."""
        spec = ServerSpec(command=program(), environment={"SAID": "{base_url}"})
        supervisor = self.supervise(app=spec)
        lease = await supervisor.lease("app")
        supervisor.replace({"app": spec}, "/new/")
        self.assertTrue(fetch(lease.place).endswith("/user/a/"))
        lease.release()
        self.assertTrue(fetch((await supervisor.lease("app")).place).endswith("/new/"))

    async def test_eager_servers_start_with_the_configuration(self) -> None:
        """New ones and changed ones, once servers have begun at all."""
        supervisor = self.supervise(app=ServerSpec(command=program()))
        supervisor.replace({"early": ServerSpec(command=program(), start="eager")})
        self.assertEqual(supervisor.status("early")[0].state, "stopped")
        supervisor.begin()
        supervisor.replace(
            {
                "early": ServerSpec(command=program(), start="eager", environment={"SAID": "x"}),
                "new": ServerSpec(command=program(), start="eager"),
            }
        )
        for name in ("early", "new"):
            await until(lambda name=name: supervisor.status(name)[0].state == "ready", f"{name} is ready")
        place = supervisor.status("early")[0].place
        assert place is not None
        self.assertTrue(fetch(place).endswith(" x"))

    async def test_a_removed_server_takes_nobody_and_ends_with_its_last_lease(self) -> None:
        """At once for new ones."""
        supervisor = self.supervise(app=ServerSpec(command=program()))
        lease = await supervisor.lease("app")
        (status,) = supervisor.status("app")
        supervisor.replace({})
        await self.assert_fails(supervisor.lease("app"), UnknownServerError)
        self.assertTrue(fetch(lease.place).startswith("HTTP/1.0 200"))
        lease.release()
        await until(lambda: not is_alive(status.pid), "it is stopped")

    async def test_a_server_that_comes_back_is_another_one(self) -> None:
        """The end of the one that was removed does not touch it; who follows what it prints goes on."""
        supervisor = self.supervise(app=ServerSpec(command=program()))
        lines: list[str] = []
        supervisor.subscribe("app", lambda _, line: lines.append(line))
        old = await supervisor.lease("app")
        (gone,) = supervisor.status("app")
        supervisor.replace({})
        supervisor.replace({"app": ServerSpec(command=program())})
        new = await supervisor.lease("app")
        (before,) = supervisor.status("app")
        old.release()
        await until(lambda: not is_alive(gone.pid) and not supervisor._leaving, "the end of the old one")
        self.assertTrue(fetch(new.place).startswith("HTTP/1.0 200"))
        self.assertEqual(supervisor.status("app")[0].pid, before.pid)
        await until(lambda: lines.count("listening") == 2, "what both have printed")


class ShutdownTests(SupervisorCase):
    """The end."""

    async def test_every_group_gets_the_signal(self) -> None:
        """That which ended proxyd, or the one that the server wants."""
        files = [os.path.abspath(self.mktemp()) for _ in range(2)]
        supervisor = self.supervise(
            app=ServerSpec(command=program(f"--note-signals={files[0]}")),
            own=ServerSpec(command=program(f"--note-signals={files[1]}"), stop_signal="SIGUSR1"),
        )
        await supervisor.lease("app")
        await supervisor.lease("own")
        await supervisor.shutdown(signal.SIGINT)
        self.assertEqual(Path(files[0]).read_text(), "SIGINT\n")
        self.assertEqual(supervisor.status("own")[0].exit_reason, "was killed by SIGUSR1")
        error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertIn("proxyd is stopping", str(error))

    async def test_what_ignores_the_signal_is_killed(self) -> None:
        """With everything it has started, in its group or not, once it had its time (defect 14)."""
        supervisor = self.supervise(
            app=ServerSpec(command=program("--ignore-signals", "--grandchild=stay"), stop_grace=Seconds(0.5)),
            shell=ServerSpec(
                command=("sh", "-c", " ".join(program("--grandchild=escape")) + "; true"), stop_grace=Seconds(0.5)
            ),
        )
        await supervisor.lease("app")
        await supervisor.lease("shell")
        run = supervisor._around.run
        self.assertEqual(len(marked(run)), 5)
        start = time.monotonic()
        await supervisor.shutdown()
        self.assertGreater(time.monotonic() - start, 0.4)
        self.assertEqual(marked(run), [])

    async def test_a_start_that_goes_on_is_ended(self) -> None:
        """In whatever moment: in its callable, at its birth, and before it is ready (defect 30)."""
        for turns in range(8):
            supervisor = self.supervise(app=ServerSpec(command=Function("m:f", lambda: program("--sleep=600"))))
            lease = supervisor.lease("app")
            await until(iter([*[0] * turns, 1]).__next__, "some turns")
            run = supervisor._around.run
            await supervisor.shutdown()
            await self.assert_fails(lease, ServerStartError)
            self.assertEqual(marked(run), [])

    async def test_a_close_waits_for_nothing(self) -> None:
        """For the end of a start that failed: all is killed at once."""
        supervisor = self.supervise(app=ServerSpec(command=program(place="{unix_socket}"), unix_socket=True))
        lease = await supervisor.lease("app")
        run = supervisor._around.run
        supervisor.close()
        self.assertFalse(Path(lease.place.socket).parent.exists())
        await until(lambda: not marked(run), "its end")
