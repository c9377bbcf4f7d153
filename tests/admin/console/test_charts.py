"""What is drawn: its lengths, and that no label acts."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from scopegate.admin.console.charts import Bar, TimelineBar, bars, meter, spans

HOSTILE = "</title><script>alert(1)</script>\"'"


def test_bars_are_as_high_as_their_values() -> None:
    drawn = ElementTree.fromstring(bars("Spend", [Bar("a", 0, "$0"), Bar("b", 5, "$5"), Bar("c", 10, "$10")]))
    heights = [float(rect.attrib["height"]) for rect in drawn.iter("rect")]
    assert heights[0] == 0
    assert heights[1] == pytest.approx(heights[2] / 2)
    assert drawn.attrib["aria-label"] == "Spend"
    assert [title.text for title in drawn.iter("title")] == ["a: $0", "b: $5", "c: $10"]
    assert bars("Spend", []) == ""
    assert bars("Spend", [Bar("a", 0, "")]) != ""


@pytest.mark.parametrize(
    ("spent", "reserved", "kind", "widths"),
    [
        (0, 0, "fine", [100, 0, 0]),
        (50, 25, "fine", [100, 75, 50]),
        (80, 0, "high", [100, 80, 80]),
        (150, 9, "over", [100, 100, 100]),
    ],
)
def test_a_meter_shows_what_is_spent_and_set_aside(spent: int, reserved: int, kind: str, widths: list[float]) -> None:
    drawn = ElementTree.fromstring(meter(spent, reserved, 100, "day"))
    assert drawn.attrib["class"] == f"meter {kind}"
    assert [float(rect.attrib["width"]) for rect in drawn.iter("rect")] == widths
    assert meter(1, 0, 0, "none") != ""


def test_spans_begin_and_end_on_one_scale() -> None:
    drawn = ElementTree.fromstring(
        spans("Time line", [TimelineBar("waits", 0, 50, "waits", ""), TimelineBar("a 1", 50, 100, "done", "")])
    )
    first, second = [(float(rect.attrib["x"]), float(rect.attrib["width"])) for rect in drawn.iter("rect")]
    assert first[0] + first[1] == pytest.approx(second[0])
    assert first[1] == pytest.approx(second[1])
    assert spans("Time line", []) == ""
    assert "<rect" in spans("Time line", [TimelineBar("now", 0, 0, "running", "")])


def test_no_label_becomes_a_tag() -> None:
    for drawn in (
        bars(HOSTILE, [Bar(HOSTILE, 1, HOSTILE)]),
        meter(1, 1, 2, HOSTILE),
        spans(HOSTILE, [TimelineBar(HOSTILE, 0, 1, HOSTILE, HOSTILE)]),
    ):
        assert not re.search(r"<script|onload", drawn)
        ElementTree.fromstring(drawn)
