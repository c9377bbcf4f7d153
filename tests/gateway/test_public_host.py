"""Behind a balancer that writes a Host of its own: what its X-Forwarded-Host and -Port count for, and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.app import IgnoredFaults, Received
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs

pytestmark = ON_ONE_LOOP

TRUSTED = ["127.0.0.0/8"]
TOLD = ("X-Forwarded-Host: WWW.example.com", "X-Forwarded-Port: 443")


def get(*fields: str, host: str = "internal:8080") -> bytes:
    return "\r\n".join(["GET /x HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


async def behind(gates: Rigs, *uses: str, **server: Any) -> Rig:
    return await gates.start(server={"trusted_proxies": TRUSTED, "forwarded_host": list(uses), **server})


async def reached(rig: Rig, *fields: str) -> Received:
    assert (await (await rig.connect()).ask(get(*fields))).status == 200
    return rig.app.requests[-1]


async def test_the_app_is_told_the_host_that_the_proxy_tells(gates: Rigs) -> None:
    """Next.js compares the Origin of a server action with it."""
    request = await reached(await behind(gates, "app"), *TOLD, "Origin: https://www.example.com")
    assert request.get(b"host") == [b"internal:8080"]
    assert request.get(b"x-forwarded-host") == [b"www.example.com"]
    assert request.get(b"x-forwarded-port") == [b"443"]


async def test_a_port_may_be_told_alone_and_nothing_at_all(gates: Rigs) -> None:
    rig = await behind(gates, "app", "hosts", hosts=["internal:8080"])
    for fields, port in (((TOLD[1],), [b"443"]), ((), [])):
        request = await reached(rig, *fields)
        assert request.get(b"x-forwarded-host") == [b"internal:8080"]
        assert request.get(b"x-forwarded-port") == port


@pytest.mark.parametrize("uses", [[], ["hosts"]])
async def test_without_the_setting_the_app_is_told_of_host_alone(gates: Rigs, uses: list[str]) -> None:
    request = await reached(await behind(gates, *uses), *TOLD)
    assert request.get(b"x-forwarded-host") == [b"internal:8080"]
    assert request.get(b"x-forwarded-port") == []


@pytest.mark.parametrize("uses", [[], ["app"], ["hosts"], ["app", "hosts"]])
async def test_which_hosts_are_served(gates: Rigs, uses: list[str]) -> None:
    rig = await behind(gates, *uses, hosts=["www.example.com"])
    client = await rig.connect()
    counts = "hosts" in uses
    assert (await client.ask(get(*TOLD))).status == (200 if counts else 421)
    for fields, host, status in (
        (("X-Forwarded-Host: evil.example",), "www.example.com", 421 if counts else 200),
        (("X-Forwarded-Host: www.example.com", "X-Forwarded-Port: 8443"), "www.example.com", 421 if counts else 200),
        ((), "www.example.com", 200),
        ((), "internal:8080", 421),
    ):
        assert (await client.ask(get(*fields, host=host))).status == status, (fields, host)


@pytest.mark.parametrize("told", ["x-forwarded-for", "forwarded", "proxy-protocol"])
async def test_nobody_elses_word_counts(gates: Rigs, told: str) -> None:
    rig = await behind(
        gates, "app", "hosts", trusted_proxies=["10.0.0.0/8"], client_address=told, hosts=["internal:8080"]
    )
    request = await reached(rig, *TOLD)
    assert request.get(b"x-forwarded-host") == [b"internal:8080"]
    assert request.get(b"x-forwarded-port") == []
    client = await rig.connect()
    assert (await client.ask(get("X-Forwarded-Host: internal:8080", host="evil.example"))).status == 421
    assert (await client.ask(get("X-Forwarded-Host: a", "X-Forwarded-Host: b", "X-Forwarded-Port: x"))).status == 200


async def test_behind_the_proxy_protocol_the_proxy_is_who_introduced_the_visitor(gates: Rigs) -> None:
    rig = await behind(gates, "app", client_address="proxy-protocol")
    client = await rig.connect()
    await client.ask(b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n" + get(*TOLD))
    assert rig.app.requests[0].get(b"x-forwarded-host") == [b"www.example.com"]


@pytest.mark.parametrize(
    "fields",
    [
        ("X-Forwarded-Host: a.example", "X-Forwarded-Host: b.example"),
        ("X-Forwarded-Host: www.example.com", "X-Forwarded-Host: www.example.com"),
        ("X-Forwarded-Host: a.example, b.example",),
        ("X-Forwarded-Host: https://a.example",),
        ("X-Forwarded-Host:",),
        ("X-Forwarded-Port: 443", "X-Forwarded-Port: 443"),
        ("X-Forwarded-Port: 70000",),
    ],
)
@pytest.mark.parametrize("use", ["app", "hosts"])
async def test_a_trusted_proxy_tells_one_host_and_one_port_or_is_refused(
    gates: Rigs, fields: tuple[str, ...], use: str
) -> None:
    rig = await behind(gates, use)
    client = await rig.connect()
    reply = await client.ask(get(*fields))
    assert (reply.status, reply.code, reply.get(b"connection")) == (400, "bad_host", [b"close"])
    assert rig.app.requests == []


async def test_another_spelling_is_nobodys_word(gates: Rigs) -> None:
    request = await reached(await behind(gates, "app"), "X_Forwarded_Host: evil.example", "X.Forwarded.Port: 1")
    assert request.get(b"x-forwarded-host") == [b"internal:8080"]
    assert not {b"x_forwarded_host", b"x.forwarded.port"} & {name.lower() for name, _ in request.fields}


@pytest.mark.parametrize("uses", [["app"], ["hosts"]])
async def test_whose_pages_may_open_a_websocket(gates: Rigs, uses: list[str]) -> None:
    rig = await gates.start(
        server={"trusted_proxies": TRUSTED, "forwarded_host": uses},
        routes=[{"name": "all", "match": "ANY /**", "tier": "none", "websocket": {}}],
    )
    rig.app.faults = IgnoredFaults()  # it is shown a handshake, which it only answers
    handshake = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    refused = []
    for origin in ("https://www.example.com", "https://internal:8080"):
        reply = await (await rig.connect()).ask(get(*TOLD, *handshake, key, f"Origin: {origin}"))
        refused.append(reply.code == "origin_not_allowed" if reply.status == 403 else False)
    assert refused == ([False, True] if uses == ["hosts"] else [True, False])
