"""What operators ask of limits: which windows a client has, and the same windows as the gateway counts it in."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from pydantic import SecretStr

from scopegate.admin.app import create_admin
from scopegate.admin.limits import BadKey, ban, stands
from scopegate.admin.sources import Sources
from scopegate.clock import SystemClock
from scopegate.gateway.counting import counts_of
from scopegate.gateway.top import TopKeys
from scopegate.leads.job import Action
from scopegate.limits.barriers import Ban
from scopegate.limits.window import Window
from scopegate.policy.policy import Policy
from scopegate.stores.redis_desk import RedisDesk
from scopegate.stores.redis_limits import RedisLimits
from tests.admin.house import TOKEN
from tests.gateway.rig import policy_of

SECRET = b"this installation's own"
TIERS = {
    "banning": {"limit": ["5 per 60s", "50 per 1h"], "ban": "15m after 3 refusals in 1m"},
    "site": {"limit": "9 per 60s", "key": "global"},
    "wide": {"limit": "9 per 60s", "ipv6_prefix": 56},
    "tenant": {"limit": "9 per 60s", "key": ["header:X-Tenant", "route"], "when_missing": "client_ip"},
}


@pytest.fixture
def policy() -> Policy:
    return policy_of(
        ["http://127.0.0.1:1"], tiers=TIERS, routes=[{"name": "all", "match": "ANY /**", "tier": ["banning", "site"]}]
    )


class Asked:
    """A request as tiers count it."""

    class notes:  # noqa: N801 - stands for an attribute
        length = 0

    class caller:  # noqa: N801 - stands for an attribute
        address = group = "192.0.2.1"
        user = None


def keys(windows: Sequence[Window]) -> list[str]:
    return [window.key for window in windows]


def test_windows_and_bans_are_those_of_the_gateway(policy: Policy) -> None:
    count = counts_of(policy, SECRET)["all"]
    counted = count.windows(Asked())  # type: ignore[arg-type]
    assert isinstance(counted, tuple)
    by_address, [by_word] = stands(policy, "192.0.2.1", SECRET), stands(policy, "all", SECRET)
    assert keys(counted) == keys([*by_address[0].windows, *by_word.windows])
    [ban] = count.barriers(Asked(), counted)  # type: ignore[arg-type]
    assert by_address[0].ban is not None
    assert isinstance(ban, Ban)
    assert (by_address[0].ban.strikes.key, by_address[0].ban.sentence.key) == (ban.strikes.key, ban.sentence.key)


def test_an_address_is_its_network_as_each_tier_has_it(policy: Policy) -> None:
    one, other = stands(policy, "2001:db8::1", SECRET), stands(policy, "2001:db8:0:ff::1", SECRET)
    assert keys(one[0].windows) != keys(other[0].windows)
    assert keys(one[1].windows) == keys(other[1].windows)
    assert stands(policy, "2001:db8::/64", SECRET) == one


@pytest.mark.parametrize(
    ("key", "tiers"),
    [
        ("192.0.2.1", ["banning", "wide"]),
        ("all", ["site"]),
        ("header:X-Tenant:acme,route:all", ["tenant"]),
        ("192.0.2.1,route:all", ["tenant"]),  # who came without the field
    ],
)
def test_only_tiers_that_count_by_such_a_key_are_meant(policy: Policy, key: str, tiers: list[str]) -> None:
    assert [stand.tier.name for stand in stands(policy, key, SECRET)] == tiers


@pytest.mark.parametrize(
    "key", ["", "x" * 1001, "a\nb", "nobody", "ip:192.0.2.1", "192.0.2.1,nobody", "route:all", "user:a:b", "all,all"]
)
def test_what_is_no_key_is_named(policy: Policy, key: str) -> None:
    with pytest.raises(BadKey):
        stands(policy, key, SECRET)


# ── over the admin port ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def store(valkey_url: str) -> AsyncIterator[RedisLimits]:
    store = RedisLimits(valkey_url, timeout_s=10)
    yield store
    await store.close()


@pytest.fixture
async def port(valkey_url: str, policy: Policy) -> AsyncIterator[httpx.AsyncClient]:
    desk = RedisDesk(valkey_url)
    told = TopKeys()
    told.refused("api", "ip:192.0.2.1")
    unused = None
    sources = Sources(
        policy=lambda: policy,
        jobs=_Nothing(),  # type: ignore[arg-type]
        ledger=unused,  # type: ignore[arg-type]
        outbox=unused,  # type: ignore[arg-type]
        retention=unused,  # type: ignore[arg-type]
        clock=SystemClock(),
        limits=desk,
        limit_secret=SECRET,
        top=lambda: [told.told(0.0).encode()],
    )
    transport = httpx.ASGITransport(create_admin(sources, SecretStr(TOKEN)))
    headers = {"authorization": f"Bearer {TOKEN}", "host": "127.0.0.1"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
        yield client
    await desk.close()


class _Nothing:
    async def counts(self) -> None: ...

    async def record(self, action: Action) -> None: ...


async def test_show_reset_ban_and_unban(port: httpx.AsyncClient, policy: Policy, store: RedisLimits) -> None:
    key = {"key": "198.51.100.77"}
    [banning, _] = stands(policy, key["key"], SECRET)  # and `wide`, which bans nobody
    assert banning.ban is not None
    await port.post("/api/limits/reset", params=key)
    for _ in range(2):
        await store.spend(banning.windows, [banning.ban])
    rows = (await port.get("/api/limits", params=key)).json()["limits"]
    assert [(row.get("window"), row.get("counted")) for row in rows] == [
        *(("banning", 2), ("banning/2", 2), ("wide", 0), (None, None)),
    ]
    assert (await port.post("/api/limits/ban", params=key)).json() == {"banned": ["banning"]}
    assert not (await store.spend(banning.windows, [banning.ban])).admitted
    assert (await port.get("/api/limits", params=key)).json()["limits"][-1]["banned_ms"] > 800_000
    assert (await port.post("/api/limits/unban", params=key)).json() == {"unbanned": 1}
    assert (await store.spend(banning.windows, [banning.ban])).admitted
    assert (await port.post("/api/limits/reset", params=key)).json() == {"reset": 2}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/limits?key=nobody", 400),
        ("GET", "/api/limits", 400),
        ("POST", "/api/limits/burn?key=all", 404),
        ("GET", "/api/limits/ban?key=all", 405),
    ],
)
async def test_what_cannot_be_asked(port: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    assert (await port.request(method, path)).status_code == status


async def test_nobody_without_the_token_is_told(port: httpx.AsyncClient) -> None:
    for method, path in (("GET", "/api/limits?key=all"), ("POST", "/api/limits/ban?key=all")):
        assert (await port.request(method, path, headers={"authorization": "Bearer wrong"})).status_code == 401


async def test_the_most_refused_are_told_to_who_has_the_token(port: httpx.AsyncClient) -> None:
    row = {"tier": "api", "key": "192.0.2.1", "times": 1, "over": 0}
    assert (await port.get("/api/limits/top")).json() == {"refused": [row], "admitted": []}
    assert (await port.get("/api/limits/top", headers={"authorization": "Bearer x"})).status_code == 401


def test_a_key_as_top_shows_it_is_one_to_look_up() -> None:
    policy = policy_of(
        ["http://127.0.0.1:1"],
        tiers={"by": {"limit": "5 per 60s", "key": "header:X-Tenant"}},
        routes=[{"name": "all", "match": "ANY /**", "tier": "by"}],
    )
    digest = hashlib.blake2b(b"acme", digest_size=16, key=SECRET).hexdigest()
    [by_value], [by_hash] = (stands(policy, f"header:x-tenant:{value}", SECRET) for value in ("acme", f"#{digest}"))
    assert by_value == by_hash


async def test_a_trusted_proxy_is_never_banned(valkey_url: str) -> None:
    policy = policy_of(
        ["http://127.0.0.1:1"],
        tiers=TIERS,
        server={"trusted_proxies": ["10.0.0.0/24"]},
        routes=[{"name": "all", "match": "ANY /**", "tier": ["banning", "site"]}],
    )
    desk = RedisDesk(valkey_url)
    with pytest.raises(BadKey, match="is a trusted proxy"):
        await ban(desk, stands(policy, "10.0.0.7", SECRET))
    with pytest.raises(BadKey, match="is a trusted proxy"):
        await ban(desk, stands(policy, "10.0.0.7/32", SECRET))
    assert await ban(desk, stands(policy, "10.0.1.7", SECRET)) == ["banning"]
    await desk.close()
