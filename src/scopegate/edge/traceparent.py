"""The trace a request belongs to (W3C Trace Context): the visitor's when it is well-formed, else a new one.

`draw` gives random bits. A trace that came is passed on byte for byte, for we are no span of it; one that is
wrong in any way is dropped with its state, so the app never reads what another hop read differently. Called by the
pipeline for every request.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from scopegate.edge.headers import Noted

MAX_STATE_BYTES = 512
MAX_STATE_MEMBERS = 32

_SPACE = b" \t"
_TRACE_BITS, _DRAWN = 192, 32
"""A trace (16 bytes) and a span (8) in it; so many are drawn at once."""
_NONE_ZERO = sum((1 << 64 | 1) << _TRACE_BITS * n for n in range(_DRAWN))
"""An id of either may not be all zero."""
_IDS = rb"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_PARENT = re.compile(rb"00%b|(?!00|ff)[0-9a-f]{2}%b(?:-[\x21-\x7e]{0,64})?" % (_IDS, _IDS))
"""Version 00 ends after the flags; a later version may go on after a dash (3.2.4)."""
_KEY = rb"(?:[a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(rb"(%b)=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]" % _KEY)


def given_trace(notes: Noted) -> bytes:
    """The visitor's traceparent line to send on, with the tracestate line where there is one; empty when none came that
    can be believed."""
    parents = notes.noted.get(b"traceparent")
    if parents is not None and len(parents) == 1 and b"traceparent" not in notes.tokens:
        parent = parents[0].strip(_SPACE)
        if _PARENT.fullmatch(parent):
            return b"traceparent: %b\r\n%b" % (parent, _state_line(notes))
    return b""


class Traces:
    """Traces that begin here, not sampled (flags 00): whether to record is not ours to decide."""

    __slots__ = ("_at", "_digits", "_draw")

    def __init__(self, draw: Callable[[int], int]) -> None:
        self._draw = draw
        self._digits = b""
        self._at = 0

    def begin(self) -> bytes:
        """The traceparent line of a new one."""
        at = self._at
        if at == len(self._digits):  # to draw for one alone costs more than the rest
            drawn = self._draw(_TRACE_BITS * _DRAWN) | _NONE_ZERO
            self._digits = drawn.to_bytes(_TRACE_BITS * _DRAWN // 8, "big").hex().encode()
            at = 0
        self._at = at + _TRACE_BITS // 4
        return b"traceparent: 00-%b-%b-00\r\n" % (self._digits[at : at + 32], self._digits[at + 32 : at + 48])


def _state_line(notes: Noted) -> bytes:
    states = notes.noted.get(b"tracestate")
    if states is None or b"tracestate" in notes.tokens:
        return b""
    state = b",".join([value.strip(_SPACE) for value in states])
    return b"tracestate: %b\r\n" % state if _is_state(state) else b""


def _is_state(state: bytes) -> bool:
    """A list of at most 32 members, no key twice (3.3.1); empty members do not count."""
    if not 0 < len(state) <= MAX_STATE_BYTES:
        return False
    members = [member for each in state.split(b",") if (member := each.strip(_SPACE))]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in matches if match is not None}
    return 0 < len(members) == len(keys) <= MAX_STATE_MEMBERS
