"""Managed servers as the configuration has them."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import OptionError, ServerStartError, UnknownServerError
from proxyd.model.servers import (
    LauncherEntry,
    Place,
    ProcessLimits,
    Readiness,
    RestartSettings,
    ServerSpec,
)
from proxyd.model.settings import Config
from proxyd.model.upstream import Upstream
from proxyd.option import HELP, FilePath, Function, Port, PortRange, Seconds, UrlPath

FUNCTION = Function("m:f", len)


class SpecTests(SynchronousTestCase):
    """`ServerSpec`."""

    def test_defaults_are_those_of_the_contract(self) -> None:
        """Where it names them; a server that is imported has less time."""
        spec = ServerSpec(command=("a",))
        self.assertEqual(
            (spec.port, spec.unix_socket, spec.absolute_url, spec.raw_socket_proxy), (0, False, False, False)
        )
        self.assertEqual((spec.new_browser_tab, spec.update_last_activity, spec.progressive), (True, True, None))
        self.assertEqual((spec.start, spec.stop_signal, spec.stop_grace, spec.instances), ("lazy", "SIGTERM", 5, 1))
        self.assertEqual((spec.ready_seconds, spec.ready.path, spec.ready.statuses), (60, "/", "any"))
        self.assertEqual(spec.restart, RestartSettings(backoff=Seconds(0.1), backoff_max=Seconds(30), give_up_after=8))
        self.assertEqual((spec.idle_timeout, spec.max_lifetime), (0, 0))
        self.assertEqual((spec.launcher_entry.enabled, spec.launcher_entry.category), (True, "Notebook"))

    def test_what_kind_of_server_it_is(self) -> None:
        """Started by proxyd, running somewhere, or nowhere at all."""
        for spec, is_managed, is_reachable in (
            (ServerSpec(command=("a",), port=Port(5)), True, True),
            (ServerSpec(command=FUNCTION), True, True),
            (ServerSpec(port=Port(5)), False, True),
            (ServerSpec(unix_socket=FilePath("/s")), False, True),
            (ServerSpec(), False, False),
        ):
            self.assertEqual((spec.is_managed, spec.is_reachable), (is_managed, is_reachable))

    def test_the_time_to_be_ready_has_two_names(self) -> None:
        """One of them at a time."""
        self.assertEqual(ServerSpec(timeout=Seconds(7)).ready_seconds, 7)
        self.assertEqual(ServerSpec(ready=Readiness(timeout=Seconds(8))).ready_seconds, 8)

    def test_one_function_is_a_list_of_one(self) -> None:
        """For whoever applies them."""
        self.assertEqual(ServerSpec(rewrite_response=FUNCTION).rewriters, (FUNCTION,))
        self.assertEqual(ServerSpec(rewrite_response=(FUNCTION, FUNCTION)).rewriters, (FUNCTION, FUNCTION))
        self.assertEqual(ServerSpec().rewriters, ())

    def test_a_range_includes_its_ends(self) -> None:
        """And there is none by default."""
        self.assertEqual(list(ServerSpec(port_range=PortRange("20-22")).ports), [20, 21, 22])
        self.assertEqual(list(ServerSpec().ports), [])

    def test_what_does_not_go_together_is_refused(self) -> None:
        """Each problem names the option."""
        command = ("a",)
        cases: list[tuple[tuple[str | int, ...], dict[str, Any]]] = [
            (("timeout",), {"timeout": Seconds(5), "ready": Readiness(timeout=Seconds(5))}),
            (("timeout",), {"timeout": Seconds(0)}),
            (("command", 0), {"command": ("", "a")}),
            (("unix_socket",), {"unix_socket": FilePath("/" + "x" * 107)}),
            (("unix_socket",), {"unix_socket": True}),
            (("instances",), {"instances": 0}),
            (("instances",), {"instances": 2, "port": Port(5), "command": command}),
            (("instances",), {"instances": 2, "unix_socket": FilePath("/s"), "command": command}),
            (("port_range",), {"port_range": PortRange("5-9"), "port": Port(5)}),
            (("port_range",), {"port_range": PortRange("5-9"), "unix_socket": True, "command": command}),
            (("port_range",), {"port_range": PortRange("5-6"), "instances": 3, "command": command}),
        ]
        for path, given in cases:
            with self.assertRaises(OptionError, msg=str(given)) as caught:
                ServerSpec(**given)
            self.assertEqual(caught.exception.path, path)

    def test_readiness_can_be_reached(self) -> None:
        """There is a path, a status that would do, and some time."""
        for path, given in (
            (("path",), {"path": "x"}),
            (("path",), {"path": "/a b"}),
            (("path",), {"path": "/a\r\nX: y"}),
            (("path",), {"path": "/ä"}),
            (("statuses",), {"statuses": ()}),
            (("statuses", 1), {"statuses": (200, 100)}),
            (("timeout",), {"timeout": Seconds(0)}),
        ):
            with self.assertRaises(OptionError, msg=str(given)) as caught:
                Readiness(**given)  # type: ignore[arg-type]
            self.assertEqual(caught.exception.path, path)

    def test_every_option_explains_itself(self) -> None:
        """Each has a help text, for the manual and the schema."""
        for cls in (ServerSpec, LauncherEntry, Readiness, RestartSettings, ProcessLimits):
            for field in attrs.fields(cls):
                self.assertRegex(field.metadata[HELP], r"\A\S.*\.\Z", field.name)


class PlaceTests(SynchronousTestCase):
    """`Place`."""

    def test_a_place_is_an_upstream(self) -> None:
        """The one that its URL means."""
        for place, words in ((Place(8080), "port 8080"), (Place(0, "/run/a b/s"), "/run/a b/s")):
            self.assertEqual(Upstream.parse(place.upstream.url), place.upstream)
            self.assertEqual(str(place), words)


class BaseUrlTests(SynchronousTestCase):
    """`base_url`."""

    def test_it_begins_and_ends_with_a_slash(self) -> None:
        """And is a plain path."""
        for text in ("/", "/user/a/", "/user/a%40b/"):
            self.assertEqual(Config(base_url=UrlPath(text)).base_url, text)
        for text in ("", "a/", "/a", "//", "/a//b/", "/a/../", "/./", "/a?b/", "/a#/", "/{port}/"):
            with self.assertRaises(OptionError, msg=text) as caught:
                Config(base_url=UrlPath(text))
            self.assertEqual(caught.exception.path, ("base_url",))


class ErrorTests(SynchronousTestCase):
    """What is told about servers."""

    def test_an_error_names_the_server(self) -> None:
        """The lines are for those who may see them."""
        error = ServerStartError("app", "was stopped", ["secret"], 3.0)
        self.assertEqual((str(error), error.lines, error.retry_seconds), ("server app was stopped", ("secret",), 3.0))
        self.assertEqual(error.summary, "did not start")
        error = ServerStartError("app", "failed: x", ["line"], 2.0, "failed")
        self.assertEqual(ServerStartError(*error.facts).facts, error.facts)
        self.assertEqual(str(UnknownServerError("x")), "there is no server x")
