"""The configuration as a whole: its defaults are promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.head import HeadLimits
from proxyd.errors import OptionError
from proxyd.model.routes import INHERITED, RouteOptions
from proxyd.model.servers import ServerSpec
from proxyd.model.settings import ApiSettings, Config, Limits, MetricsSettings, RouteSpec, Timeouts
from proxyd.option import HELP, SECTION, FilePath, Port, ServerName


def sections(cls: Any) -> Iterator[Any]:
    """The classes of all sections in `cls`, and itself."""
    yield cls
    for field in attrs.fields(cls):
        if isinstance(field.default, attrs.Factory) and attrs.has(field.default.factory):
            yield from sections(field.default.factory)


class ConfigTests(SynchronousTestCase):
    """What holds when the file says nothing."""

    def test_empty_file_is_a_configuration(self) -> None:
        """Every option has a default, and nothing is published by it."""
        config = Config()
        self.assertEqual((config.listeners, config.routes, config.host_routing), ((), {}, False))
        self.assertEqual((config.api.address, config.api.port, config.api.open), ("127.0.0.1", 8001, False))
        self.assertEqual(config.trusted_proxies, ("127.0.0.0/8", "::1", "unix"))
        self.assertEqual(config.route_defaults, INHERITED)

    def test_limits_are_those_of_the_bar(self) -> None:
        """Every limit has a number, and the number is the one that is documented."""
        self.assertEqual(
            attrs.asdict(Limits()),
            {
                "request_line": 8 * 1024,
                "header_line": 16 * 1024,
                "headers": 64 * 1024,
                "header_count": 200,
                "body": 0,
                "chunk_line": 4 * 1024,
                "trailers": 8 * 1024,
                "rewrite_body": 100 * 1024 * 1024,
                "interim_responses": 16,
                "api_body": 16 * 1024 * 1024,
                "api_bulk_body": 256 * 1024 * 1024,
                "route_path": 4 * 1024,
                "connections": 0,
                "connections_per_client": 0,
                "requests_per_client": (0, 1),
                "target": "strict",
            },
        )
        limits, core = Limits(), HeadLimits()
        for name in ("request_line", "header_line", "headers", "header_count"):
            self.assertEqual(getattr(limits, name), getattr(core, name), name)

    def test_waits_are_those_of_the_bar(self) -> None:
        """Every wait has an end, but silence in the middle of a response and of a client that may think."""
        self.assertEqual(
            attrs.asdict(Timeouts()),
            {
                "header": 10,
                "body_idle": 60,
                "keep_alive": 75,
                "connect": 5,
                "response": 300,
                "idle": 0,
                "client_idle": 0,
            },
        )

    def test_every_option_explains_itself(self) -> None:
        """Each option of each section has a help text that is a sentence, for the manual and the schema."""
        found = list(sections(Config))
        self.assertIn(Limits, found)
        for cls in [*found, RouteSpec, ApiSettings, RouteOptions]:
            self.assertTrue(cls.__doc__, cls.__name__)
            for field in attrs.fields(cls):
                text = field.metadata.get(HELP, "")
                self.assertRegex(text, r"\A\S.*\S\Z", f"{cls.__name__}.{field.name}")

    def test_sections_are_marked(self) -> None:
        """What has options of its own is marked as a section, so that a file may leave it out."""
        for field in attrs.fields(Config):
            is_section = isinstance(field.default, attrs.Factory) and attrs.has(field.default.factory)
            self.assertEqual(bool(field.metadata.get(SECTION)), is_section, field.name)

    def test_mutable_defaults_are_not_shared(self) -> None:
        """Two configurations never share a mapping that one of them could change."""
        self.assertIsNot(Config().routes, Config().routes)

    def test_static_route_needs_an_upstream(self) -> None:
        """A static route is its upstream, and any option of a route."""
        self.assertRaises(TypeError, RouteSpec)
        spec = RouteSpec(upstream="http://h", strip_prefix=True)
        self.assertIsInstance(spec, RouteOptions)
        self.assertEqual((spec.upstream, spec.strip_prefix, spec.websocket), ("http://h", True, None))

    def test_configuration_does_not_change(self) -> None:
        """A reload brings a new configuration instead."""
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, Config(), "host_routing", True)
        self.assertTrue(issubclass(OptionError, ValueError))


class RootServerTests(SynchronousTestCase):
    """`root_server`."""

    def test_it_is_one_of_the_servers(self) -> None:
        """Of those of the file, or of those that are imported."""
        name = ServerName("app")
        for given in ({"servers": {name: ServerSpec(command=("x",))}}, {"server_packages": "*"}):
            self.assertEqual("app", Config(root_server="app", **given).root_server)  # type: ignore[arg-type]
        error = self.assertRaises(OptionError, Config, root_server="app")
        self.assertEqual(("root_server",), error.path)


class MetricsTests(SynchronousTestCase):
    """`MetricsSettings`."""

    def test_a_listener_has_a_port_or_a_socket(self) -> None:
        """Without either, the numbers are shown on the port of the API."""
        for settings, has_listener in (
            (MetricsSettings(), False),
            (MetricsSettings(port=Port(0)), True),
            (MetricsSettings(port=Port(9090), address=""), True),
            (MetricsSettings(socket=FilePath("/s"), names="chp"), True),
            (MetricsSettings(enabled=False, names="chp"), False),
        ):
            self.assertEqual(has_listener, settings.has_listener, settings)

    def test_what_does_not_go_together_is_refused(self) -> None:
        """Each problem names the option."""
        for option, given in (
            ("socket", {"socket": "/s", "port": 9090}),
            ("socket", {"socket": "/s", "address": "::1"}),
            ("address", {"address": "::1"}),
            ("names", {"names": "chp"}),
        ):
            with self.assertRaises(OptionError) as caught:
                MetricsSettings(**given)  # type: ignore[arg-type]
            self.assertEqual((option,), caught.exception.path)
