"""Every console block of the documents is run, and prints what it shows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.docs.markdown import DOCUMENTS, Block, blocks_of, name_of
from tests.docs.terminal import NOT_RUN, Step, Terminal, pattern_of, steps_of
from tests.support import CHECKOUT


def fresh_terminal(case: SynchronousTestCase) -> Terminal:
    """A terminal in a directory that is not kept."""
    root = Path(tempfile.mkdtemp(prefix="proxyd-docs-"))
    case.addCleanup(shutil.rmtree, root)
    return Terminal(case, root / "checkout")


class ConsoleTests(SynchronousTestCase):
    """One test for each document that has console blocks."""

    def check(self, name: str) -> None:
        """Do what the document says, from its first block to its last one."""
        if shutil.which("curl") is None:
            raise SkipTest("the documents use curl, which is not installed")
        terminal = fresh_terminal(self)
        for block in blocks_of(CHECKOUT / name):
            if block.language == "console":
                for step in steps_of(block):
                    if not step.command.startswith(tuple(NOT_RUN)):
                        terminal.run(step)
            elif block.file:
                terminal.write(block)
        terminal.end()

    def test_readme(self) -> None:
        """The first five minutes."""
        self.check("README.md")

    def test_api(self) -> None:
        """The REST API."""
        self.check("docs/api.md")

    def test_contributing(self) -> None:
        """What developers type."""
        self.check("CONTRIBUTING.md")

    def test_howto_durable_routes(self) -> None:
        """Routes that survive a restart, and their back-up."""
        self.check("docs/howto/durable-routes.md")

    def test_howto_errors(self) -> None:
        """Error pages, and what the log tells of them."""
        self.check("docs/howto/errors.md")

    def test_howto_workers(self) -> None:
        """Each command prints what the page says."""
        self.check("docs/howto/workers.md")

    def test_howto_wrap(self) -> None:
        """One application in place of jupyterhub-singleuser."""
        self.check("docs/howto/wrap.md")

    def test_howto_jupyterhub(self) -> None:
        """As the proxy of a JupyterHub."""
        self.check("docs/howto/jupyterhub.md")

    def test_howto_jupyterhub_login(self) -> None:
        """For the users of a JupyterHub."""
        self.check("docs/howto/jupyterhub-login.md")

    def test_howto_operations(self) -> None:
        """What an operator asks of the process."""
        self.check("docs/howto/operations.md")

    def test_howto_pattern_routes(self) -> None:
        """Routes by regular expression."""
        self.check("docs/howto/pattern-routes.md")

    def test_howto_ports(self) -> None:
        """Ports by number."""
        self.check("docs/howto/ports.md")

    def test_howto_publish_an_app(self) -> None:
        """A route to an application."""
        self.check("docs/howto/publish-an-app.md")

    def test_howto_reload(self) -> None:
        """A configuration that changes."""
        self.check("docs/howto/reload.md")

    def test_howto_systemd(self) -> None:
        """As a service of the system."""
        self.check("docs/howto/systemd.md")

    def test_howto_token_login(self) -> None:
        """Who comes in, and who does not."""
        self.check("docs/howto/token-login.md")

    def test_managed_servers(self) -> None:
        """A program below its name."""
        self.check("docs/managed-servers.md")

    def test_no_document_is_forgotten(self) -> None:
        """Each one with console blocks has its test above."""
        names = {name_of(path) for path in DOCUMENTS if any(block.language == "console" for block in blocks_of(path))}
        tests = {name for name in dir(self) if name.startswith("test_")}
        expected = {
            f"test_{name.removeprefix('docs/')[:-3].lower().replace('/', '_').replace('-', '_')}" for name in names
        }
        self.assertEqual(expected - tests, set())

    def test_every_reason_not_to_run_a_command_is_needed(self) -> None:
        """There is such a command."""
        blocks = [block for path in DOCUMENTS for block in blocks_of(path) if block.language == "console"]
        commands = [step.command for block in blocks for step in steps_of(block)]
        unused = [start for start in NOT_RUN if not any(command.startswith(start) for command in commands)]
        self.assertEqual(unused, [])


class TerminalTests(SynchronousTestCase):
    """How a block is read and run; a mistake here would let documents say anything."""

    def test_what_is_printed_is_compared(self) -> None:
        """With all that is shown, and with nothing else."""
        terminal = fresh_terminal(self)
        terminal.run(Step("", "echo a; echo b >&2", "a\nb\n"))
        for shown in ("", "a\n", "b\n", "a\nb\nc\n"):
            with self.assertRaises(AssertionError):
                terminal.run(Step("", "echo a; echo b", shown))

    def test_a_failure_has_to_be_shown(self) -> None:
        """By `echo $?`, or it is one of the document."""
        terminal = fresh_terminal(self)
        terminal.run(Step("", "exit 3", ""))
        terminal.run(Step("", "echo $?", "3\n"))
        terminal.run(Step("", "exit 3", ""))
        with self.assertRaises(AssertionError):
            terminal.run(Step("", "echo a", "a\n"))
        with self.assertRaises(AssertionError):
            terminal.end()

    def test_values_stay(self) -> None:
        """For the commands below."""
        terminal = fresh_terminal(self)
        terminal.run(Step("", "word=$(echo a b)", ""))
        terminal.run(Step("", 'echo "$word"', "a b\n"))

    def test_ports_are_free_ones(self) -> None:
        """The document sees its own."""
        terminal = fresh_terminal(self)
        terminal.run(Step("", "test 8000 != $((4000 + 4000))", ""))
        terminal.run(Step("", "echo http://127.0.0.1:8000/ port: 9000", "http://127.0.0.1:8000/ port: 9000\n"))

    def test_commands_and_outputs_are_told_apart(self) -> None:
        """A command may have several lines; what comes before the first one is output."""
        steps = steps_of(Block("x.md:1", "console", "a\n$ b \\\n  c\nd\ne\n$ f\n"))
        expected = [Step("x.md:1", "", "a\n"), Step("x.md:1", "b \\\n  c", "d\ne\n"), Step("x.md:1", "f", "")]
        self.assertEqual(list(steps), expected)

    def test_dots_stand_for_anything(self) -> None:
        """For a part of a line, or for lines; everything else is meant literally."""
        cases = [
            ("a...c\n", "abc\n", True),
            ("a...c\n", "a\nc\n", False),
            ("a\n...\nd\n", "a\nb\nc\nd\n", True),
            ("a\n...\nd\n", "a\nd\n", True),
            ("a.\n", "ab\n", False),
            ("", "a\n", False),
            ("a\n", "", False),
        ]
        for shown, printed, is_match in cases:
            self.assertEqual(bool(pattern_of(shown).fullmatch(printed)), is_match, (shown, printed))

    def test_a_file_is_named_by_a_comment(self) -> None:
        """In the first line, and alone in it."""
        cases = [
            ("# a/b.yaml\n", "a/b.yaml"),
            ("<!-- 404.html -->\n", "404.html"),
            ("# some words.\n", ""),
            ("a.b\n", ""),
        ]
        for text, file in cases:
            self.assertEqual(Block("", "", text).file, file)
