"""Distinctive secrets are planted everywhere, and looked for in everything that comes out of the process."""

from __future__ import annotations

import json
import re
import signal
import sys
from base64 import b64encode
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from tests.certificates import Authority
from tests.hub.fake import FakeHub
from tests.integration.test_serve import CommandCase
from tests.support import CHECKOUT, Process, free_port
from tests.wire import ScriptedUpstream, Wire, answering, connect

PROGRAM = (sys.executable, "-E", str(CHECKOUT / "tests" / "supervisor" / "program.py"))
HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Planted:
    """Secrets that nobody else has; each names where it was planted."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def __call__(self, place: str) -> str:
        """Another one."""
        self.all.append(f"hush-{place}-{len(self.all):04d}-hush")
        return self.all[-1]

    def found_in(self, text: str) -> list[str]:
        """The places of those that `text` gives away, be it in base64."""
        forms = {secret: (secret, b64encode(secret.encode()).decode().rstrip("=")[:-1]) for secret in self.all}
        return [secret for secret, spelled in forms.items() if any(form in text for form in spelled)]


class SecretTests(CommandCase):
    """A proxy that has been told many secrets, by its operator and by clients."""

    def setUp(self) -> None:
        super().setUp()
        self.secret = Planted()
        self.out: dict[str, str] = {}

    def begin(self, log: str) -> None:
        """Start it."""
        secret = self.secret
        self.upstream = ScriptedUpstream(self, answering())
        self.service = FakeHub(self)
        self.service.say = lambda _: (401, b"no")
        self.token = self.environ["THE_TOKEN"] = secret("public-token")
        self.api_token = self.environ["PROXYD_AUTH_TOKEN"] = secret("api-token")
        self.environ["JUPYTERHUB_ACTIVITY_TOKEN"] = secret("activity-token")
        passphrase = self.environ["KEY_PASSPHRASE"] = secret("passphrase")
        issued = Authority(self.directory / "tls").issue("localhost")
        key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase.encode()),
            )
        )
        self.write(secret("token-in-a-file"), "more-token").chmod(0o600)
        port = self.upstream.port
        own = {"kind": "token", "token": secret("token-of-a-route")}
        forward = {"kind": "forward", "url": f"http://svc:{secret('forward-password')}@127.0.0.1:{self.service.port}/"}
        routes = {
            "/up": {
                "upstream": f"http://user:{secret('upstream-password')}@127.0.0.1:{port}",
                "auth": {"kind": "anonymous"},
            },
            "/own": {"upstream": f"http://127.0.0.1:{port}", "auth": own},
            "/forward": {"upstream": f"http://127.0.0.1:{port}", "auth": forward},
            "/dead": {
                "upstream": f"http://user:{secret('dead-password')}@127.0.0.1:{free_port()}/{'x'}?key={secret('query')}",
                "request_headers": {"set": {"X-Api-Key": secret("field-for-the-upstream")}},
                "auth": {"kind": "anonymous"},
            },
            "/name": {"upstream": f"http://u:{secret('name-password')}@name.invalid", "auth": {"kind": "anonymous"}},
        }
        servers = {
            "good": {"command": [*PROGRAM, "{port}"], "environment": {"APP_PASSWORD": secret("environment")}},
            "bad": {
                "command": [*PROGRAM, "--exit=3", "{port}"],
                "environment": {"APP_PASSWORD": secret("environment-of-a-failure")},
                "timeout": "2s",
            },
        }
        self.text = (
            "listeners:\n"
            "  - {kind: http, port: 0}\n"
            f"  - {{kind: https, port: 0, certificates: [{{certificate: {issued.certificate}, key: {issued.key}, "
            'passphrase: "${KEY_PASSPHRASE}"}]}\n'
            "api: {port: 0, token: '${PROXYD_AUTH_TOKEN}', tokens: ['file:more-token']}\n"
            'auth: {kind: token, token: "${THE_TOKEN}"}\n'
            f"state_directory: {self.directory}/state\n"
            f"routes: {json.dumps(routes)}\nservers: {json.dumps(servers)}\nports: {{enabled: true}}\n"
            f"log: {{level: debug, format: {log}, access: {'json' if log == 'json' else 'combined'}}}\n"
        )
        self.server = self.start(self.text)

    def ask(self, what: str, request: str, body: str = "", *, port: int = 0, keep: bool = True) -> tuple[bytes, bytes]:
        """One request; the answer is looked through as `what`."""
        wire = connect(port or self.server.port)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        wire.send(f"{request}{length}\r\n{body}".encode())
        head, answer = wire.message()
        if keep:
            # A login leads back to what was asked for, with its query: nobody else sees that.
            shown = re.sub(rb"\r\nLocation: /[^\r]*[?]next=[^\r]*", b"", head)
            self.out[what] = (shown + answer).decode("latin-1")
        wire.close()
        return head, answer

    def ask_api(self, method: str, path: str, body: str = "") -> None:
        request = f"{method} {path} HTTP/1.1\r\nHost: api\r\nAuthorization: token {self.api_token}\r\n"
        head, _ = self.ask(f"{method} {path}", request, body, port=self.server.api_port)
        self.assertIn(head[9:10], (b"2",), (method, path, head))

    def provoke(self) -> None:
        """Have clients say secrets in every place, and the process say everything that it ever says."""
        secret = self.secret
        # What clients show, in all places, to all kinds of answers.
        basic = b64encode(b"u:" + secret("basic-password").encode()).decode()
        self.secret.all.append(basic)
        shown = (
            f"Authorization: Basic {basic}\r\n",
            f"Authorization: Bearer {secret('bearer-of-a-client')}\r\n",
            f"Authorization: token {secret('token-of-a-client')}\r\n",
            f"Cookie: session={secret('cookie')}; proxyd-login={secret('login-cookie')}\r\n",
            f"X-Api-Key: {secret('field')}\r\nReferer: http://test/?token={secret('referer')}\r\n",
            "",
        )
        paths = ("/up", "/own", "/forward", "/dead", "/name", "/nowhere", "/", "/bad/", "/proxy/1/", "/%zz")
        for path in paths:
            for number, fields in enumerate(shown):
                target = f"{path}?token={secret('argument')}"
                html = "Accept: text/html\r\n" if number % 2 else "Accept: application/json\r\n"
                self.ask(f"{path}, {number}", f"GET {target} HTTP/1.1\r\nHost: test\r\n{html}{fields}")
            ws = f"GET {path}?token={secret('argument-of-a-websocket')} HTTP/1.1\r\nHost: test\r\n{HANDSHAKE}"
            self.ask(f"{path}, a WebSocket", ws)
        # What is broken, and what is posted.
        for line in (
            f"GET /?token={secret('bad-version')} HTTP/9.9",
            f"GET /?token={secret('bad-target')} <x> HTTP/1.1",
        ):
            self.ask(line[:20], f"{line}\r\nHost: test\r\n")
        self.ask("a bad field", f"GET / HTTP/1.1\r\nHost: test\r\nX Y: {secret('bad-field')}\r\n")
        guess = f"token={secret('guess')}"
        self.ask("a guess", "POST /.proxyd/login HTTP/1.1\r\nHost: test\r\nContent-Type: x\r\n", guess)
        head, _ = self.ask(
            "a login", "POST /.proxyd/login HTTP/1.1\r\nHost: test\r\n", f"token={self.token}", keep=False
        )
        found = re.search(rb"\r\nSet-Cookie: proxyd-login=([^;]+)", head)
        assert found is not None, head
        cookie = found[1].decode()
        self.secret.all.append(cookie)
        for path in ("/", "/good/", "/bad/", "/proxy/1/", "/server-proxy/servers-info"):
            logged_in = f"GET {path} HTTP/1.1\r\nHost: test\r\nAccept: text/html\r\nCookie: proxyd-login={cookie}\r\n"
            self.ask(f"{path}, logged in", logged_in)
        self.server.process.wait_for_log("bad", 30)
        # The API, all that it tells.
        posted = {
            "target": f"http://user:{secret('posted-password')}@127.0.0.1:{free_port()}",
            "auth": {"kind": "token", "token": secret("posted-token")},
            "upstream_tls": {},
        }
        self.ask_api("POST", "/api/routes/posted", json.dumps(posted))
        self.ask("/posted", "GET /posted HTTP/1.1\r\nHost: test\r\n")
        for path in (
            "/api",
            "/api/openapi.json",
            "/api/servers",
            "/api/servers/good",
            "/api/servers/bad/log",
            "/metrics",
        ):
            self.ask_api("GET", path)
        api = self.server.api_port
        wrong = f"Host: api\r\nAuthorization: token {secret('wrong-api-token')}\r\n"
        self.ask("refused", f"GET /api/routes?token={secret('argument-of-the-api')} HTTP/1.1\r\n{wrong}", port=api)
        right = f"Host: api\r\nAuthorization: token {self.api_token}\r\n"
        bad = json.dumps({"target": "x", "auth": {"kind": "token", "token": secret("badly-posted")}})
        self.ask("posted badly", f"POST /api/routes/x HTTP/1.1\r\n{right}", bad, port=api)
        self.ask_api("DELETE", "/api/routes/posted")

    def hold_and_dump(self) -> None:
        """Let it tell how it is, while a request is under way."""
        wire: Wire = connect(self.server.port)
        wire.send(
            f"POST /up?token={self.secret('argument-under-way')} HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n"
            f"Cookie: a={self.secret('cookie-under-way')}\r\n\r\n1234".encode()
        )

        def is_told() -> bool:
            self.server.process.send(signal.SIGUSR2)
            return "exchange POST /up" in self.server.process.log

        self.server.process.wait_for(is_told, "the request in a state dump", 30, 0.5)
        wire.close()

    def reload_badly(self) -> None:
        """A file that is wrong where a secret is."""
        before = self.server.process.log.count("\n")
        bad = self.text.replace("log: {", f"store: {{kind: {self.secret('word-in-the-file')}}}\nlog: {{")
        self.write(bad.replace("auth: {kind: token, token:", "auth: {kind: token, tokn:", 1))
        self.server.process.send(signal.SIGHUP)
        self.server.process.wait_for(lambda: "tokn" in self.server.process.log, "the problem is told", 30)
        self.assertGreater(self.server.process.log.count("\n"), before)
        self.secret.all.remove(self.secret.all[-1])  # a word that is none of the kinds is told; it is no secret
        self.write(self.text)

    def command_lines(self, process: Process) -> str:
        """Those of all its processes."""
        lines = []
        for pid in process.family():
            path = Path(f"/proc/{pid}/cmdline")
            lines.append(path.read_bytes().replace(b"\0", b" ").decode() if path.exists() else "")
        self.assertGreater(len(lines), 1)
        return "\n".join(lines)

    def look_through(self) -> None:
        """Everything that came out."""
        self.out["the log"] = self.server.process.log
        self.out["the command lines"] = self.command_lines(self.server.process)
        for path in (self.directory / "state").rglob("*"):
            if path.is_file() and path.name not in ("token", "cookie-key"):
                self.out[path.name] = path.read_bytes().decode("latin-1")
        self.assertGreater(len(self.secret.all), 80)
        for what, text in self.out.items():
            self.assertEqual([], self.secret.found_in(text), what)
        self.assertNotIn("Traceback", self.out["the log"])

    def test_text(self) -> None:
        """With lines for people."""
        self.begin("text")
        self.provoke()
        self.hold_and_dump()
        self.reload_badly()
        self.look_through()
        # The search does find what is there.
        self.assertEqual([self.token], self.secret.found_in(f"x{self.token}x"))
        self.assertIn("/up", self.out["the log"])

    def test_json(self) -> None:
        """With lines for programs."""
        self.begin("json")
        self.provoke()
        self.hold_and_dump()
        self.look_through()
        self.assertIn('"/up"', self.out["the log"])
