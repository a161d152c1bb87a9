"""What a user may say about the relay of a route: `websocket: {kind: relay, ...}`."""

from __future__ import annotations

from typing import Literal

import attrs

from proxyd.errors import OptionError
from proxyd.option import ByteCount, Seconds, option


@attrs.frozen(kw_only=True)
class RelaySettings:
    """A relay reads each message and sends it on; an option that is not given comes from `route_defaults`."""

    kind: Literal["relay"] = attrs.field(metadata={"help": "Takes part in the WebSocket: `relay`."})
    max_message_size: ByteCount | None = option(
        None, help="A message of either side, as it is when unpacked, 0 for any: else 1009."
    )
    max_frame_size: ByteCount | None = option(None, help="One frame of a message, 0 for any: else 1009.")
    ping_interval: Seconds | None = option(None, help="Silence of a side before it is asked with a ping; 0 for never.")
    ping_timeout: Seconds | None = option(
        None, help="Silence after that ping before the side counts as lost; 0 for any."
    )
    close_timeout: Seconds | None = option(None, help="Until a side answers a close, and ends its connection.")
    compression: bool | None = option(
        None, help="Offer permessage-deflate to the upstream, and accept it from the client, each for itself."
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what would wait for ever.

        Raises `OptionError`.
        """
        if self.close_timeout is not None and not self.close_timeout:
            raise OptionError("a side that never answers a close would be waited for in vain", "close_timeout")


DEFAULT_RELAY = RelaySettings(
    kind="relay",
    max_message_size=ByteCount(10 * 1024 * 1024),
    max_frame_size=ByteCount(0),
    ping_interval=Seconds(30),
    ping_timeout=Seconds(30),
    close_timeout=Seconds(10),
    compression=True,
)
"""What holds for a relay when neither the route nor `route_defaults` says anything."""
