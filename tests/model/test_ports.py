"""Tests of `proxyd.model.ports`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.errors import ConfigError, OptionError
from proxyd.model.ports import PortsSettings, canonical_host, ranges_of
from proxyd.option import NumberRanges


class PortsTests(SynchronousTestCase):
    """The section `ports`, and what it is made of."""

    def test_off_by_default(self) -> None:
        """Nobody publishes his ports by accident."""
        settings = parse("", KINDS).ports
        self.assertEqual(PortsSettings(), settings)
        self.assertEqual((False, "1-65535", ("localhost", "127.0.0.1")), (
            settings.enabled, settings.allow, settings.hosts,
        ))  # fmt: skip

    def test_what_may_be_written(self) -> None:
        """A number, ranges; names and addresses."""
        settings = parse("ports: {enabled: true, allow: 8080, hosts: ['Db.Test', '::1']}", KINDS).ports
        self.assertEqual(("8080", ("Db.Test", "::1")), (settings.allow, settings.hosts))
        self.assertEqual("/user/u%401/", parse("base_url: /user/u%401/", KINDS).base_url)

    def test_what_may_not(self) -> None:
        """With the place of each mistake."""
        for text in (
            "base_url: ''", "base_url: /a", "base_url: a/", "base_url: //", "base_url: /a//b/", "base_url: '/a?b/'",
            "base_url: '/a#b/'", "base_url: 5", "base_url: /é/",
            "base_url: /%zz/", "base_url: /a%/", "base_url: /%ff/", "ports: {allow: x}", "ports: {allow: '1-'}",
            "ports: {allow: '9-1'}", "ports: {allow: 1-65536}", "ports: {allow: true}", "ports: {allow: ''}",
            "ports: {hosts: localhost}", "ports: {hosts: ['a b']}", "ports: {hosts: ['']}", "ports: {hosts: ['h:80']}",
            "ports: {hosts: ['u@h']}",
        ):  # fmt: skip
            with self.assertRaises(ConfigError, msg=text) as caught:
                parse(text, KINDS)
            self.assertEqual(1, caught.exception.problems[0].line, text)

    def test_everybody_has_to_be_meant_for_servers(self) -> None:
        """Whoever brings them; a login in front is enough, and so is one in the defaults of routes."""
        listeners = "listeners: [{kind: http, address: ''}]\n"
        for servers in ("servers: {a: {port: 1}}", "server_packages: ['*']", "jupyter_config: auto"):
            with self.assertRaises(ConfigError) as caught:
                parse(f"{listeners}{servers}\n", KINDS)
            self.assertIn("would let everybody use the managed servers", str(caught.exception))
            for more in (
                "allow_anonymous: true",
                "auth: {kind: token, token: correct-horse}",
                "route_defaults: {auth: {kind: token, token: correct-horse}}",
            ):
                parse(f"{listeners}{servers}\n{more}\n", KINDS)

    def test_everybody_has_to_be_meant(self) -> None:
        """Ports on a listener that is neither on loopback nor a socket are an error, unless that is what is wanted."""
        ports = "ports: {enabled: true}\n"
        for listener in ("address: ''", "address: '*'", "address: 0.0.0.0", "address: 192.0.2.1", "address: '::'"):
            text = f"listeners: [{{kind: http, port: 80}}, {{kind: http, {listener}}}]\n"
            with self.assertRaises(ConfigError) as caught:
                parse(text + ports, KINDS)
            problem = caught.exception.problems[0]
            self.assertEqual(("ports.enabled", 2), (problem.path, problem.line))
            self.assertIn("allow_anonymous", problem.message)
            parse(text + ports + "allow_anonymous: true\n", KINDS)
            parse(text, KINDS)
        for listener in (
            "address: 127.0.0.1",
            "address: 127.1.2.3",
            "address: '::1'",
            "address: localhost",
            "socket: s",
        ):
            parse(f"listeners: [{{kind: http, {listener}}}]\n" + ports, KINDS)

    def test_ranges(self) -> None:
        """Both ends included."""
        self.assertEqual((range(1, 3), range(5, 6)), ranges_of(NumberRanges("1-2,5")))
        self.assertRaises(OptionError, ranges_of, "2-1")

    def test_hosts_have_one_spelling(self) -> None:
        """Names in lower case and IDNA, addresses in their usual form."""
        cases = {"LOCALHOST": "localhost", "Grün": "xn--grn-ioa", "::0001": "::1", "127.0.0.1": "127.0.0.1",
                 "a.": "a."}  # fmt: skip
        for text, spelling in cases.items():
            self.assertEqual(spelling, canonical_host(text))
        for text in ("", ".", "a..b", "a b", "a\0", "a/b", "a@b", "[::1]", "a:80", "é" * 64):
            self.assertRaises(OptionError, canonical_host, text)
