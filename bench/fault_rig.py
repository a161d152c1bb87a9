"""The proxies of `faults.py`, each with a route to what is measured, to nobody and into a black hole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from peers import (
    CHECKOUT,
    Server,
    accepts,
    clean_environ,
    end,
    find_chp,
    find_system,
    free_port,
    nginx_config,
    output_of,
)

# How long a connection attempt may take.
CONNECT_SECONDS = 1.0

_PROXYD = """
listeners: [{{kind: http, address: 127.0.0.1, port: {port}}}]
api: {{address: 127.0.0.1, port: {api_port}, open: true}}
routes: {{/: "http://127.0.0.1:{upstream}", /refused: "http://127.0.0.1:{refused}", /hole: "http://127.0.0.1:{hole}"}}
timeouts: {{connect: 1s}}
log: {{access_file: access.log}}
state_directory: .
"""
# As it streams, because otherwise it keeps whole bodies on disk, and one process, as the others.
_NGINX = """
  proxy_http_version 1.1;
  proxy_request_buffering off;
  proxy_max_temp_file_size 0;
  proxy_connect_timeout 1s;
  proxy_read_timeout 300s;
  proxy_set_header Host $http_host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://app; }}
    location /refused {{ proxy_pass http://127.0.0.1:{refused}; }}
    location /hole {{ proxy_pass http://127.0.0.1:{hole}; }}
  }}
"""


@attrs.frozen
class Places:
    """Where the routes of a proxy lead."""

    upstream: int
    refused: int
    hole: int


@attrs.define
class Running:
    """A proxy that runs. `server` tells what it needs, `stop_signal` what asks it to end in good order."""

    server: Server
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    @property
    def stop_signal(self) -> str:
        """The name of the signal."""
        return "SIGQUIT" if self.server.name == "nginx" else "SIGTERM"

    def descriptors(self) -> int:
        """How many of them its busiest process has."""
        return max(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.server.processes())


NAMES = ("proxyd", "CHP", "nginx")


def version_of(name: str) -> str:
    """The version of a proxy, empty when it is not installed."""
    if name == "proxyd":
        return output_of(sys.executable, "-m", "proxyd", "--version").split()[-1]
    if name == "CHP":
        program, node = find_chp(), shutil.which("node")
        if program is None or node is None:
            return ""
        return f"{output_of(node, program, '--version')} (node {output_of(node, '--version')})"
    nginx = find_system("nginx")
    return output_of(nginx, "-v").partition("/")[2] if nginx else ""


@contextmanager
def running(name: str, places: Places, *, descriptors: int = 0, waits_briefly: bool = False) -> Iterator[Running]:
    """A fresh process of a proxy, with at most so many `descriptors`.

    CHP has no limit for connecting; if it `waits_briefly`, it has the same one for a silent upstream.
    """
    with TemporaryDirectory(prefix="proxyd-faults-") as directory:
        port, api_port = free_port(), free_port()
        words = _command(name, Path(directory), places, port, api_port)
        if waits_briefly and name == "CHP":
            words += ["--proxy-timeout", str(int(CONNECT_SECONDS * 1000))]
        if descriptors:
            words = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *words]
        environ = clean_environ({"PYTHONPATH": str(CHECKOUT)})
        with (Path(directory) / "output").open("wb") as output:
            process = subprocess.Popen(words, stdout=output, stderr=output, cwd=directory, env=environ)
        try:
            deadline = time.monotonic() + 60
            while not accepts(port) or not (name == "nginx" or accepts(api_port)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{name} does not start:\n{(Path(directory) / 'output').read_text()}")
                time.sleep(0.05)
            if name == "CHP":
                for key, place in (("/refused", places.refused), ("/hole", places.hole)):
                    post_route(api_port, key, f"http://127.0.0.1:{place}")
            yield Running(Server(name, "", port, process.pid, api_port=api_port), process)
        finally:
            end(process)


def _command(name: str, directory: Path, places: Places, port: int, api_port: int) -> list[str]:
    values = {"port": port, "api_port": api_port, "directory": directory, **attrs.asdict(places)}
    if name == "proxyd":
        (directory / "proxyd.yaml").write_text(_PROXYD.format(**values))
        return [sys.executable, "-m", "proxyd", "serve", "--config", "proxyd.yaml"]
    if name == "nginx":
        config = nginx_config(directory, _NGINX.format(**values), connections=8192)
        (directory / "nginx.conf").write_text(config)
        return [str(find_system("nginx")), "-e", "stderr", "-c", f"{directory}/nginx.conf"]
    words = [str(shutil.which("node")), str(find_chp()), "--ip", "127.0.0.1", "--port", str(port)]
    words += ["--api-ip", "127.0.0.1", "--api-port", str(api_port), "--log-level", "error"]
    return [*words, "--keep-alive-timeout", "75000", "--default-target", f"http://127.0.0.1:{places.upstream}"]


def post_route(api_port: int, key: str, target: str) -> None:
    """Add a route."""
    client = HTTPConnection("127.0.0.1", api_port, timeout=30)
    client.request("POST", f"/api/routes{key}", json.dumps({"target": target}))
    if client.getresponse().status != 201:
        raise SystemExit(f"a route {key} is refused")
    client.close()
