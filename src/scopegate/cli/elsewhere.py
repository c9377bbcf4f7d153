"""What `scopegate reload` says of processes on other hosts and in other containers that share the state directory.

No signal reaches them, but they look at the file by themselves: their word is waited for. Called by `reload`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from scopegate.following.standing import Standing
from scopegate.process.board import here

WITHIN_S = 5.0
_LOOK_EVERY_S = 0.05


def split(found: Sequence[Standing]) -> tuple[list[Standing], list[Standing]]:
    """Those that a signal of ours reaches, and the others."""
    host = here()
    return [one for one in found if one.host == host], [one for one in found if one.host != host]


def agree(look: Callable[[], Sequence[Standing]], within_s: float = WITHIN_S) -> bool:
    """Wait until all others serve what the processes here do, and say how many of them do. `look` gives all that
    follow the file."""
    deadline = time.monotonic() + within_s
    while True:
        ours, others = split(look())
        wanted = {one.digest for one in ours}
        agreeing = [one for one in others if one.digest in wanted]
        if len(agreeing) == len(others) or time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_EVERY_S)
    if others:
        print(f"elsewhere: {len(agreeing)} of {len(others)} process{'es' if len(others) > 1 else ''} serve the same")
    return len(agreeing) == len(others)
