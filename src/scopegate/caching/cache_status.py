"""What an answer tells of how it was come by (RFC 9211), and of how old it is.

Pure.
"""

from __future__ import annotations

from enum import StrEnum

from scopegate.caching.stored import Stored

NAME = b"scopegate"


class Fwd(StrEnum):
    """Why the app was asked (RFC 9211 2.2)."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    REQUEST = "request"
    STALE = "stale"
    PARTIAL = "partial"


def hit_lines(stored: Stored, now_s: float, *, collapsed: bool = False) -> bytes:
    """Of an answer that was kept."""
    left_s = int(stored.left_s(now_s))
    told = b"; fwd=uri-miss; collapsed" if collapsed else b"; hit"
    return b"age: %d\r\ncache-status: %b%b; ttl=%d\r\n" % (int(stored.age_s(now_s)), NAME, told, left_s)


def asked_lines(
    fwd: Fwd, *, age_s: float | None = None, status: int = 0, stored: bool = False, ttl_s: float = 0.0, detail: str = ""
) -> bytes:
    """Of an answer that the app gave, or confirmed with `status`. `age_s` is None where the app told it."""
    parts = [b"%b; fwd=%b" % (NAME, fwd.value.encode())]
    if status:
        parts.append(b"fwd-status=%d" % status)
    if stored:
        parts += [b"stored", b"ttl=%d" % int(ttl_s)]
    if detail:
        parts.append(b"detail=%b" % detail.encode())
    age = b"" if age_s is None else b"age: %d\r\n" % int(age_s)
    return b"%bcache-status: %b\r\n" % (age, b"; ".join(parts))
