"""How long the other side asks to be left alone. Pure; read of Claude's answers and of the app's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds asked for by `retry-after-ms` or `retry-after` (seconds or a date, RFC 9110, 10.2.3), uncapped; None
    when absent or unreadable. `headers` have lower-case names, or find them in any case."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        until, now = parsedate_to_datetime(text), headers.get("date")
        base = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return max(0.0, (until - base).total_seconds())
    except (TypeError, ValueError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
