"""Tests of `proxyd.workers.parcel`: a configuration that travels."""

from __future__ import annotations

import os.path
import sys
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.model.servers import ServerSpec
from proxyd.model.settings import Config
from proxyd.option import Function, ServerName
from proxyd.workers.parcel import pack, unpack

CONFIG = """
workers: 2
base_url: /base/
auth: {kind: token, token: "12345678"}
routes:
  /a: {upstream: "http://a.test", websocket: {kind: relay, max_message_size: 1 MiB}, rate: 3/s}
  a.test/: http+unix://%2Ftmp%2Fa
patterns: [{pattern: "/p/(?P<port>[0-9]+)/.*", upstream: "http://127.0.0.1:{port}", allow: {port: 1024-2000}}]
servers: {one: {command: !python os.path:join, rewrite_response: [!python os.path:basename]}}
store: {kind: sqlite, path: routes.sqlite}
"""


def unchanged(config: Config) -> Config:
    return config


class ParcelTests(SynchronousTestCase):
    """What is unpacked is what was packed."""

    def setUp(self) -> None:
        self.warnings: list[str] = []

    def test_everything_travels(self) -> None:
        """All sections and kinds; functions are found by their names."""
        config = parse(CONFIG, KINDS)
        found = unpack(pack(config), unchanged, self.warnings.append)
        self.assertEqual((found, self.warnings), (config, []))
        self.assertIs(found.servers[ServerName("one")].rewriters[0].call, os.path.basename)

    def test_where_the_controller_looks_is_looked(self) -> None:
        """A directory of `python_path` travels with what comes from there."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "proxyd_parcel.py").write_text("def command():\n    pass\n")
        self.patch(sys, "path", list(sys.path))
        self.addCleanup(sys.modules.pop, "proxyd_parcel", None)
        text = f"python_path: [{directory}]\nservers: {{one: {{command: !python proxyd_parcel:command}}}}\n"
        packed = pack(parse(text, KINDS))
        sys.path.remove(str(directory))
        del sys.modules["proxyd_parcel"]
        for _ in range(2):
            found = unpack(packed, unchanged, self.warnings.append)
            self.assertEqual((self.warnings, sys.path.count(str(directory))), ([], 1))
        command: object = found.servers[ServerName("one")].command
        assert isinstance(command, Function)
        self.assertEqual(command.call.__module__, "proxyd_parcel")

    def test_functions_without_a_name_are_imported_again(self) -> None:
        """They are taken from where they were; `own` servers are not asked for again."""
        calls = [lambda: "imported", lambda: "again"]

        def with_server(config: Config, number: int = 0) -> Config:
            rewriter = Function("mod:<lambda>", calls[number])
            spec = ServerSpec(command=("x",), rewrite_response=(rewriter,))
            return attrs.evolve(config, servers={**config.servers, ServerName("imported"): spec})

        def again(config: Config) -> Config:
            self.assertEqual(config.servers, {})
            return with_server(config, 1)

        found = unpack(pack(with_server(parse(CONFIG, KINDS))), again, self.warnings.append)
        self.assertEqual(found.servers[ServerName("imported")].rewriters[0].call(), "again")
        self.assertEqual(sorted(found.servers), ["imported", "one"])
        self.assertEqual(self.warnings, [])

    def test_what_is_not_there_any_more(self) -> None:
        """Is told, and raises when it is called; everything else works."""
        lost = Function("mod:<lambda>", lambda: None)
        config = attrs.evolve(Config(), servers={ServerName("one"): ServerSpec(command=("x",), rewrite_response=lost)})
        found = unpack(pack(config), unchanged, self.warnings.append)
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("mod:<lambda>", self.warnings[0])
        with self.assertRaises(RuntimeError):
            found.servers[ServerName("one")].rewriters[0].call()
        gone = Function("os.path:basename", os.path.basename)
        packed = pack(attrs.evolve(Config(), servers={ServerName("one"): ServerSpec(command=gone)}))
        unpack(packed.replace(b"os.path:basename", b"os.path:baseless"), unchanged, self.warnings.append)
        self.assertIn("os.path:baseless cannot be imported", self.warnings[-1])
