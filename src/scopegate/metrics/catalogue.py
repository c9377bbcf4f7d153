"""Every metric: its name, labels and meaning. Dashboards, alerts and docs are held to this file by tests.

Labels take words of the policy file and closed sets only, never a visitor's text. Several processes write into one
directory, which `exposition.prepare` must have chosen before this module is imported; the admin process adds them up.
What the database knows (jobs by state, budgets) is declared here too, as `Computed`, and read by the admin process at
each scrape. Gauges use `live*` modes only: a process that ended has no say in what is true now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from scopegate import build
from scopegate.caching.storable import Unstorable
from scopegate.errors import AICallCode, AICode, DeliveryCode, StoreUnavailable, UpstreamFailure
from scopegate.leads.job import FINAL_STATES, REUSED, UNKNOWN, JobState, OrderState
from scopegate.leads.photos import PhotoCode
from scopegate.limits.decision import LimitDecision
from scopegate.limits.health import ServerState
from scopegate.limits.steps import MODEL_STEPS, StepName
from scopegate.metrics import exposition
from scopegate.metrics.labels import (
    AdminRefusal,
    CacheOutcome,
    ConnectionState,
    ForecastPeriod,
    LookupOutcome,
    OrderOutcome,
    ReloadOutcome,
    Role,
    ScrapeSource,
    SpoolState,
    StreamKind,
    TokenKind,
    words,
)
from scopegate.policy.sections.retention import Kept

if TYPE_CHECKING:
    from scopegate.policy.policy import Policy, Route

exposition.adopt()
disable_created_metrics()


@dataclass(frozen=True, slots=True)
class Computed:
    """A gauge without storage: the admin process computes it at each scrape, or leaves it out when it cannot."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


Metric: TypeAlias = Counter | Gauge | Histogram | Computed
M = TypeVar("M", Counter, Gauge, Histogram, Computed)

CLOSED: dict[Metric, Mapping[str, tuple[str, ...]]] = {}
"""The words that a label of a metric takes, where they are a closed set. Other labels take words of the policy file, or
codes of a set that is open."""


def _of(metric: M, **sets: tuple[str, ...]) -> M:
    CLOSED[metric] = sets
    return metric


LATENCY_BUCKETS_S: tuple[float, ...] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
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
WATCHED = Counter(
    "scopegate_watched_refusals",
    "Requests that a route in watch mode let pass and would have refused, by reason. Rate limits count in their own "
    "decisions.",
    ["route", "reason"],
)
FLAG_EXPOSURES = Counter("scopegate_flag_exposures", "Variants of flags that requests have met.", ["flag", "variant"])
LIMIT_DECISIONS = _of(
    Counter(
        "scopegate_limit_decisions",
        "Rate-limit decisions: admitted, limited, banned, crowded (too many in flight), exempt, would_limit (watch "
        "mode), and while the store is down: local_admitted, local_limited, allowed, denied.",
        ["route", "tier", "decision"],
    ),
    decision=words(LimitDecision),
)
LIMIT_STORE_ERRORS = _of(
    Counter("scopegate_limit_store_errors", "Failed round trips to the limit store.", ["kind"]),
    kind=words(StoreUnavailable.Kind),
)
LIMIT_STORE_UP = Gauge(
    "scopegate_limit_store_up",
    "1 while the limit store answers (lowest over live processes).",
    multiprocess_mode="livemin",
)
LIMIT_STORE_UP.set(1)  # a process that never asks the store must not drag the lowest down
CACHE_REQUESTS = _of(
    Counter(
        "scopegate_cache_requests",
        "Requests to routes with a cache: hit, stale, collapsed (with another's answer), revalidated, miss, bypass, "
        "and would_hit (watch mode).",
        ["route", "outcome"],
    ),
    outcome=words(CacheOutcome),
)
CACHE_UNSTORABLE = _of(
    Counter("scopegate_cache_unstorable", "Answers that were looked at and not kept, by reason.", ["route", "reason"]),
    reason=words(Unstorable),
)
CACHE_STORE_ERRORS = _of(
    Counter("scopegate_cache_store_errors", "Failed round trips to the store of shared answers.", ["kind"]),
    kind=words(StoreUnavailable.Kind),
)
CACHE_BYTES = Gauge(
    "scopegate_cache_memory_bytes", "What kept answers take in gateway processes.", multiprocess_mode="livesum"
)
CACHE_ANSWERS = Gauge(
    "scopegate_cache_memory_answers", "Answers kept in gateway processes.", multiprocess_mode="livesum"
)
IN_FLIGHT = Gauge("scopegate_requests_in_flight", "Requests being served now.", multiprocess_mode="livesum")
CONNECTIONS = Gauge("scopegate_client_connections", "Open client connections.", multiprocess_mode="livesum")
STREAMS = _of(
    Gauge(
        "scopegate_streams",
        "Open WebSocket connections (websocket) and event streams (events).",
        ["kind"],
        multiprocess_mode="livesum",
    ),
    kind=words(StreamKind),
)
REQUEST_BYTES = Counter("scopegate_request_body_bytes", "Body bytes received from clients.", ["route"])
RESPONSE_BYTES = Counter("scopegate_response_body_bytes", "Body bytes sent to clients.", ["route"])
UPSTREAM_SECONDS = Histogram(
    "scopegate_upstream_seconds",
    "From the request's last byte sent to the answer's head.",
    ["upstream"],
    buckets=LATENCY_BUCKETS_S,
)
UPSTREAM_ERRORS = _of(
    Counter("scopegate_upstream_errors", "Failed exchanges with the app.", ["upstream", "kind"]),
    kind=words(UpstreamFailure),
)
UPSTREAM_CONNECTIONS = _of(
    Gauge(
        "scopegate_upstream_connections",
        "Open connections to the app.",
        ["upstream", "state"],
        multiprocess_mode="livesum",
    ),
    state=words(ConnectionState),
)
UPSTREAM_SERVERS = _of(
    Gauge(
        "scopegate_upstream_servers",
        "Servers of an upstream by state, as each gateway process sees them: up, ejected (its exchanges failed), "
        "unhealthy (it does not answer the health question).",
        ["upstream", "state"],
        multiprocess_mode="livesum",
    ),
    state=words(ServerState),
)
HANDSHAKES_FAILED = Counter(
    "scopegate_tls_handshakes_failed_total", "TLS handshakes of the public port that came to nothing."
)
CERTIFICATE_ENDS = Gauge(
    "scopegate_certificate_ends_timestamp_seconds",
    "When the first of the public port's certificates ends; 0 for a port that has none.",
    multiprocess_mode="livemax",  # worker and admin have it at 0, as every process has every gauge
)
POLICY_LOADED = Gauge(
    "scopegate_policy_loaded_timestamp_seconds",
    "When the policy in force was loaded.",
    multiprocess_mode="livemax",
)
RELOADS = _of(
    Counter(
        "scopegate_reloads",
        "Looks at a policy file that was changed or asked for, by outcome: applied, refused (the last good policy "
        "stays in force), unchanged. Counted by each process that reads the file: a supervisor, or a role that runs "
        "alone.",
        ["outcome"],
    ),
    outcome=words(ReloadOutcome),
)
POLICY_STALE = Gauge(
    "scopegate_policy_stale",
    "1 while the policy file was refused and an older policy is in force (highest over live processes).",
    multiprocess_mode="livemax",
)

# ── leads ───────────────────────────────────────────────────────────────────────────────────────────────────────────
ORDERS = _of(
    Counter(
        "scopegate_orders", "Lead orders by outcome: accepted, refused, unreadable, unknown.", ["offload", "outcome"]
    ),
    outcome=words(OrderOutcome),
)
ORDERS_UNRECORDED = Gauge(
    "scopegate_orders_unrecorded",
    "Accepted lead orders that wait in memory for the database to return.",
    multiprocess_mode="livesum",
)
ORDER_LOOKUPS = _of(
    Counter(
        "scopegate_order_lookups",
        "Questions to the app what became of an order, by what came of it: found, unreadable, absent (it is dropped), "
        "open (asked again), given_up (it waits for a person).",
        ["offload", "outcome"],
    ),
    outcome=words(LookupOutcome),
)
SPOOLED_ORDERS = _of(
    Gauge(
        "scopegate_spooled_orders",
        "Lead orders on this machine's disk: waiting for the database, or bad (they cannot be read).",
        ["state"],
        multiprocess_mode="livemax",
    ),
    state=words(SpoolState),
)
RETENTION_DELETED = _of(
    Counter("scopegate_retention_deleted", "What was kept long enough and is deleted, by what it was.", ["what"]),
    what=words(Kept),
)
JOBS_FINISHED = _of(
    Counter("scopegate_jobs_finished", "Jobs that ended, by state.", ["offload", "state"]), state=words(*FINAL_STATES)
)
JOB_SECONDS = Histogram(
    "scopegate_job_seconds", "From the lead's order to the job's end.", ["offload"], buckets=WORK_BUCKETS_S
)
STEP_ATTEMPTS = _of(
    Counter("scopegate_step_attempts", "Step attempts by outcome: done, or the error code.", ["step", "outcome"]),
    step=words(StepName),
)
STEP_SECONDS = _of(
    Histogram("scopegate_step_seconds", "One step attempt.", ["step"], buckets=WORK_BUCKETS_S), step=words(StepName)
)
PHOTOS = _of(
    Counter("scopegate_photos", "Photos by outcome: used, or the error code.", ["outcome"]),
    outcome=words("used", PhotoCode),
)
DELIVERIES = _of(
    Counter(
        "scopegate_deliveries",
        "Signed webhooks by outcome: delivered, or the error code.",
        ["offload", "outcome"],
    ),
    outcome=words("delivered", DeliveryCode),
)

# ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────────
AI_CALLS = _of(
    Counter(
        "scopegate_ai_calls",
        "Model call attempts by outcome: ok, or the error code; unknown: the caller died; reused: none was made.",
        ["model", "step", "outcome"],
    ),
    step=words(*MODEL_STEPS),
    outcome=words("ok", "cancelled", UNKNOWN, REUSED, AICallCode),
)
AI_CALL_SECONDS = _of(
    Histogram("scopegate_ai_call_seconds", "One model call attempt.", ["model", "step"], buckets=WORK_BUCKETS_S),
    step=words(*MODEL_STEPS),
)
AI_TOKENS = _of(
    Counter(
        "scopegate_ai_tokens",
        "Tokens billed, by kind: input, output, cache_read, cache_write.",
        ["model", "step", "kind"],
    ),
    step=words(*MODEL_STEPS),
    kind=words(TokenKind),
)
AI_COST_USD = _of(
    Counter("scopegate_ai_cost_usd", "Dollars booked in the ledger.", ["model", "step"]), step=words(*MODEL_STEPS)
)
AI_RETRIES = _of(
    Counter(
        "scopegate_ai_retries",
        "Waits before another try, by the error code that caused them.",
        ["step", "reason"],
    ),
    step=words(*MODEL_STEPS),
    reason=words(AICode),
)
BREAKER_OPEN = Gauge(
    "scopegate_breaker_open",
    "0 closed, 0.5 half-open, 1 open, as last seen by a worker.",
    ["breaker"],
    multiprocess_mode="livemostrecent",
)
BUDGET_REFUSALS = Counter("scopegate_budget_refusals", "Calls not made because a budget had no room.", ["budget"])

AI_UNPRICED = Counter(
    "scopegate_ai_unpriced", "Calls whose bill says something that has no price: booked at their worst case."
)

# ── the admin port ──────────────────────────────────────────────────────────────────────────────────────────────────
ADMIN_REFUSALS = _of(
    Counter(
        "scopegate_admin_refusals",
        "Requests refused on the admin port: no_token, wrong_token, too_many_tries, not_loopback, host, cross_site, "
        "results_only, viewer, form.",
        ["reason"],
    ),
    reason=words(AdminRefusal),
)
SCRAPE_ERRORS = _of(
    Counter(
        "scopegate_scrape_errors",
        "Parts left out of a scrape, by where they come from: jobs, orders, retention, budgets, forecasts.",
        ["source"],
    ),
    source=words(ScrapeSource),
)

# ── computed at each scrape ─────────────────────────────────────────────────────────────────────────────────────────
JOBS = _of(Computed("scopegate_jobs", "Jobs in the database, by state.", ("state",)), state=words(JobState))
OLDEST_DUE_JOB_SECONDS = Computed(
    "scopegate_oldest_due_job_seconds", "For how long the longest waiting job could have been running; 0 when none is."
)
OUTBOX_ORDERS = _of(
    Computed("scopegate_outbox_orders", "Lead orders in the database, by state.", ("state",)), state=words(OrderState)
)
RETENTION_BEHIND_SECONDS = _of(
    Computed(
        "scopegate_retention_behind_seconds",
        "For how long the oldest of what is to be deleted should have been; 0 when nothing is.",
        ("what",),
    ),
    what=words(Kept),
)
BUDGET_LIMIT_USD = Computed("scopegate_budget_limit_usd", "What a budget allows in its present period.", ("budget",))
BUDGET_SPENT_USD = Computed(
    "scopegate_budget_spent_usd", "What was spent of a budget in its present period.", ("budget",)
)
BUDGET_RESERVED_USD = Computed(
    "scopegate_budget_reserved_usd", "What is set aside of a budget for calls under way.", ("budget",)
)
BUDGET_THRESHOLDS_REACHED = Computed(
    "scopegate_budget_thresholds_reached",
    "Accounts of a budget that have reached this share of its limit in their present period.",
    ("budget", "share"),
)
FORECAST_USD = _of(
    Computed(
        "scopegate_ai_forecast_usd",
        "What the present day or month will have cost at its end, at the rate of late.",
        ("period",),
    ),
    period=words(ForecastPeriod),
)
PROCESSES = _of(
    Computed("scopegate_processes", "Living processes by role, as far as they share this directory.", ("role",)),
    role=words(Role),
)
BUILD_INFO = _of(
    Computed(
        "scopegate_build_info",
        "Always 1; the labels name the version, its build (compiled or pure) and the policy.",
        ("version", "build", "policy"),
    ),
    build=words(build.BuildKind),
)

COMPUTED = (
    JOBS,
    OLDEST_DUE_JOB_SECONDS,
    OUTBOX_ORDERS,
    RETENTION_BEHIND_SECONDS,
    BUDGET_LIMIT_USD,
    BUDGET_SPENT_USD,
    BUDGET_RESERVED_USD,
    BUDGET_THRESHOLDS_REACHED,
    FORECAST_USD,
    PROCESSES,
    BUILD_INFO,
)

NO_ROUTE = "none"


# ── what there is ───────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Family:
    """One metric as dashboards see it. `samples` are the names a query may use."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    samples: tuple[str, ...]


_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def catalogue() -> tuple[Family, ...]:
    """Every metric of this module, in its order."""
    return tuple(
        _family(thing) for thing in globals().values() if isinstance(thing, Counter | Gauge | Histogram | Computed)
    )


def _family(thing: Counter | Gauge | Histogram | Computed) -> Family:
    if isinstance(thing, Computed):
        return Family(thing.name, "gauge", thing.help, thing.labels, (thing.name,))
    [described] = thing.describe()
    samples = tuple(described.name + suffix for suffix in _SUFFIXES[described.type])
    labels = (*thing._labelnames, "le") if described.type == "histogram" else tuple(thing._labelnames)
    return Family(described.name, described.type, described.documentation, labels, samples)


# ── series that exist before anything has happened ──────────────────────────────────────────────────────────────────
_STATUSES = ("200", "429", "500", "502", "503", "504")


def declare(policy: Policy) -> None:
    """Make the series that this policy can have, at 0: a counter born at its first event hides that event from
    `increase()`, and a ratio without any failure would be empty instead of 0. Called at start and after a reload."""
    for route in policy.routes:
        _declare_route(route)
    for reason in ("bad_request", "overloaded"):
        REFUSALS.labels(NO_ROUTE, reason)
    for upstream in policy.upstreams:
        UPSTREAM_SECONDS.labels(upstream)
        _make(UPSTREAM_ERRORS, upstream)
    for counter in (LIMIT_STORE_ERRORS, CACHE_STORE_ERRORS, RELOADS, ADMIN_REFUSALS, SCRAPE_ERRORS, RETENTION_DELETED):
        _make(counter)
    for flag in policy.flags.values():
        for variant in flag.variants:
            FLAG_EXPOSURES.labels(flag.name, variant)
    for offload in policy.offloads:
        _declare_offload(offload)
    if policy.ai is not None:
        _declare_ai(policy.ai.models(), [budget.name for budget in policy.ai.budgets])
    exposition.reserve()


def _declare_route(route: Route) -> None:
    for status in _STATUSES:
        REQUESTS.labels(route.name, status)
    for bare in (REQUEST_SECONDS, REQUEST_BYTES, RESPONSE_BYTES):
        bare.labels(route.name)
    reasons = ["body_too_large", "overloaded", "upstream_busy"]
    if route.upstream.breaker is not None:
        reasons.append("upstream_open")
    if route.auth is not None:
        reasons.append("unauthenticated")
    if route.websocket is not None or route.events is not None:
        reasons += ["too_many_streams", "stream_idle"]
    if route.cache is not None:
        _make(CACHE_REQUESTS, route.name)
        _make(CACHE_UNSTORABLE, route.name)
        reasons.append("only_if_cached")
    if route.tiers:
        reasons.append("rate_limited")
    for tier in route.tiers:
        _make(LIMIT_DECISIONS, route.name, tier.name)
    for reason in reasons:
        REFUSALS.labels(route.name, reason)


def _declare_offload(offload: str) -> None:
    for counter in (ORDERS, ORDER_LOOKUPS, JOBS_FINISHED, DELIVERIES):
        _make(counter, offload)
    JOB_SECONDS.labels(offload)
    _make(PHOTOS)
    _make(STEP_ATTEMPTS, "done")
    _make(STEP_SECONDS)


def _declare_ai(models: Iterable[str], budgets: Iterable[str]) -> None:
    for metric in (AI_CALLS, AI_TOKENS, AI_COST_USD, AI_CALL_SECONDS):
        for model in models:
            _make(metric, model)
    for budget in budgets:
        BUDGET_REFUSALS.labels(budget)


def _make(metric: Counter | Histogram, *given: str) -> None:
    """Every series of a metric whose other labels have these values, in their order."""
    closed = CLOSED[metric]
    others = [name for name in metric._labelnames if name not in closed]
    known = dict(zip(others, given, strict=True))
    for values in product(*closed.values()):
        metric.labels(**known, **dict(zip(closed, values, strict=True)))
