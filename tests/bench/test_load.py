"""wrk's figures as an Outcome, and what counts as failed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.load import LOADS, SCRIPTS, SMALL, parse, send
from tests.bench.recording import recording
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
    assert set(SMALL) <= set(names)
    assert all((SCRIPTS / load.script).is_file() for load in LOADS if load.script)


def test_varied_heads_are_a_browsers_and_no_two_alike(tmp_path: Path) -> None:
    if shutil.which("wrk") is None:
        missing("wrk")
    [varied] = [load for load in LOADS if load.script == "varied.lua"]
    with recording() as app:
        outcome = send(varied, app.port, 1, None, 1, tmp_path)
    assert outcome.failed == 0
    assert len(app.heads) > 100
    assert len({head.fields["user-agent"] for head in app.heads}) > len(app.heads) * 0.9
    assert len({head.target for head in app.heads}) == len(app.heads)
    assert len({head.fields["cookie"] for head in app.heads}) == len(app.heads)
    assert {len(head.fields) for head in app.heads} == {12, 13, 14, 15}
