"""Builds `dashboards/scopegate.json`: run `python grafana/build.py` after a change, a test compares the result.

Classic dashboard JSON: a data source variable, one description and unit on every panel, `$__rate_interval` in every
rate. Metric names and labels are those of `src/scopegate/metrics/catalogue.py`; a test holds them together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "dashboards" / "scopegate.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    decimals: int | None = None
    limits: tuple[float, float] | None = None  # amber and red from here on
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]
    height: int = 8


# ── expressions ─────────────────────────────────────────────────────────────────────────────────────────────────────
def pick(metric: str, *matchers: str) -> str:
    return metric + "{" + ",".join(('job=~"$job"', *matchers)) + "}"


def of_route(metric: str, *matchers: str) -> str:
    return pick(metric, 'route=~"$route"', *matchers)


def rate(selector: str, by: str = "") -> str:
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({selector}[$__rate_interval]))"


def rise(selector: str, by: str = "") -> str:
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (increase({selector}[$__range]))"


def share(part: str, whole: str) -> str:
    """0 when nothing happened at all."""
    return f"{part} / clamp_min({whole}, 1e-9)"


def quantile(q: float, buckets: str, by: str = "") -> str:
    """Nothing, rather than NaN, while nothing was observed."""
    grouping = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {rate(buckets, grouping)}) >= 0"


def quantiles(buckets: str) -> list[Query]:
    return [Query(quantile(q, buckets), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)]


REQUESTS = of_route("scopegate_requests_total")
FAILED = of_route("scopegate_requests_total", 'status=~"5.."')
OPEN_JOBS = pick("scopegate_jobs", 'state=~"queued|running|held"')
OPEN_ORDERS = pick("scopegate_outbox_orders", 'state=~"pending|unknown"')
DONE = pick("scopegate_jobs_finished_total", 'state="done"')
SPENT, LIMIT = pick("scopegate_budget_spent_usd"), pick("scopegate_budget_limit_usd")

# ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────
NOW = Row(
    "Now",
    [
        Panel(
            "Requests", "Requests answered per second, refusals included.", "reqps", [Query(rate(REQUESTS))], "stat", 3
        ),
        Panel(
            "Failed",
            "Share of requests answered 5xx, by the app or by the gateway for it. 429 and other refusals are none.",
            "percentunit",
            [Query(share(rate(FAILED), rate(REQUESTS)))],
            "stat",
            3,
            limits=(0.01, 0.05),
        ),
        Panel(
            "Time, p95",
            "95 of 100 requests took less, from first line to last byte.",
            "s",
            [Query(quantile(0.95, of_route("scopegate_request_seconds_bucket")))],
            "stat",
            3,
        ),
        Panel(
            "Refused",
            "Share of requests the gateway refused itself.",
            "percentunit",
            [Query(share(rate(of_route("scopegate_refusals_total")), rate(REQUESTS)))],
            "stat",
            3,
        ),
        Panel(
            "Longest wait",
            "For how long the longest waiting job could have been running.",
            "s",
            [Query(f"max({pick('scopegate_oldest_due_job_seconds')})")],
            "stat",
            3,
            limits=(120, 600),
        ),
        Panel(
            "Jobs failed",
            "Jobs that ended as failed in the time shown; each can be replayed.",
            "short",
            [Query(rise(pick("scopegate_jobs_finished_total", 'state="failed"')))],
            "stat",
            3,
            decimals=0,
            limits=(1, 5),
        ),
        Panel(
            "Model spend",
            "Dollars booked for model calls in the time shown.",
            "currencyUSD",
            [Query(rise(pick("scopegate_ai_cost_usd_total")))],
            "stat",
            3,
            decimals=2,
        ),
        Panel(
            "Fullest budget",
            "The highest share spent of any budget in its present period.",
            "percentunit",
            [Query(f"max({SPENT} / {LIMIT})")],
            "stat",
            3,
            limits=(0.8, 0.95),
        ),
    ],
    height=4,
)

TRAFFIC = Row(
    "Traffic",
    [
        Panel(
            "Requests by route", "Requests per second by route.", "reqps", [Query(rate(REQUESTS, "route"), "{{route}}")]
        ),
        Panel(
            "Requests by status",
            "Requests per second by the status the client got.",
            "reqps",
            [Query(rate(REQUESTS, "status"), "{{status}}")],
            stacked=True,
        ),
        Panel(
            "Time to answer",
            "From first line to last byte, quantiles over the chosen routes.",
            "s",
            quantiles(of_route("scopegate_request_seconds_bucket")),
        ),
        Panel(
            "Time to answer by route",
            "p95 by route.",
            "s",
            [Query(quantile(0.95, of_route("scopegate_request_seconds_bucket"), "route"), "{{route}}")],
        ),
        Panel(
            "Body bytes",
            "Body bytes per second from and to clients.",
            "Bps",
            [
                Query(rate(of_route("scopegate_request_body_bytes_total")), "received"),
                Query(rate(of_route("scopegate_response_body_bytes_total")), "sent"),
            ],
        ),
        Panel(
            "In flight",
            "Requests being served, client connections open, and the WebSocket connections and event streams among "
            "them (which are no requests in flight), over all gateway processes.",
            "short",
            [
                Query(f"sum({pick('scopegate_requests_in_flight')})", "requests"),
                Query(f"sum({pick('scopegate_client_connections')})", "connections"),
                Query(f"sum by (kind) ({pick('scopegate_streams')})", "{{kind}}"),
            ],
        ),
    ],
)

REFUSALS = Row(
    "Refusals",
    [
        Panel(
            "Refusals by reason",
            "Requests per second that the gateway answered itself, by reason.",
            "reqps",
            [Query(rate(of_route("scopegate_refusals_total"), "reason"), "{{reason}}")],
            width=12,
            stacked=True,
        ),
        Panel(
            "Refusals by route",
            "The same by route; `none` is a request that met no route.",
            "reqps",
            [Query(rate(of_route("scopegate_refusals_total"), "route"), "{{route}}")],
            width=12,
            stacked=True,
        ),
        Panel(
            "Passed in watch mode",
            "Requests per second that a route in watch mode would have refused for their body, by route and reason.",
            "reqps",
            [Query(rate(of_route("scopegate_watched_refusals_total"), "route, reason"), "{{route}}: {{reason}}")],
            width=12,
            stacked=True,
        ),
    ],
)

LIMITS = Row(
    "Limits",
    [
        Panel(
            "Decisions",
            "Rate-limit decisions per second. `would_limit` is watch mode: counted, not refused.",
            "reqps",
            [Query(rate(of_route("scopegate_limit_decisions_total"), "decision"), "{{decision}}")],
            stacked=True,
        ),
        Panel(
            "Limited by route and tier",
            "Where limits bite, or would: a route that limits signed-in people may be too tight.",
            "reqps",
            [
                Query(
                    rate(
                        of_route("scopegate_limit_decisions_total", 'decision=~"limited|would_limit|local_limited"'),
                        "route, tier",
                    ),
                    "{{route}} ({{tier}})",
                )
            ],
        ),
        Panel(
            "Limit store",
            "1 while every gateway process reaches the limit store. Below: failed round trips per second by kind.",
            "short",
            [
                Query(f"min({pick('scopegate_limit_store_up')})", "up"),
                Query(rate(pick("scopegate_limit_store_errors_total"), "kind"), "{{kind}} errors/s"),
            ],
        ),
    ],
)

UPSTREAM = Row(
    "Upstream",
    [
        Panel(
            "App's time",
            "From the request's last byte sent to the head of the app's answer.",
            "s",
            quantiles(pick("scopegate_upstream_seconds_bucket")),
        ),
        Panel(
            "Failed exchanges",
            "Per second, by upstream and kind: connect, tls, timeout, reset, protocol.",
            "reqps",
            [Query(rate(pick("scopegate_upstream_errors_total"), "upstream, kind"), "{{upstream}} {{kind}}")],
        ),
        Panel(
            "Connections to the app",
            "Open connections by state.",
            "short",
            [Query(f"sum by (upstream, state) ({pick('scopegate_upstream_connections')})", "{{upstream}} {{state}}")],
        ),
        Panel(
            "Servers of the app",
            "By state, added up over the gateway processes: up, ejected (its exchanges failed), unhealthy (it does not "
            "answer the health question).",
            "short",
            [Query(f"sum by (upstream, state) ({pick('scopegate_upstream_servers')})", "{{upstream}} {{state}}")],
            stacked=True,
        ),
    ],
)

JOBS = Row(
    "Jobs",
    [
        Panel(
            "Jobs by state",
            "Jobs in the database that have not ended.",
            "short",
            [Query(f"max by (state) ({OPEN_JOBS})", "{{state}}")],
            stacked=True,
        ),
        Panel(
            "Jobs ended",
            "Jobs per second that ended, by state.",
            "ops",
            [Query(rate(pick("scopegate_jobs_finished_total"), "state"), "{{state}}")],
        ),
        Panel(
            "From order to result",
            "From the lead's order to the job's end.",
            "s",
            quantiles(pick("scopegate_job_seconds_bucket")),
        ),
        Panel(
            "Step attempts",
            "Attempts in the time shown, by step and outcome: `done` or the error code.",
            "short",
            [Query(rise(pick("scopegate_step_attempts_total"), "step, outcome"), "{{step}} {{outcome}}", instant=True)],
            "table",
            decimals=0,
        ),
        Panel(
            "Time of a step",
            "p95 of one attempt, by step.",
            "s",
            [Query(quantile(0.95, pick("scopegate_step_seconds_bucket"), "step"), "{{step}}")],
        ),
        Panel(
            "Lead orders",
            "Leads per second by outcome of the app's answer; `unreadable` did not fit the offload's expressions.",
            "ops",
            [Query(rate(pick("scopegate_orders_total"), "outcome"), "{{outcome}}")],
        ),
        Panel(
            "Orders without an answer",
            "Orders whose fate is open: pending (the app is answering), unknown (the gateway died in between), "
            "and accepted ones that wait in memory for the database.",
            "short",
            [
                Query(f"max by (state) ({OPEN_ORDERS})", "{{state}}"),
                Query(f"sum({pick('scopegate_orders_unrecorded')})", "unrecorded"),
            ],
        ),
        Panel(
            "Photos",
            "Photos per second by outcome: `used` or why not.",
            "ops",
            [Query(rate(pick("scopegate_photos_total"), "outcome"), "{{outcome}}")],
            stacked=True,
        ),
        Panel(
            "Deliveries",
            "Results handed to the app per second, by outcome.",
            "ops",
            [Query(rate(pick("scopegate_deliveries_total"), "outcome"), "{{outcome}}")],
            stacked=True,
        ),
    ],
)

MODEL = Row(
    "Model cost and budgets",
    [
        Panel(
            "Dollars per hour",
            "Spend at the present rate, by step and model.",
            "currencyUSD",
            [Query(f"3600 * {rate(pick('scopegate_ai_cost_usd_total'), 'model, step')}", "{{step}} ({{model}})")],
            stacked=True,
        ),
        Panel(
            "Budgets",
            "Share spent of each budget in its present period.",
            "percentunit",
            [Query(f"max by (budget) ({SPENT} / {LIMIT})", "{{budget}}", instant=True)],
            "bargauge",
            limits=(0.8, 0.95),
        ),
        Panel(
            "Spent, set aside, allowed",
            "Dollars of each budget in its present period; spent and set aside together never pass what is allowed.",
            "currencyUSD",
            [
                Query(f"max by (budget) ({SPENT})", "{{budget}} spent"),
                Query(f"max by (budget) ({pick('scopegate_budget_reserved_usd')})", "{{budget}} set aside"),
                Query(f"max by (budget) ({LIMIT})", "{{budget}} allowed"),
            ],
        ),
        Panel(
            "Calls",
            "Model call attempts per second by outcome: `ok` or the error code.",
            "ops",
            [Query(rate(pick("scopegate_ai_calls_total"), "outcome"), "{{outcome}}")],
            stacked=True,
        ),
        Panel(
            "Time of a call",
            "p95 of one attempt, by step.",
            "s",
            [Query(quantile(0.95, pick("scopegate_ai_call_seconds_bucket"), "step"), "{{step}}")],
        ),
        Panel(
            "Tokens",
            "Tokens billed per second by kind.",
            "short",
            [Query(rate(pick("scopegate_ai_tokens_total"), "kind"), "{{kind}}")],
            stacked=True,
        ),
        Panel(
            "Dollars per finished job",
            "Spend in the time shown over the jobs that ended well in it.",
            "currencyUSD",
            [Query(f"{rise(pick('scopegate_ai_cost_usd_total'))} / clamp_min({rise(DONE)}, 1)")],
            "stat",
            4,
            decimals=4,
        ),
        Panel(
            "Breaker",
            "0 closed, 0.5 half-open, 1 open, as a worker last saw it.",
            "short",
            [Query(f"max by (breaker) ({pick('scopegate_breaker_open')})", "{{breaker}}")],
            width=6,
            limits=(0.5, 1),
        ),
        Panel(
            "Retries",
            "Waits before another try per second, by the error that caused them.",
            "ops",
            [Query(rate(pick("scopegate_ai_retries_total"), "reason"), "{{reason}}")],
            width=7,
        ),
        Panel(
            "Calls without a budget",
            "Calls not made because a budget had no room, per second.",
            "ops",
            [Query(rate(pick("scopegate_budget_refusals_total"), "budget"), "{{budget}}")],
            width=7,
        ),
    ],
)

HEALTH = Row(
    "Health",
    [
        Panel(
            "Processes",
            "Living processes by role, as far as they share the metrics directory.",
            "short",
            [Query(f"sum by (role) ({pick('scopegate_processes')})", "{{role}}")],
        ),
        Panel(
            "Policy's age",
            "Since the policy in force was loaded.",
            "s",
            [Query(f"time() - max({pick('scopegate_policy_loaded_timestamp_seconds')})")],
            "stat",
            4,
        ),
        Panel(
            "Policy reloads",
            "By outcome; refused means that the file has a problem and the last good policy stays in force.",
            "short",
            [
                Query(rise(pick("scopegate_reloads_total"), "outcome"), "{{outcome}}", instant=True),
                Query(f"max({pick('scopegate_policy_stale')})", "refused now", instant=True),
            ],
            "stat",
            4,
        ),
        Panel(
            "Versions",
            "Running versions and the policy each admin process has loaded.",
            "short",
            [
                Query(
                    f"sum by (version, policy) ({pick('scopegate_build_info')})", "{{version}} {{policy}}", instant=True
                )
            ],
            "table",
            4,
        ),
        Panel(
            "Certificate",
            "Days until the first certificate of the public port ends, if it has any, and TLS handshakes that came to "
            "nothing.",
            "short",
            [
                Query(
                    f"(min({pick('scopegate_certificate_ends_timestamp_seconds')} > 0) - time()) / 86400",
                    "days left",
                    instant=True,
                ),
                Query(rise(pick("scopegate_tls_handshakes_failed_total")), "handshakes failed", instant=True),
            ],
            "stat",
            4,
        ),
        Panel(
            "Gaps",
            "Per second: parts left out of a scrape, and requests refused on the admin port.",
            "ops",
            [
                Query(rate(pick("scopegate_scrape_errors_total"), "source"), "no {{source}}"),
                Query(rate(pick("scopegate_admin_refusals_total"), "reason"), "admin: {{reason}}"),
            ],
        ),
    ],
)

ROWS = (NOW, TRAFFIC, REFUSALS, LIMITS, UPSTREAM, JOBS, MODEL, HEALTH)


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


def text() -> str:
    return json.dumps(dashboard(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
