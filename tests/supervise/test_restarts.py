"""What follows the end of a child, as a table: lives in, moves out."""

from __future__ import annotations

import pytest

from scopegate.supervise.restarts import Restart, RestartHistory, RestartRule, Run, ShutDown, exit_code, next_move

RULE = RestartRule(first_delay_s=1.0, max_delay_s=8.0, healthy_s=60.0, start_failures=3)


def crash(lived_s: float = 5.0, code: int = 1) -> Run:
    return Run(code, lived_s, was_ready=True)


def stillborn(code: int = 1) -> Run:
    return Run(code, 0.2, was_ready=False)


@pytest.mark.parametrize(
    ("lives", "moves"),
    [
        pytest.param([crash()], [Restart(1.0)], id="first crash waits the first delay"),
        pytest.param([crash(code=0)], [Restart(1.0)], id="ending with 0 unasked is a crash"),
        pytest.param(
            [crash()] * 6,
            [Restart(1.0), Restart(2.0), Restart(4.0), Restart(8.0), Restart(8.0), Restart(8.0)],
            id="delays double up to the bound, and a child that had served is never given up",
        ),
        pytest.param(
            [crash(), crash(), crash(lived_s=60.0), crash()],
            [Restart(1.0), Restart(2.0), Restart(1.0), Restart(2.0)],
            id="a healthy minute starts the count anew",
        ),
        pytest.param(
            [crash(), crash(lived_s=59.9)], [Restart(1.0), Restart(2.0)], id="just under a minute is not healthy"
        ),
        pytest.param(
            [stillborn(3), stillborn(4), stillborn(5)],
            [Restart(1.0), Restart(2.0), ShutDown(5)],
            id="the third failed start in a row ends it with the child's code",
        ),
        pytest.param([stillborn(0)] * 3, [Restart(1.0), Restart(2.0), ShutDown(1)], id="giving up is never code 0"),
        pytest.param([stillborn(-9)] * 3, [Restart(1.0), Restart(2.0), ShutDown(137)], id="a signal becomes 128 + n"),
        pytest.param(
            [stillborn(), stillborn(), crash(), stillborn(), stillborn()],
            [Restart(1.0), Restart(2.0), Restart(4.0), Restart(8.0), Restart(8.0)],
            id="having served once clears the failed starts, not the delays",
        ),
        pytest.param([stillborn(78)], [ShutDown(78)], id="a wrong configuration is not tried again"),
        pytest.param([crash(lived_s=600, code=78)], [ShutDown(78)], id="nor when it goes wrong later"),
    ],
)
def test_each_end_has_its_move(lives: list[Run], moves: list[Restart | ShutDown]) -> None:
    record, made = RestartHistory(), []
    for life in lives:
        move, record = next_move(RULE, record, life)
        made.append(move)
    assert made == moves


def test_one_that_had_served_may_be_missed_for_a_shorter_time_only() -> None:
    rule = RestartRule(first_delay_s=0.5, max_delay_s=8.0, served_max_delay_s=1.0, start_failures=9)
    record, made = RestartHistory(), []
    for life in [crash(), crash(), crash(), crash(), stillborn(), stillborn(), crash()]:
        move, record = next_move(rule, record, life)
        made.append(move)
    assert made == [Restart(0.5), Restart(1.0), Restart(1.0), Restart(1.0), Restart(8.0), Restart(8.0), Restart(1.0)]


def test_thousands_of_crashes_stay_within_the_bound() -> None:
    record = RestartHistory()
    for _ in range(5000):
        move, record = next_move(RULE, record, crash())
    assert move == Restart(8.0)


@pytest.mark.parametrize(("code", "shown"), [(0, 0), (3, 3), (-9, 137), (-15, 143)])
def test_exit_codes_are_shown_as_a_shell_shows_them(code: int, shown: int) -> None:
    assert exit_code(code) == shown
