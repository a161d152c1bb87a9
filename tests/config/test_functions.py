"""Tests of `!python`."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.functions import find_function
from proxyd.config.loader import load, parse
from proxyd.errors import ConfigError, OptionError
from proxyd.model.settings import Config


def problems_of(text: str) -> list[str]:
    try:
        parse(text, KINDS, name="f")
    except ConfigError as error:
        return str(error).splitlines()
    return []


class FindTests(SynchronousTestCase):
    """`find_function`."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.addCleanup(setattr, sys, "path", list(sys.path))

    def write(self, name: str, text: str) -> None:
        (self.directory / f"{name}.py").write_text(text)
        self.addCleanup(sys.modules.pop, name, None)

    def test_a_callable_is_found_by_its_name(self) -> None:
        """In a module, in an object of it, and in the directories that are given."""
        self.write("proxyd_test_apps", "class App:\n    def run(self): return 5\napp = App()\n")
        self.assertEqual(find_function("os.path:join").call("a", "b"), "a/b")
        function = find_function("proxyd_test_apps:app.run", [str(self.directory)])
        self.assertEqual((function.name, function.call()), ("proxyd_test_apps:app.run", 5))
        self.assertEqual(find_function("os.path:join"), find_function("os.path:join"))

    def test_what_cannot_be_found_is_told(self) -> None:
        """Whatever importing it does."""
        self.write("proxyd_test_leaves", "raise SystemExit(1)\n")
        self.write("proxyd_test_broken", "x = (\n")
        for name, words in (
            ("nonsense", "expected !python module:attribute, got 'nonsense'"),
            ("a:b c", "expected !python module:attribute, got 'a:b c'"),
            ("no_such_module:x", "ModuleNotFoundError: No module named 'no_such_module'"),
            ("os:nope", "AttributeError"),
            ("os:path", "cannot be called: it is of the type module"),
            ("proxyd_test_leaves:x", "SystemExit: 1"),
            ("proxyd_test_broken:x", "SyntaxError"),
        ):
            with self.assertRaises(OptionError, msg=name) as caught:
                find_function(name, [str(self.directory)])
            self.assertIn(words, str(caught.exception))

    def test_python_path_counts_from_the_file(self) -> None:
        """In whatever order the options stand, and in files of conf.d as well."""
        self.write("proxyd_test_commands", "def command(port):\n    return ['a']\n")
        file = self.directory / "proxyd.yaml"
        file.write_text("servers: {a: {command: !python proxyd_test_commands:command}}\npython_path: [.]\n")
        pieces = self.directory / "conf.d"
        pieces.mkdir()
        (pieces / "b.yaml").write_text("servers: {b: {rewrite_response: [!python proxyd_test_commands:command]}}\n")
        config = load(file, KINDS, {})
        command = config.servers["a"].command  # type: ignore[index]
        self.assertEqual(command.call(5), ["a"])  # type: ignore[union-attr]
        self.assertEqual(config.servers["b"].rewriters, (command,))  # type: ignore[index]


class LoaderTests(SynchronousTestCase):
    """`!python` and `servers` in a file."""

    def test_problems_have_their_place(self) -> None:
        """Server, key, line and column; what is wrong with one server says nothing of the others."""
        patterns = "exclude_last_activity_patterns"
        self.assertEqual(
            problems_of(
                "servers:\n"
                "  a:\n"
                "    command: !python os:x\n"
                "    environment: 5\n"
                "    mappath: {/a: 5}\n"
                "    unix_socket: 5\n"
                "    ready: {statuses: [x], timeout: 0s}\n"
                "    exclude_last_activity_patterns: [a, '*']\n"
                "    port_range: 9-5\n"
                "    cmd: x\n"
                "  b: {command: [a], timeout: 5s, ready: {timeout: 5s}}\n"
                "  /c: {}\n"
                "log: {level: !python os:getcwd}\n"
            ),
            [
                "f:3:14: servers.a.command: os:x cannot be imported: AttributeError: module 'os' has no attribute 'x'",
                "f:4:18: servers.a.environment: expected a section or !python module:attribute, got 5",
                "f:5:19: servers.a.mappath./a: expected text, got 5: put it in quotes",
                "f:6:18: servers.a.unix_socket: expected text, got 5: put it in quotes",
                "f:7:24: servers.a.ready.statuses[0]: expected a whole number, got 'x'",
                f"f:8:41: servers.a.{patterns}[1]: is not a regular expression: nothing to repeat at position 0",
                "f:9:17: servers.a.port_range: expected ports such as 20000-20999, got '9-5'",
                "f:10:5: servers.a.cmd: unknown option (did you mean cwd?)",
                "f:11:30: servers.b.timeout: is the same as ready.timeout: give one of them",
                "f:12:7: servers./c: the name of a server is one path segment or several, without blanks and escapes",
                "f:13:14: log.level: expected one of debug, info, warn, error; got !python os:getcwd",
            ],
        )

    def test_all_forms_of_an_option_can_be_written(self) -> None:
        """A list or a callable, a truth value or a path, a word or a list."""
        config = parse(
            "servers:\n"
            "  a: {command: [a, '{port}'], environment: {A: b}, unix_socket: true, mappath: !python os.path:join,\n"
            "      update_last_activity: false, ready: {statuses: any}, progressive: true}\n"
            "  grp/b: {command: !python os:getcwd, environment: !python os:getcwd, unix_socket: s,\n"
            "      update_last_activity: !python os:getcwd, rewrite_response: !python os:getcwd,\n"
            "      ready: {statuses: [200, 302]}, progressive: !python os:getcwd}\n",
            KINDS,
        )
        self.assertIsInstance(config, Config)
        first, second = config.servers.values()
        self.assertEqual((first.command, first.unix_socket, first.ready.statuses), (("a", "{port}"), True, "any"))
        self.assertEqual((first.update_last_activity, first.progressive), (False, True))
        self.assertEqual((second.unix_socket, second.ready.statuses), ("s", (200, 302)))
        self.assertEqual(second.update_last_activity, second.rewriters[0])
        self.assertEqual(list(config.servers), ["a", "grp/b"])

    def test_a_callable_is_refused_where_none_is_taken(self) -> None:
        """In a secret as well."""
        self.assertEqual(
            problems_of("servers: {a: {cwd: !python os:getcwd}}"),
            ["f:1:20: servers.a.cwd: expected text, got !python os:getcwd"],
        )
        self.assertEqual(
            problems_of("api: {token: !python os:getcwd}"), ["f:1:14: api.token: expected text, got !python os:getcwd"]
        )
