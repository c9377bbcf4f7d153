"""Exports as providers write them, and rows of a ledger that fit them."""

from __future__ import annotations

import json
from typing import Any

from scopegate.leads.job import CallRecord
from scopegate.limits.pricing import Usage, price
from scopegate.worker.prices import load
from tests.stores.orders import call

PRICES = load()
MODEL = "claude-haiku-5-5"
NOON_MS = 1_795_521_600_000
"""2026-11-24T12:00:00Z."""
USAGE_HEAD = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
    "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
    "usage_output_tokens,web_search_count,inference_geo,speed"
)
COST_HEAD = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type,"
    "inference_geo,speed"
)


def usage_line(day: str = "2026-11-24", model: str = MODEL, counts: tuple[int, int] = (1_000, 100)) -> str:
    return f"{day},{model},key,Default,standard,≤ 200k,{counts[0]},0,0,0,{counts[1]},0,global,"


def usage_csv(*lines: str) -> bytes:
    return ("\n".join([USAGE_HEAD, *lines]) + "\n").encode()


def cost_line(cost: str, day: str = "2026-11-24", token_type: str = "output", model: str = "Claude Haiku 5.5") -> str:
    return f"{day},{model},Default,key,message,≤ 200k,{token_type},{cost},{cost},token,global,"


def cost_csv(*lines: str, head: str = COST_HEAD) -> bytes:
    return ("\n".join([head, *lines]) + "\n").encode()


def usage_result(**changes: Any) -> dict[str, Any]:
    return {
        "uncached_input_tokens": 1_000,
        "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
        "cache_read_input_tokens": 0,
        "output_tokens": 100,
        "server_tool_use": {"web_search_requests": 0},
        "api_key_id": None,
        "workspace_id": None,
        "model": MODEL,
        "service_tier": "standard",
        "context_window": None,
        "inference_geo": None,
    } | changes


def cost_result(**changes: Any) -> dict[str, Any]:
    return {
        "amount": "0.015",
        "currency": "USD",
        "cost_type": "tokens",
        "description": "Claude Haiku 5.5 Usage",
        "model": MODEL,
        "service_tier": "standard",
        "token_type": "output_tokens",
        "context_window": "0-200k",
        "workspace_id": None,
    } | changes


def bucket(*results: dict[str, Any], day: str = "2026-11-24") -> dict[str, Any]:
    return {"starting_at": f"{day}T00:00:00Z", "ending_at": f"{day}T23:59:59Z", "results": list(results)}


def report(*buckets: dict[str, Any], has_more: bool = False) -> bytes:
    page = {"data": list(buckets), "has_more": has_more, "next_page": "page_x" if has_more else None}
    return json.dumps(page).encode()


def row(call_id: str, counts: tuple[int, int] = (1_000, 100), **changes: Any) -> CallRecord:
    """A call that ended well, booked at what its tokens cost."""
    cost = changes.pop("cost_usd_micros", None) or price(Usage(*counts), MODEL, PRICES)
    assert cost is not None
    tokens = {"cache_read_tokens": 0, "cache_write_tokens": 0, "input_tokens": counts[0], "output_tokens": counts[1]}
    known = {"model": MODEL, "started_ms": NOON_MS, "day": "2026-11-24", "price_version": PRICES.version}
    return call(call_id, cost, **known | tokens | changes)


def lost(call_id: str, worst: int = 5_000, outcome: str = "unknown", **changes: Any) -> CallRecord:
    nothing = {"cost_usd_micros": worst, "outcome": outcome, "api_request_id": None, "status": None}
    return row(call_id, (0, 0), **nothing | changes)
