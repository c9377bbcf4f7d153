"""The circuit breaker as a table: closed, open, half-open, with generations.

Pure: every function takes the state and `now` and gives the next state. `stores/memory` keeps states in a dict,
`stores/breaker.lua` says the same in Redis; only stores call this.

    phase      admit                                       success    failure                          ignored
    closed     permit                                      count = 0  count + 1; at the limit -> open  nothing
    open       denied while the cool-down runs;            dropped    dropped                          dropped
               then -> half-open, and this is the probe
    half-open  denied while the probe's lease runs;        -> closed  -> open, a new cool-down         the lease ends
               then permit, and this is the probe

Each arrow and each probe starts a new generation. A result from before the last arrow is dropped: it speaks of a time
that is over. A probe whose caller was killed frees its place when its lease ends; if it was only slow, its success or
failure still counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never


class CallOutcome(StrEnum):
    """How a permitted call ended, as the breaker sees it. `ignored` (a cancelled caller, our own mistake) counts as
    neither."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call. A result with an older `generation` than the breaker's is dropped. `probe` is the one
    call let through half-open."""

    generation: int
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """The breaker is open: nothing may be sent for `retry_after_s`."""

    retry_after_s: float


class Phase(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """What a policy asks for: after `failures` in a row no calls for `cooldown_s`."""

    failures: int
    cooldown_s: float


@dataclass(frozen=True, slots=True)
class BreakerTerms:
    """After `failures` in a row the breaker opens for `cooldown_ms`; a probe holds its place for `lease_ms`."""

    failures: int
    cooldown_ms: int
    lease_ms: int


@dataclass(frozen=True, slots=True)
class BreakerState:
    """`since` is the generation that the last arrow started, `failures` the count while closed, `until_ms` the end of
    the cool-down (open) or of the probe's lease (half-open, 0 for no probe)."""

    phase: Phase
    generation: int
    since: int
    failures: int = 0
    until_ms: int = 0


def fresh(now_ms: int) -> BreakerState:
    """A closed breaker. Its generation is the time, so that permits of a forgotten breaker stay older."""
    return BreakerState(Phase.CLOSED, now_ms, now_ms)


def phase(state: BreakerState, terms: BreakerTerms, now_ms: int) -> Phase:
    """What the breaker is at `now_ms`: open turns half-open by time alone."""
    if state.phase is Phase.OPEN and not _rest_ms(state, terms, now_ms):
        return Phase.HALF_OPEN
    return state.phase


def admit(state: BreakerState, terms: BreakerTerms, now_ms: int) -> tuple[BreakerState, Permit | Denied]:
    """May one more call be made? At most one caller gets the probe."""
    if state.phase is Phase.CLOSED:
        return state, Permit(state.generation)
    rest_ms = _rest_ms(state, terms, now_ms)
    if rest_ms:
        return state, Denied(rest_ms / 1000)
    generation = state.generation + 1
    since = generation if state.phase is Phase.OPEN else state.since
    probing = BreakerState(Phase.HALF_OPEN, generation, since, until_ms=now_ms + terms.lease_ms)
    return probing, Permit(generation, probe=True)


def record(state: BreakerState, terms: BreakerTerms, permit: Permit, outcome: CallOutcome, now_ms: int) -> BreakerState:
    """The state after a permitted call has ended."""
    if not state.since <= permit.generation <= state.generation or state.phase is Phase.OPEN:
        return state
    match outcome:
        case CallOutcome.SUCCESS:
            return _closed(state) if state.phase is Phase.HALF_OPEN else replace(state, failures=0)
        case CallOutcome.FAILURE:
            if state.phase is Phase.CLOSED and state.failures + 1 < terms.failures:
                return replace(state, failures=state.failures + 1)
            return _opened(state, now_ms + terms.cooldown_ms)
        case CallOutcome.IGNORED:
            frees = state.phase is Phase.HALF_OPEN and permit.generation == state.generation
            return replace(state, until_ms=0) if frees else state
        case _:
            assert_never(outcome)


def _closed(state: BreakerState) -> BreakerState:
    return BreakerState(Phase.CLOSED, state.generation + 1, state.generation + 1)


def _opened(state: BreakerState, until_ms: int) -> BreakerState:
    return BreakerState(Phase.OPEN, state.generation + 1, state.generation + 1, until_ms=until_ms)


def _rest_ms(state: BreakerState, terms: BreakerTerms, now_ms: int) -> int:
    """What is left of the cool-down or the lease. Nothing when more is left than a whole one: the rule was shortened
    or the clock set back, and a probe is cheaper than waiting for a time that may never come."""
    whole_ms = terms.cooldown_ms if state.phase is Phase.OPEN else terms.lease_ms
    rest_ms = state.until_ms - now_ms
    return rest_ms if 0 < rest_ms <= whole_ms else 0
