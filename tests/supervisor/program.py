"""The program of the tests: a server in one file, which starts fast and misbehaves as it is told.

    program.py [OPTION...] PORT-OR-SOCKET

A request for `/exit/N` ends it with that status, `/kill` by SIGKILL; all others are answered with `PID VARIABLE...`.
"""

import os
import signal
import socket
import sys
import time


def main() -> None:
    *options, place = sys.argv[1:]
    print("hello from", place, flush=True)
    status = "200 OK"
    for option in options:
        name, _, value = option.partition("=")
        if name == "--count":  # appends a line to the file, and goes on at the line that is named
            path, _, wanted = value.partition(":")
            with open(path, "a+") as file:
                file.write(f"{time.time()} {place}\n")
                file.seek(0)
                if wanted and len(file.readlines()) < int(wanted):
                    sys.exit(3)
        elif name == "--exit":
            sys.exit(int(value))
        elif name == "--print":
            print(value, file=sys.stderr, flush=True)
        elif name == "--sleep":
            time.sleep(float(value))
        elif name == "--status":
            status = value
        elif name == "--ignore-signals":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        elif name == "--note-signals":

            def note(number: int, _: object, path: str = value) -> None:
                with open(path, "a") as file:
                    file.write(f"{signal.Signals(number).name}\n")
                os._exit(0)

            signal.signal(signal.SIGTERM, note)
            signal.signal(signal.SIGINT, note)
        elif name == "--grandchild" and os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if value == "escape":
                os.setsid()
            time.sleep(600)
            os._exit(0)
    listener = socket.socket(socket.AF_UNIX if "/" in place else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(place if "/" in place else ("127.0.0.1", int(place)))
    listener.listen(50)
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        if "--mute" in options:
            time.sleep(600)
        request = connection.recv(65536).split(b" ")
        path = request[1].decode() if len(request) > 1 else ""
        if path.startswith("/exit/"):
            os._exit(int(path[6:]))
        if path == "/kill":
            os.kill(os.getpid(), signal.SIGKILL)
        body = f"{os.getpid()} {os.environ.get('SAID', '')}"
        connection.sendall(f"HTTP/1.0 {status}\r\nX-Path: {path}\r\n\r\n{body}".encode())
        connection.close()


main()
