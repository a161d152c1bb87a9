"""What holds when nobody says anything: these values are promised, and others depend on them."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.builtins import KINDS
from proxyd.config.loader import parse
from proxyd.model.routes import DEFAULT_OPTIONS, RouteOptions, over

EVERYTHING = """
base_url: /
state_directory: ""
pid_file: ""
workers: 1
drain_seconds: 30
drain_delay_seconds: 0
python_path: []
start_page: true
default_url: ""
root_server: ""
listeners:
  - {kind: http, address: 127.0.0.1, port: 8000, socket: "", proxy_protocol: false, backlog: 1024}
api:
  address: 127.0.0.1
  port: 8001
  socket: ""
  token: ""
  tokens: []
  open: false
  route_options: typed
host_routing: false
route_defaults: {}
routes: {}
patterns: []
servers: {}
server_packages: []
jupyter_config: []
ports: {enabled: false, allow: 1-65535, hosts: [localhost, 127.0.0.1], rewrite_response: []}
auth: {kind: anonymous}
allow_anonymous: false
trusted_proxies: [127.0.0.0/8, "::1", unix]
store: {kind: memory}
errors: {directory: "", target: "", statuses: rfc}
health: {live: /healthz, ready: /readyz}
timeouts: {header: 10s, body_idle: 60s, keep_alive: 75s, connect: 5s, response: 300s, idle: 0s, client_idle: 0s}
limits:
  request_line: 8 KiB
  header_line: 16 KiB
  headers: 64 KiB
  header_count: 200
  body: 0
  chunk_line: 4 KiB
  trailers: 8 KiB
  interim_responses: 16
  api_body: 16 MiB
  api_bulk_body: 256 MiB
  route_path: 4 KiB
  rewrite_body: 100 MiB
  connections: 0
  connections_per_client: 0
  requests_per_client: 0/s
  target: strict
pool: {idle_per_upstream: 64, idle_seconds: 60, connections_per_upstream: 0}
log: {format: text, level: info, access: combined, access_file: "", stall_after: 5s}
metrics: {enabled: true, socket: "", names: native}
"""

ROUTE = """
routes:
  /a:
    upstream: http://127.0.0.1:9000
    strip_prefix: false
    prepend_path: true
    change_origin: false
    x_forwarded: auto
    rewrite_location: {host: false, scheme: ""}
    request_headers: {set: {}, remove: []}
    response_headers: {set: {}, remove: []}
    websocket: tunnel
    timeouts: {}
    rate: 0/s
    upstream_tls: {}
"""

SERVER = """
servers:
  a:
    command: [x]
    start: lazy
    ready: {path: /, statuses: any}
    restart: {backoff: 0.1s, backoff_max: 30s, give_up_after: 8}
    idle_timeout: 0s
    max_lifetime: 0s
    stop_signal: SIGTERM
    stop_grace: 5s
    instances: 1
    port_range: ""
    allow_origin: []
    limits: {open_files: 0, memory: 0, processes: 0}
    user: ""
"""

LISTENERS = """
listeners:
  - kind: https
    address: 127.0.0.1
    port: 8443
    certificates: [{certificate: c.pem, key: "", passphrase: ""}]
    certificate_directories: []
    client_ca: ""
    client_certificates: none
    minimum_version: TLSv1.2
    ciphers: ""
    dhparam: ""
  - {kind: redirect, address: 127.0.0.1, port: 8080, to_port: 443}
"""


class DefaultTests(SynchronousTestCase):
    """A file that says all of it, beside one that does not."""

    def test_options_of_the_whole(self) -> None:
        """The same as an empty file."""
        self.assertEqual(parse(EVERYTHING, KINDS), parse("", KINDS))

    def test_options_of_routes(self) -> None:
        """The same as the short form, over the defaults."""
        specs = [parse(text, KINDS).routes["/a"] for text in (ROUTE, "routes: {/a: 'http://127.0.0.1:9000'}")]
        names = attrs.fields_dict(RouteOptions)
        said, short = (
            over(RouteOptions(**{name: getattr(spec, name) for name in names}), DEFAULT_OPTIONS) for spec in specs
        )
        self.assertEqual((specs[0].upstream, said), (specs[1].upstream, short))

    def test_options_of_servers(self) -> None:
        """The same as one that says its command only."""
        servers = parse(SERVER, KINDS).servers
        self.assertEqual(servers, parse("servers: {a: {command: [x]}}", KINDS).servers)
        self.assertEqual(servers["a"].ready_seconds, 60)

    def test_options_of_listeners(self) -> None:
        """The same as those that say what they need only."""
        short = "listeners: [{kind: https, certificates: [{certificate: c.pem}]}, {kind: redirect}]"
        self.assertEqual(parse(LISTENERS, KINDS).listeners, parse(short, KINDS).listeners)
