"""Which job runs next: the queue of those that may run now, each with its turn.

A job gets its turn when it becomes due, and loses it when it is taken. Turns are those of start-time fair queueing
(Goyal, Vin, Cheng: SIGCOMM 1996) over contractors: one that has many jobs waiting has them one behind the other, and
one that comes with its first is next in line. So the queue is read from its front alone, however long it is. Called by
`jobs` and `leases`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import merge
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, func, literal_column, or_, select, text, update

from scopegate.leads.job import JobState, Precedence
from scopegate.stores.schema import jobs, paused

MOST_PROMOTED: Final = 500
"""At a time: a budget's new day may make thousands due at once."""
_ONE_BY_ONE: Final = 0x5C09E6A7F
"""PostgreSQL's advisory lock under which jobs are taken where contractors have a limit."""

IS_READY = jobs.c.turn.is_not(None)


class Flow(NamedTuple):
    """Whose jobs stand one behind the other. Those without a contractor are one's."""

    offload: str
    contractor: str | None

    def is_of(self) -> ColumnElement[bool]:
        same = jobs.c.contractor.is_(None) if self.contractor is None else jobs.c.contractor == self.contractor
        return (jobs.c.offload == self.offload) & same

    def is_of_another(self) -> ColumnElement[bool]:
        """Of another contractor of the same offload."""
        if self.contractor is None:
            return jobs.c.contractor.is_not(None)
        return or_(jobs.c.contractor.is_(None), jobs.c.contractor != self.contractor)


def next_turns(conn: Connection, flows: Sequence[Flow]) -> list[int]:
    """A turn for one job more of each of these, in order: behind the last of its own, and never before the front."""
    front = conn.scalar(select(func.min(jobs.c.turn)).where(IS_READY)) or 0
    last = {flow: conn.scalar(select(func.max(jobs.c.turn)).where(IS_READY, flow.is_of())) for flow in {*flows}}
    turns = []
    for flow in flows:
        behind = last[flow]
        last[flow] = front if behind is None else max(front, behind + 1)
        turns.append(last[flow])
    return turns


def promote(conn: Connection, now_ms: int) -> None:
    """Give a turn to the jobs that have become due: after a wait, or because their worker died."""
    late = (
        select(jobs.c.job_id, jobs.c.offload, jobs.c.contractor)
        .where(jobs.c.finished_ms.is_(None), jobs.c.turn.is_(None), jobs.c.due_ms <= now_ms)
        .order_by(jobs.c.due_ms)
        .limit(MOST_PROMOTED)
        .with_for_update(skip_locked=True)
    )
    found = conn.execute(late).all()
    if not found:
        return
    turns = next_turns(conn, [Flow(row.offload, row.contractor) for row in found])
    conn.execute(
        update(jobs).where(jobs.c.job_id == bindparam("id")).values(turn=bindparam("place")),
        [{"id": row.job_id, "place": turn} for row, turn in zip(found, turns, strict=True)],
    )


# ── the front of the queue ──────────────────────────────────────────────────────────────────────────────────────────


class _Waiting(NamedTuple):
    turn: int
    created_ms: int
    job_id: str
    flow: Flow


def front(conn: Connection, now_ms: int, limit: int, precedence: Precedence) -> list[str]:
    """The ids of the jobs to be taken next, at most `limit`, kept from others until the end of the transaction."""
    running = _running(conn, precedence)
    chosen: list[str] = []
    for lane in _lanes(conn, precedence):
        if len(chosen) >= limit:
            break
        queues = [_queue(conn, offload, now_ms, limit, precedence, running) for offload in lane]
        for job in merge(*queues):
            most = precedence.at_once.get(job.flow.offload)
            if len(chosen) < limit and (most is None or running[job.flow] < most):
                running[job.flow] += 1
                chosen.append(job.job_id)
    return chosen


def may_start(conn: Connection, job_id: str, precedence: Precedence) -> bool:
    """Whether its offload is not paused, and its contractor has room for one job more."""
    row = conn.execute(select(jobs.c.offload, jobs.c.contractor).where(jobs.c.job_id == job_id)).one_or_none()
    if row is None or row.offload in paused_offloads(conn):
        return False
    most = precedence.at_once.get(row.offload)
    return most is None or _running(conn, precedence)[Flow(row.offload, row.contractor)] < most


def paused_offloads(conn: Connection) -> set[str]:
    return set(conn.scalars(select(paused.c.offload)))


def _running(conn: Connection, precedence: Precedence) -> Counter[Flow]:
    """How many run, where that has a limit: nobody else takes a job meanwhile."""
    if not precedence.at_once:
        return Counter()
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ONE_BY_ONE})
    counts = select(jobs.c.offload, jobs.c.contractor, func.count().label("count"))
    is_running = literal_column("state") == literal_column(f"'{JobState.RUNNING.value}'")  # as its index has it
    rows = conn.execute(counts.where(is_running, jobs.c.turn.is_(None)).group_by(jobs.c.offload, jobs.c.contractor))
    return Counter({Flow(row.offload, row.contractor): row.count for row in rows})


def _lanes(conn: Connection, precedence: Precedence) -> list[list[str]]:
    """The offloads that have jobs waiting, without those paused, by lane."""
    waiting = _waiting_offloads(conn) - paused_offloads(conn)
    lanes = [[name for name in lane if name in waiting] for lane in precedence.lanes]
    return [*lanes, sorted(waiting - {name for lane in precedence.lanes for name in lane})]


def _waiting_offloads(conn: Connection) -> set[str]:
    """From one to the next along the index: there are few, however many jobs they have."""
    found: set[str] = set()
    least = select(func.min(jobs.c.offload)).where(IS_READY)
    name = conn.scalar(least)
    while name is not None:
        found.add(name)
        name = conn.scalar(least.where(jobs.c.offload > name))
    return found


def _queue(
    conn: Connection, offload: str, now_ms: int, limit: int, precedence: Precedence, running: Counter[Flow]
) -> Iterable[_Waiting]:
    query: Any = select(jobs.c.turn, jobs.c.created_ms, jobs.c.job_id, jobs.c.contractor).where(
        IS_READY, jobs.c.offload == offload, jobs.c.due_ms <= now_ms
    )
    most = precedence.at_once.get(offload)
    if most is not None:
        for flow in [flow for flow, count in running.items() if flow.offload == offload and count >= most]:
            query = query.where(flow.is_of_another())
        limit *= 4  # some of one contractor are passed over
    query = query.order_by(jobs.c.turn, jobs.c.created_ms).limit(limit).with_for_update(skip_locked=True)
    return [
        _Waiting(row.turn, row.created_ms, row.job_id, Flow(offload, row.contractor)) for row in conn.execute(query)
    ]
