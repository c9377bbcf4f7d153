"""`auth`: how a token is found and proven, which claims it must carry, and the identity the app is told.

Pure. Called by `document`, `policy` and `routes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, TypeAlias

from pydantic import PlainValidator, SecretStr, WithJsonSchema

from scopegate.policy.addresses import is_local, url_host
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import (
    FieldName,
    Shape,
    Text,
    Url,
    duration_s,
    option,
    parsed,
    required,
    secret,
    written,
    written_secret,
)
from scopegate.policy.quantities import DURATION_PATTERN
from scopegate.policy.spelling import ASYMMETRIC, HMAC_KEY_BYTES, MIN_SIGNING_KEY_BYTES, parse_algorithm
from scopegate.policy.tree import Fault, Loc

# Values


@dataclass(frozen=True, slots=True)
class JwtRule:
    """Exactly one of `jwks_url` and `secret` is set. The token is read from `Authorization: Bearer` and, when
    named, from `cookie`."""

    jwks_url: str | None
    secret: SecretStr | None
    audience: str | None
    issuer: str | None
    algorithms: tuple[str, ...]
    cookie: str | None
    leeway_s: float


@dataclass(frozen=True, slots=True)
class Auth:
    """`sign_with` is the key that signs the identity for the app; without it the identity goes unsigned."""

    name: str
    jwt: JwtRule
    require: Mapping[str, str]
    sign_with: SecretStr | None = None


# Shapes


def _leeway_s(text: str) -> float:
    seconds = duration_s(text)
    if seconds > 300:
        raise ValueError("is more than 5m")
    return seconds


def _signing_key(value: object) -> SecretStr:
    key = secret(value)
    if key.get_secret_value() and len(key.get_secret_value().encode()) < MIN_SIGNING_KEY_BYTES:
        raise ValueError(f"is shorter than {MIN_SIGNING_KEY_BYTES} bytes")
    return key


Leeway: TypeAlias = Annotated[float, parsed(_leeway_s), written("30s", DURATION_PATTERN)]
Algorithm: TypeAlias = Annotated[
    str, parsed(parse_algorithm), WithJsonSchema({"type": "string", "enum": [*ASYMMETRIC, *HMAC_KEY_BYTES]})
]
Secret: TypeAlias = Annotated[SecretStr, PlainValidator(secret), written_secret("${JWT_SECRET}")]
SigningKey: TypeAlias = Annotated[SecretStr, PlainValidator(_signing_key), written_secret("${IDENTITY_SECRET}")]


class JwtShape(Shape):
    jwks: Url | None = option(None, "Where the public keys are published. Either this or `secret`.")
    secret: Secret | None = option(None, "The shared key of HS256, HS384 or HS512.")
    audience: Text | None = option(None, "The `aud` a token must carry.")
    issuer: Text | None = option(None, "The `iss` a token must carry.")
    algorithms: list[Algorithm] | None = option(
        None, "Signatures accepted. Left out: RS256 with `jwks`, HS256 with `secret`.", min_length=1
    )
    cookie: FieldName | None = option(None, "A cookie that may hold the token, besides Authorization: Bearer.")
    leeway: Leeway = option("30s", "How far two clocks may differ. At most 5m.")

    def build(self) -> JwtRule:
        default = ["RS256"] if self.secret is None else ["HS256"]
        return JwtRule(
            jwks_url=self.jwks,
            secret=self.secret,
            audience=self.audience,
            issuer=self.issuer,
            algorithms=tuple(self.algorithms or default),
            cookie=self.cookie,
            leeway_s=self.leeway,
        )


class AuthShape(Shape):
    jwt: JwtShape = required("How a token is found and proven.")
    require: dict[Text, Text] = option({}, "Claims and the values they must have.")
    claims: list[Text] = option([], "Claims that tokens carry besides, which tiers may count by.", max_length=32)
    sign_with: SigningKey | None = option(
        None, "The key, shared with the app, that signs the identity for it: at least 32 bytes. Left out: unsigned."
    )

    def known_claims(self) -> frozenset[str]:
        """What may be counted by."""
        return frozenset(self.require) | frozenset(self.claims)

    def build(self, name: str) -> Auth:
        return Auth(name, self.jwt.build(), MappingProxyType(dict(self.require)), self.sign_with)


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    for name, auth in draft.named("auth", AuthShape).items():
        loc = ("auth", name, "jwt")
        yield from _keys(auth.jwt, loc, draft)
        yield from _algorithms(auth.jwt, loc, draft)
        yield from _secret_length(auth.jwt, loc, draft)
        yield from _trust(auth.jwt, loc, draft)
        if auth.sign_with is None:
            what = "the identity reaches the app unsigned: without `sign_with` whoever gets around us can claim any"
            yield draft.warning_at_key(("auth", name), what)


def _keys(jwt: JwtShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if (jwt.jwks is None) == (jwt.secret is None):
        yield draft.problem_at_key(loc, "needs exactly one of `jwks` and `secret`")


def _algorithms(jwt: JwtShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    """A public key must never be accepted as an HMAC secret (RFC 8725 3.1)."""
    for index, algorithm in enumerate(jwt.algorithms or ()):
        where = (*loc, "algorithms", index)
        if algorithm in HMAC_KEY_BYTES and jwt.jwks is not None:
            yield draft.problem(where, f"{draft.said(where)} takes a shared key, `jwks` gives public ones")
        if algorithm not in HMAC_KEY_BYTES and jwt.secret is not None:
            yield draft.problem(where, f"{draft.said(where)} takes a public key, `secret` is a shared one")


def _secret_length(jwt: JwtShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    found = jwt.secret.get_secret_value() if jwt.secret is not None else ""
    needed = max((HMAC_KEY_BYTES.get(algorithm, 0) for algorithm in jwt.algorithms or ("HS256",)), default=0)
    if found and len(found.encode()) < needed:
        what = f"is shorter than the {needed} bytes its algorithm needs (RFC 7518 3.2)"
        yield draft.problem((*loc, "secret"), what)


def _trust(jwt: JwtShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if jwt.audience is None:
        yield draft.warning_at_key(loc, "no `audience`: a token made for another app of the same issuer passes")
    if jwt.jwks is not None and jwt.jwks.startswith("http://") and not is_local(url_host(jwt.jwks)):
        yield draft.warning((*loc, "jwks"), "keys fetched without TLS can be replaced on the way")
