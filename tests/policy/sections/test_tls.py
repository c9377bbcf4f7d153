"""Certificates of the public port in a policy file: read, held against their keys, and every fault at its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from scopegate.following.source import copied, on_disk
from scopegate.policy.policy import CertificateFiles
from scopegate.policy.sections.tls import _certificate
from tests.authority import Authority

POLICY = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes: [{name: all, match: "ANY /**", tier: none}]
server:
  tls:
    - {cert: a.pem, key: a.key}
    - {cert: b.pem, key: b.key}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy with two certificates beside it."""
    authority = Authority(tmp_path)
    for name in "ab":
        issued = authority.issue(f"{name}.example")
        issued.cert.rename(tmp_path / f"{name}.pem")
        issued.key.rename(tmp_path / f"{name}.key")
    (tmp_path / "gateway.yaml").write_text(POLICY)
    return tmp_path


def problems(folder: Path) -> list[str]:
    review = on_disk(folder / "gateway.yaml").examine({}, lenient=False)
    return [f"{problem.where.rpartition('/')[2]} {problem.what}" for problem in review.problems]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "an RSA key of 1024 bits, less than 2048"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "a key on the curve secp256k1"),
    ],
)
def test_keys_that_clients_refuse_are_named(folder: Path, key: Callable[[], rsa.RSAPrivateKey], words: str) -> None:
    weak = key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, weak.public_key(), 1, now, now + timedelta(days=1))
    (folder / "a.pem").write_bytes(builder.sign(weak, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "a.key").write_bytes(weak.private_bytes(serialization.Encoding.PEM, *form))
    assert [problem for problem in problems(folder) if words in problem and "which clients refuse" in problem]


def test_they_are_named_by_absolute_paths_and_followed(folder: Path) -> None:
    policy = on_disk(folder / "gateway.yaml").examine({}, lenient=False).policy
    assert policy is not None
    assert [(files.cert, files.key) for files in policy.server.tls] == [
        (str(folder / f"{name}.pem"), str(folder / f"{name}.key")) for name in "ab"
    ]
    assert {str(folder / name) for name in ("a.pem", "a.key", "b.pem", "b.key")} <= set(policy.files)


def test_a_renewed_certificate_is_another_policy(folder: Path) -> None:
    def served() -> tuple[CertificateFiles, ...]:
        policy = on_disk(folder / "gateway.yaml").examine({}, lenient=False).policy
        assert policy is not None
        return policy.server.tls

    before = served()
    renewed = Authority(folder).issue("a.example")
    renewed.cert.rename(folder / "a.pem")
    renewed.key.rename(folder / "a.key")
    after = served()
    assert before[0] != after[0]
    assert before[1] == after[1]


def _locked(path: Path) -> None:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("file", "spoil", "told"),
    [
        ("a.pem", Path.unlink, "gateway.yaml:6:14 'a.pem': no such file"),
        ("a.pem", _cut, "gateway.yaml:6:14 'a.pem' holds no certificate in PEM form, or a damaged one"),
        ("a.pem", lambda path: path.write_bytes(b""), "gateway.yaml:6:14 'a.pem' holds no certificate in PEM form"),
        ("b.key", _cut, "gateway.yaml:7:26 'b.key' holds no private key in PEM form, or a damaged one"),
        ("b.key", _locked, "gateway.yaml:7:26 'b.key' holds a key that is locked by a password"),
        (
            "b.key",
            lambda path: path.write_bytes((path.parent / "b.pem").read_bytes()),
            "gateway.yaml:7:26 'b.key' holds",
        ),
        (
            "b.key",
            lambda path: path.write_bytes((path.parent / "a.key").read_bytes()),
            "gateway.yaml:7:26 'b.key' is not the key of 'b.pem'",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told_at_its_place(
    folder: Path, file: str, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(folder / file)
    (problem,) = problems(folder)
    assert problem.startswith(told)


def chain(folder: Path) -> bytes:
    return (folder / "a.pem").read_bytes() + (folder / "ca.pem").read_bytes()


def test_a_chain_may_have_words_around_it(folder: Path) -> None:
    text = b"subject=CN = a.example\n" + chain(folder).replace(b"\n", b"\r\n") + b"the end"
    (folder / "a.pem").write_bytes(text.rstrip())
    assert problems(folder) == []


def test_a_chain_that_is_half_written_is_none(folder: Path) -> None:
    """At every byte of its second certificate: the first alone would do for OpenSSL, and for few visitors."""
    whole, first = chain(folder).rstrip(), len((folder / "a.pem").read_bytes())
    for size in range(first + 1, len(whole)):
        with pytest.raises(ValueError, match="a damaged one"):
            _certificate(whole[:size])
    assert _certificate(whole) == _certificate(whole[:first])


def test_both_files_are_needed(folder: Path) -> None:
    (folder / "gateway.yaml").write_text(POLICY.replace(", key: a.key", ""))
    (problem,) = problems(folder)
    assert "key" in problem


def test_a_key_is_never_copied(folder: Path) -> None:
    source = on_disk(folder / "gateway.yaml")
    source.examine({}, lenient=False)
    source.save(folder / "copy")
    kept = copied(folder / "gateway.yaml", folder / "copy")
    assert set(kept.beside) == {"a.pem", "b.pem"}
    assert kept.examine({}, lenient=False).policy is not None
