"""Leads and their jobs."""

from __future__ import annotations

from grafana.parts import Alert, Group, Panel, Query, Row, pick, quantile, quantiles, rate, rise

OPEN_JOBS = pick("scopegate_jobs", 'state=~"queued|running|held"')
OPEN_ORDERS = pick("scopegate_outbox_orders", 'state=~"pending|unknown|unreadable"')

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
            "Orders without a job",
            "Orders whose fate is open: pending (the app is answering), unknown (the gateway died in between), "
            "unreadable (the app took what our reader cannot read), and those that wait for the database: in memory, "
            "or spooled to a gateway's disk.",
            "short",
            [
                Query(f"max by (state) ({OPEN_ORDERS})", "{{state}}"),
                Query(f"sum({pick('scopegate_orders_unrecorded')})", "unrecorded"),
                Query(f"sum by (state) ({pick('scopegate_spooled_orders')})", "spooled, {{state}}"),
            ],
        ),
        Panel(
            "Orders looked up",
            "Questions to the app what became of orders that nobody settled, by what came of it: `absent` is dropped, "
            "`given_up` waits for a person.",
            "short",
            [Query(rise(pick("scopegate_order_lookups_total"), "outcome"), "{{outcome}}", instant=True)],
            "table",
            decimals=0,
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
        Panel(
            "Retention",
            "What was deleted in the time shown because it was kept long enough (`retention` of the policy), and for "
            "how long the oldest of what is left should have been gone.",
            "short",
            [
                Query(rise(pick("scopegate_retention_deleted_total"), "what"), "{{what}} deleted", instant=True),
                Query(
                    f"max by (what) ({pick('scopegate_retention_behind_seconds')})", "{{what}} behind, s", instant=True
                ),
            ],
            "table",
            decimals=0,
        ),
    ],
)

ALERTS = Group(
    "scopegate-jobs",
    [
        Alert(
            "ScopegateJobsFailing",
            "ticket",
            expr='sum by (job) (increase(scopegate_jobs_finished_total{state=~"failed|dead"}[30m])) > 2',
            summary="Lead jobs end as failed",
            description="{{ $value | humanize }} jobs failed in the last 30 minutes.",
            runbook="""
                `scopegate jobs list --state failed`, then `scopegate jobs show ID`: the last attempt's error code
                says why. `auth` is the API key, `spend_limit` the account, `invalid_output` the model's answers,
                `photo_*` the photos. After mending it, `scopegate jobs replay ID`: finished steps are not paid again.
                """,
        ),
        Alert(
            "ScopegateJobsStuck",
            "page",
            expr="max by (job) (scopegate_oldest_due_job_seconds) > 600",
            hold="5m",
            summary="Lead jobs wait and nobody runs them",
            description="The longest waiting job could have been running for {{ $value | humanizeDuration }}.",
            runbook="""
                Is a worker alive (dashboard, row Health)? Does it log "job.*" lines? Starts are capped by the
                offload's `starts`: a long queue after a rush is normal as long as it shrinks.
                """,
        ),
        Alert(
            "ScopegateWorkerAbsent",
            "page",
            expr="""
                sum by (job) (scopegate_processes{role="worker"}) == 0
                and on (job) max by (job) (scopegate_oldest_due_job_seconds) > 120
                """,
            hold="2m",
            summary="Jobs wait and no worker lives",
            description="No worker process holds its place in the metrics directory, and a job is due.",
            runbook="""
                Start `scopegate worker`, or see why the supervisor cannot: its last lines name the exit code; 78 is a
                bad policy or environment, and the log names every problem. No lead is lost: the database holds them.
                """,
        ),
        Alert(
            "ScopegateRetentionBehind",
            "ticket",
            expr="max by (job, what) (scopegate_retention_behind_seconds) > 86400",
            hold="1h",
            summary="What should have been deleted is still there",
            description="The oldest of the {{ $labels.what }} should have been deleted {{ $value | humanizeDuration }} "
            "ago, by `retention` of the policy.",
            runbook="""
                Workers delete it every five minutes: does one live, and does it log `retention.store_down` or
                `retention.failed`? `scopegate prune --dry-run` counts what there is, `scopegate prune` deletes it now.
                """,
        ),
        Alert(
            "ScopegateOrdersUnreadable",
            "ticket",
            expr='max by (job) (scopegate_outbox_orders{state="unreadable"}) > 0',
            hold="5m",
            summary="A lead waits for a person to read it",
            description="{{ $value | humanize }} leads were taken by the app and could not be read here.",
            runbook="""
                `scopegate jobs orders` lists them, the line `order.unreadable` of the request says why, and
                `scopegate jobs body ORDER_ID` shows the request as it came. Write what it says as JSON, then
                `scopegate jobs confirm ORDER_ID --lead ID --request FILE` makes its job; `scopegate jobs discard
                ORDER_ID` makes none. Many of one reason mean that the offload's expressions do not fit the app, or that
                somebody tries something: `on_unreadable: refuse` turns such requests away before the app hears them.
                """,
        ),
        Alert(
            "ScopegateOrdersSpooled",
            "ticket",
            expr="max by (job, state) (scopegate_spooled_orders) > 0",
            hold="5m",
            summary="Lead orders wait on a gateway's disk",
            description="{{ $value | humanize }} lead orders are {{ $labels.state }} in the spool.",
            runbook="""
                `waiting`: the database takes none of them; the gateway's lines `order.spooled` say why (`full`,
                `connect`, `timeout`). They go in by themselves once it does. `bad`: what stands in `spool/bad` of the
                state directory cannot be read, `spool.put_aside` says why; each file is one lead as JSON, whose id and
                words a person can read. Take a file away once its lead was seen to.
                """,
        ),
        Alert(
            "ScopegateOrdersUnknown",
            "ticket",
            expr='max by (job) (scopegate_outbox_orders{state="unknown"}) > 0',
            hold="5m",
            summary="A lead's fate is unknown",
            description="{{ $value | humanize }} lead orders never got the app's answer recorded.",
            runbook="""
                A gateway died between forwarding a lead and hearing the app. `scopegate jobs orders` lists them. With
                `lookup` the app is asked by itself: then the lines `order.looked_up` say what it answers.
                Compare with the app's own leads of that minute: the order names the request id. When the app has the
                lead, `scopegate jobs confirm ORDER_ID --lead ID` makes its job; when not, `scopegate jobs discard
                ORDER_ID`.
                """,
        ),
    ],
)
