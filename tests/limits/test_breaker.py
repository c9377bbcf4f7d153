"""The circuit breaker's table, one group per phase. Time is an argument."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scopegate.limits.breaker import (
    BreakerState,
    BreakerTerms,
    CallOutcome,
    Denied,
    Permit,
    Phase,
    admit,
    fresh,
    phase,
    record,
)

TERMS = BreakerTerms(failures=3, cooldown_ms=60_000, lease_ms=30_000)
START = 1_000_000


class Breaker:
    """A breaker with a clock, and verbs that read aloud."""

    def __init__(self, terms: BreakerTerms = TERMS) -> None:
        self.terms = terms
        self.now_ms = START
        self.state = fresh(START)

    def ask(self) -> Permit | Denied:
        self.state, answer = admit(self.state, self.terms, self.now_ms)
        return answer

    def permit(self) -> Permit:
        answer = self.ask()
        assert isinstance(answer, Permit)
        return answer

    def end(self, permit: Permit, outcome: CallOutcome) -> None:
        self.state = record(self.state, self.terms, permit, outcome, self.now_ms)

    def succeed(self) -> None:
        self.end(self.permit(), CallOutcome.SUCCESS)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.end(self.permit(), CallOutcome.FAILURE)

    def ignore(self) -> None:
        self.end(self.permit(), CallOutcome.IGNORED)

    @property
    def phase(self) -> str:
        return phase(self.state, self.terms, self.now_ms).value


def opened() -> Breaker:
    breaker = Breaker()
    breaker.fail(3)
    return breaker


def half_open() -> Breaker:
    breaker = opened()
    breaker.now_ms += 60_000
    return breaker


class TestClosed:
    def test_calls_pass_without_a_probe(self) -> None:
        assert Breaker().permit() == Permit(START, probe=False)

    def test_opens_after_failures_in_a_row(self) -> None:
        breaker = Breaker()
        breaker.fail(2)
        assert breaker.phase == "closed"
        breaker.fail()
        assert breaker.phase == "open"

    def test_a_success_between_starts_the_count_again(self) -> None:
        breaker = Breaker()
        breaker.fail(2)
        breaker.succeed()
        breaker.fail(2)
        assert breaker.phase == "closed"

    def test_an_ignored_call_counts_as_neither(self) -> None:
        breaker = Breaker()
        breaker.fail(2)
        breaker.ignore()
        breaker.fail()
        assert breaker.phase == "open"

    def test_one_failure_is_enough_where_the_rule_says_so(self) -> None:
        breaker = Breaker(BreakerTerms(1, 1_000, 1_000))
        breaker.fail()
        assert breaker.phase == "open"


class TestOpen:
    def test_denies_for_the_rest_of_the_cool_down(self) -> None:
        breaker = opened()
        assert breaker.ask() == Denied(60.0)
        breaker.now_ms += 59_999
        assert breaker.ask() == Denied(0.001)

    def test_results_of_calls_that_started_before_are_dropped(self) -> None:
        breaker = Breaker()
        slow = breaker.permit()
        breaker.fail(3)
        before = breaker.state
        for outcome in CallOutcome:
            breaker.end(slow, outcome)
        assert breaker.state == before

    def test_turns_half_open_by_time_alone(self) -> None:
        breaker = opened()
        breaker.now_ms += 60_000
        assert breaker.phase == "half_open"

    def test_a_shorter_cool_down_holds_at_once(self) -> None:
        breaker = opened()
        breaker.terms = BreakerTerms(3, 5_000, 30_000)
        assert breaker.permit().probe

    def test_a_clock_set_back_does_not_keep_it_open(self) -> None:
        breaker = opened()
        breaker.now_ms -= 3_600_000
        assert breaker.permit().probe


class TestHalfOpen:
    def test_exactly_one_probe(self) -> None:
        breaker = half_open()
        assert breaker.permit().probe
        assert breaker.ask() == Denied(30.0)

    def test_success_closes(self) -> None:
        breaker = half_open()
        breaker.succeed()
        assert breaker.phase == "closed"
        assert not breaker.permit().probe
        breaker.fail(2)
        assert breaker.phase == "closed"  # the count starts at nothing

    def test_failure_opens_for_a_whole_cool_down(self) -> None:
        breaker = half_open()
        breaker.fail()
        assert breaker.ask() == Denied(60.0)

    def test_ignored_frees_the_place(self) -> None:
        breaker = half_open()
        breaker.ignore()
        assert breaker.phase == "half_open"
        assert breaker.permit().probe

    def test_a_killed_probe_frees_the_place_when_its_lease_ends(self) -> None:
        breaker = half_open()
        breaker.permit()
        breaker.now_ms += 29_999
        assert breaker.ask() == Denied(0.001)
        breaker.now_ms += 1
        assert breaker.permit().probe

    def test_a_slow_probe_still_counts(self) -> None:
        breaker = half_open()
        slow = breaker.permit()
        breaker.now_ms += 30_000
        breaker.permit()
        breaker.end(slow, CallOutcome.SUCCESS)
        assert breaker.phase == "closed"

    def test_a_slow_probe_that_was_ignored_does_not_free_another_ones_place(self) -> None:
        breaker = half_open()
        slow = breaker.permit()
        breaker.now_ms += 30_000
        breaker.permit()
        breaker.end(slow, CallOutcome.IGNORED)
        assert isinstance(breaker.ask(), Denied)

    def test_results_from_before_it_opened_are_dropped(self) -> None:
        breaker = Breaker()
        old = breaker.permit()
        breaker.fail(3)
        breaker.now_ms += 60_000
        breaker.permit()
        breaker.end(old, CallOutcome.SUCCESS)
        assert breaker.phase == "half_open"

    def test_a_second_result_of_the_probe_is_dropped(self) -> None:
        breaker = half_open()
        probe = breaker.permit()
        breaker.end(probe, CallOutcome.SUCCESS)
        breaker.end(probe, CallOutcome.FAILURE)
        assert breaker.state.failures == 0


def test_a_permit_of_a_forgotten_breaker_is_older_than_a_fresh_one() -> None:
    before = Breaker()
    permit = before.permit()
    again = Breaker()
    again.state = fresh(START + 1)
    again.terms = BreakerTerms(1, 1_000, 1_000)
    again.end(permit, CallOutcome.FAILURE)
    assert again.phase == "closed"


moves = st.lists(st.tuples(st.integers(0, 70_000), st.sampled_from(["ask", *CallOutcome])), max_size=80)


@given(moves)
def test_never_two_probes_within_a_lease_and_no_call_while_open(script: list[tuple[int, str]]) -> None:
    breaker, out = Breaker(), list[Permit]()
    probe_ms, opened_ms = -1, -1
    for wait_ms, move in script:
        breaker.now_ms += wait_ms
        before = breaker.state
        if move == "ask":
            answer = breaker.ask()
            if isinstance(answer, Denied):
                assert 0 < answer.retry_after_s <= 60
                continue
            out.append(answer)
            if answer.probe:
                assert probe_ms < 0 or breaker.now_ms >= probe_ms + 30_000
                assert breaker.now_ms >= opened_ms + 60_000
                probe_ms = breaker.now_ms
        elif out:
            breaker.end(out.pop(0), CallOutcome(move))
        _moved(before, breaker.state)
        if breaker.state.phase is Phase.OPEN and before.phase is not Phase.OPEN:
            opened_ms = breaker.now_ms
        if breaker.state.phase is not Phase.HALF_OPEN or breaker.state.until_ms == 0:
            probe_ms = -1


def _moved(before: BreakerState, after: BreakerState) -> None:
    """Only the arrows of the table, and each starts a new generation."""
    arrows = {("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")}
    if before.phase is not after.phase:
        assert (before.phase.value, after.phase.value) in arrows
        assert after.since == after.generation == before.generation + 1
    assert after.generation >= before.generation
