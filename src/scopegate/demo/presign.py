"""Addresses that carry their own permission: who may put or get which photo, until when.

Pure; the demo app's stand-in for the presigned URLs of an object store.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import urlencode

TYPES: Mapping[str, str] = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
"""Media types a visitor may upload, with the ending their key gets."""

_KEY = re.compile(r"[0-9a-f]{32}\.(jpg|png|webp)")


def is_key(text: str) -> bool:
    """Whether this can name a photo: nothing else is ever used as a file name."""
    return _KEY.fullmatch(text) is not None


def media_type(key: str) -> str:
    """The type a valid key stands for."""
    ending = key.rpartition(".")[2]
    return next(name for name, known in TYPES.items() if known == ending)


def signed_path(secret: bytes, method: str, key: str, expires_s: int) -> str:
    """Path and query that allow `method` on this photo until the Unix second `expires_s`."""
    query = urlencode({"expires": expires_s, "signature": _signature(secret, method, key, str(expires_s))})
    return f"/photos/{key}?{query}"


def refusal(secret: bytes, method: str, key: str, query: Mapping[str, str], now_s: float) -> str | None:
    """Why a request may not do this, or None when it may."""
    expires, signature = query.get("expires", ""), query.get("signature", "")
    if not hmac.compare_digest(_signature(secret, method, key, expires).encode(), signature.encode()):
        return "the signature does not fit"
    if now_s > int(expires):  # signed by us: it is a number
        return "the address has expired"
    return None


def _signature(secret: bytes, method: str, key: str, expires: str) -> str:
    return hmac.digest(secret, f"{method}\n{key}\n{expires}".encode(), hashlib.sha256).hex()
