"""Alerts: their rules are valid, fire and stay quiet as told, and name metrics that exist."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from scopegate.metrics import catalogue as metrics
from tests.engines import missing
from tests.grafana import queries

FOLDER = queries.GRAFANA / "prometheus"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("promtool") or missing("promtool")
    return subprocess.run([binary, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60)


def test_the_rules_are_valid() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_valid() -> None:
    done = promtool("check", "config", "--syntax-only", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_and_stays_quiet_as_told() -> None:
    done = promtool("test", "rules", "alerts.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_firing_and_a_quiet_case() -> None:
    cases = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    for rule in queries.rules():
        fires = [case for case in cases if case["name"].startswith(f"{rule['alert']} fires")]
        quiet = [case for case in cases if case["name"].startswith(f"{rule['alert']} stays quiet")]
        assert fires, rule["alert"]
        assert quiet, rule["alert"]
        for case in fires:
            labels = [s["labels"] for test in case["promql_expr_test"] for s in test["exp_samples"]]
            assert labels
            assert all(f'alertname="{rule["alert"]}"' in label for label in labels)
        for case in quiet:
            assert not [s for test in case["promql_expr_test"] for s in test["exp_samples"]]


@pytest.mark.parametrize("rule", queries.rules(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    summary, description, runbook = (rule["annotations"][part] for part in ("summary", "description", "runbook"))
    assert "{{" not in summary
    assert description.endswith(".")
    assert len(runbook) > 80


@pytest.mark.parametrize("rule", queries.rules(), ids=lambda rule: rule["alert"])
def test_every_name_in_an_alert_exists(rule: dict[str, Any]) -> None:
    samples = {sample: family for family in metrics.catalogue() for sample in family.samples}
    for named in queries.names(rule["expr"]):
        family = samples.get(named.metric)
        assert family is not None, named.metric
        assert named.labels - {"job"} <= set(family.labels), named


def test_what_an_alert_quotes_is_left_in_its_labels() -> None:
    for rule in queries.rules():
        grouped = set().union(*(named.labels for named in queries.names(rule["expr"])))
        for text in rule["annotations"].values():
            for part in text.split("$labels.")[1:]:
                assert part.split(" ")[0] in grouped, rule["alert"]
