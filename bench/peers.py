"""The proxies that are compared, and what each of them costs: CPU time and memory of its processes.

A proxy runs on one core, load and upstream on another, where there are two.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

CHECKOUT = Path(__file__).resolve().parent.parent
CHP_VARIABLE = "PROXYD_BENCH_CHP"

_NGINX = """
daemon off;
worker_processes 1;
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  scgi_temp_path {directory}/scgi;
  uwsgi_temp_path {directory}/uwsgi;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  {extra}
}}
"""
_NGINX_PROXY = """
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024 {tls};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Forwarded-Proto $scheme;
      {extra}
    }}
  }}
"""
_NGINX_LARGE_BUFFERS = """
      proxy_buffer_size 64k;
      proxy_buffers 8 64k;
      proxy_busy_buffers_size 128k;
      proxy_max_temp_file_size 0;
      proxy_request_buffering off;
      client_body_buffer_size 64k;
"""
_NGINX_ANSWER = """
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    access_log off;
    location / {{ default_type text/html; return 200 "{body}"; }}
  }}
"""
_PROXYD = """
listeners: [{{kind: {kind}, address: 127.0.0.1, port: {port}{certificates}}}]
api: {{address: 127.0.0.1, port: {api_port}}}
routes: {{/: {{upstream: "http://127.0.0.1:{upstream}", websocket: {websocket}}}}}
log: {{access: combined, access_file: {directory}/access.log}}
state_directory: {directory}
"""


@attrs.frozen
class Server:
    """A running program that listens on `port`; `pid` is the root of its processes."""

    name: str
    version: str
    port: int
    pid: int

    def processes(self) -> list[int]:
        """The process ids of the program: its first process and all descendants."""
        children: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parent = int(path.read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(path.parent.name))
        found = [self.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def cpu_seconds(self) -> float:
        """CPU time of all its threads since they began."""
        nanoseconds = 0
        for pid in self.processes():
            for task in Path(f"/proc/{pid}/task").iterdir():
                nanoseconds += int((task / "schedstat").read_text().split()[0])
        return nanoseconds / 1e9

    def resident_bytes(self, *, peak: bool = False) -> int:
        """Resident memory of all its processes: now, or the most since `forget_peak`."""
        key = "VmHWM:" if peak else "VmRSS:"
        total = 0
        for pid in self.processes():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
        return total

    def forget_peak(self) -> None:
        """Begin to look for the peak of the resident memory anew."""
        for pid in self.processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")


class Bench:
    """Owns what a run starts, and a directory for its files; a context manager.

    With `tls`, clients speak it with the proxies; upstreams are always in plain text.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self._tls = tls
        cores = sorted(os.sched_getaffinity(0))
        self.proxy_core, self.load_core = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        """Make the directory, and have SIGTERM end what was started, too."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self._directory = Path(self._stack.enter_context(TemporaryDirectory(prefix="proxyd-bench-")))
        if self._tls:
            self._make_certificate()
        return self

    def _make_certificate(self) -> None:
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        files = ("-keyout", str(self._directory / "key.pem"), "-out", str(self._directory / "certificate.pem"))
        subprocess.run(("openssl", *words.split(), *files), check=True, capture_output=True)

    @property
    def scheme(self) -> str:
        """What clients speak."""
        return "https" if self._tls else "http"

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._stack.close()

    def on_load_core(self, *words: str) -> list[str]:
        """The command line that runs `words` where the load is made."""
        return pinned(self.load_core, *words)

    # Upstreams.

    def start_small_upstream(self) -> Server:
        """An nginx that answers everything with 200 bytes."""
        return self._start_nginx("upstream", self.load_core, _NGINX_ANSWER, body="0123456789" * 20)

    def start_bulk_upstream(self) -> Server:
        """An upstream that sends and takes as many bytes as it is asked to."""
        port = free_port()
        command = (sys.executable, str(CHECKOUT / "bench" / "bulk_upstream.py"), str(port))
        return self._start("upstream", "", port, self.load_core, *command)

    # Proxies.

    def start_proxyd(self, upstream: Server, *, name: str = "proxyd", websocket: str = "tunnel") -> Server:
        """The proxyd of this environment, under a `name` of its own if there are several."""
        directory = self._make_directory(name)
        port = free_port()
        config = directory / "proxyd.yaml"
        pair = f"certificate: {self._directory}/certificate.pem, key: {self._directory}/key.pem"
        config.write_text(
            _PROXYD.format(
                kind=self.scheme,
                port=port,
                certificates=f", certificates: [{{{pair}}}]" if self._tls else "",
                api_port=free_port(),
                upstream=upstream.port,
                websocket=websocket,
                directory=directory,
            )
        )
        command = (sys.executable, "-m", "proxyd")
        version = output_of(*command, "--version")
        return self._start(name, version, port, self.proxy_core, *command, "serve", "--config", str(config))

    def start_autobahn(self, role: str, upstream: Server | None = None) -> Server:
        """Autobahn as it comes: as the upstream, `echo`, or in place of a proxy, `relay` to `upstream`."""
        port = free_port()
        words = [sys.executable, str(CHECKOUT / "bench" / "relay_peer.py"), role, str(port)]
        words += [str(upstream.port)] if upstream else []
        core = self.proxy_core if upstream else self.load_core
        return self._start("Autobahn" if upstream else "upstream", metadata.version("autobahn"), port, core, *words)

    def start_chp(self, upstream: Server) -> Server | None:
        """The configurable-http-proxy of npm; None when there is none."""
        program, node = find_chp(), shutil.which("node")
        if program is None or node is None:
            return None
        port = free_port()
        command = [node, program, "--ip", "127.0.0.1", "--port", str(port), "--api-port", str(free_port())]
        command += ["--default-target", f"http://127.0.0.1:{upstream.port}"]
        if self._tls:
            command += ["--ssl-key", f"{self._directory}/key.pem", "--ssl-cert", f"{self._directory}/certificate.pem"]
        version = f"{output_of(node, program, '--version')} (node {output_of(node, '--version')})"
        return self._start("CHP", version, port, self.proxy_core, *command)

    def start_nginx(self, upstream: Server, *, large_buffers: bool = False) -> Server | None:
        """An nginx that keeps its connections, and a log, as proxyd does; None when there is none."""
        if find_nginx() is None:
            return None
        name = "nginx 64k" if large_buffers else "nginx"
        extra = _NGINX_LARGE_BUFFERS if large_buffers else ""
        tls = f"ssl; ssl_certificate {self._directory}/certificate.pem; ssl_certificate_key {self._directory}/key.pem"
        return self._start_nginx(
            name, self.proxy_core, _NGINX_PROXY, upstream=upstream.port, extra=extra, tls=tls if self._tls else ""
        )

    def _start_nginx(self, name: str, core: int | None, section: str, **values: object) -> Server:
        program = find_nginx()
        if program is None:
            raise SystemExit("nginx is the upstream, and is not installed")
        directory = self._make_directory(name)
        port = free_port()
        user = "user root;" if os.geteuid() == 0 else ""  # its worker has to write into the directory
        config = directory / "nginx.conf"
        config.write_text(_NGINX.format(directory=directory, user=user, extra=section.format(port=port, **values)))
        version = output_of(program, "-v").partition("/")[2]
        return self._start(name, version, port, core, program, "-e", "stderr", "-c", str(config))

    def _make_directory(self, name: str) -> Path:
        directory = self._directory / name.replace(" ", "-")
        directory.mkdir()
        return directory

    def _start(self, name: str, version: str, port: int, core: int | None, *words: str) -> Server:
        log = self._stack.enter_context((self._directory / f"{name}.log").open("wb"))
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("PROXYD_", "CONFIGPROXY_"))}
        process = subprocess.Popen(pinned(core, *words), stdout=log, stderr=log, env=environ)
        self._stack.callback(end, process)
        deadline = time.monotonic() + 10
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} does not start:\n{Path(log.name).read_text(errors='replace')}")
            time.sleep(0.05)
        return Server(name, version, port, process.pid)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and see to it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pinned(core: int | None, *words: str) -> list[str]:
    """The command line that runs `words` on one core; on any, when `core` is None."""
    return [*(("taskset", "--cpu-list", str(core)) if core is not None else ()), *words]


def find_nginx() -> str | None:
    """The path of nginx, which is not on everybody's PATH."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def find_chp() -> str | None:
    """The path of configurable-http-proxy: from the environment, beside the checkout's own node modules, or on PATH."""
    given = os.environ.get(CHP_VARIABLE)
    if given:
        return given
    local = CHECKOUT / "node_modules" / ".bin" / "configurable-http-proxy"
    found = str(local) if local.exists() else shutil.which("configurable-http-proxy")
    # A link of that name to proxyd is no peer.
    return found if found and b"node" in Path(found).read_bytes().partition(b"\n")[0] else None


def output_of(*words: str) -> str:
    """What a short command prints."""
    ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return ended.stdout.strip()


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """True when somebody listens on the port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def report(title: str, servers: list[Server], missing: list[str], bench: Bench) -> Iterator[None]:
    """Print what stands above and below a table: when and where it was made, and who was not there."""
    cpu = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpu if "model name" in line), platform.machine())
    print(f"\n{title}, {datetime.now().astimezone():%Y-%m-%d %H:%M}")
    print(f"{model}, {os.cpu_count()} cores; Linux {platform.release()}; Python {platform.python_version()}")
    print("; ".join(f"{server.name} {server.version}" for server in servers))
    if bench.proxy_core is None:
        print("only one core: the proxies share it with load and upstream")
    print()
    yield
    for name in missing:
        print(f"missing: {name} is not installed, and was not measured")


def print_table(rows: list[list[str]]) -> None:
    """Print rows of cells, the first row being the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        print("  ".join(cells))
