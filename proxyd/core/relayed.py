"""The two handshakes of a relay (RFC 6455 §4): each side's extensions are agreed on with that side alone."""

from __future__ import annotations

import re

from proxyd.core.deflate import OFFER, Deflate, accept, read_answer
from proxyd.core.head import RequestHead, ResponseHead, without_names
from proxyd.errors import RequestError

# RFC 6455 §4.2.1: 16 bytes in base64.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_EXTENSIONS = b"sec-websocket-extensions"
_WITHOUT_EXTENSIONS = frozenset({_EXTENSIONS})
# RFC 6455 §4.2.2 asks for the version, RFC 9110 §15.5.22 for the Upgrade.
_SPOKEN = (b"Sec-WebSocket-Version: 13", b"Upgrade: websocket", b"Connection: Upgrade")


class RelayHandshake:
    """Both handshakes of one relay; `client` and `upstream` are what was agreed with them on compression.

    Takes the extensions out of `head`, a handshake, and puts the relay's own offer in if it `compresses`. Raises
    `RequestError` for a handshake that the relay cannot answer for itself.
    """

    def __init__(self, head: RequestHead, *, compresses: bool) -> None:
        if head.get_all(b"sec-websocket-version") != [b"13"]:
            raise RequestError(426, "the version of the WebSocket protocol is not 13", _SPOKEN)
        keys = head.get_all(b"sec-websocket-key")
        if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
            raise RequestError(400, "Sec-WebSocket-Key is not 16 bytes in base64")
        self.client: Deflate | None = None
        self.upstream: Deflate | None = None
        self._compresses = compresses
        self._accepted = accept(head.get_all(_EXTENSIONS)) if compresses else None
        fields = without_names(head.fields, _WITHOUT_EXTENSIONS)
        if compresses:
            fields.append(b"Sec-WebSocket-Extensions: " + OFFER)
        head.fields = fields

    def agree(self, head: ResponseHead) -> None:
        """Take what the upstream agreed to out of `head`, its 101, and put in what the client gets.

        Raises `ExtensionError`.
        """
        self.upstream = read_answer(head.get_all(_EXTENSIONS), offered=self._compresses)
        fields = without_names(head.fields, _WITHOUT_EXTENSIONS)
        if self._accepted is not None:
            self.client, answer = self._accepted
            fields.append(b"Sec-WebSocket-Extensions: " + answer)
        head.fields = fields
