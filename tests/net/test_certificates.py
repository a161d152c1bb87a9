"""Tests of `proxyd.net.certificates`."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import TlsError
from proxyd.model.tls import Certificate, ServerTlsSettings, UpstreamTlsSettings
from proxyd.net.certificates import ClientContexts, ServerTls, client_context
from proxyd.option import FilePath, Secret
from tests.certificates import Authority, Issued

# The group of RFC 7919 Appendix A.1: to find one of our own takes a minute.
FFDHE2048 = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


def path(file: Path) -> FilePath:
    """As the configuration has it."""
    return FilePath(str(file))


class CertificateCase(SynchronousTestCase):
    """Has an authority, and shakes hands in memory."""

    def setUp(self) -> None:
        self.authority = Authority(self.mktemp())
        self.directory = self.authority.directory

    def load(self, *certificates: Issued, **settings: Any) -> ServerTls:
        """The server's side, loaded."""
        tls = ServerTls(ServerTlsSettings(certificates=tuple(item.option for item in certificates), **settings))
        tls.load()
        return tls

    def shake(self, tls: ServerTls, name: str = "localhost", context: ssl.SSLContext | None = None) -> dict[str, Any]:
        """The certificate that a client who asks for `name` gets, and what was agreed on.

        Raises `ssl.SSLError` of whichever side fails.
        """
        context = context or self.authority.client_context()
        ours, theirs = socket.socketpair()
        failures: list[Exception] = []

        def serve() -> None:
            try:
                server = tls.wrap(ours)
                server.do_handshake()
                server.send(b"x")
                server.close()
            except OSError as error:
                failures.append(error)
                ours.close()

        thread = Thread(target=serve)
        thread.start()
        try:
            theirs.settimeout(10)
            with context.wrap_socket(theirs, server_hostname=name) as client:
                client.recv(1)
                certificate: Any = client.getpeercert()
                names = {value for kind, value in certificate["subjectAltName"] if kind == "DNS"}
                agreed = {"names": names, "cipher": client.cipher(), "version": client.version()}
                agreed["protocol"] = client.selected_alpn_protocol()
        finally:
            theirs.close()
            thread.join(10)
        if failures:
            raise failures[0]
        return agreed

    def assert_unusable(self, words: str, **settings: Any) -> None:
        """Loading fails, and says what about."""
        with self.assertRaises(TlsError) as caught:
            ServerTls(ServerTlsSettings(**settings)).load()
        self.assertIn(words, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))


class ServerTlsTests(CertificateCase):
    """`ServerTls`."""

    def test_the_name_that_is_asked_for_chooses(self) -> None:
        """Exactly, by a wildcard, in any case; the first certificate is for every other name, and for none."""
        one, two = self.authority.issue("localhost"), self.authority.issue("*.example.org", "example.org", file="two")
        tls = self.load(one, two)
        context = self.authority.client_context()
        context.check_hostname = False
        for name, expected in (
            ("localhost", "localhost"),
            ("example.org", "example.org"),
            ("A.Example.ORG", "example.org"),
            ("a.b.example.org", "localhost"),
            ("other.test", "localhost"),
            ("", "localhost"),
        ):
            with self.subTest(name=name):
                found = self.shake(tls, name or None, context)["names"]  # type: ignore[arg-type]
                self.assertIn(expected, found)

    def test_a_key_of_another_type_for_the_same_names(self) -> None:
        """Old clients get the RSA one, the others the smaller one."""
        tls = self.load(self.authority.issue("localhost", file="rsa", rsa=True), self.authority.issue("localhost"))
        old = self.authority.client_context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        self.assertEqual("ECDHE-RSA-AES128-GCM-SHA256", self.shake(tls, context=old)["cipher"][0])
        old.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        self.assertEqual("ECDHE-ECDSA-AES128-GCM-SHA256", self.shake(tls, context=old)["cipher"][0])

    def test_versions(self) -> None:
        """TLSv1.2 and later, or as configured."""
        issued = self.authority.issue("localhost")
        context = self.authority.client_context()
        self.assertEqual("TLSv1.3", self.shake(self.load(issued))["version"])
        self.assertEqual("TLSv1.2", self.shake(self.load(issued, maximum_version="TLSv1.2"))["version"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertEqual("TLSv1.2", self.shake(self.load(issued), context=context)["version"])
        with self.assertRaises(ssl.SSLError):
            self.shake(self.load(issued, minimum_version="TLSv1.3"), context=context)

    def test_ciphers(self) -> None:
        """Those with forward secrecy and authentication; or as configured, in our order."""
        issued = self.authority.issue("localhost", rsa=True)
        context = self.authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        for weak in ("AES128-SHA", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA"):
            context.set_ciphers(weak)
            with self.assertRaises(ssl.SSLError):
                self.shake(self.load(issued), context=context)
        self.assertEqual("AES128-GCM-SHA256", self.offered(issued, "AES128-GCM-SHA256"))
        one, two = "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"
        for first, second in ((one, two), (two, one)):
            self.assertEqual(first, self.offered(issued, f"{first}:{second}", f"{second}:{first}"))
        self.assert_unusable("no-such-cipher", certificates=(issued.option,), ciphers="no-such-cipher")

    def offered(self, issued: Issued, ciphers: str, wanted: str = "ALL") -> str:
        """The cipher of TLSv1.2 that a client gets."""
        context = self.authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(wanted)
        return str(self.shake(self.load(issued, ciphers=ciphers), context=context)["cipher"][0])

    def test_the_protocol_is_http_1_1(self) -> None:
        """Also for a client that would rather speak another one (RFC 7301)."""
        context = self.authority.client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        self.assertEqual(
            "http/1.1", self.shake(self.load(self.authority.issue("localhost")), context=context)["protocol"]
        )

    def test_client_certificates(self) -> None:
        """None is asked for, one is verified if it comes, or one is required."""
        issued = self.authority.issue("localhost")
        known = self.authority.client_context(self.authority.issue("client"))
        strangers = Authority(self.mktemp())
        unknown = self.authority.client_context(strangers.issue("stranger"))
        without = self.authority.client_context()
        ca = path(self.authority.file)
        for mode, welcome in (
            ("none", (known, unknown, without)),
            ("optional", (known, without)),
            ("required", (known,)),
        ):
            tls = self.load(issued, client_ca=FilePath("") if mode == "none" else ca, client_certificates=mode)
            for context in (known, unknown, without):
                with self.subTest(mode=mode):
                    if context in welcome:
                        self.shake(tls, context=context)
                    else:
                        self.assertRaises((ssl.SSLError, ConnectionError), self.shake, tls, context=context)

    def test_an_authority_of_the_system_may_be_meant(self) -> None:
        """Without a bundle, those of the system count."""
        tls = self.load(self.authority.issue("localhost"), client_certificates="required")
        own = self.authority.client_context(self.authority.issue("client"))
        self.assertRaises((ssl.SSLError, ConnectionError), self.shake, tls, context=own)

    def test_a_passphrase(self) -> None:
        """It opens the key; without it, or with another one, nobody is asked on the terminal."""
        issued = self.authority.issue("localhost")
        locked = self.directory / "locked.key"
        key = load_pem_private_key(issued.key.read_bytes(), None)
        form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
        locked.write_bytes(key.private_bytes(*form))

        def option(passphrase: str) -> Certificate:
            return Certificate(certificate=path(issued.certificate), key=path(locked), passphrase=Secret(passphrase))

        ServerTls(ServerTlsSettings(certificates=(option("sesame"),))).load()
        for wrong, words in (("", "has a passphrase, and none is given"), ("sesam", "the passphrase is wrong")):
            self.assert_unusable(words, certificates=(option(wrong),))
        not_a_key = Certificate(certificate=path(issued.certificate), key=path(issued.certificate))
        self.assert_unusable("no certificate with its key", certificates=(not_a_key,))

    def test_both_in_one_file(self) -> None:
        """The key may stand behind the certificate."""
        issued = self.authority.issue("localhost")
        both = self.directory / "both.pem"
        both.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
        tls = ServerTls(ServerTlsSettings(certificates=(Certificate(certificate=path(both)),)))
        tls.load()
        self.shake(tls)

    def test_diffie_hellman_parameters(self) -> None:
        """They bring ciphers that there are not without them."""
        issued = self.authority.issue("localhost", rsa=True)
        parameters = self.directory / "dh.pem"
        parameters.write_text(FFDHE2048)
        context = self.authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("DHE-RSA-AES128-GCM-SHA256")
        found = self.shake(self.load(issued, dhparam=path(parameters)), context=context)["cipher"][0]
        self.assertEqual("DHE-RSA-AES128-GCM-SHA256", found)
        self.assert_unusable("no-such-file", certificates=(issued.option,), dhparam="no-such-file")

    def test_files_that_cannot_be_used(self) -> None:
        """Each is named, with what is wrong with it, in one line."""
        one, two = self.authority.issue("localhost"), self.authority.issue("example.org")
        garbage = self.directory / "garbage.pem"
        garbage.write_text("garbage")
        absent = Certificate(certificate=path(self.directory / "absent.pem"))
        mixed = Certificate(certificate=path(one.certificate), key=path(two.key))
        for words, option in (
            ("absent.pem: no such file", absent),
            ("garbage.pem", Certificate(certificate=path(garbage))),
            ("example.org.key: key values mismatch", mixed),
            ("localhost.pem", Certificate(certificate=path(one.certificate))),
        ):
            self.assert_unusable(words, certificates=(option,))
        for name in ("absent.pem", "garbage.pem"):
            self.assert_unusable(
                name,
                certificates=(one.option,),
                client_certificates="required",
                client_ca=path(self.directory / name),
            )

    def test_what_is_served_is_known(self) -> None:
        """Names and end of each certificate, for those who watch over them."""
        ends = datetime(2031, 5, 17, 12, 0, 0, tzinfo=UTC)
        tls = self.load(self.authority.issue("B.example.org", "a.example.org", ends=ends))
        (served,) = tls.served
        self.assertEqual((("a.example.org", "b.example.org"), ends), (served.names, served.ends))


class DirectoryTests(CertificateCase):
    """Directories of certificates."""

    def setUp(self) -> None:
        super().setUp()
        self.place = Path(self.mktemp())
        self.place.mkdir()

    def found(self) -> list[tuple[str, ...]]:
        tls = ServerTls(ServerTlsSettings(certificate_directories=(path(self.place),)))
        tls.load()
        return [about.names for about in tls.served]

    def test_of_lets_encrypt(self) -> None:
        """A directory for each name, and in it the chain, its key, and parts of them that do not count."""
        for name in ("a.test", "b.test"):
            live = self.place / name
            live.mkdir()
            issued = self.authority.issue(name)
            shutil.copy(issued.certificate, live / "fullchain.pem")
            shutil.copy(issued.certificate, live / "cert.pem")
            shutil.copy(self.authority.file, live / "chain.pem")
            shutil.copy(issued.key, live / "privkey.pem")
        (self.place / "README").write_text("hello")
        self.assertEqual([("a.test",), ("b.test",)], self.found())

    def test_of_kubernetes(self) -> None:
        """A mounted secret: links to hidden directories that are replaced as a whole."""
        issued = self.authority.issue("a.test")
        version = self.place / "..2026_11_20"
        version.mkdir()
        shutil.copy(issued.certificate, version / "tls.crt")
        shutil.copy(issued.key, version / "tls.key")
        shutil.copy(self.authority.file, version / "ca.crt")
        (self.place / "..data").symlink_to(version.name)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (self.place / name).symlink_to(f"..data/{name}")
        self.assertEqual([("a.test",)], self.found())

    def test_of_pairs_and_of_files_with_both(self) -> None:
        """In order of name; a certificate without a key is somebody else's."""
        for name in ("b.test", "a.test", "c.test"):
            issued = self.authority.issue(name)
            shutil.copy(issued.certificate, self.place / f"{name}.crt")
            if name == "b.test":
                (self.place / f"{name}.crt").write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
            if name == "a.test":
                shutil.copy(issued.key, self.place / f"{name}.key")
        self.assertEqual([("a.test",), ("b.test",)], self.found())

    def test_none(self) -> None:
        """A directory without any, or none at all, is no reason to start without TLS."""
        self.assert_unusable("there is no certificate with a key", certificate_directories=(path(self.place),))
        absent = self.place / "absent"
        self.assert_unusable("absent: no such file", certificate_directories=(path(absent),))


class RefreshTests(CertificateCase):
    """What happens when files change."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def errors(self) -> list[str]:
        return [formatEvent(event) for event in self.events if event["log_level"] is LogLevel.error]

    def renew(self, issued: Issued, *names: str) -> None:
        """Put another certificate in the place of one; its files get other times of change."""
        renewed = self.authority.issue(*names, file="renewed")
        for old, new in ((issued.certificate, renewed.certificate), (issued.key, renewed.key)):
            os.replace(new, old)

    def test_what_has_changed_is_loaded(self) -> None:
        """For the connections to come; nothing is done when nothing has changed."""
        issued = self.authority.issue("localhost")
        tls = self.load(issued)
        before = tls.served
        tls.refresh()
        self.assertIs(before, tls.served)
        self.renew(issued, "localhost", "renewed.test")
        self.assertEqual({"localhost"}, self.shake(tls)["names"])
        tls.refresh()
        self.assertEqual({"localhost", "renewed.test"}, self.shake(tls)["names"])
        self.assertEqual([], self.errors())

    def test_what_another_one_has_loaded_is_taken(self) -> None:
        """With its settings: what is looked at from then on are its files."""
        tls = self.load(self.authority.issue("localhost"))
        issued = self.authority.issue("other.test")
        tls.take(self.load(issued))
        self.assertEqual({"other.test"}, self.shake(tls, "other.test")["names"])
        self.renew(issued, "other.test", "renewed.test")
        tls.refresh()
        self.assertEqual({"other.test", "renewed.test"}, self.shake(tls, "other.test")["names"])
        self.assertEqual([], self.errors())

    def test_a_key_that_comes_later(self) -> None:
        """The old certificate stays until both are there; it is said once."""
        issued = self.authority.issue("localhost")
        tls = self.load(issued)
        renewed = self.authority.issue("localhost", "renewed.test", file="renewed")
        os.replace(renewed.certificate, issued.certificate)
        for _ in range(3):
            tls.refresh()
        self.assertEqual({"localhost"}, self.shake(tls)["names"])
        (error,) = self.errors()
        self.assertIn("certificates stay as they were", error)
        self.assertIn("key values mismatch", error)
        os.replace(renewed.key, issued.key)
        tls.refresh()
        self.assertEqual({"localhost", "renewed.test"}, self.shake(tls)["names"])

    def test_files_that_vanish(self) -> None:
        """What is loaded stays; also when a directory goes."""
        place = self.directory / "live"
        place.mkdir()
        issued = self.authority.issue("localhost", file="live/localhost")
        tls = ServerTls(ServerTlsSettings(certificate_directories=(path(place),)))
        tls.load()
        os.unlink(issued.key)
        tls.refresh()
        shutil.rmtree(place)
        tls.refresh()
        self.assertEqual({"localhost"}, self.shake(tls)["names"])
        self.assertEqual(2, len(self.errors()))

    def test_certificates_that_come(self) -> None:
        """A directory is watched for new ones."""
        place = self.directory / "live"
        place.mkdir()
        self.authority.issue("localhost", file="live/a")
        tls = ServerTls(ServerTlsSettings(certificate_directories=(path(place),)))
        tls.load()
        self.authority.issue("new.test", file="live/b")
        tls.refresh()
        self.assertEqual({"new.test"}, self.shake(tls, "new.test")["names"])


class ClientContextTests(CertificateCase):
    """`client_context` and `ClientContexts`; connections are tested in `test_tls`."""

    def test_verification_is_the_default(self) -> None:
        """Of authority and host; it takes a word to switch it off."""
        context = client_context(UpstreamTlsSettings())
        self.assertEqual((ssl.CERT_REQUIRED, True), (context.verify_mode, context.check_hostname))
        context = client_context(UpstreamTlsSettings(verify=False))
        self.assertEqual((ssl.CERT_NONE, False), (context.verify_mode, context.check_hostname))

    def test_nothing_older_than_tls_1_2(self) -> None:
        """An upstream cannot talk us down."""
        self.assertEqual(ssl.TLSVersion.TLSv1_2, client_context(UpstreamTlsSettings()).minimum_version)

    def test_own_certificate_and_key(self) -> None:
        """Each alone may hold both; an unusable one is named."""
        issued = self.authority.issue("client")
        both = self.directory / "both.pem"
        both.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
        for settings in (
            UpstreamTlsSettings(certificate=path(issued.certificate), key=path(issued.key)),
            UpstreamTlsSettings(certificate=path(both)),
            UpstreamTlsSettings(key=path(both)),
        ):
            client_context(settings)
        with self.assertRaises(TlsError) as caught:
            client_context(UpstreamTlsSettings(certificate=path(issued.certificate)))
        self.assertIn("client.pem", str(caught.exception))

    def test_contexts_are_shared(self) -> None:
        """By all with the same settings."""
        contexts = ClientContexts()
        settings = UpstreamTlsSettings(ca=path(self.authority.file))
        one = contexts.of(settings)
        self.assertIs(one, contexts.of(UpstreamTlsSettings(ca=path(self.authority.file))))
        self.assertIsNot(one, contexts.of(UpstreamTlsSettings()))
