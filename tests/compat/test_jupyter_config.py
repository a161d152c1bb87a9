"""Tests of Jupyter's configuration files as proxyd reads them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.compat.jupyter_config import find_jupyter_config, read_jupyter_config
from proxyd.errors import ConfigError


class FileTests(SynchronousTestCase):
    """One file after the other."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def test_what_people_write(self) -> None:
        """The whole dictionary, one item, an update; lists, functions, other files; what is for others is ignored."""
        self.write("more.py", "c.ServerProxy.servers['more'] = {'port': 3}")
        file = self.write(
            "jupyter_server_config.py",
            """
import os
c = get_config()  # noqa
c.ServerApp.port = 8888
c.ServerApp.jpserver_extensions.update({"x": True})
c.NotebookApp.tokens.append("x")
c.Other.things["a"] = 1
c["Section"].y = 1
c.ServerProxy.servers = {"one": {"command": ["a", "{port}"]}}
c.ServerProxy.servers["two"] = {"port": 2}
c.ServerProxy.host_allowlist = lambda handler, host: host == "db"
c.ServerProxy.websocket_max = os.path.basename(__file__)
load_subconfig("more.py")
""",
        )
        settings = read_jupyter_config([file])
        self.assertEqual(
            {"one": {"command": ["a", "{port}"]}, "two": {"port": 2}, "more": {"port": 3}}, settings.values["servers"]
        )
        self.assertTrue(settings.values["host_allowlist"](None, "db"))
        self.assertEqual(
            {"ServerApp.port", "ServerApp.jpserver_extensions", "NotebookApp.tokens", "Other.things", "Section.y"}
            | {"ServerProxy.websocket_max"},
            set(settings.ignored),
        )

    def test_servers_can_be_added_one_by_one(self) -> None:
        """Before anybody has set the dictionary."""
        file = self.write("a.py", "c.ServerProxy.servers.update(one={'port': 1})")
        self.assertEqual({"servers": {"one": {"port": 1}}}, dict(read_jupyter_config([file]).values))

    def test_hosts_can_be_added_one_by_one(self) -> None:
        """To those that there are if nobody says anything."""
        for line, hosts in (
            ("c.ServerProxy.host_allowlist.append('db')", ["localhost", "127.0.0.1", "db"]),
            ("c.ServerProxy.host_whitelist.extend(['db', 'x'])", ["localhost", "127.0.0.1", "db", "x"]),
            ("c.ServerProxy.host_allowlist.prepend(['db'])", ["db", "localhost", "127.0.0.1"]),
            ("c.ServerProxy.host_allowlist = ['db']; c.ServerProxy.host_allowlist.append('x')", ["db", "x"]),
        ):
            values = read_jupyter_config([self.write("a.py", line)]).values
            self.assertEqual([hosts], list(values.values()), line)

    def test_later_files_win(self) -> None:
        """Of servers it is each for itself, of everything else the whole value; JSON counts as Python does."""
        servers = {"one": {"port": 1}, "two": {"port": 2}}
        first = self.write("a.json", json.dumps({"ServerProxy": {"servers": servers, "host_whitelist": ["a"]}, "x": 1}))
        second = self.write(
            "b.py", "c.ServerProxy.servers = {'two': {'port': 3}}\nc.ServerProxy.host_whitelist = ['b']"
        )
        values = read_jupyter_config([first, second]).values
        self.assertEqual({"one": {"port": 1}, "two": {"port": 3}}, values["servers"])
        self.assertEqual(["b"], values["host_whitelist"])

    def test_all_problems_are_told(self) -> None:
        """With the file, and the line in it that was to blame."""
        files = [
            self.write("syntax.py", "x = 1\nc.ServerProxy.servers = {\n"),
            self.write("raises.py", "def f():\n    return {}['a']\n\nf()\n"),
            self.write("exits.py", "raise SystemExit('no')\n"),
            self.write("inner.py", "load_subconfig('absent.py')"),
            self.write("bad.json", "{"),
            self.write("list.json", "[]"),
            self.directory / "absent.py",
            self.directory / "absent.json",
        ]
        error = self.assertRaises(ConfigError, read_jupyter_config, files)
        lines = str(error).replace(f"{self.directory}/", "").splitlines()
        self.assertEqual(8, len(lines))
        self.assertIn("syntax.py:2:", lines[0])
        self.assertIn("is not Python", lines[0])
        self.assertEqual("raises.py:2:1: KeyError: 'a'", lines[1])
        self.assertEqual("exits.py:1:1: SystemExit: no", lines[2])
        self.assertEqual("absent.py: cannot be read: No such file or directory", lines[3])
        self.assertIn("bad.json: cannot be read: ", lines[4])
        self.assertEqual("list.json: expected a JSON object", lines[5])
        self.assertEqual("absent.py: cannot be read: No such file or directory", lines[6])

    def test_private_names_are_no_settings(self) -> None:
        """What looks for special methods finds none."""
        file = self.write("a.py", "import copy\ncopy.copy(c.ServerProxy)\nassert not hasattr(c, '__fspath__')")
        self.assertEqual({}, dict(read_jupyter_config([file]).values))


class FindTests(SynchronousTestCase):
    """`jupyter_config: auto`."""

    def test_directories_are_searched(self) -> None:
        """The user wins over the system, what the environment names over both, and JSON over Python."""
        root = Path(self.mktemp()).resolve()
        names = (
            "home/.jupyter/jupyter_server_config.py",
            "home/.jupyter/jupyter_server_config.d/b.json",
            "home/.jupyter/jupyter_server_config.d/a.json",
            "home/.jupyter/jupyter_config.json",
            "home/.jupyter/jupyter_config.py",
            "env/etc/jupyter/jupyter_notebook_config.py",
            "more/jupyter_server_config.json",
        )
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("{}")
        self.patch(sys, "prefix", str(root / "env"))
        environ = {"HOME": str(root / "home"), "JUPYTER_CONFIG_PATH": f"{root}/more:"}
        found = [str(file.relative_to(root)) for file in find_jupyter_config(environ) if file.is_relative_to(root)]
        self.assertEqual(
            [
                "env/etc/jupyter/jupyter_notebook_config.py",
                "home/.jupyter/jupyter_config.py",
                "home/.jupyter/jupyter_config.json",
                "home/.jupyter/jupyter_server_config.d/a.json",
                "home/.jupyter/jupyter_server_config.d/b.json",
                "home/.jupyter/jupyter_server_config.py",
                "more/jupyter_server_config.json",
            ],
            found,
        )
        environ = {"JUPYTER_CONFIG_DIR": str(root / "more")}
        found = [str(file.relative_to(root)) for file in find_jupyter_config(environ) if file.is_relative_to(root)]
        self.assertEqual(list(names[5:]), found)
