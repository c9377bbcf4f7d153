"""What dashboard and alerts are made of, and the expressions that panels share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


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


@dataclass(frozen=True)
class Alert:
    """`expr` and `runbook` may have lines, indented as the code is; `hold` is for how long the expression must be true.
    `page`: somebody should look now; `ticket`: in working hours."""

    name: str
    severity: Literal["page", "ticket"]
    expr: str
    summary: str
    description: str
    runbook: str
    hold: str | None = None


@dataclass(frozen=True)
class Group:
    name: str
    alerts: Sequence[Alert]


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
SPENT = pick("scopegate_budget_spent_usd")
LIMIT = pick("scopegate_budget_limit_usd")
