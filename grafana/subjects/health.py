"""The gateway itself: its processes, its policy, what is measured."""

from __future__ import annotations

from grafana.parts import Alert, Group, Panel, Query, Row, pick, rate, rise

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

ALERTS = Group(
    "scopegate-watch",
    [
        Alert(
            "ScopegateMetricsAbsent",
            "page",
            expr="absent(scopegate_build_info)",
            hold="5m",
            summary="No scopegate admin process can be scraped",
            description="Prometheus has no scopegate metrics; every other alert is blind.",
            runbook="""
                Prometheus' page Targets names the reason: 401 is the token file, connection refused the admin
                process, 503 the metrics directory (full disk, missing volume).
                """,
        ),
        Alert(
            "ScopegatePolicyRefused",
            "ticket",
            expr="max by (job) (scopegate_policy_stale) == 1",
            hold="1m",
            summary="The policy file was refused",
            description="gateway.yaml has a problem; what was in force before it stays in force.",
            runbook="""
                `scopegate check` names every problem with line and column; so do the log lines "policy.problem". A
                restart of the gateway would fail on the file as it is now: mend it, or put the last good one back.
                """,
        ),
        Alert(
            "ScopegateCertificateEnds",
            "ticket",
            expr="min by (job) (scopegate_certificate_ends_timestamp_seconds > 0) - time() < 14 * 86400",
            hold="5m",
            summary="A certificate of the public port ends within two weeks",
            description="It has {{ $value | humanizeDuration }} left. Browsers turn visitors away when it is over.",
            runbook="""
                Renew it and put the files where `server.tls` names them: they are taken up within seconds, without a
                restart or a cut connection. If they were renewed, look for "policy.problem" in the log: a key that is
                not the certificate's keeps the old pair.
                """,
        ),
        Alert(
            "ScopegateScrapeIncomplete",
            "ticket",
            expr="sum by (job, source) (increase(scopegate_scrape_errors_total[10m])) > 3",
            summary="Part of the metrics is missing",
            description="Scrapes leave out {{ $labels.source }}.",
            runbook="""
                The database answers too slowly (over a second) or not at all; the admin log line
                "admin.scrape_incomplete" names the error. Gauges of that source are absent, not stale.
                """,
        ),
    ],
)
