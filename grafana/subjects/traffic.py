"""Requests, what is refused of them, the limits and the app behind.

429, 413 and 401 are the gateway doing its job: no alert counts them as failures.
"""

from __future__ import annotations

from grafana.parts import REQUESTS, Alert, Group, Panel, Query, Row, of_route, pick, quantile, quantiles, rate

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
        Panel(
            "Variants of flags",
            "Variants per second that requests have met, by flag.",
            "ops",
            [Query(rate(pick("scopegate_flag_exposures_total"), "flag, variant"), "{{flag}}: {{variant}}")],
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


CACHE = Row(
    "Cache",
    [
        Panel(
            "Requests by outcome",
            "Requests per second to routes with a cache: hit and stale (from what is kept), collapsed (with what "
            "another's request brought), revalidated (the app confirmed it), miss, bypass, would_hit (watch mode).",
            "reqps",
            [Query(rate(of_route("scopegate_cache_requests_total"), "outcome"), "{{outcome}}")],
            stacked=True,
        ),
        Panel(
            "Not kept",
            "Answers per second that were looked at and not kept, by route and reason.",
            "reqps",
            [Query(rate(of_route("scopegate_cache_unstorable_total"), "route, reason"), "{{route}}: {{reason}}")],
        ),
        Panel(
            "Kept in memory",
            "Bytes that kept answers take, over all gateway processes.",
            "bytes",
            [Query(f"sum({pick('scopegate_cache_memory_bytes')})", "bytes")],
        ),
        Panel(
            "Answers in memory",
            "How many answers are kept, over all gateway processes; and failed round trips per second to Redis, where "
            "they are shared.",
            "short",
            [
                Query(f"sum({pick('scopegate_cache_memory_answers')})", "answers"),
                Query(rate(pick("scopegate_cache_store_errors_total"), "kind"), "{{kind}} errors/s"),
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

ALERTS = Group(
    "scopegate-traffic",
    [
        Alert(
            "ScopegateErrorRatioHigh",
            "page",
            expr="""
                sum by (job) (rate(scopegate_requests_total{status=~"5.."}[5m]))
                  / sum by (job) (rate(scopegate_requests_total[5m])) > 0.05
                and sum by (job) (increase(scopegate_requests_total{status=~"5.."}[5m])) > 10
                """,
            hold="2m",
            summary="More than 5 % of requests fail",
            description="{{ $value | humanizePercentage }} of the requests of the last five minutes were answered 5xx.",
            runbook="""
                See the dashboard's rows Traffic and Upstream: which route, which status. 502 and 504 come from the
                app behind: is it up, is it slow? 503 is the gateway protecting itself or a limit store with
                on_store_error: deny. The access log's lines carry the request id and a note that names the kind.
                """,
        ),
        Alert(
            "ScopegateUpstreamDown",
            "page",
            expr='sum by (job, upstream) (increase(scopegate_upstream_errors_total{kind=~"connect|timeout"}[2m])) > 10',
            hold="1m",
            summary="The app behind the gateway does not answer",
            description="Exchanges with upstream {{ $labels.upstream }} fail to connect or time out.",
            runbook="""
                Ask the app's health path from the gateway's machine. If it answers there, compare its address with
                upstreams.{{ $labels.upstream }}.servers in gateway.yaml. If it is slow, see its own load before
                raising timeouts.
                """,
        ),
        Alert(
            "ScopegateServerOut",
            "ticket",
            expr='sum by (job, upstream) (scopegate_upstream_servers{state!="up"}) > 0',
            hold="5m",
            summary="A server of the app gets no requests",
            description="Of upstream {{ $labels.upstream }} servers have been ejected or unhealthy for five minutes.",
            runbook="""
                The gateway's log names the server (upstream.server_out). Ask its health path from the gateway's
                machine: it is down, or it resets, hangs or speaks no HTTP. The others carry its load; once it answers
                it comes back by itself, with a share that grows.
                """,
        ),
        Alert(
            "ScopegateLimitStoreDown",
            "page",
            expr="min by (job) (scopegate_limit_store_up) == 0",
            hold="1m",
            summary="The limit store does not answer",
            description="At least one gateway process cannot reach Redis; tiers follow their on_store_error.",
            runbook="""
                With `local` each process counts alone, so limits admit up to one share per process; with `allow`
                nothing is limited; with `deny` visitors get 503. Ping Redis from the gateway's machine; look at its
                memory, its persistence errors and scopegate_limit_store_errors_total by kind. Limits come back by
                themselves.
                """,
        ),
    ],
)
