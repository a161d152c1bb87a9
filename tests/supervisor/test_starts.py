"""Tests of how managed servers start: once, for all who wait, and not at all for a reason that is told."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
from pathlib import Path

from twisted.internet.defer import CancelledError, DeferredList

from proxyd.errors import ServerStartError, UnknownServerError
from proxyd.model.servers import Place, Readiness, RestartSettings, ServerSpec
from proxyd.option import FilePath, Function, Port, PortRange, Seconds
from tests.supervisor.support import SupervisorCase, fetch, program, until
from tests.support import free_port

READY = Readiness(timeout=Seconds(30))


class StartTests(SupervisorCase):
    """The first lease, and those beside it."""

    async def test_nothing_starts_before_the_first_lease(self) -> None:
        """But what is eager."""
        supervisor = self.supervise(
            lazy=ServerSpec(command=program()), eager=ServerSpec(command=program(), start="eager")
        )
        supervisor.begin()
        await until(lambda: supervisor.status("eager")[0].state == "ready", "the eager one is ready")
        (status,) = supervisor.status("lazy")
        self.assertEqual((status.state, status.starts, status.pid), ("stopped", 0, 0))

    async def test_all_who_wait_share_one_start(self) -> None:
        """However many they are; each has a lease of its own."""
        supervisor = self.supervise(app=ServerSpec(command=program("--sleep=0.2")))
        results = await DeferredList([supervisor.lease("app") for _ in range(20)])
        self.assertTrue(all(is_good for is_good, _ in results))
        (status,) = supervisor.status("app")
        self.assertEqual((status.starts, status.leases, status.state), (1, 20, "ready"))
        for _, lease in results:
            lease.release()
            lease.release()
        self.assertEqual(supervisor.status("app")[0].leases, 0)

    async def test_a_lease_leads_to_the_server(self) -> None:
        """Its upstream is where the server listens, and the process has what the templates say."""
        supervisor = self.supervise(app=ServerSpec(command=program(), environment={"SAID": "{base_url}x{port}{{"}))
        lease = await supervisor.lease("app")
        self.assertEqual((lease.upstream.host, lease.upstream.port), ("localhost", lease.place.port))
        (status,) = supervisor.status("app")
        self.assertEqual(fetch(lease.place).splitlines()[-1], f"{status.pid} /user/a/x{lease.place.port}{{")

    async def test_leases_of_a_place_share_their_upstream(self) -> None:
        """Connections are kept by it."""
        supervisor = self.supervise(app=ServerSpec(command=program()))
        first, second = await supervisor.lease("app"), await supervisor.lease("app")
        self.assertIs(first.upstream, second.upstream)

    async def test_another_server_does_not_wait(self) -> None:
        """A start that takes long is its own matter."""
        supervisor = self.supervise(slow=ServerSpec(command=program("--sleep=600")), app=ServerSpec(command=program()))
        slow = supervisor.lease("slow")
        await supervisor.lease("app")
        self.assertFalse(slow.called)
        slow.cancel()
        await self.assert_fails(slow, CancelledError)
        self.assertEqual(supervisor.status("slow")[0].waiting, 0)
        self.assertEqual(supervisor.status("slow")[0].state, "starting")

    async def test_any_status_means_ready(self) -> None:
        """Unless the definition says which."""
        supervisor = self.supervise(
            app=ServerSpec(command=program("--status=500 Oops")),
            strict=ServerSpec(
                command=program("--status=500 Oops"), ready=Readiness(statuses=(200, 302), timeout=Seconds(0.5))
            ),
        )
        await supervisor.lease("app")
        error = await self.assert_fails(supervisor.lease("strict"), ServerStartError)
        self.assertIn("in time", str(error))

    async def test_a_raw_server_is_ready_when_it_accepts(self) -> None:
        """It is not asked anything: it never answers."""
        supervisor = self.supervise(app=ServerSpec(command=program("--mute"), raw_socket_proxy=True))
        await supervisor.lease("app")

    async def test_a_server_without_a_command_is_not_started(self) -> None:
        """Nor asked whether it is ready; without port and socket there is no such server."""
        supervisor = self.supervise(
            port=ServerSpec(port=Port(9)),
            path=ServerSpec(unix_socket=FilePath("/nowhere/x")),
            none=ServerSpec(),
        )
        lease = await supervisor.lease("port")
        self.assertEqual((lease.place, lease.upstream.port), (Place(9), 9))
        self.assertEqual((await supervisor.lease("path")).upstream.socket, "/nowhere/x")
        for name in ("none", "other"):
            await self.assert_fails(supervisor.lease(name), UnknownServerError)
        self.assertRaises(UnknownServerError, supervisor.status, "other")

    async def test_a_callable_that_returns_no_command_means_the_port(self) -> None:
        """Somebody else has the server there."""
        supervisor = self.supervise(app=ServerSpec(command=Function("m:f", lambda port: [])))
        lease = await supervisor.lease("app")
        self.assertGreater(lease.place.port, 0)
        self.assertEqual(supervisor.status("app")[0].starts, 0)

    async def test_a_slow_callable_does_not_block(self) -> None:
        """It runs in a thread, and what it returns is a template, too."""

        def slow(port: int) -> list[str]:
            time.sleep(0.3)
            return list(program())

        supervisor = self.supervise(app=ServerSpec(command=Function("m:slow", slow)))
        lease = supervisor.lease("app")
        self.assertEqual(supervisor.status("app")[0].state, "starting")
        await lease


class FailureTests(SupervisorCase):
    """Starts that come to nothing."""

    async def test_those_who_wait_fail_together(self) -> None:
        """After one start, not one each; the error has the name, and what was printed last (defect 31)."""
        supervisor = self.supervise(
            app=ServerSpec(command=program("--print=oh dear", "--sleep=600"), timeout=Seconds(2))
        )
        start = time.monotonic()
        leases = [supervisor.lease("app") for _ in range(4)]
        for lease in leases:
            error = await self.assert_fails(lease, ServerStartError)
            self.assertIn("server app was not ready in time", str(error))
            self.assertNotIn("oh dear", str(error))
            self.assertIn("oh dear", error.lines)
        self.assertLess(time.monotonic() - start, 2 * 4)  # one after the other
        await until(lambda: supervisor.status("app")[0].state == "failed", "it is killed")
        self.assertEqual(supervisor.status("app")[0].starts, 1)

    async def test_the_next_lease_starts_afresh(self) -> None:
        """Whatever the reason was, even while the process of the last start is being killed."""
        log = self.mktemp()
        supervisor = self.supervise(
            app=ServerSpec(command=program(f"--count={log}", "--sleep=600"), timeout=Seconds(1))
        )
        await self.assert_fails(supervisor.lease("app"), ServerStartError)
        await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertEqual(supervisor.status("app")[0].starts, 2)

    async def test_a_mute_server_is_given_up_in_time(self) -> None:
        """A question that is not answered does not outlive the deadline (defect 13)."""
        supervisor = self.supervise(app=ServerSpec(command=program("--mute"), timeout=Seconds(1.5)))
        start = time.monotonic()
        await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertLess(time.monotonic() - start, 5)  # what a question may take otherwise

    async def test_a_program_that_is_not_there_fails_at_once(self) -> None:
        """So does what cannot be executed, and each lease tries again."""
        plain = Path(self.mktemp())
        plain.write_text("x")
        supervisor = self.supervise(
            none=ServerSpec(command=("no-such-program",), ready=READY),
            plain=ServerSpec(command=(str(plain.absolute()),), ready=READY),
            cwd=ServerSpec(command=program(), cwd=FilePath("/no/such"), ready=READY),
            user=ServerSpec(command=program(), user="nosuchuser", ready=READY),
        )
        for name, reason in (
            ("none", "could not be started: no-such-program: No such file or directory"),
            ("plain", f"could not be started: {plain.absolute()}: Permission denied"),
            ("cwd", "could not be started: /no/such: No such file or directory"),
            ("user", "could not be started: there is no user nosuchuser"),
        ):
            for starts in (1, 2):
                error = await self.assert_fails(supervisor.lease(name), ServerStartError)
                self.assertEqual((error.reason, error.summary), (reason, "did not start"))
                (status,) = supervisor.status(name)
                self.assertEqual((status.state, status.exit_reason), ("failed", reason))
                self.assertEqual(status.starts, 0 if name == "user" else starts)

    async def test_a_template_that_is_wrong_starts_nothing(self) -> None:
        """The next lease tries again; a coroutine, nothing and a number are errors as well, and never a hang."""

        async def coroutine() -> list[str]:
            return []

        for command, words in (
            (("{nope}",), "{nope} is none of port, unix_socket, base_url"),
            (("{",), "a brace that is meant is doubled"),
            (Function("m:f", lambda nope: []), "asks for nope, which is none of"),
            (Function("m:f", coroutine), "coroutine function"),
            (Function("m:f", lambda: None), "expected a list, got nothing"),
            (Function("m:f", lambda: 5), "expected a list, got a value of the type int"),
            (Function("m:f", lambda: 1 / 0), "ZeroDivisionError"),
        ):
            supervisor = self.supervise(app=ServerSpec(command=command, ready=READY))
            for _ in range(2):
                error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
                self.assertIn(words, str(error))
            self.assertEqual(supervisor.status("app")[0].starts, 0)

    async def test_a_callable_that_hangs_is_given_up(self) -> None:
        """At the deadline of the start."""
        release = []

        def hang() -> list[str]:
            while not release:
                time.sleep(0.01)
            return list(program())

        self.addCleanup(release.append, True)
        supervisor = self.supervise(app=ServerSpec(command=Function("m:hang", hang), timeout=Seconds(0.5)))
        error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertIn("in time", str(error))

    async def test_a_server_that_succeeds_at_last_is_served(self) -> None:
        """A child that fails before it is ready is started again, as long as there is time."""
        log = self.mktemp()
        supervisor = self.supervise(app=ServerSpec(command=program(f"--count={log}:3"), ready=READY))
        lease = await supervisor.lease("app")
        lines = Path(log).read_text().splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines[-1].split()[1], str(lease.place.port))
        self.assertEqual(supervisor.status("app")[0].starts, 3)

    async def test_a_server_that_always_fails_is_given_up(self) -> None:
        """After so many starts, with the reason of the last one."""
        supervisor = self.supervise(
            app=ServerSpec(
                command=program("--exit=3"),
                restart=RestartSettings(backoff=Seconds(0.01), give_up_after=3),
                ready=READY,
            )
        )
        error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertEqual(error.reason, "ended with exit status 3 before it was ready")
        self.assertEqual(supervisor.status("app")[0].starts, 3)

    async def test_exit_status_0_before_it_is_ready_fails_at_once(self) -> None:
        """It has done what it wanted, and will not answer."""
        supervisor = self.supervise(app=ServerSpec(command=program("--exit=0"), ready=READY))
        error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertEqual(error.reason, "ended with exit status 0 before it was ready")
        self.assertEqual(supervisor.status("app")[0].starts, 1)

    async def test_the_end_of_the_time_ends_the_tries(self) -> None:
        """A server that fails again and again has one deadline for all of it."""
        supervisor = self.supervise(
            app=ServerSpec(
                command=program("--exit=3"),
                restart=RestartSettings(backoff=Seconds(60), backoff_max=Seconds(60), give_up_after=0),
                timeout=Seconds(1),
            )
        )
        error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertEqual(error.reason, "was not ready in time (1 s): it ended with exit status 3")
        self.assertEqual(error.summary, "was not ready in time (1 s)")


class PlaceTests(SupervisorCase):
    """Ports and sockets."""

    async def test_a_stranger_on_the_port_is_not_the_server(self) -> None:
        """A fixed port that is taken is a failure that says so, and nothing is started (defect 12)."""
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            port = stranger.getsockname()[1]
            supervisor = self.supervise(app=ServerSpec(command=program(), port=Port(port), ready=READY))
            error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertEqual(error.reason, f"could not be started: port {port} is taken by another program")
        self.assertEqual(supervisor.status("app")[0].starts, 0)

    async def test_a_fixed_port_is_where_it_listens(self) -> None:
        """It is put into the templates, too."""
        port = free_port()
        supervisor = self.supervise(app=ServerSpec(command=program(), port=Port(port), ready=READY))
        self.assertEqual((await supervisor.lease("app")).place, Place(port))

    async def test_a_chosen_port_is_kept(self) -> None:
        """Over stops and crashes; no two servers have the same."""
        supervisor = self.supervise(app=ServerSpec(command=program()), other=ServerSpec(command=program()))
        place = (await supervisor.lease("app")).place
        self.assertNotEqual(place, (await supervisor.lease("other")).place)
        await supervisor.restart("app")
        self.assertEqual((await supervisor.lease("app")).place, place)

    async def test_a_kept_port_that_somebody_took_is_given_up(self) -> None:
        """Another one is chosen, and the templates are rendered anew."""
        supervisor = self.supervise(app=ServerSpec(command=program()))
        place = (await supervisor.lease("app")).place
        await supervisor.stop("app")
        with socket.create_server(("127.0.0.1", place.port)):
            lease = await supervisor.lease("app")
        self.assertNotEqual(lease.place, place)
        self.assertIn("200", fetch(lease.place))

    async def test_a_range_holds_the_port(self) -> None:
        """Taken ones are passed over; when there is none left, the start fails."""
        first = next(port for port in range(20000, 60000, 7) if _are_free(port, 3))
        with socket.create_server(("127.0.0.1", first)):
            spec = ServerSpec(command=program(), port_range=PortRange(f"{first}-{first + 1}"), ready=READY)
            supervisor = self.supervise(app=spec, other=spec)
            self.assertEqual((await supervisor.lease("app")).place, Place(first + 1))
            error = await self.assert_fails(supervisor.lease("other"), ServerStartError)
        self.assertIn(f"all ports from {first} to {first + 1} are taken", str(error))

    async def test_a_private_socket_is_private(self) -> None:
        """A directory of mode 0700, the port is 0, and at the end nothing is left of it."""
        supervisor = self.supervise(
            app=ServerSpec(
                command=program(place="{unix_socket}"), environment={"SAID": "{port}"}, unix_socket=True, ready=READY
            )
        )
        lease = await supervisor.lease("app")
        directory = Path(lease.place.socket).parent
        self.assertEqual(stat.S_IMODE(directory.stat().st_mode), 0o700)
        self.assertEqual(Path(lease.place.socket).name, "socket")
        self.assertEqual(lease.upstream.socket, lease.place.socket)
        self.assertTrue(fetch(lease.place).endswith(" 0"))
        await supervisor.restart("app")
        self.assertEqual((await supervisor.lease("app")).place, lease.place)
        await supervisor.shutdown()
        self.assertFalse(directory.exists())

    async def test_a_private_directory_that_is_gone_is_made_anew(self) -> None:
        """Whoever tidies up has taken it away; what somebody else has put in its place is not used."""
        supervisor = self.supervise(
            app=ServerSpec(command=program(place="{unix_socket}"), unix_socket=True, ready=READY)
        )
        places = {(await supervisor.lease("app")).place}
        for put_back in (lambda path: None, lambda path: path.write_text("")):
            await supervisor.stop("app")
            directory = Path((supervisor.status("app")[0].place or Place(0)).socket).parent
            shutil.rmtree(directory)
            put_back(directory)
            lease = await supervisor.lease("app")
            self.assertTrue(fetch(lease.place))
            self.assertFalse(directory.is_dir())
            directory.unlink(missing_ok=True)
            places.add(lease.place)
        self.assertEqual(len(places), 3)
        self.assertEqual(stat.S_IMODE(Path(lease.place.socket).parent.stat().st_mode), 0o700)

    async def test_a_stale_socket_is_removed(self) -> None:
        """Only if it is a socket, and nobody accepts on it."""
        path = os.path.join(self.mktemp(), "s")
        path = str(Path("/tmp") / f"proxyd-test-{os.getpid()}.sock") if len(os.path.abspath(path)) > 100 else path
        path = os.path.abspath(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        spec = ServerSpec(command=program(place="{unix_socket}"), unix_socket=FilePath(path), ready=READY)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        self.addCleanup(Path(path).unlink, missing_ok=True)
        supervisor = self.supervise(app=spec)
        await supervisor.lease("app")
        error = await self.assert_fails(self.supervise(app=spec).lease("app"), ServerStartError)
        self.assertIn("is taken by another program", str(error))
        await supervisor.stop("app")
        Path(path).unlink()
        Path(path).write_text("precious")
        error = await self.assert_fails(supervisor.lease("app"), ServerStartError)
        self.assertIn("is no socket", str(error))
        self.assertEqual(Path(path).read_text(), "precious")


def _are_free(first: int, count: int) -> bool:
    try:
        for port in range(first, first + count):
            socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
