"""What operators and the app may take back of what the gateways keep: by URL, by the beginning of one, by tag, or all.

A purge is told as words: one of `url`, `prefix`, `tag` or `all`, and `soft` where stale answers may still serve. URLs
are written whole, without their scheme, or from their path on, for any host. Called by the admin port and by
`scopegate cache`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scopegate.caching.purges import Purge, PurgeKind
from scopegate.caching.storable import MAX_TAG_BYTES
from scopegate.jsontext import BadJson, parse
from scopegate.leads.webhook import verify

if TYPE_CHECKING:
    from pydantic import SecretStr
    from starlette.requests import Request

MAX_WHAT_BYTES = 8192
MAX_BODY_BYTES = 16 * 1024
_KINDS = {kind.value: kind for kind in (PurgeKind.URL, PurgeKind.PREFIX, PurgeKind.TAG, PurgeKind.ALL)}
_NO, _YES = ("", "0", "false", False, None), ("1", "true", True)


class BadPurge(ValueError):
    """Says what is wrong with a purge."""


class NotSigned(ValueError):
    """Says what is wrong with a signature."""


def purge_of(told: Mapping[str, object]) -> Purge:
    """Raises BadPurge."""
    unknown = told.keys() - {*_KINDS, "soft"}
    kinds = [kind for name, kind in _KINDS.items() if name in told]
    if unknown or len(kinds) != 1:
        raise BadPurge("a purge names one of url, prefix, tag or all, and soft besides")
    kind, soft = kinds[0], told.get("soft")
    if soft not in (*_NO, *_YES):
        raise BadPurge("soft is 1 or true, 0 or false")
    return Purge(kind, b"" if kind is PurgeKind.ALL else _what(kind, told[kind.value]), soft in _YES)


def _what(kind: PurgeKind, value: object) -> bytes:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value.strip():
        raise BadPurge("what is purged is told in printable ASCII")
    if kind is PurgeKind.TAG:
        if len(value) > MAX_TAG_BYTES:
            raise BadPurge(f"a tag has at most {MAX_TAG_BYTES} characters")
        return value.encode()
    scheme, separator, rest = value.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise BadPurge("a URL begins with http://, https://, its host or its path")
    host, slash, path = (rest if separator else value).partition("/")
    if len(value) > MAX_WHAT_BYTES or not slash or " " in value or "#" in value:
        raise BadPurge("a URL has a path, no space and no fragment")
    return f"{host.lower()}/{path}".encode()


async def signed(request: Request, secret: SecretStr | None, now_s: float) -> Mapping[str, object]:
    """The words of a request that the app has signed. Raises NotSigned and BadPurge."""
    if secret is None or not secret.get_secret_value():
        raise NotSigned("the policy's cache has no purge_secret")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BadPurge(f"the body has more than {MAX_BODY_BYTES} bytes")
    fault = verify(secret.get_secret_value(), request.headers, body, now_s)
    if fault is not None:
        raise NotSigned(fault)
    try:
        told = parse(body, max_depth=2)
    except BadJson:
        raise BadPurge("the body is no JSON") from None
    if not isinstance(told, dict):
        raise BadPurge("the body is no JSON object")
    return told
