"""The message batches of the simulated Claude: created, under way, ended, cancelled. What one request is answered with
is `demo/claude`'s.

As the real API has it: a batch keeps its requests until it ends, then each has its result under its `custom_id`, in no
order that anybody may rely on; a cancelled one ends with `canceled` for what was not answered yet.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

MOST_REQUESTS: Final = 1_000
_DAY_MS: Final = 86_400_000
_CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Answering = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""The result of one request: `{"type": "succeeded", "message": ...}`, `{"type": "errored", "error": ...}`."""


class NoSuchBatch(Exception):
    """Nobody made it, or it has no results yet."""


class BadBatch(Exception):
    """A body that is no batch. Its text says why."""


@dataclass(slots=True)
class SimulatedBatch:
    batch_id: str
    created_ms: int
    ends_ms: int
    requests: list[tuple[str, Mapping[str, Any]]]
    cancelled_ms: int | None = None
    results: list[Mapping[str, Any]] | None = None

    def to_json(self) -> dict[str, Any]:
        kinds = Counter(result["result"]["type"] for result in self.results or ())
        counts = {kind: kinds[kind] for kind in ("succeeded", "errored", "canceled", "expired")}
        is_over = self.results is not None
        under_way = "in_progress" if self.cancelled_ms is None else "canceling"
        return {
            "id": self.batch_id,
            "type": "message_batch",
            "processing_status": "ended" if is_over else under_way,
            "request_counts": {"processing": 0 if is_over else len(self.requests), **counts},
            "created_at": _moment(self.created_ms),
            "expires_at": _moment(self.created_ms + _DAY_MS),
            "ended_at": _moment(self.ends_ms) if is_over else None,
            "cancel_initiated_at": None if self.cancelled_ms is None else _moment(self.cancelled_ms),
            "archived_at": None,
            "results_url": f"/v1/messages/batches/{self.batch_id}/results" if is_over else None,
        }


@dataclass(slots=True)
class SimulatedBatches:
    """All batches of one simulated API, oldest first. `lasts_s` is how long a new one is under way."""

    lasts_s: float = 0.0
    made: list[SimulatedBatch] = field(default_factory=list)

    def create(self, body: Any, now_ms: int) -> SimulatedBatch:
        """Raises BadBatch."""
        try:
            requests = [(one["custom_id"], one["params"]) for one in body["requests"]]
        except (KeyError, TypeError):
            raise BadBatch("requests: a list of {custom_id, params} is required") from None
        ids = [custom_id for custom_id, _ in requests]
        if not 1 <= len(ids) <= MOST_REQUESTS or len({*map(str, ids)}) != len(ids):
            raise BadBatch("requests: 1 to 1000, each with a custom_id of its own")
        if not all(isinstance(one, str) and _CUSTOM_ID.fullmatch(one) for one in ids):
            raise BadBatch("custom_id: 1 to 64 letters, digits, _ and -")
        batch = SimulatedBatch(
            f"msgbatch_sim_{len(self.made) + 1:08d}", now_ms, now_ms + round(self.lasts_s * 1000), requests
        )
        self.made.append(batch)
        return batch

    def move_on(self, now_ms: int, answer: Answering) -> None:
        """End what is over by now."""
        for batch in self.made:
            if batch.results is None and (batch.cancelled_ms is not None or batch.ends_ms <= now_ms):
                batch.ends_ms = min(batch.ends_ms, now_ms)
                batch.results = [
                    {"custom_id": custom_id, "result": _result(batch, params, answer)}
                    for custom_id, params in reversed(batch.requests)
                ]

    def find(self, batch_id: str) -> SimulatedBatch:
        for batch in self.made:
            if batch.batch_id == batch_id:
                return batch
        raise NoSuchBatch(batch_id)

    def page(self, limit: int, after_id: str | None) -> tuple[Sequence[SimulatedBatch], bool]:
        """Newest first, and whether there are more."""
        newest = self.made[::-1]
        if after_id is not None:
            newest = newest[newest.index(self.find(after_id)) + 1 :]
        return newest[:limit], len(newest) > limit


def _result(batch: SimulatedBatch, params: Mapping[str, Any], answer: Answering) -> Mapping[str, Any]:
    return answer(params) if batch.cancelled_ms is None else {"type": "canceled"}


def _moment(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
