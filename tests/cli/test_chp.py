"""Tests of the command line of `proxyd chp`: how it is parsed, and how misuse ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from proxyd import __version__
from proxyd.cli import chp
from proxyd.compat.chp import ChpOptions, ChpSetup, set_up
from tests.support import script

# Those of the contract that exist.
OPTIONS = {
    "--ip": "192.0.2.1",
    "--port": "9000",
    "--socket": "7",
    "--api-socket": "7",
    "--redirect-to": "443",
    "--ssl-key": "f",
    "--ssl-cert": "f",
    "--ssl-ca": "f",
    "--ssl-request-cert": None,
    "--ssl-reject-unauthorized": None,
    "--ssl-protocol": "TLSv1_2",
    "--ssl-ciphers": "HIGH",
    "--ssl-allow-rc4": None,
    "--ssl-dhparam": "f",
    "--api-ssl-key": "f",
    "--api-ssl-cert": "f",
    "--api-ssl-ca": "f",
    "--api-ssl-request-cert": None,
    "--api-ssl-reject-unauthorized": None,
    "--client-ssl-key": "f",
    "--client-ssl-cert": "f",
    "--client-ssl-ca": "f",
    "--client-ssl-request-cert": None,
    "--client-ssl-reject-unauthorized": None,
    "--insecure": None,
    "--api-ip": "192.0.2.1",
    "--api-port": "9100",
    "--metrics-ip": "192.0.2.1",
    "--metrics-port": "9200",
    "--metrics-socket": "s",
    "--default-target": "http://h",
    "--error-target": "http://h",
    "--error-path": "d",
    "--host-routing": None,
    "--no-include-prefix": None,
    "--no-prepend-path": None,
    "--no-x-forward": None,
    "--change-origin": None,
    "--auto-rewrite": None,
    "--protocol-rewrite": "https",
    "--custom-header": "A: b",
    "--timeout": "10",
    "--proxy-timeout": "10",
    "--keep-alive-timeout": "10",
    "--storage-backend": "package.module:Class",
    "--pid-file": "p",
    "--log-level": "warn",
}
# It cannot stand alone.
REDIRECT = "--redirect-port"
WITHOUT_EFFECT = {
    "--ssl-allow-rc4",
    *(f"--{side}ssl-reject-unauthorized" for side in ("", "api-", "client-")),
    "--client-ssl-request-cert",
}
NUMBERS = (
    *("--port", "--api-port", "--metrics-port", "--redirect-to"),
    *("--timeout", "--proxy-timeout", "--keep-alive-timeout"),
)


class CommandLineCase(SynchronousTestCase):
    """Reads command lines, and sees what is printed."""

    def setUp(self) -> None:
        self.stdout, self.stderr = StringIO(), StringIO()
        self.patch(sys, "stdout", self.stdout)
        self.patch(sys, "stderr", self.stderr)

    def read(self, *words: str, environ: dict[str, str] | None = None) -> ChpSetup:
        return chp.read(list(words), environ or {})

    def assert_reads(self, words: list[str], options: ChpOptions) -> None:
        self.assertEqual(self.read(*words), set_up(options, {}))
        self.assertEqual((self.stdout.getvalue(), self.stderr.getvalue()), ("", ""))

    def end(self, *words: str) -> tuple[object, str, str]:
        """The exit status, and what was printed on both outputs."""
        for output in (self.stdout, self.stderr):
            output.seek(0)
            output.truncate()
        with self.assertRaises(SystemExit) as caught:
            self.read(*words)
        return caught.exception.code, self.stdout.getvalue(), self.stderr.getvalue()

    def assert_misuse(self, *words: str, says: str = "") -> None:
        """Status 1, and one line on the standard error output."""
        status, stdout, stderr = self.end(*words)
        self.assertEqual((status, stdout), (1, ""), words)
        self.assertEqual(stderr.count("\n"), 1, stderr)
        self.assertTrue(stderr.startswith("proxyd chp: ") and stderr.endswith("\n"), stderr)
        self.assertIn(says, stderr)


class ParseTests(CommandLineCase):
    """Good command lines."""

    def test_nothing_has_to_be_given(self) -> None:
        """Every option has a default."""
        self.assert_reads([], ChpOptions())
        self.assert_reads(["--"], ChpOptions())

    def test_a_value_follows_a_blank_or_an_equals_sign(self) -> None:
        """Both forms mean the same, for every option that has a value."""
        for option, value in OPTIONS.items():
            if value is not None:
                self.assertEqual(self.read(option, value), self.read(f"{option}={value}"), option)

    def test_a_value_may_hold_an_equals_sign_or_be_empty(self) -> None:
        """The first one ends the name."""
        self.assert_reads(["--default-target=http://h/?a=b"], ChpOptions(default_target="http://h/?a=b"))
        self.assert_reads(["--ip="], ChpOptions(ip=""))
        self.assert_reads(["--ip", ""], ChpOptions(ip=""))

    def test_every_option_arrives(self) -> None:
        """Under its own name, with its own value."""
        words = [
            *("--ip=192.0.2.1", "--port=9000", "--api-ip=192.0.2.2", "--api-port=9100", "--default-target=http://d"),
            *("--error-path=pages", "--host-routing", "--no-include-prefix", "--no-prepend-path", "--no-x-forward"),
            *("--change-origin", "--auto-rewrite", "--protocol-rewrite=https", "--custom-header=A: b", "--timeout=1"),
            *("--proxy-timeout=2", "--keep-alive-timeout=3", "--pid-file=p", "--log-level=WARN"),
            *("--metrics-ip=192.0.2.3", "--metrics-port=9200"),
            "--storage-backend=m:C",
        ]
        self.assert_reads(
            words,
            ChpOptions(
                ip="192.0.2.1",
                port=9000,
                api_ip="192.0.2.2",
                api_port=9100,
                default_target="http://d",
                error_path="pages",
                host_routing=True,
                include_prefix=False,
                prepend_path=False,
                x_forward=False,
                change_origin=True,
                auto_rewrite=True,
                protocol_rewrite="https",
                custom_header=("A: b",),
                timeout=1,
                proxy_timeout=2,
                keep_alive_timeout=3,
                storage_backend="m:C",
                pid_file="p",
                log_level="WARN",
                metrics_ip="192.0.2.3",
                metrics_port=9200,
            ),
        )
        self.assert_reads(["--error-target", "http://e"], ChpOptions(error_target="http://e"))
        self.assert_reads(["--metrics-socket=s"], ChpOptions(metrics_socket="s"))

    def test_every_option_of_sockets_and_tls_arrives(self) -> None:
        """Under its own name, with its own value."""
        names = [name for name in (*OPTIONS, REDIRECT) if re.search("socket|ssl|redirect|insecure", name)]
        switches = {name for name in names if name != REDIRECT and OPTIONS[name] is None}
        words = [name if name in switches else f"{name}={number}" for number, name in enumerate(names)]
        options = chp.command.main(words, standalone_mode=False)
        for number, name in enumerate(names):
            value = getattr(options, name.strip("-").replace("-", "_"))
            self.assertEqual(str(value), "True" if name in switches else str(number), name)

    def test_every_option_changes_something(self) -> None:
        """None is taken and dropped, but those that have no effect in the original either."""
        for option, value in OPTIONS.items():
            beside = []
            if option.startswith(("--ssl-", "--redirect")):
                beside = ["--ssl-key=k", "--redirect-port=8080"]
            elif option.startswith("--api-ssl"):
                beside = ["--api-ssl-key=k"]
            elif option == "--metrics-ip":
                beside = ["--metrics-port=9300"]
            if option.endswith("ssl-ca") and "client" not in option:  # which is for certificates that are asked for
                beside.append(option.replace("ca", "request-cert"))
            changes = self.read(*beside, option, *([value] if value else [])) != self.read(*beside)
            self.assertEqual(changes, option not in WITHOUT_EFFECT, option)

    def test_of_a_repeated_option_the_last_one_holds(self) -> None:
        """Numbers too, which the original turns into nothing; a switch stays on."""
        self.assert_reads(["--port", "1", "--port=2", "--port", "3"], ChpOptions(port=3))
        self.assert_reads(["--ip", "192.0.2.1", "--ip", "192.0.2.2"], ChpOptions(ip="192.0.2.2"))
        self.assert_reads(["--log-level=debug", "--log-level=warn"], ChpOptions(log_level="warn"))
        self.assert_reads(["--host-routing", "--host-routing"], ChpOptions(host_routing=True))

    def test_custom_headers_add_up(self) -> None:
        """The one option that may be repeated."""
        self.assert_reads(
            ["--custom-header", "A: b", "--custom-header=C: d"], ChpOptions(custom_header=("A: b", "C: d"))
        )

    def test_the_token_is_no_option(self) -> None:
        """It comes from the environment only, where other users of the machine do not see it."""
        setup = self.read(environ={"CONFIGPROXY_AUTH_TOKEN": "hunter2"})
        assert setup.config.api is not None
        self.assertEqual(setup.config.api.token, "hunter2")
        self.assert_misuse("--auth-token=hunter2")

    def test_options_do_not_come_from_the_environment(self) -> None:
        """Only what the contract names does."""
        names = [name.removeprefix("--").replace("-", "_").upper() for name in OPTIONS]
        environ = {f"{prefix}{name}": "9" for name in names for prefix in ("", "CHP_", "PROXYD_", "CONFIGPROXY_")}
        self.patch(os, "environ", {**os.environ, **environ})
        self.assertEqual(self.read(environ=environ), self.read())


class MisuseTests(CommandLineCase):
    """Bad command lines: status 1 and one line each."""

    def test_an_unknown_option_is_refused(self) -> None:
        """Long or short."""
        for word in ("--nope", "--nope=1", "-p", "-x", "-"):
            self.assert_misuse(word)

    def test_abbreviations_are_refused(self) -> None:
        """An option is what it is called, or none."""
        for option in OPTIONS:
            self.assert_misuse(option[:-1], says=option[:-1])
        self.assert_misuse("--host-rout")

    def test_opposites_are_refused(self) -> None:
        """`--include-prefix` is no option because `--no-include-prefix` is one."""
        for word in ("--include-prefix", "--prepend-path", "--x-forward", "--no-host-routing"):
            self.assert_misuse(word)

    def test_a_positional_argument_is_refused(self) -> None:
        """Wherever it stands."""
        self.assert_misuse("proxy.yaml", says="proxy.yaml")
        self.assert_misuse("--port", "9000", "9001", says="9001")
        self.assert_misuse("--", "x")
        self.assert_misuse("--host-routing", "true")
        self.assert_misuse("")

    def test_a_missing_value_is_refused(self) -> None:
        """At the end of the line there is none to take."""
        for option, value in OPTIONS.items():
            if value is not None:
                self.assert_misuse(option, says=option)

    def test_a_value_for_a_switch_is_refused(self) -> None:
        """It would say the opposite of what is meant: `--host-routing=false`."""
        for option, value in OPTIONS.items():
            if value is None:
                self.assert_misuse(f"{option}=false", says=option)

    def test_garbage_in_place_of_a_number_is_refused(self) -> None:
        """And not taken for an option that is not given."""
        for option in NUMBERS:
            for value in ("x", "", "1.5", "12ab", "-1"):
                self.assert_misuse(f"{option}={value}", says=option)
        self.assert_misuse("--port=65536")

    def test_a_conflict_is_refused(self) -> None:
        """Error pages come from one place, and metrics are in one."""
        self.assert_misuse("--error-target=http://h", "--error-path=d", says="error-path")
        for other in ("--metrics-port=9200", "--metrics-ip=192.0.2.1", "--metrics-ip="):
            self.assert_misuse("--metrics-socket=s", other, says="metrics-socket")

    def test_a_bad_custom_header_is_refused(self) -> None:
        """The message names the colon."""
        self.assert_misuse("--custom-header=x", says="colon")
        self.assert_misuse("--custom-header", ": x", says="colon")
        self.assert_misuse("--custom-header", "X: a\nY: b")

    def test_an_unknown_level_is_refused(self) -> None:
        """It would silence the proxy."""
        self.assert_misuse("--log-level=loud", says="loud")
        self.assert_misuse("--log-level=")

    def test_a_storage_class_has_a_module(self) -> None:
        """Names of packages, as the original has them, are none here."""
        for name in ("redis", "a.b", "a:", ":b", "a:b:c", "a:b()", "/a:b", "a..b:c"):
            self.assert_misuse(f"--storage-backend={name}", says="--storage-backend: expected package.module:Class")

    def test_a_message_is_one_line(self) -> None:
        """Whatever the command line has in it."""
        self.assert_misuse("a\nb\r\nc")
        self.assert_misuse("--default-target=x\ny")


class HelpTests(CommandLineCase):
    """`--help` and `--version`."""

    def test_help_names_every_option(self) -> None:
        """And the variable; on the standard output, with status 0."""
        for word in ("-h", "--help"):
            status, stdout, stderr = self.end(word)
            self.assertEqual((status, stderr), (0, ""))
            for option in (
                *OPTIONS,
                REDIRECT,
                "-h, --help",
                "-V, --version",
                "CONFIGPROXY_AUTH_TOKEN",
                "Usage: proxyd chp ",
            ):
                self.assertIn(option, stdout)
            for words in ("CONFIGPROXY_AUTH_TOKEN", "Usage: proxyd chp "):
                self.assertIn(words, stdout)

    def test_all_options_are_tested_here(self) -> None:
        """A new one has to be added to the table of this file."""
        names = {name for param in chp.command.params for name in param.opts}
        self.assertEqual(names - {"-h", "--help", "-V", "--version"}, {*OPTIONS, REDIRECT})

    def test_version_is_printed(self) -> None:
        """The number alone, with status 0."""
        for word in ("-V", "--version"):
            self.assertEqual(self.end(word), (0, f"{__version__}\n", ""))

    def test_help_and_version_win(self) -> None:
        """Over whatever else is wrong with the values."""
        self.assertEqual(self.end("--version", "--custom-header=x")[0], 0)
        self.assertEqual(self.end("--help", "--log-level=loud")[0], 0)


class ProcessTests(SynchronousTestCase):
    """The same as real processes."""

    def run_command(self, *argv: str) -> tuple[int, str, str]:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_misuse_ends_with_status_1(self) -> None:
        """`proxyd chp` and `proxyd-chp` say the same."""
        expected = (1, "", "proxyd chp: Got unexpected extra argument (x)\n")
        self.assertEqual(self.run_command(script("proxyd"), "chp", "x"), expected)
        self.assertEqual(self.run_command(script("proxyd-chp"), "x"), expected)

    def test_a_version_ends_with_status_0(self) -> None:
        """Also as a module."""
        self.assertEqual(
            self.run_command(sys.executable, "-m", "proxyd", "chp", "--version"), (0, f"{__version__}\n", "")
        )
