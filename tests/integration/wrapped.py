"""An application to be wrapped: tells in JSON what it was started with and what it is asked, and echoes WebSockets.

It listens at `--port=N`, `--server.port N`, `--socket=PATH` or, without any of them, at its last word.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve, unix_serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol


def place() -> str:
    """Where to listen: a port or a path."""
    words = sys.argv[1:]
    for index, word in enumerate(words):
        if word.startswith(("--port=", "--socket=")):
            return word.partition("=")[2]
        if word == "--server.port":
            return words[index + 1]
    return words[-1]


async def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Answer everything but WebSockets."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return None
    url = urlsplit(request.path)
    query = parse_qs(url.query)
    if url.path == "/end":
        os._exit(int(query["status"][0]))
    if url.path == "/hang":
        await asyncio.sleep(3600)
    if url.path == "/flood":
        threading.Thread(target=flood, args=(int(query["lines"][0]),), daemon=True).start()
    if url.path == "/go":
        headers = Headers({"Location": "/elsewhere", "Content-Length": "0"})
        return Response(302, "Found", headers, b"")
    told: dict[str, Any] = {
        "path": request.path,
        "headers": list(request.headers.raw_items()),
        "argv": sys.argv[1:],
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "pid": os.getpid(),
    }
    response = connection.respond(HTTPStatus.OK, json.dumps(told))
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response


def flood(lines: int) -> None:
    """Print very much, and then that it is over."""
    for _ in range(lines):
        print("x" * 100)
    print("the flood is over", file=sys.stderr, flush=True)


def choose(_: ServerConnection, offers: Sequence[Subprotocol]) -> Subprotocol | None:
    """Not the first one."""
    return offers[-1] if offers else None


async def echo(connection: ServerConnection) -> None:
    """Send what was asked for first, and then everything back."""
    request = connection.request
    if request is not None:
        await connection.send(json.dumps({"path": request.path, "headers": list(request.headers.raw_items())}))
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    """Serve for ever."""
    print("said on the output", flush=True)
    print("said on the error output", file=sys.stderr, flush=True)
    if "--tell-token" in sys.argv:
        print("the token is", os.environ["JUPYTERHUB_API_TOKEN"], flush=True)
    if "--talkative" in sys.argv:
        flood(20_000)
    if "--stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "--broken" in sys.argv:
        print("it is broken", file=sys.stderr, flush=True)
        sys.exit(3)
    if "--slow" in sys.argv:
        time.sleep(1.5)
    where = place()
    if where.isdigit():
        server: Any = serve(echo, "127.0.0.1", int(where), process_request=answer, select_subprotocol=choose)
    else:
        server = unix_serve(echo, where, process_request=answer)
    async with server:
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
