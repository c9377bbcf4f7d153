"""What a model call costs, in integer micro-dollars, from a versioned price table.

Pure. Called by the metered client before a call (worst case) and after it (the real usage).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What the API says it billed, in tokens. `input_tokens` excludes cache reads and writes, as the API reports it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
