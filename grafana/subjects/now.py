"""What stands now, at a glance."""

from __future__ import annotations

from grafana.parts import LIMIT, REQUESTS, SPENT, Panel, Query, Row, of_route, pick, quantile, rate, rise, share

FAILED = of_route("scopegate_requests_total", 'status=~"5.."')

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
