"""The spool: orders on this machine's disk survive their process, are handed over whole, and are bounded."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scopegate.errors import StoreUnavailable
from scopegate.leads.job import Claim, KeptAnswer, LeadOrder, OrderState, Settlement, Unreadable
from scopegate.metrics import catalogue as metrics
from scopegate.stores.spool import Spool
from tests.stores.orders import HOSTILE, lead, order

ORDER = replace(order(), claim=Claim("c", "b", 7))
SETTLED = Settlement(ORDER, OrderState.ACCEPTED, 201, lead(), KeptAnswer(201, b"content-type: x\r\n", b"\x00\xff{}"))


def pending(n: int, received_ms: int = 1_000) -> Settlement:
    return Settlement(order(n, received_ms), OrderState.PENDING)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def files(spool: Spool) -> list[Path]:
    return [path for path in spool._path.iterdir() if path.is_file()] if spool._path.exists() else []


async def emptied(spool: Spool) -> list[Settlement]:
    taken: list[Settlement] = []

    async def take(settled: Settlement) -> None:
        taken.append(settled)

    await spool.empty(take)
    return taken


@pytest.mark.parametrize(
    "kept",
    [
        SETTLED,
        pending(1),
        Settlement(replace(ORDER, request=Unreadable("it is not JSON", b"\xff\x00\n")), OrderState.UNREADABLE, 201),
        Settlement(replace(ORDER, request=None, claim=None), OrderState.UNKNOWN),
        Settlement(replace(ORDER, request={"n": 1e300, "i": 10**200, "t": HOSTILE}), OrderState.REFUSED, 422),
        Settlement(replace(ORDER, request=[0] * 199_990), OrderState.PENDING),
    ],
)
async def test_what_is_kept_comes_back_as_it_was_and_once(spool: Spool, kept: Settlement) -> None:
    await spool.keep(kept)
    assert await emptied(Spool(spool._path)) == [kept]
    assert await emptied(spool) == []
    assert files(spool) == []


async def test_orders_come_back_oldest_first_and_before_their_outcomes(spool: Spool) -> None:
    later, earlier = pending(1, received_ms=2_000), pending(2, received_ms=1_500)
    outcome = Settlement(earlier.order, OrderState.REFUSED, 422)
    for one in (outcome, later, earlier):
        await spool.keep(one)
    assert await emptied(spool) == [earlier, outcome, later]


async def test_where_nothing_was_kept_nothing_is_made(spool: Spool) -> None:
    assert await emptied(spool) == []
    await spool.check()
    assert not spool._path.exists()


async def test_only_its_owner_can_read_it(spool: Spool) -> None:
    await spool.keep(SETTLED)
    assert spool._path.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in files(spool)] == [0o600]


async def test_what_is_not_taken_stays(spool: Spool) -> None:
    for n in range(3):
        await spool.keep(pending(n, 1_000 + n))
    taken: list[Settlement] = []

    async def take_one(settled: Settlement) -> None:
        if taken:
            raise StoreUnavailable("connect")
        taken.append(settled)

    with pytest.raises(StoreUnavailable):
        await spool.empty(take_one)
    assert await emptied(spool) == [pending(1, 1_001), pending(2, 1_002)]


async def test_what_nobody_can_take_is_put_aside_and_keeps_no_other_waiting(spool: Spool) -> None:
    for n in range(3):
        await spool.keep(pending(n, 1_000 + n))
    taken: list[str] = []

    async def take(settled: Settlement) -> None:
        assert settled.order.order_id != "order-1", "a bug of ours"
        taken.append(settled.order.order_id)

    await spool.empty(take)
    assert taken == ["order-0", "order-2"]
    assert [path.name for path in (spool._path / "bad").iterdir()] == ["00000000001001-order-1-0.json"]
    with pytest.raises(StoreUnavailable, match="1 spooled orders cannot be read"):
        await spool.check()
    assert metrics.SPOOLED_ORDERS.labels("bad")._value.get() == 1


@pytest.mark.parametrize("change", ["cut", "flipped", "emptied", "shape"])
async def test_a_file_that_the_disk_changed_is_put_aside(spool: Spool, change: str) -> None:
    await spool.keep(SETTLED)
    await spool.keep(pending(2, 2_000))
    path = min(files(spool))
    data = path.read_bytes()
    shapeless = b"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n" + b"{}"
    changed = {
        "cut": data[:-20],
        "flipped": data.replace(b"accepted", b"refused_"),
        "emptied": b"",
        "shape": shapeless,
    }
    path.write_bytes(changed[change])
    assert await emptied(spool) == [pending(2, 2_000)]
    assert [aside.name for aside in (spool._path / "bad").iterdir()] == [path.name]


async def test_what_a_killed_process_left_half_written_is_swept_once_it_is_old(spool: Spool) -> None:
    await spool.keep(pending(1))
    half = spool._path / "00000000001000-order-9-0-77.fresh"
    half.write_bytes(b"half")
    assert await emptied(spool) == [pending(1)]
    assert half.exists(), "it may belong to one that is still writing"
    os.utime(half, (time.time() - 120, time.time() - 120))
    assert await emptied(spool) == []
    assert not half.exists()


async def test_it_is_bounded_by_files_and_by_bytes(spool: Spool) -> None:
    few = Spool(spool._path, most_entries=2)
    for n in range(2):
        await few.keep(pending(n))
    with pytest.raises(StoreUnavailable, match="full: the spool has no room"):
        await few.keep(pending(3))
    small = Spool(spool._path, most_bytes=sum(path.stat().st_size for path in files(spool)) + 10)
    with pytest.raises(StoreUnavailable, match="full"):
        await small.keep(pending(4))
    assert len(files(spool)) == 2
    await emptied(few)
    few._counted_s = 0.0
    await few.keep(pending(5))


async def test_a_nearly_full_one_is_told(spool: Spool) -> None:
    few = Spool(spool._path, most_entries=5)
    for n in range(4):
        await few.keep(pending(n))
    await few.check()
    await few.keep(pending(4))
    with pytest.raises(StoreUnavailable, match="nearly full"):
        await few.check()


async def test_a_disk_that_takes_nothing_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        await Spool(tmp_path / "file" / "spool").keep(SETTLED)


async def test_one_at_a_time_empties_it(spool: Spool) -> None:
    await spool.keep(SETTLED)
    there, go, taken = asyncio.Event(), asyncio.Event(), []

    async def take(settled: Settlement) -> None:
        there.set()
        await go.wait()
        taken.append(settled)

    first = asyncio.create_task(spool.empty(take))
    await there.wait()
    assert await emptied(Spool(spool._path)) == []
    go.set()
    await first
    assert taken == [SETTLED]


WRITER = """
import asyncio, sys
from pathlib import Path
from scopegate.leads.job import LeadOrder, OrderState, Settlement
from scopegate.stores.spool import Spool
async def main():
    spool = Spool(Path(sys.argv[1]))
    n = 0
    while True:
        n += 1
        order = LeadOrder(f"order-{n}", "photos", "lead", f"r-{n}", n, {"text": "x" * 20_000})
        await spool.keep(Settlement(order, OrderState.PENDING))
        print(n, flush=True)
asyncio.run(main())
"""


async def test_kept_is_kept_through_sigkill(spool: Spool, full: bool) -> None:
    """Killed at any moment: everything that it said was kept is there, whole."""
    for _ in range(40 if full else 3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, spool._path], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        said = {1, 2, 3, 4, 5} | {int(line) for line in writer.stdout.read().split()}
        writer.communicate()
        got: set[int] = set()

        async def take(settled: Settlement, into: set[int] = got) -> None:
            assert isinstance(settled.order, LeadOrder)
            assert settled.order.request == {"text": "x" * 20_000}
            into.add(int(settled.order.order_id.removeprefix("order-")))

        await spool.empty(take)
        assert said <= got
        assert not (spool._path / "bad").exists()
