from typing import TypeVar

Head = TypeVar("Head")

def read_request(kind: type[Head], block: bytes, limits: tuple[int, int, int, int], /) -> Head | None: ...
def read_response(kind: type[Head], block: bytes, /) -> Head | None: ...
def plain_target(target: bytes, /) -> tuple[bytes, bytes, tuple[str, ...]] | None: ...
def combined_line(
    address: bytes,
    user: str,
    stamp: str,
    method: bytes,
    target: bytes,
    version: int,
    status: int,
    sent: int,
    referer: bytes,
    user_agent: bytes,
    seconds: float,
    request_id: str,
    /,
) -> str | None: ...
