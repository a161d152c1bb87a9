"""Certificates for tests: an authority that issues them into files."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import attrs
import trustme

from proxyd.model.tls import Certificate
from proxyd.option import FilePath


@attrs.frozen
class Issued:
    """The two files of a certificate: with its chain, and its key."""

    certificate: Path
    key: Path

    @property
    def option(self) -> Certificate:
        """As the configuration has it."""
        return Certificate(certificate=FilePath(str(self.certificate)), key=FilePath(str(self.key)))


class Authority:
    """Issues certificates into `directory`; its own is in `file` there."""

    def __init__(self, directory: str | Path, name: str = "ca") -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._ca = trustme.CA()
        self.file = self.directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, file: str = "", rsa: bool = False, ends: datetime | None = None) -> Issued:
        """A certificate for host names or addresses, in `file`.pem and `file`.key."""
        issued = Issued(self.directory / f"{file or names[0]}.pem", self.directory / f"{file or names[0]}.key")
        kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        made = self._ca.issue_cert(*names, not_after=ends or datetime(2099, 1, 1, tzinfo=UTC), key_type=kind)
        issued.certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        made.private_key_pem.write_to_path(issued.key)
        return issued

    def client_context(self, own: Issued | None = None) -> ssl.SSLContext:
        """What a client that trusts this authority connects with, showing its `own` certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.file))
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        return context

    def server_context(self, own: Issued, *, asks: bool = False) -> ssl.SSLContext:
        """What a server with its `own` certificate accepts with; `asks`: clients need one of this authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.file) if asks else None)
        context.load_cert_chain(own.certificate, own.key)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
        return context
