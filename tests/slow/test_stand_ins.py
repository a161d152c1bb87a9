"""Real packages for jupyter-server-proxy, with stand-ins for the programs that they start."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from tests.integration.test_managed import SECONDS, ManagedCase

# The names of the programs, each with the server that the package of it brings.
PROGRAMS = {
    "rserver": "rstudio",
    "code-server": "vscode",
    "xpra": "xprahtml5",
    "shiny-server": "shiny",
    "julia": "pluto",
    "vncserver": "desktop-websockify",
}


class StandInsTests(ManagedCase):
    """One proxyd with all of them, below the prefix that a Hub gives."""

    base_url = "/user/u1/"

    def setUp(self) -> None:
        """Put the programs where the packages look for them, and start proxyd."""
        super().setUp()
        programs = self.directory / "programs"
        programs.mkdir()
        for name in PROGRAMS:
            path = programs / name
            text = (Path(__file__).parent / "stand_in.py").read_text()
            text = text.replace("__file__", repr(str(Path(__file__).with_name("stand_in.py"))))
            path.write_text(f"#!{sys.executable} -E\n{text}")
            path.chmod(0o755)
        self.environ |= {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(self.directory)}
        names = [*PROGRAMS.values(), "codeserver"]
        self.serve(f"server_packages: {json.dumps(names)}")

    def words_of(self, server: str, program: str) -> list[str]:
        """What the program of a server was started with."""
        line = self.process.wait_for_log(f"[{server}] stand-in {program} ", SECONDS)
        words: list[str] = json.loads(line.partition(f"stand-in {program} ")[2])
        return words

    def test_rstudio(self) -> None:
        """A private socket, a function that asks the program, and one that rewrites redirects to its own address."""
        told = self.ask("/user/u1/rstudio/x?y", fields={"Host": "client.test"}).told
        self.assertEqual("/x?y", told["path"])
        words = self.words_of("rstudio", "rserver")
        self.assertIn("--www-root-path=/user/u1/rstudio/", words)
        self.assertTrue(any(word.startswith("--www-socket=/") for word in words), words)
        target = "http://localhost:8787/auth"
        answer = self.ask(f"/user/u1/rstudio/to/{target}", fields={"Host": "client.test"})
        self.assertEqual((302, "http://client.test/auth"), (answer.status, answer.field("location")))
        icon = self.ask("/user/u1/server-proxy/icon/rstudio")
        self.assertEqual((200, "image/svg+xml"), (icon.status, icon.field("content-type")))

    def test_editors(self) -> None:
        """Two packages for one program: a function, and a list; WebSockets pass."""
        for name in ("vscode", "codeserver"):
            self.assertEqual("/x", self.ask(f"/user/u1/{name}/x").told["path"])
            self.assertIn("--disable-telemetry", self.words_of(name, "code-server"))
            websocket = self.open(f"/user/u1/{name}/ws")
            websocket.send("hello")
            self.assertEqual("hello", websocket.recv(SECONDS))

    def test_xpra(self) -> None:
        """A function that maps paths and adds a query, a directory of its own, and a link with a query."""
        told = self.ask("/user/u1/xprahtml5/?x=1").told
        self.assertRegex(told["path"], r"^/index\.html\?username=.*&sharing=true&x=1$")
        self.assertIn("--html=on", self.words_of("xprahtml5", "xpra"))
        page = self.ask("/user/u1/", fields={"Accept": "text/html"}).body.decode()
        self.assertIn('href="/user/u1/xprahtml5/index.html?username=', page)

    def test_shiny_and_pluto(self) -> None:
        """A function that writes a file of configuration, and a port in the middle of an expression."""
        for name in ("shiny", "pluto"):
            self.assertEqual("/x", self.ask(f"/user/u1/{name}/x").told["path"])
        self.assertRegex(" ".join(self.words_of("pluto", "julia")), r"port=[0-9]+, launch_browser=false")
        self.assertIn("server shiny: launcher_entry.timeout is not known and left out", self.process.log)

    def test_desktop(self) -> None:
        """A shell whose program speaks no HTTP, on a private socket."""
        self.assertEqual(405, self.ask("/user/u1/desktop-websockify/").status)
        self.assertNotIn("stand-in vncserver", self.process.log)
        websocket = self.open("/user/u1/desktop-websockify/", subprotocols=["binary"])
        websocket.send(b"RFB 003.008\n")
        self.assertEqual(b"RFB 003.008\n", websocket.recv(SECONDS))
        self.assertEqual("binary", websocket.subprotocol)
        self.assertIn("-rfbunixpath", self.words_of("desktop-websockify", "vncserver"))
        self.assertIn("desktop-websockify: new_browser_window is not known and left out", self.process.log)

    def test_programs_that_are_not_there(self) -> None:
        """Leave out those packages that look for them at once; others fail when somebody asks."""
        shutil.rmtree(self.directory / "programs")
        answer = self.ask("/user/u1/vscode/")
        self.assertEqual(503, answer.status)
        self.process.wait_for_log("server vscode could not be started: ", SECONDS)
