"""Each promise held against samples: met, missed, not measured."""

from __future__ import annotations

import pytest

from bench.goals import REDIS_TIMES, STREAM, Goal, Verdict, goals
from bench.load import GET, GET_64, GET_256, KEPT, KEPT_STREAM, LOADS, REAL
from bench.report import Sample
from tests.bench.samples import sample

MB = 1_000_000


def a_good_run() -> list[Sample]:
    """Every promise kept, each just so."""
    made = []
    for load in LOADS:
        for peer, cpu_us, speed in (("scopegate", 30.0, 500), ("nginx", 20.0, 1000)):
            rise = 16 * MB if peer == "scopegate" else MB
            made.append(
                sample(peer, cpu_us, load=load.name, requests=speed, peak_bytes=rise + 40 * MB, rest_bytes=40 * MB)
            )
        made += [sample(peer, 31.0, load=load.name, requests=499) for peer in ("caddy", "fastify", "express")]
    for load in REDIS_TIMES:
        made.append(sample("scopegate+redis", 62.5, load=load.name, section="redis"))
        made.append(sample("nginx+lua+redis", 50.0, load=load.name, section="redis"))
    for kept in (KEPT, KEPT_STREAM):
        made.append(sample("scopegate+cache", 26.0, load=kept.name, section="cache"))
        made.append(sample("nginx+cache", 20.0, load=kept.name, section="cache"))
    for load in (REAL, GET, GET_256):
        made.append(sample("scopegate, Redis", 50.0, load=load.name, section="stores"))
        made.append(sample("scopegate, memory", 40.0, load=load.name, section="stores"))
    for kind in ("literal", "pattern"):
        made += [
            sample(f"scopegate, {n} routes", cpu, section=f"routes-{kind}", load=f"last-{kind}")
            for n, cpu in ((1, 40.0), (1000, 46.0))
        ]
    made += [
        sample(f"scopegate, {name}", 40.0, section="workers", load=GET_64.name, requests=speed, busiest=busiest)
        for name, speed, busiest in (("1 worker", 1000, 1.0), ("2 workers", 1800, 0.55))
    ]
    return made


def verdicts(samples: list[Sample]) -> dict[str, Verdict]:
    return {goal.text.partition(" (worst")[0]: goal.verdict for goal in goals(samples)}


def test_a_run_that_keeps_every_promise() -> None:
    assert set(verdicts(a_good_run()).values()) == {Verdict.MET}


def test_a_run_without_samples_proves_nothing() -> None:
    assert set(verdicts([]).values()) == {Verdict.UNKNOWN}


WORSE = [
    *(
        (f"{name}: from the cache at most 1.3 times nginx' CPU per request", name, "scopegate+cache", {"cpu_us": 26.1})
        for name in ("kept-10KB-32", "kept-1MB-8")
    ),
    ("real-32: at most 1.75 times nginx' CPU per request", "real-32", "scopegate", {"cpu_us": 35.1}),
    ("get-200B-32: at most 1.5 times nginx' CPU per request", "get-200B-32", "scopegate", {"cpu_us": 30.1}),
    ("get-200B-256: at most 1.75 times nginx' CPU per request", "get-200B-256", "scopegate", {"cpu_us": 35.1}),
    ("post-10KB-32: at most 1.75 times nginx' CPU per request", "post-10KB-32", "scopegate", {"cpu_us": 35.1}),
    ("less CPU per request than express in every row", "post-10KB-32", "express", {"cpu_us": 29.9}),
    ("more throughput than caddy in every row", "get-200B-256", "caddy", {"requests": 501}),
    (
        "real-32: with limits in Redis at most 1.25 times the same in memory",
        "real-32",
        "scopegate, Redis",
        {"cpu_us": 50.1},
    ),
    (
        "real-32: with limits in Redis at most 1.25 times nginx+Lua+Redis",
        "real-32",
        "scopegate+redis",
        {"cpu_us": 63.0},
    ),
    (f"{STREAM}: at least half of nginx' throughput", STREAM, "scopegate", {"requests": 499}),
    ("idle: at most 60 MB", "get-200B-1", "scopegate", {"idle_bytes": 61 * MB}),
    ("real-32: memory grows by at most 16 MB", "real-32", "scopegate", {"peak_bytes": 57 * MB}),
    (f"{STREAM}: memory grows by at most 16 MB", STREAM, "scopegate", {"peak_bytes": 57 * MB}),
    (
        "last-pattern: 1,000 routes cost at most 1.15 times one",
        "last-pattern",
        "scopegate, 1000 routes",
        {"cpu_us": 47.0},
    ),
    ("two workers give at least 1.8 times one", GET_64.name, "scopegate, 2 workers", {"requests": 1799}),
    ("the same by CPU accounting alone", GET_64.name, "scopegate, 2 workers", {"busiest": 0.56}),
]


@pytest.mark.parametrize(("text", "load", "peer", "change"), WORSE, ids=[row[0] for row in WORSE])
def test_one_worse_figure_misses_its_promise(text: str, load: str, peer: str, change: dict[str, float]) -> None:
    run = a_good_run()
    place = next(index for index, one in enumerate(run) if (one.load, one.peer) == (load, peer))
    old = run[place]
    values = {
        "cpu_us": old.cpu_us,
        "requests": old.outcome.requests,
        "peak_bytes": old.peak_bytes,
        "rest_bytes": old.rest_bytes,
        "idle_bytes": old.idle_bytes,
        "busiest": old.busiest,
    }
    run[place] = sample(peer, load=load, section=old.section, **(values | change))  # type: ignore[arg-type]
    assert verdicts(run)[text] is Verdict.MISSED


def test_the_worst_row_is_named() -> None:
    run = [
        *a_good_run(),
        sample("scopegate", 30.0, turn=1, load="real-32"),
        sample("caddy", 10.0, turn=1, load="real-32"),
    ]
    [goal] = [goal for goal in goals(run) if goal.text.startswith("less CPU per request than caddy")]
    assert goal.text.endswith("(worst row: real-32)")


def test_a_goal_says_verdict_and_figure() -> None:
    assert str(Goal("a", 1.5, 2.0)) == "met (1.50): a"
    assert str(Goal("a", 1.5, 2.0, at_least=True)) == "MISSED (1.50): a"
    assert str(Goal("a", None, 2.0)) == "not measured: a"
