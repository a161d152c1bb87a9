"""Stands in for the programs that packages start: finds where it has to listen among its arguments, as each writes it.

    PROGRAM ARGUMENT...

It says what it was started with, and becomes the application of the tests there; for VNC, that is a bare stream.
"""

import json
import os
import re
import sys
from pathlib import Path

APPLICATION = Path(__file__).resolve().parent.parent / "integration/application.py"
# What an rserver says that it understands.
HELP = "--www-root-path --server-data-dir --database-config-file --www-thread-pool-size --www-socket"
# The socket first: who has one has no port.
PLACES = (
    r"--www-socket=(\S+)",
    r"--socket (\S+)",
    r"-rfbunixpath (\S+)",
    r"--(?:www-)?port=([1-9][0-9]*)",
    r"--bind-(?:tcp|addr)=[0-9.]+:([0-9]+)",
    r"\bport=([0-9]+)",
    r"\blisten ([0-9]+);",
)


def main() -> None:
    program, *words = sys.argv
    name = Path(program).name
    if "--help" in words:
        print(HELP)
        return
    print("stand-in", name, json.dumps(words), flush=True)
    text = " ".join([*words, *(Path(word).read_text() for word in words if name == "shiny-server")])
    place = next(match[1] for match in (re.search(pattern, text) for pattern in PLACES) if match)
    options = ["--raw"] if name == "vncserver" else []
    os.execv(sys.executable, [sys.executable, "-E", str(APPLICATION), *options, place])


main()
