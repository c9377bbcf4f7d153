"""Jobs under a lease: taking them, what each attempt leaves behind, giving them back and ending them.

A lease is a row state: `running`, with a token that grows by one each time and `due_ms` as the moment the lease ends.
Every write of a lease holder first touches the job's row under its token: the row lock keeps the next lease out until
the write is committed, and a stale token writes nothing. Plain functions of a connection, called by `jobs`.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, Update, case, exists, func, select, update

from scopegate.errors import LeaseLost
from scopegate.leads.job import Attempt, AttemptState, JobState, LeadJob, Lease, Precedence, StepState
from scopegate.limits.steps import StepName
from scopegate.stores import turns
from scopegate.stores.database import insert
from scopegate.stores.rows import job_of, known_job, steps_of
from scopegate.stores.schema import attempts, calls, jobs, steps
from scopegate.types import Json

LOST: Final = "worker_lost"
"""The error code of an attempt whose worker died."""
CANCELLED: Final = "cancelled"
"""The error code of a job that somebody ended, and of the attempt that ran then."""

_IS_OPEN = jobs.c.finished_ms.is_(None)


# ── taking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def take(
    conn: Connection, owner: str, now_ms: int, until_ms: int, limit: int, precedence: Precedence
) -> list[tuple[Lease, LeadJob]]:
    """A lease on each of the jobs at the front of the queue."""
    turns.promote(conn, now_ms)
    chosen = turns.front(conn, now_ms, limit, precedence)
    if not chosen:
        return []
    rows = conn.execute(_leasing(owner, now_ms, until_ms).where(jobs.c.job_id.in_(chosen))).all()
    taken = {row.job_id: _taken(conn, row, owner, now_ms) for row in rows}
    return [taken[job_id] for job_id in chosen if job_id in taken]


def lease(
    conn: Connection, job_id: str, owner: str, now_ms: int, until_ms: int, precedence: Precedence
) -> tuple[Lease, LeadJob] | None:
    if not turns.may_start(conn, job_id, precedence):
        return None
    row = conn.execute(_leasing(owner, now_ms, until_ms).where(jobs.c.job_id == job_id)).one_or_none()
    return None if row is None else _taken(conn, row, owner, now_ms)


def _leasing(owner: str, now_ms: int, until_ms: int) -> Any:
    is_left = jobs.c.state == JobState.RUNNING
    return (
        update(jobs)
        .where(_IS_OPEN, jobs.c.due_ms <= now_ms)
        .values(
            state=JobState.RUNNING,
            due_ms=until_ms,
            turn=None,
            lease_owner=owner,
            lease_token=jobs.c.lease_token + 1,
            tries=jobs.c.tries + 1,
            losses=case((is_left, jobs.c.losses + 1), else_=jobs.c.losses),
        )
        .returning(jobs)
    )


def _taken(conn: Connection, row: Row[Any], owner: str, now_ms: int) -> tuple[Lease, LeadJob]:
    if row.tries > 1:  # also one whose holder gave it back, and could not say how its attempt ended
        lose_attempts(conn, row.job_id, now_ms)
    is_new = row.tries == 1 and row.replay_of is None
    job = job_of(row, () if is_new else steps_of(conn, row.job_id))
    return Lease(row.job_id, owner, row.lease_token, row.due_ms), job


# ── under the lease ─────────────────────────────────────────────────────────────────────────────────────────────────


def hold(conn: Connection, lease: Lease, **changes: object) -> None:
    """The guard of every write under a lease, and its change to the job's row if any. Raises LeaseLost."""
    held = (
        update(jobs)
        .where(
            jobs.c.job_id == lease.job_id,
            jobs.c.lease_token == lease.token,
            jobs.c.state == JobState.RUNNING,
        )
        .values(changes or {"lease_token": jobs.c.lease_token})
    )
    if conn.execute(held).rowcount != 1:
        raise LeaseLost(f"job {lease.job_id}, token {lease.token}")


def start_attempt(conn: Connection, lease: Lease, step: StepName, now_ms: int) -> Attempt:
    hold(conn, lease)
    return _start(conn, lease, step, now_ms)


def _start(conn: Connection, lease: Lease, step: StepName, now_ms: int) -> Attempt:
    """The step's row is made when it is first started: a job that is open may meet a step that is newer than itself."""
    running = insert(conn, steps).values(job_id=lease.job_id, step=step, state=StepState.RUNNING)
    started = running.on_conflict_do_update(
        index_elements=["job_id", "step"],
        set_={"state": StepState.RUNNING},
        where=steps.c.state != StepState.DONE,
    ).returning(steps.c.step)
    is_started = conn.execute(started).one_or_none() is not None
    assert is_started, f"step {step} of job {lease.job_id} is done: it is not started again"
    earlier = attempts.alias()
    last = select(func.max(earlier.c.n)).where(earlier.c.job_id == lease.job_id, earlier.c.step == step)
    next_n = func.coalesce(last.scalar_subquery(), 0) + 1
    row = {"job_id": lease.job_id, "step": step, "n": next_n, "state": AttemptState.RUNNING, "started_ms": now_ms}
    n = conn.execute(attempts.insert().values(row).returning(attempts.c.n)).scalar_one()
    return Attempt(n, AttemptState.RUNNING, now_ms)


def finish_attempt(
    conn: Connection, lease: Lease, step: StepName, attempt: Attempt, result: Json, then: StepName | None
) -> tuple[int, Attempt | None]:
    """What it cost, and the attempt that begins at its end, of the step that is `then`."""
    has_spoken = attempt.state is not AttemptState.LOST
    hold(conn, lease, **({"losses": 0} if has_spoken else {}))
    cost = _finish(conn, lease, step, attempt, result)
    if then is None:
        return cost, None
    assert attempt.finished_ms is not None
    return cost, _start(conn, lease, then, attempt.finished_ms)


def _finish(conn: Connection, lease: Lease, step: StepName, attempt: Attempt, result: Json) -> int:
    """What the attempt cost: the sum that the ledger has booked for it."""
    ended = (
        update(attempts)
        .where(
            attempts.c.job_id == lease.job_id,
            attempts.c.step == step,
            attempts.c.n == attempt.n,
            attempts.c.state == AttemptState.RUNNING,
        )
        .values(
            state=attempt.state,
            finished_ms=attempt.finished_ms,
            error_code=attempt.error_code,
            error_detail=attempt.error_detail,
            cost_usd_micros=booked_cost(),
        )
        .returning(attempts.c.cost_usd_micros)
    )
    cost = conn.execute(ended).scalar_one_or_none()
    unfinished = (steps.c.job_id == lease.job_id, steps.c.step == step, steps.c.state != StepState.DONE)
    if attempt.state is AttemptState.DONE:
        conn.execute(update(steps).where(*unfinished).values(state=StepState.DONE, result=result))
    else:
        conn.execute(update(steps).where(*unfinished).values(state=StepState.WAITING))
    return int(cost or 0)


def booked_cost() -> Any:
    """Of an attempt: what the ledger has of its calls."""
    return (
        select(func.coalesce(func.sum(calls.c.cost_usd_micros), 0))
        .where(
            calls.c.job_id == attempts.c.job_id,
            calls.c.step == attempts.c.step,
            calls.c.step_attempt == attempts.c.n,
        )
        .scalar_subquery()
    )


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def complete(
    conn: Connection, lease: Lease, step: StepName, attempt: Attempt, result: Json, score: int, now_ms: int
) -> int:
    """The last step and its job; what the step's attempt cost."""
    done = {"state": JobState.DONE, "finished_ms": now_ms, "due_ms": now_ms, "error_code": None, "reason": None}
    hold(conn, lease, **done, score=score, lease_owner=None)
    return _finish(conn, lease, step, attempt, result)


def finish(
    conn: Connection, lease: Lease, now_ms: int, state: JobState, error_code: str | None, **more: object
) -> None:
    hold(conn, lease, state=state, finished_ms=now_ms, due_ms=now_ms, lease_owner=None, error_code=error_code, **more)
    lose_attempts(conn, lease.job_id, now_ms)
    if state is not JobState.DONE:
        _fail_tried_steps(conn, lease.job_id)


def cancel(conn: Connection, job_id: str, now_ms: int) -> LeadJob | None:
    """The token grows, so that whoever holds the job writes nothing more and stops at its next renewal."""
    if conn.execute(_ending(now_ms).where(jobs.c.job_id == job_id)).rowcount != 1:
        return None
    lose_attempts(conn, job_id, now_ms, CANCELLED)
    _fail_tried_steps(conn, job_id)
    return known_job(conn, job_id)


def _ending(now_ms: int) -> Update:
    return (
        update(jobs)
        .where(_IS_OPEN)
        .values(
            state=JobState.FAILED,
            finished_ms=now_ms,
            due_ms=now_ms,
            turn=None,
            error_code=CANCELLED,
            lease_owner=None,
            lease_token=jobs.c.lease_token + 1,
        )
    )


def lose_attempts(conn: Connection, job_id: str, now_ms: int, code: str = LOST) -> None:
    """What a dead worker left running is lost; its cost is what the ledger booked for it."""
    lost = conn.execute(
        update(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.state == AttemptState.RUNNING)
        .values(state=AttemptState.LOST, finished_ms=now_ms, error_code=code, cost_usd_micros=booked_cost())
    )
    if lost.rowcount:
        _set_steps(conn, job_id, StepState.WAITING, steps.c.state == StepState.RUNNING)


def _set_steps(conn: Connection, job_id: str, state: StepState, *where: Any) -> None:
    """Move unfinished steps: a done step is never overwritten."""
    moved = update(steps).where(steps.c.job_id == job_id, steps.c.state != StepState.DONE, *where).values(state=state)
    conn.execute(moved)


def _fail_tried_steps(conn: Connection, job_id: str) -> None:
    tried = exists().where(attempts.c.job_id == steps.c.job_id, attempts.c.step == steps.c.step)
    _set_steps(conn, job_id, StepState.FAILED, tried)
