"""From what is known of a request to the bytes of its answer: the head of the app's answer as the route has it, and
what we say ourselves. Nothing is written here."""

from __future__ import annotations

from typing import Protocol

from scopegate.edge.field_rules import RATE_LIMIT_FIELDS
from scopegate.edge.headers import CHUNKED, STATUS_LINES, Noted
from scopegate.edge.verdict import Refusal, Reply, RequestHead
from scopegate.gateway import responses
from scopegate.gateway.ruleset import RoutePlan, Stray
from scopegate.limits.window import Spent


class Asked(Protocol):
    """What an answer has to know of its request. `head` and `notes` say nothing until the request was read."""

    head: RequestHead
    notes: Noted
    scheme: bytes
    spent: Spent | None
    request_id: bytes
    keep_alive: bool


class Times(Protocol):
    """The time, as answers tell it."""

    def now_s(self) -> float: ...

    def http_date(self) -> bytes: ...


def app_head(asked: Asked, plan: RoutePlan, status: int, notes: Noted, length: int, times: Times) -> bytes:
    """The head for the app's answer. `length` is the body's in bytes, CHUNKED or UNTIL_EOF."""
    spent = asked.spent
    lines = _kept_lines(asked, plan, status, notes, length)
    return b"%b%b%b%bx-request-id: %b\r\nvia: 1.1 scopegate\r\n\r\n" % (
        lines,
        b"" if b"date" in notes.noted else b"date: %b\r\n" % times.http_date(),
        b"" if spent is None else responses.limit_fields(spent, times.now_s()),
        b"" if asked.keep_alive else b"connection: close\r\n",
        asked.request_id,
    )


def stored_head(
    asked: Asked, plan: RoutePlan, status: int, notes: Noted, length: int, times: Times, told: bytes
) -> bytes:
    """The head for an answer that was kept, which has a Date. `told` are the lines of how it was come by."""
    spent = asked.spent
    return b"%b%b%b%bx-request-id: %b\r\nvia: 1.1 scopegate\r\n\r\n" % (
        _kept_lines(asked, plan, status, notes, length),
        told,
        b"" if spent is None else responses.limit_fields(spent, times.now_s()),
        b"" if asked.keep_alive else b"connection: close\r\n",
        asked.request_id,
    )


def _kept_lines(asked: Asked, plan: RoutePlan, status: int, notes: Noted, length: int) -> bytes:
    """`_app_lines`, made once as long as they stay the same."""
    key = (plan, status, length, asked.scheme, asked.spent is None)
    if notes.kept is not None and notes.kept[0] == key:
        return notes.kept[1]
    lines = _app_lines(asked, plan, status, notes, length)
    if plan.cors is None:  # else they depend on who asks, too
        notes.kept = (key, lines)
    return lines


def _app_lines(asked: Asked, plan: RoutePlan, status: int, notes: Noted, length: int) -> bytes:
    """What is the same for every answer with these fields on this route."""
    return STATUS_LINES[status] + app_fields(asked, plan, status, notes, length)


def app_fields(asked: Asked, plan: RoutePlan, status: int, notes: Noted, length: int) -> bytes:
    """The fields of an app's answer as the route has them, framing included."""
    if asked.spent is not None:
        notes = notes.without(RATE_LIMIT_FIELDS)
    notes, ours = plan.security.for_answer(notes, is_https=asked.scheme == b"https")
    if plan.cors is not None:
        notes, more = plan.cors.for_answer(notes, asked.notes.get(b"origin"))
        ours += more
    if length == CHUNKED:
        framing = b"transfer-encoding: chunked\r\n"
    elif length > 0 or (length == 0 and asked.head.method != b"HEAD" and status not in (204, 304)):
        framing = b"content-length: %d\r\n" % length
    else:
        framing = b""
    return b"%b%b%b" % (notes.lines, ours, framing)


def limit_fields(asked: Asked, now_s: float) -> bytes:
    """How the limits stand that the request was counted in."""
    return b"" if asked.spent is None else responses.limit_fields(asked.spent, now_s)


def interim(asked: Asked, status: int, notes: Noted) -> bytes:
    """The whole of an interim answer."""
    if asked.spent is not None:
        notes = notes.without(RATE_LIMIT_FIELDS)
    return b"%b%b\r\n" % (STATUS_LINES[status], notes.lines)


def refused(asked: Asked, met: RoutePlan | Stray, refusal: Refusal, now_s: float) -> bytes:
    """The whole answer to a request that goes no further, at whatever step it ended."""
    extra = limit_fields(asked, now_s)
    if met.cors is not None:
        extra += met.cors.for_refusal(asked.notes.get(b"origin"))
    return responses.answer(
        refusal,
        asked.request_id,
        page=responses.wants_page(asked.notes.get(b"accept")),
        now_s=now_s,
        security=met.security.for_refusal(is_https=asked.scheme == b"https", own=not refusal.page),
        extra=extra,
        bodiless=asked.head.method == b"HEAD",  # a body after it would be read as the next answer
    )


def replied(asked: Asked, reply: Reply, date: bytes) -> bytes:
    """The whole answer to what asks nothing of the app."""
    close = b"" if asked.keep_alive else b"connection: close\r\n"
    body = b"" if asked.head.method == b"HEAD" else reply.body
    return b"%bdate: %b\r\n%bx-request-id: %b\r\n%b\r\n%b" % (
        STATUS_LINES[reply.status], date, reply.lines, asked.request_id, close, body,
    )  # fmt: skip
