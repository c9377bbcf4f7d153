"""One run of a simulation: a seed, everything that it leads to, and what was seen of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from random import Random
from unittest import mock

from scopegate.limits.pricing import PriceTable
from scopegate.stores.memory import MemoryBreakers
from scopegate.types import Json
from scopegate.worker import prices
from tests.simulation.database import Engine
from tests.simulation.doors import App, Provider
from tests.simulation.loop import OUTSIDE, Loop, Process, current
from tests.simulation.plan import FAULTS_UNTIL_S, Plan, draw
from tests.simulation.roles import Sent, SimulatedClock, SimulatedGateway, SimulatedWorker, visit

LONGEST_S = 700.0
"""Of virtual time. What is not at rest then never will be."""
_LOOK_S = 1.0


@cache
def _prices() -> PriceTable:
    return prices.load()


class World:
    """`trace` is every event in order; `broken` what went wrong, by name."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        dice = Random(seed)
        self.plan: Plan = draw(dice)
        self.faulty = Random(dice.getrandbits(64))
        self.trace: list[tuple[float, str, str, str]] = []
        self.broken: list[str] = []
        self.is_over = False
        self.loop = Loop(Random(dice.getrandbits(64)), self._failed)  # type: ignore[abstract]  # no sockets, no signals
        self.loop.after_step = self._stepped
        self.engine = Engine(self)
        self.app = App(self)
        self.provider = Provider(self)
        self.prices = _prices()
        self.breakers = MemoryBreakers(SimulatedClock(self, Process("redis")))
        self.spool: dict[str, bytes] = {}
        self.spooled: dict[str, None] = {}
        self.emptying: Process | None = None
        self.answers: dict[int, list[tuple[int, Json]]] = {number: [] for number in range(self.plan.leads)}
        self.orders: dict[str, int] = {}
        """Whose lead an order is."""
        self.callers: dict[str, Process] = {}
        """Who made a call, by its id in the ledger."""
        self.processes: list[Process] = []
        self.stilled: dict[Process, None] = {}
        self.killed: dict[Process, None] = {}
        self._gateways: list[SimulatedGateway] = []
        self._workers: list[SimulatedWorker] = []
        self._kills_left = self.plan.kills
        self._events_left: dict[Process, int] = {}
        self._steps_left: dict[Process, int] = {}
        self._clients: list[asyncio.Task[None]] = []

    # ── chance ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def fails(self, fault: str) -> bool:
        rate = self.plan.faults.get(fault)
        return rate is not None and self.is_faulty() and self.faulty.random() < rate

    def is_faulty(self) -> bool:
        return self.loop.time() < FAULTS_UNTIL_S

    def wait_s(self) -> float:
        longest_s = self.plan.longest_wait_s
        return self.faulty.random() * longest_s if longest_s else 0.0

    def outage(self) -> str | None:
        now_s = self.loop.time()
        return next((kind for begins_s, ends_s, kind in self.plan.outages if begins_s <= now_s < ends_s), None)

    def now_ms(self) -> int:
        return self.plan.begins_ms + int(self.loop.time() * 1000)

    def new_call(self) -> str:
        call_id = f"call_{len(self.callers):05}"
        self.callers[call_id] = current()
        return call_id

    def new_order(self, number: int) -> str:
        order_id = f"ord_{len(self.orders):05}"
        self.orders[order_id] = number
        return order_id

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────────────────

    def happened(self, process: Process, what: str, detail: str = "") -> None:
        self.trace.append((self.loop.time(), process.name, what, detail))
        left = self._events_left.get(process)
        if left is not None:
            self._events_left[process] = left - 1
            if left <= 1:
                self.kill(process)

    def _stepped(self, process: Process) -> None:
        left = self._steps_left.get(process)
        if left is not None:
            self._steps_left[process] = left - 1
            if left <= 1:
                self.kill(process)

    def _failed(self, what: str) -> None:
        if not self.is_over:
            self.broken.append(f"unforeseen: {what}")

    def digest(self) -> str:
        return hashlib.sha256(repr((self.trace, self.loop.steps)).encode()).hexdigest()

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

    def start_gateway(self) -> None:
        process = self._process("gateway")
        gateway = SimulatedGateway(self, process)
        self._gateways.append(gateway)
        self._run(process, self.loop.start(process, gateway.serve()), self.start_gateway)

    def start_worker(self) -> None:
        process = self._process("worker")
        worker = SimulatedWorker(self, process)
        self._workers.append(worker)
        self._run(process, self.loop.start(process, worker.serve()), self.start_worker)

    def _process(self, role: str) -> Process:
        ahead_ms = round(self.plan.clocks_ms * (self.faulty.random() * 2 - 1))
        process = Process(f"{role}-{len(self.processes)}", ahead_ms)
        self.processes.append(process)
        self.happened(process, "started")
        if self._kills_left and self.faulty.random() < 0.7:
            self._kills_left -= 1
            if self.plan.kills_at_events:
                self._events_left[process] = 1 + int(self.faulty.expovariate(1 / 12))
            else:
                self._steps_left[process] = 1 + int(self.faulty.expovariate(1 / 120))
        return process

    def _run(self, process: Process, main: asyncio.Task[None], again: object) -> None:
        assert callable(again)

        def ended() -> None:
            self.loop.call_in(OUTSIDE, 0.2 + self.faulty.random() * 5, again)

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None and not self.is_over:
                self.broken.append(f"unforeseen: {process} ended by {task.exception()!r}")
            self.happened(process, "ended")
            self.loop.kill(process)

        process.ends.append(ended)
        main.add_done_callback(done)

    def kill(self, process: Process) -> None:
        if not process.alive or not self.is_faulty():
            return
        self.trace.append((self.loop.time(), process.name, "killed", ""))
        self.killed[process] = None
        self.loop.kill(process)

    def _living(self) -> list[SimulatedGateway | SimulatedWorker]:
        everybody: list[SimulatedGateway | SimulatedWorker] = [*self._gateways, *self._workers]
        return [one for one in everybody if one.process.alive]

    def _stop_one(self) -> None:
        living = self._living()
        if living:
            one = self.faulty.choice(living)
            self.happened(one.process, "asked to stop")
            one.stop.set()

    def _still_one(self) -> None:
        living = self._living()
        if living:
            process = self.faulty.choice(living).process
            self.happened(process, "stands still")
            self.stilled[process] = None
            process.still_until_s = self.loop.time() + self.faulty.choice((3.0, 15.0, 30.0))

    def wake(self, job_id: str) -> None:
        living = [one for one in self._workers if one.process.alive]
        if living:
            one = self.faulty.choice(living)
            self.loop.start(one.process, one.worker.run(job_id))

    def submit(self, sent: Sent) -> asyncio.Future[tuple[int, Json]] | None:
        living = [one for one in self._gateways if one.process.alive and not one.stop.is_set()]
        if not living:
            return None
        gateway = self.faulty.choice(living)
        heard: asyncio.Future[tuple[int, Json]] = self.loop.create_future()

        def tell(task: asyncio.Task[tuple[int, Json]]) -> None:
            if not heard.done():
                if task.exception() is not None:
                    self.broken.append(f"unforeseen: {task.exception()!r}")
                    heard.set_exception(ConnectionResetError())
                else:
                    heard.set_result(task.result())

        def cut() -> None:
            if not heard.done():
                heard.set_exception(ConnectionResetError())

        gateway.process.ends.append(cut)
        self.loop.start(gateway.process, gateway.lead(sent)).add_done_callback(tell)
        return heard

    # ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """To the end, and to rest. Raises Stuck."""
        plan = self.plan
        with _no_chance(Random(self.faulty.getrandbits(64))):
            for _ in range(plan.gateways):
                self.loop.call_in(OUTSIDE, 0, self.start_gateway)
            for _ in range(plan.workers):
                self.loop.call_in(OUTSIDE, 0, self.start_worker)
            for _ in range(plan.stops):
                self.loop.call_in(OUTSIDE, 3 + self.faulty.random() * 22, self._stop_one)
            for _ in range(plan.stills):
                self.loop.call_in(OUTSIDE, 3 + self.faulty.random() * 22, self._still_one)
            clients = Process("clients")
            self.processes.append(clients)
            self._clients = [self.loop.start(clients, visit(self, number)) for number in range(plan.leads)]
            self.loop.call_in(OUTSIDE, _LOOK_S, self._look)
            self.loop.run_until(lambda: self.is_over)

    def _look(self) -> None:
        if self.loop.time() >= LONGEST_S:
            self.broken.append(f"never at rest: {', '.join(self.unrest())}")
            self.is_over = True
        elif all(client.done() for client in self._clients) and not self.unrest():
            self.is_over = True
        else:
            self.loop.call_in(OUTSIDE, _LOOK_S, self._look)

    def unrest(self) -> list[str]:
        """What still has to happen."""
        states = "('pending', 'unknown')" if self.plan.asks_app else "('pending')"
        found = {
            "orders": f"SELECT count(*) FROM orders WHERE state IN {states}",
            "jobs": "SELECT count(*) FROM jobs WHERE finished_ms IS NULL AND state <> 'held'",
            "calls": "SELECT count(*) FROM calls WHERE outcome = 'sent'",
            "reservations": "SELECT count(*) FROM reservations WHERE state = 'open'",
            "thresholds": "SELECT count(*) FROM thresholds WHERE due_ms IS NOT NULL",
        }
        left = [f"{count} {what}" for what, query in found.items() if (count := self.engine.rows(query)[0][0])]
        if self.spool:
            left.append(f"{len(self.spool)} spooled")
        if not any(one.process.alive for one in self._workers):
            left.append("no worker")
        return left

    def close(self) -> None:
        self.is_over = True
        for process in (OUTSIDE, *self.processes):
            process.ready.clear()
            self.loop.bury(process)


@contextmanager
def _no_chance(dice: Random) -> Iterator[None]:
    """The machine's entropy comes from the seed, and with it every id."""
    with mock.patch.object(os, "urandom", dice.randbytes):
        yield
