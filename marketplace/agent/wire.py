"""How a prover is reached off this machine: TLS, its own certificate, and the machine key's word for it.

A prover that listens off loopback speaks TLS. It makes a certificate of its own when it is given none; no authority
signs that one, so whoever measures pins its SHA-256, which the machine signs with its enrolled key. Another certificate
serves as well (`--certificate`), and so does a proxy in front that ends TLS, with `GROVE_PLAIN_HTTP=1` behind it.
"""

import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from marketplace.agent import clock
from marketplace.agent import home as homes
from marketplace.agent.errors import CertificateWrong, ServerUnreachable, UsageWrong
from marketplace.agent.keys import MachineKey, is_signed_by

CERTIFICATE_FILE, CERTIFICATE_KEY_FILE = "prover.crt", "prover.key"
PREFIX = b"grove-exchange prover certificate 1\n"
DAYS = 3650  # it is pinned, and so has no end of its own
CONNECT_SECONDS = 10.0
LAST_LINE = "-----END CERTIFICATE-----"


@dataclass(frozen=True)
class Wire:
    """The certificate under which a prover is served."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hex."""
        return fingerprint_of(self.certificate.read_text())

    def context(self) -> ssl.SSLContext:
        """What a server wraps its socket with. Raises UsageWrong for files that are no pair."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as error:
            raise UsageWrong("That is no certificate with its key.", file=str(self.certificate)) from error
        return context


def wire_for(host: str, home: Path, *, certificate: Path | None = None, key: Path | None = None) -> Wire | None:
    """Under what a prover at `host` is served: as given, by its own certificate off loopback, in plain at home.

    Raises UsageWrong for a certificate without its key or the other way round.
    """
    if (certificate is None) != (key is None):
        raise UsageWrong("A certificate comes with its key: --certificate and --certificate-key, or neither.")
    if certificate is not None and key is not None:
        return Wire(certificate, key)
    if is_loopback(host) or os.environ.get("GROVE_PLAIN_HTTP") == "1":
        return None
    return own_certificate(home)


def own_certificate(home: Path) -> Wire:
    """The certificate of this home, made once; its key is a file of mode 0600."""
    wire = Wire(home / CERTIFICATE_FILE, home / CERTIFICATE_KEY_FILE)
    if not wire.certificate.exists():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        key, certificate = _make()
        homes.write_file(wire.key, key)
        homes.write_file(wire.certificate, certificate)  # last: a certificate here has its key beside it
    return wire


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def vouch(key: MachineKey, fingerprint: str) -> str:
    """The machine key's signature, in hex, under the fingerprint of its prover's certificate."""
    return key.sign(PREFIX + fingerprint.encode()).hex()


def require_vouched(machine_key: bytes, fingerprint: str, signature: str) -> str:
    """The fingerprint, if the machine's key signed it. Raises CertificateWrong."""
    try:
        given = bytes.fromhex(signature)
    except ValueError:
        given = b""
    if not is_signed_by(machine_key, PREFIX + fingerprint.encode(), given):
        raise CertificateWrong("The machine's key did not sign this certificate.", fingerprint=fingerprint)
    return fingerprint


def pinned(host: str, port: int, fingerprint: str) -> ssl.SSLContext:
    """A context that speaks with nobody but the holder of one certificate.

    The certificate is fetched first and compared; then it alone is trusted, so whoever steps between later is refused.
    Raises CertificateWrong, or ServerUnreachable.
    """
    look = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    look.check_hostname, look.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS) as plain, look.wrap_socket(plain) as seen:
            shown = ssl.DER_cert_to_PEM_cert(seen.getpeercert(binary_form=True) or b"")
    except OSError as error:
        raise ServerUnreachable("The prover does not answer under TLS.", cause=type(error).__name__) from error
    if not compare_digest(fingerprint_of(shown), fingerprint):
        raise CertificateWrong("The prover shows another certificate than the machine signed.", fingerprint=fingerprint)
    context = ssl.create_default_context(cadata=shown)
    context.check_hostname = False  # the certificate names nobody; it is known by its fingerprint
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it is trusted by itself, whoever issued it
    return context


def fingerprint_of(certificate: str) -> str:
    """SHA-256 of the first certificate in PEM text, in hex. Raises UsageWrong."""
    try:
        first = certificate[: certificate.index(LAST_LINE) + len(LAST_LINE)]
        return sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()
    except ValueError as error:
        raise UsageWrong("That is no certificate in PEM form.") from error


def _make() -> tuple[bytes, bytes]:
    """A fresh key and a certificate under it, both PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), clock.now()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "grove prover")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain), made.public_bytes(pem)
