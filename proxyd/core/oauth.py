"""The authorization code flow with PKCE (RFC 6749 §4.1, RFC 7636), as JupyterHub speaks it: every decision of it.

An attempt to log in is kept by the browser, sealed, in a cookie of its own: several tabs have several.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from urllib.parse import parse_qs, urlencode

import attrs

ATTEMPT_SECONDS = 600
"""How long a person may take to log in."""

_MAX_DESCRIPTION = 300
_RANDOM_BYTES = 32


@attrs.frozen(kw_only=True)
class OAuthClient:
    """Who we are to the Hub.

    `authorize_url` is where browsers are sent; `redirect_uri` where they come back, byte for byte as the Hub knows it.
    """

    client_id: str
    secret: str = attrs.field(repr=False)
    authorize_url: str
    redirect_uri: str


@attrs.frozen
class Attempt:
    """A login that has begun: where it shall lead, and what proves that it is ours."""

    state: str
    verifier: str
    next_url: str

    @classmethod
    def begin(cls, next_url: str, random: Callable[[int], bytes]) -> Attempt:
        """A new one; `random` gives so many unguessable bytes."""
        return cls(_text(random(_RANDOM_BYTES)), _text(random(_RANDOM_BYTES)), next_url)

    @classmethod
    def from_content(cls, content: bytes) -> Attempt | None:
        """What `content` was made of; None if that was something else."""
        try:
            parts = json.loads(content)
        except ValueError:
            return None
        if not isinstance(parts, list) or len(parts) != 3 or not all(isinstance(part, str) for part in parts):
            return None
        return cls(*parts)

    @property
    def content(self) -> bytes:
        """For a cookie, to be sealed."""
        return json.dumps([self.state, self.verifier, self.next_url], separators=(",", ":")).encode()

    def location(self, client: OAuthClient) -> str:
        """Where the browser goes to log in (RFC 6749 §4.1.1, RFC 7636 §4.3)."""
        query = urlencode(
            {
                "client_id": client.client_id,
                "redirect_uri": client.redirect_uri,
                "response_type": "code",
                "code_challenge": _text(sha256(self.verifier.encode()).digest()),
                "code_challenge_method": "S256",
                "state": self.state,
            }
        )
        return f"{client.authorize_url}?{query}"


def _text(random: bytes) -> str:
    return urlsafe_b64encode(random).rstrip(b"=").decode()


@attrs.frozen
class Exchange:
    """The code has to be exchanged for a token; after that the browser goes to `attempt.next_url`."""

    attempt: Attempt
    code: str = attrs.field(repr=False)

    def form(self, client: OAuthClient) -> Mapping[str, str]:
        """What is posted to the token endpoint (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
        return {
            "grant_type": "authorization_code",
            "code": self.code,
            "client_id": client.client_id,
            "client_secret": client.secret,
            "redirect_uri": client.redirect_uri,
            "code_verifier": self.attempt.verifier,
        }


@attrs.frozen
class GoOn:
    """The browser is logged in already, as in a tab that was left open: it goes to `next_url`."""

    next_url: str


@attrs.frozen
class Refusal:
    """The login cannot go on; `description` is what the Hub said, for people, and not to be trusted."""

    status: int
    detail: str
    description: str = ""


def call_back(
    query: bytes,
    attempts: Iterable[Attempt],
    *,
    is_logged_in: bool,
    next_of: Callable[[str], str | None] = lambda _: None,
) -> Exchange | GoOn | Refusal:
    """What to do when the browser comes back with `query` (without its `?`) and the attempts in its cookies.

    State and cookie have to agree: without that anybody could log somebody else in as themselves. `next_of` knows where
    the attempts of other tabs led to, by their states.
    """
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    single = {name: values[0] for name, values in given.items() if len(values) == 1}
    if "error" in given:
        words = single.get("error_description") or single.get("error") or ""
        return Refusal(400, "the Hub refused the login", words[:_MAX_DESCRIPTION])
    code, state = single.get("code", ""), single.get("state", "")
    if not code or not state:
        return Refusal(400, f"the callback has no {'state' if code else 'code'}")
    own = list(attempts)
    found = next((attempt for attempt in own if attempt.state == state), None)
    if found is not None:
        return Exchange(found, code)
    if is_logged_in:
        return GoOn(next_of(state) or (own[0].next_url if len(own) == 1 else ""))
    return Refusal(403, "state does not match")
