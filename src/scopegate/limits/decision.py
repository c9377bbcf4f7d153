"""What became of one request at its tier: the closed set that the pipeline counts and the metrics show.

Plain strings that the type checker holds to the set: an enum's members hash in Python, twice for every request.
"""

from __future__ import annotations

from typing import Literal, get_args

LimitDecision = Literal[
    "admitted",
    "limited",
    "exempt",  # no tier counts it
    "banned",
    "crowded",  # too many of the key in flight
    "would_limit",  # watch mode: counted, not refused
    # while the store is down, as the tier's `on_store_error` has it:
    "local_admitted",
    "local_limited",
    "allowed",
    "denied",
]

LIMIT_DECISIONS: tuple[LimitDecision, ...] = get_args(LimitDecision)
