"""From an exchange to the bytes of its answer: the head of the app's answer as the route has it, and what we say
ourselves. Nothing is written here; called by `exchange` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopegate.edge import answer_fields
from scopegate.edge.field_rules import RATE_LIMIT_FIELDS
from scopegate.edge.headers import CHUNKED, STATUS_LINES, Noted
from scopegate.edge.verdict import Refusal, Reply
from scopegate.gateway import responses

if TYPE_CHECKING:
    from scopegate.gateway.exchange import Exchange


def app_head(x: Exchange, status: int, notes: Noted, length: int) -> bytes:
    """The head for the app's answer. `length` is the body's in bytes, CHUNKED or UNTIL_EOF."""
    spent, gate = x.spent, x.gate
    key = (x.plan, status, length, x.scheme, spent is None)
    if notes.kept is not None and notes.kept[0] == key:
        lines = notes.kept[1]
    else:
        lines = _app_lines(x, status, notes, length)
        if x.plan is not None and x.plan.cors is None:  # else they depend on who asks, too
            notes.kept = (key, lines)
    return b"%b%b%b%bx-request-id: %b\r\nvia: 1.1 scopegate\r\n\r\n" % (
        lines,
        b"" if b"date" in notes.noted else b"date: %b\r\n" % gate.http_date(),
        b"" if spent is None else responses.limit_fields(spent, gate.now_s()),
        b"" if x.keep_alive else b"connection: close\r\n",
        x.request_id,
    )


def _app_lines(x: Exchange, status: int, notes: Noted, length: int) -> bytes:
    """What is the same for every answer with these fields on this route."""
    plan = x.plan
    assert plan is not None
    if x.spent is not None:
        notes = notes.without(RATE_LIMIT_FIELDS)
    notes, ours = plan.security.for_answer(notes, is_https=x.scheme == b"https")
    if plan.cors is not None:
        notes, more = plan.cors.for_answer(notes, x.notes.get(b"origin"))
        ours += more
    if length == CHUNKED:
        framing = b"transfer-encoding: chunked\r\n"
    elif length > 0 or (length == 0 and x.method != "HEAD" and status not in (204, 304)):
        framing = b"content-length: %d\r\n" % length
    else:
        framing = b""
    return b"%b%b%b%b" % (STATUS_LINES[status], notes.lines, ours, framing)


def refused(x: Exchange, refusal: Refusal) -> bytes:
    """The whole answer to a request that goes no further, at whatever step it ended."""
    plan = x.plan
    notes: Noted | None = getattr(x, "notes", None)
    now_s = x.gate.now_s()
    extra = responses.limit_fields(x.spent, now_s) if x.spent is not None else b""
    if plan is not None and plan.cors is not None:
        extra += plan.cors.for_refusal(x.notes.get(b"origin"))
    security = plan.security if plan is not None else answer_fields.NO_ROUTE
    return responses.answer(
        refusal,
        x.request_id,
        page=notes is not None and responses.wants_page(notes.get(b"accept")),
        now_s=now_s,
        security=security.for_refusal(is_https=x.scheme == b"https"),
        extra=extra,
        bodiless=_is_head(x),
    )


def replied(x: Exchange, reply: Reply) -> bytes:
    """The whole answer to what asks nothing of the app."""
    close = b"" if x.keep_alive else b"connection: close\r\n"
    date = x.gate.http_date()
    return b"%bdate: %b\r\n%bx-request-id: %b\r\n%b\r\n" % (
        STATUS_LINES[reply.status], date, reply.lines, x.request_id, close,
    )  # fmt: skip


def _is_head(x: Exchange) -> bool:
    """Also before the target was judged: a body after HEAD would be read as the next answer."""
    head = getattr(x, "head", None)
    return head is not None and head.method == b"HEAD"
