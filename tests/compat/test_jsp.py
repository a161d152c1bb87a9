"""Tests of servers that packages and Jupyter's files bring."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.compat.jsp import GROUP, Imports, with_imported
from proxyd.errors import ConfigError
from proxyd.model.servers import ServerSpec
from proxyd.model.settings import Config
from proxyd.option import FilePath, Function, HostName, Port, ServerName


def setup_tensorboard() -> dict[str, Any]:
    """As packages have it, with a key that means nothing."""

    def command(port: int) -> list[str]:
        return ["tensorboard", "--port", str(port)]

    return {"command": command, "port": 6006, "timeout": 20, "launcher_entry": {"title": "T", "x": 1}, "new": True}


def setup_shadowed() -> dict[str, Any]:
    return {"port": 1}


def setup_fails() -> dict[str, Any]:
    raise FileNotFoundError("vncserver is not installed")


def setup_exits() -> dict[str, Any]:
    raise SystemExit(3)


def setup_list() -> list[str]:
    return ["no dict"]


def setup_types() -> dict[str, Any]:
    return {"command": "a string", "timeout": "soon"}


def package(name: str, function: str = "") -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{function or f'setup_{name}'}", GROUP)


class ImportTests(SynchronousTestCase):
    """`server_packages` and `jupyter_config`."""

    def setUp(self) -> None:
        self.warnings: list[str] = []
        self.packages: list[EntryPoint] = []

    def imported(self, environ: dict[str, str] | None = None, **options: Any) -> dict[str, ServerSpec]:
        config = with_imported(Config(**options), self.warnings.append, environ or {}, lambda: self.packages)
        return dict(config.servers)

    def problems(self, **options: Any) -> list[str]:
        try:
            self.imported(**options)
        except ConfigError as error:
            return str(error).splitlines()
        return []

    def test_nothing_is_imported_unasked(self) -> None:
        """Not even looked for."""
        config = Config()
        self.assertEqual(config, with_imported(config, self.warnings.append, {}, lambda: 1 / 0))  # type: ignore[arg-type, return-value]
        self.assertEqual([], self.warnings)

    def test_a_package_brings_a_server(self) -> None:
        """Keys that nobody knows are told, and mean nothing."""
        self.packages = [package("tensorboard"), package("fails")]
        servers = self.imported(server_packages=("tensorboard",))
        spec = servers["tensorboard"]
        self.assertEqual((["tensorboard"], 6006, 20.0), (list(servers), spec.port, spec.ready_seconds))
        self.assertEqual("T", spec.launcher_entry.title)
        self.assertEqual(
            {f"server tensorboard: {key} is not known and left out" for key in ("launcher_entry.x", "new")},
            set(self.warnings),
        )

    def test_bad_packages_are_left_out(self) -> None:
        """Whatever they do, and the others live."""
        self.packages = [package(name) for name in ("fails", "exits", "list", "types", "shadowed")]
        self.packages += [package("absent", "setup_absent"), package("shadowed", "setup_tensorboard")]
        self.packages.append(EntryPoint("unknown", "there.is.no.such.module:f", GROUP))
        servers = self.imported(server_packages="*")
        self.assertEqual({"shadowed": 1}, {name: spec.port for name, spec in servers.items()})
        for words in (
            "server fails: tests.compat.test_jsp:setup_fails is left out: FileNotFoundError: vncserver",
            "server exits: tests.compat.test_jsp:setup_exits is left out: SystemExit: 3",
            "server list: tests.compat.test_jsp:setup_list is left out: servers.list: expected a dict, got a list",
            "server types: tests.compat.test_jsp:setup_types is left out: servers.types.timeout: expected a duration",
            "server absent: tests.compat.test_jsp:setup_absent is left out: AttributeError",
            "server shadowed: tests.compat.test_jsp:setup_tensorboard is left out, another package",
            "server unknown: there.is.no.such.module:f is left out: ModuleNotFoundError",
        ):
            self.assertTrue(any(warning.startswith(words) for warning in self.warnings), f"{words}: {self.warnings}")

    def test_a_package_that_is_not_there(self) -> None:
        """Is a mistake in the configuration."""
        self.packages = [package("tensorboard")]
        self.assertEqual(
            ["server_packages: no installed package brings the server tensorbord (did you mean tensorboard?)"],
            self.problems(server_packages=("tensorbord", "tensorboard")),
        )

    def test_what_is_configured_comes_first(self) -> None:
        """The file, then Jupyter's files, then packages."""
        self.packages = [package(name, "setup_shadowed") for name in ("own", "jupyter", "package")]
        file = Path(self.mktemp())
        file.write_text("c.ServerProxy.servers = {'own': {'port': 2}, 'jupyter': {'port': 2}}\nc.ServerApp.port = 1\n")
        servers = self.imported(
            servers={ServerName("own"): ServerSpec(port=Port(3))},
            jupyter_config=(FilePath(str(file)),),
            server_packages="*",
        )
        self.assertEqual({"own": 3, "jupyter": 2, "package": 1}, {name: spec.port for name, spec in servers.items()})
        self.assertEqual(
            ["jupyter_config: ServerApp.port: these settings are not for proxyd, and ignored"], self.warnings
        )

    def test_jupyters_own_files_are_found(self) -> None:
        """In its directories."""
        home = Path(self.mktemp())
        (home / ".jupyter").mkdir(parents=True)
        (home / ".jupyter/jupyter_server_config.py").write_text("c.ServerProxy.servers = {'a': {'port': 1}}")
        servers = self.imported({"HOME": str(home.absolute())}, jupyter_config="auto")
        self.assertEqual(1, servers["a"].port)
        self.assertEqual(5.0, servers["a"].ready_seconds)

    def test_ports_in_files(self) -> None:
        """Hosts and functions, unless our own file says otherwise; whether there are ports at all is up to that."""
        file = Path(self.mktemp())
        config = Config(jupyter_config=(FilePath(str(file)),))
        for name in ("host_allowlist", "host_whitelist"):
            file.write_text(f"c.ServerProxy.{name} = ['db']\nc.ServerProxy.non_service_rewrite_response = print\n")
            ports = with_imported(config, self.warnings.append, {}).ports
            self.assertEqual((("db",), False), (ports.hosts, ports.enabled))
            self.assertIs(print, ports.rewriters[0].call)
            own = attrs.evolve(config.ports, hosts=(HostName("mine"),), rewrite_response=(Function("m:f", len),))
            self.assertEqual(own, with_imported(attrs.evolve(config, ports=own), self.warnings.append, {}).ports)
        file.write_text("c.ServerProxy.host_allowlist = lambda handler, host: host == 'db'\n")
        hosts = with_imported(config, self.warnings.append, {}).ports.hosts
        assert isinstance(hosts, Function)
        self.assertTrue(hosts.call(None, "db"))
        file.write_text("c.ServerProxy.host_allowlist = [5]\n")
        (problem,) = self.problems(jupyter_config=(FilePath(str(file)),))
        self.assertTrue(problem.startswith("ports.hosts[0]: "), problem)

    def test_bad_servers_in_files_are_mistakes(self) -> None:
        """All of them are told, with server and key, and those of packages as well."""
        for text, problems in (
            ("servers = []", ["c.ServerProxy.servers: expected a dict, got a list"]),
            (
                "servers = {'a': {'port': 'x'}, 'b': 1}",
                ["servers.a.port: expected a whole number, got 'x'", "servers.b: expected a dict, got a int"],
            ),
        ):
            file = Path(self.mktemp())
            file.write_text(f"c.ServerProxy.{text}")
            found = self.problems(jupyter_config=(FilePath(str(file)),), server_packages=("x",))
            self.assertEqual([*problems, "server_packages: no installed package brings the server x"], found)

    def test_packages_are_called_once(self) -> None:
        """However often the configuration is read: the same server comes of it, functions included."""
        calls = []

        class Package(EntryPoint):
            def load(self) -> Any:
                calls.append(self.name)
                return super().load()

        point = Package("tensorboard", f"{__name__}:setup_tensorboard", GROUP)
        imports = Imports({}, lambda: [point])
        config = Config(server_packages="*")
        first, second = (imports.complete(config, self.warnings.append) for _ in range(2))
        self.assertEqual((first, ["tensorboard"]), (second, calls))

    def test_the_rest_stays(self) -> None:
        """Nothing but the servers changes."""
        before = Config(pid_file=FilePath("x"), server_packages="*")
        after = with_imported(before, self.warnings.append, {}, lambda: [package("shadowed")])
        self.assertEqual(before, attrs.evolve(after, servers={}))
