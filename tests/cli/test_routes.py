"""Tests of `proxyd routes`; those of `backup` and `restore` are in tests.integration.test_sqlite_store."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from proxyd.cli import proxyd
from tests.certificates import Authority
from tests.support import Process, free_port, script


class RoutesTests(SynchronousTestCase):
    """Against a real proxy, whose configuration says how to reach it."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-routes-")).resolve()
        self.addCleanup(shutil.rmtree, self.directory)
        self.config = self.directory / "proxyd.yaml"

    def configure(self, api: str) -> None:
        self.config.write_text(f"listeners: [{{kind: http, port: 0}}]\nstate_directory: state\napi: {api}\n")

    def serve(self, api: str) -> Process:
        self.configure(api)
        process = Process(self, script("proxyd"), "serve", "-c", self.config, cwd="/")
        process.wait_for_log("Proxy API at", 60)
        return process

    def routes(self, name: str, *words: str) -> Result:
        """What a command does."""
        clean = {"PROXYD_AUTH_TOKEN": None, "CONFIGPROXY_AUTH_TOKEN": None}
        return CliRunner().invoke(proxyd, ["routes", name, "-c", str(self.config), *words], env=clean)

    def good(self, name: str, *words: str) -> str:
        result = self.routes(name, *words)
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        return result.stdout

    def bad(self, name: str, *words: str) -> str:
        """Status 1, nothing on the standard output, and this line on the other one."""
        result = self.routes(name, *words)
        self.assertEqual((result.exit_code, result.stdout, result.stderr.count("\n")), (1, "", 1), result.stderr)
        return result.stderr

    def check(self) -> None:
        self.assertEqual(self.good("list"), "")
        self.assertEqual(self.good("add", "/app", "http://h:1"), "")
        self.good("add", "/", "http://h:2", "-o", "strip_prefix=true", "-o", "note=some words")
        self.good("add", "/ä ?/%2F#", "http://h:3")
        self.assertEqual(self.good("list"), "/ http://h:2\n/app http://h:1\n/ä ?/%2F# http://h:3\n")
        route = json.loads(self.good("get", "/"))
        self.assertEqual((route["strip_prefix"], route["note"]), (True, "some words"))
        self.assertEqual(json.loads(self.good("get", "/ä ?/%2F#"))["target"], "http://h:3")
        for key in ("/ä ?/%2F#", "/"):
            self.assertEqual(self.good("delete", key), "")
        for words in (("get", "/"), ("get", "/none"), ("delete", "/none")):
            self.assertEqual(self.bad(*words), "proxyd: there is no such route\n")
        self.assertIn("proxyd: 400: websocket: expected one of", self.bad("add", "/x", "http://h", "-o", "websocket=x"))
        self.assertEqual(self.good("list"), "/app http://h:1\n")

    def test_over_a_socket(self) -> None:
        """With the token that was made at the start."""
        self.serve("{socket: api.sock}")
        self.check()
        (self.directory / "state" / "token").write_text("wrong")
        self.assertIn("proxyd: 403: ", self.bad("list"))
        (self.directory / "state" / "token").unlink()
        self.assertIn("state/token cannot be read: No such file", self.bad("list"))

    def test_over_tcp(self) -> None:
        """With the token of the configuration."""
        self.serve(f"{{port: {free_port()}, address: '', token: secret}}")
        self.check()

    def test_over_tls(self) -> None:
        """It is known by its certificate, for whatever name that is; another one is refused."""
        authority = Authority(self.directory)
        issued = authority.issue("elsewhere.test", file="good")
        other = Authority(self.directory / "x").issue("127.0.0.1")
        api = f"{{port: {free_port()}, open: true, tls: {{certificates: [{{certificate: %s, key: %s}}]}}}}"
        self.serve(api % (issued.certificate, issued.key))
        self.check()
        self.configure(api % (other.certificate, other.key))
        self.assertIn("shows another certificate than the configuration has", self.bad("list"))

    def test_over_tls_on_a_socket(self) -> None:
        """With certificates that were found in a directory."""
        Authority(self.directory / "x").issue("elsewhere.test")
        self.serve(f"{{socket: api.sock, open: true, tls: {{certificate_directories: [{self.directory / 'x'}]}}}}")
        self.check()

    def test_an_api_that_wants_certificates(self) -> None:
        """The command has none, and says so."""
        authority = Authority(self.directory)
        own = authority.issue("own")
        tls = f"certificates: [{{certificate: {own.certificate}, key: {own.key}}}], client_certificates: required"
        self.serve(f"{{port: {free_port()}, open: true, tls: {{{tls}, client_ca: {authority.file}}}}}")
        self.assertIn("it wants a certificate of its clients, and this command has none", self.bad("list"))

    def test_what_cannot_be_asked(self) -> None:
        """No API, nobody there, no store in a file."""
        self.configure("off")
        self.assertEqual(self.bad("list"), "proxyd: the configuration has no API\n")
        self.configure(f"{{port: {free_port()}, open: true}}")
        self.assertRegex(self.bad("list"), r"the API at 127.0.0.1:\d+ does not answer: .*refused")
        self.configure("{port: 0, open: true}")
        self.assertEqual(self.bad("list"), "proxyd: the configuration leaves the port of the API open\n")
        for name in ("backup", "restore"):
            self.assertEqual(self.bad(name, "x"), "proxyd: the configuration has no SQLite store\n")
        self.config.write_text("nonsense: 1\n")
        self.assertEqual(self.routes("list").exit_code, 78)

    def test_help_names_the_commands(self) -> None:
        """And every command has help."""
        text = CliRunner().invoke(proxyd, ["routes", "--help"]).stdout
        for name in ("list", "get", "add", "delete", "backup", "restore"):
            self.assertTrue(re.search(rf"\n  {name} ", text), text)
            self.assertEqual(CliRunner().invoke(proxyd, ["routes", name, "--help"]).exit_code, os.EX_OK)
