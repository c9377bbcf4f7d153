"""Whom this process refuses and admits most, by tier and key, over the last minutes.

Every refusal of a limit is counted; of admissions one in about sixteen, at a random distance from the last, for as
many. In sketches of 256 counters (`limits/sketch`), one pair for the minutes since the last turn and one for those
before it: under a mebibyte, whatever comes. Keys stand here in the clear, addresses among them: what is told of them
goes into a file of the state directory and nowhere else. Asked by `spending`, told by `wiring`.
"""

from __future__ import annotations

import hashlib
import json
import random

from scopegate.limits.sketch import SpaceSaving

TURN_S = 300.0
_COUNTERS = 256
_SAMPLED = 16
_MAX_CHARS = 200


class TopKeys:
    """What is told covers at least `TURN_S` and at most twice as long, where the process is as old."""

    __slots__ = ("_admitted", "_countdown", "_older", "_refused", "_turned_s", "changes")

    def __init__(self) -> None:
        self._turned_s: float | None = None
        self._refused = SpaceSaving(_COUNTERS)
        self._admitted = SpaceSaving(_COUNTERS)
        self._older: list[SpaceSaving] = [SpaceSaving(_COUNTERS), SpaceSaving(_COUNTERS)]
        self._countdown = 1
        self.changes = 0

    def refused(self, tier: str, key: str) -> None:
        self._refused.add(_entry(tier, key))
        self.changes += 1

    def admitted(self, tier: str, key: str) -> None:
        """One of those that `is_sampled` chose."""
        self._admitted.add(_entry(tier, key), _SAMPLED)
        self.changes += 1

    def is_sampled(self) -> bool:
        """To be asked once for every admission."""
        self._countdown -= 1
        if self._countdown > 0:
            return False
        self._countdown = random.randint(1, 2 * _SAMPLED - 1)  # noqa: S311 - it need not be a secret
        return True

    def told(self, now_s: float) -> str:
        """JSON: {refused: [SKETCH, ...], admitted: [SKETCH, ...]}, a SKETCH {least, found: {"TIER KEY": [count,
        over]}}. `now_s`: of a clock that never goes back."""
        if self._turned_s is None:
            self._turned_s = now_s
        if now_s - self._turned_s >= TURN_S:
            self._turned_s = now_s
            self._older = [self._refused, self._admitted]
            self._refused, self._admitted = SpaceSaving(_COUNTERS), SpaceSaving(_COUNTERS)
            self.changes += 1
        pairs = {"refused": (self._refused, self._older[0]), "admitted": (self._admitted, self._older[1])}
        return json.dumps({name: [_words(sketch) for sketch in pair] for name, pair in pairs.items()})


def _entry(tier: str, key: str) -> str:
    """No tier's name has a space. A long key is its beginning and a hash."""
    if len(key) > _MAX_CHARS:
        key = f"{key[:_MAX_CHARS]}~{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"
    return f"{tier} {key}"


def _words(sketch: SpaceSaving) -> dict[str, object]:
    return {"least": sketch.least, "found": {key: list(each) for key, each in sketch.found.items()}}
