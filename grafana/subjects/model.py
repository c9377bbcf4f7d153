"""Model calls, their cost and the budgets."""

from __future__ import annotations

from grafana.parts import LIMIT, SPENT, Alert, Group, Panel, Query, Row, pick, quantile, rate, rise

DONE = pick("scopegate_jobs_finished_total", 'state="done"')

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
            "Expected",
            "What the present day and month will have cost at their end, at the rate of late.",
            "currencyUSD",
            [Query(f"max by (period) ({pick('scopegate_ai_forecast_usd')})", "{{period}}", instant=True)],
            "stat",
        ),
        Panel(
            "Thresholds reached",
            "Accounts of each budget that have reached a share of it in their present period.",
            "short",
            [Query(f"max by (budget, share) ({pick('scopegate_budget_thresholds_reached')})", "{{budget}} {{share}}")],
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
        Panel(
            "Bills without a price",
            "Calls whose bill says something that has no price, in the time shown: booked at their worst case.",
            "short",
            [Query(rise(pick("scopegate_ai_unpriced_total")))],
            "stat",
            4,
        ),
    ],
)

ALERTS = Group(
    "scopegate-model",
    [
        Alert(
            "ScopegateBudgetNearlySpent",
            "ticket",
            expr="max by (job, budget) (scopegate_budget_spent_usd / scopegate_budget_limit_usd) >= 0.8",
            summary="A model budget is 80 % spent",
            description="Budget {{ $labels.budget }} stands at {{ $value | humanizePercentage }} of its period's "
            "limit.",
            runbook="""
                `scopegate usage --by lead` shows where it went; `--by step` whether retries or long answers drive it.
                Raise the limit in gateway.yaml and reload, or let it hold: jobs then wait for the next period.
                """,
        ),
        Alert(
            "ScopegateBudgetSpent",
            "page",
            expr="sum by (job, budget) (increase(scopegate_budget_refusals_total[15m])) > 0",
            summary="A model budget has no room",
            description="Budget {{ $labels.budget }} refused calls in the last 15 minutes; their jobs are held or "
            "failed.",
            runbook="""
                Held jobs continue with the next period, or after the limit is raised and the policy reloaded. Failed
                ones (when_spent: fail) are replayed by hand.
                """,
        ),
        Alert(
            "ScopegateBillUnpriced",
            "ticket",
            expr="sum by (job) (increase(scopegate_ai_unpriced_total[1h])) > 0",
            summary="A model call was billed under terms without a price",
            description="{{ $value }} calls of the last hour say something on their bill that has no price here. They "
            "are booked at their worst case.",
            runbook="""
                The log line `ai.unpriced_usage` names it. What it costs stands on the provider's price page; a newer
                release may price it. Until then the ledger holds each such call at its worst case.
                """,
        ),
        Alert(
            "ScopegateBreakerOpen",
            "page",
            expr="max by (job, breaker) (scopegate_breaker_open) == 1",
            hold="10m",
            summary="Model calls are cut off",
            description="Breaker {{ $labels.breaker }} has been open for ten minutes; calls fail at once and jobs "
            "wait.",
            runbook="""
                See the row "Model cost and budgets", panel Calls: which error opened it? `auth` and `spend_limit` are
                ours to mend, `overloaded` and `server_error` are the provider's: its status page. It probes and
                closes by itself.
                """,
        ),
    ],
)
