"""`server.tls`: the certificates with which the public port proves itself, for those with nothing in front of it.

Pure. Called by `server`, `document` and `compile`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scopegate.policy.draft import Draft
from scopegate.policy.kinds import FileName, Shape, required
from scopegate.policy.sidefiles import FilePlace, SideFiles
from scopegate.policy.tree import Fault
from scopegate.types import Json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

# Values


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files by absolute path: a certificate with its chain, and its key. `digest` tells contents apart."""

    cert: str
    key: str
    digest: str = ""


# Shapes


_LEAST_RSA_BITS = 2048  # of OpenSSL's security level 2
_CURVES = ("secp256r1", "secp384r1", "secp521r1")  # of TLS 1.3 (RFC 8446 4.2.3)
_MARK = re.compile(rb"^-.*", re.MULTILINE)
_WHOLE_MARK = re.compile(rb"-----(BEGIN|END) [A-Z0-9 ]+-----[ \t\r]*")


def _is_whole(content: bytes) -> bool:
    """Whether every block of a PEM file ends. A chain that is still being written would pass for a shorter one."""
    marks = [_WHOLE_MARK.fullmatch(line) for line in _MARK.findall(content)]
    return [mark and mark[1] for mark in marks] == [b"BEGIN", b"END"] * (len(marks) // 2)


def _certificate(content: bytes) -> Json:
    from cryptography import x509  # heavy, and most policies need none of it

    try:
        if not _is_whole(content):
            raise ValueError
        key = x509.load_pem_x509_certificates(content)[0].public_key()
    except ValueError:
        raise ValueError("holds no certificate in PEM form, or a damaged one") from None
    if weakness := _weakness(key):
        raise ValueError(f"holds {weakness}, which clients refuse")
    return _fingerprint(key)


def _weakness(key: PublicKeyTypes) -> str:
    """Why no handshake would come to an end with it; empty where one would."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        return f"an RSA key of {key.key_size} bits, less than {_LEAST_RSA_BITS}"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        return f"a key on the curve {key.curve.name}, not on one of {', '.join(_CURVES)}"
    return ""


def _key(content: bytes) -> Json:
    from cryptography.hazmat.primitives import serialization

    try:
        return _fingerprint(serialization.load_pem_private_key(content, None).public_key())
    except TypeError:
        raise ValueError("holds a key that is locked by a password") from None
    except ValueError:
        raise ValueError("holds no private key in PEM form, or a damaged one") from None


def _fingerprint(key: PublicKeyTypes) -> str:
    """The same for a key and its certificate, for others never."""
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


CERTIFICATES = FilePlace(("server", "tls", int, "cert"), _certificate)
KEYS = FilePlace(("server", "tls", int, "key"), _key, is_secret=True)


class CertificateShape(Shape):
    cert: FileName = required("The certificate and the chain that proves it, in PEM form.", examples=["tls/site.pem"])
    key: FileName = required("Its key, in PEM form, without a password.", examples=["tls/site.key"])

    def build(self, beside: SideFiles) -> CertificateFiles:
        digest = beside.digests[self.cert] + beside.digests[self.key]
        return CertificateFiles(beside.paths[self.cert], beside.paths[self.key], digest)


# Checks


def unpaired(draft: Draft, beside: SideFiles) -> Iterator[Fault]:
    """Keys that are not those of the certificates beside them."""
    for loc, key in draft.texts(KEYS.way):
        at_cert = (*loc[:-1], "cert")
        for other, cert in draft.texts(CERTIFICATES.way):
            own, proven = beside.meanings.get((key, KEYS)), beside.meanings.get((cert, CERTIFICATES))
            if other == at_cert and own is not None and proven is not None and own != proven:
                yield draft.problem(loc, f"{draft.said(loc)} is not the key of {draft.said(at_cert)}")
