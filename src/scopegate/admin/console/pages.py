"""How a page of the console is made: one frame, values in, HTML out. What a page shows is its own file's business.

Every value is escaped by the engine, and what cannot be seen is made visible first. There is no inline script or style:
the content security policy forbids both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from scopegate import __version__
from scopegate.admin.console import charts
from scopegate.admin.credentials import Credentials, Who

SECTIONS = (
    ("Jobs", "/jobs"),
    ("Orders", "/orders"),
    ("Money", "/money"),
    ("Protection", "/protection"),
    ("Policy", "/policy"),
    ("Health", "/health"),
    ("Audit", "/audit"),
)
_SEEN = "\n\t"


class Pages:
    """`now_ms` and `digest` are asked for each page."""

    def __init__(self, credentials: Credentials, now_ms: Callable[[], int], digest: Callable[[], str]) -> None:
        self._credentials, self._now_ms, self._digest = credentials, now_ms, digest
        self._engine = Environment(
            loader=PackageLoader("scopegate.admin.console"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=visible,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._engine.filters |= {
            "usd": usd, "cents": cents, "moment": moment, "clock": clock, "span": span, "number": number, "part": part,
        }  # fmt: skip
        self._engine.globals |= {"link": link, "bars": charts.bars, "meter": charts.meter, "spans": charts.spans}

    def answer(self, request: Request, template: str, status: int = 200, **values: object) -> HTMLResponse:
        return HTMLResponse(self.text(request, template, **values), status)

    def text(self, request: Request, template: str, **values: object) -> str:
        who = who_of(request)
        now_ms = self._now_ms()
        frame: dict[str, object] = {
            "who": who,
            "is_signed_in": who is not None and who.by == "session",
            "form_token": "" if who is None else self._credentials.form_token(who),
            "here": request.url.path,
            "sections": SECTIONS,
            "now_ms": now_ms,
            "version": __version__,
            "digest": self._digest(),
            "ago": lambda at_ms: ago(at_ms, now_ms),
        }
        return self._engine.get_template(template).render(frame | values)


def who_of(request: Request) -> Who | None:
    who: Who | None = getattr(request.state, "who", None)
    return who


def known(request: Request) -> Who:
    """Behind the guard there is somebody."""
    who = who_of(request)
    assert who is not None, "the guard lets nobody through without a name"
    return who


# ── values as people read them ──────────────────────────────────────────────────────────────────────────────────────


def visible(value: object) -> object:
    """Control characters, direction marks and lone surrogates as `\\xNN`; None as nothing."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return ""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _SEEN else f"\\x{ord(c):02x}" for c in text)


def usd(micros: int) -> str:
    """To the hundredth of a cent, as calls cost."""
    return f"${micros / 1_000_000:,.4f}"


def cents(micros: int) -> str:
    return f"${micros / 1_000_000:,.2f}"


def number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def part(value: float) -> str:
    """Per cent of a share."""
    return f"{value * 100:.0f} %"


def moment(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M:%S.") + f"{ms % 1000:03d}"


def span(ms: float | None) -> str:
    """A length of time in its two largest units."""
    if ms is None:
        return ""
    seconds = ms / 1000
    if seconds < 1:
        return f"{ms:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def ago(at_ms: int, now_ms: int) -> str:
    seconds = (now_ms - at_ms) // 1000
    for most, unit, name in ((60, 1, "s"), (3600, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < most:
            return f"{max(0, seconds) // unit} {name} ago"
    return f"{seconds // 86_400} d ago"


def link(path: str, values: Mapping[str, Any] | None = None, /, **more: Any) -> str:
    """A path with its query; what is None or empty is left out. A name for itself in a path is `part_of`."""
    query = {name: value for name, value in {**(values or {}), **more}.items() if value not in (None, "")}
    return f"{path}?{urlencode(query, errors='replace')}" if query else path


def segment(text: str) -> str:
    return quote(text, safe="", errors="replace")
