"""How long the other side asks to be left alone."""

from __future__ import annotations

import pytest

from scopegate.worker.retry_after import retry_after_s

DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250", "retry-after": "30"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "30"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:00 GMT", "date": DATE}, 60.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:59:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:00", "date": DATE}, None),
    ],
)
def test_what_is_asked_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_a_date_without_the_other_sides_clock_is_held_to_ours() -> None:
    assert retry_after_s({"retry-after": "Fri, 15 Jan 2010 08:00:00 GMT"}) == 0.0
