"""Exports of a provider's bill: bytes -> Statement, or BadExport with the place of the first fault.

Pure. Read are the usage and cost reports of the Claude Admin API (`/v1/organizations/usage_report/messages` and
`/v1/organizations/cost_report`: JSON, one file for each page), what the Console exports of both as CSV, and the calls
that the simulated Claude lists (`/_sim/calls`). Nothing is guessed: a field that is missing, a row that is cut, another
currency, a line that stands twice or a number below zero is a fault, and its text is never quoted.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from scopegate import jsontext
from scopegate.bills.statement import BadExport, BilledCall, BilledCost, BilledUsage, Statement, plain_model
from scopegate.limits.pricing import Usage

_MAX_DEPTH = 12
_MOST_DAYS = 400
_COUNT = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_AMOUNT = re.compile(r"-?[0-9]{1,12}(?:\.([0-9]{1,18}))?", re.ASCII)
_DOLLAR = 1_000_000
_CENT = 10_000


def read(files: Sequence[tuple[str, bytes]]) -> Statement:
    """The one statement that these files are together, each with its name. Raises BadExport."""
    parts = [_read_one(name, content, is_last=n == len(files)) for n, (name, content) in enumerate(files, 1)]
    first = parts[0]
    for (name, _), part in zip(files, parts, strict=True):
        if part.kind != first.kind:
            raise BadExport(name, f"is a {part.kind}, and the first file a {first.kind}: one kind at a time")
    whole = Statement(
        kind=first.kind,
        calls=tuple(one for part in parts for one in part.calls),
        usages=tuple(one for part in parts for one in part.usages),
        costs=tuple(one for part in parts for one in part.costs),
        days=frozenset(day for part in parts for day in part.days),
        since_ms=min(part.since_ms for part in parts),
        until_ms=max(part.until_ms for part in parts),
    )
    _refuse_repeated(whole)
    return whole


def _read_one(name: str, content: bytes, *, is_last: bool) -> Statement:
    if content.lstrip().startswith((b"{", b"[")):
        return _read_json(name, content, is_last)
    return _read_csv(name, content)


def _refuse_repeated(found: Statement) -> None:
    """Lines are one where everything but their numbers is the same: the export would have had one sum for them."""
    seen: dict[tuple[str, ...], str] = {}
    lines: list[BilledCall | BilledUsage | BilledCost] = [*found.calls, *found.usages, *found.costs]
    for line in lines:
        if line.key in seen:
            raise BadExport(line.place, f"stands at {seen[line.key]} already")
        seen[line.key] = line.place


# ── CSV ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_DAY_COLUMN = "usage_date_utc"
_TOKEN_COLUMNS = {
    "input_tokens": "usage_input_tokens_no_cache",
    "output_tokens": "usage_output_tokens",
    "cache_read_tokens": "usage_input_tokens_cache_read",
    "cache_write_5m_tokens": "usage_input_tokens_cache_write_5m",
    "cache_write_1h_tokens": "usage_input_tokens_cache_write_1h",
}
_NUMBERS = {*_TOKEN_COLUMNS.values(), "web_search_count", "cost_usd", "list_price_usd"}


def _read_csv(name: str, content: bytes) -> Statement:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadExport(name, "is not UTF-8") from None
    rows = list(_rows(name, text))
    if not rows:
        raise BadExport(name, "has no lines")
    columns = set(rows[0][1])
    if {_DAY_COLUMN, "model_version", *_TOKEN_COLUMNS.values()} <= columns:
        usages = tuple(_csv_usage(place, row) for place, row in rows)
        return Statement("usage export", usages=usages, days=_span(one.day for one in usages))
    if {_DAY_COLUMN, "model", "cost_usd"} <= columns:
        costs = tuple(_csv_cost(place, row) for place, row in rows)
        return Statement("cost export", costs=costs, days=_span(one.day for one in costs))
    currency = next((column for column in columns if re.fullmatch(r"cost_[a-z]{3}", column)), None)
    if currency is not None:
        raise BadExport(f"{name}, line 1", "has its costs in another currency than USD")
    raise BadExport(f"{name}, line 1", "has not the columns of a usage or cost export")


def _rows(name: str, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, cells by column). Raises for a row that has more or fewer cells than there are columns."""
    reader = csv.reader((line + "\n" for line in text.split("\n")), strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            if not cells:
                continue
            place = f"{name}, line {reader.line_num}"
            if not columns:
                columns = [cell.strip() for cell in cells]
                if len(set(columns)) != len(columns):
                    raise BadExport(place, "names a column twice")
            elif len(cells) != len(columns):
                raise BadExport(place, f"has {len(cells)} of {len(columns)} columns")
            else:
                yield place, dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    except csv.Error:
        raise BadExport(f"{name}, line {reader.line_num}", "is no CSV, or cut in the middle") from None


def _csv_usage(place: str, row: Mapping[str, str]) -> BilledUsage:
    counts = {field: _count(place, column, row[column]) for field, column in _TOKEN_COLUMNS.items()}
    searches = _count(place, "web_search_count", row.get("web_search_count") or "0")
    terms = {
        "inference_geo": row.get("inference_geo"),
        "service_tier": row.get("usage_type"),
        "speed": row.get("speed"),
    }
    usage = Usage(**counts, terms=_terms(terms), unread=("web_search_count",) if searches else ())
    return BilledUsage(
        place, _key(row), _day(place, row[_DAY_COLUMN]), plain_model(_named(place, row["model_version"])), usage
    )


def _csv_cost(place: str, row: Mapping[str, str]) -> BilledCost:
    amount, rounding = _amount(place, row["cost_usd"], _DOLLAR)
    return BilledCost(place, _key(row), _day(place, row[_DAY_COLUMN]), plain_model(row["model"]), amount, rounding)


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{column}={cell}" for column, cell in sorted(row.items()) if column not in _NUMBERS)


def _span(days: Iterable[str]) -> frozenset[str]:
    """Every day from the first to the last: on one that is left out nothing was billed."""
    dates = sorted({date.fromisoformat(day) for day in days})
    if (dates[-1] - dates[0]).days > _MOST_DAYS:
        return frozenset(day.isoformat() for day in dates)
    return frozenset((dates[0] + timedelta(days=n)).isoformat() for n in range((dates[-1] - dates[0]).days + 1))


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_json(name: str, content: bytes, is_last: bool) -> Statement:
    try:
        found = jsontext.parse_as_written(content, max_depth=_MAX_DEPTH, real=str)
    except jsontext.BadJson as fault:
        raise BadExport(f"{name}, line {content.count(chr(10).encode()) + 1}", f"is cut or broken ({fault})") from None
    if isinstance(found, dict) and isinstance(found.get("calls"), list):
        return _simulated(name, found)
    buckets = found.get("data") if isinstance(found, dict) else None
    if not isinstance(buckets, list):
        raise BadExport(name, "is no usage or cost report")
    if found.get("has_more") and is_last:
        raise BadExport(name, "says has_more: its next page is missing")
    return _report(name, buckets)


def _report(name: str, buckets: Sequence[Any]) -> Statement:
    usages: list[BilledUsage] = []
    costs: list[BilledCost] = []
    days: set[str] = set()
    for n, bucket in enumerate(buckets):
        place = f"{name}, data[{n}]"
        day = _day(place, str(_get(place, bucket, "starting_at"))[:10])
        if str(_get(place, bucket, "starting_at"))[10:20] == "T00:00:00Z":
            days.add(day)
        results = _get(place, bucket, "results")
        if not isinstance(results, list):
            raise BadExport(place, "has no list of results")
        for m, result in enumerate(results):
            at = f"{place}.results[{m}]"
            if isinstance(result, Mapping) and "amount" in result:
                costs.append(_json_cost(at, bucket, day, result))
            else:
                usages.append(_json_usage(at, bucket, day, result))
    if usages and costs:
        raise BadExport(name, "is no usage or cost report")
    return Statement("cost export" if costs else "usage export", (), tuple(usages), tuple(costs), frozenset(days))


def _json_usage(place: str, bucket: Mapping[str, Any], day: str, result: Any) -> BilledUsage:
    written = _get(place, result, "cache_creation")
    tools = result.get("server_tool_use") or {}
    searches = _count(place, "web_search_requests", _get(place, tools, "web_search_requests")) if tools else 0
    usage = Usage(
        input_tokens=_count(place, "uncached_input_tokens", _get(place, result, "uncached_input_tokens")),
        output_tokens=_count(place, "output_tokens", _get(place, result, "output_tokens")),
        cache_read_tokens=_count(place, "cache_read_input_tokens", _get(place, result, "cache_read_input_tokens")),
        cache_write_5m_tokens=_count(place, "cache_creation", _get(place, written, "ephemeral_5m_input_tokens")),
        cache_write_1h_tokens=_count(place, "cache_creation", _get(place, written, "ephemeral_1h_input_tokens")),
        terms=_terms({kind: result.get(kind) for kind in ("inference_geo", "service_tier", "speed")}),
        unread=("web_search_requests",) if searches else (),
    )
    return BilledUsage(place, _json_key(bucket, result), day, plain_model(_named(place, result.get("model"))), usage)


def _json_cost(place: str, bucket: Mapping[str, Any], day: str, result: Mapping[str, Any]) -> BilledCost:
    """Amounts are in the lowest unit of the currency: `"123.45"` of USD is 1.2345 dollars."""
    if result.get("currency") != "USD":
        raise BadExport(place, "is in another currency than USD")
    amount, rounding = _amount(place, result["amount"], _CENT)
    return BilledCost(
        place, _json_key(bucket, result), day, plain_model(str(result.get("model") or "")), amount, rounding
    )


def _json_key(bucket: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[str, ...]:
    said = {key: value for key, value in result.items() if isinstance(value, str) and key != "amount"}
    return (str(bucket["starting_at"]), *(f"{key}={value}" for key, value in sorted(said.items())))


def _simulated(name: str, found: Mapping[str, Any]) -> Statement:
    calls = []
    for n, one in enumerate(found["calls"]):
        place = f"{name}, calls[{n}]"
        usage = Usage(
            input_tokens=_count(place, "input_tokens", _get(place, one, "input_tokens")),
            output_tokens=_count(place, "output_tokens", _get(place, one, "output_tokens")),
            terms=_terms({"service_tier": one.get("service_tier")}),
        )
        at_ms = _count(place, "at_ms", _get(place, one, "at_ms"))
        request_id = _named(place, _get(place, one, "request_id"))
        calls.append(BilledCall(place, (request_id,), at_ms, plain_model(_named(place, one.get("model"))), usage))
    since_ms, until_ms = (_count(name, field, _get(name, found, field)) for field in ("since_ms", "until_ms"))
    return Statement("list of calls", tuple(calls), since_ms=since_ms, until_ms=until_ms)


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _get(place: str, found: Any, field: str) -> Any:
    if not isinstance(found, Mapping) or field not in found:
        raise BadExport(place, f"has no {field}")
    return found[field]


def _count(place: str, field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not _COUNT.fullmatch(str(value)):
        raise BadExport(place, f"has a {field} that is no whole number")
    if int(value) < 0:
        raise BadExport(place, f"has a {field} below zero")
    return int(value)


def _amount(place: str, text: object, unit: int) -> tuple[Fraction, Fraction]:
    """Micro-dollars, and half of what its last digit stands for."""
    match = _AMOUNT.fullmatch(str(text)) if isinstance(text, str | int) else None
    if match is None:
        raise BadExport(place, "has an amount that is no decimal number")
    amount = Fraction(Decimal(str(text))) * unit
    if amount < 0:
        raise BadExport(place, "has an amount below zero")
    return amount, Fraction(unit, 2 * 10 ** len(match[1] or ""))


def _day(place: str, text: str) -> str:
    try:
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        raise BadExport(place, "has no day like 2026-11-24") from None


def _named(place: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadExport(place, "names no model: group the report by model")
    return value


def _terms(said: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((kind, str(word)) for kind, word in said.items() if word)
