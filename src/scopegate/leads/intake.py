"""From an exchange to a Lead: what the offload's JMESPath expressions find in a request and its answer, or why not.

Pure. The gateway calls it once, after the app has accepted a lead; a lead it cannot read is counted and logged by its
reason, never guessed at. Expressions come from the policy file, everything they look at comes from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

import jmespath
from jmespath.exceptions import JMESPathError

from scopegate import jsontext
from scopegate.leads.job import Lead
from scopegate.policy.policy import Offload
from scopegate.types import Json

MAX_DEPTH = 64
MAX_ID_CHARS = 200
MAX_TEXT_CHARS = 20_000
MAX_PHOTOS = 12
MAX_URL_CHARS = 2048
CUT_MARK = "… [cut]"
"""Ends a text that was longer than MAX_TEXT_CHARS, so that nobody takes the rest for the whole."""

_KEPT = "\n\t\u200c\u200d"
"""Not printable, yet part of honest text: line ends, and the joiners that Persian, Hindi and emoji need."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why an accepted exchange gives no Lead. `reason` is one clause from a closed set and never holds the client's
    own text."""

    reason: str


class _Expression(Protocol):
    def search(self, value: Json) -> Json: ...


def parse_body(body: bytes) -> Json:
    """A JSON text as the app would read it; ValueError says what is wrong, without quoting the body.

    Strict where readers disagree (`jsontext`), at most MAX_DEPTH levels. Of two equal keys the last one counts, as in
    ECMAScript's JSON.parse, because the app behind us reads it so.
    """
    return jsontext.parse(body, max_depth=MAX_DEPTH, repeated_keys=True)


def read_lead(offload: Offload, request: Json, response: Json) -> Lead | Unreadable:
    """What the job needs of a lead. `request` and `response` are parsed bodies, None where there was none.

    Text longer than MAX_TEXT_CHARS is cut and marked; of more than MAX_PHOTOS photos the first are kept. A photo
    address is cut just beyond MAX_URL_CHARS, so that `photos.judge_url` refuses it by name. No photos is fine.
    """
    exchange: Json = {"request": request, "response": response}
    try:
        return Lead(
            lead_id=_lead_id(_search(offload.lead_id, exchange)),
            contractor=_contractor(_search(offload.contractor, exchange)) if offload.contractor else None,
            text=_text(_search(offload.text, exchange)),
            photos=_photos(_search(offload.photos, exchange)),
        )
    except _Refused as refused:
        return Unreadable(refused.args[0])


class _Refused(Exception):
    """Carries a reason up to read_lead and no further."""


def _search(expression: str, exchange: Json) -> Json:
    try:
        return _compiled(expression).search(exchange)
    except JMESPathError:  # a function met a type it does not take, e.g. join() over numbers
        raise _Refused("an expression does not fit this exchange") from None


@lru_cache(maxsize=256)
def _compiled(expression: str) -> _Expression:
    return cast(_Expression, jmespath.compile(expression))


def _lead_id(found: Json) -> str:
    return _identifier(found, "lead id")


def _contractor(found: Json) -> str | None:
    return None if found is None else _identifier(found, "contractor")


def _identifier(found: Json, what: str) -> str:
    if found is None:
        raise _Refused(f"no {what}")
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise _Refused(f"{what} is neither text nor a whole number")
    text = str(found)
    if not text or len(text) > MAX_ID_CHARS or not text.isprintable():
        raise _Refused(f"{what} is empty, longer than {MAX_ID_CHARS} characters or not printable")
    return text


def _text(found: Json) -> str:
    if found is None:
        return ""
    if not isinstance(found, str):
        raise _Refused("text is not a string")
    text = "".join(char if char.isprintable() or char in _KEPT else " " for char in found.replace("\r\n", "\n"))
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - len(CUT_MARK)] + CUT_MARK


def _photos(found: Json) -> tuple[str, ...]:
    if found is None:
        return ()
    addresses = [found] if isinstance(found, str) else found
    if not isinstance(addresses, list):
        raise _Refused("photos is not a list")
    urls = []
    for address in addresses[:MAX_PHOTOS]:
        if not isinstance(address, str):
            raise _Refused("a photo is not an address")
        urls.append(address[: MAX_URL_CHARS + 1])
    return tuple(urls)
