"""An authority of the tests' own that signs certificates for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates for a day, or for one that is over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._issued = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        ca = x509.BasicConstraints(ca=True, path_length=0)
        self._cert = self._sign(self._name, self._key.public_key(), timedelta(days=1), ca)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, ends_in: timedelta, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + ends_in)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    def identity(
        self,
        label: str,
        *names: x509.GeneralName,
        common_name: str | None = None,
        ends_in: timedelta = timedelta(days=1),
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or label)])
        cert = self._sign(name, key.public_key(), ends_in, x509.SubjectAlternativeName(names))
        found = Identity(self._folder / f"{label}.pem", self._folder / f"{label}.key")
        found.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        found.key.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
        return found

    def issue(self, *names: str, ends_in: timedelta = timedelta(days=1)) -> Identity:
        """For these host names and addresses; the first is its common name, too."""
        self._issued += 1
        found = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names]
        return self.identity(f"{self._issued}", *found, common_name=names[0], ends_in=ends_in)
