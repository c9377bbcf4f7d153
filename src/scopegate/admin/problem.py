"""Errors of the admin port as RFC 9457 problem documents, and the fields every answer carries."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

FIXED_FIELDS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def problem(status: int, code: str, detail: str, fields: Mapping[str, str] | None = None) -> JSONResponse:
    """`code` is a closed set; `detail` is our own sentence, never a client's words."""
    body = {
        "type": f"urn:scopegate:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return JSONResponse(body, status, {**FIXED_FIELDS, **(fields or {})}, media_type="application/problem+json")
