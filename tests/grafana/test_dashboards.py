"""The dashboard is what its builder builds, every panel explains itself, and every name in it exists."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from grafana import build
from scopegate.metrics import catalogue as metrics
from tests.grafana import queries

UNITS = {"reqps", "ops", "percentunit", "s", "short", "currencyUSD", "Bps", "bytes"}
FROM_THE_SCRAPE = {"job", "instance"}


@pytest.fixture(scope="module")
def samples() -> dict[str, metrics.Family]:
    return {sample: family for family in metrics.catalogue() for sample in family.samples}


def test_the_committed_files_are_what_the_builder_builds() -> None:
    for path, text in build.written().items():
        assert path.read_text("utf-8") == text, "run `python -m grafana.build`"


@pytest.mark.parametrize("panel", queries.panels(), ids=lambda panel: panel["title"])
def test_every_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert target["instant"] is not target["range"]


def test_panels_have_a_title_and_an_id_of_their_own_and_do_not_overlap() -> None:
    found = queries.dashboard()["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    assert len({panel["title"] for panel in found}) == len(found)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in found)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_the_rows_are_the_ones_promised() -> None:
    rows = [panel["title"] for panel in queries.dashboard()["panels"] if panel["type"] == "row"]
    assert rows == [
        "Now", "Traffic", "Refusals", "Limits", "Cache", "Upstream", "Jobs", "Model cost and budgets", "Health",
    ]  # fmt: skip


def test_it_can_be_provisioned() -> None:
    board = queries.dashboard()
    assert "__inputs" not in board
    assert board["editable"] is False
    assert board["uid"] == "scopegate-overview"
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert set(variables) == {"datasource", "job", "route"}


def test_provisioning_names_what_is_there() -> None:
    [source] = yaml.safe_load((queries.GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((queries.GRAFANA / "provisioning/dashboards/scopegate.yaml").read_text())["providers"]
    assert (source["type"], source["url"], source["editable"]) == ("prometheus", "${PROMETHEUS_URL}", False)
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    prometheus = yaml.safe_load((queries.GRAFANA / "prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


@pytest.mark.parametrize(("title", "expr"), queries.panel_queries())
def test_every_name_in_a_panel_exists(title: str, expr: str, samples: dict[str, metrics.Family]) -> None:
    used = list(queries.names(expr))
    assert used
    for named in used:
        family = samples.get(named.metric)
        assert family is not None, f"{named.metric} is not in the catalogue"
        assert named.labels - FROM_THE_SCRAPE <= set(family.labels), named
        assert "job" in named.labels, f"{named.metric} would mix installations"
        assert named.ranged is (family.kind != "gauge") or "changes(" in expr, named


@pytest.mark.parametrize(("title", "expr"), queries.panel_queries())
def test_rates_follow_the_scrape_interval(title: str, expr: str) -> None:
    if "rate(" in expr:
        assert "[$__rate_interval]" in expr
    if "increase(" in expr:
        assert "[$__range]" in expr


@pytest.mark.parametrize("panel", queries.panels(), ids=lambda panel: panel["title"])
def test_legends_name_labels_that_are_left(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for part in target["legendFormat"].split("{{")[1:]:
            label = part.partition("}}")[0]
            assert any(label in named.labels for named in queries.names(target["expr"]))


def test_every_metric_is_shown(samples: dict[str, metrics.Family]) -> None:
    shown = {samples[named.metric].name for _, expr in queries.panel_queries() for named in queries.names(expr)}
    assert {family.name for family in metrics.catalogue()} - shown == set()
