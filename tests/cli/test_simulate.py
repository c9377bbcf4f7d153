"""`scopegate simulate`: whom a policy would have refused, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scopegate.cli.main import main

POLICY = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:1"]}}
tiers: {tight: {limit: 2 per 10s}}
routes: [{name: api, match: GET /api/**, tier: tight}]
"""


def line(second: int, client: str = "192.0.2.1", path: str = "/api/a") -> str:
    return f'{client} - - [28/Nov/2026:01:02:{second:02} +0000] "GET {path} HTTP/1.1" 200 2\n'


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The command's words for a log and a policy."""
    (tmp_path / "gateway.yaml").write_text(POLICY)
    log = [line(n) for n in range(5)] + ["nonsense\n", line(6, "192.0.2.9"), line(7, path="/other")]
    (tmp_path / "access.log").write_text("".join(log))
    return ["simulate", "--log", str(tmp_path / "access.log"), "-c", str(tmp_path / "gateway.yaml")]


def test_who_when_and_by_which_tier(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files) == 0
    told = capsys.readouterr()
    assert "192.0.2.1  api    tight        3  2026-11-28 01:02:02Z  2026-11-28 01:02:04Z" in told.out
    assert "3 of 7 requests refused, 1 of 2 clients" in told.out
    assert "1 meet no route" in told.out
    assert "line 6: neither JSON nor the combined format" in told.err


def test_the_same_as_json(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["requests"], told["refused"], told["bad_lines"], told["unrouted"]) == (7, 3, 1, 1)
    assert told["would_limit"] == [{"route": "api", "tier": "tight", "count": 3}]
    assert [(row["client"], row["count"]) for row in told["rows"]] == [("192.0.2.1", 3)]


def test_a_log_that_is_missing_fails(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    files[2] += ".gone"
    assert main(files) == 1
    assert "No such file" in capsys.readouterr().err
