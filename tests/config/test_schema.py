"""Tests of the JSON Schema: it accepts what the loader accepts, and refuses what an editor can know to be wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from itertools import starmap
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import attrs
import yaml
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.cli.docs import generated
from proxyd.config.loader import Yaml12Loader, parse
from proxyd.config.notation import is_single, members_of, options_of
from proxyd.config.schema import make_schema
from proxyd.config.types import make_converter
from proxyd.errors import ConfigError
from proxyd.kinds import Kind, Kinds
from proxyd.model.settings import Config, ListenerConfig
from proxyd.option import option
from tests.support import CHECKOUT

SCHEMA = make_schema(KINDS)
ENVIRON = {"NUMBER": "5", "TRUE": "true", "TIME": "5s", "LEVEL": "warn", "KIND": "http", "URL": "http://h"}

GOOD = """
host_routing: true
host_routing: ${TRUE}
drain_seconds: 5
drain_seconds: 0.5
drain_seconds: ${NUMBER}
pid_file: ""
pid_file: a/${NUMBER}
timeouts: {idle: 5s, header: 100ms, connect: 0, response: "0", keep_alive: 1.5 h, body_idle: "${TIME}"}
limits: {body: 0, headers: 8 KiB, trailers: "5", chunk_line: 1.5 MiB, header_count: 5, request_line: "${NUMBER}"}
limits: {target: lenient}
log: {level: "${LEVEL}", access: off}
api: off
api: {port: 0, address: "*", open: true, token: abc}
listeners: []
listeners: [{kind: http}, {kind: demo, port: 65535}, {kind: http, port: "${NUMBER}"}]
listeners: [{kind: "${KIND}", port: 1}]
listeners: [{kind: http, socket: s, mode: 0660}, {kind: http, socket: t, mode: 660}]
listeners: [{kind: http, socket: s, mode: 0o660, backlog: 5}]
routes: {/a: http://h, h/: 'HTTPS://h:1/p?q', "*.h/x": "${URL}"}
routes: {/a: {upstream: http+unix://%2Fs, strip_prefix: true, timeouts: {idle: 5s}}}
routes: {}
route_defaults: {x_forwarded: off, request_headers: {set: {X: y}, remove: [z]}, rewrite_location: {scheme: https}}
trusted_proxies: []
trusted_proxies: [unix, 10.0.0.0/8]
health: {live: "", ready: /r}
errors: {target: "", directory: d, statuses: chp}
errors: {target: http://h/e}
limits:
timeouts: ~
listeners:
api: null
routes:
trusted_proxies:
route_defaults: {request_headers: , response_headers: {set: }}
""".strip().splitlines()

BAD = """
nothing_like_it: 5
host_routing: yes
host_routing: 1
drain_seconds: 5s
drain_seconds: -1
pid_file: 5
pid_file: []
timeouts: {idle: 5}
timeouts: {idle: 5 seconds}
timeouts: {idle: -5s}
timeouts: {idel: 5s}
timeouts: 5s
limits: {body: 8 KB}
limits: {body: -1}
limits: {header_count: "5"}
limits: {target: lax}
log: {level: loud}
log: []
api: of
api: on
api: {port: 70000}
api: {port: "80"}
api: {x: y}
listeners: {kind: http}
listeners: [{}]
listeners: [{port: 1}]
listeners: [{kind: htp}]
listeners: [{kind: http, x: 1}]
listeners: [{kind: demo, socket: s}]
listeners: [{kind: http, socket: s, mode: 888888}]
listeners: [{kind: http, socket: s, mode: rw}]
listeners: [~]
routes: []
routes: {a: http://h}
routes: {/a: h}
routes: {/a: 5}
routes: {/a: }
routes: {/a: {strip_prefix: true}}
routes: {/a: {upstream: http://h, x: y}}
routes: {/a: {upstream: http://h, timeouts: {idle: 5}}}
route_defaults: {upstream: http://h}
route_defaults: {x_forwarded: maybe}
route_defaults: {request_headers: {set: {X: 5}}}
route_defaults: {request_headers: {remove: z}}
trusted_proxies: unix
trusted_proxies: [5]
health: {live: healthz}
errors: {target: h}
""".strip().splitlines()


VALUES: list[Any] = [
    *(True, False, 0, 1, 5, 660, 777, 8000, 65535, 65536, 0.5, 30.0, -1, 10**17),
    *("", " ", "0", "5", "-5", "5s", "5 s", "100ms", "1.5h", "0s", "1d", "5 KiB", "1.5MiB", "12", "1 TiB", "8 KB"),
    *("0660", "0o660", "rw", "127.0.0.1", "::1", "10.0.0.0/8", "unix", "*", "localhost", "/", "/a", "/a b", "a/b"),
    *("http://h", "HTTPS://h:1/p?q=r", "http+unix://%2Fs", "unix+http://%2Fs/p", "ftp://h", "h:80", "http://", "//h"),
    *("off", "auto", "append", "tunnel", "json", "text", "chp", "rfc", "debug", "warn", "strict", "verbatim", "x"),
    *([], ["a"], ["unix", "::1"], [5], [[]], [{"kind": "http"}], [{"kind": "demo", "port": 5}], [{"port": 5}]),
    *({}, {"a": "b"}, {"a": 5}, {"/a": "http://h"}, {"/a": {"upstream": "http://h"}}, {"kind": "http"}),
]


def places(cls: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The path of every option below a section that can be given alone."""
    for option_ in options_of(cls):
        yield *path, option_.name
        for kind in members_of(option_.kind):
            if attrs.has(kind) and not is_single(kind):
                yield from places(kind, *path, option_.name)


def documents(*path: str) -> Iterator[dict[str, Any]]:
    """A file with this option alone, for every value."""
    for value in VALUES:
        document = value
        for name in reversed(path):
            document = {name: document}
        yield document
        if path[0] == "route_defaults":
            route = document["route_defaults"]
            yield {"routes": {"/a": {"upstream": "http://h", **route} if isinstance(route, dict) else route}}


def is_valid(text: str, schema: dict[str, Any] = SCHEMA) -> bool:
    return bool(Draft202012Validator(schema).is_valid(yaml.load(text, Yaml12Loader)))


def is_loaded(text: str) -> bool:
    try:
        parse(text, KINDS, ENVIRON)
    except ConfigError:
        return False
    return True


class Box:
    """Marks the sections of a seam."""


@attrs.frozen(kw_only=True)
class Carton(Box, ListenerConfig):
    """A box.

    More about it, which is too much for an editor.
    """

    inner: Literal["paper"] | Box | None = option(None, help="What is in it.")
    size: int | Literal["auto"] = option(5, help="How large it is.")


BOXES = Kinds((Kind(ListenerConfig, "carton", Carton, Carton), Kind(Box, "carton", Carton, Carton)))


class SchemaTests(SynchronousTestCase):
    """The schema of the kinds that ship."""

    def test_it_is_a_schema(self) -> None:
        """It keeps the rules of its dialect, and every reference leads somewhere."""
        Draft202012Validator.check_schema(SCHEMA)

        def references(node: Any) -> set[str]:
            if isinstance(node, dict):
                own = {node["$ref"].removeprefix("#/$defs/")} if "$ref" in node else set()
                return own.union(*map(references, node.values()))
            return set().union(*map(references, node)) if isinstance(node, list) else set()

        self.assertEqual(references(SCHEMA), set(SCHEMA["$defs"]))

    def test_what_the_loader_accepts_is_valid(self) -> None:
        """Short forms, `off`, variables, all units, and sections of which every line is a comment."""
        for text in GOOD:
            self.assertTrue(is_loaded(text), text)
            self.assertTrue(is_valid(text), text)
        self.assertTrue(is_valid("{}"))

    def test_what_an_editor_can_know_to_be_wrong_is_invalid(self) -> None:
        """Unknown and missing options, wrong types, wrong units, wrong words: the loader refuses all of them too."""
        for text in BAD:
            self.assertFalse(is_loaded(text), text)
            self.assertFalse(is_valid(text), text)

    def test_it_refuses_nothing_that_the_loader_accepts(self) -> None:
        """Whatever value an option is given: if it can be loaded, no editor complains."""
        structure = make_converter(KINDS, Path()).structure
        validator = Draft202012Validator(SCHEMA)
        accepted = 0
        for document in itertools.chain.from_iterable(starmap(documents, places(Config))):
            try:
                structure(document, Config)
            except Exception:  # noqa: BLE001  # cattrs wraps whatever went wrong
                continue
            accepted += 1
            self.assertTrue(validator.is_valid(document), document)
        self.assertGreater(accepted, 300)

    def test_every_option_is_described(self) -> None:
        """With the text of its help, and the default as a user would write it."""
        for place in (SCHEMA, *SCHEMA["$defs"].values()):
            for name, described in place.get("properties", {}).items():
                if name != "kind":
                    self.assertTrue(described["description"], name)
        timeouts = SCHEMA["$defs"]["Timeouts"]["properties"]
        limits = SCHEMA["$defs"]["Limits"]["properties"]
        options = SCHEMA["$defs"]["RouteOptions"]["properties"]
        self.assertEqual(timeouts["keep_alive"]["default"], "75s")
        self.assertIn("Until an upstream accepts the connection: else 504.", timeouts["connect"]["description"])
        self.assertEqual(limits["headers"]["default"], "64 KiB")
        self.assertEqual(options["prepend_path"]["default"], True)
        self.assertNotIn("default", SCHEMA["$defs"]["HttpConfig"]["properties"]["mode"])
        self.assertEqual(SCHEMA["properties"]["listeners"]["default"], [{"kind": "http"}])

    def test_every_default_is_valid(self) -> None:
        """What an editor puts in as a default is accepted."""
        for option_ in options_of(Config):
            if option_.default is not None:
                self.assertTrue(Draft202012Validator(SCHEMA).is_valid({option_.name: option_.default}), option_.name)
        for name, definition in SCHEMA["$defs"].items():
            properties = definition.get("properties", {})
            defaults = {key: value["default"] for key, value in properties.items() if "default" in value}
            if "kind" in properties:
                defaults["kind"] = properties["kind"]["const"]
            schema = {"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}
            if properties and set(definition.get("required", ())) <= defaults.keys():
                self.assertTrue(Draft202012Validator(schema).is_valid(defaults), name)

    def test_the_committed_file_is_up_to_date(self) -> None:
        """`make docs` writes etc/proxyd.schema.json anew after a change of an option."""
        name = "etc/proxyd.schema.json"
        self.assertEqual((CHECKOUT / name).read_text(encoding="utf-8"), generated()[name])


class KindTests(SynchronousTestCase):
    """The schema of other kinds."""

    def test_kinds_that_are_added_are_in_it(self) -> None:
        """By the name that they are chosen by, with their own options only."""
        schema = make_schema(BOXES)
        Draft202012Validator.check_schema(schema)
        self.assertTrue(is_valid("listeners: [{kind: carton, size: 7}]", schema))
        self.assertFalse(is_valid("listeners: [{kind: http}]", schema))
        self.assertFalse(is_valid("listeners: [{kind: carton, port: 7}]", schema))
        self.assertEqual(schema["$defs"]["Carton"]["description"], "A box.")

    def test_an_option_may_be_one_thing_or_another(self) -> None:
        """A word or a section, a number or a word; sections may hold themselves."""
        schema = make_schema(BOXES)
        for text in (
            "listeners: [{kind: carton, inner: paper}]",
            "listeners: [{kind: carton, size: auto}]",
            "listeners: [{kind: carton, inner: {kind: carton, inner: {kind: carton, inner: paper}}}]",
        ):
            self.assertTrue(is_valid(text, schema), text)
        for text in (
            "listeners: [{kind: carton, inner: plastic}]",
            "listeners: [{kind: carton, size: large}]",
            "listeners: [{kind: carton, inner: {kind: carton, inner: {kind: carton, inner: plastic}}}]",
        ):
            self.assertFalse(is_valid(text, schema), text)


class DocumentTests(SynchronousTestCase):
    """Whole files."""

    def test_merge_keys_are_followed(self) -> None:
        """Anchors and `<<` are YAML's: an editor resolves them before it looks."""
        text = dedent("""
            routes:
              /a: &a {upstream: http://a, strip_prefix: true}
              /b: {<<: *a, upstream: http://b}
            """)
        self.assertTrue(is_loaded(text))
        self.assertTrue(is_valid(text))
