"""The documents hang together: no link leads nowhere, and no document is lost."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.docs.markdown import DOCUMENTS, GENERATED, anchors_of, links_of, name_of, prose_of
from tests.support import CHECKOUT

_FOREIGN = re.compile(r"[a-z]+:")
# What prose calls by its path in the checkout: `proxyd/core/head.py`, `tests/api/test_routes.py`, `docs/api.md`.
_PATH = re.compile(r"`((?:proxyd|tests|twisted|docs|etc|bench|\.ci)/[\w./-]*\w/?)`")
_TEST = re.compile(r"`(test_\w+)`")
_TEST_IN = re.compile(r"`(test_\w+)`\s+in\s+`(tests/[\w/]+\.py)`")


def linked_from(document: Path) -> set[Path]:
    """The files of the checkout that a document links to."""
    targets = [link.partition("#")[0] for link in links_of(document) if not _FOREIGN.match(link)]
    return {(document.parent / target).resolve() for target in targets if target}


class LinkTests(SynchronousTestCase):
    """Links, paths and names."""

    def test_every_link_leads_somewhere(self) -> None:
        """To a file that is there, and to a heading that is in it."""
        for document in DOCUMENTS:
            for link in links_of(document):
                if _FOREIGN.match(link):
                    continue
                name, _, anchor = link.partition("#")
                target = (document.parent / name).resolve() if name else document
                self.assertTrue(target.exists(), f"{name_of(document)}: {link}")
                if anchor:
                    self.assertIn(anchor, anchors_of(target), f"{name_of(document)}: {link}")

    def test_every_path_is_there(self) -> None:
        """What a document calls by its path exists."""
        for document in DOCUMENTS:
            for path in _PATH.findall(prose_of(document)):
                self.assertTrue((CHECKOUT / path).exists(), f"{name_of(document)}: {path}")

    def test_every_test_that_is_named_is_there(self) -> None:
        """Under that name."""
        tests = "\n".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "tests").rglob("test_*.py"))
        for document in DOCUMENTS:
            for name in _TEST.findall(prose_of(document)):
                self.assertIn(f"def {name}(", tests, name_of(document))
            for name, path in _TEST_IN.findall(prose_of(document)):
                text = (CHECKOUT / path).read_text(encoding="utf-8")
                self.assertIn(f"def {name}(", text, f"{name_of(document)}: {path}")

    def test_every_document_can_be_found(self) -> None:
        """One gets from README.md to every other document."""
        found: set[Path] = set()
        waiting = [CHECKOUT / "README.md"]
        while waiting:
            document = waiting.pop()
            if document not in found and document.suffix == ".md":
                found.add(document)
                waiting += linked_from(document)
        self.assertEqual([name_of(path) for path in DOCUMENTS if path not in found], [])

    def test_every_decision_is_listed(self) -> None:
        """In docs/architecture.md; it has a number of its own, and the same three sections as all of them."""
        decisions = sorted((CHECKOUT / "docs" / "decisions").iterdir())
        self.assertLessEqual(set(decisions), linked_from(CHECKOUT / "docs" / "architecture.md"))
        self.assertEqual(
            [path.name[:5] for path in decisions], [f"{number:04d}-" for number in range(1, len(decisions) + 1)]
        )
        for path in decisions:
            headings = re.findall(r"^## (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            self.assertEqual(headings, ["Context", "Decision", "Consequences"], path.name)

    def test_every_example_is_linked(self) -> None:
        """From a document that is written by hand."""
        linked = {target for document in DOCUMENTS if document != GENERATED for target in linked_from(document)}
        etc = CHECKOUT / "etc"
        examples = {*(etc / "examples").iterdir(), etc / "proxyd.service", etc / "proxyd.socket"}
        self.assertEqual(sorted(examples - linked), [])


class ArchitectureTests(SynchronousTestCase):
    """docs/architecture.md is true."""

    def test_layers_are_those_that_are_checked(self) -> None:
        """What it draws is what the import linter is told."""
        project = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
        layers = re.findall(
            r'^    "(proxyd\.\S+(?: \| proxyd\.\S+)*)",$', project.partition("layers = [")[2], re.MULTILINE
        )
        text = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
        drawn = re.findall(r"^(proxyd\.\S+(?: \| proxyd\.\S+)*)(?:  .*)?$", text, re.MULTILINE)
        self.assertEqual(drawn, layers)

    def test_every_package_is_described(self) -> None:
        """By its path."""
        text = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
        packages = sorted(path.parent.name for path in (CHECKOUT / "proxyd").glob("*/__init__.py"))
        self.assertEqual([name for name in packages if f"`proxyd/{name}/`" not in text], [])
