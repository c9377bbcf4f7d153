"""One logical call as a table: the moves that follow from what has happened."""

from __future__ import annotations

import pytest

from scopegate.limits.attempts import Call, CallPlan, GiveUp, Move, Reason, TryFailure, Wait

RETRYABLE = TryFailure(retryable=True)
FINAL = TryFailure(retryable=False)
UNUSABLE = TryFailure(retryable=True, answered=True)


def walk(retries: int, faults: list[TryFailure], time_left_s: float | None = None) -> list[Move]:
    """Every move until the plan gives up or the faults run out (the next call then succeeds)."""
    plan, moves, left = CallPlan(retries), list[Move](), list(faults)
    while True:
        move = plan.next(0.5, time_left_s)
        moves.append(move)
        match move:
            case Wait(seconds):
                plan = plan.after_wait()
                time_left_s = None if time_left_s is None else time_left_s - seconds
            case Call() if left:
                plan = plan.after_fault(left.pop(0))
            case _:
                return moves


@pytest.mark.parametrize(
    ("retries", "faults", "time_left_s", "moves"),
    [
        (3, [], None, [Call(1)]),
        (3, [RETRYABLE], None, [Call(1), Wait(1.0), Call(2)]),
        (
            3,
            [RETRYABLE] * 4,
            None,
            [Call(1), Wait(1.0), Call(2), Wait(2.0), Call(3), Wait(4.0), Call(4), GiveUp(Reason.TRIES_SPENT)],
        ),
        (0, [RETRYABLE], None, [Call(1), GiveUp(Reason.TRIES_SPENT)]),
        (3, [FINAL], None, [Call(1), GiveUp(Reason.NOT_RETRYABLE)]),
        (3, [RETRYABLE, FINAL], None, [Call(1), Wait(1.0), Call(2), GiveUp(Reason.NOT_RETRYABLE)]),
        (3, [TryFailure(True, 30.0)], None, [Call(1), Wait(33.75), Call(2)]),
        (3, [TryFailure(True, 61.0)], None, [Call(1), GiveUp(Reason.RETRY_AFTER_TOO_LONG)]),
        (3, [UNUSABLE, UNUSABLE], None, [Call(1), Wait(1.0), Call(2), GiveUp(Reason.REPAIRS_SPENT)]),
        (0, [UNUSABLE, UNUSABLE], None, [Call(1), Wait(1.0), Call(2), GiveUp(Reason.REPAIRS_SPENT)]),
        (0, [UNUSABLE, RETRYABLE], None, [Call(1), Wait(1.0), Call(2), GiveUp(Reason.TRIES_SPENT)]),
        (
            3,
            [UNUSABLE, RETRYABLE, UNUSABLE],
            None,
            [Call(1), Wait(1.0), Call(2), Wait(2.0), Call(3), GiveUp(Reason.REPAIRS_SPENT)],
        ),
        (3, [RETRYABLE], 0.9, [Call(1), GiveUp(Reason.NO_TIME_LEFT)]),
        (3, [RETRYABLE], 1.0, [Call(1), GiveUp(Reason.NO_TIME_LEFT)]),
        (3, [RETRYABLE, RETRYABLE], 1.5, [Call(1), Wait(1.0), Call(2), GiveUp(Reason.NO_TIME_LEFT)]),
        (3, [], 0.0, [GiveUp(Reason.NO_TIME_LEFT)]),
        (3, [], -1.0, [GiveUp(Reason.NO_TIME_LEFT)]),
    ],
)
def test_moves(retries: int, faults: list[TryFailure], time_left_s: float | None, moves: list[Move]) -> None:
    assert walk(retries, faults, time_left_s) == moves


def test_no_more_calls_than_retries_allow() -> None:
    for retries in range(6):
        moves = walk(retries, [RETRYABLE] * 20)
        assert sum(isinstance(move, Call) for move in moves) == retries + 1
