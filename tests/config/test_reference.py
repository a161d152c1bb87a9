"""Tests of the reference manual: every option is in it, with all that was declared, and links lead somewhere."""

from __future__ import annotations

import re
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.cli.docs import generated
from proxyd.config.loader import parse
from proxyd.config.notation import NOTATIONS
from proxyd.config.reference import make_reference, slug
from proxyd.kinds import Kind, Kinds
from proxyd.model.settings import ListenerConfig
from proxyd.option import Port, option
from tests.support import CHECKOUT

MANUAL = make_reference(KINDS)


def section(heading: str, manual: str = MANUAL) -> str:
    """What stands below a heading, up to the next one."""
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", manual, re.MULTILINE | re.DOTALL)
    if match is None:
        raise AssertionError(f"there is no heading {heading!r}")
    return match[1]


@attrs.frozen(kw_only=True)
class PipeConfig(ListenerConfig):
    """Listens on a pipe.

    Nobody knows why.
    """

    port: Port = option(Port(7), help="In a|b form.")


class ReferenceTests(SynchronousTestCase):
    """The manual of the kinds that ship."""

    def test_an_option_has_a_line(self) -> None:
        """With its type, its default as a user would write it, and its help."""
        for heading, line in (
            ("timeouts", "| `keep_alive` | duration | `75s` | A client's connection between two requests. "),
            ("limits", "| `headers` | size | `64 KiB` | All fields of a head together: else 431, in a response 502. "),
            ("limits", "| `body` | size | `0` | The body of a request, 0 for any: else 413. "),
            ("pool", "| `idle_seconds` | number | `60` | How long an idle connection is kept. |"),
            ("errors", '| `target` | upstream | `""` | URL that is asked for URL/STATUS?url=REQUEST-TARGET. |'),
            ("log", "| `access` | `combined`, `json` or `off` | `combined` |"),
            ("Top level", '| `trusted_proxies` | list of network | `[127.0.0.0/8, "::1", unix]` |'),
            ("Top level", "| `api` | [section](#api) or `off` |  |"),
            ("Top level", "| `listeners` | list of [section](#listeners) | `[{kind: http}]` |"),
            ("Top level", "| `routes` | [section](#routes) for each route | `{}` |"),
            ("listeners: kind http", "| `mode` | permissions |  |"),
            ("route_defaults", "| `strip_prefix` | true or false | `false` |"),
            ("route_defaults", "| `timeouts` | [section](#route_defaultstimeouts) |  |"),
            ("route_defaults.request_headers", "| `set` | text for each name | `{}` |"),
            ("routes", "| `upstream` | upstream | required |"),
        ):
            self.assertIn(f"\n{line}", section(heading))

    def test_limits_have_their_reasons(self) -> None:
        """Whoever changes one should know why it is what it is: every limit says more than what it limits."""
        for line in re.findall(r"\n\| `.*", section("limits") + section("timeouts")):
            name, meaning = line.split("|")[1].strip(), line.split("|")[4]
            if name not in {"`rewrite_body`", "`client_idle`"}:
                self.assertGreaterEqual(len(re.findall(r"[.:,;] ", meaning)), 2, line)

    def test_what_is_inherited_is_referred_to(self) -> None:
        """A route has its own options in its table, and a link to those of all routes; nothing stands there twice."""
        routes = section("routes")
        self.assertIn("All options of [route_defaults](#route_defaults), and:", routes)
        self.assertNotIn("strip_prefix", routes)
        response_headers = section("route_defaults.response_headers")
        self.assertIn("All options of [route_defaults.request_headers]", response_headers)
        self.assertNotIn("| `set`", response_headers)

    def test_the_short_form_is_told(self) -> None:
        """A route may be the URL of its upstream alone."""
        self.assertIn("Short form: what `upstream` would be", section("routes"))

    def test_kinds_have_sections_of_their_own(self) -> None:
        """By their names, with what they say about themselves."""
        for kind in KINDS.kinds:
            if kind.seam is ListenerConfig:
                text = section(f"listeners: kind {kind.name}")
                for field in attrs.fields(kind.config):
                    self.assertIn(f"\n| `{field.name}` |", text)
        manual = make_reference(Kinds((Kind(ListenerConfig, "pipe", PipeConfig, PipeConfig),)))
        self.assertIn("Listens on a pipe.", section("listeners: kind pipe", manual))
        self.assertNotIn("Nobody knows why", manual)

    def test_bars_do_not_break_tables(self) -> None:
        """Every line of a table has as many cells as its head, whatever the help says."""
        manual = make_reference(Kinds((Kind(ListenerConfig, "pipe", PipeConfig, PipeConfig),)))
        self.assertIn("| In a\\|b form. |", manual)
        for text in (MANUAL, manual):
            for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
                cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
                self.assertEqual(len(cells), 1, table)

    def test_every_type_is_explained(self) -> None:
        """The words in the tables are those of the table of types."""
        types = section("How values are written")
        for notation in NOTATIONS.values():
            if notation.meaning:
                self.assertIn(f"| {notation.words} | {notation.meaning} |", types)

    def test_links_lead_somewhere(self) -> None:
        """To a heading of the manual, or to a file."""
        headings = [slug(heading) for heading in re.findall(r"^#+ (.*)$", MANUAL, re.MULTILINE)]
        self.assertEqual(len(headings), len(set(headings)))
        for link in re.findall(r"\]\(([^)]*)\)", MANUAL):
            if link.startswith("#"):
                self.assertIn(link[1:], headings)
            else:
                self.assertTrue((CHECKOUT / "docs" / link).exists(), link)

    def test_its_examples_can_be_loaded(self) -> None:
        """What stands there as YAML is accepted."""
        blocks: list[Any] = re.findall(r"```yaml\n(.*?)```", MANUAL, re.DOTALL)
        self.assertTrue(blocks)
        for block in blocks:
            parse(block, KINDS)

    def test_the_committed_file_is_up_to_date(self) -> None:
        """`make docs` writes docs/config.md anew after a change of an option."""
        name = "docs/config.md"
        self.assertEqual((CHECKOUT / name).read_text(encoding="utf-8"), generated()[name])


class SlugTests(SynchronousTestCase):
    """Names of headings."""

    def test_it_is_what_github_makes(self) -> None:
        """Small letters, no punctuation, hyphens for blanks."""
        self.assertEqual(slug("How values are written"), "how-values-are-written")
        self.assertEqual(slug("route_defaults.request_headers"), "route_defaultsrequest_headers")
        self.assertEqual(slug("listeners: kind http"), "listeners-kind-http")
