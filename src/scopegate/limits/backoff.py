"""How long to wait before the next try: 1, 2, 4 s ... each ± 20 %, or what the server asked for, whichever is later.

Pure: the jitter is passed in. Called by `limits/attempts`; the job engine may use it for its own retries.
"""

from __future__ import annotations

import math

FIRST_DELAY_S = 1.0
SPREAD = 0.2
"""A delay without Retry-After lies in (1 ± SPREAD) times its nominal value."""

RETRY_AFTER_SPREAD = 0.25
"""Jitter goes on top of Retry-After, never below: many callers told the same second must not all return in it."""

CAP_S = 60.0
"""No nominal delay is longer, and no Retry-After beyond it is waited for."""


def delay_s(retry: int, jitter: float, retry_after_s: float | None = None) -> float | None:
    """Seconds to wait before retry number `retry` (from 1). `jitter` is uniform in 0..1.

    With `retry_after_s` the wait is never shorter than asked (RFC 9110, 10.2.3). None means: the server asked for more
    than `CAP_S`, so waiting here makes no sense.
    """
    assert retry >= 1, "the first call is not a retry"
    assert 0.0 <= jitter <= 1.0, "jitter is a share"
    nominal_s = min(FIRST_DELAY_S * 2.0 ** min(retry - 1, 16), CAP_S)
    own_s = nominal_s * (1.0 - SPREAD + 2.0 * SPREAD * jitter)
    if retry_after_s is None:
        return own_s
    if not math.isfinite(retry_after_s) or retry_after_s > CAP_S:
        return None
    return max(own_s, max(retry_after_s, 0.0) * (1.0 + RETRY_AFTER_SPREAD * jitter))
