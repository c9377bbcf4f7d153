from __future__ import annotations

import pytest

from scopegate.caching.dates import only_date, read_date
from tests.caching.kept import DATE, NOW_S


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (DATE, NOW_S),
        (b" Tue, 24 NOV 2026 08:00:00 gmt\t", NOW_S),
        (b"Tuesday, 24-Nov-26 08:00:00 GMT", NOW_S),
        (b"Tue Nov 24 08:00:00 2026", NOW_S),
        (b"Thu Aug  8 02:01:18 2050", 2543536878.0),
        (b"Thursday, 18-Aug-50 02:01:18 GMT", 2544400878.0),
        (b"Friday, 25-Nov-77 00:00:00 GMT", 249264000.0),  # more than fifty years ahead would be
        (b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228799.0),  # a leap second
        (b"Thu, 18 Aug 50 02:01:18 GMT", None),
        (b"Thu, 18-Aug-2050 02:01:18 GMT", None),
        (b"Thu 18 Aug 2050 02:01:18 GMT", None),
        (b"Thu, 18  Aug  2050 02:01:18 GMT", None),
        (b"Thu, 18 Aug 2050 02.01.18 GMT", None),
        (b"Thu, 18 Aug 2050 2:01:18 GMT", None),
        (b"Thu, 18 Aug 2050 02:01:18 UTC", None),
        (b"Thu, 31 Feb 2050 02:01:18 GMT", None),
        (b"Thu, 18 Aug 2050 25:01:18 GMT", None),
        (b"Thu, 18 Aug 0000 02:01:18 GMT", None),
        (b"0", None),
        (b"", None),
        (b"-1", None),
        (b"Tue, " * 1000, None),
    ],
)
def test_a_date_is_read_as_http_writes_it(text: bytes, seconds: float | None) -> None:
    assert read_date(text, NOW_S) == seconds


def test_of_several_dates_none_counts() -> None:
    assert only_date([DATE], NOW_S) == NOW_S
    assert only_date([DATE, DATE], NOW_S) is None
    assert only_date([], NOW_S) is None
