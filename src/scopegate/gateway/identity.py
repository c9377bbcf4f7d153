"""Who a token says is asking, and whether that is proven: JWTs in a Bearer field or a cookie, by secret or key set.

The only file of the gateway that names PyJWT. What is accepted is the policy's list of algorithms, never the token's
word; a shared secret verifies HS tokens only, a key set never does. Tokens are neither logged nor kept: a proven one
is remembered by its SHA-256. Called by the pipeline on routes with `auth`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from scopegate.clock import Clock
from scopegate.edge.claims import BAD_CLAIMS, Identity, Proven, json_object, judge_claims, unauthenticated
from scopegate.edge.cookies import values_of
from scopegate.edge.verdict import Refusal
from scopegate.gateway.jwks import RETRY_S, TIMEOUT_S, KeySet
from scopegate.policy.policy import Auth, JwtRule

MAX_TOKEN_BYTES = 8192
MAX_KEYS = 64
_MAX_TRIES = 4
"""How many keys a token is tried against when its key id, or the lack of one, leaves a choice."""
_REMEMBERED = 1024

_SHARED = frozenset({"HS256", "HS384", "HS512"})
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_MIN_RSA_BITS = 2048
_BY_CURVE = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
_PUBLISHED = _RSA | frozenset(_BY_CURVE.values())

_COMPACT = re.compile(rb"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_BEARER = re.compile(rb"bearer(?: +(.*))?", re.IGNORECASE | re.DOTALL)

_NO_TOKEN = unauthenticated("Sign-in is required.", b"Bearer")
_AMBIGUOUS = unauthenticated("The request carries more than one sign-in token.")
_NOT_A_TOKEN = unauthenticated("The sign-in token is malformed.")
_BAD_ALGORITHM = unauthenticated("The sign-in token is signed in a way that is not accepted.")
_UNKNOWN_KEY = unauthenticated("The sign-in token is signed with an unknown key.")
_BAD_SIGNATURE = unauthenticated("The sign-in token's signature is wrong.")
_AFTER_RETRY = ((b"retry-after", b"%d" % RETRY_S),)
_UNAVAILABLE = Refusal(503, "identity_unavailable", "Sign-in cannot be checked right now.", _AFTER_RETRY)


class Identities:
    """Checks sign-in for every `auth` of the policies in force. One per process; key sets survive a reload."""

    def __init__(self, http: httpx.AsyncClient, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
        """`http` fetches key sets, each within `timeout_s`; it should take no proxy from the environment."""
        self._timeout_s = timeout_s
        self._http = http
        self._clock = clock
        self._key_sets: dict[str, KeySet[tuple[Key, ...]]] = {}
        self._verifiers: dict[str, _Verifier] = {}

    def check_now(
        self, auth: Auth, authorization: Sequence[bytes], cookies: Sequence[bytes]
    ) -> Identity | Refusal | None:
        """The answer without waiting; None only when keys must be fetched first: `await check(...)` then.

        `authorization` and `cookies` are the values of every Authorization and Cookie field. Nearly every call ends
        here: None comes at start, once the keys are FRESH_S old, and for an unknown key id once per REFETCH_S.
        Refusals: 401 `unauthenticated`, 403 `forbidden` (proven, but `require` is not met), 503
        `identity_unavailable` (no usable keys, and the endpoint does not answer). Needs a running event loop.
        """
        token = find_token(auth.jwt, authorization, cookies)
        if isinstance(token, Refusal):
            return token
        return self._verifier(auth).judge(token, self._clock.now_ms() / 1000)

    async def check(self, auth: Auth, authorization: Sequence[bytes], cookies: Sequence[bytes]) -> Identity | Refusal:
        """As `check_now`, after fetching the keys when they are needed. One fetch, however many wait for it."""
        answer = self.check_now(auth, authorization, cookies)
        if answer is not None:
            return answer
        key_set = self._verifier(auth).key_set
        assert key_set is not None, "a shared secret never needs a fetch"
        await key_set.fetch()
        return self.check_now(auth, authorization, cookies) or _UNAVAILABLE

    async def close(self) -> None:
        """Stop the fetches under way. The HTTP client is the caller's to close."""
        for key_set in self._key_sets.values():
            await key_set.close()

    def _verifier(self, auth: Auth) -> _Verifier:
        verifier = self._verifiers.get(auth.name)
        if verifier is None or verifier.auth is not auth:
            verifier = self._verifiers[auth.name] = _Verifier(auth, self._key_set(auth.jwt.jwks_url))
        return verifier

    def _key_set(self, url: str | None) -> KeySet[tuple[Key, ...]] | None:
        if url is None:
            return None
        if url not in self._key_sets:
            self._key_sets[url] = KeySet(url, self._http, self._clock, parse_keys, self._timeout_s)
        return self._key_sets[url]


# ── finding a token ─────────────────────────────────────────────────────────────────────────────────────────────────


def find_token(rule: JwtRule, authorization: Sequence[bytes], cookies: Sequence[bytes]) -> bytes | Refusal:
    """The one token of a request: `Authorization: Bearer`, and the rule's cookie when it names one.

    The same token in both is one token; two different ones, or two Authorization fields, are refused: the app might
    read the other one. Another Authorization scheme is no token. RFC 6750 2.1, RFC 6265 5.4.
    """
    if len(authorization) > 1:
        return _AMBIGUOUS
    found = {token for field in authorization if (token := _bearer(field)) is not None}
    if rule.cookie is not None and cookies:
        found.update(values_of(rule.cookie.encode(), cookies))
    if len(found) != 1:
        return _AMBIGUOUS if found else _NO_TOKEN
    token = found.pop()
    return token if len(token) <= MAX_TOKEN_BYTES and _COMPACT.fullmatch(token) else _NOT_A_TOKEN


def _bearer(field: bytes) -> bytes | None:
    match = _BEARER.fullmatch(field.strip(b" \t"))
    return None if match is None else match[1] or b""


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Key:
    """A key and what it may verify. `kid` is None when the set gives it no name; `material` is the library's."""

    kid: str | None
    algorithms: frozenset[str]
    material: Any


def parse_keys(document: bytes) -> tuple[Key, ...]:
    """The signature keys of a JWK set (RFC 7517); keys of other kinds, shared, private or weak ones are passed over.

    Raises ValueError when none is left.
    """
    found = json_object(document).get("keys")
    entries = found[:MAX_KEYS] if isinstance(found, list) else []
    keys = tuple(key for entry in entries if isinstance(entry, dict) and (key := _key(entry)) is not None)
    if not keys:
        raise ValueError("holds no usable key")
    return keys


def _key(entry: dict[str, Any]) -> Key | None:
    kid, use, operations = entry.get("kid"), entry.get("use", "sig"), entry.get("key_ops", ["verify"])
    if not isinstance(kid, str | None) or use != "sig" or not isinstance(operations, list) or "d" in entry:
        return None
    algorithms = _algorithms(entry)
    if "verify" not in operations or not algorithms:
        return None
    try:
        material = jwt.PyJWK(entry, algorithm=min(algorithms)).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    weak = entry["kty"] == "RSA" and material.key_size < _MIN_RSA_BITS
    return None if weak else Key(kid, algorithms, material)


def _algorithms(entry: dict[str, Any]) -> frozenset[str]:
    """What a key can verify by its type, narrowed to its `alg` when it names one. Empty for a type not used here."""
    curve = _BY_CURVE.get(str(entry.get("crv")))
    if entry.get("kty") == "RSA":
        able = _RSA
    else:
        able = frozenset({curve} if curve is not None and entry.get("kty") in ("EC", "OKP") else ())
    return able & {str(entry["alg"])} if "alg" in entry else able


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Verifier:
    """One `auth` of a policy: its accepted algorithms, its keys, and the tokens proven lately."""

    def __init__(self, auth: Auth, key_set: KeySet[tuple[Key, ...]] | None) -> None:
        self.auth = auth
        self.key_set = key_set
        self._accepted = frozenset(auth.jwt.algorithms) & (_SHARED if key_set is None else _PUBLISHED)
        secret = auth.jwt.secret.get_secret_value() if auth.jwt.secret is not None else ""
        self._shared = (Key(None, _SHARED, secret.encode()),) if secret else ()
        self._jws = jwt.PyJWS(sorted(self._accepted), {"verify_signature": True, "enforce_minimum_key_length": True})
        self._proven: OrderedDict[bytes, Proven] = OrderedDict()
        self._generation = 0

    def judge(self, token: bytes, now_s: float) -> Identity | Refusal | None:
        """None when keys must be fetched first."""
        keys = self._keys()
        if keys is None:
            return None if self.key_set is not None and self.key_set.can_fetch() else _UNAVAILABLE
        digest = hashlib.sha256(token).digest()
        proven = self._proven.get(digest)
        if proven is None:
            verdict = self._prove(token, keys)
            if not isinstance(verdict, Proven):
                return verdict
            proven = self._remember(digest, verdict)
        return proven.at(now_s, self.auth.jwt.leeway_s)

    def _keys(self) -> Sequence[Key] | None:
        """The keys to use now; with a new set, what the old one proved is forgotten."""
        if self.key_set is None:
            return self._shared
        keys = self.key_set.current()
        if self.key_set.generation != self._generation:
            self._generation = self.key_set.generation
            self._proven.clear()
        return keys

    def _remember(self, digest: bytes, proven: Proven) -> Proven:
        """Only who holds a good token gets in here; the oldest entry goes, and is proven again if it comes back."""
        self._proven[digest] = proven
        if len(self._proven) > _REMEMBERED:
            self._proven.popitem(last=False)
        return proven

    def _prove(self, token: bytes, keys: Sequence[Key]) -> Proven | Refusal | None:
        """Pick the key by the token's header, then verify. None when a fetch may bring the key."""
        try:
            header = json_object(_decoded(token.partition(b".")[0]))
        except ValueError:
            return _NOT_A_TOKEN
        algorithm, kid = header.get("alg"), header.get("kid")
        if "crit" in header or "b64" in header or not isinstance(kid, str | None):
            return _NOT_A_TOKEN  # extensions that change what a signature means (RFC 7515 4.1.11, RFC 7797)
        if not isinstance(algorithm, str) or algorithm not in self._accepted:
            return _BAD_ALGORITHM
        by_name = kid is not None and self.key_set is not None
        fit = [key for key in keys if algorithm in key.algorithms and (not by_name or key.kid == kid)]
        if not fit:
            return self._unknown_key()
        verdict: Proven | Refusal = _BAD_SIGNATURE
        for key in fit[:_MAX_TRIES]:
            verdict = self._verified(token, algorithm, key)
            if verdict is not _BAD_SIGNATURE:
                break
        return verdict

    def _unknown_key(self) -> Refusal | None:
        if self.key_set is None:
            return _UNKNOWN_KEY
        if self.key_set.can_refetch():
            return None
        return _UNAVAILABLE if self.key_set.is_down else _UNKNOWN_KEY

    def _verified(self, token: bytes, algorithm: str, key: Key) -> Proven | Refusal:
        try:
            payload = self._jws.decode(token, key.material, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            return _BAD_SIGNATURE
        try:
            claims = json_object(payload)
        except ValueError:
            return BAD_CLAIMS
        rule = self.auth.jwt
        return judge_claims(claims, rule.issuer, rule.audience, self.auth.require)


def _decoded(segment: bytes) -> bytes:
    return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
