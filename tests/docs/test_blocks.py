"""The blocks of the documents that are files, or parts of files: they can be used as they are."""

from __future__ import annotations

import ast
import json

import yaml
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.cli import wrap
from proxyd.cli.chp import read
from proxyd.compat.chp import ChpSetup
from proxyd.config.loader import Yaml12Loader, parse
from tests.docs.markdown import DOCUMENTS, Block, blocks_of
from tests.support import CHECKOUT

_LANGUAGES = {"console", "yaml", "python", "html", "json", "text", "ini", "nginx", "mermaid"}

_OF_A_HUB = {
    "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api",
    "JUPYTERHUB_API_TOKEN": "token",
    "JUPYTERHUB_CLIENT_ID": "service-app",
    "JUPYTERHUB_SERVICE_NAME": "app",
    "JUPYTERHUB_SERVICE_PREFIX": "/services/app/",
}


def blocks_in(language: str) -> list[Block]:
    """All blocks of a language, of all documents."""
    return [block for document in DOCUMENTS for block in blocks_of(document) if block.language == language]


class Section:
    """What a Python configuration calls `c`: remembers what is set, section by section."""

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {}

    def __getattr__(self, name: str) -> Section:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.sections.setdefault(name, Section())


class BlockTests(SynchronousTestCase):
    """Block by block."""

    def test_every_block_tells_its_language(self) -> None:
        """One that the tests know."""
        for document in DOCUMENTS:
            for block in blocks_of(document):
                self.assertIn(block.language, _LANGUAGES, block.place)

    def test_every_yaml_block_is_a_configuration(self) -> None:
        """For the loader, with nothing in the environment but what a Hub sets, and for the schema that editors see."""
        schema = json.loads((CHECKOUT / "etc" / "proxyd.schema.json").read_text(encoding="utf-8"))
        for block in blocks_in("yaml"):
            parse(block.text, KINDS, _OF_A_HUB, name=block.place)
            document = yaml.load(block.text, Yaml12Loader)
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(document)]
            self.assertEqual(errors, [], block.place)

    def test_every_json_block_is_json(self) -> None:
        """A document of its own."""
        for block in blocks_in("json"):
            json.loads(block.text)

    def test_every_python_block_is_python(self) -> None:
        """It can be compiled."""
        for block in blocks_in("python"):
            ast.parse(block.text, block.place)

    def test_every_configuration_of_a_hub_can_be_executed(self) -> None:
        """It sets options of the Hub, and a command for its proxy is one that proxyd understands."""
        commands = []
        wrapped = []
        blocks = [block for block in blocks_in("python") if block.file == "jupyterhub_config.py"]
        for block in blocks:
            c = Section()
            exec(compile(block.text, block.place, "exec"), {"c": c})
            self.assertLessEqual(
                set(c.sections) | set(vars(c)), {"sections", "JupyterHub", "ConfigurableHTTPProxy", "Spawner"}
            )
            command = vars(c.ConfigurableHTTPProxy).get("command")
            if command is not None:
                commands.append(command)
            command = vars(c.Spawner).get("cmd")
            if command is not None:
                wrapped.append(command)
        self.assertGreaterEqual(len(commands), 2)
        self.assertGreaterEqual(len(wrapped), 2)
        for name, word, *options in wrapped:
            self.assertEqual("proxyd", name)
            self.assertIn(word, {"serve", "wrap"})
            if word == "wrap":
                self.assertTrue(wrap.read(options, {"JUPYTERHUB_API_TOKEN": "x"}, "/").words)
        for name, word, *options in commands:
            self.assertEqual((name.rpartition("/")[2], word), ("proxyd", "chp"))
            self.assertIsInstance(read(options, {}), ChpSetup)
