"""Which servers of an upstream get requests: ejection after failed exchanges, answers to health questions, slow return.

Pure tables with `now_s` as an argument: every function takes a value and gives the next. `gateway/pool` and
`gateway/health` keep the values and do the I/O.

Ejection, by what an exchange with the server came to:

    record     success                            failure
    up         failures = 0                       failures + 1; at the limit -> out for `for_s`, doubled when the
                                                  last time out was not long ago, at most 16 times `for_s`
    out        failures = 0; out until the end    failures + 1; out until the end

One that comes back has its failures still: the first exchange that fails takes it out again, the first that does not
clears it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

MAX_DOUBLINGS = 4
MIN_SHARE = 0.1
"""A server that has just come back gets this part of a full share, so that it is tried at all."""


class ServerState(StrEnum):
    """`ejected`: its exchanges failed. `unhealthy`: it does not answer the health question."""

    UP = "up"
    EJECTED = "ejected"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class EjectionTerms:
    """After `failures` in a row a server is out for `for_s`."""

    failures: int
    for_s: float


@dataclass(frozen=True, slots=True)
class Record:
    """How exchanges with one server went. `failures` in a row; it is (or was last) out until `until_s`, for `out_s`."""

    failures: int = 0
    until_s: float = float("-inf")
    out_s: float = 0.0


FRESH = Record()


def is_out(record: Record, now_s: float) -> bool:
    return now_s < record.until_s


def succeeded(record: Record) -> Record:
    """An answer came. One to a request from before does not end an ejection early."""
    return replace(record, failures=0)


def failed(record: Record, terms: EjectionTerms, now_s: float) -> Record:
    """No answer came, for which the server is to blame."""
    failures = record.failures + 1
    if failures < terms.failures or is_out(record, now_s):
        return replace(record, failures=failures)
    out_s = _next_out_s(record, terms, now_s)
    return Record(failures, now_s + out_s, out_s)


def _next_out_s(record: Record, terms: EjectionTerms, now_s: float) -> float:
    """Twice the last time, unless the server has been back for longer than it was out."""
    if now_s - record.until_s >= record.out_s:
        return terms.for_s
    return min(2 * record.out_s, terms.for_s * (1 << MAX_DOUBLINGS))


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the health questions say of one server. `against`: answers in a row that speak against `well`."""

    well: bool = True
    against: int = 0


def answered(pulse: Pulse, well: bool, unhealthy_after: int, healthy_after: int) -> Pulse:
    """The state after one more question; `well` is what this one said."""
    if well == pulse.well:
        return Pulse(pulse.well)
    against = pulse.against + 1
    if against < (unhealthy_after if pulse.well else healthy_after):
        return Pulse(pulse.well, against)
    return Pulse(well)


def share(since_s: float, slow_start_s: float) -> float:
    """The part of a full share (MIN_SHARE to 1) that a server gets which came back `since_s` ago."""
    if since_s >= slow_start_s:
        return 1.0
    return max(MIN_SHARE, since_s / slow_start_s)
