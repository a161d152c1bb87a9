"""Tests of the loader: what a file means, and the exact words and place of everything that is wrong with one."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.token import TokenAuthConfig
from proxyd.builtins import KINDS
from proxyd.config.loader import find, load, parse
from proxyd.errors import ConfigError
from proxyd.kinds import Kinds
from proxyd.listeners import demo
from proxyd.listeners.http import HttpConfig
from proxyd.model.auth import AnonymousAuthConfig
from proxyd.model.settings import Config
from proxyd.option import Rate, RouteKey, Secret

FRAGMENTS = [
    *"abck05:{}[]&*!<>|-?%@`'\"#,\n\t ~.$\\/\x01",
    *("\n  ", "\n- ", ": ", "<<: ", "&a ", "*a", "!!int ", "!x ", "${A}", "${B}", "$${", "---\n", "null", "true", "5s"),
    *("routes", "listeners", "kind", "http", "/a", "upstream", "http://h", "limits", "body", "api", "off", "token"),
    *("route_defaults", "request_headers", "set", "remove", "file:x", "trusted_proxies", "pid_file"),
]


def problems_of(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """The problems of a file called `f`, a line for each."""
    try:
        parse(dedent(text), KINDS, environ, name="f")
    except ConfigError as error:
        return str(error).splitlines()
    return []


class ScalarTests(SynchronousTestCase):
    """What single values mean."""

    def pid_file(self, text: str, **environ: str) -> str:
        return parse(f"pid_file: {text}", KINDS, environ).pid_file

    def test_words_that_were_truth_values_once_are_text(self) -> None:
        """As YAML 1.2 has it, `on`, `off`, `yes`, `no`, `y` and `n` are text, in capitals as well."""
        for word in ("on", "off", "yes", "no", "y", "n", "On", "NO"):
            self.assertEqual(self.pid_file(word), word)

    def test_numbers_of_other_systems_are_text(self) -> None:
        """Sexagesimal, octal, hexadecimal, underlined, signed and exponential numbers, and dates, are text."""
        for word in ("1:30", "0660", "0o660", "0x1F", "1_000", "+1", "1e3", ".5", "2020-01-01", "NaN", ".inf", "="):
            self.assertEqual(self.pid_file(word), word)

    def test_a_number_beyond_64_bits_is_text(self) -> None:
        """A number with more digits than any option takes is no number, however long it is."""
        digits = "1" * 5000
        self.assertEqual(self.pid_file(digits), digits)

    def test_an_octal_mode_is_octal(self) -> None:
        """`mode: 0660` means what chmod means by it; so do `660`, `0o660` and `"0660"`."""
        for mode in ("0660", "660", "0o660", '"0660"'):
            config = parse(f"listeners: [{{kind: http, socket: s, mode: {mode}}}]", KINDS)
            (listener,) = config.listeners
            assert isinstance(listener, HttpConfig)
            self.assertEqual(listener.mode, 0o660)

    def test_off_chooses_and_switches(self) -> None:
        """`off` is one of the choices of an option, and takes a section away."""
        config = parse("api: off\nlog: {access: off}", KINDS)
        self.assertIsNone(config.api)
        self.assertEqual(config.log.access, "off")

    def test_an_option_without_a_value_is_left_out(self) -> None:
        """A section of which every line is a comment, and an option with nothing behind its colon, have defaults."""
        config = parse("limits:\n  # body: 1\ntimeouts:\n  idle:\npid_file: ~\nlisteners:\napi: null\n", KINDS)
        self.assertEqual(config, parse("", KINDS))

    def test_text_may_be_tagged_as_such(self) -> None:
        """`!!str 5` is the text 5."""
        self.assertEqual(self.pid_file("!!str 5"), "5")


class EnvironmentTests(SynchronousTestCase):
    """`${NAME}` and its relatives."""

    def pid_file(self, text: str, **environ: str) -> str:
        return parse(f"pid_file: {text}", KINDS, environ).pid_file

    def test_a_variable_is_put_in_place(self) -> None:
        """`${NAME}` is replaced wherever it stands in a value, as often as it does, quoted or not."""
        self.assertEqual(self.pid_file("${A}", A="x"), "x")
        self.assertEqual(self.pid_file("a/${A}/${B}.pid", A="x", B="y"), "a/x/y.pid")
        self.assertEqual(self.pid_file("'${A}'", A="x"), "x")
        self.assertEqual(self.pid_file('"${A}"', A="x"), "x")

    def test_a_value_is_not_read_again(self) -> None:
        """What comes out of a variable is a value: no variables in it, no YAML."""
        self.assertEqual(self.pid_file("${A}", A="${B}"), "${B}")
        self.assertEqual(self.pid_file("${A}", A="{a: [b"), "{a: [b")

    def test_a_default_stands_for_an_unset_or_empty_variable(self) -> None:
        """`${NAME:-default}` is the default, as in a shell; the default may be empty."""
        self.assertEqual(self.pid_file("${A:-x}"), "x")
        self.assertEqual(self.pid_file("${A:-x}", A=""), "x")
        self.assertEqual(self.pid_file("${A:-x}", A="y"), "y")
        self.assertEqual(self.pid_file("${A:-}"), "")

    def test_an_empty_variable_is_set(self) -> None:
        """`${NAME}` of an empty variable is empty text, and no error."""
        self.assertEqual(self.pid_file("${A}", A=""), "")

    def test_two_dollars_make_a_literal_one(self) -> None:
        """`$${` is a literal `${`; a dollar without a brace is a dollar."""
        self.assertEqual(self.pid_file("$${A}"), "${A}")
        self.assertEqual(self.pid_file("$${"), "${")
        self.assertEqual(self.pid_file("a$b$$c$"), "a$b$$c$")

    def test_a_variable_may_be_a_number_or_a_truth_value(self) -> None:
        """Text from the environment is taken for what the option asks for; text in quotes is not."""
        config = parse(
            dedent("""
            host_routing: ${YES}
            drain_seconds: ${HALF}
            timeouts: {idle: "${IDLE}"}
            limits: {header_count: "${COUNT}", body: "${COUNT}"}
            listeners: [{kind: "${KIND}", port: "${COUNT}"}]
            log: {level: "${LEVEL}"}
            """),
            KINDS,
            {"YES": "true", "HALF": "0.5", "IDLE": "5s", "COUNT": "12", "KIND": "http", "LEVEL": "warn"},
        )
        self.assertIs(config.host_routing, True)
        self.assertEqual(config.drain_seconds, 0.5)
        self.assertEqual(config.timeouts.idle, 5.0)
        self.assertEqual((config.limits.header_count, config.limits.body), (12, 12))
        self.assertEqual(config.listeners, (HttpConfig(port=12),))
        self.assertEqual(config.log.level, "warn")

    def test_a_missing_variable_is_named(self) -> None:
        """A variable that is not set is an error at its place; each of several is."""
        self.assertEqual(problems_of("pid_file: ${NOPE}"), ["f:1:11: pid_file: ${NOPE} is not set"])
        self.assertEqual(
            problems_of("trusted_proxies: [unix, '${A}${B}']"),
            [
                "f:1:25: trusted_proxies[1]: ${A} is not set",
                "f:1:25: trusted_proxies[1]: ${B} is not set",
            ],
        )

    def test_a_brace_that_begins_no_variable_is_an_error(self) -> None:
        """`${` with anything but a name is an error that says how to write it literally."""
        for text in ("${1x}", "${A", "${}", "${A:x}", "${A B}"):
            self.assertEqual(
                problems_of(f"pid_file: '{text}'"),
                ["f:1:11: pid_file: ${ begins no variable; write $${ for a literal ${"],
            )

    def test_a_default_that_would_hold_a_variable_is_an_error(self) -> None:
        """It would end at the first brace, and leave `${B}` as it stands: as a token, one that anybody can guess."""
        for environ in ({}, {"B": "b"}, {"A": "a"}):
            self.assertEqual(
                problems_of("pid_file: '${A:-${B}}'", environ),
                ["f:1:11: pid_file: the default of ${A} cannot hold a variable"],
            )

    def test_keys_are_no_values(self) -> None:
        """A variable in a key stays as it is written."""
        self.assertEqual(problems_of("'${A}': x", {"A": "pid_file"}), ["f:1:1: ${A}: unknown option"])

    def test_a_wrong_value_from_the_environment_is_not_shown(self) -> None:
        """It may be a secret in the wrong place."""
        environ = {"KEY": "hunter2"}
        text = """
        host_routing: ${KEY}
        drain_seconds: ${KEY}
        listeners: [{kind: "${KEY}"}, {kind: http, port: "${KEY}"}, {kind: http, socket: s, mode: "${KEY}"}]
        limits: {body: "${KEY}"}
        timeouts: {idle: "${KEY}"}
        health: {live: "${KEY}"}
        log: {level: "${KEY}"}
        trusted_proxies: ["${KEY}"]
        routes: "${KEY}"
        errors: {target: "${KEY}"}
        """
        problems = problems_of(text, environ)
        self.assertEqual(len(problems), 12)
        self.assertNotIn("hunter2", " ".join(problems))


class ProblemTests(SynchronousTestCase):
    """The words and the place of everything that can be wrong."""

    maxDiff = None

    def assert_problems(self, text: str, *problems: str) -> None:
        self.assertEqual(problems_of(text), list(problems))

    def test_an_unknown_option_is_pointed_at(self) -> None:
        """The place is that of the key, at the top as well as in sections, lists and kinds."""
        self.assert_problems("nothing_like_it: 1", "f:1:1: nothing_like_it: unknown option")
        self.assert_problems("log:\n  colour: red\n", "f:2:3: log.colour: unknown option")
        self.assert_problems("routes: {/a: {upstream: http://h, x: 1}}", "f:1:35: routes./a.x: unknown option")
        self.assert_problems("listeners:\n  - kind: http\n    x: 1\n", "f:3:5: listeners[0].x: unknown option")
        self.assert_problems("api: {x: 1}", "f:1:7: api.x: unknown option")

    def test_a_misspelled_option_is_recognized(self) -> None:
        """There is a hint at the option that was meant, if one is near."""
        self.assert_problems("listenrs: []", "f:1:1: listenrs: unknown option (did you mean listeners?)")
        self.assert_problems(
            "limits: {boddy: 1, header_cont: 2}",
            "f:1:10: limits.boddy: unknown option (did you mean body?)",
            "f:1:20: limits.header_cont: unknown option (did you mean header_count?)",
        )

    def test_an_unknown_option_without_a_value_is_pointed_at(self) -> None:
        """Leaving the value out is no way to leave a wrong option unnoticed."""
        self.assert_problems("limit:\n", "f:1:1: limit: unknown option (did you mean limits?)")

    def test_a_misspelled_choice_is_recognized(self) -> None:
        """The choices are listed, with a hint at the one that was meant."""
        self.assert_problems(
            "log: {level: inof}",
            "f:1:14: log.level: expected one of debug, info, warn, error; got 'inof' (did you mean info?)",
        )
        self.assert_problems(
            "log: {level: 5, format: []}",
            "f:1:14: log.level: expected one of debug, info, warn, error; got 5",
            "f:1:25: log.format: expected one of text, json, chp; got a list",
        )

    def test_a_wrong_kind_is_pointed_at(self) -> None:
        """A section of a kind names one that there is."""
        self.assert_problems(
            "listeners: [{kind: htp}, {port: 1}, 5, {kind: }, {kind: {}}, ~]",
            "f:1:20: listeners[0].kind: expected one of http, https, redirect, demo; got 'htp' (did you mean http?)",
            "f:1:26: listeners[1]: expected a section with a `kind`: http, https, redirect, demo",
            "f:1:37: listeners[2]: expected a section with a `kind`: http, https, redirect, demo",
            "f:1:46: listeners[3].kind: expected one of http, https, redirect, demo; got nothing",
            "f:1:57: listeners[4].kind: expected one of http, https, redirect, demo; got a section",
            "f:1:62: listeners[5]: expected a section with a `kind`: http, https, redirect, demo",
        )

    def test_a_section_is_no_value_and_a_value_no_section(self) -> None:
        """What has the wrong shape is told what shape it should have."""
        self.assert_problems("routes: []", "f:1:9: routes: expected a section, got a list")
        self.assert_problems("listeners: {kind: http}", "f:1:12: listeners: expected a list, got a section")
        self.assert_problems("trusted_proxies: unix", "f:1:18: trusted_proxies: expected a list, got 'unix'")
        self.assert_problems("log: 5", "f:1:6: log: expected a section with options such as `format`, got 5")
        self.assert_problems(
            "api: of", "f:1:6: api: expected `off` or a section with options such as `address`, got 'of'"
        )
        self.assert_problems("pid_file: {}", "f:1:11: pid_file: expected text, got a section")
        self.assert_problems("pid_file: []", "f:1:11: pid_file: expected text, got a list")

    def test_types_are_strict(self) -> None:
        """Nothing is taken for what it is not: a number in quotes is text, text is no truth value."""
        self.assert_problems("host_routing: yes", "f:1:15: host_routing: expected true or false, got 'yes'")
        self.assert_problems("host_routing: 1", "f:1:15: host_routing: expected true or false, got 1")
        self.assert_problems("pid_file: 5", "f:1:11: pid_file: expected text, got 5: put it in quotes")
        self.assert_problems("pid_file: true", "f:1:11: pid_file: expected text, got true: put it in quotes")
        self.assert_problems(
            "limits: {header_count: '5', interim_responses: true}",
            "f:1:24: limits.header_count: expected a whole number, got '5'",
            "f:1:48: limits.interim_responses: expected a whole number, got true",
        )
        self.assert_problems("drain_seconds: 5s", "f:1:16: drain_seconds: expected a number, got '5s'")

    def test_units_are_asked_for(self) -> None:
        """A duration has a unit; a size has one of ours, or none."""
        duration = "expected a duration such as 5s, 100ms, 2m or 1h, got"
        self.assert_problems(
            "timeouts: {header: 5, idle: 1:30, connect: -5s, response: false}",
            f"f:1:20: timeouts.header: {duration} 5",
            f"f:1:29: timeouts.idle: {duration} '1:30'",
            f"f:1:44: timeouts.connect: {duration} '-5s'",
            f"f:1:59: timeouts.response: {duration} false",
        )
        size = "expected a size such as 8 KiB, 10 MiB or a number of bytes, got"
        self.assert_problems(
            "limits: {body: 10 MB, headers: -5, trailers: 1.5}",
            f"f:1:16: limits.body: {size} '10 MB'",
            f"f:1:32: limits.headers: {size} -5",
            f"f:1:46: limits.trailers: {size} 1.5",
        )

    def test_numbers_have_bounds(self) -> None:
        """A port ends at 65535, nothing is negative, permissions are octal."""
        self.assert_problems(
            "listeners: [{kind: http, port: 70000}, {kind: http, port: -1}, {kind: http, socket: s, mode: 888}]",
            "f:1:32: listeners[0].port: 70000 is not a port: they end at 65535",
            "f:1:59: listeners[1].port: a negative number makes no sense here",
            "f:1:94: listeners[2].mode: expected permissions in octal such as 0660, got 888",
        )
        self.assert_problems(
            "drain_seconds: -1", "f:1:16: drain_seconds: expected a number that is neither negative nor infinite"
        )

    def test_options_that_do_not_go_together_are_pointed_at(self) -> None:
        """A rule about several options blames the one to change."""
        self.assert_problems(
            "listeners: [{kind: http, port: 80, mode: 0660}]", "f:1:42: listeners[0].mode: only a socket has a mode"
        )

    def test_routes_are_checked(self) -> None:
        """Keys are prefixes, upstreams are URLs that can be reached, and every route has one."""
        self.assert_problems(
            """\
            routes:
              wiki: http://h
              /b: htp://h
              /c: http://
              /d: {strip_prefix: true}
              /e: ""
              /f:
              /g: [http://h]
              /h: {upstream: ""}
              "*/": http://h
            """,
            "f:2:9: routes.wiki: a route is /prefix or host/prefix; a host alone ends with /",
            "f:3:7: routes./b.upstream: the scheme has to be one of http, https, http+unix, unix+http",
            "f:4:7: routes./c.upstream: the host is missing",
            "f:5:7: routes./d.upstream: is required",
            "f:6:7: routes./e.upstream: is required",
            "f:7:6: routes./f: expected a section with options such as `upstream`, got nothing",
            "f:8:7: routes./g: expected a section with options such as `upstream`, got a list",
            "f:9:18: routes./h.upstream: is required",
            "f:10:9: routes.*/: a route is /prefix or host/prefix; a host alone ends with /",
        )

    def test_keys_that_no_request_has_are_refused(self) -> None:
        """Whoever writes a URL, a wildcard or a variable is told, and does not wait for the first 404."""
        self.assert_problems(
            """\
            routes:
              https://a.test/: http://h
              a.test:80/: http://h
              "*.bücher.test/": http://h
              /a/*: http://h
              /b?c: http://h
              /d%20e: http://h
              /f/../g: http://h
              /${A}: http://h
            """,
            "f:2:20: routes.https://a.test/: a route has no scheme: /prefix or host/prefix",
            "f:3:15: routes.a.test:80/: the host of a route has no port: it is the same on each listener",
            "f:4:21: routes.*.bücher.test/: the host bücher.test is xn--bcher-kva.test in requests, and has to "
            "be so here",
            "f:5:9: routes./a/*: a prefix leads to all that is below it: write /a",
            "f:6:9: routes./b?c: a prefix is a path: without query and fragment",
            "f:7:11: routes./d%20e: paths are compared decoded: write /d e",
            "f:8:12: routes./f/../g: requests come without dot segments",
            "f:9:10: routes./${A}: a variable stands in a value only",
        )

    def test_one_item_in_place_of_a_list_is_pointed_at(self) -> None:
        """Also where a word may stand in place of the list, and where the list is needed to read the rest."""
        self.assert_problems("server_packages: a", "f:1:18: server_packages: expected a list, or *; got 'a'")
        self.assert_problems("jupyter_config: a.py", "f:1:17: jupyter_config: expected a list, or auto; got 'a.py'")
        for value in ("./apps", "true", "5"):
            (problem,) = problems_of(f"python_path: {value}\nservers: {{a: {{command: !python 'os:getcwd'}}}}")
            self.assertIn("f:1:14: python_path: expected a list, got ", problem)

    def test_all_checks_of_the_whole_are_told_together(self) -> None:
        """What nothing but the whole configuration tells comes at once, too."""
        problems = problems_of(
            """\
            listeners: [{kind: http, address: "*"}, {kind: http}]
            servers: {a: {command: [a]}}
            ports: {enabled: true}
            """
        )
        self.assertEqual(
            ["f:1:41: listeners[1]", "f:2:10: servers", "f:3:18: ports.enabled"],
            [": ".join(problem.split(": ")[:2]) for problem in problems],
        )
        for name in ("server_packages", "jupyter_config"):
            (problem,) = problems_of(f"listeners: [{{kind: http, address: ''}}]\n{name}: [a]")
            self.assertRegex(problem, rf"\Af:2:[0-9]+: {name}: the listener on \* would let everybody use")

    def test_two_listeners_at_one_place_are_refused(self) -> None:
        """The system would say that the address is in use, and not that it is by proxyd itself."""
        self.assert_problems(
            """\
            listeners:
              - {kind: http, port: 8001}
              - {kind: http, address: "::1", port: 80}
              - {kind: http, address: "", port: 80}
              - {kind: http, socket: s}
              - {kind: redirect, socket: ./a/../s}
            metrics: {port: 8001}
            """,
            "f:2:5: listeners[0]: the API listens on port 8001 already",
            "f:4:5: listeners[2]: listeners[1] listens on port 80 already",
            "f:6:5: listeners[4]: listeners[3] listens on a/../s already",
            "f:7:10: metrics: the API listens on port 8001 already",
        )
        parse(
            """
            api: off
            listeners:
              - {kind: http, port: 8001}
              - {kind: http, port: 0}
              - {kind: http, port: 0}
              - {kind: http, address: 127.0.0.2, port: 8001}
              - {kind: http, address: 0.0.0.0, port: 80}
              - {kind: http, address: "::1", port: 80}
              - {kind: http, socket: a}
              - {kind: http, socket: b}
            metrics: {enabled: false, port: 8001}
            """,
            KINDS,
        )

    def test_limits_that_let_nothing_through_are_refused(self) -> None:
        """Who writes 0 means no limit."""
        for name in ("request_line", "headers", "header_count", "chunk_line", "rewrite_body", "route_path"):
            column = len(name) + 12
            words = "0 would let nothing through"
            self.assert_problems(f"limits: {{{name}: 0}}", f"f:1:{column}: limits.{name}: {words}")

    def test_a_place_for_reports_is_a_url(self) -> None:
        """As the service of `auth: {kind: forward}` is."""
        words = "is no URL with http, https or http+unix"
        self.assert_problems("activity: {url: hub}", f"f:1:17: activity.url: {words}")

    def test_an_authority_that_nobody_needs_is_refused(self) -> None:
        """Who names one means that clients are asked for a certificate."""
        tls = "certificates: [{certificate: c}], client_ca: ca"
        words = "nobody is asked for a certificate: `client_certificates` is none"
        self.assert_problems(f"listeners: [{{kind: https, {tls}}}]", f"f:1:72: listeners[0].client_ca: {words}")
        parse(f"listeners: [{{kind: https, {tls}, client_certificates: optional}}]", KINDS)

    def test_fields_are_checked(self) -> None:
        """Header fields that would break a message are refused."""
        self.assert_problems(
            """\
            route_defaults:
              request_headers: {set: {X Y: a}}
              response_headers: {remove: [Good, "b:d"]}
            routes:
              /a: {upstream: http://h, request_headers: {set: {X: 5}}}
              /b: {upstream: http://h, request_headers: {set: {X: "a\\nb"}}}
              /c: {upstream: http://h, request_headers: {set: {Connection: close}}}
              /d: {upstream: http://h, request_headers: {set: {X: "\u20ac"}}}
              /e: {upstream: http://h, request_headers: {set: {X: }}}
            """,
            "f:2:32: route_defaults.request_headers.set.X Y: 'X Y' is not a field name",
            "f:3:37: route_defaults.response_headers.remove[1]: 'b:d' is not a field name",
            "f:5:55: routes./a.request_headers.set.X: expected text, got 5: put it in quotes",
            "f:6:55: routes./b.request_headers.set.X: a field value has no control characters",
            "f:7:64: routes./c.request_headers.set.Connection: Connection belongs to the connection and cannot be "
            "changed",
            "f:8:55: routes./d.request_headers.set.X: a field value has Latin-1 characters only",
            "f:9:54: routes./e.request_headers.set.X: expected text, got nothing",
        )

    def test_networks_and_paths_are_checked(self) -> None:
        """Networks have addresses, not names; paths have no NUL; public paths begin with a slash."""
        network = "expected an address, a network such as 10.0.0.0/8, or unix, got"
        self.assert_problems(
            "trusted_proxies: [10.0.0.0/99, unix, localhost]",
            f"f:1:19: trusted_proxies[0]: {network} '10.0.0.0/99'",
            f"f:1:38: trusted_proxies[2]: {network} 'localhost'",
        )
        self.assert_problems('pid_file: "a\\0b"', "f:1:11: pid_file: a path has no NUL character")
        self.assert_problems(
            "health: {live: healthz}", "f:1:16: health.live: expected a path that begins with /, got 'healthz'"
        )

    def test_a_long_wrong_value_is_cut(self) -> None:
        """A value in a message is as long as it has to be to be found."""
        self.assert_problems(
            f"host_routing: {'x' * 1000}", f"f:1:15: host_routing: expected true or false, got '{'x' * 59}..."
        )

    def test_all_problems_come_at_once_and_in_order(self) -> None:
        """Whatever kind they are of, they are sorted by their place."""
        self.assert_problems(
            """\
            limits: {boddy: 1, headers: x}
            log: {level: a}
            pid_file: ${X}
            routes: {x: y}
            host_routing: 5
            api: !secret {}
            pid_file: b
            """,
            "f:1:10: limits.boddy: unknown option (did you mean body?)",
            "f:1:29: limits.headers: expected a size such as 8 KiB, 10 MiB or a number of bytes, got 'x'",
            "f:2:14: log.level: expected one of debug, info, warn, error; got 'a'",
            "f:4:13: routes.x: a route is /prefix or host/prefix; a host alone ends with /",
            "f:5:15: host_routing: expected true or false, got 5",
            "f:6:6: api: the tag !secret is not known",
            "f:7:1: pid_file: is set twice, before at f:3:1",
        )

    def test_a_problem_without_a_place_has_its_path(self) -> None:
        """What nobody wrote stands in no line."""
        with self.assertRaises(ConfigError) as caught:
            parse("", Kinds((demo.KIND,)), name="f")
        self.assertEqual(str(caught.exception), "listeners[0].kind: expected one of demo; got 'http'")

    def test_a_broken_value_is_one_problem(self) -> None:
        """A value that lacks its variable is not blamed for what it would be without it."""
        self.assert_problems(
            "listeners: [{kind: http, port: '${PORT}'}]", "f:1:32: listeners[0].port: ${PORT} is not set"
        )


class StructureTests(SynchronousTestCase):
    """Keys, tags, anchors, and what is no YAML at all."""

    def assert_problems(self, text: str, *problems: str) -> None:
        self.assertEqual(problems_of(text), list(problems))

    def test_an_empty_file_means_the_defaults(self) -> None:
        """Nothing, blanks, comments and an empty document are all the same: one listener, no routes."""
        for text in ("", "\n\n", "# nothing\n", "---\n", "{}", "\ufeff"):
            config = parse(text, KINDS)
            self.assertEqual(config, Config(listeners=(HttpConfig(),)))

    def test_no_listeners_may_be_asked_for(self) -> None:
        """An empty list is a list."""
        self.assertEqual(parse("listeners: []", KINDS).listeners, ())

    def test_the_top_has_options(self) -> None:
        """A file that is text or a list is none of ours."""
        for text in ("hello", "- a", "5"):
            self.assert_problems(text, "f:1:1: expected options at the top")

    def test_what_is_no_yaml_is_pointed_at(self) -> None:
        """Syntax errors have a place and say what was expected."""
        self.assert_problems(
            "pid_file: [1,", "f:1:14: expected the node content, but found '<stream end>' while parsing a flow node"
        )
        self.assert_problems(
            "log:\n\tlevel: info",
            "f:2:1: found character '\\t' that cannot start any token while scanning for the next token",
        )
        self.assert_problems("pid_file: *a", "f:1:11: found undefined alias 'a'")
        self.assert_problems(
            "pid_file: a\n---\npid_file: b\n",
            "f:2:1: expected a single document in the stream but found another document",
        )

    def test_a_forbidden_character_is_pointed_at(self) -> None:
        """Control characters are no part of YAML."""
        self.assert_problems("log:\n  level: \x01", "f:2:10: the character U+0001 is not allowed")
        self.assert_problems("\0", "f:1:1: the character U+0000 is not allowed")

    def test_a_key_that_is_set_twice_is_pointed_at(self) -> None:
        """Each time again, with the place of the first one, even if both say the same."""
        self.assert_problems(
            "pid_file: a\npid_file: b\npid_file: a\n",
            "f:2:1: pid_file: is set twice, before at f:1:1",
            "f:3:1: pid_file: is set twice, before at f:1:1",
        )
        self.assert_problems(
            "limits: {body: 1}\nlimits: {headers: 2}\n", "f:2:1: limits: is set twice, before at f:1:1"
        )
        self.assert_problems(
            "routes:\n  /a: http://h\n  /a: http://g\n", "f:3:3: routes./a: is set twice, before at f:2:3"
        )

    def test_a_key_is_text(self) -> None:
        """A list or a section is no key; what looks like a number or a truth value is text."""
        self.assert_problems("? [a, b]\n: c\n", "f:1:3: a key has to be text")
        self.assert_problems("? {a: b}\n: c\n", "f:1:3: a key has to be text")
        self.assert_problems("5: a", "f:1:1: 5: unknown option")
        self.assertEqual(
            dict(
                parse(
                    "route_defaults: {request_headers: {set: {5: a, true: b}}}", KINDS
                ).route_defaults.request_headers.set
                or {}
            ),
            {"5": "a", "true": "b"},
        )

    def test_tags_are_refused(self) -> None:
        """No value makes an object, and none pretends to be of another type."""
        for text, tag in (
            ("pid_file: !!python/object/apply:os.system [ls]", "!!python/object/apply:os.system"),
            ("pid_file: !!binary aGVsbG8=", "!!binary"),
            ("pid_file: !!timestamp 2020-01-01", "!!timestamp"),
            ("pid_file: !!int abc", "!!int"),
            ("pid_file: !!int '5'", "!!int"),
            ("pid_file: !!bool abc", "!!bool"),
            ("pid_file: !<tag:example.org,2000:x> y", "tag:example.org,2000:x"),
        ):
            self.assert_problems(text, f"f:1:11: pid_file: the tag {tag} is not known")
        self.assert_problems("pid_file: !python os:getcwd", "f:1:11: pid_file: expected text, got !python os:getcwd")
        self.assert_problems("limits: !python {}", "f:1:9: limits: the tag !python is not known")
        self.assert_problems("limits: !x {}", "f:1:9: limits: the tag !x is not known")
        self.assert_problems("listeners: !x []", "f:1:12: listeners: the tag !x is not known")
        self.assert_problems("limits: !!set {body}", "f:1:9: limits: the tag !!set is not known")
        self.assert_problems("limits: !!omap [body: 1]", "f:1:9: limits: the tag !!omap is not known")
        self.assert_problems("!x {}", "f:1:1: the tag !x is not known", "f:1:1: expected options at the top")

    def test_anchors_and_aliases_repeat(self) -> None:
        """A section can be written once and used again."""
        config = parse("routes:\n  /a: &a {upstream: http://h, strip_prefix: true}\n  /b: *a\n", KINDS)
        self.assertEqual(config.routes["/b"], config.routes["/a"])

    def test_merge_keys_merge(self) -> None:
        """`<<` takes options from one section or several; own ones win, then the earlier section."""
        config = parse(
            dedent("""
            routes:
              /a: &a {upstream: http://a, strip_prefix: true}
              /b: &b {upstream: http://b, change_origin: true}
              /own: {<<: *a, upstream: http://own}
              /after: {upstream: http://own, <<: *a}
              /both: {<<: [*b, *a]}
              /twice: {<<: *b, <<: *a}
            """),
            KINDS,
        )
        found = {key: (spec.upstream, spec.strip_prefix, spec.change_origin) for key, spec in config.routes.items()}
        self.assertEqual(found["/own"], ("http://own", True, None))
        self.assertEqual(found["/after"], ("http://own", True, None))
        self.assertEqual(found["/both"], ("http://b", True, True))
        self.assertEqual(found["/twice"], found["/both"])

    def test_a_problem_in_a_merged_section_is_pointed_at_where_it_is_written(self) -> None:
        """The place is that of the anchor's text, the path that of the alias, for each use."""
        self.assert_problems(
            "routes:\n  /a: &a {upstream: http://a, strip_prefix: 1}\n  /b: {<<: *a}\n",
            "f:2:45: routes./a.strip_prefix: expected true or false, got 1",
            "f:2:45: routes./b.strip_prefix: expected true or false, got 1",
        )

    def test_a_merge_key_takes_sections_only(self) -> None:
        """`<<` with anything else is an error, and not the end of the check."""
        words = "<< takes a section, or a list of sections"
        self.assert_problems(
            "limits: {<<: 5}\nlog: {<<: [a]}\nhost_routing: 5\n",
            f"f:1:14: limits: {words}",
            f"f:2:12: log: {words}",
            "f:3:15: host_routing: expected true or false, got 5",
        )

    def test_a_lonely_merge_word_is_text(self) -> None:
        """As a value, `<<` merges nothing."""
        self.assertEqual(parse("pid_file: <<", KINDS).pid_file, "<<")

    def test_deep_nesting_is_refused(self) -> None:
        """Sections, lists and aliases of themselves end where no option can be any more."""
        self.assert_problems(
            "pid_file: " + "[" * 100 + "]" * 100,
            "f:1:11: pid_file: expected text, got a list",
            "f:1:75: pid_file[0][0]: is nested too deeply",
        )
        self.assert_problems(
            "pid_file: " + "{a: " * 100 + "}" * 100,
            "f:1:11: pid_file: expected text, got a section",
            "f:1:267: pid_file.a.a: is nested too deeply",
        )

    def test_what_holds_itself_is_refused(self) -> None:
        """Aliases of what is around them end at once, however many there are: two of them would be 2**64 at the end."""
        self.assert_problems(
            "pid_file: &x [*x, *x]",
            "f:1:11: pid_file[0]: holds itself",
            "f:1:11: pid_file[1]: holds itself",
        )
        self.assertIn("f:1:9: limits.b: holds itself", problems_of("limits: &x {a: {c: *x}, b: *x}"))

    def test_absurd_nesting_is_refused(self) -> None:
        """A file that no parser can follow is an error, and no crash."""
        self.assert_problems("pid_file: " + "[" * 20000, "f: is nested too deeply")

    def test_a_section_that_merges_itself_is_as_it_was(self) -> None:
        """`<<` with the section that it stands in adds nothing, and ends."""
        self.assertEqual(parse("limits: &x {body: 1, <<: *x}", KINDS).limits.body, 1)

    @given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join))
    def test_whatever_comes_is_read_or_refused(self, text: str) -> None:
        """No text ends in anything but a configuration or problems, each with words and none without a place."""
        try:
            parse(text, KINDS, {"A": "a"}, name="f")
        except ConfigError as error:
            for problem in error.problems:
                self.assertTrue(problem.message)
                self.assertEqual(problem.file, "f")


class FileTests(SynchronousTestCase):
    """Files, the pieces in `conf.d`, and what paths in them mean."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.file = self.directory / "proxyd.yaml"

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def assert_problems(self, *problems: str, environ: dict[str, str] | None = None) -> None:
        with self.assertRaises(ConfigError) as caught:
            load(self.file, KINDS, environ or {})
        self.assertEqual(str(caught.exception).replace(f"{self.directory}/", "").splitlines(), list(problems))

    def test_a_file_is_read_with_its_environment(self) -> None:
        """`load` takes variables from the environment that it is given."""
        self.write("proxyd.yaml", "log: {level: '${LEVEL}'}")
        self.assertEqual(load(self.file, KINDS, {"LEVEL": "warn"}).log.level, "warn")

    def test_a_missing_file_is_named(self) -> None:
        """A file that does not exist is an error."""
        self.assert_problems("proxyd.yaml: cannot be read: No such file or directory")

    def test_a_directory_is_no_file(self) -> None:
        """Naming a directory is an error."""
        self.file.mkdir()
        self.assert_problems("proxyd.yaml: cannot be read: Is a directory")

    def test_a_file_that_is_not_utf_8_is_named(self) -> None:
        """Another encoding is an error, and no guess."""
        self.file.write_bytes("pid_file: ä".encode("latin-1"))
        self.assert_problems("proxyd.yaml: is not UTF-8")

    def test_pieces_are_added_in_order_of_their_names(self) -> None:
        """Every `conf.d/*.yaml` adds options to the file, into sections that are there as well."""
        self.write("proxyd.yaml", "routes: {/a: 'http://a'}\nlimits:\n")
        self.write("conf.d/20.yaml", "routes: {/c: 'http://c'}\nlimits: {body: 5}\n")
        self.write("conf.d/10.yaml", "routes: {/b: {upstream: 'http://b'}}\nhost_routing: true\n")
        self.write("conf.d/ignored.yml", "no: such option\n")
        self.write("conf.d/.hidden.yaml", "no: such option\n")
        config = load(self.file, KINDS, {})
        self.assertEqual(list(config.routes), ["/a", "/b", "/c"])
        self.assertEqual((config.host_routing, config.limits.body), (True, 5))

    def test_two_keys_for_one_place_are_pointed_at(self) -> None:
        """A slash at the end and the case of a host make no other route."""
        self.write(
            "proxyd.yaml", "routes: {/a: 'http://a', /a/: 'http://b', h.test/: 'http://c', H.Test/: 'http://d'}\n"
        )
        self.assert_problems(
            "proxyd.yaml:1:26: routes./a/: means the same as /a, at proxyd.yaml:1:10",
            "proxyd.yaml:1:64: routes.H.Test/: means the same as h.test/, at proxyd.yaml:1:43",
        )

    def test_pieces_that_cannot_be_looked_at_are_a_problem(self) -> None:
        """What they say may be who gets in: a file alone is another configuration, and not a part of this one."""
        self.write("proxyd.yaml", "")
        pieces = self.directory / "conf.d"
        for target, reason in (
            ("conf.d", "Too many levels of symbolic links"),
            ("not-mounted", "No such file or directory"),
            ("proxyd.yaml", "Not a directory"),
        ):
            pieces.symlink_to(target)
            self.assert_problems(f"conf.d: cannot be read: {reason}")
            pieces.unlink()

    def test_a_callable_that_two_files_set_is_pointed_at(self) -> None:
        """It is a value like others, whatever the second one is."""
        self.write("proxyd.yaml", "servers: {a: {command: !python 'os:getcwd'}}\n")
        for value in ("[a]", "!python 'os:getpid'"):
            self.write("conf.d/x.yaml", f"servers: {{a: {{command: {value}}}}}\n")
            self.assert_problems(
                "conf.d/x.yaml:1:15: servers.a.command: is set twice, before at proxyd.yaml:1:15",
            )

    def test_a_key_that_two_files_set_is_pointed_at(self) -> None:
        """Both places are named; lists are not joined."""
        self.write("proxyd.yaml", "pid_file: a\nroutes: {/a: 'http://a'}\nlisteners: []\nlimits: {body: 1}\n")
        self.write("conf.d/x.yaml", "pid_file: a\nroutes: {/a: {upstream: 'http://b'}}\nlisteners: []\n")
        self.write("conf.d/y.yaml", "limits: {headers: 5, body: 1}")
        self.assert_problems(
            "conf.d/x.yaml:1:1: pid_file: is set twice, before at proxyd.yaml:1:1",
            "conf.d/x.yaml:2:10: routes./a: is set twice, before at proxyd.yaml:2:10",
            "conf.d/x.yaml:3:1: listeners: is set twice, before at proxyd.yaml:3:1",
            "conf.d/y.yaml:1:22: limits.body: is set twice, before at proxyd.yaml:4:10",
        )

    def test_problems_of_all_files_come_at_once(self) -> None:
        """Even if one of them cannot be read and another one is no YAML."""
        self.write("proxyd.yaml", "log: {level: '${X}'}\n")
        self.write("conf.d/a.yaml", "pid_file: [\n")
        self.write("conf.d/b.yaml", "host_routing: 5\nlog: !x {format: text}\n")
        (self.directory / "conf.d/c.yaml").mkdir()
        self.assert_problems(
            "conf.d/a.yaml:2:1: expected the node content, but found '<stream end>' while parsing a flow node",
            "conf.d/b.yaml:1:15: host_routing: expected true or false, got 5",
            "conf.d/b.yaml:2:6: log: the tag !x is not known",
            "conf.d/c.yaml: cannot be read: Is a directory",
            "proxyd.yaml:1:14: log.level: ${X} is not set",
        )

    def test_relative_paths_count_from_the_file(self) -> None:
        """Not from the working directory; absolute ones and empty ones stay, `~` is the home."""
        self.write(
            "proxyd.yaml",
            """
            state_directory: state
            pid_file: /run/p.pid
            errors: {directory: ""}
            log: {access_file: ~/access.log}
            listeners: [{kind: http, socket: ../s}]
            """,
        )
        self.patch(os, "environ", {"HOME": "/home/jo"})
        config = load(self.file, KINDS, {})
        self.assertEqual(config.state_directory, f"{self.directory}/state")
        self.assertEqual(config.pid_file, "/run/p.pid")
        self.assertEqual(config.errors.directory, "")
        self.assertEqual(config.log.access_file, "/home/jo/access.log")
        self.assertEqual(config.listeners, (HttpConfig(socket=f"{self.directory}/../s"),))

    def test_paths_in_a_piece_count_from_the_file(self) -> None:
        """Not from `conf.d`: a section means the same in whatever piece it stands."""
        self.write("proxyd.yaml", "")
        self.write("secret", "hunter2")
        self.write("conf.d/a.yaml", "pid_file: p\napi: {token: 'file:secret'}\n")
        config = load(self.file, KINDS, {})
        assert config.api is not None
        self.assertEqual((config.pid_file, config.api.token), (f"{self.directory}/p", "hunter2"))

    def test_paths_do_not_depend_on_the_working_directory(self) -> None:
        """Also when the file was named by a relative path."""
        self.write("proxyd.yaml", "pid_file: p")
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        self.assertEqual(load(Path("proxyd.yaml"), KINDS, {}).pid_file, f"{self.directory}/p")

    def test_a_secret_may_be_in_a_file(self) -> None:
        """`file:` reads it, without the line end; a relative path counts from the configuration's directory."""
        self.write("proxyd.yaml", "api: {token: 'file:secret'}")
        self.write("secret", "hunter2\n")
        config = load(self.file, KINDS, {})
        assert config.api is not None
        self.assertEqual(config.api.token, "hunter2")

    def test_a_secret_may_be_given_by_the_environment(self) -> None:
        """The text itself, or the path of its file."""
        secret = self.write("secret", "hunter2")
        self.write("proxyd.yaml", "api: {token: '${TOKEN}'}")
        for token in ("hunter2", f"file:{secret}"):
            config = load(self.file, KINDS, {"TOKEN": token})
            assert config.api is not None
            self.assertEqual(config.api.token, "hunter2")

    def test_a_secret_file_has_to_hold_one(self) -> None:
        """Without the file, or with an empty one, nothing is left open by mistake."""
        self.write("proxyd.yaml", "api: {token: 'file:secret'}")
        self.assert_problems("proxyd.yaml:1:14: api.token: cannot read secret: No such file or directory")
        self.write("secret", " \n")
        self.assert_problems("proxyd.yaml:1:14: api.token: secret is empty")
        (self.directory / "secret").write_bytes(b"\xff")
        self.assert_problems("proxyd.yaml:1:14: api.token: cannot read secret: not text")

    def test_a_secret_is_not_shown(self) -> None:
        """A token of digits that lacks its quotes is an error without the digits."""
        self.write("proxyd.yaml", "api: {token: 123456}")
        self.assert_problems("proxyd.yaml:1:14: api.token: expected text: put it in quotes")


class FindTests(SynchronousTestCase):
    """Where the configuration is looked for."""

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        work = self.home / "work"
        work.mkdir(parents=True)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(work)
        self.environ = {"HOME": str(self.home)}

    def put(self, name: str | Path) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def test_places_have_an_order(self) -> None:
        """The variable, ./etc, here, the user's configuration: the first one that exists."""
        own = self.put(self.home / ".config/proxyd/proxyd.yaml")
        self.assertEqual(find(self.environ), own)
        xdg = self.put(self.home / "xdg/proxyd/proxyd.yaml")
        self.environ["XDG_CONFIG_HOME"] = str(self.home / "xdg")
        self.assertEqual(find(self.environ), xdg)
        here = self.put("proxyd.yaml")
        self.assertEqual(find(self.environ), here)
        etc = self.put("etc/proxyd.yaml")
        self.assertEqual(find(self.environ), etc)
        self.environ["PROXYD_CONFIG"] = "else.yaml"
        self.assertEqual(find(self.environ), Path("else.yaml"))

    def test_the_variable_is_taken_at_its_word(self) -> None:
        """A file that `$PROXYD_CONFIG` names and that is not there is an error later, and no other one is taken."""
        self.put("proxyd.yaml")
        self.assertEqual(find({**self.environ, "PROXYD_CONFIG": "/no/such/file"}), Path("/no/such/file"))

    def test_what_cannot_be_looked_at_is_passed_over(self) -> None:
        """The home of somebody else is no reason not to start; the file of the machine tells when it is read."""
        nobody_can_look = Path("/") / ("x" * 300)
        self.environ["XDG_CONFIG_HOME"] = str(nobody_can_look)
        system = self.put("system.yaml")
        self.assertEqual(find(self.environ, system), system)
        self.assertIsNone(find(self.environ, Path("none.yaml")))
        self.assertEqual(find(self.environ, nobody_can_look), nobody_can_look)

    def test_empty_variables_count_as_unset(self) -> None:
        """`PROXYD_CONFIG=` and `XDG_CONFIG_HOME=` change nothing."""
        own = self.put(self.home / ".config/proxyd/proxyd.yaml")
        self.assertEqual(find({**self.environ, "PROXYD_CONFIG": "", "XDG_CONFIG_HOME": ""}), own)

    def test_a_directory_is_passed_over(self) -> None:
        """What is called proxyd.yaml has to be a file."""
        Path("proxyd.yaml").mkdir()
        own = self.put(self.home / ".config/proxyd/proxyd.yaml")
        self.assertEqual(find(self.environ), own)

    def test_there_may_be_none(self) -> None:
        """Without any file, the defaults will do."""
        self.assertIsNone(find(self.environ, Path("/no/such/file")))

    def test_the_system_has_the_last_word(self) -> None:
        """Its file is taken if there is no other one."""
        system = self.put("system.yaml")
        self.assertEqual(find(self.environ, system), system)


class AuthTests(SynchronousTestCase):
    """Sections of authenticators, limits, and paths that are reserved."""

    def test_a_token_comes_from_wherever_secrets_come_from(self) -> None:
        """The environment, or a file; for all routes, for one, or as a default of all."""
        path = Path(self.mktemp())
        path.write_text("correct-horse\n")
        config = parse(
            f"auth: {{kind: token, token: '${{TOKEN}}'}}\n"
            f"route_defaults: {{auth: {{kind: token, tokens: ['file:{path.absolute()}']}}}}\n"
            "routes: {/a: {upstream: 'http://h', auth: {kind: anonymous}, rate: 5/m}}\n"
            "limits: {connections: 9, connections_per_client: 3, requests_per_client: 100/s}\n"
            "allow_anonymous: true\n",
            KINDS,
            {"TOKEN": "battery-staple"},
        )
        self.assertEqual(config.auth, TokenAuthConfig(token=Secret("battery-staple")))
        self.assertEqual(config.route_defaults.auth, TokenAuthConfig(tokens=(Secret("correct-horse"),)))
        self.assertEqual(config.routes[RouteKey("/a")].auth, AnonymousAuthConfig())
        self.assertEqual(config.routes[RouteKey("/a")].rate, Rate(5, 60))
        self.assertEqual(config.limits.requests_per_client, Rate(100, 1))
        self.assertTrue(config.allow_anonymous)
        self.assertEqual(parse("", KINDS).auth, AnonymousAuthConfig())
        self.assertFalse(parse("", KINDS).allow_anonymous)

    def test_mistakes(self) -> None:
        """An empty variable opens nothing; a login has its place to itself."""
        for text, message in (
            ("auth: {kind: token, token: '${NONE:-}'}", "<text>:1:28: auth.token: a token is needed"),
            ("routes: {/a/.proxyd/x: 'http://h'}", "<text>:1:10: routes./a/.proxyd/x: .proxyd in a path is reserved"),
            ("limits: {requests_per_client: 5}", "<text>:1:31: limits.requests_per_client: expected a rate such as"),
            ("auth: secret-secret", "<text>:1:7: auth: expected a section with a `kind`: anonymous, token"),
        ):
            error = self.assertRaises(ConfigError, parse, text, KINDS, {})
            self.assertIn(message, str(error))
            self.assertNotIn("secret-secret", str(error))
