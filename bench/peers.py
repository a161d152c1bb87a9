"""The programs that are compared, and what each of them costs: CPU time and memory of its processes.

A proxy runs on one core, load and upstream on another, where there are two.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

BENCH = Path(__file__).resolve().parent
CHECKOUT = BENCH.parent
CACHE = BENCH / ".cache"
CHP_VARIABLE = "PROXYD_BENCH_CHP"
_JUPYTER = CACHE / "jupyter-server-proxy"
_JUPYTER_PACKAGES = ("jupyter_server", "jupyter-server-proxy")
_START_SECONDS = 60


_NGINX = """
daemon off;
worker_processes 1;
{more}
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections {connections}; }}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  scgi_temp_path {directory}/scgi;
  uwsgi_temp_path {directory}/uwsgi;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  {section}
}}
"""
_NGINX_PROXY = """
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096 {tls};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_read_timeout 600s;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
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
    listen 127.0.0.1:{port} backlog=4096;
    access_log off;
    sendfile on;
    location / {{ default_type text/html; return 200 "{body}"; }}
    location /files/ {{ alias {files}/; }}
  }}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn 7000
  log stdout format raw local0
  tune.maxrewrite 1024
defaults
  mode http
  log global
  option httplog
  option forwardfor
  option splice-auto
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout tunnel 1h
  timeout http-keep-alive 600s
frontend clients
  bind 127.0.0.1:{port} backlog 4096 {tls}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto {scheme}
  default_backend app
backend app
  server app 127.0.0.1:{upstream}
"""
_PROXYD = """
listeners: [{{kind: {kind}, address: 127.0.0.1, port: {port}{certificates}}}]
api: {{address: 127.0.0.1, port: {api_port}, open: true}}
{routes}
timeouts: {{keep_alive: 600s}}
log: {{access: combined, access_file: {directory}/access.log}}
state_directory: {directory}
workers: {workers}
"""


@attrs.frozen
class Server:
    """A running program that listens on `port`; `pid` is the root of its processes.

    `prefix` stands in front of the paths that reach the upstream. `start_seconds` is from exec until it listened.
    """

    name: str
    version: str
    port: int
    pid: int
    is_tls: bool = False
    prefix: str = ""
    api_port: int = 0
    start_seconds: float = 0.0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.is_tls else 'http'}://127.0.0.1:{self.port}"

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
    """Owns what a measurement starts, and a directory for its files; a context manager.

    This process, which makes some of the load, runs on the load's core meanwhile.

    `base` is a checkout of another commit of proxyd to compare with. Peers that are not installed are collected in
    `missing`; those that are not among `peers`, if it has any, are left out.
    """

    def __init__(self, *, base: Path | None = None, peers: frozenset[str] = frozenset()) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.proxy_core, self.load_core = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
        self.base = base
        self._peers = peers
        self.missing: set[str] = set()
        self._stack = ExitStack()
        self._stack.callback(os.sched_setaffinity, 0, set(cores))
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._is_certified = False
        self._compiled: set[Path] = set()

    def __enter__(self) -> Bench:
        """Make the directory, and have SIGTERM end what was started, too."""
        if self.load_core is not None:
            os.sched_setaffinity(0, {self.load_core})
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self._directory = Path(self._stack.enter_context(TemporaryDirectory(prefix="proxyd-bench-")))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._stack.close()

    def on_load_core(self, *words: str) -> list[str]:
        """The command line that runs `words` where the load is made."""
        return pinned(self.load_core, *words)

    def _certificate(self) -> tuple[Path, Path]:
        """The files of a certificate and its key, made for this run; a third one, `pair.pem`, has both."""
        certificate, key = self._directory / "certificate.pem", self._directory / "key.pem"
        if not self._is_certified:
            self._is_certified = True
            words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
            files = ("-keyout", str(key), "-out", str(certificate))
            subprocess.run(("openssl", *words.split(), *files), check=True, capture_output=True)
            (self._directory / "pair.pem").write_text(certificate.read_text() + key.read_text())
        return certificate, key

    # Upstreams.

    def start_small_upstream(self) -> Server:
        """An nginx that answers everything with 200 bytes, and `/files/N` with N bytes."""
        files = self._make_directory("files")
        for size in (10_000, 1_000_000):
            (files / str(size)).write_bytes(b"\0" * size)
        return self._start_nginx("upstream", self.load_core, _NGINX_ANSWER, body="0123456789" * 20, files=files)

    def start_bulk_upstream(self) -> Server:
        """An upstream that sends and takes as many bytes as it is asked to."""
        port = free_port()
        command = (sys.executable, str(BENCH / "bulk_upstream.py"), str(port))
        return self._start("upstream", "", port, self.load_core, *command)

    def start_echo(self) -> Server:
        """An upstream that sends WebSocket messages back."""
        return self.start_autobahn("echo")

    def _wants(self, peer: str) -> bool:
        return not self._peers or peer in self._peers

    # Proxies.

    def start_proxyd(
        self,
        upstream: Server,
        *,
        name: str = "proxyd",
        checkout: Path = CHECKOUT,
        websocket: str = "tunnel",
        tls: bool = False,
        has_route: bool = True,
        workers: int = 1,
    ) -> Server:
        """The proxyd of a checkout, under a `name` of its own if there are several."""
        directory = self._make_directory(name)
        port, api_port = free_port(), free_port()
        config = directory / "proxyd.yaml"
        certificates = ""
        if tls:
            certificate, key = self._certificate()
            certificates = f", certificates: [{{certificate: {certificate}, key: {key}}}]"
        route = f'{{upstream: "http://127.0.0.1:{upstream.port}", websocket: {websocket}}}'
        config.write_text(
            _PROXYD.format(
                kind="https" if tls else "http",
                port=port,
                certificates=certificates,
                api_port=api_port,
                routes=f"routes: {{/: {route}}}" if has_route else "",
                directory=directory,
                workers=workers,
            )
        )
        self._compile(checkout)
        command = (sys.executable, "-m", "proxyd")
        environ = {"PYTHONPATH": str(checkout)}
        version = output_of(*command, "--version", environ=environ)
        words = (*command, "serve", "--config", str(config))
        return self._start(name, version, port, self.proxy_core, *words, environ=environ, is_tls=tls, api_port=api_port)

    def _compile(self, checkout: Path) -> None:
        """Have the modules of a checkout as pip leaves them: else its start is mostly the compiler's."""
        if checkout not in self._compiled:
            self._compiled.add(checkout)
            subprocess.run((sys.executable, "-m", "compileall", "-q", str(checkout / "proxyd")), check=True)

    def start_base(self, upstream: Server, *, websocket: str = "tunnel", tls: bool = False) -> Server | None:
        """The proxyd to compare with, if one is wanted."""
        if self.base is None:
            return None
        return self.start_proxyd(upstream, name="base", checkout=self.base, websocket=websocket, tls=tls)

    def start_autobahn(self, role: str, upstream: Server | None = None) -> Server:
        """Autobahn as it comes: as the upstream, `echo`, or in place of a proxy, `relay` to `upstream`."""
        port = free_port()
        words = [sys.executable, str(BENCH / "autobahn_peer.py"), role, str(port)]
        words += [str(upstream.port)] if upstream else []
        core = self.proxy_core if upstream else self.load_core
        return self._start("Autobahn" if upstream else "upstream", metadata.version("autobahn"), port, core, *words)

    def start_chp(self, upstream: Server, *, tls: bool = False) -> Server | None:
        """The configurable-http-proxy of npm; None when there is none."""
        program, node = find_chp(), shutil.which("node")
        if not self._wants("CHP"):
            return None
        if program is None or node is None:
            self.missing.add("configurable-http-proxy")
            return None
        port, api_port = free_port(), free_port()
        command = [node, program, "--ip", "127.0.0.1", "--port", str(port)]
        command += ["--api-ip", "127.0.0.1", "--api-port", str(api_port), "--log-level", "error"]
        command += ["--keep-alive-timeout", "600000"]
        command += ["--default-target", f"http://127.0.0.1:{upstream.port}"]
        if tls:
            certificate, key = self._certificate()
            command += ["--ssl-key", str(key), "--ssl-cert", str(certificate)]
        version = f"{output_of(node, program, '--version')} (node {output_of(node, '--version')})"
        return self._start("CHP", version, port, self.proxy_core, *command, is_tls=tls, api_port=api_port)

    def start_nginx(self, upstream: Server, *, large_buffers: bool = False, tls: bool = False) -> Server | None:
        """An nginx that keeps its connections, and a log, as proxyd does; None when there is none."""
        if not self._wants("nginx"):
            return None
        if find_system("nginx") is None:
            self.missing.add("nginx")
            return None
        spoken = ""
        if tls:
            certificate, key = self._certificate()
            spoken = f"ssl; ssl_certificate {certificate}; ssl_certificate_key {key}"
        return self._start_nginx(
            "nginx 64k" if large_buffers else "nginx",
            self.proxy_core,
            _NGINX_PROXY,
            upstream=upstream.port,
            extra=_NGINX_LARGE_BUFFERS if large_buffers else "",
            is_tls=tls,
            tls=spoken,
        )

    def _start_nginx(
        self, name: str, core: int | None, section: str, *, is_tls: bool = False, **values: object
    ) -> Server:
        program = find_system("nginx")
        if program is None:
            raise SystemExit("nginx is the upstream, and is not installed")
        directory = self._make_directory(name)
        port = free_port()
        config = directory / "nginx.conf"
        section = section.format(port=port, **values)
        config.write_text(nginx_config(directory, section, connections=16384, more="worker_rlimit_nofile 20000;"))
        version = output_of(program, "-v").partition("/")[2]
        return self._start(name, version, port, core, program, "-e", "stderr", "-c", str(config), is_tls=is_tls)

    def start_haproxy(self, upstream: Server, *, tls: bool = False) -> Server | None:
        """A haproxy with one thread; None when there is none."""
        program = find_system("haproxy")
        if not self._wants("haproxy"):
            return None
        if program is None:
            self.missing.add("haproxy")
            return None
        port = free_port()
        spoken = ""
        if tls:
            self._certificate()
            spoken = f"ssl crt {self._directory / 'pair.pem'}"
        config = self._make_directory("haproxy") / "haproxy.cfg"
        scheme = "https" if tls else "http"
        config.write_text(_HAPROXY.format(port=port, tls=spoken, scheme=scheme, upstream=upstream.port))
        version = output_of(program, "-v").split()[2].partition("-")[0]
        return self._start("haproxy", version, port, self.proxy_core, program, "-db", "-f", str(config), is_tls=tls)

    def start_jupyter(self, upstream: Server) -> Server | None:
        """A jupyter-server with jupyter-server-proxy, from the environment that `install_jupyter` makes."""
        program = _JUPYTER / "bin" / "jupyter-server"
        if not self._wants("jupyter-server-proxy"):
            return None
        if not program.exists():
            self.missing.add("jupyter-server-proxy")
            return None
        port = free_port()
        python = str(_JUPYTER / "bin" / "python")
        version = output_of(
            python, "-c", "from importlib.metadata import version as v; print(v('jupyter-server-proxy'))"
        )
        words = (str(program), "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}")
        words += ("--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--ServerApp.log_level=ERROR")
        home = str(self._make_directory("jupyter"))
        environ = {"HOME": home, "JUPYTER_CONFIG_DIR": home, "JUPYTER_DATA_DIR": home, "JUPYTER_RUNTIME_DIR": home}
        prefix = f"/proxy/{upstream.port}"
        return self._start(
            "jupyter-server-proxy", version, port, self.proxy_core, *words, environ=environ, prefix=prefix
        )

    def end(self, server: Server) -> None:
        """End one of the programs before the others."""
        end(self._processes[server.pid])

    def _make_directory(self, name: str) -> Path:
        base = self._directory / name.replace(" ", "-")
        number = 0
        directory = base
        while directory.exists():
            number += 1
            directory = base.with_name(f"{base.name}-{number}")
        directory.mkdir()
        return directory

    def _start(
        self,
        name: str,
        version: str,
        port: int,
        core: int | None,
        *words: str,
        environ: Mapping[str, str] | None = None,
        is_tls: bool = False,
        prefix: str = "",
        api_port: int = 0,
    ) -> Server:
        log = self._stack.enter_context((self._make_directory(f"log of {name}") / "log").open("wb"))
        began = time.monotonic()
        process = subprocess.Popen(
            pinned(core, *words), stdout=log, stderr=log, env=clean_environ(environ), cwd=self._directory
        )
        self._stack.callback(end, process)
        self._processes[process.pid] = process
        # The API listens a moment later than what it is the API of.
        while not accepts(port) or (api_port and not accepts(api_port)):
            if process.poll() is not None or time.monotonic() - began > _START_SECONDS:
                raise SystemExit(f"{name} does not start:\n{Path(log.name).read_text(errors='replace')}")
            time.sleep(0.002)
        took = time.monotonic() - began
        return Server(name, version, port, process.pid, is_tls, prefix, api_port, took)


def install_jupyter() -> None:
    """Make the environment of jupyter-server-proxy, unless it is there."""
    if (_JUPYTER / "bin" / "jupyter-server").exists():
        return
    subprocess.run((sys.executable, "-m", "venv", str(_JUPYTER)), check=True)
    subprocess.run((str(_JUPYTER / "bin" / "pip"), "install", "--quiet", *_JUPYTER_PACKAGES), check=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and see to it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def clean_environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what would configure a proxy, and with `more`."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PROXYD_", "CONFIGPROXY_"))}
    return environ | dict(more or {})


def pinned(core: int | None, *words: str) -> list[str]:
    """The command line that runs `words` on one core; on any, when `core` is None."""
    return [*(("taskset", "--cpu-list", str(core)) if core is not None else ()), *words]


def nginx_config(directory: Path, section: str, *, connections: int, more: str = "") -> str:
    """The configuration of an nginx with one worker, whose files are in `directory`, and what is in its `http`."""
    user = "user root;" if os.geteuid() == 0 else ""  # its worker has to write into the directory
    return _NGINX.format(directory=directory, user=user, connections=connections, section=section, more=more)


def find_system(name: str) -> str | None:
    """The path of a program that is not on everybody's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def find_chp() -> str | None:
    """The path of configurable-http-proxy: from the environment, beside the checkout's own node modules, or on PATH."""
    given = os.environ.get(CHP_VARIABLE)
    if given:
        return given
    local = CHECKOUT / "node_modules" / ".bin" / "configurable-http-proxy"
    found = str(local) if local.exists() else shutil.which("configurable-http-proxy")
    # A link of that name to proxyd is no peer.
    return found if found and b"node" in Path(found).read_bytes().partition(b"\n")[0] else None


def output_of(*words: str, environ: Mapping[str, str] | None = None) -> str:
    """What a short command prints."""
    ended = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, env=clean_environ(environ)
    )
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
