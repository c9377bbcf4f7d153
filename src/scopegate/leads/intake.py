"""From an exchange to a Lead: what the offload's JMESPath expressions find in a request and its answer, or why not.

Pure. The gateway calls it once, after the app has accepted a lead; a lead it cannot read is counted and logged by its
reason, never guessed at. Expressions come from the policy file, everything they look at comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from scopegate.leads.job import Lead, Unreadable
from scopegate.leads.reading import BothSides, NotReadError, search
from scopegate.policy.policy import Offload
from scopegate.types import Json

MAX_ID_CHARS = 200
MAX_TEXT_CHARS = 20_000
MAX_PHOTOS = 100
"""Addresses of one lead. How many of them the model sees is `photos.MAX_SEEN`'s business."""
MAX_URL_CHARS = 2048
CUT_MARK = "… [cut]"
"""Ends a text that was longer than MAX_TEXT_CHARS, so that nobody takes the rest for the whole."""
MAX_SAFE_NUMBER = 2**53 - 1
"""A larger one is another number to readers that know doubles alone (RFC 7493 section 2.2)."""

_KEPT = "\n\t\u200c\u200d"
"""Not printable, yet part of honest text: line ends, and the joiners that Persian, Hindi and emoji need."""


def read_lead(offload: Offload, request: Json | Unreadable, response: Json | Unreadable) -> Lead | Unreadable:
    """What the job needs of a lead. `request` and `response` are bodies as `read_body` gives them.

    Text longer than MAX_TEXT_CHARS is cut and marked. A photo address is cut just beyond MAX_URL_CHARS, so that
    `photos.judge_url` refuses it by name. No photos is fine, and so is no text, but not neither: nobody is paid for
    reading nothing.
    """
    exchange = BothSides(request, response)
    try:
        lead = Lead(
            lead_id=_lead_id(search(offload.lead_id, exchange)),
            contractor=_contractor(search(offload.contractor, exchange)) if offload.contractor else None,
            text=_text(search(offload.text, exchange)),
            photos=_photos(search(offload.photos, exchange)),
        )
    except NotReadError as fault:
        return Unreadable(fault.args[0])
    return lead if lead.text.strip() or lead.photos else Unreadable("neither words nor photos")


def edit_lead(lead: Lead, changes: Json | Unreadable) -> Lead | Unreadable:
    """The lead with another `text`, `photos` or `contractor`, read as strictly as a visitor's."""
    if isinstance(changes, Unreadable):
        return changes
    if not isinstance(changes, dict) or not changes or changes.keys() - _EDITABLE.keys():
        return Unreadable(f"it is no object with some of {', '.join(_EDITABLE)}")
    try:
        edited = replace(lead, **{name: _EDITABLE[name](value) for name, value in changes.items()})
    except NotReadError as fault:
        return Unreadable(fault.args[0])
    return edited if edited.text.strip() or edited.photos else Unreadable("neither words nor photos")


def judge_request(offload: Offload, request: Json | Unreadable) -> Unreadable | None:
    """Whether the request alone already says that no lead can be read of it. Asked before the app hears it; what comes
    from the app's answer is not looked at."""
    exchange = BothSides(request, _NOT_YET)
    for expression, read in _reads(offload):
        try:
            read(search(expression, exchange))
        except NotReadError as fault:
            if _NOT_YET.reason not in fault.args[0]:
                return Unreadable(fault.args[0])
    return None


_NOT_YET = Unreadable("it is not here yet")


def _reads(offload: Offload) -> list[tuple[str, Callable[[Json], object]]]:
    """The expressions for what a visitor sends, and how each is read; the id is the app's."""
    found: list[tuple[str, Callable[[Json], object]]] = [(offload.text, _text), (offload.photos, _photos)]
    return [*found, (offload.contractor, _contractor)] if offload.contractor else found


def _lead_id(found: Json) -> str:
    return _identifier(found, "lead id")


def _contractor(found: Json) -> str | None:
    """Budgets count by it, so it must be one word to every reader."""
    if found is None:
        return None
    name = _identifier(found, "contractor")
    if isinstance(found, int) and abs(found) > MAX_SAFE_NUMBER:
        raise NotReadError("contractor is a number that readers round")
    if name != name.strip():
        raise NotReadError("contractor has space around it")
    return name


def _identifier(found: Json, what: str) -> str:
    if found is None:
        raise NotReadError(f"no {what}")
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise NotReadError(f"{what} is neither text nor a whole number")
    text = str(found)
    if not text or len(text) > MAX_ID_CHARS or not text.isprintable() or "\ufffd" in text:
        raise NotReadError(f"{what} is empty, longer than {MAX_ID_CHARS} characters or not printable")
    return text


def _text(found: Json) -> str:
    if found is None:
        return ""
    if not isinstance(found, str):
        raise NotReadError("text is not a string")
    text = "".join(char if char.isprintable() or char in _KEPT else " " for char in found.replace("\r\n", "\n"))
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - len(CUT_MARK)] + CUT_MARK


def _photos(found: Json) -> tuple[str, ...]:
    if found is None:
        return ()
    addresses = [found] if isinstance(found, str) else found
    if not isinstance(addresses, list):
        raise NotReadError("photos is not a list")
    if len(addresses) > MAX_PHOTOS:
        raise NotReadError(f"more than {MAX_PHOTOS} photos")
    urls = []
    for address in addresses:
        if not isinstance(address, str):
            raise NotReadError("a photo is not an address")
        urls.append(address[: MAX_URL_CHARS + 1])
    return tuple(urls)


_EDITABLE: dict[str, Callable[[Json], Any]] = {"text": _text, "photos": _photos, "contractor": _contractor}
