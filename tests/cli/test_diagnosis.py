"""One line for each thing looked at."""

from __future__ import annotations

from scopegate.cli.diagnosis import as_lines, failed, ok, unasked


def test_a_line_has_the_mend_where_one_is_due() -> None:
    assert as_lines([ok("disk", "9 GiB"), failed("redis", "away", "start it"), unasked("clock", "nobody")]) == [
        "ok       disk   9 GiB",
        "failed   redis  away: start it",
        "unasked  clock  nobody",
    ]


def test_what_came_from_outside_moves_no_cursor() -> None:
    assert "\x1b" not in as_lines([failed("redis", "\x1b[2J", "")])[0]
