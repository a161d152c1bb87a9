"""Tests of `proxyd check`."""

from __future__ import annotations

import os
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from proxyd.cli import proxyd
from tests.certificates import Authority
from tests.docs.markdown import blocks_of
from tests.support import CHECKOUT


class CheckTests(SynchronousTestCase):
    """Reads a file, and says what is wrong with it."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)

    def check(self, *words: str, **environ: str | None) -> Result:
        clean = {"HOME": str(self.directory), "PROXYD_CONFIG": None, "XDG_CONFIG_HOME": None}
        return CliRunner().invoke(proxyd, ["check", *words], env={**clean, **environ})

    def test_a_good_file_is_called_good(self) -> None:
        """With status 0, and with what is in it."""
        Path("a.yaml").write_text("routes: {/a: http://h, /b: http://h}\n")
        result = self.check("a.yaml")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertEqual(result.stdout, "a.yaml: good; listeners: 1, static routes: 2\n")

    def test_every_problem_of_a_bad_file_is_a_line(self) -> None:
        """On the standard error output, with status 78."""
        Path("a.yaml").write_text("listenrs: []\nlog: {level: loud}\npid_file: ${NOPE}\n")
        result = self.check("a.yaml")
        self.assertEqual((result.exit_code, result.stdout), (78, ""))
        self.assertEqual(
            result.stderr,
            "a.yaml:1:1: listenrs: unknown option (did you mean listeners?)\n"
            "a.yaml:2:14: log.level: expected one of debug, info, warn, error; got 'loud'\n"
            "a.yaml:3:11: pid_file: ${NOPE} is not set\n",
        )

    def test_twelve_mistakes_are_one_answer(self) -> None:
        """Each with its place, and none hides another one; the document on reloads shows them."""
        page = CHECKOUT / "docs/howto/reload.md"
        blocks = blocks_of(page)
        broken = next(block for block in blocks if block.file == "broken.yaml")
        Path("broken.yaml").write_text(broken.text)
        shown = next(block.text for block in blocks if block.text.startswith("$ proxyd check")).splitlines()[1:-2]
        result = self.check("broken.yaml")
        self.assertEqual((result.exit_code, result.stdout), (78, ""))
        self.assertEqual((len(shown), result.stderr.splitlines()), (12, shown))

    def test_a_missing_file_is_a_problem(self) -> None:
        """With status 78 too."""
        result = self.check("none.yaml")
        self.assertEqual((result.exit_code, result.stdout), (78, ""))
        self.assertEqual(result.stderr, "none.yaml: cannot be read: No such file or directory\n")

    def test_the_files_that_it_names_are_looked_at(self) -> None:
        """A start would end at a certificate that cannot be used, and so would a reload; all are told at once."""
        authority = Authority(self.directory)
        authority.issue("a.test")
        tls = "{certificate: a.test.pem, key: a.test.key}"
        text = (
            f"listeners: [{{kind: https, certificates: [{tls}]}}]\n"
            "routes: {/a: {upstream: https://h, upstream_tls: {ca: ca.pem}}}\n"
            "errors: {directory: .}\n"
            "auth: {kind: forward, url: https://h, ssl_ca: ca.pem}\n"
            f"api: {{tls: {{certificates: [{tls}]}}}}\n"
        )
        Path("a.yaml").write_text(text)
        self.assertEqual((self.check("a.yaml").exit_code, self.check("a.yaml").stderr), (0, ""))
        wrong = (
            text.replace("a.test.pem", "b.pem", 1).replace("{ca: ca.pem", "{ca: c.pem").replace("a.test.key", "ca.pem")
        )
        wrong = wrong.replace("ssl_ca: ca.pem", "ssl_ca: d.pem")
        Path("a.yaml").write_text(wrong.replace("directory: .", "directory: d"))
        result = self.check("a.yaml")
        self.assertEqual((result.exit_code, result.stdout), (78, ""))
        where = self.directory
        self.assertEqual(
            result.stderr,
            f"{where}/b.pem: TLS: no such file or directory\n"
            f"{where}/a.test.pem with {where}/ca.pem: TLS: that is no certificate with its key\n"
            f"{where}/c.pem: TLS: no such file or directory\n"
            f"{where}/d.pem: TLS: No such file or directory\n"
            f"{where}/d: errors.directory: there is no such directory\n",
        )

    def test_the_environment_counts(self) -> None:
        """Variables are those of the command."""
        Path("a.yaml").write_text("pid_file: ${PID}\n")
        self.assertEqual(self.check("a.yaml", PID="x").exit_code, 0)

    def test_without_a_name_a_file_is_found(self) -> None:
        """The one that `proxyd serve` would take."""
        Path("proxyd.yaml").write_text("")
        self.assertEqual(self.check().stdout, "proxyd.yaml: good; listeners: 1, static routes: 0\n")
        Path("b.yaml").write_text("x: 1")
        self.assertEqual(self.check(PROXYD_CONFIG="b.yaml").exit_code, 78)

    def test_without_any_file_the_defaults_are_good(self) -> None:
        """And it says that there is none."""
        if Path("/etc/proxyd/proxyd.yaml").exists():
            raise SkipTest("this machine has a configuration of its own")
        result = self.check()
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertIn("no configuration found", result.stdout)

    def test_it_takes_one_file(self) -> None:
        """Another one is misuse: status 2."""
        self.assertEqual(self.check("a.yaml", "b.yaml").exit_code, 2)

    def test_it_starts_nothing(self) -> None:
        """No state, no pid file, no log: the directory is as it was."""
        Path("proxyd.yaml").write_text("state_directory: state\npid_file: p\nlog: {access_file: log}\n")
        self.assertEqual(self.check().exit_code, 0)
        self.assertEqual([path.name for path in self.directory.iterdir()], ["proxyd.yaml"])

    def test_the_reference_configuration_is_good(self) -> None:
        """The one that `make run` starts."""
        result = self.check(str(CHECKOUT / "etc/proxyd.yaml"))
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
