"""The queries of dashboards and alerts, and what they name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

GRAFANA = Path(__file__).parents[2] / "grafana"
VARIABLES = {"$__rate_interval": "4s", "$__range": "20s", "$job": ".+", "$route": ".+"}


@dataclass(frozen=True)
class Named:
    """A metric as one query uses it. `labels` are those it selects or groups by; `ranged` when it stands in [...]."""

    metric: str
    labels: frozenset[str]
    ranged: bool


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "scopegate.json").read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_queries() -> list[tuple[str, str]]:
    """(panel's title, expression), the annotation included."""
    found = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    return found + [(note["name"], note["expr"]) for note in dashboard()["annotations"]["list"]]


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((GRAFANA / "prometheus" / "alerts.yml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def filled(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def names(expr: str) -> Iterator[Named]:
    """Every metric an expression uses. Labels of a grouping count for each metric below it."""

    def walk(node: Any, grouped: frozenset[str], ranged: bool) -> Iterator[Named]:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name is not None, "our queries name their metric"
            chosen = {matcher.name for matcher in node.matchers.matchers}
            yield Named(node.name, frozenset(chosen) | grouped, ranged)
        elif isinstance(node, promql_parser.MatrixSelector):
            yield from walk(node.vector_selector, grouped, True)
        elif isinstance(node, promql_parser.AggregateExpr):
            labels = frozenset(node.modifier.labels) if node.modifier else frozenset()
            yield from walk(node.expr, grouped | labels, ranged)
        elif isinstance(node, promql_parser.BinaryExpr):
            yield from walk(node.lhs, grouped, ranged)
            yield from walk(node.rhs, grouped, ranged)
        elif isinstance(node, promql_parser.Call):
            for argument in node.args:
                yield from walk(argument, grouped, ranged)
        elif isinstance(node, promql_parser.ParenExpr | promql_parser.UnaryExpr | promql_parser.SubqueryExpr):
            yield from walk(node.expr, grouped, ranged)
        else:
            assert isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral), type(node)

    yield from walk(promql_parser.parse(filled(expr)), frozenset(), False)
