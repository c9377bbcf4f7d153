"""Whom a process refuses and admits most: what it tells, how much it keeps, and through real requests."""

from __future__ import annotations

import sys

import pytest

from scopegate.admin.top import top
from scopegate.gateway.top import TURN_S, TopKeys
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rigs


def test_refusals_are_counted_each_and_admissions_by_a_sample() -> None:
    keys = TopKeys()
    for _ in range(7):
        keys.refused("api", "ip:192.0.2.1")
    for _ in range(20_000):
        if keys.is_sampled():
            keys.admitted("api", "ip:192.0.2.2")
    found = top([keys.told(0.0).encode()], 10)
    assert found["refused"] == [{"tier": "api", "key": "192.0.2.1", "times": 7, "over": 0}]
    [row] = found["admitted"]
    assert 17_000 < int(str(row["times"])) < 23_000


def test_what_is_told_is_of_the_last_minutes() -> None:
    keys = TopKeys()
    keys.refused("api", "ip:192.0.2.1")
    for turn, expected in ((0.0, 1), (1.0, 1), (1.5, 1), (2.0, 0)):
        assert len(top([keys.told(turn * TURN_S).encode()], 10)["refused"]) == expected, turn


def test_a_flood_of_long_keys_stays_within_a_mebibyte() -> None:
    keys = TopKeys()
    for turn in range(3):
        for n in range(turn * 5_000, (turn + 1) * 5_000):
            keys.refused("t" * 60, f"user:{n}:" + "x" * 8_000)
            keys.admitted("t" * 60, f"user:{n}:" + "x" * 8_000)
        text = keys.told(min(turn, 1) * TURN_S)
    assert sys.getsizeof(text) < 1 << 20
    assert len(top([text.encode()], 1_000_000)["refused"]) == 512


def test_long_keys_that_begin_alike_are_told_apart() -> None:
    keys = TopKeys()
    for end in "ab":
        keys.refused("api", "user:u:" + "x" * 300 + end)
    assert len(top([keys.told(0.0).encode()], 10)["refused"]) == 2


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"refused": 1, "admitted": []}', b'{"refused": [{"found": {"a b": 1}}]}']
)
def test_what_cannot_be_read_is_left_out(text: bytes) -> None:
    good = TopKeys()
    good.refused("api", "all")
    assert len(top([text, good.told(0.0).encode()], 10)["refused"]) == 1


def test_what_a_visitor_sent_is_shown_as_its_hash() -> None:
    keys = TopKeys()
    digest = "0123456789abcdef" * 2
    keys.refused("api", f"route:all\nheader:x-key:{digest}")
    [row] = top([keys.told(0.0).encode()], 10)["refused"]
    assert row["key"] == f"route:all,header:x-key:#{digest}"


@ON_ONE_LOOP
async def test_requests_are_told_by_tier_and_key(gates: Rigs) -> None:
    tiers = {"tight": {"limit": "2 per 1h"}, "wide": {"limit": "99 per 1h", "key": "global"}}
    routes = [{"name": "all", "match": "ANY /**", "tier": ["tight", "wide"]}]
    rig = await gates.start(tiers=tiers, routes=routes)
    client = await rig.connect()
    request = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    assert [(await client.ask(request)).status for _ in range(5)] == [200, 200, 429, 429, 429]
    found = top([rig.top.told(0.0).encode()], 10)
    assert found["refused"] == [{"tier": "tight", "key": "127.0.0.1", "times": 3, "over": 0}]
    assert {(row["tier"], row["key"]) for row in found["admitted"]} == {("tight", "127.0.0.1"), ("wide", "all")}


@ON_ONE_LOOP
async def test_who_is_only_watched_is_not_refused(gates: Rigs) -> None:
    tiers = {"tight": {"limit": "1 per 1h"}}
    rig = await gates.start(tiers=tiers, routes=[{"name": "all", "match": "ANY /**", "tier": "tight", "mode": "watch"}])
    client = await rig.connect()
    for _ in range(3):
        assert (await client.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")).status == 200
    assert top([rig.top.told(0.0).encode()], 10)["refused"] == []


@ON_ONE_LOOP
async def test_bans_and_seats_are_refusals(gates: Rigs) -> None:
    tiers = {"tight": {"limit": "1 per 1h", "ban": "15m after 1 refusals in 1m"}}
    rig = await gates.start(tiers=tiers, routes=[{"name": "all", "match": "ANY /**", "tier": "tight"}])
    client = await rig.connect()
    request = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    assert [(await client.ask(request)).status for _ in range(3)] == [200, 429, 429]
    [row] = top([rig.top.told(0.0).encode()], 10)["refused"]
    assert row["times"] == 2
