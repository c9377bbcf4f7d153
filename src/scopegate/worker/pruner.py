"""What was kept long enough is deleted, as the policy in force says: regularly, in small batches, by whichever workers
there are. Two that do it at once share the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import StoreUnavailable
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import Kept, Retention
from scopegate.stores.ports import RetentionStore

log = logs.get("worker")

FIRST_S: Final = 20.0
EVERY_S: Final = 300.0
BATCH: Final = 200
"""Rows of one transaction: what a lead that comes meanwhile waits for."""
_PAUSE_S: Final = 0.1


class Pruner:
    """`retention` gives that of the policy in force, asked at each round; `store` is opened by the first round that has
    anything to look for."""

    def __init__(
        self,
        store: Callable[[], RetentionStore],
        retention: Callable[[], Retention],
        clock: Clock,
        *,
        batch: int = BATCH,
    ) -> None:
        self._batch = batch
        self._open = store
        self._retention = retention
        self._clock = clock

    async def serve(self) -> None:
        """Round after round, until it is cancelled."""
        await self._clock.sleep(FIRST_S)
        while True:
            try:
                await self.prune()
            except StoreUnavailable as fault:  # the next round finds the same rows
                log.warning("retention.store_down", kind=fault.kind)
            except Exception as error:  # a bug: jobs go on
                log.error("retention.failed", exc=error)
            await self._clock.sleep(EVERY_S)

    async def prune(self) -> Mapping[Kept, int]:
        """Delete whatever is old enough now; how many of each. Raises StoreUnavailable."""
        ends = self._retention().ends(self._clock.now_ms())
        if not ends:
            return {}
        store = self._open()
        pruned = {what: await self._prune(store, what, before_ms) for what, before_ms in ends.items()}
        if any(pruned.values()):
            await store.scrub()
            log.info("retention.pruned", **{what.value: count for what, count in pruned.items() if count})
        return pruned

    async def _prune(self, store: RetentionStore, what: Kept, before_ms: int) -> int:
        pruned = 0
        while batch := await store.prune(what, before_ms, self._batch):
            metrics.RETENTION_DELETED.labels(what).inc(batch)
            pruned += batch
            await self._clock.sleep(_PAUSE_S)
        return pruned
