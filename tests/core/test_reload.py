"""What a reload changes, and what has to wait for a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args, get_type_hints

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.core.reload import (
    APPLIED,
    LISTENER_APPLIED,
    LISTENER_NEEDS_RESTART,
    NEEDS_RESTART,
    Plan,
    Report,
    plan_reload,
)
from proxyd.errors import Problem
from proxyd.model.settings import Config, ListenerConfig
from proxyd.option import Workers

TLS = "certificates: [{certificate: c.pem}]"


def plan(running: str, wanted: str) -> Plan:
    """The plan for two configurations in YAML."""
    return plan_reload(parse(running, KINDS), parse(wanted, KINDS))


def options_of(cls: type, path: str = "") -> Iterator[str]:
    """The paths of all options, and of the sections that can be switched off."""
    hints = get_type_hints(cls)
    for field in attrs.fields(cls):
        name = f"{path}{field.name}"
        kind = hints[field.name]
        is_optional = isinstance(kind, UnionType)
        kind = get_args(kind)[0] if is_optional else kind
        if f"{name}.*" in APPLIED | NEEDS_RESTART:
            if is_optional:
                yield name
            yield f"{name}.*"
        elif attrs.has(kind):
            if is_optional:
                yield name
            yield from options_of(kind, f"{name}.")
        else:
            yield name


class ClassificationTests(SynchronousTestCase):
    """Every option is applied, or needs a restart, and somebody has thought about which."""

    def test_every_option_is_in_exactly_one_table(self) -> None:
        """And the tables have nothing else. Whoever adds an option puts it into one of them, and has it applied."""
        options = [option for option in options_of(Config) if option != "listeners"]
        self.assertEqual(sorted(options), sorted([*APPLIED, *NEEDS_RESTART]))

    def test_every_option_of_a_listener_is_in_exactly_one_table(self) -> None:
        """For the kinds that ship."""
        kinds = KINDS.of_seam(ListenerConfig).values()
        options = {field.name for kind in kinds for field in attrs.fields(kind.config)}
        self.assertEqual(sorted(options), sorted([*LISTENER_APPLIED, *LISTENER_NEEDS_RESTART]))


# For each option: another value than its default, and what has to be said beside it in both configurations.
_OTHER: dict[str, tuple[Any, dict[str, Any]]] = {
    "default_url": ("/lab", {}),
    "root_server": ("a", {"servers": {"a": {"command": ["x"]}}}),
    "activity.force_alive": (True, {}),
    "activity.ignore": (["/a"], {}),
    "activity.interval": ("7s", {}),
    "activity.server_name": ("s", {}),
    "activity.token": ("t", {}),
    "activity.url": ("http://a.test/", {}),
    "api": ("off", {}),
    "api.address": ("127.0.0.2", {}),
    "api.open": (True, {}),
    "allow_anonymous": (True, {}),
    "api.port": (9, {}),
    "api.route_options": ("verbatim", {}),
    "api.socket": ("s", {}),
    "api.tls": ({"certificates": [{"certificate": "c.pem"}]}, {}),
    "api.tls.*": ("ALL", {"certificates": [{"certificate": "c.pem"}]}),
    "api.token": ("t", {}),
    "api.tokens": (["t", "u"], {}),
    "auth.*": ("87654321", {"kind": "token", "token": "12345678"}),
    "base_url": ("/b/", {}),
    "drain_seconds": (1, {}),
    "errors.directory": ("d", {}),
    "errors.statuses": ("chp", {}),
    "errors.target": ("http://e.test", {}),
    "health.live": ("/l", {}),
    "health.ready": ("/r", {}),
    "host_routing": (True, {}),
    "jupyter_config": ("auto", {}),
    "log.access": ("off", {}),
    "log.access_file": ("a", {}),
    "log.format": ("json", {}),
    "log.level": ("debug", {}),
    "log.stall_after": ("7s", {}),
    "limits.requests_per_client": ("9/s", {}),
    "limits.target": ("lenient", {}),
    "metrics.address": ("127.0.0.2", {"port": 0}),
    "metrics.enabled": (False, {}),
    "metrics.names": ("chp", {"port": 9}),
    "metrics.port": (9, {}),
    "metrics.socket": ("s", {}),
    "patterns": ([{"pattern": "/a", "upstream": "http://a.test"}], {}),
    "pid_file": ("p", {}),
    "ports.allow": ("80-90", {}),
    "ports.allow_origin": (["https://a.test"], {}),
    "ports.enabled": (True, {}),
    "ports.hosts": (["db"], {}),
    "python_path": (["p"], {}),
    "route_defaults.*": (True, {}),
    "server_packages": ("*", {}),
    "start_page": (False, {}),
    "state_directory": ("s", {}),
    "store.*": ("class", {}),
    "trusted_proxies": (["unix"], {}),
}
_INSIDE = {"api.tls.*": "api.tls.ciphers", "auth.*": "auth.token", "route_defaults.*": "route_defaults.change_origin"}


class OptionTests(SynchronousTestCase):
    """Option by option, to the last one."""

    def documents(self, option: str) -> tuple[str, str]:
        """Two configurations that differ in one option."""
        value, beside = _OTHER.get(option, ("7s" if option.startswith("timeouts.") else 7, {}))
        *sections, name = _INSIDE.get(option, option).split(".")
        before: dict[str, Any] = dict(beside)
        after = {**beside, name: value}
        for section in reversed(sections):
            before, after = {section: before}, {section: after}
        return json.dumps(before), json.dumps(after)

    def test_each_is_applied_or_reported(self) -> None:
        """What is applied is in the configuration that runs then; of what needs a restart, the old value is."""
        for option in sorted(
            (APPLIED | NEEDS_RESTART) - {"routes", "servers", "workers", "store.*", "ports.rewrite_response"}
        ):
            before, after = (parse(text, KINDS) for text in self.documents(option))
            made = plan_reload(before, after)
            path = _INSIDE.get(option, option)
            if option in APPLIED:
                self.assertEqual((made.applied, made.needs_restart, made.config), ((path,), (), after), option)
            else:
                self.assertEqual((made.applied, made.needs_restart, made.config), ((), (path,), before), option)

    def test_the_store(self) -> None:
        """Another kind, or another option of it: both need a restart, and the old one goes on."""
        one, two, three = (parse(f"store: {{kind: class, path: 'm:{name}'}}", KINDS) for name in "ABC")
        memory = parse("", KINDS)
        for before, after in ((memory, one), (one, two), (three, memory)):
            made = plan_reload(before, after)
            self.assertEqual((made.needs_restart, made.config), (("store",), before))

    def test_another_kind_of_login(self) -> None:
        """Is applied as a whole."""
        made = plan("", "auth: {kind: token, token: '12345678'}")
        self.assertEqual((made.applied, made.needs_restart), (("auth",), ()))
        self.assertEqual(made.config, parse("auth: {kind: token, token: '12345678'}", KINDS))

    def test_workers(self) -> None:
        """Their number needs a restart."""
        before, after = Config(), attrs.evolve(Config(), workers=Workers(2))
        self.assertEqual(plan_reload(before, after).needs_restart, ("workers",))

    def test_what_is_in_no_table_needs_a_restart(self) -> None:
        """An option of somebody's own, in a section of the configuration."""

        @attrs.frozen(kw_only=True)
        class Larger(Config):
            more: int = 0

        before, after = Larger(more=1), Larger(more=2)
        made = plan_reload(before, after)
        self.assertEqual((made.needs_restart, made.config), (("more",), before))

    def test_nothing_has_changed(self) -> None:
        """Then nothing is done."""
        text = "routes: {/a: http://a.test}\nlisteners: [{kind: http}, {kind: demo}]\n"
        self.assertEqual(plan(text, text), Plan(parse(text, KINDS), (), (), ()))

    def test_routes_are_named(self) -> None:
        """Those that came, went or changed; of many, only that there are some."""
        made = plan(
            "routes: {/same: http://a.test, /gone: http://a.test, /other: http://a.test}",
            "routes: {/same: http://a.test, /other: http://b.test, h.test/new: http://a.test}",
        )
        self.assertEqual(made.applied, ("routes./gone", "routes./other", "routes.h.test/new"))
        self.assertEqual(sorted(made.config.routes), ["/other", "/same", "h.test/new"])
        many = "routes: {" + ", ".join(f"/{number}: http://a.test" for number in range(21)) + "}"
        self.assertEqual(plan("", many).applied, ("routes",))

    def test_servers_are_named(self) -> None:
        """As routes are."""
        made = plan(
            "servers: {same: {port: 1}, gone: {port: 1}, other: {port: 1}}",
            "servers: {same: {port: 1}, other: {port: 2}, a/b: {port: 1}}",
        )
        self.assertEqual((made.applied, made.needs_restart), (("servers.gone", "servers.other", "servers.a/b"), ()))

    def test_metrics_at_another_address_of_their_port(self) -> None:
        """Has to wait; at another port, or from nowhere and to nowhere, it need not."""
        here, there = "metrics: {port: 7}", "metrics: {port: 7, address: 127.0.0.2}"
        made = plan(here, there + "\ndrain_seconds: 7")
        self.assertEqual((made.applied, made.needs_restart), (("drain_seconds",), ("metrics.address",)))
        self.assertEqual(made.config, parse(here + "\ndrain_seconds: 7", KINDS))
        off = "metrics: {port: 7, address: 127.0.0.2, enabled: false}"
        for before, after in (
            (here, "metrics: {port: 7, address: 127.0.0.1}"),
            (here, "metrics: {port: 8, address: 127.0.0.2}"),
            (here, off),
            (off, here),
        ):
            self.assertEqual(plan(before, after).needs_restart, (), after)

    def test_several_at_once(self) -> None:
        """What can be applied is, beside what cannot."""
        made = plan("api: {port: 1}", "api: {port: 2, token: t}\ntimeouts: {idle: 1s, header: 3s}\nhost_routing: true")
        self.assertEqual(made.applied, ("api.token", "host_routing", "timeouts.header", "timeouts.idle"))
        self.assertEqual(made.needs_restart, ("api.port",))
        assert made.config.api is not None
        self.assertEqual((made.config.api.port, made.config.api.token, made.config.timeouts.idle), (1, "t", 1))

    def test_a_secret_is_not_told(self) -> None:
        """Only where it is."""
        made = plan("api: {token: old-one}", "api: {token: new-one}")
        self.assertEqual((made.applied, made.needs_restart), (("api.token",), ()))


class ListenerTests(SynchronousTestCase):
    """Listeners are known by their kinds and places, whatever their order."""

    def compared(self, running: str, wanted: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is applied, and what is not, for two lists of listeners."""
        self.plan = plan(f"listeners: [{running}]", f"listeners: [{wanted}]")
        return self.plan.applied, self.plan.needs_restart

    def ports(self) -> list[int]:
        """The ports of the listeners that run then."""
        return [listener.port for listener in self.plan.config.listeners]  # type: ignore[attr-defined]

    def test_their_order_does_not_matter(self) -> None:
        """Sections that change places change nothing."""
        one, two = "{kind: http, port: 1}", "{kind: http, port: 2}"
        self.assertEqual(self.compared(f"{one}, {two}", f"{two}, {one}"), ((), ()))
        self.assertEqual(self.ports(), [1, 2])

    def test_tls_is_applied(self) -> None:
        """To the one at that place, wherever its section is now."""
        tls = "{kind: https, port: %d, ciphers: '%s', " + TLS + "}"
        running = f"{tls % (1, '')}, {tls % (2, '')}"
        self.assertEqual(self.compared(running, f"{tls % (2, 'X')}, {tls % (1, '')}"), (("listeners[0].ciphers",), ()))
        ciphers = [listener.ciphers for listener in self.plan.config.listeners]  # type: ignore[attr-defined]
        self.assertEqual((self.ports(), ciphers), ([1, 2], ["", "X"]))

    def test_where_a_redirect_leads_is_applied(self) -> None:
        """It is no address of ours."""
        changed = self.compared("{kind: redirect, to_port: 1}", "{kind: redirect, to_port: 2}")
        self.assertEqual(changed, (("listeners[0].to_port",), ()))

    def test_one_that_moves(self) -> None:
        """Its place needs a restart; the rest is applied where it is."""
        changed = self.compared(f"{{kind: https, port: 1, {TLS}}}", f"{{kind: https, port: 2, ciphers: X, {TLS}}}")
        self.assertEqual(changed, (("listeners[0].ciphers",), ("listeners[0].port",)))
        self.assertEqual(self.ports(), [1])

    def test_one_that_comes(self) -> None:
        """A restart opens it."""
        one, two = "{kind: http, port: 1}", "{kind: http, port: 2}"
        self.assertEqual(self.compared(one, f"{two}, {one}"), ((), ("listeners[0]",)))
        self.assertEqual((self.ports(), [section.port for section in self.plan.new_listeners]), ([1], [2]))  # type: ignore[attr-defined]

    def test_one_that_goes(self) -> None:
        """A restart closes it; until then it goes on as it is."""
        self.assertEqual(self.compared("{kind: http, port: 1}, {kind: demo}", "{kind: demo}"), ((), ("listeners",)))
        self.assertEqual(len(self.plan.config.listeners), 2)

    def test_one_that_becomes_another_kind(self) -> None:
        """One goes and one comes."""
        changed = self.compared("{kind: http, port: 1}", f"{{kind: https, port: 1, {TLS}}}")
        self.assertEqual(changed, ((), ("listeners[0]", "listeners")))

    def test_its_ways_are_applied(self) -> None:
        """To the one that listens."""
        changed = self.compared("{kind: http}", "{kind: http, backlog: 7, proxy_protocol: true}")
        self.assertEqual(changed, (("listeners[0].backlog", "listeners[0].proxy_protocol"), ()))
        changed = self.compared("{kind: http, socket: s}", "{kind: http, socket: s, mode: 0600}")
        self.assertEqual(changed, (("listeners[0].mode",), ()))

    def test_permissions_of_another_socket(self) -> None:
        """Wait for it."""
        changed = self.compared("{kind: http}", "{kind: http, socket: s, mode: 0600, backlog: 7}")
        self.assertEqual(changed, (("listeners[0].backlog",), ("listeners[0].socket", "listeners[0].mode")))


class ReportTests(SynchronousTestCase):
    """What is told."""

    def test_json(self) -> None:
        """It has the shape of the API, and can be read back."""
        report = Report(("a",), ("b", "c"), (Problem("wrong", "d.e", "f.yaml", 1, 2),))
        text = report.as_json()
        problem = {"message": "wrong", "path": "d.e", "file": "f.yaml", "line": 1, "column": 2}
        self.assertEqual(json.loads(text), {"applied": ["a"], "needs_restart": ["b", "c"], "problems": [problem]})
        self.assertEqual(Report.from_json(text), report)
        self.assertFalse(report.is_good)
        self.assertTrue(Report().is_good)
