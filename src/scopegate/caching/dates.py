"""The time in a field, as HTTP writes it (RFC 9110 5.6.7): one form that is sent, and two old ones that are read.

Pure. Anything else is no date: what rests on it counts as expired. Case of names is not held against anybody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

_MONTHS = {
    month: number
    for number, month in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}  # fmt: skip
_MONTH = rb"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_CLOCK = rb"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_FIXED = re.compile(rb"(?:mon|tue|wed|thu|fri|sat|sun), ([0-9]{2}) %b ([0-9]{4}) %b gmt" % (_MONTH, _CLOCK))
_RFC_850 = re.compile(
    rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day, ([0-9]{2})-%b-([0-9]{2}) %b gmt" % (_MONTH, _CLOCK)
)
_ASCTIME = re.compile(rb"(?:mon|tue|wed|thu|fri|sat|sun) %b ([0-9 ][0-9]) %b ([0-9]{4})" % (_MONTH, _CLOCK))
_LONGEST = 40
_HALF_A_CENTURY = 50


def read_date(value: bytes, now_s: float) -> float | None:
    """Unix seconds, or None for what is no date. `now_s` says which century two digits of a year are in."""
    text = value.strip(b" \t").lower()
    if len(text) > _LONGEST:
        return None
    found = _FIXED.fullmatch(text)
    if found is not None:
        return _seconds(int(found[3]), found[2], int(found[1]), found[4], found[5], found[6])
    found = _RFC_850.fullmatch(text)
    if found is not None:
        year = _with_century(int(found[3]), datetime.fromtimestamp(now_s, UTC).year)
        return _seconds(year, found[2], int(found[1]), found[4], found[5], found[6])
    found = _ASCTIME.fullmatch(text)
    if found is not None:
        return _seconds(int(found[6]), found[1], int(found[2]), found[3], found[4], found[5])
    return None


def only_date(values: Sequence[bytes], now_s: float) -> float | None:
    """That of the one field there is; of several nobody knows which was meant."""
    return read_date(values[0], now_s) if len(values) == 1 else None


def _with_century(digits: int, this_year: int) -> int:
    """The year of two digits that is not more than fifty years ahead (RFC 9110 5.6.7)."""
    year = this_year - this_year % 100 + digits
    return year - 100 if year > this_year + _HALF_A_CENTURY else year


def _seconds(year: int, month: bytes, day: int, hour: bytes, minute: bytes, second: bytes) -> float | None:
    try:
        moment = datetime(year, _MONTHS[month], day, int(hour), int(minute), min(int(second), 59), tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp()
