"""Tests of `proxyd.model.patterns`: what a user may write, and where mistakes are told."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.errors import ConfigError, OptionError
from proxyd.model.patterns import PatternSpec, Template, UpstreamUrlTemplate
from proxyd.model.routes import HeaderChanges

PORT = r"/ipython/(?P<port>[0-9]+)/(?P<rest>.*)"
ALLOW = {"port": "1024-65535"}


def spec(**options: Any) -> PatternSpec:
    """A pattern like that of the Apache recipe, with these options."""
    return PatternSpec(**{"pattern": PORT, "upstream": "http://127.0.0.1:{port}", "allow": ALLOW, **options})


class TemplateTests(SynchronousTestCase):
    """Text with captures."""

    def test_captures_are_put_in(self) -> None:
        """As often as they stand there; doubled braces are braces; what is put in is not read again."""
        cases = {"": "", "a": "a", "{x}": "1", "a{x}b{y}{x}": "a1b{x}1", "{{{x}}}": "{1}", "{{x}}": "{x}"}
        for text, rendered in cases.items():
            self.assertEqual(rendered, Template(text).render({"x": "1", "y": "{x}"}), text)

    def test_names(self) -> None:
        """Each name once."""
        self.assertEqual({"a", "b_1"}, Template("{a}{b_1}{a}{{c}}").names)

    def test_other_braces_are_refused(self) -> None:
        """None of them is silently something else."""
        for text in ("{", "}", "{}", "{0}", "{a", "a}", "{a.b}", "{a!r}", "{a:x}", "{ a }", "{a[0]}", "{{{", "{-}"):
            with self.assertRaises(OptionError, msg=text) as caught:
                Template(text)
            self.assertIn("doubled", str(caught.exception))


class UpstreamTemplateTests(SynchronousTestCase):
    """Where captures may land."""

    def test_places(self) -> None:
        """In a part of the host, as the port, in the path; in the path of a socket."""
        cases = {
            "http://127.0.0.1:{a}": ("", "a", ""),
            "http://[::1]:{a}/x/{b}": ("", "a", "b"),
            "HTTPS://{a}.apps.test:80/{b}/{a}": ("a", "", "ab"),
            "http://x-{a}-{b}.test": ("ab", "", ""),
            "http+unix://%2Frun%2F{a}.sock/{b}": ("a", "", "b"),
            "http://a.test/x?y=1": ("", "", ""),
        }
        for text, (hosts, ports, paths) in cases.items():
            template = UpstreamUrlTemplate(text)
            self.assertEqual((set(hosts), set(ports), set(paths)), (template.hosts, template.ports, template.paths))

    def test_websocket_schemes_mean_http(self) -> None:
        """The request decides."""
        for scheme, meant in (("ws", "http"), ("WSS", "https"), ("http", "http")):
            url = UpstreamUrlTemplate(f"{scheme}://h:{{p}}/x").url.render({"p": "80"})
            self.assertEqual(f"{meant}://h:80/x", url)

    def test_other_places_are_refused(self) -> None:
        """Nothing that is captured can become the host, a part of an address, a user, a scheme or a parameter."""
        texts = (
            "http://{a}", "http://{a}:80", "http://a.{b}", "http://a.{b}:80", "http://127.0.0.{a}", "http://{a}.0.0.1",
            "http://{a}.0x1", "http://{a}test", "http://{a}.", "http://{a}..test", "http://{a}@h", "http://{a}:{b}@h",
            "http://u@h:{p}", "{a}://h", "{a}", "http://h:1{a}", "http://h:{a}{b}", "http://[{a}]", "http://h?x={a}",
            "http://h/#{a}", "ftp://h", "//h", "h:80", "http://", "http://h:0", "http://h h", "http://h:{a}:{b}",
        )  # fmt: skip
        for text in texts:
            self.assertRaises(OptionError, UpstreamUrlTemplate, text)


class SpecTests(SynchronousTestCase):
    """A section of the file."""

    def test_the_recipe(self) -> None:
        """It can be written, with the options of a route."""
        headers = HeaderChanges(set={"Origin": "http://127.0.0.1:{port}", "X-Brace": "{{}}"})
        made = spec(change_origin=True, request_headers=headers, response_headers=headers, path="/{rest}")
        self.assertEqual(4, len(list(made.templates())))
        spec(pattern="^" + PORT + "$", upstream="ws://a.test", allow={})

    def test_mistakes_tell_their_place(self) -> None:
        """Each one the option that it is in."""
        cases: list[tuple[tuple[str, ...], dict[str, Any]]] = [
            (("pattern",), {"pattern": "/("}),
            (("pattern",), {"pattern": "/(?P<port>.)(?P<port>.)"}),
            (("pattern",), {"pattern": "ipython/.*"}),
            (("pattern",), {"pattern": ""}),
            (("pattern",), {"pattern": "/café"}),
            (("pattern",), {"pattern": "/(?P<port>[0-9]+)/(a+)+x"}),
            (("upstream",), {"upstream": "http://127.0.0.1:{nope}"}),
            (("upstream",), {"upstream": "http://127.0.0.1:{1}"}),
            (("upstream",), {"upstream": "http://{rest}"}),
            (("path",), {"path": "/{nope}"}),
            (("path",), {"path": "/{"}),
            (("path",), {"path": "{rest}"}),
            (("path",), {"path": "/{rest}?x"}),
            (("path",), {"path": "/é"}),
            (("allow",), {"allow": {}}),
            (("allow",), {"allow": {"rest": "1-2"}}),
            (("allow", "nope"), {"allow": {**ALLOW, "nope": "1"}}),
            (("strip_prefix",), {"strip_prefix": True}),
            (("request_headers", "set", "Origin"), {"request_headers": HeaderChanges(set={"Origin": "{nope}"})}),
            (("response_headers", "set", "X"), {"response_headers": HeaderChanges(set={"X": "{"})}),
        ]
        for path, options in cases:
            with self.assertRaises(OptionError, msg=options) as caught:
                spec(**options)
            self.assertEqual(path, caught.exception.path, options)

    def test_unnamed_groups_cannot_be_used(self) -> None:
        """They group, and capture nothing that has a name."""
        with self.assertRaises(OptionError) as caught:
            spec(pattern="/([0-9]+)", upstream="http://127.0.0.1:{port}")
        self.assertIn("{port} is no group", str(caught.exception))

    def test_the_file_tells_the_line(self) -> None:
        """As for every other option."""
        text = (
            "patterns:\n"
            "  - pattern: /a/(?P<n>[0-9]+)\n"
            "    upstream: http://127.0.0.1:{n}\n"
            "    allow: {n: 9-1, m: x}\n"
            "  - pattern: /b/(.*\n"
            "    upstream: http://b.test\n"
            "  - pattern: /c/(?P<c>.*)\n"
            "    upstream: http://c.test\n"
            "    request_headers: {set: {X-C: '{d}'}}\n"
        )
        with self.assertRaises(ConfigError) as caught:
            parse(text, KINDS, name="f")
        places = [(problem.line, problem.column, problem.path) for problem in caught.exception.problems]
        self.assertEqual(
            [
                (4, 16, "patterns[0].allow.n"),
                (4, 24, "patterns[0].allow.m"),
                (5, 14, "patterns[1].pattern"),
                (9, 34, "patterns[2].request_headers.set.X-C"),
            ],
            places,
        )
