"""What the hot path counts reaches the metrics exactly as if it had been observed there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from scopegate.gateway.tallies import Latencies, RouteTally
from scopegate.metrics import catalogue as metrics


def histogram() -> tuple[CollectorRegistry, Histogram]:
    registry = CollectorRegistry()
    return registry, Histogram("h", "h", registry=registry, buckets=metrics.LATENCY_BUCKETS_S)


@given(st.lists(st.floats(0, 100) | st.sampled_from(metrics.LATENCY_BUCKETS_S), max_size=30))
def test_a_flush_is_as_good_as_observing(seconds: list[float]) -> None:
    (ours, late), (theirs, direct) = histogram(), histogram()
    latencies = Latencies(late)
    for n, each in enumerate(seconds):
        latencies.observe(each)
        direct.observe(each)
        if n == 10:
            latencies.flush()
    latencies.flush()
    latencies.flush()
    counted, observed = (_without_sum(registry) for registry in (ours, theirs))
    assert counted == observed
    assert abs(late._sum.get() - direct._sum.get()) < 1e-6


def _without_sum(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("h_sum")]


def test_the_librarys_private_names_are_still_there() -> None:
    """`Latencies.flush` needs them: one bucket more than bounds, each with `inc`, and a sum."""
    _, made = histogram()
    assert len(made._buckets) == len(metrics.LATENCY_BUCKETS_S) + 1
    assert all(callable(bucket.inc) for bucket in made._buckets)
    assert callable(made._sum.inc)


def value(name: str, **labels: str) -> float:
    from prometheus_client import REGISTRY

    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_routes_tally_becomes_metrics_once() -> None:
    tally = RouteTally("tallied", ["one", "two"])
    tally.count(200, 0.002, 10, 20)
    tally.count(200, 0.002, 0, 0)
    tally.count(429, 7.0, 1, 2)
    tally.refuse("rate_limited")
    tally.limit("two", "limited")
    tally.decide("admitted")
    tally.decide("admitted")
    for _ in range(2):
        tally.flush()
        assert value("scopegate_requests_total", route="tallied", status="200") == 2
        assert value("scopegate_requests_total", route="tallied", status="429") == 1
        assert value("scopegate_refusals_total", route="tallied", reason="rate_limited") == 1
        assert value("scopegate_limit_decisions_total", route="tallied", tier="one", decision="admitted") == 2
        assert value("scopegate_limit_decisions_total", route="tallied", tier="two", decision="admitted") == 2
        assert value("scopegate_limit_decisions_total", route="tallied", tier="one", decision="limited") == 0
        assert value("scopegate_limit_decisions_total", route="tallied", tier="two", decision="limited") == 1
        assert value("scopegate_request_body_bytes_total", route="tallied") == 11
        assert value("scopegate_response_body_bytes_total", route="tallied") == 22
        assert value("scopegate_request_seconds_count", route="tallied") == 3
        assert value("scopegate_request_seconds_bucket", route="tallied", le="0.0025") == 2
