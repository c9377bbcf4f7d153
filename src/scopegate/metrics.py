"""Every metric: its name, labels and meaning. Dashboards, alerts and docs are held to this file by tests.

Labels take words of the policy file and closed sets only, never a visitor's text. Several processes write into one
directory (`PROMETHEUS_MULTIPROC_DIR`, set by the command line before this module is imported); the admin process adds
them up. Gauges that the database knows (jobs by state, budgets) are made by the admin process at each scrape.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WORK_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

# ── the edge ────────────────────────────────────────────────────────────────────────────────────────────────────────
REQUESTS = Counter("scopegate_requests", "Requests answered, by route and final status.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "scopegate_request_seconds",
    "From the first line to the last byte of the answer.",
    ["route"],
    buckets=LATENCY_BUCKETS_S,
)
REFUSALS = Counter("scopegate_refusals", "Requests the gateway itself refused, by reason.", ["route", "reason"])
LIMIT_DECISIONS = Counter(
    "scopegate_limit_decisions",
    "Rate-limit decisions: admitted, limited, would_limit (watch mode), and while the store is down: "
    "local_admitted, local_limited, allowed, denied.",
    ["route", "tier", "decision"],
)
LIMIT_STORE_ERRORS = Counter("scopegate_limit_store_errors", "Failed round trips to the limit store.", ["kind"])
LIMIT_STORE_UP = Gauge(
    "scopegate_limit_store_up",
    "1 while the limit store answers (lowest over live processes).",
    multiprocess_mode="livemin",
)
IN_FLIGHT = Gauge("scopegate_requests_in_flight", "Requests being served now.", multiprocess_mode="livesum")
CONNECTIONS = Gauge("scopegate_client_connections", "Open client connections.", multiprocess_mode="livesum")
REQUEST_BYTES = Counter("scopegate_request_body_bytes", "Body bytes received from clients.", ["route"])
RESPONSE_BYTES = Counter("scopegate_response_body_bytes", "Body bytes sent to clients.", ["route"])
UPSTREAM_SECONDS = Histogram(
    "scopegate_upstream_seconds",
    "From the request's last byte sent to the answer's head.",
    ["upstream"],
    buckets=LATENCY_BUCKETS_S,
)
UPSTREAM_ERRORS = Counter("scopegate_upstream_errors", "Failed exchanges with the app.", ["upstream", "kind"])
UPSTREAM_CONNECTIONS = Gauge(
    "scopegate_upstream_connections",
    "Open connections to the app.",
    ["upstream", "state"],
    multiprocess_mode="livesum",
)
POLICY_LOADED = Gauge(
    "scopegate_policy_loaded_timestamp_seconds",
    "When the policy in force was loaded.",
    multiprocess_mode="livemax",
)

# ── leads ───────────────────────────────────────────────────────────────────────────────────────────────────────────
ORDERS = Counter("scopegate_orders", "Lead orders by outcome: accepted, refused, unreadable.", ["offload", "outcome"])
ORDERS_UNRECORDED = Gauge(
    "scopegate_orders_unrecorded",
    "Accepted lead orders that wait in memory for the database to return.",
    multiprocess_mode="livesum",
)
JOBS_FINISHED = Counter("scopegate_jobs_finished", "Jobs that ended, by state.", ["offload", "state"])
JOB_SECONDS = Histogram(
    "scopegate_job_seconds", "From the lead's order to the job's end.", ["offload"], buckets=WORK_BUCKETS_S
)
STEP_ATTEMPTS = Counter(
    "scopegate_step_attempts", "Step attempts by outcome: done, or the error code.", ["step", "outcome"]
)
STEP_SECONDS = Histogram("scopegate_step_seconds", "One step attempt.", ["step"], buckets=WORK_BUCKETS_S)
PHOTOS = Counter("scopegate_photos", "Photos by outcome: used, or the error code.", ["outcome"])
DELIVERIES = Counter(
    "scopegate_deliveries",
    "Signed webhooks by outcome: delivered, or the error code.",
    ["offload", "outcome"],
)

# ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────────
AI_CALLS = Counter(
    "scopegate_ai_calls",
    "Model call attempts by outcome: ok, or the error code.",
    ["model", "step", "outcome"],
)
AI_CALL_SECONDS = Histogram(
    "scopegate_ai_call_seconds", "One model call attempt.", ["model", "step"], buckets=WORK_BUCKETS_S
)
AI_TOKENS = Counter(
    "scopegate_ai_tokens",
    "Tokens billed, by kind: input, output, cache_read, cache_write.",
    ["model", "step", "kind"],
)
AI_COST_USD = Counter("scopegate_ai_cost_usd", "Dollars booked in the ledger.", ["model", "step"])
AI_RETRIES = Counter(
    "scopegate_ai_retries",
    "Waits before another try, by the error code that caused them.",
    ["step", "reason"],
)
BREAKER_OPEN = Gauge(
    "scopegate_breaker_open",
    "0 closed, 0.5 half-open, 1 open, as last seen by a worker.",
    ["breaker"],
    multiprocess_mode="livemostrecent",
)
BUDGET_REFUSALS = Counter("scopegate_budget_refusals", "Calls not made because a budget had no room.", ["budget"])
