"""Charts as SVG, drawn by the server. Pure: numbers in, markup out; colours are the style sheet's.

Each says in words what it shows, for who does not see it; the table beside it has the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 720, 140


class Bar(NamedTuple):
    label: str
    value: float
    said: str
    """The value in words."""


class TimelineBar(NamedTuple):
    """A stretch of a time line, in milliseconds from its beginning. `kind` is a class of the style sheet."""

    label: str
    from_ms: float
    until_ms: float
    kind: str
    said: str


def bars(what: str, found: Sequence[Bar]) -> Markup:
    """One bar each, from left to right, as high as the largest allows."""
    if not found:
        return Markup("")
    most = max(bar.value for bar in found) or 1
    step = _WIDTH / len(found)
    wide = max(1.0, step * 0.72)
    drawn = Markup("").join(
        Markup('<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
        .format(n * step + (step - wide) / 2, _HEIGHT - _high(bar.value, most), wide, _high(bar.value, most),
                f"{bar.label}: {bar.said}")
        for n, bar in enumerate(found)
    )  # fmt: skip
    ends = Markup(
        '<text class="tick" x="0" y="{0}">{1}</text><text class="tick end" x="{2}" y="{0}">{3}</text>'
    ).format(_HEIGHT + 15, found[0].label, _WIDTH, found[-1].label)
    ground = Markup('<line class="ground" x1="0" x2="{}" y1="{}" y2="{}"/>').format(_WIDTH, _HEIGHT, _HEIGHT)
    return Markup('<svg class="bars" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}</svg>').format(
        _WIDTH, _HEIGHT + 20, what, ground, drawn, ends
    )


def _high(value: float, most: float) -> float:
    """What is not nothing is seen."""
    return 0.0 if value <= 0 else max(2.0, value / most * (_HEIGHT - 4))


def meter(spent: float, reserved: float, most: float, what: str) -> Markup:
    """How full something is: what is spent, and what is set aside behind it."""
    full = max(most, 1)
    first, second = (min(100.0, value / full * 100) for value in (spent, spent + reserved))
    kind = "over" if first >= 100 else "high" if first >= 80 else "fine"
    return Markup(
        '<svg class="meter {}" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="room" width="100" height="8"/><rect class="aside" width="{:.2f}" height="8"/>'
        '<rect class="spent" width="{:.2f}" height="8"/></svg>'
    ).format(kind, what, second, first)


def spans(what: str, found: Sequence[TimelineBar]) -> Markup:
    """A line each under a common scale, so that what waited for what is seen."""
    if not found:
        return Markup("")
    whole = max(span.until_ms for span in found) or 1
    height, named = 20, 150
    room = _WIDTH - named
    lines = []
    for n, span in enumerate(found):
        x = named + span.from_ms / whole * room
        wide = max(2.0, (span.until_ms - span.from_ms) / whole * room)
        lines.append(
            Markup('<text class="name" x="0" y="{0:.1f}">{1}</text><rect class="{2}" x="{3:.1f}" y="{4:.1f}" '
                   'width="{5:.1f}" height="12" rx="2"><title>{6}</title></rect>')
            .format(n * height + 13, span.label, f"span {escape(span.kind)}", x, n * height + 3, wide,
                    f"{span.label}: {span.said}")
        )  # fmt: skip
    return Markup('<svg class="spans" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, len(found) * height + 2, what, Markup("").join(lines)
    )
