"""`scopegate advise`: YAML that a policy takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scopegate.cli.main import main
from tests.cli.test_simulate import POLICY, line
from tests.gateway.rig import policy_of


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "access.log"
    busy = [line(n % 60, "198.51.100.1") for n in range(300)]
    log.write_text("".join([line(n % 60, f"192.0.2.{n}") for n in range(200)] + busy + ["nonsense\n"]))
    return log


def test_what_is_proposed_is_yaml_that_a_policy_takes(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.yaml").write_text(POLICY)
    assert main(["advise", "--log", str(log), "-c", str(tmp_path / "gateway.yaml")]) == 0
    told = capsys.readouterr()
    assert "# route api: median 1, 99 % 1, most 300 in a minute; touches 1 of 201 clients (0.5 %)" in told.out
    assert "line 501" in told.err
    proposed = yaml.safe_load(told.out)
    assert proposed == {"tiers": {"advised-api": {"limit": "1 per 60s", "key": "client_ip"}}}
    routes = [{"name": "api", "match": "GET /**", "tier": "advised-api"}]
    assert policy_of(["http://127.0.0.1:1"], routes=routes, **proposed).tiers["advised-api"].quotas[0].limit == 1


def test_without_a_policy_all_is_one_route(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "--log", str(log), "--percentile", "100"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["tiers"]["advised-all"]["limit"] == "300 per 60s"


def test_from_few_clients_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_text(line(1))
    assert main(["advise", "--log", str(tmp_path / "a.log")]) == 0
    assert "from 1 clients only: watch it first" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--percentile", "49"], ["--percentile", "x"]])
def test_a_percentile_that_is_none_is_wrong_usage(log: Path, words: list[str]) -> None:
    assert main(["advise", "--log", str(log), *words]) == 2


def test_a_log_without_requests_has_nothing_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_text("\n")
    assert main(["advise", "--log", str(tmp_path / "a.log")]) == 1
    assert "no request in this log" in capsys.readouterr().err
