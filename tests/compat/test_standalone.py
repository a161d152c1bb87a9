"""Tests of what `jupyter standaloneproxy` reads besides its options."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.cli.wrap import read
from proxyd.compat.native import STANDALONE, WrapSetup
from proxyd.compat.standalone import SECTION, find_config, split_traits, traits_of
from proxyd.core.templates import names_at, render_pairs
from proxyd.errors import ConfigError
from proxyd.model.servers import Place
from tests.compat.test_native import HUB, command, exit_status_of, server

FILE = """
import os, re

c = get_config()  # noqa
c.ServerApp.port = 1
c.JupyterApp.log_level = "WARN"
c.ServerProcess.timeout = 7.5
c.StandaloneProxyServer.address = "10.0.0.1"
c.StandaloneProxyServer.port = 9000
c.StandaloneProxyServer.base_url = "/x"
c.StandaloneProxyServer.command = ["voila", "{presentation_path}", "--port={port}"]
c.StandaloneProxyServer.server_port = 8505
c.StandaloneProxyServer.environment = {"A_{port}": "{base_url}/{username}"}
c.StandaloneProxyServer.mappath = lambda path: path + "index.html"
c.StandaloneProxyServer.request_headers_override = lambda port, base_url: {"X": f"{port} {base_url}"}
c.StandaloneProxyServer.rewrite_response = [print, repr]
c.StandaloneProxyServer.update_last_activity = lambda handler: True
c.StandaloneProxyServer.exclude_last_activity_patterns = ["/a", re.compile("/b")]
c.StandaloneProxyServer.absolute_url = True
c.StandaloneProxyServer.raw_socket_proxy = True
c.StandaloneProxyServer.activity_interval = 60
c.StandaloneProxyServer.websocket_max_message_size = 100
c.StandaloneProxyServer.launcher_entry = {"title": "x"}
c.StandaloneProxyServer.new_browser_tab = False
c.StandaloneProxyServer.colour = "red"
"""
NAMES = names_at(Place(8505), "/ignored/")


class ConfigCase(SynchronousTestCase):
    """Has a directory for files, which is also where it is started."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def write(self, text: str, name: str = "config.py") -> str:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    def setup_of(self, *words: str, name: str = "proxyd wrap", **changed: str) -> WrapSetup:
        environ: Mapping[str, str] = {**HUB, "HOME": str(self.directory / "home"), **changed}
        return read(list(words), environ, str(self.directory), name)


class FileTests(ConfigCase):
    """`--config`."""

    def test_every_trait(self) -> None:
        """Is an option of ours; what Python alone can say is passed on, and what is for others is told."""
        setup = self.setup_of("--config", self.write(FILE), "--presentation-path=p.ipynb")
        (listener,) = setup.config.listeners
        self.assertEqual(("10.0.0.1", 9000), (listener.address, listener.port))  # type: ignore[attr-defined]
        self.assertEqual("/x/", setup.config.base_url)
        self.assertEqual(("voila", f"{self.directory}/p.ipynb", "--port=8505"), command(setup, Place(8505)))
        spec = server(setup)
        self.assertEqual((8505, 7.5), (spec.port, spec.ready_seconds))
        self.assertEqual({"A_8505": "/x/dan"}, render_pairs(spec.environment, NAMES, ""))
        self.assertEqual({"X": "8505 /x"}, render_pairs(spec.request_headers_override, NAMES, ""))
        self.assertEqual("/index.html", spec.mappath.call("/"))  # type: ignore[union-attr]
        self.assertEqual([print, repr], [function.call for function in spec.rewriters])
        self.assertTrue(spec.update_last_activity.call(None))  # type: ignore[union-attr]
        self.assertEqual((True, True), (spec.absolute_url, spec.raw_socket_proxy))
        activity = setup.config.activity
        self.assertEqual(60, activity.interval)
        self.assertEqual([True, True, False], [_matches(activity.ignore, path) for path in ("/x/a", "/x/b", "/x/c")])
        self.assertEqual(100, setup.config.route_defaults.websocket.max_message_size)  # type: ignore[union-attr]
        self.assertEqual("warn", setup.config.log.level)
        self.assertEqual(
            ("options of other programs are ignored: --ServerApp.port, --StandaloneProxyServer.colour",),
            setup.warnings,
        )

    def test_options_win(self) -> None:
        """Over traits on the command line, and these over the file; whatever the order."""
        file = self.write(FILE)
        for words in (("--port=9002", "--config", file), ("--config", file, "--port=9002")):
            setup = self.setup_of(
                *words,
                "--StandaloneProxyServer.port=9001",
                "--StandaloneProxyServer.server_port=9003",
                "--ServerProcess.absolute_url=False",
                "--environment=B=1",
                "--mappath=/=/b",
                "--",
                "other",
                "--StandaloneProxyServer.port=5",
            )
            (listener,) = setup.config.listeners
            self.assertEqual(9002, listener.port)  # type: ignore[attr-defined]
            self.assertEqual(("other", "--StandaloneProxyServer.port=5"), command(setup))
            spec = server(setup)
            self.assertEqual((9003, True), (spec.port, spec.absolute_url))
            self.assertEqual({"B": "1"}, spec.environment)
            self.assertEqual({"/": "/b"}, spec.mappath)

    def test_sockets_and_logins(self) -> None:
        """What has another form in our options."""
        for value, expected in ((True, True), ("/run/x.sock", "/run/x.sock"), (None, False), (False, False)):
            file = self.write(f"c.StandaloneProxyServer.unix_socket = {value!r}")
            self.assertEqual(expected, server(self.setup_of("--config", file, "a")).unix_socket)
        file = self.write("c.StandaloneProxyServer.no_authentication = True")
        self.assertTrue(self.setup_of("--config", file, "a").config.allow_anonymous)
        file = self.write("c.StandaloneProxyServer.environment['A'] = 'b'\nc.StandaloneProxyServer.log_level = 10")
        setup = self.setup_of("--config", file, "a")
        self.assertEqual({"A": "b"}, server(setup).environment)
        self.assertEqual("debug", setup.config.log.level)

    def test_json(self) -> None:
        """Says the same."""
        file = self.write(json.dumps({SECTION: {"port": 9000, "command": ["a"]}}), "config.json")
        self.assertEqual(9000, self.setup_of("--config", file).config.listeners[0].port)  # type: ignore[attr-defined]

    def test_files_that_cannot_be_used(self) -> None:
        """Status 78; the file and its line are named, or the traits, all of them."""
        for text, said in (
            ("x = (\n", ("config.py:1:", "is not Python")),
            ("x = 1\nc.A.b = {}['a']\n", ("config.py:2:1: KeyError: 'a'",)),
            (
                (
                    "c.StandaloneProxyServer.port = 'x'\nc.StandaloneProxyServer.timeout = []\n"
                    "c.StandaloneProxyServer.no_authentication = 1\nc.StandaloneProxyServer.base_url = 1\n"
                    "c.StandaloneProxyServer.activity_interval = True\nc.StandaloneProxyServer.log_level = []\n"
                    "c.StandaloneProxyServer.environment = {'a': 1}\n"
                ),
                (
                    "c.StandaloneProxyServer.port: expected a number, got 'x'",
                    "c.StandaloneProxyServer.timeout: ",
                    "c.StandaloneProxyServer.no_authentication: expected True or False",
                    "c.StandaloneProxyServer.base_url: expected a text",
                    "c.StandaloneProxyServer.activity_interval: expected a number",
                    "c.StandaloneProxyServer.log_level: expected a name or a number",
                    "c.StandaloneProxyServer.environment.a: ",
                ),
            ),
            ("c.StandaloneProxyServer.command = lambda: ['a']", ("command: has to be a list of words",)),
        ):
            file = self.write(text)
            status, printed = exit_status_of(lambda file=file: self.setup_of("--config", file, "a"))  # type: ignore[misc]
            self.assertEqual(78, status, text)
            for words in said:
                self.assertIn(words, printed)
        status, printed = exit_status_of(lambda: self.setup_of("--config=absent.py", "a"))
        self.assertEqual(78, status)
        self.assertIn("absent.py: cannot be read", printed)
        status, printed = exit_status_of(lambda: self.setup_of("--StandaloneProxyServer.port=x", "a"))
        self.assertEqual(78, status)
        self.assertIn("expected a number, got 'x'", printed)

    def test_values_are_looked_at_like_options(self) -> None:
        """A port that is none is misuse, wherever it was said."""
        file = self.write("c.StandaloneProxyServer.port = 70000")
        self.assertEqual(2, exit_status_of(lambda: self.setup_of("--config", file, "a"))[0])
        file = self.write("c.StandaloneProxyServer.environment = {'a': '{nope}'}")
        status, printed = exit_status_of(lambda: self.setup_of("--config", file, "a"))
        self.assertEqual(2, status)
        self.assertIn("{nope}", printed)


class NameTests(ConfigCase):
    """As `jupyter-standaloneproxy`, which is what `jupyter standaloneproxy` runs."""

    def test_its_defaults(self) -> None:
        """5 seconds, redirects with the prefix, and files of Jupyter's directories that nobody has to name.

        A file of the working directory is not read, as whoever has put it there would be obeyed.
        """
        self.write("raise RuntimeError", "jupyter_standalone_proxy_config.py")
        setup = self.setup_of("a", name=STANDALONE)
        self.assertEqual((5.0, True), (server(setup).ready_seconds, server(setup).rewrite_location))
        self.write(
            "c.StandaloneProxyServer.port = 1\nc.ServerProcess.timeout = 3", "jup/jupyter_standalone_proxy_config.py"
        )
        self.write("c.StandaloneProxyServer.port = 4", "more/jupyter_standalone_proxy_config.py")
        self.write('{"StandaloneProxyServer": {"port": 2}}', "more/jupyter_standalone_proxy_config.json")
        environ = {
            "JUPYTER_CONFIG_DIR": str(self.directory / "jup"),
            "JUPYTER_CONFIG_PATH": str(self.directory / "more"),
        }
        found = [file for file in find_config(environ) if file.is_relative_to(self.directory)]
        self.assertEqual(3, len(found), found)
        setup = self.setup_of("a", name=STANDALONE, **environ)
        self.assertEqual((2, 3.0), (setup.config.listeners[0].port, server(setup).ready_seconds))  # type: ignore[attr-defined]
        for changed, name in (({}, "proxyd wrap"), (environ, "jhsingle-native-proxy")):
            setup = self.setup_of("a", name=name, **changed)
            self.assertEqual((24010, 10.0), (setup.config.listeners[0].port, server(setup).ready_seconds))  # type: ignore[attr-defined]
            self.assertFalse(server(setup).rewrite_location)


class ShowTests(ConfigCase):
    """What is printed or written instead of a start; none of it needs a Hub, or a command."""

    def test_what_was_configured(self) -> None:
        """Files, and what was set in them or typed, under the names of the traits."""
        file = self.write("c.StandaloneProxyServer.port = 9000\nc.StandaloneProxyServer.base_url = '/x'")
        words = ("--config", file, "--timeout=3", "--StandaloneProxyServer.port=9001", "--repo=r")
        status, printed = exit_status_of(lambda: self.setup_of("--show-config", *words))
        self.assertEqual(0, status)
        self.assertEqual(
            f"Loaded config files:\n  {file}\n\n{SECTION}\n  .base_url = '/x'\n  .port = 9001\n  .repo = 'r'\n"
            "  .timeout = 3.0\n",
            printed,
        )
        status, printed = exit_status_of(lambda: self.setup_of(*words, "--show-config-json"))
        self.assertEqual(0, status)
        self.assertEqual({SECTION: {"port": 9001, "base_url": "/x", "timeout": 3.0, "repo": "r"}}, json.loads(printed))
        self.assertIn("nothing", exit_status_of(lambda: self.setup_of("--show-config"))[1])

    def test_a_sample(self) -> None:
        """Every trait, none of them set; it can be read, and is written over nothing that is there."""
        file = str(self.directory / "sub" / "config.py")
        status, printed = exit_status_of(lambda: self.setup_of("--config", file, "--generate-config"))
        self.assertEqual((0, f"{file} is written\n"), (status, printed))
        text = Path(file).read_text()
        self.assertEqual(20, text.count(f"# c.{SECTION}."))
        self.setup_of("--config", file, "a")
        uncommented = self.write(re.sub(r"(?m)^# (?=c\.)", "", text).replace("port = 0", "port = 9"), "all.py")
        self.setup_of("--config", uncommented, "a")
        status, printed = exit_status_of(lambda: self.setup_of("--generate-config", "--config", file))
        self.assertEqual(1, status)
        self.assertIn("File exists", printed)
        self.assertEqual(text, Path(file).read_text())


class WordTests(SynchronousTestCase):
    """Traits among the words of a command line."""

    def test_which_are_ours(self) -> None:
        """Those of a class that counts, in front of `--`; a value, in the same or the next word, is Python or text."""
        words = [
            "--StandaloneProxyServer.port=9000",
            "--ServerProcess.environment={'A': 'b'}",
            "--StandaloneProxyServer.base_url=/x",
            "--StandaloneProxyServer.timeout",
            "30",
            "--absolute-url=True",
            "--raw-socket-proxy=false",
            "--ServerProcess.unix_socket=true",
            "--ServerApp.x=1",
            "--absolute-url",
            "a",
            "--",
            "--StandaloneProxyServer.port=1",
        ]
        rest, found = split_traits(words)
        self.assertEqual(words[8:], rest)
        own = {"port": 9000, "base_url": "/x", "timeout": 30, "absolute_url": True, "raw_socket_proxy": False}
        self.assertEqual({SECTION: own, "ServerProcess": {"environment": {"A": "b"}, "unix_socket": True}}, found)
        self.assertEqual(([], {SECTION: {"port": ""}}), split_traits(["--StandaloneProxyServer.port"]))
        self.assertRaises(ConfigError, traits_of, {SECTION: {"port": "x"}})


def _matches(patterns: tuple[str, ...], path: str) -> bool:
    return any(re.fullmatch(pattern, path) for pattern in patterns)
