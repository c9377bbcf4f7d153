"""Money: what was spent, what is expected, and how full each budget is."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scopegate.admin.console.charts import Bar
from scopegate.admin.console.pages import Pages, cents
from scopegate.admin.console.reading import day_starts_ms, query_of, read
from scopegate.admin.console.remembered import Known, Remembered
from scopegate.admin.forecasts import read_forecasts
from scopegate.admin.records import usage_row
from scopegate.admin.sources import Sources
from scopegate.leads.job import JobState
from scopegate.limits.forecast import Expectation
from scopegate.types import Json

KEYS = ("day", "model", "step", "contractor", "lead", "offload")
SPANS = (7, 30, 90)
_MOST = 20
"""Rows of a table; the file has all."""

Rows = Sequence[Mapping[str, Json]]


class MoneyPage:
    def __init__(self, sources: Sources, pages: Pages) -> None:
        self._s, self._pages = sources, pages
        self._sums: Remembered[Rows] = Remembered(sources.clock)
        self._expected: Remembered[Mapping[str, Expectation]] = Remembered(sources.clock)

    def routes(self) -> list[Route]:
        return [Route("/money", self.show), Route("/money.csv", self.download)]

    async def show(self, request: Request) -> Response:
        days = _days(query_of(request, ["days"]))
        since, now_ms = self._first_day(days), self._s.clock.now_ms()
        sums = {key: await self._sum(key, since) for key in KEYS}
        by_day, zone = sums["day"].value, self._zone()
        spent = sum(_micros(row) for row in by_day)
        done = (await self._s.jobs.ended(day_starts_ms(since)))[JobState.DONE]
        forecast = await self._expected.get("", lambda: read_forecasts(self._s.ledger, self._s.clock.now_ms(), zone))
        return self._pages.answer(
            request,
            "money.html",
            days=days,
            spans=SPANS,
            forecast=forecast.value,
            zone=str(zone),
            standings=await self._s.ledger.standings(now_ms),
            periods=self._periods(),
            bars_by_day=_bars(by_day, since, now_ms),
            tables={key: _largest(known.value) for key, known in sums.items() if key != "day"},
            spent=spent,
            calls=sum(cast(int, row["calls"]) for row in by_day),
            unknown=sum(cast(int, row["unknown_usd_micros"]) for row in by_day),
            saved=sum(cast(int, row["saved_usd_micros"]) for row in by_day),
            done=done,
            per_lead=spent // done if done else None,
            at_ms=min(known.at_ms for known in sums.values()),
            most=_MOST,
        )

    async def _sum(self, key: str, since: str) -> Known[Rows]:
        most = None if key == "day" else _MOST
        return await self._sums.get((key, since), lambda: self._s.ledger.spend_by(key, since, most))

    def _zone(self) -> tzinfo:
        ai = self._s.policy().ai
        return UTC if ai is None else ai.zone

    def _periods(self) -> Mapping[str, str]:
        ai = self._s.policy().ai
        rules = () if ai is None else ai.budgets
        return {rule.name: rule.period if isinstance(rule.period, str) else "rolling" for rule in rules}

    def _first_day(self, days: int) -> str:
        today = datetime.fromtimestamp(self._s.clock.now_ms() / 1000, UTC).date()
        return (today - timedelta(days=days - 1)).isoformat()

    async def download(self, request: Request) -> Response:
        """All rows of one table, for a spreadsheet."""
        query = query_of(request, ["by", "days"])
        by = read(query, "by", lambda text: KEYS[KEYS.index(text)], ", ".join(KEYS)) or "day"
        rows = await self._s.ledger.spend_by(by, self._first_day(_days(query)))
        fields = {"content-disposition": f'attachment; filename="scopegate-spend-by-{by}.csv"'}
        return Response(as_csv(by, rows), media_type="text/csv; charset=utf-8", headers=fields)


def as_csv(by: str, rows: Rows) -> bytes:
    told = [usage_row(row) for row in rows]
    names = [name for name in told[0] if name != "key"] if told else []
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow([by, *names])
    for row in told:
        key = row["key"]
        table.writerow([_cell("" if key is None else str(key)), *(row[name] for name in names)])
    return written.getvalue().encode("utf-8", "replace")


def _cell(text: str) -> str:
    """A spreadsheet takes such a beginning for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _days(query: Mapping[str, str]) -> int:
    allowed = {str(days): days for days in SPANS}
    return read(query, "days", lambda text: allowed[text] if text in allowed else int(""), ", ".join(allowed)) or 30


def _micros(row: Mapping[str, Any]) -> int:
    return cast(int, row["cost_usd_micros"])


def _largest(rows: Rows) -> Rows:
    return sorted(rows, key=_micros, reverse=True)[:_MOST]


def _bars(rows: Rows, since: str, now_ms: int) -> Sequence[Bar]:
    """Every day, also those on which nothing was spent."""
    spent = {str(row["key"]): _micros(row) for row in rows}
    first, today = datetime.fromisoformat(since).date(), datetime.fromtimestamp(now_ms / 1000, UTC).date()
    days = [(first + timedelta(days=n)).isoformat() for n in range((today - first).days + 1)]
    return [Bar(day, spent.get(day, 0), cents(spent.get(day, 0))) for day in days]
