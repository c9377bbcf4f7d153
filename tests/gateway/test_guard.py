"""The breaker of one upstream: when it opens, whom it lets through, and what is said of it once."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from scopegate.gateway.guard import Guard
from scopegate.limits.breaker import CallOutcome, Denied, Permit
from tests.policies import compiled_with

COOLDOWN_S = 10.0


class Loop:
    """A guard asks its loop for the time, and for nothing else."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def guard(loop: Loop) -> Guard:
    web = {"servers": ["http://127.0.0.1:3000"], "breaker": {"failures": 3, "cooldown": f"{COOLDOWN_S:.0f}s"}}
    return Guard(compiled_with(upstreams={"web": web}).upstreams["web"], cast("asyncio.AbstractEventLoop", loop))


def send(guard: Guard, outcome: CallOutcome) -> None:
    permit = guard.admit()
    assert isinstance(permit, Permit)
    guard.record(permit, outcome)


def opened(guard: Guard) -> None:
    for _ in range(3):
        send(guard, CallOutcome.FAILURE)


def test_failures_in_a_row_open_it_for_its_time(guard: Guard, loop: Loop) -> None:
    send(guard, CallOutcome.FAILURE)
    send(guard, CallOutcome.FAILURE)
    send(guard, CallOutcome.SUCCESS)
    send(guard, CallOutcome.FAILURE)
    send(guard, CallOutcome.FAILURE)
    send(guard, CallOutcome.FAILURE)
    assert guard.admit() == Denied(COOLDOWN_S)
    loop.now_s += COOLDOWN_S - 1
    assert guard.admit() == Denied(1)


def test_after_its_time_one_request_finds_out(guard: Guard, loop: Loop) -> None:
    opened(guard)
    loop.now_s += COOLDOWN_S
    probe = guard.admit()
    assert isinstance(probe, Permit)
    assert isinstance(guard.admit(), Denied), "one at a time"
    guard.record(probe, CallOutcome.FAILURE)
    assert guard.admit() == Denied(COOLDOWN_S)
    loop.now_s += COOLDOWN_S
    send(guard, CallOutcome.SUCCESS)
    assert isinstance(guard.admit(), Permit)
    assert isinstance(guard.admit(), Permit)


def test_a_probe_that_is_never_heard_of_again_frees_its_place(guard: Guard, loop: Loop) -> None:
    opened(guard)
    loop.now_s += COOLDOWN_S
    assert isinstance(guard.admit(), Permit)
    loop.now_s += 3600
    assert isinstance(guard.admit(), Permit)


def test_opening_and_closing_are_told_once(guard: Guard, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        opened(guard)
        for _ in range(5):
            guard.admit()
        loop.now_s += COOLDOWN_S
        send(guard, CallOutcome.FAILURE)
        loop.now_s += COOLDOWN_S
        send(guard, CallOutcome.SUCCESS)
        send(guard, CallOutcome.SUCCESS)
    assert [line.getMessage() for line in caplog.records] == ["upstream.breaker_open", "upstream.breaker_closed"]
