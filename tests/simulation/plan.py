"""What a seed means: who there is, what is asked of them, and what goes wrong, how often and until when.

Each seed takes some of the faults and leaves the others out (swarm testing, Groce et al. 2012): where everything always
fails, much is never reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

FAULTS_UNTIL_S: Final = 45.0
"""From then on nothing fails any more, and everything has to come to rest."""


_MORNING_MS: Final = 1_800_000_000_000
_MIDNIGHT_MS: Final = -(-_MORNING_MS // 86_400_000) * 86_400_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Shares are in 0..1, of each time that it could happen; times are virtual seconds, None for never."""

    leads: int
    gateways: int
    workers: int
    photos: tuple[int, ...]
    has_redis: bool
    spools: bool
    keys: bool
    """Clients send an Idempotency-Key, and send again."""
    asks_app: bool
    reuse: bool
    same_words: bool
    """All leads say the same."""
    budgets: tuple[tuple[str, int], ...]
    """(kind, cap in micro-dollars)"""
    fails_when_spent: bool
    cheaper_model: bool
    sweep_s: float
    longest_wait_s: float
    """Of an ordinary answer of a store."""
    faults: Mapping[str, float]
    kills: int
    kills_at_events: bool
    stops: int
    stills: int
    outages: tuple[tuple[float, float, str], ...]
    """Of the database: (from, until, kind)."""
    clocks_ms: int
    begins_ms: int


_STORE = ("store_refuses", "store_forgets", "store_hangs")
_MODEL = (
    "model_busy",
    "model_broken",
    "model_hangs",
    "model_cut",
    "model_unreached",
    "model_wrong",
    "model_refuses",
    "model_short",
    "model_poor",
)
_APP = ("app_refuses", "app_broken", "app_hangs", "app_unreached", "app_away", "app_poor")
_REST = ("spool_full", "redis_down", "redis_forgets", "photo_away")


def draw(dice: Random) -> Plan:
    leads = dice.choice((1, 1, 2, 2, 3, 4))
    return Plan(
        leads=leads,
        gateways=dice.choice((1, 1, 2)),
        workers=dice.choice((1, 2, 2, 3)),
        photos=tuple(dice.choice((0, 1, 1, 2)) for _ in range(leads)),
        has_redis=dice.random() < 0.5,
        spools=dice.random() < 0.4,
        keys=dice.random() < 0.7,
        asks_app=dice.random() < 0.75,
        reuse=dice.random() < 0.3,
        same_words=dice.random() < 0.3,
        budgets=_budgets(dice),
        fails_when_spent=dice.random() < 0.3,
        cheaper_model=dice.random() < 0.2,
        sweep_s=dice.choice((2.0, 4.0, 6.0)),
        longest_wait_s=dice.choice((0.0, 0.01, 0.01, 0.3)),
        faults={
            **_some(dice, _STORE, 0.3, (0.01, 0.03, 0.1)),
            **_some(dice, _MODEL, 0.25, (0.1, 0.3, 0.6)),
            **_some(dice, _APP, 0.25, (0.1, 0.3, 0.6)),
            **_some(dice, _REST, 0.3, (0.2, 0.5, 1.0)),
        },
        kills=dice.choice((0, 1, 1, 2, 3, 5)),
        kills_at_events=dice.random() < 0.7,
        stops=dice.choice((0, 0, 1, 2)),
        stills=dice.choice((0, 0, 0, 1, 2)),
        outages=_outages(dice),
        clocks_ms=dice.choice((0, 0, 50, 1500)),
        begins_ms=dice.choice((_MORNING_MS, _MORNING_MS, _MORNING_MS, _MIDNIGHT_MS - 20_000)),
    )


def _some(dice: Random, names: tuple[str, ...], share: float, rates: tuple[float, ...]) -> dict[str, float]:
    return {name: dice.choice(rates) for name in names if dice.random() < share}


def _budgets(dice: Random) -> tuple[tuple[str, int], ...]:
    kinds = [kind for kind in ("total", "day", "rolling", "contractor", "lead") if dice.random() < 0.3]
    return tuple((kind, round(dice.choice((2_000, 5_000, 10_000, 40_000)) * (0.5 + dice.random()))) for kind in kinds)


def _outages(dice: Random) -> tuple[tuple[float, float, str], ...]:
    if dice.random() < 0.7:
        return ()
    begins_s = dice.random() * FAULTS_UNTIL_S
    return ((begins_s, min(FAULTS_UNTIL_S, begins_s + dice.choice((1, 5, 20))), dice.choice(("connect", "timeout"))),)
