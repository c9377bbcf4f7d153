"""A process of its own that uses the database as gateway and worker do; run by test_database.

`python -m tests.stores.writer URL NAME COUNT` opens the database (creating it if it is first), waits for a line on
standard input, then accepts COUNT leads that every writer accepts, and spends what it can of one budget. Prints
`granted N` at the end, or the error. With COUNT 0 it puts orders until it is killed, and prints each id once stored.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from scopegate.leads.job import OrderState
from scopegate.limits.budget import Account, Reservation
from scopegate.stores.database import Database, open_database
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.outbox import SqlOutbox
from tests.stores.orders import call, intent, lead, order

BUDGET = Account("shared", "shared", 1_000, 9_000)
COST = 40


async def main(url: str, name: int, count: int) -> None:
    database = await open_database(url)
    say("ready")
    sys.stdin.readline()
    if count:
        say(f"granted {await accept_and_spend(database, name, count)}")
    else:
        await put_until_killed(database)
    await database.close()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def accept_and_spend(database: Database, name: int, count: int) -> int:
    outbox, ledger, granted = SqlOutbox(database), SqlLedger(database), 0
    for n in range(count):
        own = order(name * 1_000 + n)
        await outbox.put(own)
        await outbox.settle(own, OrderState.ACCEPTED, 201, lead(f"lead-{n}"))
        sent = intent(COST, call_id=f"call-{name}-{n}")
        reservation = await ledger.reserve([BUDGET], sent, 10_000)
        if isinstance(reservation, Reservation):
            granted += 1
            await ledger.settle(reservation, call(f"call-{name}-{n}", COST))
    return granted


async def put_until_killed(database: Database) -> None:
    for n in itertools.count():
        await SqlOutbox(database).put(order(n))
        say(order(n).order_id)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
