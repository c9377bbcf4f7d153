"""The words that browsers read: origins and fields of CORS, security fields of answers.

Pure. The parsers are as those of `spelling`: text in, canonical value out, ValueError with a sentence that never
repeats the text. Called by `kinds` and `build`.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from scopegate.policy.addresses import parse_origin
from scopegate.policy.spelling import parse_field_name

ANY_ORIGIN = "*"
MAX_POLICY_CHARS = 4096

Frame: TypeAlias = Literal["deny", "sameorigin", "any"]
Opener: TypeAlias = Literal["same-origin", "same-origin-allow-popups", "unsafe-none"]
Referrer: TypeAlias = Literal[
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
]
"""Referrer Policy, section 3."""


def parse_web_origin(text: str) -> str:
    """`https://partner.example` as a browser serialises it (RFC 6454 6.2): lower case, no default port, no path; or
    `*`. `null` is the origin of every sandboxed frame and local file, so of anybody."""
    if text == ANY_ORIGIN:
        return text
    if text.lower() == "null":
        raise ValueError("is the origin of any sandboxed frame: it would let everybody in")
    if "*" in text:
        raise ValueError("holds a *: an origin is written whole, or `*` alone stands for all")
    if not text.startswith(("http://", "https://")):
        raise ValueError("is not an origin, write it like `https://partner.example`")
    if text.count("/") > 2 or "?" in text:
        raise ValueError("is not an origin: it ends after the host and the port")
    origin = parse_origin(text)
    return f"{origin.scheme}://{origin.authority}"


def parse_cors_field(text: str) -> str:
    """A field name in lower case. `*` would stand for every field (Fetch 3.3.5)."""
    if text == "*":
        raise ValueError("stands for every field: name those that are meant")
    return parse_field_name(text).lower()


def parse_content_policy(text: str) -> str:
    """A Content-Security-Policy that can stand in a header field as it is."""
    if not re.fullmatch(r"[\x20-\x7e]+", text):
        raise ValueError("holds a line break or a character beyond ASCII")
    if text != text.strip():
        raise ValueError("begins or ends with a space")
    if len(text) > MAX_POLICY_CHARS:
        raise ValueError(f"is longer than {MAX_POLICY_CHARS} characters")
    return text


def strict_transport_security(max_age_s: int, *, subdomains: bool, preload: bool) -> str:
    """The field's value (RFC 6797 6.1; `preload` is of the browsers' list)."""
    parts = [f"max-age={max_age_s}", *(["includeSubDomains"] * subdomains), *(["preload"] * preload)]
    return "; ".join(parts)


def security_fields(
    *, nosniff: bool, frame: Frame, referrer: Referrer, csp: str | None, opener: Opener | None
) -> tuple[tuple[str, str], ...]:
    """(name in lower case, value) of every field there is one of."""
    fields = (
        ("x-content-type-options", "nosniff" if nosniff else None),
        ("x-frame-options", None if frame == "any" else frame.upper()),
        ("referrer-policy", referrer),
        ("content-security-policy", csp),
        ("cross-origin-opener-policy", opener),
    )
    return tuple((name, value) for name, value in fields if value is not None)
