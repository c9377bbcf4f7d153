"""Answers and requests for the tables of the cache, from a few lines of text."""

from __future__ import annotations

from dataclasses import replace

from scopegate.caching.said import Said, said_of
from scopegate.caching.storable import CacheRequest, Unstorable, judge
from scopegate.caching.stored import Stored
from scopegate.edge.headers import Noted, read_response
from scopegate.policy.policy import CachedMethod, CacheKey, CacheRule

NOW_S = 1_795_507_200.0
DATE = b"Tue, 24 Nov 2026 08:00:00 GMT"
"""NOW_S as HTTP writes it."""
RULE = CacheRule(
    key=CacheKey(),
    ttl_s=0.0,
    heuristic=0.0,
    methods=frozenset(CachedMethod),
    max_object_bytes=1000,
    stale_while_revalidate_s=0.0,
    stale_if_error_s=0.0,
    ignore_client_no_cache=False,
)


def said(text: str) -> Said:
    """`name: value` lines."""
    return said_of(line.encode("latin-1") + b"\r\n" for line in text.splitlines() if line)


def notes(text: str, status: int = 200, body: bytes = b"ok") -> Noted:
    """What the app's side makes of an answer with these field lines."""
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in _fields(text)]
    return read_response([*fields, (b"content-length", b"%d" % len(body))], status, "GET")


def _fields(text: str) -> list[tuple[str, str]]:
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in text.splitlines() if line)]


def asked(text: str = "", *, method: str = "GET", signed_in: bool = False, url: bytes = b"a.example/x") -> CacheRequest:
    found = said(text)
    return CacheRequest(
        url,
        method,
        found,
        is_signed_in=signed_in,
        is_covered=b"cookie" not in found,
        no_store=False,
        asked_s=NOW_S,
        seen=0,
    )


def judged(
    answer: str, request: str = "", *, status: int = 200, body: bytes = b"ok", **rule: object
) -> Stored | Unstorable:
    found = judge(
        asked(request),
        status,
        notes(answer, status, body),
        len(body),
        replace(RULE, **rule),  # type: ignore[arg-type]
        NOW_S,
        DATE,
    )
    if isinstance(found, Stored):
        found.body = body
    return found


def stored(answer: str, request: str = "", *, status: int = 200, body: bytes = b"ok", **rule: object) -> Stored:
    found = judged(answer, request, status=status, body=body, **rule)
    assert isinstance(found, Stored), found
    return found
