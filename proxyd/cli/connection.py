"""A connection to the API of the proxy that runs, as the configuration describes it."""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPConnection

from proxyd.errors import TlsError
from proxyd.model.settings import ApiSettings
from proxyd.model.tls import ServerTlsSettings
from proxyd.net.certificates import ServerTls

_CONNECT_SECONDS = 10.0
_LOOPBACK = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def place_of(api: ApiSettings) -> str:
    """Where the API can be reached from here, for people."""
    return api.socket or f"{_address(api)}:{api.port}"


def connect(api: ApiSettings, seconds: float | None) -> HTTPConnection:
    """A connection to the API, over TLS with nobody but the owner of one of its certificates.

    An answer may take `seconds`. Raises `OSError` and `TlsError`.
    """
    address = _address(api)
    connection = HTTPConnection(address, api.port)
    if api.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_CONNECT_SECONDS)
        sock.connect(api.socket)
    else:
        sock = socket.create_connection((address, api.port), _CONNECT_SECONDS)
    connection.sock = _secured(sock, api.tls) if api.tls is not None else sock
    connection.sock.settimeout(seconds)
    return connection


def words_of(error: Exception, api: ApiSettings) -> str:
    """Why the API cannot be asked; OpenSSL does not say who lacks which certificate."""
    words = str(error)
    is_cut = isinstance(error, (ssl.SSLError, ConnectionResetError, BrokenPipeError))
    if is_cut and api.tls is not None and api.tls.client_certificates == "required":
        words += "; it wants a certificate of its clients, and this command has none"
    return words


def _address(api: ApiSettings) -> str:
    return _LOOPBACK.get(api.address, api.address)


def _secured(sock: socket.socket, tls: ServerTlsSettings) -> ssl.SSLSocket:
    """TLS with the owner of one of the certificates of `tls`.

    They are in our hands, and compared as a whole: whom they are for, and who has issued them, tells nothing more.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    secure = context.wrap_socket(sock)
    if secure.getpeercert(binary_form=True) not in ServerTls(tls).leaves():
        secure.close()
        raise TlsError("the API", "shows another certificate than the configuration has")
    return secure
