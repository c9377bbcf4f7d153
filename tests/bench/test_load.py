"""wrk's figures as an Outcome, and what counts as failed."""

from __future__ import annotations

import json
import shutil
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from bench.load import LOADS, REAL, SCRIPTS, parse, send
from tests.bench.recording import Head, recording
from tests.engines import missing

FIGURES: dict[str, Any] = {
    "requests": 2000,
    "bytes": 500_000,
    "duration_us": 2_000_000,
    "p50_us": 1500,
    "p99_us": 12_000,
    "connect": 0,
    "read": 0,
    "write": 0,
    "timeout": 0,
    "status": 0,
}


def said(**changed: int) -> str:
    return f"Running 2s test @ http://127.0.0.1:1/200\n  1 threads\nfigures {json.dumps(FIGURES | changed)}\n"


def test_figures_are_read_in_seconds_and_bytes() -> None:
    outcome = parse(said(), 200)
    assert (outcome.requests, outcome.bytes_in, outcome.seconds) == (2000, 500_000, 2.0)
    assert (outcome.p50_s, outcome.p99_s, outcome.failed) == (0.0015, 0.012, 0)
    assert (outcome.per_second, outcome.bytes_per_second) == (1000.0, 250_000.0)


@pytest.mark.parametrize("kind", ["connect", "read", "write", "timeout", "status"])
def test_every_kind_of_error_counts_as_failed(kind: str) -> None:
    assert parse(said(**{kind: 3}), 200).failed == 3


def test_answers_that_are_too_short_all_failed() -> None:
    assert parse(said(bytes=399_999), 200).failed == 2000
    assert parse(said(bytes=400_000), 200).failed == 0


def test_a_turn_that_brought_nothing_failed() -> None:
    assert parse(said(requests=0, bytes=0), 200).failed == 1


def test_a_stream_without_a_finished_answer_did_not_fail() -> None:
    assert parse(said(requests=0, bytes=90_000_000), 100_000_000).failed == 0


def test_words_without_figures_are_an_error() -> None:
    with pytest.raises(ValueError, match="no figures: 'unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n", 200)


def test_loads_have_names_of_their_own_and_scripts_that_exist() -> None:
    names = [load.name for load in LOADS]
    assert len(set(names)) == len(names)
    assert all((SCRIPTS / load.script).is_file() for load in LOADS if load.script)


def heads_of(seed: int, folder: Path) -> list[Head]:
    with recording() as app:
        outcome = send(REAL, app.port, 1, None, seed, folder)
    assert outcome.failed == 0
    return app.heads


def test_real_heads_are_those_of_visitors_behind_a_balancer_and_no_two_are_alike(tmp_path: Path) -> None:
    if shutil.which("wrk") is None:
        missing("wrk")
    heads = heads_of(1, tmp_path)[:4096]
    assert len(heads) > 100
    most = len(heads) * 0.99  # the first of them may have come round again, since connections overtake each other
    for one_of_each in ("cookie", "traceparent"):
        assert len({head.fields[one_of_each] for head in heads}) > most
    assert len({head.target for head in heads}) > most
    assert len({head.fields["x-forwarded-for"] for head in heads}) > len(heads) * 0.8
    assert all(ip_address(head.fields["x-forwarded-for"]).is_global for head in heads)
    assert {len(head.fields) for head in heads} == {11}


def test_another_seed_draws_other_values_and_the_same_the_same(tmp_path: Path) -> None:
    if shutil.which("wrk") is None:
        missing("wrk")
    ones, others, again = (heads_of(seed, tmp_path)[:100] for seed in (1, 2, 1))
    assert len({head.target for head in ones} & {head.target for head in again}) > 50  # connections overtake each other
    for what in ("cookie", "x-forwarded-for", "traceparent"):
        assert not {head.fields[what] for head in ones} & {head.fields[what] for head in others}
