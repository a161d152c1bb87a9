"""Tests of the commented configuration file: it tells everything, and what it hides can be taken as it stands."""

from __future__ import annotations

import re
from collections import abc
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import attrs
import yaml
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.cli.docs import generated
from proxyd.config.loader import Yaml12Loader, parse
from proxyd.config.notation import is_single, members_of, options_of
from proxyd.config.sample import make_sample
from proxyd.kinds import Kind, Kinds
from proxyd.model.relay import DEFAULT_RELAY
from proxyd.model.settings import Config, ListenerConfig
from proxyd.option import Port, option
from tests.support import CHECKOUT

SAMPLE = make_sample(KINDS)


def block(name: str, sample: str = SAMPLE) -> str:
    """What stands below an option of the top level, its own line included."""
    match = re.search(rf"^{name}:.*\n(?:[ #].*\n|\n(?![a-z]))*", sample, re.MULTILINE)
    if match is None:
        raise AssertionError(f"there is no {name}")
    return match[0]


def uncommented(text: str) -> str:
    """The lines of a hidden section, as somebody would take them over; what explains them is left out."""
    told = (line for line in text.splitlines() if not re.match(r" {30,}#| *#.*\.\.\. the options of| *# [A-Z`]", line))
    lines = [re.sub(r"^( *)# ", r"\1", line) for line in told]
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def sections(kind: Any) -> Iterator[type]:
    """All classes of options at and below one of the type `kind`."""
    for member in members_of(kind):
        origin, arguments = get_origin(member), get_args(member)
        if origin in (tuple, abc.Mapping):
            yield from sections(arguments[origin is abc.Mapping])
        elif not is_single(member):
            for cls in [other.config for other in KINDS.of_seam(member).values()] or [member]:
                yield cls
                for declared in options_of(cls):
                    yield from sections(declared.kind)


@attrs.frozen(kw_only=True)
class PipeConfig(ListenerConfig):
    """Listens on a pipe."""

    port: Port = option(Port(7), help="Nobody knows why.")
    speed: str | None = option(None, help="How fast.", example="very")


class SampleTests(SynchronousTestCase):
    """The file of the kinds that ship."""

    def test_it_is_fresh(self) -> None:
        """What lies in etc/ is what the declarations make."""
        for name, text in generated().items():
            self.assertEqual(text, (CHECKOUT / name).read_text(encoding="utf-8"), f"{name}: run `proxyd docs`")

    def test_it_tells_every_option(self) -> None:
        """Each option of each section stands there, open or hidden, in the section where its class comes first."""
        for declared in options_of(Config):
            text = block(declared.name)
            for cls in sections(declared.kind):
                for inner in options_of(cls):
                    if "... the options of" not in text:
                        self.assertRegex(text, rf"(?m)^[ #-]*{inner.name}:", f"{declared.name}: {cls.__name__}")
        for cls in sections(Config):
            for inner in options_of(cls):
                self.assertRegex(SAMPLE, rf"(?m)^[ #-]*{inner.name}:", cls.__name__)

    def test_every_kind_and_choice_is_there(self) -> None:
        """By the names that the file uses."""
        for kind in KINDS.kinds:
            self.assertRegex(SAMPLE, rf"\bkind: {kind.name}\b")
        self.assertRegex(SAMPLE, r"\n  access: combined +# combined \| json \| off: ")

    def test_lines_are_not_too_long(self) -> None:
        """And nothing trails behind them."""
        for line in SAMPLE.splitlines():
            self.assertLessEqual(len(line), 120, line)
            self.assertEqual(line.rstrip(), line)

    def test_places_of_what_is_told_once_are_there(self) -> None:
        """Whoever follows a reference finds the options."""
        for place in re.findall(r"\.\.\. the options of ([a-z_]+)", SAMPLE):
            self.assertIn(place, {declared.name for declared in options_of(Config)})

    def test_hidden_options_can_be_taken_over(self) -> None:
        """An option that is hidden for itself is good as it stands."""
        text = block("route_defaults").replace("path/of/it", "")
        text = re.sub(r"\n  websocket: tunnel .*", "", text)  # its other form is hidden
        config = parse(uncommented(text), KINDS)
        self.assertEqual(config.route_defaults.timeouts.connect, 5.0)
        self.assertEqual(config.route_defaults.websocket, DEFAULT_RELAY)
        config = parse(uncommented(block("metrics")).replace('socket: ""', ""), KINDS)
        self.assertEqual((config.metrics.port, config.metrics.address), (9090, "127.0.0.1"))

    def test_hidden_kinds_can_be_taken_over(self) -> None:
        """A listener over TLS is good as it stands, once it is said where."""
        text = uncommented(block("listeners"))
        listeners = yaml.load(text, Yaml12Loader)["listeners"]
        self.assertEqual([listener["kind"] for listener in listeners], ["http", "https", "redirect", "demo"])
        https = listeners[1]
        self.assertEqual((https["certificates"][0]["certificate"], https["port"]), ("path/of/it", 8443))

    def test_a_kind_of_somebody_else(self) -> None:
        """Is told as those that ship are."""
        mine = make_sample(Kinds((*KINDS.kinds, Kind(ListenerConfig, "pipe", PipeConfig, lambda: None))))
        self.assertIn("\n  # - kind: pipe                      # Listens on a pipe.\n", mine)
        self.assertIn("\n  #   port: 7 ", mine)
        self.assertIn("\n  #   speed: very ", mine)
