"""What a user may say about TLS: as a server towards clients, and as a client towards upstreams."""

from __future__ import annotations

from typing import Literal

import attrs

from proxyd.errors import OptionError
from proxyd.option import FilePath, Secret, option

Version = Literal["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]


@attrs.frozen(kw_only=True)
class Certificate:
    """A certificate with its key, both PEM."""

    certificate: FilePath = attrs.field(metadata={"help": "File of the certificate, with its chain behind it."})
    key: FilePath = option(FilePath(""), help="File of the private key; default: the certificate's file holds it, too.")
    passphrase: Secret = option(Secret(""), help="Passphrase of the key.")


# Not slotted, because listeners inherit from it beside their own options.
@attrs.frozen(kw_only=True, slots=False)
class ServerTlsSettings:
    """TLS towards clients. Files are read again when they change, and on SIGHUP."""

    certificates: tuple[Certificate, ...] = option(
        (), help="Certificates; the name that a client asks for chooses (SNI), and the first is for everyone else."
    )
    certificate_directories: tuple[FilePath, ...] = option(
        (),
        help="Directories of certificates, each with its key in NAME.key, privkey.pem or tls.key beside it or in "
        "the same file; directories one level below count, too, as in /etc/letsencrypt/live.",
    )
    client_ca: FilePath = option(
        FilePath(""), help="Bundle of the authorities of client certificates; default: those of the system."
    )
    client_certificates: Literal["none", "optional", "required"] = option(
        "none", help="Whether clients are asked for a certificate; one that cannot be verified is refused."
    )
    minimum_version: Version = option("TLSv1.2", help="The oldest version that is spoken.")
    maximum_version: Version = option("TLSv1.3", help="The newest version that is spoken.")
    ciphers: str = option(
        "", help="Ciphers up to TLSv1.2 in OpenSSL's syntax; default: those with forward secrecy and authentication."
    )
    dhparam: FilePath = option(FilePath(""), help="File of Diffie-Hellman parameters; default: no such ciphers.")

    def __attrs_post_init__(self) -> None:
        """Check what belongs together.

        Raises `OptionError`.
        """
        if not self.certificates and not self.certificate_directories:
            raise OptionError("there is neither a certificate nor a directory of them", "certificates")
        if self.minimum_version > self.maximum_version:
            raise OptionError("is above maximum_version", "minimum_version")
        if self.client_ca and self.client_certificates == "none":
            raise OptionError("nobody is asked for a certificate: `client_certificates` is none", "client_ca")


@attrs.frozen(kw_only=True)
class UpstreamTlsSettings:
    """TLS towards upstreams whose URL is `https://`."""

    ca: FilePath | None = option(None, help="Bundle of trusted authorities; default: those of the system.")
    certificate: FilePath | None = option(None, help="Certificate to show when the upstream asks for one.")
    key: FilePath | None = option(None, help="Its private key; default: the certificate's file holds it, too.")
    server_name: str | None = option(
        None,
        help="Name that the upstream's certificate has to be for; default: the host of its URL.",
        example="app.example.org",
    )
    verify: bool | None = option(None, help="Whether the upstream's certificate is verified.")
