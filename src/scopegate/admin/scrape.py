"""One scrape: what all processes counted, and what the database knows at this moment.

A source that fails or takes longer than a second is left out and counted in `scopegate_scrape_errors`: a number that
is missing is seen, a stale one is believed. Names and meanings are `metrics`' business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from scopegate import __version__, build, logs
from scopegate.admin.forecasts import read_forecasts
from scopegate.clock import Clock
from scopegate.leads.job import OrderState
from scopegate.limits import budget
from scopegate.metrics import catalogue as metrics
from scopegate.metrics import totals
from scopegate.metrics.labels import Role, ScrapeSource, words
from scopegate.policy.policy import BudgetRule, Policy
from scopegate.stores.ports import JobStore, Ledger, Outbox, RetentionStore

log = logs.get("admin")

SOURCE_TIMEOUT_S = 1.0
_USD_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Page:
    families: tuple[Metric, ...]

    def collect(self) -> Iterable[Metric]:
        return self.families


class Scrape:
    """`directory` is where the processes count, None when this process alone does."""

    def __init__(
        self,
        policy: Callable[[], Policy],
        jobs: JobStore,
        ledger: Ledger,
        outbox: Outbox,
        retention: RetentionStore,
        clock: Clock,
        directory: Path | None,
        timeout_s: float = SOURCE_TIMEOUT_S,
    ) -> None:
        self._policy, self._directory, self._timeout_s = policy, directory, timeout_s
        self._jobs, self._ledger, self._outbox, self._clock = jobs, ledger, outbox, clock
        self._retention = retention

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type. Raises DirectoryBusy or OSError when the processes' files cannot be
        read: a scrape without them would look like a restart of everything."""
        computed = await asyncio.gather(
            self._bounded("jobs", self._read_jobs()),
            self._bounded("orders", self._read_orders()),
            self._bounded("retention", self._read_retention()),
            self._bounded("budgets", self._read_budgets()),
            self._bounded("forecasts", self._read_forecasts()),
        )
        families = [self._build_info(), *(family for part in computed for family in part)]
        return await asyncio.to_thread(self._render, families, accept)

    def _render(self, computed: list[Metric], accept: str) -> tuple[bytes, str]:
        snapshot = _snapshot(self._directory)
        processes = {} if self._directory is None else dict.fromkeys(words(Role), 0) | dict(snapshot.processes)
        encode, content_type = choose_encoder(accept)
        page = _Page((*snapshot.families, *computed, _gauge(metrics.PROCESSES, processes)))
        text: bytes = encode(page)
        return text, content_type

    async def _bounded(self, source: ScrapeSource, reading: Awaitable[list[Metric]]) -> list[Metric]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await reading
        except Exception as fault:
            metrics.SCRAPE_ERRORS.labels(source).inc()
            log.warning("admin.scrape_incomplete", source_name=source, error=type(fault).__name__)
            return []

    async def _read_jobs(self) -> list[Metric]:
        counts, waiting_s = await asyncio.gather(self._jobs.counts(), self._longest_wait_s())
        return [_gauge(metrics.JOBS, counts), _gauge(metrics.OLDEST_DUE_JOB_SECONDS, {"": waiting_s})]

    async def _longest_wait_s(self) -> float:
        now_ms = self._clock.now_ms()
        for job_id in await self._jobs.due(now_ms, 1):
            job = await self._jobs.get(job_id)
            return max(0, now_ms - job.due_ms) / 1000 if job else 0.0
        return 0.0

    async def _read_orders(self) -> list[Metric]:
        counts = await asyncio.gather(*(self._outbox.count(state) for state in OrderState))
        states = [state.value for state in OrderState]
        return [_gauge(metrics.OUTBOX_ORDERS, dict(zip(states, counts, strict=True)))]

    async def _read_retention(self) -> list[Metric]:
        """What the policy keeps for ever is never behind, and not told."""
        ends = self._policy().retention.ends(self._clock.now_ms())
        oldest = await asyncio.gather(*(self._retention.oldest_ms(what, end_ms) for what, end_ms in ends.items()))
        behind = {
            what.value: 0.0 if since_ms is None else (end_ms - since_ms) / 1000
            for (what, end_ms), since_ms in zip(ends.items(), oldest, strict=True)
        }
        return [_gauge(metrics.RETENTION_BEHIND_SECONDS, behind)]

    async def _read_budgets(self) -> list[Metric]:
        """A budget per contractor has a limit here, but no sum: each contractor's account stands for itself."""
        ai, now_ms = self._policy().ai, self._clock.now_ms()
        rules = ai.budgets if ai else ()
        standings = await read_budget_states(rules, self._ledger, now_ms)
        reached = await self._ledger.told(now_ms)
        shares = {
            (rule.name, str(share)): reached.get((rule.name, share), 0) for rule in rules for share in rule.warn_at
        }
        return [
            _gauge(metrics.BUDGET_LIMIT_USD, {rule.name: rule.limit_usd_micros / _USD_MICROS for rule in rules}),
            _gauge(metrics.BUDGET_SPENT_USD, {s.rule.name: s.spent_usd_micros / _USD_MICROS for s in standings}),
            _gauge(metrics.BUDGET_RESERVED_USD, {s.rule.name: s.reserved_usd_micros / _USD_MICROS for s in standings}),
            _gauge(metrics.BUDGET_THRESHOLDS_REACHED, shares),
        ]

    async def _read_forecasts(self) -> list[Metric]:
        ai = self._policy().ai
        if ai is None:
            return []
        expected = await read_forecasts(self._ledger, self._clock.now_ms(), ai.zone)
        return [
            _gauge(
                metrics.FORECAST_USD, {name: one.expected_usd_micros / _USD_MICROS for name, one in expected.items()}
            )
        ]

    def _build_info(self) -> Metric:
        info = GaugeMetricFamily(metrics.BUILD_INFO.name, metrics.BUILD_INFO.help, labels=metrics.BUILD_INFO.labels)
        info.add_metric((__version__, build.kind(), self._policy().digest), 1)
        return info


def counted(directory: Path | None) -> Sequence[Metric]:
    """What all processes of `directory` have counted, or this one alone. Blocks; raises as `totals.read`."""
    return _snapshot(directory).families


def _snapshot(directory: Path | None) -> totals.Snapshot:
    return totals.Snapshot(tuple(REGISTRY.collect()), {}) if directory is None else totals.read(directory)


def _gauge(declared: metrics.Computed, values: Mapping[str, float] | Mapping[tuple[str, str], float]) -> Metric:
    """By its label, or by its two; without one the only key is the empty word."""
    family = GaugeMetricFamily(declared.name, declared.help, labels=declared.labels)
    for key, value in values.items():
        labels = key if isinstance(key, tuple) else (key,)
        family.add_metric(labels if declared.labels else (), value)
    return family


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a budget stands in its present period."""

    rule: BudgetRule
    spent_usd_micros: int
    reserved_usd_micros: int


async def read_budget_states(rules: Iterable[BudgetRule], ledger: Ledger, now_ms: int) -> list[BudgetState]:
    """The budgets that have one account for everybody, in the rules' order."""
    shared = [rule for rule in rules if rule.per is None]
    scopes = {rule.name: budget.account(rule, now_ms, {}).scope for rule in shared}
    found = await ledger.accounts(list(scopes.values()), now_ms)
    return [BudgetState(rule, *found.get(scopes[rule.name], (0, 0))) for rule in shared]
