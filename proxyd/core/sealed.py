"""Sealed text: encrypted and authenticated, for cookies. Who holds it can neither read nor change nor prolong it."""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE = 12  # NIST SP 800-38D §8.2.2: random nonces of 96 bits do for 2**32 messages under one key
_TIME = 8
_TAG = 16
# Browsers keep no larger cookies (RFC 6265 §6.1); nothing longer is worth a try.
_MAX_SEALED = 4096


class Sealer:
    """Seals under a key that is derived from `secret` for one purpose.

    Whatever else changes one of the words of `purpose` makes everything that was sealed before worthless.
    """

    def __init__(self, secret: bytes, *purpose: bytes, random: Callable[[int], bytes] = os.urandom) -> None:
        info = b"".join(b"%d:%b" % (len(word), word) for word in (b"proxyd sealed", *purpose))
        self._cipher = AESGCM(HKDF(SHA256(), 32, None, info).derive(secret))
        self._random = random

    def seal(self, content: bytes, expires: float) -> bytes:
        """Seal `content` until the time `expires`, in seconds since the epoch; fits a cookie, a URL and a field."""
        nonce = self._random(_NONCE)
        sealed = self._cipher.encrypt(nonce, int(expires).to_bytes(_TIME, "big") + content, None)
        return urlsafe_b64encode(nonce + sealed).rstrip(b"=")

    def unseal(self, sealed: bytes, now: float) -> bytes | None:
        """What was sealed; None if it was not sealed so, or not until `now`."""
        if len(sealed) > _MAX_SEALED:
            return None
        try:
            raw = urlsafe_b64decode(sealed + b"=" * (-len(sealed) % 4))
            if len(raw) < _NONCE + _TIME + _TAG:
                return None
            content = self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], None)
        except (ValueError, InvalidTag):
            return None
        if int.from_bytes(content[:_TIME], "big") <= now:
            return None
        return content[_TIME:]
