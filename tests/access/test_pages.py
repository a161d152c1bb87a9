"""Pages of the proxy's own: they show nothing of what a client sent, and let a browser do nothing but show them."""

from __future__ import annotations

import json
import re
import sys
from base64 import b64encode
from hashlib import sha256
from urllib.parse import quote

from tests.hub.fake import CLIENT_ID, SCOPE, SECRET, FakeHub, model_of
from tests.integration.test_serve import CommandCase
from tests.support import CHECKOUT, free_port
from tests.wire import ManualUpstream, connect

PROGRAM = (sys.executable, "-E", str(CHECKOUT / "tests" / "supervisor" / "program.py"))
# What would show in a page, however it got there, raw, escaped or decoded.
MARK = "qzx7"
# In every place where a client can say something.
_FIELDS = (
    f"User-Agent: <script>{MARK}()</script>\r\nReferer: http://{MARK}.test/<b>{MARK}\r\nX-{MARK}: {MARK}\r\n"
    f"Cookie: {MARK}={MARK}; proxyd-login={MARK}\r\nX-Forwarded-Host: {MARK}.test\r\nX-Forwarded-For: {MARK}\r\n"
    f"X-Forwarded-Prefix: /{MARK}\r\nAccept-Language: {MARK}\r\nOrigin: http://{MARK}.test\r\n"
)
_SCRIPT = quote(f"<script>{MARK}()</script>", safe="")


class PageTests(CommandCase):
    """Each page that there is."""

    def setUp(self) -> None:
        super().setUp()
        self.pages: dict[str, tuple[str, str]] = {}

    def ask(self, what: str, line: str, fields: str = "", body: str = "", *, status: int) -> None:
        """Ask, and keep the answer as `what`."""
        wire = connect(self.server.port)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        host = "" if "Host:" in fields else f"Host: {MARK}.test\r\n"
        wire.send(f"{line}\r\n{host}Accept: text/html\r\n{fields}{_FIELDS}{length}\r\n{body}".encode())
        head, answer = wire.message()
        wire.close()
        self.assertEqual(f"HTTP/1.1 {status} ".encode(), head[:13], (what, head))
        self.pages[what] = head.decode("latin-1"), answer.decode()

    def assert_harmless(self) -> None:
        """All that were kept."""
        for what, (head, body) in self.pages.items():
            # A login leads back to what was asked for: the address only, as a path.
            shown = re.sub(r"\r\nLocation: /[^/\r][^\r]*", "", head)
            self.assertNotIn(MARK, (shown + body).lower(), what)
            if not body:
                continue
            self.assertIn("\r\nX-Content-Type-Options: nosniff\r\n", head, what)
            self.assertRegex(head, r"\r\nContent-Type: (text/(html|plain); charset=utf-8|application/json)\r\n", what)
            if "text/html" in head:
                self.assert_policy(what, head, body)

    def assert_policy(self, what: str, head: str, body: str) -> None:
        """Nothing but the page's own style and script, by their hashes, and nothing from elsewhere."""
        found = re.search(r"\r\nContent-Security-Policy: ([^\r]+)", head)
        assert found is not None, (what, head)
        policy = dict(part.strip().split(" ", 1) for part in found[1].split(";"))
        self.assertEqual("'none'", policy.pop("default-src"), what)
        self.assertEqual("'none'", policy.pop("base-uri"), what)
        self.assertIn(policy.pop("frame-ancestors"), ("'none'", "'self'"), what)
        for element in ("style", "script"):
            texts = re.findall(rf"<{element}>(.*?)</{element}>", body, re.DOTALL)
            hashes = {f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts}
            self.assertEqual(hashes, set(policy.pop(f"{element}-src", "").split()), (what, element))
            self.assertEqual(len(texts), body.count(f"<{element}"), (what, element))
        for value in policy.values():
            self.assertLessEqual(set(value.split()), {"'self'", "data:"}, what)
        self.assertNotRegex(body, r"(?i) on[a-z]+=|javascript:|style=|<base|<iframe|<object|src=.?(http|//)", what)

    def test_errors_and_logins(self) -> None:
        """Under a token, with everything that can go wrong."""
        upstream = ManualUpstream(self)
        routes = {
            "/dead": f"http://127.0.0.1:{free_port()}",
            "/slow": {"upstream": upstream.url, "timeouts": {"response": "200ms"}},
            "/rated": {"upstream": upstream.url, "rate": "1/h"},
            "/off": {"upstream": upstream.url, "websocket": "off"},
        }
        servers = {
            "starts": {"command": [*PROGRAM, "--sleep=600", "{port}"]},
            "fails": {"command": [*PROGRAM, "--exit=0", "{port}"], "timeout": "20s"},
        }
        self.server = self.start(
            "listeners: [{kind: http, port: 0}]\napi: {port: 0, open: true}\n"
            "auth: {kind: token, token: the-very-token}\n"
            f"state_directory: {self.directory}/state\nroutes: {json.dumps(routes)}\nservers: {json.dumps(servers)}\n"
            "ports: {enabled: true, allow: 1024-65535}\nlimits: {body: 1 KiB}\n"
        )
        good = "Authorization: Bearer the-very-token\r\n"
        path = f"/{_SCRIPT}?{MARK}={_SCRIPT}"
        self.ask("a login is needed", f"GET /dead{path} HTTP/1.1", status=302)
        self.ask("a token is needed", f"POST /dead{path} HTTP/1.1", status=401)
        self.ask("the login page", f"GET /.proxyd/login?next={path} HTTP/1.1", status=200)
        self.ask("the logout page", f"GET /.proxyd/logout?{MARK} HTTP/1.1", status=200)
        own = "Sec-Fetch-Site: same-origin\r\n"
        self.ask(
            "a wrong token", f"POST /.proxyd/login?next={path} HTTP/1.1", own, f"token={MARK}&{MARK}=1", status=403
        )
        self.ask("a foreign form", "POST /.proxyd/login HTTP/1.1", "", f"token={MARK}", status=403)
        self.ask("a method of the login", f"{MARK.upper()} /.proxyd/login HTTP/1.1", status=405)
        self.ask("nothing there", f"GET {path} HTTP/1.1", good, status=404)
        self.ask("nobody there", f"GET /dead{path} HTTP/1.1", good, status=502)
        self.ask("too late", f"GET /slow{path} HTTP/1.1", good, status=504)
        self.ask("too much", f"POST /dead{path} HTTP/1.1", good, MARK * 1000, status=413)
        self.ask("a port that is not allowed", f"GET /proxy/80/{path} HTTP/1.1", good, status=403)
        self.ask("a host that is not allowed", f"GET /proxy/{MARK}.test:80/{path} HTTP/1.1", good, status=403)
        self.ask("a port that is none", f"GET /proxy/99999/{path} HTTP/1.1", good, status=400)
        self.ask("the start page", f"GET /?{MARK}={_SCRIPT} HTTP/1.1", good, status=200)
        self.ask("no method of it", f"{MARK.upper()} / HTTP/1.1", good, status=405)
        self.ask("servers-info", f"GET /server-proxy/servers-info?{MARK} HTTP/1.1", good, status=200)
        self.ask("no icon", f"GET /server-proxy/icon/{_SCRIPT} HTTP/1.1", good, status=404)
        self.ask("a server that starts", f"GET /starts{path} HTTP/1.1", good, status=202)
        self.ask("a server that fails", f"POST /fails{path} HTTP/1.1", good, status=503)
        for what, line, fields, status in (
            ("an escape", f"GET /%zz{path} HTTP/1.1", good, 400),
            ("a target", f"GET {MARK} HTTP/1.1", good, 400),
            ("a version", f"GET {path} {MARK}/1.1", good, 400),
            ("a host", f"GET {path} HTTP/1.1", f"Host: <{MARK}>\r\n", 400),
            ("a field", f"GET {path} HTTP/1.1", f"{MARK} <b>: x\r\n", 400),
            ("a method", f"<{MARK}> {path} HTTP/1.1", good, 400),
            ("an expectation", f"GET {path} HTTP/1.1", f"Expect: {MARK}\r\n{good}", 417),
            ("a long target", f"GET /{MARK * 3000} HTTP/1.1", good, 414),
            ("a long field", f"GET {path} HTTP/1.1", f"X: {MARK * 5000}\r\n{good}", 431),
        ):
            self.ask(f"not understood: {what}", line, fields, status=status)
        wire = connect(self.server.port)
        for number in range(20):  # more than anybody may guess at once
            wire.send(
                f"POST /.proxyd/login HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\ntoken={number % 10}".encode()
            )
            wire.message()
        wire.close()
        self.ask("too many guesses", "POST /.proxyd/login HTTP/1.1", own, f"token={MARK}", status=429)
        self.assert_harmless()
        self.assertGreaterEqual(len(self.pages), 30)

    def test_pages_of_the_hub(self) -> None:
        """Who may not, and what a callback says that is none."""
        hub = FakeHub(self)
        hub.tokens = {"bobs": model_of("bob<script>", "users")}
        self.server = self.start(
            "listeners: [{kind: http, port: 0}]\napi: {port: 0, open: true}\n"
            f"state_directory: {self.directory}/state\n"
            f"auth: {{kind: jupyterhub, api_url: '{hub.api_url}', api_token: {SECRET}, client_id: {CLIENT_ID}, "
            f"access_scopes: ['{SCOPE}'], prefix: /}}\nroutes: {{/app: 'http://127.0.0.1:{free_port()}'}}\n"
        )
        self.ask("may not", f"GET /app/{_SCRIPT} HTTP/1.1", "Authorization: token bobs\r\n", status=403)
        self.assertNotIn("<script>", self.pages["may not"][1])
        for query, status in (
            (f"error={_SCRIPT}", 400), (f"error=x&error_description={_SCRIPT}&state={MARK}", 400),
            (f"code={MARK}", 400), (f"state={MARK}", 400), (f"code={MARK}&state={MARK}", 403), (MARK, 400),
        ):  # fmt: skip
            self.ask(f"callback, {query}", f"GET /oauth_callback?{query} HTTP/1.1", status=status)
        # The description of an error of the Hub is told, as the contract wants it, and as text.
        for what in [what for what in self.pages if "error" in what]:
            head, body = self.pages[what]
            self.assertNotIn("<script", body)
            self.pages[what] = head, re.sub(rf"(&lt;script&gt;)?{MARK}(\(\)&lt;/script&gt;)?", "", body)
        self.assert_harmless()

    def test_pages_of_chp(self) -> None:
        """With the words of configurable-http-proxy."""
        self.server = self.start(
            "listeners: [{kind: http, port: 0}]\napi: {port: 0, open: true}\nerrors: {statuses: chp}\n"
            f"routes: {{/dead: 'http://127.0.0.1:{free_port()}'}}\n"
        )
        self.ask("nothing there", f"GET /{_SCRIPT} HTTP/1.1", status=404)
        self.ask("nobody there", f"GET /dead/{_SCRIPT} HTTP/1.1", status=503)
        self.ask("not understood", f"GET /%zz{MARK} HTTP/1.1", status=400)
        self.assert_harmless()
