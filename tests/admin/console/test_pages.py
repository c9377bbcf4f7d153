"""Values as people read them."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from scopegate.admin.console.pages import ago, clock, link, moment, segment, span, usd, visible


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain ü", "plain ü"),
        ("a\x00b\x1b[31m", "a\\x00b\\x1b[31m"),
        ("\u202egpj.exe", "\\x202egpj.exe"),
        ("\ud800", "\\xd800"),
        ("two\nlines\tand", "two\nlines\tand"),
        (None, ""),
        (0, "0"),
        (Markup("<b>\x00"), Markup("<b>\x00")),
    ],
)
def test_what_cannot_be_seen_is_made_visible(value: object, shown: object) -> None:
    assert visible(value) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1500, "1.5 s"),
        (61_000, "1 min 1 s"),
        (3_720_000, "1 h 2 min"),
        (2 * 86_400_000, "2 d 0 h"),
    ],
)
def test_spans(ms: int, shown: str) -> None:
    assert span(ms) == shown
    assert span(None) == ""


def test_moments_are_utc() -> None:
    assert moment(1_800_000_000_123) == "2027-01-15 08:00:00"
    assert clock(1_800_000_000_123) == "08:00:00.123"
    assert moment(None) == ""
    assert [ago(1_000_000 - s * 1000, 1_000_000) for s in (0, 59, 60, 7199, 7200)] == [
        "0 s ago", "59 s ago", "1 min ago", "1 h ago", "2 h ago",
    ]  # fmt: skip
    assert ago(2_000, 1_000) == "0 s ago", "of a clock that is ahead"


def test_money_is_told_to_the_hundredth_of_a_cent() -> None:
    assert usd(1_234_567_890) == "$1,234.5679"


def test_links_carry_what_they_are_given() -> None:
    assert link("/jobs", {"lead": "a&b=<c>", "text": "", "x": None}, state="failed") == (
        "/jobs?lead=a%26b%3D%3Cc%3E&state=failed"
    )
    assert link("/jobs") == "/jobs"
    assert link("/jobs", lead="\ud800") == "/jobs?lead=%3F"
    assert segment("../a?b#c") == "..%2Fa%3Fb%23c"
