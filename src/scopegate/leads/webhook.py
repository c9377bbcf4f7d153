"""Signed webhooks as Standard Webhooks 1.0 has them: what is signed, how it is written, how it is checked.

Pure. `worker/deliver` signs; the app that receives verifies (the demo app does, with this file). Any library of
https://www.standardwebhooks.com verifies these signatures as well.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from scopegate.types import Json

ID_FIELD = "webhook-id"
TIMESTAMP_FIELD = "webhook-timestamp"
SIGNATURE_FIELD = "webhook-signature"
TOLERANCE_S = 300
"""How far a timestamp may be from the receiver's clock: an older message is a replay."""

_PREFIX = "whsec_"


def secret_bytes(secret: str) -> bytes:
    """The key: base64 after `whsec_`, or the text itself in UTF-8. ValueError when it is empty or not base64."""
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError("a whsec_ secret is base64 after its prefix") from None
    else:
        key = secret.encode()
    if not key:
        raise ValueError("the secret is empty")
    return key


def sign(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The signature field's value: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret_bytes(secret), signed, hashlib.sha256)).decode()


def signed_fields(secrets: Iterable[str], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three request fields that carry a signature by each secret. `message_id` may hold no dot: it separates what
    is signed."""
    assert "." not in message_id
    return {
        ID_FIELD: message_id,
        TIMESTAMP_FIELD: str(timestamp_s),
        SIGNATURE_FIELD: " ".join(sign(secret, message_id, timestamp_s, body) for secret in secrets),
    }


def verify(secret: str, fields: Mapping[str, str], body: bytes, now_s: float) -> str | None:
    """What is wrong with a received message: one clause, or None when it is genuine and fresh.

    `fields` have lower-case names. Of several signatures, separated by spaces, one has to fit (a secret being
    changed); the comparison takes the same time wherever it differs.
    """
    message_id, timestamp, signatures = (fields.get(name, "") for name in (ID_FIELD, TIMESTAMP_FIELD, SIGNATURE_FIELD))
    if not (message_id and timestamp and signatures):
        return "unsigned"
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        return "timestamp is not a number of seconds"
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        return "timestamp is too far from now"
    expected = sign(secret, message_id, int(timestamp), body).encode()
    given = [signature.encode() for signature in signatures.split(" ")[:8]]
    return None if any(hmac.compare_digest(expected, one) for one in given) else "signature does not fit"


def message(kind: str, timestamp: str, data: Json) -> Json:
    """The body: `type` (dotted, lower case), `timestamp` (RFC 3339, when it happened), `data`."""
    return {"type": kind, "timestamp": timestamp, "data": data}
