"""Tests of `proxyd reload`: how it asks, and what it makes of the answers."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import tempfile
import threading
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from proxyd.cli import proxyd
from proxyd.core.reload import Report
from proxyd.errors import Problem
from tests.certificates import Authority
from tests.support import Process, free_port
from tests.wire import ScriptedUpstream, Wire


class Api:
    """An upstream's script that answers one request as the API would, and keeps its head."""

    def __init__(self, report: Report | str = "", status: int = 200, context: ssl.SSLContext | None = None) -> None:
        self.heads: list[bytes] = []
        report = report or Report()
        self._body = (report if isinstance(report, str) else report.as_json()).encode()
        self._status = status
        self._context = context

    def __call__(self, wire: Wire) -> None:
        if self._context is None:
            self._answer(wire)
        else:
            # Who does not like the certificate leaves.
            with contextlib.suppress(ssl.SSLError), self._context.wrap_socket(wire.sock, server_side=True) as secure:
                self._answer(Wire(secure))

    def _answer(self, wire: Wire) -> None:
        if head := wire.head():
            self.heads.append(head)
            length = len(self._body)
            wire.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (self._status, length, self._body))


class ReloadTests(SynchronousTestCase):
    """Asks the API, or sends a signal."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-reload-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.file = self.directory / "proxyd.yaml"

    def reload(self, settings: str, **environ: str) -> Result:
        """Run the command, with a file that says so."""
        self.file.write_text(settings)
        clean = {"HOME": str(self.directory), "STATE_DIRECTORY": str(self.directory / "state")}
        clean |= dict.fromkeys(("PROXYD_AUTH_TOKEN", "CONFIGPROXY_AUTH_TOKEN"), "")
        return CliRunner().invoke(proxyd, ["reload", "-c", str(self.file)], env={**clean, **environ})

    def asked(self, api: Api, token: str = "token: t", **environ: str) -> Result:
        """Run the command while this API is there."""
        port = ScriptedUpstream(self, api).port
        return self.reload(f"api: {{port: {port}, {token}}}\n", **environ)

    def test_what_was_applied(self) -> None:
        """It is printed, with status 0."""
        result = self.asked(Api(Report(("a.b", "c"), ("d",))))
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertEqual(result.stdout, "applied: a.b, c\nchanged, but needs a restart: d\n")
        result = self.asked(Api())
        self.assertEqual((result.exit_code, result.stdout), (0, "the configuration says the same as before\n"))

    def test_problems(self) -> None:
        """What the proxy could not use is printed, with status 78."""
        result = self.asked(Api(Report(problems=(Problem("wrong", "a", "f", 1, 2), Problem("worse", file="g"))), 422))
        self.assertEqual((result.exit_code, result.stdout), (78, ""))
        self.assertEqual(result.stderr, "f:1:2: a: wrong\ng: worse\n")

    def test_a_bad_file_is_not_even_sent(self) -> None:
        """Status 78, and every problem is a line."""
        result = self.reload("listenrs: []\nlog: {level: loud}\n")
        self.assertEqual((result.exit_code, result.stderr.count("\n")), (78, 2))

    def test_the_token(self) -> None:
        """That of the file, of the environment, or of the state; none for an open API."""
        (self.directory / "state").mkdir()
        for option, environ, token in (
            ("token: t", {}, b"token t"),
            ("open: false", {"PROXYD_AUTH_TOKEN": "e"}, b"token e"),
            ("open: true", {}, None),
            ("token: ''", {}, b"token kept"),
        ):
            (self.directory / "state/token").write_text("kept\n")
            api = Api()
            self.asked(api, option, **environ)
            (head,) = api.heads
            self.assertTrue(head.startswith(b"POST /api/reload HTTP/1.1\r\n"), head)
            self.assertEqual(token is not None and b"\r\nAuthorization: %b\r\n" % token in head, token is not None)
            self.assertEqual(b"Authorization" in head, token is not None)

    def test_over_a_unix_socket(self) -> None:
        """As the API may be."""
        path = self.directory / "api.sock"
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=lambda: Api(Report(("a",)))(Wire(listening.accept()[0])))
        thread.start()
        result = self.reload("api: {socket: api.sock, token: t}\n")
        thread.join()
        self.assertEqual(result.stdout, "applied: a\n")

    def test_over_tls(self) -> None:
        """With the owner of the certificate that the file has; nobody else gets the token."""
        authority = Authority(self.directory)
        own = authority.issue("api.test", file="own")
        other = authority.issue("api.test", file="other")
        for issued, ok in ((own, True), (other, False)):
            api = Api(Report(("a",)), context=authority.server_context(issued))
            result = self.asked(api, "token: t, tls: {certificates: [{certificate: own.pem, key: own.key}]}")
            self.assertEqual(result.exit_code, 0 if ok else 1, result.output)
            self.assertEqual(any(api.heads), ok)

    def test_answers_that_are_no_report(self) -> None:
        """Status 1 and one line, if there is no process to be told either."""
        for api, words in (
            (Api(status=403), "the API answers 403 X"),
            (Api("{}"), "the API answers something else than a report"),
            (Api("[]"), "the API answers something else than a report"),
            (Api("garbage"), "the API answers something else than a report"),
        ):
            result = self.asked(api)
            self.assertEqual((result.exit_code, result.stdout), (1, ""))
            self.assertEqual(result.stderr, f"proxyd: nothing was reloaded: {words}; there is no pid_file\n")

    def test_a_signal_instead(self) -> None:
        """To the process of the pid file, when there is no API to ask."""
        ready = "trap 'echo hup; exit' HUP; echo ready; while :; do sleep 0.1; done"
        process = Process(self, "sh", "-c", ready, "proxyd")
        process.wait_for_log("ready")
        (self.directory / "pid").write_text(str(process.pid))
        result = self.reload(f"api: {{port: {free_port()}, token: t}}\npid_file: pid\n")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn(f"SIGHUP was sent to process {process.pid}", result.stdout)
        self.assertEqual(process.wait(), 0)

    def test_a_pid_file_that_is_of_no_use(self) -> None:
        """A signal would end a process that is not ours: none is sent."""
        stranger = Process(self, "sh", "-c", "echo ready; exec sleep 60")
        stranger.wait_for_log("ready")
        for text, words in (
            (None, "No such file"),
            ("", "there is no number in"),
            ("x", "there is no number in"),
            ("-1", "there is no number in"),
            (str(stranger.pid), f"process {stranger.pid} of .* is not proxyd"),
            ("99999999", "No such file"),
        ):
            (self.directory / "pid").unlink(missing_ok=True)
            if text is not None:
                (self.directory / "pid").write_text(text)
            result = self.reload("api: off\npid_file: pid\n")
            self.assertEqual((result.exit_code, result.stdout), (1, ""))
            self.assertRegex(result.stderr, f"\\Aproxyd: nothing was reloaded: the API is off; .*{words}")
        self.assertTrue(stranger.is_running)
