"""The first page of the admin port: what state the jobs are in, what the day has cost, where the numbers are.

Pure: values in, HTML out. Every value that comes from outside goes through `_text`; there is no script and no inline
style, the content security policy forbids both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from scopegate.admin.records import moment
from scopegate.admin.scrape import BudgetState
from scopegate.leads.job import JobState, LeadJob

_LINKS = (
    ("/metrics", "metrics"),
    ("/readyz", "readiness"),
    ("/api/jobs", "jobs as JSON"),
    ("/api/jobs?state=failed", "failed jobs as JSON"),
    ("/api/usage?by=day", "spend by day"),
    ("/api/usage?by=model", "spend by model"),
    ("/api/usage?by=lead", "spend by lead"),
)


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything on the page. `now` is RFC 3339 text."""

    now: str
    digest: str
    states: Mapping[str, str]
    counts: Mapping[str, int]
    spent_today_usd_micros: int
    calls_today: int
    standings: Sequence[BudgetState]
    jobs: Sequence[LeadJob]


def render(overview: Overview) -> str:
    tiles = [(state, str(count)) for state, count in overview.counts.items()]
    spend = [("spent today", _usd(overview.spent_today_usd_micros)), ("model calls today", str(overview.calls_today))]
    body = [
        "<h1>scopegate</h1>",
        f'<p class="quiet">{_text(overview.now)}, policy {_text(overview.digest)}</p>',
        "<h2>Health</h2>",
        _tiles(overview.states.items()),
        "<h2>Jobs</h2>",
        _tiles(tiles),
        _jobs(overview.jobs),
        "<h2>Model spend</h2>",
        _tiles(spend),
        _budgets(overview.standings),
        "<h2>More</h2>",
        "<ul>" + "".join(f'<li><a href="{escape(href)}">{_text(name)}</a></li>' for href, name in _LINKS) + "</ul>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>scopegate</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="/static/console.css"></head><body>{"".join(body)}</body></html>'
    )


def _text(value: object) -> str:
    """HTML text of anything; control characters and lone surrogates become visible."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value)[:300])
    return escape(shown)


def _usd(micros: int) -> str:
    return f"${micros // 1_000_000}.{micros % 1_000_000:06d}"


def _tiles(items: Iterable[tuple[str, str]]) -> str:
    tiles = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in items)
    return f"<dl>{tiles}</dl>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _jobs(jobs: Sequence[LeadJob]) -> str:
    if not jobs:
        return '<p class="quiet">No lead has come in yet.</p>'
    heads = ("Job", "Lead", "Contractor", "State", "Created", "Tries", "Error", "Score", "")
    return _table(heads, [_job_row(job) for job in jobs])


def _job_row(job: LeadJob) -> Sequence[str]:
    address = f"/api/jobs/{quote(job.job_id, safe='', errors='replace')}"
    replay = ""
    if job.state in (JobState.FAILED, JobState.DEAD):
        replay = f'<form method="post" action="{escape(address)}/replay"><button>Replay</button></form>'
    return (
        f'<a href="{escape(address)}">{_text(job.job_id)}</a>',
        _text(job.lead.lead_id),
        _text(job.lead.contractor or ""),
        f'<span class="state {job.state.value}">{job.state.value}</span>',
        _text(moment(job.created_ms)),
        str(job.tries),
        _text(job.error_code or ""),
        _text("" if job.score is None else job.score),
        replay,
    )


def _budgets(standings: Sequence[BudgetState]) -> str:
    if not standings:
        return ""
    rows = [
        (
            _text(standing.rule.name),
            _text(standing.rule.period),
            _usd(standing.rule.limit_usd_micros),
            _usd(standing.spent_usd_micros),
            _usd(standing.reserved_usd_micros),
            f'<meter min="0" max="{standing.rule.limit_usd_micros}" value="{standing.spent_usd_micros}"></meter>',
        )
        for standing in standings
    ]
    return _table(("Budget", "Period", "Limit", "Spent", "Set aside", "Used"), rows)
