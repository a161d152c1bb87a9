"""Autobahn's permessage-deflate, unpacking to the last byte or not at all."""

from __future__ import annotations

import zlib
from typing import Any

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from autobahn.websocket.compress import PerMessageDeflate

from proxyd.core.deflate import Deflate

# RFC 7692 §7.2.1: what the sender leaves out.
_TRAILER = b"\x00\x00\xff\xff"
_MEMORY_LEVEL = 5  # see core.deflate


class RelayDeflate(PerMessageDeflate):
    """What one side agreed on; `limit` is the most that a message may be when it is unpacked, 0 for any.

    Autobahn 26.10 takes a message that is a little longer than the limit for complete when zlib has read all of it,
    and drops what zlib still holds; after a block that says it is the last one, it takes every message for empty.
    """

    _decompressor: Any

    def __init__(self, deflate: Deflate, limit: int, *, is_server: bool) -> None:
        self._limit = limit
        self._left = 0
        super().__init__(
            is_server,
            deflate.server_no_context_takeover,
            deflate.client_no_context_takeover,
            deflate.server_max_window_bits,
            deflate.client_max_window_bits,
            _MEMORY_LEVEL,
        )

    def start_decompress_message(self) -> None:
        """A message begins."""
        super().start_decompress_message()
        self._left = self._limit

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        """Unpack a piece of a message.

        Raises `PayloadExceededError` and `PayloadCorruptError`. `max_output_len` does not count: it takes what is still
        packed for as long as it will be.
        """
        unpacked = self._unpack(data, self._left + 1 if self._limit else 0)
        self._left -= len(unpacked)
        if self._limit and self._left < 0:
            raise PayloadExceededError("longer than max_message_size")
        return unpacked

    def end_decompress_message(self) -> None:
        """The message is complete.

        Raises `PayloadCorruptError` if what was packed is not.
        """
        rest = self._unpack(_TRAILER, 1)
        if self._decompressor.eof:  # RFC 7692 §7.2.3.4; zlib ends there, and the next message has a new one
            rest = self._decompressor.unused_data.removesuffix(_TRAILER).strip(b"\x00")
            self._decompressor = None
        if rest:
            raise PayloadCorruptError("there is more behind the end")

    def _unpack(self, data: bytes, limit: int) -> bytes:
        try:
            unpacked: bytes = self._decompressor.decompress(data, limit)
        except zlib.error as error:
            raise PayloadCorruptError(str(error)) from None
        return unpacked
