"""The answers we make ourselves: problem+json (RFC 9457), or a plain page for a person's browser.

One shape for every refusal and outage. Nothing of the request is repeated but its id. Rate-limit fields (the legacy
trio and the two of draft-ietf-httpapi-ratelimit-headers-11) are made here too, for refused and proxied answers alike.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from math import ceil

from scopegate.edge.answer_fields import NO_ROUTE
from scopegate.edge.headers import STATUS_LINES
from scopegate.edge.proxy_status import status_line
from scopegate.edge.verdict import Refusal
from scopegate.limits.fallback import UNCOUNTED
from scopegate.limits.window import Quota, Spent, WindowState

LIMIT_FIELDS = (
    b"ratelimit",
    b"ratelimit-policy",
    b"retry-after",
    b"x-ratelimit-limit",
    b"x-ratelimit-remaining",
    b"x-ratelimit-reset",
    b"x-ratelimit-store-error",
)
"""What answers of a route with a tier may carry."""

_REGISTRY = "https://iana.org/assignments/http-problem-types#"
_TYPES = {"rate_limited": "quota-exceeded", "limit_store_down": "temporary-reduced-capacity"}
"""By code: types of draft-ietf-httpapi-ratelimit-headers-11."""
_NO_ROUTE_LINES = NO_ROUTE.for_refusal(is_https=False)
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<body><h1>{title}</h1><p>{detail}</p><p><small>Request {request_id}</small></p></body></html>
"""


def answer(
    refusal: Refusal,
    request_id: bytes,
    *,
    page: bool,
    now_s: float,
    security: bytes = _NO_ROUTE_LINES,
    extra: bytes = b"",
    bodiless: bool = False,
) -> bytes:
    """The whole answer, head and body. `security` and `extra` are ready-made field lines; `bodiless` is for HEAD."""
    body, content_type = _page(refusal, request_id) if page else _problem(refusal, request_id)
    fields = b"".join(b"%b: %b\r\n" % field for field in refusal.fields)
    head = (
        b"%bdate: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
        b"%b%bx-request-id: %b\r\n%b%b%b\r\n"
    ) % (
        STATUS_LINES[refusal.status],
        formatdate(now_s, usegmt=True).encode(),
        content_type,
        len(body),
        security,
        status_line(refusal.code),
        request_id,
        fields,
        extra,
        b"connection: close\r\n" if refusal.close else b"",
    )
    return head if bodiless else head + body


def _title(refusal: Refusal) -> str:
    return HTTPStatus(refusal.status).phrase


def _problem(refusal: Refusal, request_id: bytes) -> tuple[bytes, bytes]:
    known = _TYPES.get(refusal.code)
    problem = {
        "type": f"{_REGISTRY}{known}" if known else "about:blank",
        "title": _title(refusal),
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "request_id": request_id.decode(),
    }
    if refusal.exceeded:
        problem["violated-policies"] = refusal.exceeded
    return json.dumps(problem, separators=(",", ":")).encode(), b"application/problem+json"


def _page(refusal: Refusal, request_id: bytes) -> tuple[bytes, bytes]:
    if refusal.page:
        return refusal.page, b"text/html; charset=utf-8"
    text = _PAGE.format(
        title=html.escape(_title(refusal)), detail=html.escape(refusal.detail), request_id=request_id.decode()
    )
    return text.encode(), b"text/html; charset=utf-8"


def wants_page(accept: Sequence[bytes]) -> bool:
    """A browser's navigation: HTML is asked for, JSON is not."""
    return bool(accept) and b"text/html" in accept[0] and b"json" not in accept[0]


def limit_fields(spent: Spent, now_s: float) -> bytes:
    """Rate-limit field lines, as `docs/limits.md` describes them. `X-RateLimit-*` tell of the window with the least
    left."""
    if spent.alone:
        return _fields_alone(spent, now_s)
    standings = spent.standings
    if len(standings) == 1:  # the usual case, unrolled: this runs for every answer
        window, remaining, more_ms, reset_ms = standings[0]
        fixed, name = _limit_and_policy(window.name, window.quota)
        left = str(remaining).encode()
        return b'%bx-ratelimit-remaining: %b\r\nx-ratelimit-reset: %b\r\nratelimit: "%b";r=%b;t=%b\r\n' % (
            fixed,
            left,
            str(ceil(now_s + reset_ms / 1000)).encode(),
            name,
            left,
            str(-(-more_ms // 1000)).encode(),
        )
    tightest = min(standings, key=lambda s: (s.remaining, -s.reset_ms))
    return (
        b"x-ratelimit-limit: %d\r\nratelimit-policy: %b\r\n"
        b"x-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\nratelimit: %b\r\n"
    ) % (
        tightest.window.quota.limit,
        b", ".join([_policy_item(s.window.name, s.window.quota) for s in standings]),
        tightest.remaining,
        ceil(now_s + tightest.reset_ms / 1000),
        b", ".join([_limit_item(s) for s in standings]),
    )


def _fields_alone(spent: Spent, now_s: float) -> bytes:
    """While the store is away: what was counted here, if anything was, and that the store's word is missing."""
    if spent is UNCOUNTED:
        return b"x-ratelimit-store-error: allow\r\n"
    counted = limit_fields(spent._replace(alone=False), now_s) if spent.standings else b""
    return counted + b"x-ratelimit-store-error: local\r\n"


def _limit_and_policy(name: str, quota: Quota) -> tuple[bytes, bytes]:
    """What stays the same of a single window's lines, and the window's name in bytes. Kept for each name in the policy;
    a quota is known by being the same thing, for to compare it costs more than all else here."""
    kept = _kept.get(name)
    if kept is not None and kept[0] is quota:
        return kept[1], kept[2]
    lines = b"x-ratelimit-limit: %d\r\nratelimit-policy: %b\r\n" % (quota.limit, _policy_item(name, quota))
    _kept[name] = (quota, lines, name.encode())
    return lines, name.encode()


_kept: dict[str, tuple[Quota, bytes, bytes]] = {}


def _policy_item(name: str, quota: Quota) -> bytes:
    return f'"{name}";q={quota.limit};w={-(-quota.span_ms // 1000)}'.encode()


def _limit_item(standing: WindowState) -> bytes:
    return b'"%b";r=%d;t=%d' % (standing.window.name.encode(), standing.remaining, -(-standing.more_ms // 1000))


TOO_MANY_AT_ONCE = Refusal(429, "too_many_at_once", "Too many requests of yours at once.", ((b"retry-after", b"1"),))


def banned(spent: Spent) -> Refusal:
    """429, until the ban is over."""
    wait_s = max(1, -(-spent.retry_after_ms // 1000))
    return Refusal(429, "banned", "Refused too often. Try again later.", ((b"retry-after", b"%d" % wait_s),))


def rate_limited(spent: Spent) -> Refusal:
    """429. Waiting for `Retry-After` seconds admits the next request if nobody else spends (rounded up)."""
    wait_s = max(1, -(-spent.retry_after_ms // 1000))
    return Refusal(
        429,
        "rate_limited",
        f"Too many requests. Try again in {wait_s} second{'s' if wait_s > 1 else ''}.",
        ((b"retry-after", b"%d" % wait_s),),
        exceeded=tuple([standing.window.name for standing in spent.refused_by()]),
    )
