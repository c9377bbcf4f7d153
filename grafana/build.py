"""Builds `dashboards/scopegate.json` and `prometheus/alerts.yml` from `subjects`: run `python -m grafana.build` after a
change, a test compares the results.

Classic dashboard JSON: a data source variable, one description and unit on every panel, `$__rate_interval` in every
rate. Metric names and labels are those of `src/scopegate/metrics/catalogue.py`; a test holds them together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

from grafana.parts import Alert, Panel, Query, pick
from grafana.subjects import health, jobs, model, now, traffic

FOLDER = Path(__file__).parent
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24

ROWS = (
    now.NOW,
    traffic.TRAFFIC,
    traffic.REFUSALS,
    traffic.LIMITS,
    traffic.CACHE,
    traffic.UPSTREAM,
    jobs.JOBS,
    model.MODEL,
    health.HEALTH,
)
GROUPS = (traffic.ALERTS, jobs.ALERTS, model.ALERTS, health.ALERTS)


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def dashboard() -> dict[str, Any]:
    return {
        "annotations": {"list": [_reloads()]},
        "description": "Traffic, refusals, limits, the app behind, lead jobs, model cost and the health of scopegate.",
        "editable": False,
        "graphTooltip": 1,
        "links": [_link()],
        "panels": list(_panels()),
        "refresh": "30s",
        "schemaVersion": 39,
        "tags": ["scopegate"],
        "templating": {"list": _variables()},
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "title": "scopegate",
        "uid": "scopegate-overview",
        "version": 1,
    }


def _panels() -> Any:
    number, top = 1, 0
    for row in ROWS:
        yield {
            "collapsed": False,
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
            "id": number,
            "panels": [],
            "title": row.title,
            "type": "row",
        }
        number, top, left = number + 1, top + 1, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left = top + row.height, 0
            yield _panel(panel, number, {"h": row.height, "w": panel.width, "x": left, "y": top})
            number, left = number + 1, left + panel.width
        top += row.height


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "datasource": DATASOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "gridPos": place,
        "id": number,
        "options": _options(panel),
        "targets": [_target(query, panel, n) for n, query in enumerate(panel.queries)],
        "title": panel.title,
        "type": panel.kind,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limits:
        amber, red = panel.limits
        steps += [{"color": "orange", "value": amber}, {"color": "red", "value": red}]
    defaults: dict[str, Any] = {
        "color": {"mode": "thresholds" if panel.kind in ("stat", "bargauge") else "palette-classic"},
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "unit": panel.unit,
    }
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        mode = "normal" if panel.stacked else "none"
        defaults["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 20 if panel.stacked else 5,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"group": "A", "mode": mode},
        }
    if panel.kind == "bargauge":
        defaults["max"] = 1
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "table":
        return {"showHeader": True}
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "bargauge":
        return {"displayMode": "gradient", "orientation": "horizontal", "reduceOptions": reduce, "showUnfilled": True}
    assert panel.kind == "stat", panel.kind
    return {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "reduceOptions": reduce,
        "textMode": "auto",
    }


def _target(query: Query, panel: Panel, number: int) -> dict[str, Any]:
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "format": "table" if panel.kind == "table" else "time_series",
        "instant": query.instant,
        "legendFormat": query.legend or "__auto",
        "range": not query.instant,
        "refId": chr(ord("A") + number),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {
            "current": {},
            "hide": 0,
            "includeAll": False,
            "label": "Data source",
            "multi": False,
            "name": "datasource",
            "options": [],
            "query": "prometheus",
            "refresh": 1,
            "type": "datasource",
        },
        _choice("job", "Installation", "label_values(scopegate_build_info, job)"),
        _choice("route", "Route", 'label_values(scopegate_requests_total{job=~"$job"}, route)'),
    ]


def _choice(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }


def _reloads() -> dict[str, Any]:
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "expr": f"changes({pick('scopegate_policy_loaded_timestamp_seconds')}[$__rate_interval]) > 0",
        "iconColor": "blue",
        "name": "Policy loaded",
        "titleFormat": "Policy loaded",
    }


def _link() -> dict[str, Any]:
    return {
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "tags": ["scopegate"],
        "title": "scopegate",
        "type": "dashboards",
    }


# ── the two files ───────────────────────────────────────────────────────────────────────────────────────────────────
def dashboard_text() -> str:
    return json.dumps(dashboard(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def alerts_text() -> str:
    return "\n".join(_alert_lines()) + "\n"


def _alert_lines() -> Iterator[str]:
    yield "# Written by `python -m grafana.build` from `grafana/subjects`."
    yield "groups:"
    for group in GROUPS:
        yield f"  - name: {group.name}"
        yield "    rules:"
        for alert in group.alerts:
            yield from (f"      {line}" for line in _rule(alert))


def _rule(alert: Alert) -> Iterator[str]:
    yield f"- alert: {alert.name}"
    yield from _value("  expr", alert.expr)
    if alert.hold is not None:
        yield f"  for: {alert.hold}"
    yield f"  labels: {{severity: {alert.severity}}}"
    yield "  annotations:"
    for name, text in (("summary", alert.summary), ("description", alert.description), ("runbook", alert.runbook)):
        yield from _value(f"    {name}", text)


def _value(name: str, text: str) -> Iterator[str]:
    """Lines as a block, one line as a quoted word."""
    text = cleandoc(text)
    if "\n" not in text:
        quoted = text.replace("'", "''")
        yield f"{name}: '{quoted}'"
        return
    indent = " " * (len(name) - len(name.lstrip()) + 2)
    yield f"{name}: |"
    yield from (indent + line for line in text.splitlines())


def written() -> dict[Path, str]:
    """Both files with their text."""
    return {
        FOLDER / "dashboards" / "scopegate.json": dashboard_text(),
        FOLDER / "prometheus" / "alerts.yml": alerts_text(),
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
