"""Whom all gateways together refuse and admit most, out of what each process tells (`gateway/top`). Called by the admin
port and by `scopegate limits top`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from scopegate import jsontext
from scopegate.limits.sketch import Frequency, Summary, merged
from scopegate.types import Json

MOST = 100
_SENT = re.compile(r"((?:header|cookie):[^:]+:)([0-9a-f]{32})")
"""Of a field or cookie only a hash is known."""
_KINDS = ("refused", "admitted")


def top(told: Iterable[bytes], most: int) -> dict[str, list[dict[str, Json]]]:
    """{refused, admitted}: of each the `most` first as {tier, key, times, over}, the most times first. What cannot
    be read is left out. Keys are as `limits show` takes them."""
    read = [each for each in map(_read, told) if each is not None]
    return {kind: _rows(merged([summary for each in read for summary in each[kind]]), most) for kind in _KINDS}


def _read(text: bytes) -> Mapping[str, list[Summary]] | None:
    try:
        said: Any = jsontext.parse(text, max_depth=6)
        return {kind: [_summary(sketch) for sketch in said[kind]] for kind in _KINDS}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _summary(sketch: Any) -> Summary:
    found = {str(key): Frequency(int(times), int(over)) for key, (times, over) in sketch["found"].items()}
    return Summary(found, int(sketch["least"]))


def _rows(found: Mapping[str, Frequency], most: int) -> list[dict[str, Json]]:
    first = sorted(found.items(), key=lambda each: (-each[1].times, each[0]))[:most]
    return [_row(*entry.partition(" ")[::2], each) for entry, each in first]


def _row(tier: str, key: str, each: Frequency) -> dict[str, Json]:
    shown = ",".join([_SENT.sub(r"\1#\2", part.removeprefix("ip:")) for part in key.split("\n")])
    return {"tier": tier, "key": shown, "times": each.times, "over": each.over}
