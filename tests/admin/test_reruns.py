"""What another go is expected to cost, and who is told of it. The command's side: `cli/test_reruns.py`."""

from __future__ import annotations

from scopegate.admin.reruns import asked_again, expected_usd_micros, wake
from scopegate.errors import StoreUnavailable
from scopegate.limits.steps import MODEL_STEPS, StepName
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.test_app import Waker


async def test_a_go_costs_what_its_steps_have_cost(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.fail_job(home.jobs, job)
    await house.book(home.ledger, job, 1000, "call-1")
    await house.book(home.ledger, job, 2000, "call-2")
    expected = await expected_usd_micros([job, job], None, home.jobs, home.ledger, house.NOW_MS)
    assert expected == 2 * 1500  # of photo_analysis alone anything is known
    assert await expected_usd_micros([job], StepName.SAVE, home.jobs, home.ledger, house.NOW_MS) == 1500
    assert await expected_usd_micros([], None, home.jobs, home.ledger, house.NOW_MS) == 0
    assert list(asked_again(job, None)) == list(MODEL_STEPS)


async def test_nobody_to_tell_is_no_fault() -> None:
    waker = Waker()
    await wake(waker, "job_1")
    assert waker.woken == ["job_1"]
    await wake(None, "job_1")
    await wake(Waker(StoreUnavailable("connect", "gone")), "job_1")
