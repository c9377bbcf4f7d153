"""What answers of the admin port are made of: the fields each carries, JSON, and RFC 9457 problem documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

FIXED_FIELDS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class AsciiJson(JSONResponse):
    """JSON in ASCII: a lead's id may hold what UTF-8 cannot carry (a lone surrogate)."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def problem(status: int, code: str, detail: str, fields: Mapping[str, str] | None = None) -> AsciiJson:
    """`code` is a closed set; `detail` is our own sentence, never a client's words."""
    body = {
        "type": f"urn:scopegate:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return AsciiJson(body, status, {**FIXED_FIELDS, **(fields or {})}, media_type="application/problem+json")
