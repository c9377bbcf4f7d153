"""`scopegate jobs orders | body ORDER | confirm ORDER | discard ORDER`: lead orders that gave no job, seen and closed
by hand."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import _SubParsersAction
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.cli import reruns
from scopegate.cli.filters import limit, unknown
from scopegate.cli.tables import show, shown
from scopegate.leads.job import OrderState

if TYPE_CHECKING:
    from scopegate.cli.books import Books
    from scopegate.leads.job import Lead, LeadOrder, Unreadable
    from scopegate.types import Json

MAX_DISCARDED = 1000
_DISCARDABLE = (OrderState.UNKNOWN, OrderState.UNREADABLE)


def register(actions: _SubParsersAction[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]) -> None:
    listing = actions.add_parser("orders", help="lead orders that gave no job: fate unknown, or no readable lead")
    listing.add_argument("--limit", metavar="N", type=limit, default=50, help="at most N orders (%(default)s)")
    listing.add_argument("--json", action="store_true", help="JSON instead of a table")
    confirming = actions.add_parser("confirm", help="the app has this order's lead: make its job from the kept request")
    confirming.add_argument("--lead", metavar="ID", required=True, help="the lead's id in the app")
    confirming.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=Path("gateway.yaml"), help="the policy (%(default)s)"
    )
    for side in ("request", "answer"):
        confirming.add_argument(
            f"--{side}", metavar="FILE", type=Path, help=f"its {side} as JSON, where the kept one cannot be read"
        )
    discarding = actions.add_parser(
        "discard", help="no job is wanted of this unknown or unreadable order: close it, forget its words"
    )
    which = discarding.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ORDER_ID", nargs="?", help="the order's id, as `orders` shows it")
    which.add_argument("--all", action="store_true", help="every order that fits what follows")
    discarding.add_argument(
        "--state", choices=[state.value for state in _DISCARDABLE], help="with --all: only orders in this state"
    )
    discarding.add_argument("--offload", metavar="NAME", help="with --all: only orders of this offload")
    discarding.add_argument("--yes", action="store_true", help="with --all: do it, instead of saying how many")
    kept = actions.add_parser("body", help="the request of an order as it came, where it could not be read")
    for action in (confirming, kept):
        action.add_argument("id", metavar="ORDER_ID", help="the order's id, as `orders` shows it")
    for action, run_action in ((listing, _orders), (confirming, _confirm), (discarding, _discard), (kept, _body)):
        action.set_defaults(run=run, action=run_action)


# ── orders ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _orders(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import moment, order_summary

    found = await books.outbox.open(args.limit)
    if args.json:
        print(json.dumps({"orders": [order_summary(order) for order in found]}, indent=2))
        return 0
    if not found:
        print("no open orders")
        return 0
    rows = [(o.order_id, o.state, o.offload, o.route, moment(o.received_ms), o.status, o.request_id) for o in found]
    show(("ORDER", "STATE", "OFFLOAD", "ROUTE", "RECEIVED", "STATUS", "REQUEST"), rows, right=frozenset({"STATUS"}))
    return 0


# ── confirm, discard ────────────────────────────────────────────────────────────────────────────────────────────────
async def _confirm(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain
    from scopegate.leads.job import Lead

    held = await books.outbox.get(args.id)
    if held is None:
        return unknown(args.id, "order")
    if held.job_id is not None:
        return complain(f"order {held.order.order_id} has a job already: {held.job_id}")
    if held.state not in (OrderState.UNKNOWN, OrderState.UNREADABLE, OrderState.ACCEPTED):
        return complain(
            f"order {held.order.order_id} is {held.state}: only one that is unknown or unreadable is confirmed"
        )
    lead = _lead_of(held.order, args)
    if not isinstance(lead, Lead):
        return complain(f"order {held.order.order_id} gives no lead: {lead}")
    job = await books.outbox.settle(held.order, OrderState.ACCEPTED, held.status, lead)
    assert job is not None, "an accepted lead has a job"
    await books.record("confirm", job.job_id, f"order {held.order.order_id}")
    await reruns.wake(books, job.job_id)
    print(job.job_id)
    return 0


def _lead_of(order: LeadOrder, args: argparse.Namespace) -> Lead | str:
    """The lead of the kept request under this id, or why there is none. Raises ConfigError for a bad policy."""
    import os
    from dataclasses import replace

    from scopegate.errors import ConfigError
    from scopegate.following.source import on_disk
    from scopegate.leads.intake import read_lead
    from scopegate.leads.job import Unreadable

    review = on_disk(args.config).examine(os.environ, lenient=True)
    if review.policy is None:
        raise ConfigError(review.problems)
    offload = review.policy.offloads.get(order.offload)
    if offload is None:
        return f"the policy has no offload {shown(order.offload)}"
    request = order.request if args.request is None else _given(args.request)
    answer = Unreadable("it was not kept (--answer FILE)") if args.answer is None else _given(args.answer)
    literal = json.dumps(args.lead).replace("`", "\\u0060")  # a JMESPath literal ends at the next backtick
    found = read_lead(replace(offload, lead_id=f"`{literal}`"), request, answer)
    return found.reason if isinstance(found, Unreadable) else found


def _given(path: Path) -> Json | Unreadable:
    from scopegate.leads.job import Unreadable
    from scopegate.leads.reading import read_body

    try:
        return read_body(path.read_bytes())
    except OSError as error:
        return Unreadable(f"{path}: {error.strerror}")


async def _discard(args: argparse.Namespace, books: Books) -> int:
    return await (_discard_all(args, books) if args.all else _discard_one(args, books))


async def _discard_one(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain

    held = await books.outbox.get(args.id)
    if held is None:
        return unknown(args.id, "order")
    if held.state not in _DISCARDABLE:
        return complain(
            f"order {held.order.order_id} is {held.state}: only one that is unknown or unreadable is discarded"
        )
    await _close(held.order, books)
    print(f"{held.order.order_id} is discarded")
    return 0


async def _discard_all(args: argparse.Namespace, books: Books) -> int:
    """Without --yes how many; at most MAX_DISCARDED."""
    wanted = [OrderState(args.state)] if args.state else [*_DISCARDABLE]
    fits = await books.outbox.open(MAX_DISCARDED)
    found = [one for one in fits if one.state in wanted and args.offload in (None, one.offload)]
    for one in found if args.yes else ():
        held = await books.outbox.get(one.order_id)
        if held is not None and held.state in _DISCARDABLE:
            await _close(held.order, books)
    print(f"{len(found)} orders {'are' if args.yes else 'would be'} discarded")
    if not args.yes:
        print("add --yes to do it")
    return 0


async def _close(order: LeadOrder, books: Books) -> None:
    await books.outbox.settle(order, OrderState.REFUSED, None, None)
    await books.record("discard", order.order_id)


# ── body ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _body(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain
    from scopegate.leads.job import Unreadable

    held = await books.outbox.get(args.id)
    if held is None:
        return unknown(args.id, "order")
    match held.order.request:
        case None:
            return complain(f"order {held.order.order_id} keeps no request")
        case Unreadable(reason, body):
            complain(f"it could not be read: {reason}")
            sys.stdout.flush()
            sys.stdout.buffer.write(body)
        case request:
            print(json.dumps(request, indent=2))
    return 0
