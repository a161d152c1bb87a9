"""TLS as clients, upstreams and operators meet it: real processes, real certificates."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
from pathlib import Path
from threading import Event, Thread

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority, Issued
from tests.integration.test_chp_command import CHP, PATIENCE_SECONDS
from tests.support import Process, free_ports, script, wait_for
from tests.wire import ScriptedUpstream, Wire, answering, connect, get

SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Application:
    """An upstream's script that answers requests, and echoes behind a handshake."""

    def __call__(self, wire: Wire) -> None:
        while head := wire.head():
            if b"\r\nUpgrade: websocket" not in head:
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            wire.send(SWITCHING)
            while data := wire.sock.recv(65536):
                wire.send(data)


class TlsCase(SynchronousTestCase):
    """Has an authority and a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-tls-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.authority = Authority(self.directory / "certificates")
        self.issued = self.authority.issue("localhost", "127.0.0.1")

    def serve(self, settings: str) -> Process:
        """A process with this configuration, which serves."""
        config = self.directory / "proxyd.yaml"
        config.write_text(settings)
        process = Process(self, script("proxyd"), "serve", "--config", config, cwd=self.directory)
        process.wait_for_log("Proxying", PATIENCE_SECONDS)
        return process

    def port_of(self, process: Process, words: str) -> int:
        """The port in the line of the log that has `words`."""
        found = re.search(r":(\d+)(?=[/ ]|$)", process.wait_for_log(words, PATIENCE_SECONDS).partition(words)[2])
        assert found is not None
        return int(found[1])

    def listener(self, more: str = "") -> str:
        """The section of a listener with our certificate."""
        pair = f"{{certificate: {self.issued.certificate}, key: {self.issued.key}}}"
        return f"listeners: [{{kind: https, port: 0, certificates: [{pair}]{more}}}]\n"

    def secure(self, port: int, own: Issued | None = None) -> Wire:
        """A connection over TLS; its `sock` knows the certificate of the other side."""
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        return Wire(self.authority.client_context(own).wrap_socket(plain, server_hostname="localhost"))

    def ask(self, wire: Wire, target: str = "/") -> tuple[int, bytes]:
        """Status and body of the answer to a GET."""
        wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head, body = wire.message()
        return int(head.split(b" ")[1]), body


class ClientTests(TlsCase):
    """Clients of an https listener."""

    def test_certificates_are_replaced_under_load(self) -> None:
        """No request fails and no WebSocket is cut; who connects later gets the new one."""
        upstream = ScriptedUpstream(self, Application())
        process = self.serve(self.listener() + f"api: off\nroutes: {{/: '{upstream.url}'}}\n")
        port = self.port_of(process, "Proxying https")
        tunnels = [self.secure(port) for _ in range(20)]
        for tunnel in tunnels:
            tunnel.send(HANDSHAKE)
            self.assertIn(b" 101 ", tunnel.head())
        stop = Event()
        failures: list[object] = []
        counts = [0, 0]

        def load(number: int) -> None:
            """One asks on the same connection all the time, the other one on a new one each time."""
            try:
                wire = self.secure(port)
                while not stop.is_set():
                    if number:
                        wire.close()
                        wire = self.secure(port)
                    if self.ask(wire) != (200, b"ok"):
                        failures.append("a wrong answer")
                    counts[number] += 1
                wire.close()
            except OSError as error:
                failures.append(error)

        threads = [Thread(target=load, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        before = len(process.log)
        for number in range(3):
            renewed = self.authority.issue("localhost", "127.0.0.1", f"renewed-{number}.test", file="renewed")
            os.replace(renewed.key, self.issued.key)
            os.replace(renewed.certificate, self.issued.certificate)
            process.send(signal.SIGHUP)
            process.wait_for_log(f"renewed-{number}.test", PATIENCE_SECONDS)
            reached = [count + 5 for count in counts]
            wait_for(lambda: failures or all(a > b for a, b in zip(counts, reached, strict=True)), "more", 30)  # noqa: B023
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        self.assertEqual([], failures)
        for tunnel in tunnels:
            tunnel.send(b"still there")
            self.assertEqual(b"still there", tunnel.exactly(11))
            tunnel.close()
        fresh = self.secure(port)
        assert isinstance(fresh.sock, ssl.SSLSocket)
        self.assertIn(("DNS", "renewed-2.test"), (fresh.sock.getpeercert() or {})["subjectAltName"])
        fresh.close()
        self.assertNotIn("error", process.log[before:])

    def test_a_bad_renewal_changes_nothing(self) -> None:
        """It is an error in the log, and clients are served as before."""
        upstream = ScriptedUpstream(self, answering())
        process = self.serve(self.listener() + f"api: off\nroutes: {{/: '{upstream.url}'}}\n")
        self.issued.key.write_text("garbage")
        process.send(signal.SIGHUP)
        process.wait_for_log("the configuration stays as it was", PATIENCE_SECONDS)
        self.assertRegex(process.log, r"error +\S*localhost.pem with \S*localhost.key: TLS: ")
        wire = self.secure(self.port_of(process, "Proxying https"))
        self.assertEqual((200, b"ok"), self.ask(wire))
        wire.close()

    def test_who_does_not_shake_hands_is_dropped(self) -> None:
        """After the same time as for a head."""
        process = self.serve(self.listener() + "api: off\ntimeouts: {header: 300ms}\n")
        port = self.port_of(process, "Proxying https")
        for start in (b"", b"\x16\x03\x01"):
            wire = connect(port)
            wire.send(start)
            self.assertTrue(wire.is_closed(PATIENCE_SECONDS))
            wire.close()

    def test_client_certificates(self) -> None:
        """With `required`, nobody is served without one."""
        more = f", client_certificates: required, client_ca: {self.authority.file}"
        process = self.serve(self.listener(more) + "api: off\n")
        port = self.port_of(process, "Proxying https")
        wire = self.secure(port, self.authority.issue("client"))
        self.assertEqual(200, self.ask(wire, "/healthz")[0])
        wire.close()
        with self.assertRaises((ssl.SSLError, ConnectionError, IndexError)):  # no answer, whoever is first
            self.ask(self.secure(port), "/healthz")

    def test_what_the_upstream_is_told(self) -> None:
        """That the client came over TLS."""
        heads: list[bytes] = []

        def note(wire: Wire) -> None:
            while head := wire.head():
                heads.append(head)
                wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

        upstream = ScriptedUpstream(self, note)
        process = self.serve(self.listener() + f"api: off\nroutes: {{/: '{upstream.url}'}}\n")
        wire = self.secure(self.port_of(process, "Proxying https"))
        self.ask(wire)
        self.assertIn(b"\r\nX-Forwarded-Proto: https\r\n", heads[0])
        self.assertIn(b"\r\nX-Forwarded-Port: 443\r\n", heads[0])
        wire.close()

    def test_files_that_cannot_be_used_end_the_start(self) -> None:
        """With status 1 and one line that names them."""
        self.issued.key.unlink()
        config = self.directory / "proxyd.yaml"
        config.write_text(self.listener() + "api: off\n")
        done = subprocess.run(
            [script("proxyd"), "serve", "--config", config],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual((1, 1), (done.returncode, done.stderr.count("\n")), done.stderr)
        self.assertIn("localhost.key", done.stderr)


class UpstreamTests(TlsCase):
    """Upstreams over https."""

    def upstream(self, issued: Issued, body: bytes = b"secret", *, cut: bool = False) -> int:
        """An upstream over TLS; with `cut` it ends without a goodbye. Gives back its port."""
        context = self.authority.server_context(issued)

        def serve(wire: Wire) -> None:
            with contextlib.suppress(ssl.SSLError), context.wrap_socket(wire.sock, server_side=True) as secure:
                side = Wire(secure)
                side.head()
                side.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
                if not cut:
                    side.sock = secure.unwrap()
                side.close()

        return ScriptedUpstream(self, serve).port

    def answer(self, port: int, host: str, tls: str) -> tuple[bytes, Process]:
        """What a client gets of an upstream at `host`."""
        process = self.serve(
            "listeners: [{kind: http, port: 0}]\napi: off\n"
            f"routes: {{/: {{upstream: 'https://{host}:{port}', upstream_tls: {tls}}}}}\n"
        )
        wire = connect(self.port_of(process, "Proxying http"))
        wire.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := wire.sock.recv(65536):
                answer += data
        wire.close()
        return answer, process

    def test_verified(self) -> None:
        """Against our authority, and for the host of the URL or the name that is configured."""
        trust = f"ca: '{self.authority.file}'"
        other = self.authority.issue("app.test")
        for issued, host, tls in (
            (self.issued, "localhost", f"{{{trust}}}"),
            (self.issued, "127.0.0.1", f"{{{trust}}}"),
            (other, "127.0.0.1", f"{{{trust}, server_name: app.test}}"),
            (other, "127.0.0.1", "{verify: false}"),
        ):
            answer, _ = self.answer(self.upstream(issued), host, tls)
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
            self.assertTrue(answer.endswith(b"secret"), answer)

    def test_refused(self) -> None:
        """Somebody else's certificate, or one for another host: 502, and the reason is in the log only."""
        trust = f"{{ca: '{self.authority.file}'}}"
        for issued, tls, reason in (
            (self.authority.issue("app.test"), trust, "IP address mismatch"),
            (self.issued, "{}", "unable to get local issuer certificate"),
        ):
            answer, process = self.answer(self.upstream(issued), "127.0.0.1", tls)
            self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)
            self.assertNotIn(reason.encode(), answer)
            process.wait_for_log(reason, PATIENCE_SECONDS)

    def test_a_body_until_close_that_ends_without_a_goodbye_is_cut(self) -> None:
        """Anybody on the way could have ended it there: the client sees a reset, not a clean end."""
        port = self.upstream(self.issued, cut=True)
        _, process = self.answer(port, "127.0.0.1", f"{{ca: '{self.authority.file}'}}")
        process.wait_for_log("response cut", PATIENCE_SECONDS)


class ChpTests(TlsCase):
    """`proxyd chp` with the options of sockets and TLS."""

    def start(self, *words: object, umask: int = 0o077) -> Process:
        """Start it without a token, with this umask."""
        command = ["sh", "-c", f'umask {umask:03o} && exec "$@"', "sh", *CHP, *map(str, words)]
        process = Process(self, *command, cwd=self.directory, env={"CONFIGPROXY_AUTH_TOKEN": ""})
        process.wait_for_log("Proxy API at", PATIENCE_SECONDS)
        return process

    def over(self, path: Path) -> Wire:
        """A connection to a unix socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        return Wire(sock)

    def test_sockets(self) -> None:
        """Both sides are on unix sockets; stale ones are replaced, the umask counts, and nothing stays at the end."""
        public, api = self.directory / "public.sock", self.directory / "api.sock"
        upstream = ScriptedUpstream(self, answering())
        for number in (signal.SIGKILL, signal.SIGTERM):  # the first one leaves them behind
            process = self.start("--socket", public, "--api-socket", api, "--default-target", upstream.url, umask=0o007)
            self.assertEqual(0o770, stat.S_IMODE(os.stat(public).st_mode))
            self.assertIn(f"Proxying http://{public} to {upstream.url}\n", process.log)
            self.assertIn(f"Proxy API at http://{api}/api/routes\n", process.log)
            wire = self.over(public)
            self.assertEqual((200, b"ok"), self.ask(wire))
            wire.close()
            wire = self.over(api)
            status, body = self.ask(wire, "/api/routes")
            self.assertEqual((200, upstream.url), (status, json.loads(body)["/"]["target"]))
            wire.close()
            process.send(number)
            process.wait()
        self.assertEqual([], [path.name for path in (public, api) if path.exists()])

    def test_tls_of_the_api_and_of_targets(self) -> None:
        """As for a Hub with internal SSL: each side shows its certificate, and without one nobody gets in."""
        port, api_port = free_ports(2)
        own = self.authority.issue("proxy", "localhost", file="proxy")
        application = ScriptedUpstream(self, self.application)
        process = self.start(
            *("--ip", "127.0.0.1", "--port", port, "--api-ip", "127.0.0.1", "--api-port", api_port),
            *("--api-ssl-key", self.issued.key, "--api-ssl-cert", self.issued.certificate),
            *("--api-ssl-ca", self.authority.file, "--api-ssl-request-cert", "--api-ssl-reject-unauthorized"),
            *("--client-ssl-key", own.key, "--client-ssl-cert", own.certificate),
            *("--client-ssl-ca", self.authority.file, "--client-ssl-request-cert", "--client-ssl-reject-unauthorized"),
        )
        self.assertIn(f"Proxy API at https://127.0.0.1:{api_port}/api/routes", process.log)
        wire = self.secure(api_port, own)
        body = json.dumps({"target": f"https://localhost:{application.port}"}).encode()
        wire.send(b"POST /api/routes/ HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        self.assertIn(b" 201 ", wire.head())
        wire.close()
        self.assertIn(b" 200 ", get(port)[0])
        with self.assertRaises((ssl.SSLError, ConnectionError, IndexError)):
            self.ask(self.secure(api_port), "/api/routes")

    def application(self, wire: Wire) -> None:
        """A target that wants to see a certificate."""
        context = self.authority.server_context(self.issued, asks=True)
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(wire.sock, server_side=True) as secure:
            answering()(Wire(secure))

    def test_the_redirect_port(self) -> None:
        """Everybody is sent to the public port, over https."""
        port, redirect_port = free_ports(2)
        api_port, _ = free_ports(2)
        process = self.start(
            *("--ip", "127.0.0.1", "--port", port, "--api-port", api_port, "--redirect-port", redirect_port),
            *("--ssl-key", self.issued.key, "--ssl-cert", self.issued.certificate),
        )
        self.assertIn(f"Added HTTP to HTTPS redirection from {redirect_port} to {port}", process.log)
        self.assertIn(f"Proxying https://127.0.0.1:{port} to (no default)", process.log)
        head, _ = get(redirect_port, "/x?y=1", "localhost")
        self.assertIn(b" 301 ", head)
        self.assertIn(f"\r\nLocation: https://localhost:{port}/x?y=1\r\n".encode(), head)
        wire = self.secure(port)
        self.assertEqual(404, self.ask(wire, "/x?y=1")[0])
        wire.close()
