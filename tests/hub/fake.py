"""A Hub as far as servers see it: HTTP on a port of its own, and scripted."""

from __future__ import annotations

import json
import socket
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import TestCase
from urllib.parse import parse_qs, urlsplit

SECRET = "0123456789abcdef"
CLIENT_ID = "jupyterhub-user-alice"
SCOPE = "access:servers!server=alice/"

Asked = tuple[str, str, dict[str, str], bytes]


def model_of(name: str, *scopes: str, **more: object) -> dict[str, object]:
    """What the Hub says of the owner of a token."""
    return {"kind": "user", "name": name, "admin": False, "groups": [], "scopes": list(scopes), **more}


class _Server(ThreadingHTTPServer):
    """Can end with all its connections, and says nothing about clients that leave."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.sockets: list[Any] = []
        super().__init__(("127.0.0.1", 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.sockets.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class FakeHub:
    """Knows `tokens`, gives out codes, takes reports; what it was asked is in `asked`.

    `say` answers the next question about a user, or all of them until it is taken away, in place of the Hub.
    """

    def __init__(self, case: TestCase) -> None:
        self.tokens: dict[str, dict[str, object]] = {}
        self.codes: dict[str, tuple[str, str]] = {}  # code -> challenge, and token
        self.secret, self.client_id = SECRET, CLIENT_ID
        self.asked: list[Asked] = []
        self.version = "6.1.1"
        self.say: Callable[[Asked], Any] | None = None
        self.released = threading.Event()
        self.activity_status = 200
        self._granted = 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or the body of each answer waits for an acknowledgement, 40 ms

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body
                hub.asked.append(asked)
                status, text, *more = hub.answer(asked)
                self.send_response(status)
                for name, value in more:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("X-JupyterHub-Version", hub.version)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer

        self._server = _Server(Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self._is_open = True
        case.addCleanup(self.close)

    @property
    def api_url(self) -> str:
        """The REST API."""
        return f"http://127.0.0.1:{self.port}/hub/api"

    @property
    def environ(self) -> dict[str, str]:
        """What this Hub sets for the server of alice."""
        return {
            "JUPYTERHUB_API_URL": self.api_url,
            "JUPYTERHUB_API_TOKEN": SECRET,
            "JUPYTERHUB_CLIENT_ID": CLIENT_ID,
            "JUPYTERHUB_SERVICE_PREFIX": "/user/alice/",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/alice/oauth_callback",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps([SCOPE, "access:servers!user=alice"]),
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_HOST": "",
            "JUPYTERHUB_USER": "alice",
            "JUPYTERHUB_SERVER_NAME": "",
        }

    def close(self) -> None:
        """Be down from now on."""
        self.released.set()
        if self._is_open:
            self._is_open = False
            self._server.shutdown()
            self._server.server_close()
            for connection in self._server.sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def of_path(self, path: str) -> list[Asked]:
        """What was asked there."""
        return [asked for asked in self.asked if asked[1].partition("?")[0] == path]

    @property
    def questions(self) -> int:
        """How often it was asked who somebody is."""
        return len(self.of_path("/hub/api/user"))

    def authorize(self, location: str, token: str) -> str:
        """A browser goes to `location`, logs in, and gets this query for the way back; the code is good for `token`."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert query["response_type"] == "code", query
        assert query["client_id"] == self.client_id, query
        assert query["code_challenge_method"] == "S256", query
        self._granted += 1
        code = f"code{self._granted}"
        self.codes[code] = query["code_challenge"], token
        return f"code={code}&state={query['state']}"

    def answer(self, asked: Asked) -> tuple[Any, ...]:
        """What the Hub says: a status, a body, and fields."""
        method, path, fields, body = asked
        if self.say is not None and path != "/hub/api/" and (said := self.say(asked)) is not None:
            return said
        if path == "/hub/api/user":
            token = fields.get("authorization", "").removeprefix("token ")
            if token not in self.tokens:
                return 403, b'{"status": 403, "message": null}'
            return 200, json.dumps(self.tokens[token]).encode()
        if (method, path) == ("POST", "/hub/api/oauth2/token"):
            return self._exchange({name: values[0] for name, values in parse_qs(body.decode()).items()})
        if path.endswith("/activity"):
            return self.activity_status, b""
        return 200, json.dumps({"version": self.version}).encode()

    def _exchange(self, form: dict[str, Any]) -> tuple[int, bytes]:
        if form.get("client_secret") != self.secret or form.get("client_id") != self.client_id:
            return 401, b'{"error": "invalid_client"}'
        challenge, token = self.codes.pop(form.get("code", ""), ("", ""))
        made = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if not token or made != challenge or form.get("grant_type") != "authorization_code":
            return 400, b'{"error": "invalid_grant"}'
        return 200, json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": 1209600}).encode()

    def hang(self, _: Asked) -> None:
        """For `say`: be silent, until `released`."""
        self.released.wait(30)
