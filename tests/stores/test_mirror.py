"""What a process knows of the windows in Redis, and counts by alone; random outages against a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegate.clock import ManualClock
from scopegate.limits.barriers import Ban, BanRule, Barrier, Seats, ban_of
from scopegate.limits.window import Quota, Spent, Window, WindowState, amended, window_key
from scopegate.stores.memory import MemoryLimits
from scopegate.stores.mirror import Mirror
from scopegate.stores.redis_limits import RedisLimits
from scopegate.stores.redis_link import Outage

TEN = Quota(10, 10_000)


def window(quota: Quota = TEN, key: str = "k", origin: str = "") -> Window:
    return Window("strict", window_key("strict", quota, key), quota, origin)


def outcome(mirror: Mirror, *windows: Window) -> tuple[bool, int, int]:
    spent = mirror.spend_alone(windows)
    return spent.admitted, spent.standings[0].remaining, spent.retry_after_ms


class Pair:
    """A store, and a mirror that sees its answers, on one clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryLimits(self.clock)
        self.mirror = Mirror(self.clock)

    def seen(self, one: Window, times: int = 1) -> Spent:
        for _ in range(times):
            spent = self.store.spend([one])
            self.mirror.saw(spent)
        return spent


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_it_goes_on_where_the_store_was(pair: Pair) -> None:
    pair.seen(window(), 4)
    pair.clock.advance(3)
    pair.seen(window(), 3)
    assert [outcome(pair.mirror, window())[0] for _ in range(4)] == [True, True, True, False]
    pair.clock.advance(6.9)
    assert outcome(pair.mirror, window()) == (False, 0, 100)
    pair.clock.advance(0.1)
    assert outcome(pair.mirror, window()) == (True, 3, 0)


def test_it_knows_those_of_others_from_what_is_left(pair: Pair) -> None:
    for _ in range(6):
        pair.store.spend([window()])  # through another process
    assert pair.seen(window()).standings[0].remaining == 3
    assert outcome(pair.mirror, window()) == (True, 2, 0)


def test_it_learns_from_refusals_and_frees_nobody_late(pair: Pair) -> None:
    for _ in range(10):
        pair.store.spend([window()])
    pair.clock.advance(8)
    assert not pair.seen(window()).admitted
    assert outcome(pair.mirror, window()) == (False, 0, 2_000)


def test_a_full_window_is_followed_for_as_long_as_it_is_full(pair: Pair) -> None:
    """The store lets an admission go a moment before the mirror does: one that comes in its place is one more."""
    early = ManualClock()
    early.advance(0.002)
    pair.store = MemoryLimits(early)
    for _ in range(100):
        remaining = pair.seen(window()).standings[0].remaining
        assert [len(known.ages_us) for known in pair.mirror.known()] == [10 - remaining]
        for clock in (early, pair.clock):
            clock.advance(0.7)


@pytest.mark.parametrize("gateways", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("quota", [TEN, Quota(10, 10_000, 1), Quota(10, 10_000, 4), Quota(20, 10_000, 20)])
def test_gateways_that_do_not_hear_of_each_other_admit_the_limit_together(quota: Quota, gateways: int) -> None:
    clock, admitted = ManualClock(), []
    mirrors = [Mirror(clock, gateways=gateways) for _ in range(gateways)]
    for now_ms in range(0, 40_000, 50):
        admitted += [now_ms for mirror in mirrors if mirror.spend_alone([window(quota)]).admitted]
        clock.advance(0.05)
    most = max(sum(begin <= each < begin + quota.span_ms for each in admitted) for begin in admitted)
    fair = min(gateways, quota.burst or quota.limit)
    assert most <= max(quota.limit, gateways) + (gateways - fair)
    assert most >= quota.limit - gateways


def test_waiting_as_told_admits_and_a_millisecond_less_does_not() -> None:
    clock = ManualClock()
    mirror = Mirror(clock, gateways=3)
    while mirror.spend_alone([window()]).admitted:
        clock.advance(0.7)
    wait_ms = mirror.spend_alone([window()]).retry_after_ms
    clock.advance((wait_ms - 1) / 1000)
    assert outcome(mirror, window()) == (False, 0, 1)
    clock.advance(0.001)
    assert mirror.spend_alone([window()]).admitted


def test_what_is_told_of_the_next_admission_counts_its_weight() -> None:
    clock = ManualClock()
    mirror = Mirror(clock, gateways=3)
    assert mirror.spend_alone([window()]).standings == (WindowState(window(), 2, 10_000, 10_000),)
    clock.advance(1)
    assert mirror.spend_alone([window()]).standings == (WindowState(window(), 1, 9_000, 10_000),)


def test_several_windows_are_all_or_none_and_told_as_they_are() -> None:
    mirror = Mirror(ManualClock(), gateways=2)
    narrow, wide = window(Quota(2, 1_000)), window(Quota(100, 60_000))
    assert mirror.spend_alone([narrow, wide]).admitted
    refused = mirror.spend_alone([narrow, wide])
    assert refused.alone
    assert [standing.window for standing in refused.standings] == [narrow, wide]
    assert [standing.remaining for standing in refused.standings] == [0, 49]


def test_without_room_who_is_unknown_is_refused() -> None:
    mirror = Mirror(ManualClock(), max_bytes=1 << 20)
    for n in range(20_000):
        mirror.spend_alone([window(key=str(n), origin="192.0.2.7")])
    spent = mirror.spend_alone([window(key="one more", origin="192.0.2.7")])
    assert (spent.admitted, spent.standings[0].remaining) == (False, 0)
    assert mirror.spend_alone([window(key="elsewhere", origin="198.51.100.7")]).admitted


def test_debts_are_taken_once_put_back_on_failure_and_gone_with_their_span() -> None:
    clock = ManualClock()
    mirror = Mirror(clock)
    for key in "abc":
        mirror.spend_alone([window(key=key)])
    first = mirror.take_debts(1)
    assert len(first) == 1
    clock.advance(1)
    mirror.spend_alone([window(key="a")])
    mirror.put_back(first)
    owed = mirror.take_debts(100)
    assert Counter({key: len(debt.times) for key, debt in owed.items()}) == Counter(
        {window(key=key).key: 2 if key == "a" else 1 for key in "abc"}
    )
    assert mirror.take_debts(100) == {}
    assert [one.ages_us for one in mirror.admitted(owed) if one.key == window(key="a").key] == [[1_000_000, 0]]


def test_what_became_of_an_admission_counts_for_every_gateway_too() -> None:
    mirror = Mirror(ManualClock(), gateways=2)
    given_back, booked = mirror.spend_alone([window(key="a")]), mirror.spend_alone([window(key="b")])
    mirror.amend_alone([amended(given_back.standings[0], -1, given_back.at_us)])
    mirror.amend_alone([amended(booked.standings[0], 2, booked.at_us)])
    assert [outcome(mirror, window(key=key))[1] for key in "ab"] == [4, 1]
    debts = mirror.take_debts(100)
    assert [len(debts[window(key=key).key].times) for key in "ab"] == [1, 4]


# ── bans and seats ──────────────────────────────────────────────────────────────────────────────────────────────────


def ban(first: int = 0, strikes: int = 2, key: str = "k") -> Ban:
    return ban_of("strict", key, BanRule(strikes, 1_000, 60_000), "", first, 1)


def seat(most: int = 2, key: str = "k") -> Seats:
    return Seats("strict", key, most, uuid.uuid4().hex)


def past(mirror: Mirror, *barriers: Barrier, quota: Quota = TEN) -> tuple[bool, tuple[int, ...]]:
    spent = mirror.spend_alone([window(quota)], barriers)
    assert spent.alone
    return spent.admitted, spent.barred_ms


def test_a_ban_that_the_store_told_of_goes_on_for_as_long_as_it_said(pair: Pair) -> None:
    full = window(Quota(1, 10_000))
    for _ in range(3):
        pair.store.spend([full], [ban()])
    pair.clock.advance(20)
    banned = pair.store.spend([full], [ban()])
    assert banned.barred_ms == (40_000,)
    pair.mirror.saw(banned, [ban()])
    assert past(pair.mirror, ban()) == (False, (40_000,))
    pair.clock.advance(39.999)
    assert past(pair.mirror, ban()) == (False, (1,))
    pair.clock.advance(0.001)
    assert past(pair.mirror, ban()) == (True, (0,))


def test_a_ban_that_was_lifted_is_forgotten(pair: Pair) -> None:
    refused = Spent(False, (), 60_000, barred_ms=(60_000,))
    pair.mirror.saw(refused, [ban()])
    assert past(pair.mirror, ban()) == (False, (60_000,))
    pair.mirror.saw(pair.store.spend([window()], [ban()]), [ban()])
    assert past(pair.mirror, ban()) == (True, (0,))


def test_who_is_refused_too_often_alone_is_banned_and_the_store_is_told() -> None:
    clock = ManualClock()
    mirror = Mirror(clock, gateways=3)
    once = Quota(1, 10_000)
    assert [past(mirror, ban(), quota=once) for _ in range(4)] == [
        (True, (0,)), (False, (0,)), (False, (60_000,)), (False, (60_000,)),
    ]  # fmt: skip
    clock.advance(7)
    owed = mirror.take_debts(100)
    assert {one.key: one.ages_us for one in mirror.admitted(owed) if one.span_us == 60_000_000} == {
        ban().sentence.key: [7_000_000]
    }


@pytest.mark.parametrize(("gateways", "part"), [(1, 5), (2, 2), (3, 1), (9, 1)])
def test_each_gateway_has_its_part_of_the_seats(gateways: int, part: int) -> None:
    mirror = Mirror(ManualClock(), gateways=gateways)
    seats, wide = [seat(5) for _ in range(part)], Quota(1_000, 10_000)
    assert [past(mirror, each, quota=wide) for each in seats] == [(True, (0,))] * part
    assert past(mirror, seat(5), quota=wide) == (False, (1_000,))
    mirror.leave(seats[:1])
    assert past(mirror, seat(5), quota=wide) == (True, (0,))


def test_seats_that_the_store_gave_are_taken_while_it_is_away(pair: Pair) -> None:
    mine = seat(1)
    pair.mirror.saw(pair.store.spend([window()], [mine]), [mine])
    assert past(pair.mirror, seat(1)) == (False, (1_000,))
    assert pair.mirror.seats() == [("k", mine.holder)]
    refused = seat(1)
    pair.mirror.saw(pair.store.spend([window()], [refused]), [refused])
    pair.mirror.leave([mine])
    assert past(pair.mirror, seat(1)) == (True, (0,))


# ── with Redis ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Told:
    def __init__(self) -> None:
        self.future: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def answered(self, reply: object) -> None:
        if isinstance(reply, Exception):
            self.future.set_exception(reply)
        else:
            self.future.set_result(reply)

    def failed(self, outage: Outage) -> None:
        self.future.set_exception(outage.error())


class Gateway:
    """One process: asks Redis, or counts alone while `is_away`; when that ends, Redis is told."""

    def __init__(self, url: str, clock: ManualClock, gateways: int = 1) -> None:
        self.mirror = Mirror(clock, gateways=gateways)
        self.redis = RedisLimits(url, timeout_s=20, mirror=self.mirror, clock=clock)
        self._is_away = False

    async def spend(self, one: Window, is_away: bool) -> bool:
        if self._is_away and not is_away:
            await self.redis._presence.come(self.ask)
        self._is_away = is_away
        if is_away:
            return self.mirror.spend_alone([one]).admitted
        spent = await self.redis.spend([one])
        self.mirror.saw(spent)
        return spent.admitted

    def ask(self, command: bytes) -> asyncio.Future[object]:
        told = _Told()
        self.redis._link.send(command, told)
        return told.future


exact = st.builds(Quota, st.integers(1, 8), st.integers(2, 9))
paced = exact.flatmap(
    lambda quota: st.builds(Quota, *map(st.just, (quota.limit, quota.span_ms)), st.integers(1, quota.limit))
)
gaps_us = st.one_of(st.just(0), st.integers(0, 400), st.integers(0, 4_000))
steps = st.tuples(gaps_us, st.sampled_from("ab"), st.booleans())
traces = st.lists(st.lists(steps, max_size=8).map(lambda run: run), min_size=1, max_size=8)


class Town:
    def __init__(self, url: str) -> None:
        self.url = url
        self.runner = asyncio.Runner()

    def admitted(self, quota: Quota, trace: list[list[tuple[int, str, bool]]]) -> dict[str, list[int]]:
        return self.runner.run(self._admitted(quota, trace))

    async def _admitted(self, quota: Quota, trace: list[list[tuple[int, str, bool]]]) -> dict[str, list[int]]:
        """When each key was admitted, at which microsecond; every run of the trace is alternately with and without
        Redis."""
        clock, now_us, name = ManualClock(), 0, uuid.uuid4().hex
        begin_s = clock.monotonic_s()
        one = Gateway(self.url, clock)
        found: dict[str, list[int]] = defaultdict(list)
        for number, run in enumerate(trace):
            for gap_us, key, _ in run:
                now_us += gap_us
                clock.advance(begin_s + now_us / 1e6 - clock.monotonic_s())
                if await one.spend(window(quota, name + key), is_away=number % 2 == 1):
                    found[key].append(now_us)
        await one.redis.close()
        return found


@pytest.fixture(scope="module")
def town(valkey_url: str) -> Iterator[Town]:
    town = Town(valkey_url)
    yield town
    town.runner.close()


def test_a_key_that_stays_with_one_process_keeps_its_limit_through_outages_and_returns(town: Town) -> None:
    @settings(max_examples=300, deadline=None)
    @given(st.one_of(exact, paced), traces)
    def check(quota: Quota, trace: list[list[tuple[int, str, bool]]]) -> None:
        for times in town.admitted(quota, trace).values():
            for first, over in zip(times, times[quota.limit :], strict=False):
                assert over - first >= quota.span_ms * 1000

    check()


async def test_a_key_that_moves_is_admitted_less_than_twice_its_limit(valkey_url: str) -> None:
    clock, one = ManualClock(), window(key=uuid.uuid4().hex)
    gateways = [Gateway(valkey_url, clock, gateways=3) for _ in range(3)]
    for gateway in gateways:
        gateway.mirror.gateways = 3
    before = [await gateways[0].spend(one, is_away=False) for _ in range(11)]
    clock.advance(1)
    alone = [await gateways[n % 3].spend(one, is_away=True) for n in range(30)]
    after = [await gateways[n % 3].spend(one, is_away=False) for n in range(9)]
    assert sum(before) == 10
    assert sum(alone) == 6  # 10 // 3 by each of the two that had not seen it
    assert not any(after)
    clock.advance(9)
    assert [await gateways[0].spend(one, is_away=False) for _ in range(5)] == [True] * 4 + [False]
    for gateway in gateways:
        await gateway.redis.close()
