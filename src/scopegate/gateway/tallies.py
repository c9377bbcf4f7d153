"""What the hot path counts, in plain integers; a flush once a second moves it into the metrics.

A prometheus counter with labels costs microseconds; an integer does not. Owned by the ruleset (one tally per route and
upstream), written by the pipeline, flushed by the gateway's ticker. Single-threaded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Histogram

from scopegate.limits.decision import LimitDecision
from scopegate.metrics import catalogue as metrics

_BOUNDS_S = metrics.LATENCY_BUCKETS_S
_FIRST_S = _BOUNDS_S[0]


class Latencies:
    """A histogram that has not been flushed yet. `child` must have the bounds of `metrics.LATENCY_BUCKETS_S`."""

    __slots__ = ("_child", "_counts", "_sum_s")

    def __init__(self, child: Histogram) -> None:
        self._child = child
        self._counts = [0] * (len(_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[0 if seconds <= _FIRST_S else bisect_left(_BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def flush(self) -> None:
        if not any(self._counts):
            return
        # the library has no call for many observations at once; a test holds these two names
        for bucket, count in zip(self._child._buckets, self._counts, strict=True):
            if count:
                bucket.inc(count)
        self._child._sum.inc(self._sum_s)
        self._counts = [0] * len(self._counts)
        self._sum_s = 0.0


class RouteTally:
    """One route's requests since the last flush."""

    __slots__ = (
        "_name",
        "_tiers",
        "bytes_in",
        "bytes_out",
        "cached",
        "decisions",
        "latencies",
        "limited",
        "refusals",
        "statuses",
        "unstored",
        "watched",
    )

    def __init__(self, name: str, tiers: Sequence[str] = ()) -> None:
        self._name = name
        self._tiers = tuple(tiers)
        self.statuses: dict[int, int] = {}
        self.refusals: dict[str, int] = {}
        self.watched: dict[str, int] = {}
        self.decisions: dict[LimitDecision, int] = {}
        self.limited: dict[tuple[str, LimitDecision], int] = {}
        self.cached: dict[str, int] = {}
        self.unstored: dict[str, int] = {}
        self.bytes_in = 0
        self.bytes_out = 0
        self.latencies = Latencies(metrics.REQUEST_SECONDS.labels(name))

    def count(self, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.latencies.observe(seconds)
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def refuse(self, code: str) -> None:
        self.refusals[code] = self.refusals.get(code, 0) + 1

    def watch(self, code: str) -> None:
        """Watch mode: what would have been refused, and passed."""
        self.watched[code] = self.watched.get(code, 0) + 1

    def decide(self, decision: LimitDecision) -> None:
        """By all tiers of the route."""
        self.decisions[decision] = self.decisions.get(decision, 0) + 1

    def limit(self, tier: str, decision: LimitDecision) -> None:
        """By one of the route's tiers."""
        key = (tier, decision)
        self.limited[key] = self.limited.get(key, 0) + 1

    def cache(self, outcome: str) -> None:
        """How the cache answered."""
        self.cached[outcome] = self.cached.get(outcome, 0) + 1

    def unstorable(self, reason: str) -> None:
        """An answer that was not kept."""
        self.unstored[reason] = self.unstored.get(reason, 0) + 1

    def flush(self) -> None:
        for status, count in self.statuses.items():
            metrics.REQUESTS.labels(self._name, str(status)).inc(count)
        for code, count in self.refusals.items():
            metrics.REFUSALS.labels(self._name, code).inc(count)
        for code, count in self.watched.items():
            metrics.WATCHED.labels(self._name, code).inc(count)
        for decision, count in self.decisions.items():
            for tier in self._tiers:
                metrics.LIMIT_DECISIONS.labels(self._name, tier, decision).inc(count)
        for (tier, decision), count in self.limited.items():
            metrics.LIMIT_DECISIONS.labels(self._name, tier, decision).inc(count)
        if self.cached:
            self._flush_cache()
        self.statuses.clear()
        self.refusals.clear()
        self.watched.clear()
        self.decisions.clear()
        self.limited.clear()
        if self.bytes_in:
            metrics.REQUEST_BYTES.labels(self._name).inc(self.bytes_in)
        if self.bytes_out:
            metrics.RESPONSE_BYTES.labels(self._name).inc(self.bytes_out)
        self.bytes_in = self.bytes_out = 0
        self.latencies.flush()

    def _flush_cache(self) -> None:
        for outcome, count in self.cached.items():
            metrics.CACHE_REQUESTS.labels(self._name, outcome).inc(count)
        for reason, count in self.unstored.items():
            metrics.CACHE_UNSTORABLE.labels(self._name, reason).inc(count)
        self.cached.clear()
        self.unstored.clear()
