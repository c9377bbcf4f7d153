"""The catalogue keeps its own rules, and every series of a policy exists before anything happens."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter as Tally
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

import scopegate
from scopegate.limits.decision import LIMIT_DECISIONS
from scopegate.metrics import catalogue as metrics
from tests.admin import house


@pytest.fixture
def families() -> dict[str, metrics.Family]:
    return {family.name: family for family in metrics.catalogue()}


def test_every_metric_is_in_the_catalogue_once(families: dict[str, metrics.Family]) -> None:
    names = Tally(family.name for family in metrics.catalogue())
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
        "model", "breaker", "budget", "share", "period", "source", "role", "version", "build", "policy", "le",
        "flag", "variant", "what",
    }  # fmt: skip
    assert {label for family in families.values() for label in family.labels} <= closed


OPEN_LABELS = {
    *("route", "tier", "upstream", "offload", "model", "breaker", "budget", "share"),
    *("version", "policy", "status", "flag", "variant"),
}
"""Words of the policy file, and what is bounded by itself."""
OPEN_CODES = {
    "scopegate_refusals": "reason",
    "scopegate_watched_refusals": "reason",
    "scopegate_step_attempts": "outcome",
}
"""The codes of everything that can be refused, and of everything that can fail."""

METRICS = [
    thing for thing in vars(metrics).values() if isinstance(thing, Counter | Gauge | Histogram | metrics.Computed)
]


def labels_of(metric: metrics.Metric) -> tuple[str, ...]:
    return metric.labels if isinstance(metric, metrics.Computed) else tuple(metric._labelnames)


def name_of(metric: metrics.Metric) -> str:
    return metric.name if isinstance(metric, metrics.Computed) else str(metric._name)


@pytest.mark.parametrize("metric", METRICS, ids=name_of)
def test_each_label_takes_words_of_a_closed_set_or_of_the_policy(metric: metrics.Metric) -> None:
    closed = metrics.CLOSED.get(metric, {})
    opened = OPEN_LABELS | {OPEN_CODES.get(name_of(metric), "")}
    assert set(labels_of(metric)) - closed.keys() <= opened
    assert closed.keys() <= set(labels_of(metric))
    for words in closed.values():
        assert len(set(words)) == len(words) > 1


@pytest.mark.parametrize("metric", [one for one in METRICS if one in metrics.CLOSED], ids=name_of)
def test_a_help_that_lists_a_closed_set_lists_the_whole(metric: metrics.Metric) -> None:
    described = metric.help if isinstance(metric, metrics.Computed) else str(metric._documentation)
    told = set(re.findall(r"[a-z_]+", described))
    for words in metrics.CLOSED[metric].values():
        listed = told & set(words)
        assert listed in (set(), set(words)) or "or the error code" in described


def written_words() -> Iterator[tuple[str, metrics.Metric, str, object]]:
    """Every word that stands where it is counted: (place, metric, label, word)."""
    for path in Path(scopegate.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="labels", value=ast.Attribute(attr=name) | ast.Name(id=name))
                ) if name.isupper():
                    metric: metrics.Metric = getattr(metrics, name)
                    for label, given in zip(labels_of(metric), node.args, strict=False):
                        if isinstance(given, ast.Constant):
                            yield f"{path.name}:{node.lineno}", metric, label, given.value
                case _:
                    pass


def test_every_word_that_the_code_counts_is_one_of_its_set() -> None:
    """The checker holds those that come from elsewhere."""
    closed = [one for one in written_words() if one[2] in metrics.CLOSED.get(one[1], {})]
    assert [place for place, metric, label, word in closed if word not in metrics.CLOSED[metric][label]] == []
    assert len(closed) >= 4


def test_every_series_of_a_closed_set_exists_before_anything_happens() -> None:
    policy = house.policy()
    metrics.declare(policy)
    made = {(sample.name, *sorted(sample.labels.items())) for family in REGISTRY.collect() for sample in family.samples}
    given = {
        "upstream": "web",
        "offload": "lead-photos",
        "model": "claude-haiku-5-5",
        "route": "read-api",
        "tier": "strict",
    }
    counters = [one for one in METRICS if isinstance(one, Counter) and one in metrics.CLOSED]
    for counter in counters:
        if counter is metrics.STEP_ATTEMPTS or counter is metrics.AI_RETRIES:
            continue  # by far the most of their series would stay at zero
        open_labels = {name: given[name] for name in labels_of(counter) if name not in metrics.CLOSED[counter]}
        for words in product(*metrics.CLOSED[counter].values()):
            labels = open_labels | dict(zip(metrics.CLOSED[counter], words, strict=True))
            assert (f"{name_of(counter)}_total", *sorted(labels.items())) in made


def test_gauges_speak_for_living_processes_only() -> None:
    modes = {thing._multiprocess_mode for thing in vars(metrics).values() if isinstance(thing, Gauge)}
    assert modes <= {"livesum", "livemin", "livemax", "livemostrecent"}


def test_every_series_of_a_policy_exists_before_anything_happens() -> None:
    policy = house.policy(routes=4)
    metrics.declare(policy)
    made = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float | None:
        return made.get((name, *sorted(labels.items())))

    for route in policy.routes:
        for status in ("200", "429", "502"):
            assert value("scopegate_requests_total", route=route.name, status=status) is not None
        assert value("scopegate_request_seconds_count", route=route.name) is not None
        for decision in LIMIT_DECISIONS:
            labels = {"route": route.name, "tier": "strict", "decision": decision}
            assert value("scopegate_limit_decisions_total", **labels) is not None
    assert value("scopegate_ai_calls_total", model="claude-haiku-5-5", step="estimate", outcome="ok") is not None
    assert value("scopegate_budget_refusals_total", budget="day") is not None
    assert value("scopegate_jobs_finished_total", offload="lead-photos", state="failed") == 0


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
