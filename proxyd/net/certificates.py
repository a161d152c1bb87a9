"""Certificates and what OpenSSL makes of them: one context for clients of a listener, one for upstreams.

A context is never changed once it has been used. What changed on disk makes new contexts for the connections to come;
those that are there keep theirs.
"""

from __future__ import annotations

import os
import socket
import ssl
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from twisted.logger import Logger

from proxyd.errors import TlsError
from proxyd.model.tls import Certificate, ServerTlsSettings, UpstreamTlsSettings
from proxyd.option import FilePath

if TYPE_CHECKING:
    from datetime import datetime

_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
# What RFC 9325 §4.2 leaves of TLSv1.2: forward secrecy, and authenticated encryption.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!PSK:!SRP"
_CERTIFICATE_SUFFIXES = (".pem", ".crt")
# What the certificates of Let's Encrypt's clients are called; cert.pem beside them lacks the chain.
_CHAIN, _CHAIN_KEY = "fullchain.pem", "privkey.pem"
_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_BEGIN_KEY = b"PRIVATE KEY-----"

Signature = tuple[tuple[str, int, int, int], ...]
"""The files that a context was made from, with what changes when they do."""


@attrs.frozen
class Served:
    """One certificate of a listener: the lower-case DNS names that it is for, and when it ends."""

    file: str
    names: tuple[str, ...]
    ends: datetime


class ServerTls:
    """The server's side of TLS for the clients of a listener.

    `load` before anything else; `refresh` when the files may have changed.
    """

    _log = Logger()

    def __init__(self, settings: ServerTlsSettings) -> None:
        self._settings = settings
        self._signature: Signature = ()
        self._failed: Signature = ()
        self._context: ssl.SSLContext
        self.served: tuple[Served, ...] = ()

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """Take the socket of a client over."""
        return self._context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )

    def load(self) -> None:
        """Read all files.

        Raises `TlsError` about the first that cannot be used; what was loaded before stays then.
        """
        signature = self._look()
        contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        by_name: dict[str, ssl.SSLContext] = {}
        served = []
        for certificate in self._certificates():
            about = _describe(certificate.certificate)
            context = contexts.get(about.names)
            if context is None:  # the same names with a key of another type share a context: OpenSSL chooses
                context = contexts[about.names] = self._make_context()
            _use(context, certificate.certificate, certificate.key, certificate.passphrase)
            for name in about.names:
                by_name.setdefault(name, context)
            served.append(about)
        if not served:
            raise TlsError(", ".join(self._settings.certificate_directories), "there is no certificate with a key")
        self._context = next(iter(contexts.values()))
        if len(contexts) > 1:
            self._context.sni_callback = _chooser(by_name)  # type: ignore[assignment]  # typeshed wants an SSLObject
        self.served = tuple(served)
        self._signature = signature

    def leaves(self) -> frozenset[bytes]:
        """The certificates that clients may be shown, without their chains, in DER; nothing has to be loaded.

        Raises `TlsError`.
        """
        leaves = set()
        for certificate in self._certificates():
            with _reporting(certificate.certificate):
                text = Path(certificate.certificate).read_text()
                begin = text.index(ssl.PEM_HEADER)
                end = text.index(ssl.PEM_FOOTER, begin) + len(ssl.PEM_FOOTER)
                leaves.add(ssl.PEM_cert_to_DER_cert(text[begin:end]))
        return frozenset(leaves)

    def take(self, other: ServerTls) -> None:
        """Have what `other` has loaded, for the connections to come."""
        self._settings, self._context, self.served = other._settings, other._context, other.served
        self._signature, self._failed = other._signature, ()
        self._tell()

    def _tell(self) -> None:
        for about in self.served:
            names = " ".join(about.names) or "no name"
            self._log.info("certificate loaded: {file} for {names}", file=about.file, names=names)

    def refresh(self) -> None:
        """Load again what has changed; what cannot be used is logged, and changes nothing.

        A renewed certificate and its key are two files, and one comes first: it is tried again when the other has come.
        """
        signature = self._look()
        if signature in (self._signature, self._failed):
            return
        try:
            self.load()
        except TlsError as error:
            self._failed = signature
            self._log.error("certificates stay as they were: {error}", error=str(error))
            return
        self._failed = ()
        self._tell()

    def _certificates(self) -> Iterator[Certificate]:
        yield from self._settings.certificates
        for directory in self._settings.certificate_directories:
            yield from _found_in(Path(directory))

    def _look(self) -> Signature:
        settings = self._settings
        files = [str(path) for item in settings.certificates for path in (item.certificate, item.key) if path]
        files += [path for path in (settings.client_ca, settings.dhparam) if path]
        for directory in settings.certificate_directories:
            with suppress(TlsError):  # what is wrong with it is told when it is loaded
                for place in _places(Path(directory)):
                    files += sorted(str(path) for path in _files(place))
        return _signature(files)

    def _make_context(self) -> ssl.SSLContext:
        settings = self._settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # an operator who asks for TLSv1 knows
            context.minimum_version = _VERSIONS[settings.minimum_version]
            context.maximum_version = _VERSIONS[settings.maximum_version]
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.set_ciphers(settings.ciphers or _CIPHERS)
        except ssl.SSLError:
            raise TlsError(settings.ciphers, "there is no such cipher") from None
        if settings.dhparam:
            with _reporting(settings.dhparam):
                context.load_dh_params(settings.dhparam)
        if settings.client_certificates != "none":
            _trust(context, settings.client_ca)
            required = settings.client_certificates == "required"
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        return context


class ClientContexts:
    """The contexts of connections to upstreams, one for all with the same settings: making one takes 40 ms."""

    def __init__(self) -> None:
        self._contexts: dict[UpstreamTlsSettings, ssl.SSLContext] = {}

    def of(self, settings: UpstreamTlsSettings) -> ssl.SSLContext:
        """The context for these settings.

        Raises `TlsError` about a file that cannot be used.
        """
        context = self._contexts.get(settings)
        if context is None:
            context = self._contexts[settings] = client_context(settings)
        return context


class ClientTls:
    """The client's side of TLS for connections to one upstream.

    `host` is where the connections go; the certificate has to be for it unless `settings` name another one.
    """

    def __init__(self, contexts: ClientContexts, settings: UpstreamTlsSettings, host: str) -> None:
        self._contexts = contexts
        self._settings = settings
        self._host = settings.server_name or host.partition("%")[0]
        self._session: ssl.SSLSession | None = None

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """Take the socket of a connection over; resumes the last session.

        Raises `TlsError` when a file cannot be used, and `OSError` or `ValueError`.
        """
        context = self._contexts.of(self._settings)
        made = context.wrap_socket(
            sock, server_hostname=self._host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        if self._session is not None:
            made.session = self._session
        return made

    def remember(self, sock: ssl.SSLSocket) -> None:
        """Keep the session of a connection that ends, for the next one."""
        session = sock.session
        if session is not None and session.has_ticket:
            self._session = session


def client_context(settings: UpstreamTlsSettings) -> ssl.SSLContext:
    """What connections to upstreams with these settings are made from.

    Raises `TlsError` about a file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _trust(context, settings.ca or "")
    if settings.certificate or settings.key:
        _use(context, settings.certificate or settings.key or "", settings.key or "")
    return context


def _chooser(by_name: dict[str, ssl.SSLContext]) -> object:
    def choose(sock: ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if name:
            name = name.lower()
            context = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
            if context is not None:
                sock.context = context

    return choose


def _use(context: ssl.SSLContext, certificate: str, key: str, passphrase: str = "") -> None:
    with _reporting(certificate, key):
        try:
            # An empty passphrase, not none: OpenSSL would ask for it on the terminal.
            context.load_cert_chain(certificate, key or None, password=passphrase)
        except ssl.SSLError as error:
            if error.reason:
                raise
            # OpenSSL says nothing but `PEM lib`.
            if b"ENCRYPTED" not in Path(key or certificate).read_bytes():
                raise ValueError("that is no certificate with its key") from None
            words = "the passphrase is wrong" if passphrase else "the key has a passphrase, and none is given"
            raise ValueError(words) from None


def _trust(context: ssl.SSLContext, bundle: str) -> None:
    if bundle:
        with _reporting(bundle):
            context.load_verify_locations(bundle)
    else:
        context.load_default_certs()


@contextmanager
def _reporting(*files: str) -> Iterator[None]:
    """Turn what reading or OpenSSL raises into a `TlsError` about `files`."""
    try:
        yield
    except (OSError, ValueError) as error:
        words = error.reason.replace("_", " ") if isinstance(error, ssl.SSLError) and error.reason else None
        words = words or getattr(error, "strerror", None) or str(error)
        raise TlsError(" with ".join(dict.fromkeys(file for file in files if file)), words.lower()) from None


def _describe(file: str) -> Served:
    # Not before it is needed: it takes 30 ms to import.
    from cryptography import x509  # noqa: PLC0415

    with _reporting(file):
        certificate = x509.load_pem_x509_certificates(Path(file).read_bytes())[0]
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = [str(name.value) for name in common]
    ends = certificate.not_valid_after_utc
    return Served(str(file), tuple(sorted({name.lower() for name in names})), ends)


def _found_in(directory: Path) -> Iterator[Certificate]:
    """The certificates in a directory that have a key, in order of name."""
    for place in _places(directory):
        for file in sorted(_files(place)):
            if file.suffix not in _CERTIFICATE_SUFFIXES or file.name == _CHAIN_KEY:
                continue
            with _reporting(str(file)):
                content = file.read_bytes()
            key = file.with_name(_CHAIN_KEY) if file.name == _CHAIN else file.with_suffix(".key")
            if _BEGIN_CERTIFICATE not in content:
                continue
            if _BEGIN_KEY in content:
                yield Certificate(certificate=FilePath(str(file)))
            elif key.is_file():
                yield Certificate(certificate=FilePath(str(file)), key=FilePath(str(key)))


def _places(directory: Path) -> list[Path]:
    """The directory, and those in it that are not hidden, as the versions behind a Kubernetes volume are."""
    with _reporting(str(directory)):
        below = [path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return [directory, *sorted(below)]


def _files(place: Path) -> Iterator[Path]:
    with suppress(OSError):  # it went away between two looks, or is somebody else's
        yield from (path for path in place.iterdir() if path.is_file())


def _signature(files: Iterable[str]) -> Signature:
    found = []
    for file in files:
        try:
            status = os.stat(file)
        except OSError:
            found.append((file, 0, 0, 0))
        else:
            found.append((file, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
