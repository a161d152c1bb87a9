"""The package as its users install it: what lands where, and which commands and plugins they get."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

from twisted.trial import unittest

from proxyd import __version__
from tests.support import CHECKOUT, script

_NOT_COPIED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "_trial_temp*", "build", "dist", "node_modules", "*.so"
)


class Environment:
    """A fresh virtual environment in `directory` that has what the package depends on, but not the package.

    Nothing is downloaded: what the environment of the tests has is linked, and Twisted, beside whose plugins a wheel
    puts ours, is copied.
    """

    def __init__(self, directory: Path) -> None:
        venv.create(directory, symlinks=True)
        self.bin = directory / "bin"
        self.python = self.bin / "python"
        self.site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(directory)}))
        for item in Path(sysconfig.get_path("purelib")).iterdir():
            copy = self.site_packages / item.name
            if item.name == "twisted":
                shutil.copytree(item, copy, ignore=shutil.ignore_patterns("test", "dropin.cache", "proxyd_plugin*"))
            elif "proxyd" not in item.name:
                copy.symlink_to(item)
        twistd = Path(script("twistd")).read_text().splitlines(keepends=True)
        (self.bin / "twistd").write_text("".join([f"#!{self.python}\n", *twistd[1:]]))
        (self.bin / "twistd").chmod(0o755)

    def install(self, *words: str | Path) -> None:
        """Install what `words` tell pip to, without the network."""
        run(self.python, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", *words)


def run(*words: str | Path, cwd: Path | None = None, **more: str) -> str:
    """Run a command to its end, and return what it printed; an `AssertionError` has it when the status is not 0.

    `more` is put into its environment.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "COLUMNS": "100"} | more,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    if ended.returncode:
        raise AssertionError(f"{words} ended with status {ended.returncode}:\n{ended.stdout}")
    return ended.stdout


class PackagingTests(unittest.SynchronousTestCase):
    """Each test has a fresh environment, a copy of the checkout, and an empty directory to stand in."""

    def setUp(self) -> None:
        """Make them."""
        root = Path(tempfile.mkdtemp(prefix="proxyd-packaging-"))
        self.addCleanup(shutil.rmtree, root)
        self.checkout = root / "checkout"
        shutil.copytree(CHECKOUT, self.checkout, ignore=_NOT_COPIED)
        self.elsewhere = root / "elsewhere"
        self.elsewhere.mkdir()
        self.environment = Environment(root / "environment")

    def build_wheel(self, **environ: str) -> Path:
        """Build a wheel from the copy of the checkout."""
        words = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(self.elsewhere)]
        run(sys.executable, "-m", "pip", "wheel", *words, self.checkout, **environ)
        (wheel,) = self.elsewhere.glob("*.whl")
        return wheel

    def check_everything(self) -> None:
        """Ask every command for help, from an empty directory and from the checkout."""
        for cwd in (self.elsewhere, self.checkout):
            self.check_plugin(cwd)
            self.check_commands(cwd)

    def check_plugin(self, cwd: Path) -> None:
        """Ask twistd."""
        twistd = self.environment.bin / "twistd"
        commands = [line.split()[0] for line in run(twistd, "--help", cwd=cwd).splitlines() if line.strip()]
        self.assertIn("proxyd", commands)
        self.assertIn("--config=", run(twistd, "proxyd", "--help", cwd=cwd))

    def check_commands(self, cwd: Path) -> None:
        """Ask the commands, and a link with the name of the program that they replace."""
        proxyd = self.environment.bin / "proxyd"
        self.assertEqual(run(proxyd, "--version", cwd=cwd), f"{__version__}\n")
        self.assertEqual(run(self.environment.python, "-m", "proxyd", "--version", cwd=cwd), f"{__version__}\n")
        link = self.elsewhere / "configurable-http-proxy"
        link.unlink(missing_ok=True)
        link.symlink_to(proxyd)
        helps = [
            run(*words, "--help", cwd=cwd)
            for words in ((proxyd, "chp"), (self.environment.bin / "proxyd-chp",), (link,))
        ]
        self.assertIn("--default-target", helps[0])
        self.assertEqual(helps, helps[:1] * 3)

    def test_a_wheel_brings_all_commands_and_the_plugin(self) -> None:
        """After the installation of a wheel `twistd proxyd` and all commands work, wherever one stands."""
        self.environment.install(self.build_wheel())
        self.assertTrue((self.environment.site_packages / "twisted" / "plugins" / "proxyd_plugin.py").exists())
        self.check_everything()
        self.check_store()

    def check_store(self) -> None:
        """The SQLite store has its schema."""
        (self.elsewhere / "proxyd.yaml").write_text("store: {kind: sqlite, path: routes.sqlite}")
        code = "from proxyd.stores.database import *; Database(Path('routes.sqlite')).close()"
        run(self.environment.python, "-c", code, cwd=self.elsewhere)
        proxyd = self.environment.bin / "proxyd"
        self.assertEqual(run(proxyd, "routes", "backup", "copy", cwd=self.elsewhere), "copy: 0 routes\n")

    def test_an_editable_install_brings_all_commands_and_the_plugin(self) -> None:
        """After an editable install `twistd proxyd` and all commands work, wherever one stands."""
        self.environment.install("--editable", self.checkout)
        self.assertFalse((self.environment.site_packages / "proxyd").exists())
        self.check_everything()

    def test_it_installs_without_a_compiler(self) -> None:
        """Where there is no compiler, everything is Python, and works."""
        self.environment.install(self.build_wheel(CC="/bin/false"))
        code = "from proxyd.core import scan; print(scan.read_request)"
        self.assertEqual(run(self.environment.python, "-c", code, cwd=self.elsewhere), "None\n")
        self.check_commands(self.elsewhere)

    def test_a_wheel_holds_the_package_and_the_plugin_only(self) -> None:
        """A wheel leaves Twisted's own files alone, says that it is typed, and carries the licence but no tests."""
        with zipfile.ZipFile(self.build_wheel()) as wheel:
            names = set(wheel.namelist())
        self.assertEqual({name for name in names if name.startswith("twisted")}, {"twisted/plugins/proxyd_plugin.py"})
        info = f"proxyd-{__version__}.dist-info"
        self.assertEqual({name.split("/")[0] for name in names}, {"proxyd", "twisted", info})
        self.assertTrue({"proxyd/py.typed", "proxyd/__main__.py", f"{info}/licenses/LICENSE"} <= names)
