"""The catalogue keeps its own rules, and every series of a policy exists before anything happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from prometheus_client import REGISTRY, Gauge

from scopegate.limits.decision import LIMIT_DECISIONS
from scopegate.metrics import catalogue as metrics
from tests.admin import house


@pytest.fixture
def families() -> dict[str, metrics.Family]:
    return {family.name: family for family in metrics.catalogue()}


def test_every_metric_is_in_the_catalogue_once(families: dict[str, metrics.Family]) -> None:
    names = Counter(family.name for family in metrics.catalogue())
    assert max(names.values()) == 1
    registered = {family.name for family in REGISTRY.collect() if family.name.startswith("scopegate_")}
    assert registered | {thing.name for thing in metrics.COMPUTED} == set(families)
    assert len(families) >= 35


def test_names_follow_prometheus(families: dict[str, metrics.Family]) -> None:
    for family in families.values():
        assert re.fullmatch(r"scopegate_[a-z]+(_[a-z]+)*", family.name)
        assert family.help.endswith(".")
        assert not family.name.endswith(("_total", "_ms", "_count", "_sum", "_bucket"))
        if family.kind == "histogram":
            assert family.name.endswith("_seconds")


def test_no_label_takes_a_visitors_words(families: dict[str, metrics.Family]) -> None:
    closed = {
        "route", "status", "reason", "tier", "decision", "kind", "upstream", "state", "offload", "outcome", "step",
        "model", "breaker", "budget", "source", "role", "version", "policy", "le",
    }  # fmt: skip
    assert {label for family in families.values() for label in family.labels} <= closed


def test_gauges_speak_for_living_processes_only() -> None:
    modes = {thing._multiprocess_mode for thing in vars(metrics).values() if isinstance(thing, Gauge)}
    assert modes <= {"livesum", "livemin", "livemax", "livemostrecent"}


def test_every_series_of_a_policy_exists_before_anything_happens() -> None:
    policy = house.policy(routes=4)
    metrics.declare(policy)
    for route in policy.routes:
        for status in ("200", "429", "502"):
            labels = {"route": route.name, "status": status}
            assert REGISTRY.get_sample_value("scopegate_requests_total", labels) is not None
        assert REGISTRY.get_sample_value("scopegate_request_seconds_count", {"route": route.name}) is not None
        for decision in LIMIT_DECISIONS:
            labels = {"route": route.name, "tier": "strict", "decision": decision}
            assert REGISTRY.get_sample_value("scopegate_limit_decisions_total", labels) is not None
    labels = {"model": "claude-haiku-5-5", "step": "estimate", "outcome": "ok"}
    assert REGISTRY.get_sample_value("scopegate_ai_calls_total", labels) is not None
    assert REGISTRY.get_sample_value("scopegate_budget_refusals_total", {"budget": "day"}) is not None
    assert (
        REGISTRY.get_sample_value("scopegate_jobs_finished_total", {"offload": "lead-photos", "state": "failed"}) == 0
    )


def test_declaring_again_makes_nothing_new() -> None:
    metrics.declare(house.policy())
    before = sum(len(family.samples) for family in REGISTRY.collect())
    metrics.declare(house.policy())
    assert sum(len(family.samples) for family in REGISTRY.collect()) == before


def test_one_process_alone_counts_without_a_directory() -> None:
    code = (
        "from scopegate.metrics import catalogue as metrics\n"
        "metrics.REQUESTS.labels('r', '200').inc(); metrics.IN_FLIGHT.inc(2)\n"
        "from prometheus_client import generate_latest; print(generate_latest().decode())"
    )
    environ = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    text = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout
    assert 'scopegate_requests_total{route="r",status="200"} 1.0' in text
    assert "scopegate_requests_in_flight 2.0" in text
    assert "_created" not in text
    assert "process_cpu_seconds_total" in text
