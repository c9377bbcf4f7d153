"""Max-Forwards on OPTIONS: how many proxies a request may still pass (RFC 9110 7.6.2).

Pure. TRACE, the other method that it speaks of, is not served here at all. Called by the gateway.
"""

from __future__ import annotations

from collections.abc import Sequence

from scopegate.edge.verdict import Refusal

MOST = 999_999_999
"""Larger numbers are told on as this one."""

_NO_NUMBER = Refusal(400, "bad_syntax", "Max-Forwards is not one number.", close=True)


def forwards_left(values: Sequence[bytes]) -> int | Refusal | None:
    """How many more proxies may forward a request, by its fields of that name; 0: who has it is its last recipient.
    None when it is not bounded."""
    if not values:
        return None
    digits = values[0].strip(b" \t")
    if len(values) > 1 or not digits.isdigit():
        return _NO_NUMBER
    significant = digits.lstrip(b"0") or b"0"
    return int(significant) if len(significant) <= len(str(MOST)) else MOST
