"""What a browser asks: a query in which every name is known, a form that only our own page can have sent.

Raises HTTPException with one sentence of ours.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from scopegate.admin.console.pages import known
from scopegate.admin.credentials import Credentials

T = TypeVar("T")

MAX_FORM_BYTES = 512 * 1024
MAX_FORM_FIELDS = 1100
MAX_VALUE_CHARS = 500


def query_of(request: Request, names: Sequence[str], *, keeps_empty: bool = False) -> Mapping[str, str]:
    """The query's values, each name once; an empty one, as browsers send it of a field left empty, counts as left out.
    Unknown names are refused: a filter that is misspelt must not answer with everything."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in names:
            known_names = ", ".join(names) or "none"
            raise HTTPException(400, f"There is no such parameter here. Known: {known_names}.")
        if name in found:
            raise HTTPException(400, f"{name} may be given once.")
        if len(value) > MAX_VALUE_CHARS:
            raise HTTPException(400, f"{name} has more than {MAX_VALUE_CHARS} characters.")
        if value or keeps_empty:
            found[name] = value
    return found


def read(query: Mapping[str, str], name: str, parse: Callable[[str], T], allowed: str) -> T | None:
    """One value; None when absent, 400 when it is not what `allowed` says."""
    if name not in query:
        return None
    try:
        return parse(query[name])
    except (ValueError, OverflowError):
        raise HTTPException(400, f"{name} must be one of: {allowed}.") from None


def day_starts_ms(text: str, days: int = 0) -> int:
    """Where a UTC day begins, `days` later. Raises ValueError and OverflowError."""
    day = date.fromisoformat(text) + timedelta(days=days)
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


class Form:
    def __init__(self, items: Sequence[tuple[str, str]]) -> None:
        self._items = items

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._items if key == name]

    def one(self, name: str) -> str:
        """Empty when it is not there."""
        found = self.all(name)
        if len(found) > 1:
            raise HTTPException(400, f"{name} may be given once.")
        return found[0] if found else ""


async def form_of(request: Request, credentials: Credentials) -> Form:
    """Sent by a page that we gave to whoever asks now."""
    form = await bare_form_of(request)
    if not credentials.is_form_token(known(request), form.one("form")):
        raise HTTPException(403, "This form is not of this session: open the page again.")
    return form


async def bare_form_of(request: Request) -> Form:
    """Without a token: of the sign-in alone."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A form is application/x-www-form-urlencoded.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413, f"A form has at most {MAX_FORM_BYTES} bytes.")
    try:
        text = codecs.decode(bytes(body), "ascii")
        items = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise HTTPException(400, "The form cannot be read.") from None
    return Form(items)
