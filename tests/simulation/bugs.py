"""Bugs that are planted on purpose, to see that they are found: each is a mistake that somebody could make."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from scopegate.gateway.intake import Intake
from scopegate.stores import accounts
from scopegate.worker.deliver import Courier
from scopegate.worker.purse import Granted, Purse
from scopegate.worker.steps import Steps, Work
from scopegate.worker.tries import Try
from tests.simulation.doors import SimulatedCourier

Plant = AbstractContextManager[Any]


def done_before_the_effect() -> Plant:
    """A result is stored as sent while it is still on its way."""
    deliver = Steps._deliver

    async def beside(self: Steps, work: Work, kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
        task = asyncio.create_task(deliver(self, work, kind, data))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return {"message_id": f"msg_{work.job.job_id}_{work.step}", "status": 202}

    return mock.patch.object(Steps, "_deliver", beside)


def cancelled_unsettled() -> Plant:
    """A call that was cut short is not booked."""
    book = Purse.book

    async def unless_cancelled(self: Purse, granted: Granted, made: Try) -> None:
        if made.outcome != "cancelled":
            await book(self, granted, made)

    return mock.patch.object(Purse, "book", unless_cancelled)


def reservation_kept() -> Plant:
    """A call is booked, and what was set aside for it stays so."""
    move = accounts.move

    def spent_alone(conn: Any, scope: str, *, spent: int, reserved: int, booked_ms: int, now_ms: int) -> None:
        move(conn, scope, spent=spent, reserved=0, booked_ms=booked_ms, now_ms=now_ms)

    return mock.patch.object(accounts, "move", spent_alone)


def full_spool_unsaid() -> Plant:
    """An order that the disk does not take either is passed on all the same."""
    spooled = Intake._spooled

    async def always(self: Intake, settlement: Any, reason: str) -> bool:
        await spooled(self, settlement, reason)
        return True

    return mock.patch.object(Intake, "_spooled", always)


def new_id_each_time() -> Plant:
    """A message that is sent again has another id, and the app takes it for another one."""
    deliver = SimulatedCourier.deliver
    sent = iter(range(1_000_000_000))

    async def under_a_new_id(self: Courier, to: Any, message_id: str, body: bytes) -> int:
        assert isinstance(self, SimulatedCourier)
        return await deliver(self, to, f"{message_id}_{next(sent)}", body)

    return mock.patch.object(SimulatedCourier, "deliver", under_a_new_id)


def expired_is_free() -> Plant:
    """What a dead worker had set aside is given back: nobody knows that it was spent."""
    move = accounts.move

    def freed(conn: Any, scope: str, *, spent: int, reserved: int, booked_ms: int, now_ms: int) -> None:
        is_expiry = spent > 0 and spent == -reserved
        move(conn, scope, spent=0 if is_expiry else spent, reserved=reserved, booked_ms=booked_ms, now_ms=now_ms)

    return mock.patch.object(accounts, "move", freed)


BUGS: Mapping[str, Callable[[], Plant]] = {
    plant.__name__: plant
    for plant in (
        done_before_the_effect,
        cancelled_unsettled,
        reservation_kept,
        full_spool_unsaid,
        new_id_each_time,
        expired_is_free,
    )
}
