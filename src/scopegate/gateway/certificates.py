"""The certificates that a public port proves itself with: read, held against their keys, and chosen by server name.

The profile is Mozilla's "intermediate" (guidelines 5.7): TLS 1.2 with forward secrecy and authenticated encryption, and
TLS 1.3; the client's order of preference counts. Session tickets, compression and renegotiation as OpenSSL 3 has them
for a server: tickets on, the other two off.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from scopegate.errors import ConfigError, Problem
from scopegate.policy.policy import CertificateFiles
from scopegate.process import tls_groups

if TYPE_CHECKING:
    from cryptography import x509

CIPHERS: Final = ":".join(
    [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ]
)
"""Of TLS 1.2; those of 1.3 are all good and not to be chosen from."""
_WHERE: Final = "server.tls"
_ALPN: Final = ["http/1.1", "http/1.0"]


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """One that can be served. `names` are lower case, IP addresses among them; `ends_s` is a Unix time."""

    names: frozenset[str]
    ends_s: float
    context: ssl.SSLContext


def load(files: CertificateFiles) -> Certificate:
    """Raises ConfigError, which names the file, for what cannot be served, though the policy found nothing wrong with
    it a moment ago. One whose time is over can be served: the visitor's browser says it best."""
    from cryptography import x509  # heavy, and most ports need none of it

    context = _context()
    try:
        context.load_cert_chain(files.cert, files.key, password=_refuse)
        with open(files.cert, "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
    except _LockedKey:
        raise ConfigError([Problem(files.key, _WHERE, "the key is locked by a password")]) from None
    except ssl.SSLError as error:
        raise ConfigError([_problem(files, error)]) from None
    except OSError as error:
        missing = error.filename or f"{files.cert}, {files.key}"
        raise ConfigError([Problem(missing, _WHERE, error.strerror or type(error).__name__)]) from None
    except ValueError:
        raise ConfigError([Problem(files.cert, _WHERE, "no certificate in PEM")]) from None
    return Certificate(_names(certificate), certificate.not_valid_after_utc.timestamp(), context)


def _problem(files: CertificateFiles, error: ssl.SSLError) -> Problem:
    reason: str | None = getattr(error, "reason", None)  # OpenSSL has not one for each, whatever the type says
    if reason == "KEY_VALUES_MISMATCH":
        return Problem(files.key, _WHERE, f"is not the key of {files.cert}")
    return Problem(f"{files.cert}, {files.key}", _WHERE, f"OpenSSL takes no certificate and key from them ({reason})")


class _LockedKey(Exception):
    """OpenSSL asked for the key's password."""


def _refuse() -> str:
    """OpenSSL would ask at the terminal."""
    raise _LockedKey


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(_ALPN)
    tls_groups.restrict(context)
    return context


def _names(certificate: x509.Certificate) -> frozenset[str]:
    """Those it is good for. The common name has not counted for long (RFC 9525 2)."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return frozenset([*(name.lower() for name in names.get_values_for_type(x509.DNSName)), *addresses])


class Certificates:
    """Those of one port. What is shown to a client is decided at its handshake; connections under way keep theirs."""

    def __init__(self, certificates: Sequence[Certificate]) -> None:
        self.context = _context()
        """For the listening side; it holds no certificate of its own."""
        self.context.sni_callback = self._show
        self.replace(certificates)

    def replace(self, certificates: Sequence[Certificate]) -> None:
        """From the next handshake on. The first is shown to who asks for none of their names."""
        self.served = tuple(certificates)
        self._by_name = _by_name(certificates)

    def ends_s(self) -> float:
        """The Unix time at which the first of them ends."""
        return min(certificate.ends_s for certificate in self.served)

    def choose(self, name: str | None) -> Certificate:
        """The one for this server name: an exact name, else one with a wildcard for its first label (RFC 9525 6.3)."""
        if name is not None:
            name = name.lower().removesuffix(".")
            found = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
            if found is not None:
                return found
        return self.served[0]

    def _show(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self.choose(name).context


def _by_name(certificates: Iterable[Certificate]) -> Mapping[str, Certificate]:
    """Of two for one name, that which the policy names first."""
    found: dict[str, Certificate] = {}
    for certificate in certificates:
        for name in certificate.names:
            found.setdefault(name, certificate)
    return found
