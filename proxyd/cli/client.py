"""The REST API of a running proxyd, as its own commands speak to it: address and token are in the configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote

from proxyd.api.tokens import configured_token, state_directory
from proxyd.builtins import KINDS
from proxyd.cli.connection import connect, place_of, words_of
from proxyd.config.startup import load_or_exit
from proxyd.errors import ProxydError, TlsError
from proxyd.model.settings import ApiSettings

# Longer than a store may take to answer.
_DEADLINE_SECONDS = 20.0
# Of several heartbeats that a stream has while nothing happens.
_SILENCE_SECONDS = 60.0


class ApiClientError(ProxydError):
    """The API cannot be reached, or refuses."""


class ApiClient:
    """Asks the API that `api` describes; every method raises `ApiClientError`."""

    def __init__(self, api: ApiSettings, token: str) -> None:
        self._api = api
        self._token = token

    @classmethod
    def from_config(cls, config: str) -> ApiClient:
        """The API in the configuration at `config`, or in the one that is found if it is empty."""
        _, loaded = load_or_exit(config, KINDS)
        if loaded.api is None:
            raise ApiClientError("the configuration has no API")
        if not loaded.api.port and not loaded.api.socket:
            raise ApiClientError("the configuration leaves the port of the API open")
        token = configured_token(loaded.api, os.environ)
        if not token and not loaded.api.open:
            path = state_directory(loaded.state_directory, os.environ) / "token"
            try:
                token = path.read_text().strip()
            except OSError as error:
                raise ApiClientError(f"{path} cannot be read: {error.strerror}") from None
        return cls(loaded.api, token)

    # Routes.

    def all(self) -> dict[str, Any]:
        """All routes, by their keys."""
        found: dict[str, Any] = json.loads(self._ask_route("GET", ""))
        return found

    def get(self, key: str) -> Any:
        """One route."""
        if key.strip("/"):
            return json.loads(self._ask_route("GET", key))
        found = self.all()  # which is what the API tells at /api/routes/
        if "/" not in found:
            raise ApiClientError("there is no such route")
        return found["/"]

    def add(self, key: str, route: dict[str, object]) -> None:
        """Create or replace a route."""
        self._ask_route("POST", key, json.dumps(route))

    def delete(self, key: str) -> None:
        """Delete a route."""
        self._ask_route("DELETE", key)

    def _ask_route(self, method: str, key: str, body: str | None = None) -> bytes:
        return self._ask(method, "/api/routes/" + quote(key.strip("/")), "there is no such route", body)

    # Servers.

    def servers(self) -> dict[str, Any]:
        """All managed servers, by their names."""
        found: dict[str, Any] = json.loads(self._ask("GET", "/api/servers", "this proxyd has no managed servers"))
        return found

    def server(self, name: str) -> Any:
        """One managed server."""
        return json.loads(self._ask_server("GET", name))

    def rule(self, name: str, verb: str) -> Any:
        """`start`, `stop` or `restart` a server; gives it back as it is then, however long that takes."""
        return json.loads(self._ask_server("POST", name, f"/{verb}", seconds=None))

    def log(self, name: str, lines: int) -> str:
        """The last lines that a server has printed."""
        return self._ask_server("GET", name, f"/log?lines={lines}").decode()

    def follow_log(self, name: str, lines: int) -> Iterator[str]:
        """The last lines that a server has printed, and those that come, until the proxy ends."""
        path = f"{_server_path(name)}/log?follow=1&lines={lines}"
        with self._answer("GET", path, "there is no such server", None, _SILENCE_SECONDS) as answer:
            is_line = False
            for line in answer:
                if line.startswith(b"data: ") and is_line:
                    yield json.loads(line[6:])
                is_line = line.strip() == b"event: line"

    def _ask_server(
        self, method: str, name: str, rest: str = "", *, seconds: float | None = _DEADLINE_SECONDS
    ) -> bytes:
        return self._ask(method, _server_path(name) + rest, "there is no such server", seconds=seconds)

    # Both.

    def _ask(
        self,
        method: str,
        path: str,
        not_found: str,
        body: str | None = None,
        seconds: float | None = _DEADLINE_SECONDS,
    ) -> bytes:
        with self._answer(method, path, not_found, body, seconds) as answer:
            return answer.read()

    @contextmanager
    def _answer(
        self, method: str, path: str, not_found: str, body: str | None, seconds: float | None
    ) -> Iterator[HTTPResponse]:
        """The answer to a request, as it comes; `not_found` is what 404 means."""
        fields = {"Host": "localhost", **({"Authorization": f"token {self._token}"} if self._token else {})}
        try:
            connection = connect(self._api, seconds)
            try:
                connection.request(method, path, body, fields)
                answer = connection.getresponse()
                if answer.status >= 300:
                    words = _message(answer.read()) or answer.reason
                    raise ApiClientError(not_found if answer.status == 404 else f"{answer.status}: {words}")
                yield answer
            finally:
                connection.close()
        except (OSError, HTTPException, TlsError) as error:
            words = words_of(error, self._api)
            raise ApiClientError(f"the API at {place_of(self._api)} does not answer: {words}") from None


def _server_path(name: str) -> str:
    return "/api/servers/" + quote(name, safe="")


def _message(content: bytes) -> str:
    """What the body of an error says, natively or as configurable-http-proxy."""
    text = content.decode("utf-8", "replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (KeyError, TypeError, ValueError):
        return text
